//! What an installation lays down, and by which rule each file is replaced or taken away again. A file is exchanged as a whole:
//! whoever reads it meanwhile, or runs it, has the one of before.

use std::{
    env, fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use crate::config;

/// Where the service is from, here and in a package.
pub(super) const PROGRAM: &str = "/usr/bin/worker-node";
/// The service, where an administrator's own units are.
pub(super) const UNIT: &str = "/etc/systemd/system/worker-node.service";
/// The same, where packages have theirs.
pub(super) const UNIT_OF_PACKAGE: &str = "/lib/systemd/system/worker-node.service";
/// What `systemctl enable` makes.
pub(super) const ENABLED: &str = "/etc/systemd/system/multi-user.target.wants/worker-node.service";
/// As which user it runs.
pub(super) const USER: &str = "/etc/systemd/system/worker-node.service.d/50-user.conf";
/// The machine's configuration.
pub(super) const CONFIGURATION: &str = "/etc/worker-node/config.toml";
/// What the unit has systemd make for the service.
pub(super) const STATE: &str = "/var/lib/worker-node";

const UNIT_TEXT: &str = include_str!("../../packaging/worker-node.service");
const USER_TEXT: &str = include_str!("../../packaging/user.conf");

/// The machine, or the image of one that lies in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Machine {
    /// `None`: this one.
    pub(super) root: Option<PathBuf>,
}

impl Machine {
    /// Where a path of that machine is seen from here.
    pub(super) fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        match &self.root {
            Some(root) => root.join(path.strip_prefix("/").unwrap_or(path)),
            None => path.to_owned(),
        }
    }

    /// A package has put the service there, and looks after it.
    pub(super) fn has_package(&self) -> bool {
        self.at(UNIT_OF_PACKAGE).exists()
    }

    /// Whether there is a systemd to be asked.
    pub(super) fn runs_systemd(&self) -> bool {
        self.root.is_none() && Path::new("/run/systemd/system").is_dir()
    }
}

/// What becomes of a file that is there and differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// It is replaced: nobody edits it.
    Replaced,
    /// It stays, and ours is laid beside it as `.new`, unless it is to be replaced by force: somebody edited it, or it is of
    /// another version.
    Kept,
    /// It stays: it is somebody's from the first moment on.
    Theirs,
}

/// A file as it is to be.
pub(super) struct Item {
    path: &'static str,
    content: Vec<u8>,
    mode: u32,
    rule: Rule,
}

/// What became of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Laid {
    /// It is written.
    Written,
    /// It was as it is to be.
    Unchanged,
    /// It is somebody's, and was left alone.
    Theirs,
    /// It differs and was kept; ours lies beside it.
    Beside(PathBuf),
}

/// Everything that is laid down; `user` for a service that is not root's.
pub(super) fn items(user: Option<&str>) -> io::Result<Vec<Item>> {
    let mut items = vec![
        Item {
            path: PROGRAM,
            content: fs::read(env::current_exe()?)?,
            mode: 0o755,
            rule: Rule::Replaced,
        },
        unit(),
    ];
    items.extend(user.map(|user| Item {
        path: USER,
        content: USER_TEXT.replace("@USER@", user).into_bytes(),
        mode: 0o644,
        rule: Rule::Replaced,
    }));
    items.push(Item {
        path: CONFIGURATION,
        content: config::commented().into_bytes(),
        mode: 0o644,
        rule: Rule::Theirs,
    });
    Ok(items)
}

/// The service.
pub(super) fn unit() -> Item {
    Item {
        path: UNIT,
        content: UNIT_TEXT.as_bytes().to_vec(),
        mode: 0o644,
        rule: Rule::Kept,
    }
}

impl Item {
    /// On that machine, seen from here.
    pub(super) fn at(&self, machine: &Machine) -> PathBuf {
        machine.at(self.path)
    }

    /// Whether it is there and differs.
    pub(super) fn differs(&self, machine: &Machine) -> io::Result<bool> {
        Ok(read(&self.at(machine))?.is_some_and(|found| found != self.content))
    }

    /// Lays it down, or with `Laying::Tried` only says what would become of it.
    pub(super) fn lay(&self, machine: &Machine, force: Force, laying: Laying) -> io::Result<Laid> {
        let path = self.at(machine);
        let laid = match (read(&path)?, self.rule, force) {
            (Some(found), _, _) if found == self.content => return Ok(Laid::Unchanged),
            (Some(_), Rule::Theirs, _) => return Ok(Laid::Theirs),
            (Some(_), Rule::Kept, Force::Keep) => Laid::Beside(beside(&path)),
            (_, _, _) => Laid::Written,
        };
        if laying == Laying::Done {
            let target = match &laid {
                Laid::Beside(beside) => beside,
                _ => &path,
            };
            write(target, &self.content, self.mode)?;
        }
        Ok(laid)
    }
}

/// Whether files that differ are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Force {
    /// They stay.
    Keep,
    /// They are.
    Replace,
}

/// Whether something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Laying {
    /// It does.
    Done,
    /// It is only said what would.
    Tried,
}

/// Where ours lies while the one that is there is kept.
pub(super) fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// Removes a file; whether it was there.
pub(super) fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(named(path, &error)),
    }
}

/// Removes a folder with all that is in it, where it is there.
pub(super) fn remove_tree(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(named(folder, &error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes the folder that a file was in, if that was all.
pub(super) fn leave_no_empty_folder_of(file: &Path) {
    if let Some(folder) = file.parent() {
        // What is not empty is somebody's, and stays.
        let _ = fs::remove_dir(folder);
    }
}

/// `None` where it is missing.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(named(path, &error)),
    }
}

fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".part");
    let draft = PathBuf::from(draft);
    let written = write_draft(&draft, content, mode).and_then(|()| fs::rename(&draft, path));
    written.map_err(|error| {
        // It is of no use to anybody, and may not be there.
        let _ = fs::remove_file(&draft);
        named(path, &error)
    })
}

fn write_draft(draft: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    if let Some(folder) = draft.parent() {
        make_folder(folder)?;
    }
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(draft)?;
    file.write_all(content)?;
    // Whatever the caller's umask says.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.sync_all()
}

/// Folders that everybody may enter, whatever the caller's umask says.
fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        make_folder(parent)?;
    }
    fs::DirBuilder::new().mode(0o755).create(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
