//! The engine's address, as people write it. The environment is not read here: `DOCKER_HOST` is the command line's business.

use std::{fmt, path::PathBuf, str::FromStr};

use thiserror::Error;

/// An address of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineAddress {
    /// A unix socket, as an absolute path.
    Unix(PathBuf),
    /// `host:port`, without TLS.
    Tcp(String),
}

/// Why a text is no address of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AddressError {
    /// The text has another scheme.
    #[error("must start with unix://, tcp:// or http://, or be an absolute path")]
    Scheme,
    /// The path is relative or not there.
    #[error("needs the absolute path of a socket")]
    Path,
    /// There is no host, or no port from 1 to 65535, or something after it.
    #[error("needs host:port and nothing else")]
    HostPort,
}

impl Default for EngineAddress {
    fn default() -> Self {
        Self::Unix(PathBuf::from("/var/run/docker.sock"))
    }
}

impl FromStr for EngineAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix://") {
            return socket(path);
        }
        let remote = text
            .strip_prefix("tcp://")
            .or_else(|| text.strip_prefix("http://"));
        match remote {
            Some(host_port) => tcp(host_port.strip_suffix('/').unwrap_or(host_port)),
            None if text.contains("://") => Err(AddressError::Scheme),
            None => socket(text),
        }
    }
}

fn socket(path: &str) -> Result<EngineAddress, AddressError> {
    if path.starts_with('/') && path.len() > 1 {
        Ok(EngineAddress::Unix(PathBuf::from(path)))
    } else {
        Err(AddressError::Path)
    }
}

fn tcp(host_port: &str) -> Result<EngineAddress, AddressError> {
    let (host, port) = host_port.rsplit_once(':').ok_or(AddressError::HostPort)?;
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let host_is_plain = !host.is_empty()
        && !host.contains(['/', '@', '?', '#', ' '])
        && (bracketed || !host.contains(':'));
    match port.parse::<u16>() {
        Ok(port) if port > 0 && host_is_plain => Ok(EngineAddress::Tcp(host_port.to_owned())),
        _ => Err(AddressError::HostPort),
    }
}

impl fmt::Display for EngineAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(host_port) => write!(f, "tcp://{host_port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_and_hosts_are_addresses() {
        for (text, shown) in [
            ("unix:///var/run/docker.sock", "unix:///var/run/docker.sock"),
            ("/run/docker.sock", "unix:///run/docker.sock"),
            ("tcp://engine:2375", "tcp://engine:2375"),
            ("http://127.0.0.1:2375/", "tcp://127.0.0.1:2375"),
            ("tcp://[::1]:2375", "tcp://[::1]:2375"),
        ] {
            let address: EngineAddress = text.parse().unwrap();

            assert_eq!(address.to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_address_says_what_is_missing() {
        for (text, error) in [
            ("", AddressError::Path),
            ("docker.sock", AddressError::Path),
            ("unix://", AddressError::Path),
            ("unix://relative", AddressError::Path),
            ("ssh://host", AddressError::Scheme),
            ("https://host:2376", AddressError::Scheme),
            ("tcp://host", AddressError::HostPort),
            ("tcp://:2375", AddressError::HostPort),
            ("tcp://host:0", AddressError::HostPort),
            ("tcp://host:99999", AddressError::HostPort),
            ("tcp://host:2375/path", AddressError::HostPort),
            ("tcp://user@host:2375", AddressError::HostPort),
            ("tcp://::1:2375", AddressError::HostPort),
        ] {
            assert_eq!(text.parse::<EngineAddress>(), Err(error), "{text:?}");
        }
    }
}
