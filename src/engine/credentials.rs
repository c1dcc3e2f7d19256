//! Credentials for a registry, from Docker's own configuration and its helpers, as `docker pull` finds them. They are read anew
//! for every pull, held no longer than it takes, and never logged: of a helper's failure neither its output nor its error is
//! repeated.

mod config;
mod helper;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use bollard::auth::DockerCredentials;
use log::{debug, warn};
use rustix::process::geteuid;
use tokio::process::Command;

use self::config::{Config, Found};
use super::accounts;
use crate::ports::engine::EngineError;

/// What Docker's configuration calls the registry that images without a registry come from.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// Where credentials are looked for.
#[derive(Default)]
pub(super) struct Credentials {
    /// The folder of `config.json`; `None` for `DOCKER_CONFIG`, else `.docker` in the user's home.
    folder: Option<PathBuf>,
    /// The last warning, which is not repeated.
    warned: Mutex<String>,
    /// One run at a time of each helper: one that is stuck does not become many.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Credentials {
    /// Credentials from that folder, or from where `docker pull` would look.
    pub(super) fn in_folder(folder: Option<PathBuf>) -> Self {
        Self {
            folder,
            ..Self::default()
        }
    }

    /// Looks for the credentials of a registry. Where there are none, or the configuration is no good, the pull goes on
    /// without any, as Docker's own client does: the registry decides.
    ///
    /// # Errors
    /// `Failed`: a helper gave no answer in time, and was ended.
    pub(super) async fn find(
        &self,
        registry: &str,
    ) -> Result<Option<DockerCredentials>, EngineError> {
        let server = match registry {
            "docker.io" => DOCKER_HUB,
            other => other,
        };
        let Some(config) = self.read().await else {
            return Ok(None);
        };
        let mut found = config.of(server).unwrap_or_else(|why| {
            self.warn(&format!("Docker's configuration is no good: {why}"));
            Found::default()
        });
        if let Some(helper) = config.helper(server) {
            match self.ask(helper, server).await? {
                Ok(helped) => found.take(helped),
                Err(why) => self.warn(&format!("the credential helper {helper} {why}")),
            }
        }
        Ok(found.for_engine(server))
    }

    /// The configuration; none where there is no file, and none with a warning where it cannot be read.
    async fn read(&self) -> Option<Config> {
        let file = self.folder().await?.join("config.json");
        let shown = file.display();
        let text = match tokio::fs::read(&file).await {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => {
                self.warn(&format!("{shown} cannot be read: {error}"));
                return None;
            }
        };
        match serde_json::from_slice(&text) {
            Ok(config) => Some(config),
            Err(error) => {
                // The place of the mistake, and nothing of what stands there.
                let (line, column) = (error.line(), error.column());
                self.warn(&format!(
                    "{shown} is damaged at line {line}, column {column}"
                ));
                None
            }
        }
    }

    async fn folder(&self) -> Option<PathBuf> {
        if self.folder.is_some() {
            return self.folder.clone();
        }
        let set = std::env::var_os("DOCKER_CONFIG").filter(|folder| !folder.is_empty());
        match set {
            Some(folder) => Some(folder.into()),
            None => Some(home().await?.join(".docker")),
        }
    }

    /// A helper's answer. The inner error is worth a warning, the outer one fails the pull.
    async fn ask(
        &self,
        helper: &str,
        server: &str,
    ) -> Result<Result<Option<Found>, String>, EngineError> {
        if helper.contains('/') {
            return Ok(Err("is no name of a helper".into()));
        }
        let mut command = Command::new(format!("docker-credential-{helper}"));
        command.arg("get");
        if std::env::var_os("HOME").is_none()
            && let Some(home) = home().await
        {
            command.env("HOME", home);
        }
        let turn = Arc::clone(self.turns().entry(helper.to_owned()).or_default());
        let asked = async {
            let _turn = turn.lock().await;
            helper::ask(command, server).await
        };
        tokio::time::timeout(helper::DEADLINE, asked)
            .await
            .map_err(|_| {
                let within = helper::DEADLINE;
                EngineError::Failed(format!(
                    "the credential helper docker-credential-{helper} gave no answer within {within:?}"
                ))
            })
    }

    fn turns(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<tokio::sync::Mutex<()>>>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn warn(&self, why: &str) {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if *warned == why {
            debug!(reason = why; "pulling without credentials, as before");
            return;
        }
        why.clone_into(&mut warned);
        warn!("images are pulled without credentials of a registry: {why}");
    }
}

/// The user's home, also for a service that was given none.
async fn home() -> Option<PathBuf> {
    match std::env::var_os("HOME").filter(|home| !home.is_empty()) {
        Some(home) => Some(home.into()),
        None => accounts::home_of(geteuid().as_raw()).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn found_in(config: &str, registry: &str) -> Option<DockerCredentials> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        let credentials = Credentials::in_folder(Some(folder.path().to_owned()));
        credentials.find(registry).await.unwrap()
    }

    #[tokio::test]
    async fn configured_credentials_are_found_for_their_registry_alone() {
        // user:pass
        let config = r#"{"auths": {"r:5000": {"auth": "dXNlcjpwYXNz"}}}"#;

        let own = found_in(config, "r:5000").await.unwrap();

        assert_eq!(own.username.as_deref(), Some("user"));
        assert_eq!(own.password.as_deref(), Some("pass"));
        assert_eq!(own.serveraddress.as_deref(), Some("r:5000"));
        assert_eq!(found_in(config, "other:5000").await, None);
    }

    #[tokio::test]
    async fn the_default_registry_has_its_old_name_in_the_configuration() {
        let config = r#"{"auths": {"https://index.docker.io/v1/": {"identitytoken": "t"}}}"#;

        let found = found_in(config, "docker.io").await.unwrap();

        assert_eq!(found.identitytoken.as_deref(), Some("t"));
    }

    #[tokio::test]
    async fn a_configuration_that_is_no_good_means_no_credentials_and_is_said_once() {
        for (config, word) in [
            ("", "damaged"),
            ("{", "damaged"),
            ("\u{feff}{}", "damaged"),
            (r#"{"auths": {},}"#, "damaged at line 1, column 14"),
            (r#"{"auths": {"r:5000": {"auth": "%%%"}}}"#, "no good"),
            (
                r#"{"credHelpers": {"r:5000": "of-which-there-is-none"}}"#,
                "cannot be run",
            ),
        ] {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("config.json"), config).unwrap();
            let credentials = Credentials::in_folder(Some(folder.path().to_owned()));

            for _ in 0..2 {
                assert_eq!(credentials.find("r:5000").await.unwrap(), None, "{config}");
            }

            let warned = credentials.warned.lock().unwrap();
            assert!(warned.contains(word), "{config}: {warned}");
        }
        assert_eq!(found_in("{}", "r:5000").await, None);
    }

    #[tokio::test]
    async fn without_a_file_there_is_nothing_to_warn_of() {
        let folder = tempfile::tempdir().unwrap();
        let credentials = Credentials::in_folder(Some(folder.path().to_owned()));

        assert_eq!(credentials.find("r:5000").await.unwrap(), None);
        assert_eq!(*credentials.warned.lock().unwrap(), "");
    }
}
