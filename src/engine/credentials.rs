//! Credentials for a registry, from Docker's own configuration and its helpers. They are read anew for every pull, held no
//! longer than it takes, and never logged: of a helper's failure neither its output nor its error is repeated.

use std::{
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
    time::Duration,
};

use bollard::auth::DockerCredentials;
use docker_credential::{
    CredentialRetrievalError, DockerCredential, get_credential, get_credential_from_reader,
};
use log::warn;

use crate::ports::engine::EngineError;

/// What Docker's configuration calls the registry that images without a registry come from.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// A helper that asks a keychain or a cloud answers within this, or not at all.
const HELPER_DEADLINE: Duration = Duration::from_secs(30);

/// Looks for the credentials of a registry. Where there are none, or the configuration is no good, the pull goes on without any,
/// as Docker's own client does: the registry decides.
///
/// # Errors
/// `Failed`: a helper hangs.
pub(super) async fn find(
    registry: &str,
    folder: Option<PathBuf>,
) -> Result<Option<DockerCredentials>, EngineError> {
    let server = match registry {
        "docker.io" => DOCKER_HUB.to_owned(),
        other => other.to_owned(),
    };
    // Reading files and waiting for helpers blocks.
    let lookup = tokio::task::spawn_blocking(move || look_up(&server, folder.as_deref()));
    match tokio::time::timeout(HELPER_DEADLINE, lookup).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(_)) => Err(failed("broke down")),
        Err(_) => Err(failed("got no answer from a credential helper")),
    }
}

fn failed(how: &str) -> EngineError {
    EngineError::Failed(format!("the search for the registry's credentials {how}"))
}

fn look_up(server: &str, folder: Option<&Path>) -> Option<DockerCredentials> {
    let found = match folder {
        Some(folder) => File::open(folder.join("config.json"))
            .map_err(|_| CredentialRetrievalError::ConfigReadError)
            .and_then(|file| get_credential_from_reader(BufReader::new(file), server)),
        None => get_credential(server),
    };
    match found {
        Ok(credential) => Some(for_engine(credential, server)),
        Err(error) => {
            if let Some(reason) = worth_a_warning(&error) {
                warn!(registry = server, reason; "pulling without credentials");
            }
            None
        }
    }
}

fn for_engine(credential: DockerCredential, server: &str) -> DockerCredentials {
    let serveraddress = Some(server.to_owned());
    match credential {
        DockerCredential::IdentityToken(token) => DockerCredentials {
            identitytoken: Some(token),
            serveraddress,
            ..DockerCredentials::default()
        },
        DockerCredential::UsernamePassword(username, password) => DockerCredentials {
            username: Some(username),
            password: Some(password),
            serveraddress,
            ..DockerCredentials::default()
        },
    }
}

/// Says what is wrong with a configuration that names credentials but does not give them.
fn worth_a_warning(error: &CredentialRetrievalError) -> Option<&'static str> {
    use CredentialRetrievalError as Error;
    match error {
        // No file is the usual case, and not told apart from one that cannot be read.
        Error::NoCredentialConfigured | Error::ConfigNotFound | Error::ConfigReadError => None,
        // The protocol's words of a helper that works and has none.
        Error::HelperFailure { stdout, .. } if stdout.contains("credentials not found") => None,
        Error::HelperFailure { .. } => Some("the credential helper failed"),
        Error::HelperCommunicationError => Some("the credential helper cannot be run"),
        Error::MalformedHelperResponse => Some("the credential helper's answer makes no sense"),
        Error::CredentialDecodingError => Some("the configured credentials make no sense"),
        Error::CredentialMismatchError => Some("the configured credentials contradict each other"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_with(config: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        folder
    }

    async fn found_in(config: &str, registry: &str) -> Option<DockerCredentials> {
        let folder = folder_with(config);
        find(registry, Some(folder.path().to_owned()))
            .await
            .unwrap()
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
    async fn a_configuration_that_is_no_good_means_no_credentials() {
        for config in [
            "",
            "{",
            "{}",
            r#"{"auths": {"r:5000": {"auth": "%%%"}}}"#,
            r#"{"credHelpers": {"r:5000": "of-which-there-is-none"}}"#,
        ] {
            assert_eq!(found_in(config, "r:5000").await, None, "{config}");
        }
    }
}
