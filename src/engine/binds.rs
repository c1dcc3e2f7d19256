//! Checks where the binds of a container really lead: on this machine, right before the engine is asked to make the container.
//!
//! A bind that a task asks for is resolved beneath its root without following a link. The engine takes a path and no open folder,
//! and resolves it once more at the container's start, as root and following links. So whoever can write within a root can put a
//! link there between this check and that start, as can a task with a writable bind of the same root. Only the operator can prevent
//! that, by allowing roots in which no task can rename what others ask for.

use std::{
    io,
    path::{Path, PathBuf},
};

use rustix::{
    fd::{AsRawFd as _, OwnedFd},
    fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2},
    io::Errno,
};

use super::EngineAddress;
use crate::{
    domain::{
        policy::BindRules,
        task_settings::{Source, is_at_or_above},
    },
    ports::engine::{ContainerPlan, EngineError},
};

/// Checks every bind of the plan; where one may not be, the container is not made.
pub(super) async fn check(plan: &ContainerPlan, engine: &EngineAddress) -> Result<(), EngineError> {
    let volumes = plan.given.settings.volumes.iter().flatten();
    let binds = volumes.filter_map(|volume| match &volume.source {
        Source::Bind(path) => Some(path.clone()),
        Source::Named(_) | Source::Memory(_) => None,
    });
    let binds: Vec<_> = binds.collect();
    if binds.is_empty() {
        return Ok(());
    }
    let socket = match engine {
        EngineAddress::Unix(socket) => Some(socket.clone()),
        EngineAddress::Tcp(_) => None,
    };
    let asked = plan.given.asked_binds.clone();
    // A plan has an output folder where the trial has shown that the engine sees it. An engine behind TCP may be on another
    // machine, and share that folder alone.
    let sees_the_same_files = socket.is_some() && plan.output_folder.is_some();
    let look = move || match asked {
        Some(_) if !sees_the_same_files => Err(format!(
            "the bind {} cannot be: this worker and its engine do not see the same files",
            binds[0]
        )),
        Some(rules) => check_asked(&binds, &rules, socket.as_deref()),
        None => check_given(&binds, socket.as_deref()),
    };
    let looked = tokio::task::spawn_blocking(look).await;
    let looked =
        looked.unwrap_or_else(|error| Err(format!("its binds were not looked at: {error}")));
    looked.map_err(EngineError::Invalid)
}

/// Checks the binds that the operator gives: the real place of none may be the engine's socket or a folder above it, as a link can
/// lead there. A bind that is missing here passes: the engine says so itself if it has no such file either.
fn check_given(binds: &[String], socket: Option<&Path>) -> Result<(), String> {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    let Some(socket) = socket.and_then(real) else {
        return Ok(());
    };
    let leads_to_it = |path: &&String| {
        let place = real(Path::new(path));
        place.is_some_and(|place| is_above(&place, &socket))
    };
    match binds.iter().find(leads_to_it) {
        Some(path) => Err(format!(
            "the volume {path} holds the engine's socket, by which a task would rule this machine"
        )),
        None => Ok(()),
    }
}

fn check_asked(binds: &[String], rules: &BindRules, socket: Option<&Path>) -> Result<(), String> {
    let never = rules.never.iter().map(Path::new).chain(socket);
    // A place that does not exist cannot be reached by a bind.
    let never: Vec<_> = never
        .filter_map(|path| std::fs::canonicalize(path).ok())
        .collect();
    for path in binds {
        let mut roots = rules.roots.iter();
        let root = roots.find(|root| is_at_or_above(root, path));
        let root = root.ok_or_else(|| {
            format!("the bind {path} is in none of allowed_roots in [policy] any more")
        })?;
        let real = real_path(root, path).map_err(|why| format!("the bind {path} {why}"))?;
        let touched = never
            .iter()
            .find(|never| is_above(never, &real) || is_above(&real, never));
        if let Some(touched) = touched {
            let touched = touched.display();
            return Err(format!(
                "the bind {path} leads to {}, which would show {touched} to the task",
                real.display()
            ));
        }
    }
    Ok(())
}

fn is_above(above: &Path, path: &Path) -> bool {
    is_at_or_above(&above.to_string_lossy(), &path.to_string_lossy())
}

/// The real path of a file or folder that is reached from its root without a link. The error is the end of a sentence.
fn real_path(root: &str, path: &str) -> Result<PathBuf, String> {
    let missing = |why: Errno| match why {
        Errno::NOENT => format!("is not there (seen from its root {root})"),
        Errno::LOOP | Errno::XDEV => {
            format!("leads over a link, which is not followed beneath {root}")
        }
        Errno::NOSYS => {
            "cannot be looked at: this kernel has no openat2 (Linux 5.6 and newer have it)".into()
        }
        other => format!("cannot be looked at: {}", io::Error::from(other)),
    };
    let opened = open(root, path).map_err(missing)?;
    let stat = fstat(&opened).map_err(missing)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile | FileType::Directory => {}
        _ => return Err("is neither a file nor a folder".into()),
    }
    // The path of the file that is open, even if it was renamed since.
    let link = format!("/proc/self/fd/{}", opened.as_raw_fd());
    std::fs::read_link(link).map_err(|error| format!("cannot be looked at: {error}"))
}

/// Opens a path beneath its root without following links. The root itself may be a link: the operator named it.
fn open(root: &str, path: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let folder = openat(CWD, root, flags, Mode::empty())?;
    let rest = path.strip_prefix(root.trim_end_matches('/'));
    match rest.unwrap_or_default().trim_start_matches('/') {
        "" => Ok(folder),
        rest => {
            let stay =
                ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            openat2(folder, rest, flags, Mode::empty(), stay)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, os::unix::net::UnixListener};

    use super::*;

    /// A root with a file, a folder, links, and an engine's socket beside it.
    struct Machine {
        folder: tempfile::TempDir,
    }

    impl Machine {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            for name in ["root/data/in", "root/own", "run", "other"] {
                fs::create_dir_all(folder.path().join(name)).unwrap();
            }
            let this = Self { folder };
            fs::write(this.at("root/file"), "").unwrap();
            fs::write(this.at("run/engine.sock"), "").unwrap();
            drop(UnixListener::bind(this.at("root/socket")).unwrap());
            symlink(this.at("other"), this.at("root/out")).unwrap();
            symlink(this.at("root/data"), this.at("root/link")).unwrap();
            symlink(this.at("root"), this.at("linked-root")).unwrap();
            symlink(this.at("run/engine.sock"), this.at("to-it")).unwrap();
            symlink(this.at("run"), this.at("above")).unwrap();
            this
        }

        fn at(&self, name: &str) -> String {
            self.folder.path().join(name).to_str().unwrap().to_owned()
        }

        fn asked(&self, root: &str, path: &str) -> Result<(), String> {
            let rules = BindRules {
                roots: vec![self.at(root)],
                never: vec![self.at("root/own")],
            };
            let socket = self.at("run/engine.sock");
            check_asked(&[self.at(path)], &rules, Some(Path::new(&socket)))
        }
    }

    #[test]
    fn what_lies_in_a_root_may_be_and_the_root_may_be_a_link() {
        let machine = Machine::new();
        for (root, path) in [
            ("root", "root/data"),
            ("root", "root/data/in"),
            ("root", "root/file"),
            ("linked-root", "linked-root/data"),
            ("root/data", "root/data"),
        ] {
            assert_eq!(machine.asked(root, path), Ok(()), "{path}");
        }
    }

    #[test]
    fn what_leads_out_of_it_or_to_what_is_nobodys_is_told() {
        let machine = Machine::new();
        for (root, path, word) in [
            ("root", "root/missing", "is not there"),
            ("root", "root/file/x", "cannot be looked at"),
            ("root", "root/out", "over a link"),
            ("root", "root/link", "over a link"),
            ("root", "root/link/in", "over a link"),
            ("root", "root/socket", "neither a file nor a folder"),
            ("root", "root/own", "would show"),
            ("root", "root", "would show"),
            ("linked-root", "linked-root/own", "would show"),
            ("run", "run", "would show"),
            ("root", "other", "is in none of allowed_roots"),
            ("missing", "missing/a", "is not there"),
        ] {
            let why = machine.asked(root, path).unwrap_err();
            assert!(why.contains(word), "{path}: {why}");
        }
    }

    #[test]
    fn a_link_of_the_operators_to_the_engines_socket_or_above_it_is_refused() {
        let machine = Machine::new();
        let socket = machine.at("run/engine.sock");
        let refused =
            |name: &str| check_given(&[machine.at(name)], Some(Path::new(&socket))).is_err();

        assert!(refused("to-it") && refused("above") && refused("run"));
        assert!(!refused("other") && !refused("missing"));
    }
}
