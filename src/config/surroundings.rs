//! The process's surroundings: foreign environment variables and the user that it runs as. Read once, at the edge, so that
//! everything behind it is a function of values.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

/// The machine's configuration file.
const SYSTEM_CONFIG: &str = "/etc/worker-node/config.toml";

/// The state folder of a worker that runs as root.
const SYSTEM_STATE: &str = "/var/lib/worker-node";

/// The surroundings of a process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Surroundings {
    /// `DOCKER_HOST`: the engine that the user's other tools talk to.
    pub docker_host: Option<String>,
    /// `DOCKER_TLS_VERIFY`: the user's other tools talk to the engine by TLS.
    pub docker_tls: bool,
    /// `DOCKER_CONTEXT`: the user's other tools find the engine by a name of theirs.
    pub docker_context: Option<String>,
    /// `STATE_DIRECTORY`: made for us by the service manager.
    pub state_directory: Option<OsString>,
    /// `XDG_STATE_HOME`: the folder for the user's state.
    pub xdg_state_home: Option<OsString>,
    /// `HOME`: the user's home folder.
    pub home: Option<OsString>,
    /// Whether it runs as root.
    pub root: bool,
    /// The configuration file that is read where none is named, if it is there.
    pub config_file: Option<PathBuf>,
}

impl Surroundings {
    /// The surroundings of this very process.
    #[must_use]
    pub fn of_this_process() -> Self {
        Self {
            // A text that is no UTF-8 is no address either, and the reader says so.
            docker_host: env::var_os("DOCKER_HOST").map(|host| host.to_string_lossy().into_owned()),
            docker_tls: env::var_os("DOCKER_TLS_VERIFY").is_some_and(|value| !value.is_empty()),
            docker_context: env::var_os("DOCKER_CONTEXT")
                .map(|context| context.to_string_lossy().into_owned()),
            state_directory: env::var_os("STATE_DIRECTORY"),
            xdg_state_home: env::var_os("XDG_STATE_HOME"),
            home: env::var_os("HOME"),
            root: rustix::process::geteuid().is_root(),
            config_file: Some(SYSTEM_CONFIG.into()),
        }
    }

    /// The engine's address, if one is set; an empty one counts as none, as for the engine's own tools.
    pub(super) fn docker_host(&self) -> Option<&str> {
        self.docker_host.as_deref().filter(|host| !host.is_empty())
    }

    /// The context that names the engine, where it is not the one that stands for none.
    pub(super) fn docker_context(&self) -> Option<&str> {
        let context = self.docker_context.as_deref();
        context.filter(|context| !matches!(*context, "" | "default"))
    }

    /// The state folder if nobody names one.
    pub(super) fn state_folder(&self) -> Option<PathBuf> {
        // The service manager separates several folders by colons; the first is ours.
        let given = self.state_directory.as_ref().and_then(|folders| {
            let first = folders.to_str()?.split(':').next()?;
            absolute(first.as_ref())
        });
        given
            .or_else(|| self.root.then(|| PathBuf::from(SYSTEM_STATE)))
            .or_else(|| {
                let folder = absolute(self.xdg_state_home.as_ref()?.as_ref())?;
                Some(folder.join("worker-node"))
            })
            .or_else(|| {
                let home = absolute(self.home.as_ref()?.as_ref())?;
                Some(home.join(".local/state/worker-node"))
            })
    }
}

/// The path, if it is absolute: by the XDG specification, relative paths in these variables are to be ignored.
fn absolute(path: &Path) -> Option<PathBuf> {
    path.is_absolute().then(|| path.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(surroundings: &Surroundings) -> Option<String> {
        let folder = surroundings.state_folder()?;
        Some(folder.to_str().unwrap().to_owned())
    }

    #[test]
    fn the_state_belongs_where_the_system_keeps_state() {
        let user = Surroundings {
            xdg_state_home: Some("/home/u/state".into()),
            home: Some("/home/u".into()),
            ..Surroundings::default()
        };
        let without_xdg = Surroundings {
            xdg_state_home: Some("state".into()),
            ..user.clone()
        };
        let root = Surroundings {
            root: true,
            ..user.clone()
        };
        let service = Surroundings {
            state_directory: Some("/srv/a:/srv/b".into()),
            ..root.clone()
        };

        assert_eq!(folder(&user).unwrap(), "/home/u/state/worker-node");
        assert_eq!(
            folder(&without_xdg).unwrap(),
            "/home/u/.local/state/worker-node"
        );
        assert_eq!(folder(&root).unwrap(), "/var/lib/worker-node");
        assert_eq!(folder(&service).unwrap(), "/srv/a");
        assert_eq!(folder(&Surroundings::default()), None);
    }

    #[test]
    fn an_empty_docker_host_is_none() {
        let empty = Surroundings {
            docker_host: Some(String::new()),
            ..Surroundings::default()
        };

        assert_eq!(empty.docker_host(), None);
    }
}
