//! Docker's `config.json`, as far as it is about registries, read as Docker's own client reads it.

use std::collections::HashMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bollard::auth::DockerCredentials;
use serde::Deserialize;

/// Docker's `config.json`.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Config {
    auths: HashMap<String, Auth>,
    creds_store: String,
    cred_helpers: HashMap<String, String>,
}

/// One registry's entry.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

/// The credentials that were found for a registry; an empty text is none.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) username: String,
    pub(super) password: String,
    pub(super) identity: String,
    pub(super) registry: String,
}

impl Config {
    /// The helper to be asked about a registry.
    pub(super) fn helper(&self, server: &str) -> Option<&str> {
        let helper = self.cred_helpers.get(server).unwrap_or(&self.creds_store);
        (!helper.is_empty()).then_some(helper)
    }

    /// What the file itself says: under the registry's own name, or under one that means the same host.
    pub(super) fn of(&self, server: &str) -> Result<Found, &'static str> {
        let same_host = || {
            let mut names: Vec<_> = self
                .auths
                .keys()
                .filter(|key| host(key) == server)
                .collect();
            names.sort_unstable();
            names.first().and_then(|name| self.auths.get(*name))
        };
        match self.auths.get(server).or_else(same_host) {
            Some(auth) => auth.read(),
            None => Ok(Found::default()),
        }
    }
}

impl Auth {
    fn read(&self) -> Result<Found, &'static str> {
        let mut found = Found {
            username: self.username.clone(),
            password: self.password.clone(),
            identity: self.identitytoken.clone(),
            registry: self.registrytoken.clone(),
        };
        // Where there is an `auth`, the fields of name and password are leftovers.
        if !self.auth.is_empty() {
            (found.username, found.password) = decode(&self.auth)?;
        }
        Ok(found)
    }
}

impl Found {
    /// Replaces what the file says by a helper's answer. `None`, from a helper that does not know the registry, leaves it.
    pub(super) fn take(&mut self, helped: Option<Self>) {
        if let Some(helped) = helped {
            *self = helped;
        }
    }

    /// The form that the engine takes; `None` where nothing was found.
    pub(super) fn for_engine(self, server: &str) -> Option<DockerCredentials> {
        if self == Self::default() {
            return None;
        }
        let given = |text: String| (!text.is_empty()).then_some(text);
        Some(DockerCredentials {
            username: given(self.username),
            password: given(self.password),
            identitytoken: given(self.identity),
            registrytoken: given(self.registry),
            serveraddress: Some(server.to_owned()),
            ..DockerCredentials::default()
        })
    }
}

/// `https://host:5000/v1/` and `host:5000/v1/` are entries of `host:5000`.
fn host(key: &str) -> &str {
    let key = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    key.split_once('/').map_or(key, |(host, _)| host)
}

fn decode(auth: &str) -> Result<(String, String), &'static str> {
    let bytes = STANDARD
        .decode(auth)
        .map_err(|_| "the field auth is no base64")?;
    let text = String::from_utf8(bytes).map_err(|_| "the field auth holds no text")?;
    let (user, password) = text
        .split_once(':')
        .ok_or("the field auth holds no name and password")?;
    Ok((user.to_owned(), password.trim_matches('\0').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(config: &str, server: &str) -> Result<Found, &'static str> {
        serde_json::from_str::<Config>(config).unwrap().of(server)
    }

    fn user(username: &str, password: &str) -> Found {
        Found {
            username: username.into(),
            password: password.into(),
            ..Found::default()
        }
    }

    #[test]
    fn the_forms_that_docker_pull_takes_are_taken() {
        // user:pass, as `auth`.
        const AUTH: &str = "dXNlcjpwYXNz";
        for entry in [
            format!(r#""r:5000": {{"auth": "{AUTH}"}}"#),
            format!(r#""r:5000/v1/": {{"auth": "{AUTH}"}}"#),
            format!(r#""https://r:5000": {{"auth": "{AUTH}"}}"#),
            format!(r#""http://r:5000/v2/": {{"auth": "{AUTH}"}}"#),
            format!(r#""r:5000": {{"auth": "{AUTH}", "identitytoken": ""}}"#),
            format!(r#""r:5000": {{"auth": "{AUTH}", "username": "old", "password": "stale"}}"#),
            format!(r#""r:5000": {{"auth": "{AUTH}", "email": "u@x"}}"#),
            r#""r:5000": {"username": "user", "password": "pass"}"#.to_owned(),
            r#""r:5000": {"auth": "", "username": "user", "password": "pass"}"#.to_owned(),
        ] {
            let config = format!(r#"{{"auths": {{{entry}}}, "HttpHeaders": {{"a": "b"}}}}"#);
            assert_eq!(of(&config, "r:5000"), Ok(user("user", "pass")), "{config}");
            assert_eq!(of(&config, "r:5001"), Ok(Found::default()), "{config}");
        }
        // A password with colons, and one that Docker once ended by a zero: u:a:b, u:p\0.
        for (auth, password) in [("dTphOmI=", "a:b"), ("dTpwAA==", "p")] {
            let config = format!(r#"{{"auths": {{"r": {{"auth": "{auth}"}}}}}}"#);
            assert_eq!(of(&config, "r"), Ok(user("u", password)));
        }
    }

    #[test]
    fn an_entry_without_anything_leaves_the_word_to_the_helper() {
        let config =
            r#"{"auths": {"r": {"auth": ""}}, "credsStore": "x", "credHelpers": {"q": "y"}}"#;
        let config: Config = serde_json::from_str(config).unwrap();

        assert_eq!(config.of("r"), Ok(Found::default()));
        assert_eq!(
            (config.helper("r"), config.helper("q")),
            (Some("x"), Some("y"))
        );
        assert_eq!(Config::default().helper("r"), None);
        assert_eq!(Found::default().for_engine("r"), None);
    }
}
