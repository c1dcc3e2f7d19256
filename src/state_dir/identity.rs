//! Whose a state folder is: the worker and the engine that its tasks belong to, and the secret that marks containers as made by
//! this worker. A small file of its own, so that a damaged or lost journal takes none of it along.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::domain::id::ResultId;

/// The file's name in the state folder.
const FILE: &str = "identity";
/// The name that a new version is written under before it replaces the file.
const NEXT: &str = "identity.new";
/// The name that a damaged file gets, so that a person can look at it.
const DAMAGED: &str = "identity.damaged";
/// Most bytes that are read of the file: the longest that is written, with the most tasks a worker can have (10,000) all lost, is
/// 400 KB.
const LONGEST: u64 = 1 << 20;

/// A key of 256 bits that never leaves the state folder.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub [u8; 32]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Whose a state folder is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The worker's id.
    pub worker: String,
    /// The engine where the worker's containers are; `None` before the first contact with one.
    pub engine: Option<String>,
    /// A key that only this folder has.
    pub secret: Secret,
    /// When the secret was made, in whole seconds since the Unix epoch.
    pub since: u64,
    /// The result ids of tasks that had begun on the previous engine when the operator gave that engine up: they are reported as
    /// lost.
    pub lost: Vec<ResultId>,
}

/// The file's content, as JSON.
#[derive(Serialize, Deserialize)]
struct Written {
    worker: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    engine: Option<String>,
    secret: String,
    since: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    lost: Vec<String>,
}

impl Identity {
    /// A new identity with a new secret, for a worker that has not met an engine yet.
    ///
    /// # Errors
    /// The kernel has no random bytes.
    pub fn new(worker: &str, now: SystemTime) -> io::Result<Self> {
        let mut secret = [0; 32];
        File::open("/dev/urandom")?.read_exact(&mut secret)?;
        Ok(Self {
            worker: worker.to_owned(),
            engine: None,
            secret: Secret(secret),
            since: now
                .duration_since(UNIX_EPOCH)
                .map_or(0, |age| age.as_secs()),
            lost: Vec::new(),
        })
    }

    /// Reads the identity of a state folder; `None` where there is no file, or one that cannot be understood.
    ///
    /// # Errors
    /// The file cannot be read, or is a link: links are not followed.
    pub fn read(folder: &Path) -> io::Result<Option<Self>> {
        let file = match open(&folder.join(FILE), OpenOptions::new().read(true)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let mut bytes = Vec::new();
        file.take(LONGEST).read_to_end(&mut bytes)?;
        let written = serde_json::from_slice::<Written>(&bytes).ok();
        Ok(written.and_then(Written::read))
    }

    /// Replaces the file as a whole, durably. A damaged file in its place is kept under another name.
    ///
    /// # Errors
    /// The disk's; the file is never left half written.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        let (path, next) = (folder.join(FILE), folder.join(NEXT));
        if path.exists() && Self::read(folder)?.is_none() {
            fs::rename(&path, folder.join(DAMAGED))?;
        }
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = open(&next, &mut options)?;
        serde_json::to_writer(&mut file, &Written::of(self))?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(next, path)?;
        File::open(folder)?.sync_all()
    }
}

/// Follows no link, and does not block on a named pipe.
fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    options.custom_flags(flags.bits().cast_signed()).open(path)
}

impl Written {
    fn of(identity: &Identity) -> Self {
        let secret = identity.secret.0.iter();
        Self {
            worker: identity.worker.clone(),
            engine: identity.engine.clone(),
            secret: secret.map(|byte| format!("{byte:02x}")).collect(),
            since: identity.since,
            lost: identity.lost.iter().map(|id| id.0.clone()).collect(),
        }
    }

    fn read(self) -> Option<Identity> {
        let mut secret = [0; 32];
        for (place, byte) in secret.iter_mut().enumerate() {
            *byte = u8::from_str_radix(self.secret.get(2 * place..2 * place + 2)?, 16).ok()?;
        }
        let is_whole = self.secret.len() == 64 && !self.worker.is_empty();
        is_whole.then_some(Identity {
            worker: self.worker,
            engine: self.engine,
            secret: Secret(secret),
            since: self.since,
            lost: self.lost.into_iter().map(ResultId).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn an_identity_is_kept_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Identity::read(folder.path()).unwrap(), None);
        let mut identity = Identity::new("w", UNIX_EPOCH).unwrap();
        let other = Identity::new("w", UNIX_EPOCH).unwrap();
        assert_ne!(identity.secret, other.secret);

        for engine in [None, Some("ABCD at /var/lib/docker".to_owned())] {
            let lost = engine.iter().map(|_| ResultId("r-1".into()));
            identity.lost = lost.collect();
            identity.engine = engine;
            identity.write(folder.path()).unwrap();
            assert_eq!(
                Identity::read(folder.path()).unwrap().as_ref(),
                Some(&identity)
            );
        }

        let mode = fs::metadata(folder.path().join(FILE))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!format!("{identity:?}").contains(&Written::of(&identity).secret));
    }

    #[test]
    fn a_damaged_identity_is_none_and_is_put_aside_by_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let identity = Identity::new("w", UNIX_EPOCH).unwrap();

        for damage in ["", "{}", "{\"worker\":\"w\",\"secret\":\"éé\",\"since\":1}"] {
            fs::write(folder.path().join(FILE), damage).unwrap();
            assert_eq!(Identity::read(folder.path()).unwrap(), None, "{damage}");
            identity.write(folder.path()).unwrap();
            assert!(Identity::read(folder.path()).unwrap().is_some());
            assert_eq!(
                fs::read_to_string(folder.path().join(DAMAGED)).unwrap(),
                damage
            );
        }
    }

    #[test]
    fn a_link_in_its_place_is_neither_read_nor_written() {
        let folder = tempfile::tempdir().unwrap();
        let victim = folder.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        symlink(&victim, folder.path().join(FILE)).unwrap();

        assert!(Identity::read(folder.path()).is_err());
        let identity = Identity::new("w", UNIX_EPOCH).unwrap();
        assert!(identity.write(folder.path()).is_err());
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    }
}
