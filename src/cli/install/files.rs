//! The files of an installation, and the rule by which each is replaced or removed. A file is replaced as a whole: a program that
//! reads or runs it meanwhile has the old one.

use std::{
    env, fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use crate::config;

/// The program, at the same path as in the package.
pub(super) const PROGRAM: &str = "/usr/bin/worker-node";
/// The unit, in the folder for an administrator's own.
pub(super) const UNIT: &str = "/etc/systemd/system/worker-node.service";
/// The unit, in the folder for those of packages.
pub(super) const UNIT_OF_PACKAGE: &str = "/lib/systemd/system/worker-node.service";
/// The link that `systemctl enable` makes.
pub(super) const ENABLED: &str = "/etc/systemd/system/multi-user.target.wants/worker-node.service";
/// The addition to the unit that names its user.
pub(super) const USER: &str = "/etc/systemd/system/worker-node.service.d/50-user.conf";
/// The machine's configuration.
pub(super) const CONFIGURATION: &str = "/etc/worker-node/config.toml";
/// The state folder, which systemd makes for the service.
pub(super) const STATE: &str = "/var/lib/worker-node";

const UNIT_TEXT: &str = include_str!("../../packaging/worker-node.service");
const USER_TEXT: &str = include_str!("../../packaging/user.conf");

/// The machine to install on, or the image of one in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Machine {
    /// The folder of the image; `None`: this machine.
    pub(super) root: Option<PathBuf>,
}

impl Machine {
    /// A path of that machine, as this process has to open it.
    pub(super) fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        match &self.root {
            Some(root) => root.join(path.strip_prefix("/").unwrap_or(path)),
            None => path.to_owned(),
        }
    }

    /// Whether a package has put the service there, and looks after it.
    pub(super) fn has_package(&self) -> bool {
        self.at(UNIT_OF_PACKAGE).exists()
    }

    /// Whether there is a systemd to be asked: never for an image.
    pub(super) fn runs_systemd(&self) -> bool {
        self.root.is_none() && Path::new("/run/systemd/system").is_dir()
    }
}

/// What becomes of a file that is there with other content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// It is replaced: nobody edits this file.
    Replaced,
    /// It stays, since somebody edited it or it is of another version, and ours is laid beside it as `.new`; with `--force` it is
    /// replaced.
    Kept,
    /// It stays, always: it is the administrator's once it is written.
    Theirs,
}

/// A file to lay down: path, content, mode, and the rule for one that is there.
pub(super) struct Item {
    path: &'static str,
    content: Vec<u8>,
    mode: u32,
    rule: Rule,
}

/// What became of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Laid {
    /// Ours is written.
    Written,
    /// Its content was ours already.
    Unchanged,
    /// It is the administrator's, and was left alone.
    Theirs,
    /// It differs and was kept; ours lies at this path.
    Beside(PathBuf),
}

/// The files to lay down; with `user`, the service runs as that user.
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

/// The unit of the service.
pub(super) fn unit() -> Item {
    Item {
        path: UNIT,
        content: UNIT_TEXT.as_bytes().to_vec(),
        mode: 0o644,
        rule: Rule::Kept,
    }
}

impl Item {
    /// The file's path on that machine, as this process has to open it.
    pub(super) fn at(&self, machine: &Machine) -> PathBuf {
        machine.at(self.path)
    }

    /// Whether the file is there with other content.
    pub(super) fn differs(&self, machine: &Machine) -> io::Result<bool> {
        Ok(read(&self.at(machine))?.is_some_and(|found| found != self.content))
    }

    /// Lays the file down, or with `Laying::Tried` only says what would become of it.
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

/// Whether an edited file is replaced (`--force`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Force {
    /// It stays.
    Keep,
    /// It is replaced.
    Replace,
}

/// Whether files are written (`--dry-run`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Laying {
    /// They are.
    Done,
    /// It is only said which would be.
    Tried,
}

/// The path for ours while the file that is there is kept.
pub(super) fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// Removes a file; says whether it was there.
pub(super) fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(named(path, &error)),
    }
}

/// Removes a folder with all that is in it, if it is there.
pub(super) fn remove_tree(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(named(folder, &error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes the folder that a file was in, if it is empty now.
pub(super) fn leave_no_empty_folder_of(file: &Path) {
    if let Some(folder) = file.parent() {
        // A folder that is not empty has somebody's files, and stays.
        let _ = fs::remove_dir(folder);
    }
}

/// The content of a file; `None` where it is missing.
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
        // The draft is of no use to anybody, and may not be there.
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
    // The mode is set again because the umask may have reduced it.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.sync_all()
}

/// Makes a folder, and those above it, which everybody may enter whatever the umask.
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
