//! `host:port` as people write it: on the command line, and in what a master says of itself. Nothing is resolved here.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

use thiserror::Error;

use super::text::escape;

/// The longest name that the domain name system knows, in bytes.
const HOST_LIMIT: usize = 253;

/// How much of somebody's text an error repeats, in bytes.
const SHOWN: usize = 100;

/// A host and a port, both there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// A name or an address; IPv6 without its brackets.
    pub host: String,
    /// 1 to 65535.
    pub port: u16,
}

/// Why a text is no address, as the end of a sentence that starts with the text.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AddressError {
    /// The text is empty.
    #[error("is empty")]
    Empty,
    /// A name or a password before the host. Neither is repeated.
    #[error("holds a user's name or password before its '@'; leave them away")]
    Login,
    /// A scheme, such as `http://`.
    #[error("has a scheme before the host; leave '{0}://' away")]
    Scheme(String),
    /// A host without a port.
    #[error("has no port; add one, such as '{0}:50051'")]
    NoPort(String),
    /// The port is no number from 1 to 65535.
    #[error("has the port '{0}', which is no number from 1 to 65535")]
    Port(String),
    /// The host is neither a host name nor an IP address.
    #[error("names '{0}', which is neither a host name nor an IP address")]
    Host(String),
    /// Brackets are missing, so that nobody can tell where the port begins.
    #[error("is an IPv6 address without brackets; write '{0}', with its port after the bracket")]
    Brackets(String),
}

impl FromStr for HostPort {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (host, port) = split(text)?;
        let port = port.ok_or_else(|| AddressError::NoPort(show(text)))?;
        Ok(Self {
            host: check_host(host)?,
            port: check_port(port)?,
        })
    }
}

impl fmt::Display for HostPort {
    /// `host:port`, with brackets around IPv6.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Reads a host with or without a port. IPv6 needs its brackets only where a port follows.
///
/// # Errors
/// The text is neither a host nor a host with a port.
pub fn parse_host(text: &str) -> Result<(String, Option<u16>), AddressError> {
    if text.parse::<IpAddr>().is_ok() {
        return Ok((text.to_owned(), None));
    }
    let (host, port) = split(text)?;
    Ok((check_host(host)?, port.map(check_port).transpose()?))
}

/// Whether a host is this very machine in anybody's eyes: a worker that calls itself so cannot be reached from elsewhere.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => {
            let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
    }
}

/// Host as written (brackets taken off) and port as written.
fn split(text: &str) -> Result<(&str, Option<&str>), AddressError> {
    if text.is_empty() {
        return Err(AddressError::Empty);
    }
    if text.contains('@') {
        return Err(AddressError::Login);
    }
    if let Some((scheme, _)) = text.split_once("://") {
        return Err(AddressError::Scheme(show(scheme)));
    }
    if let Some(rest) = text.strip_prefix('[') {
        return split_brackets(rest).ok_or_else(|| AddressError::Host(show(text)));
    }
    match text.split_once(':') {
        None => Ok((text, None)),
        Some((_, port)) if port.contains(':') => Err(AddressError::Brackets(with_brackets(text))),
        Some((host, port)) => Ok((host, Some(port))),
    }
}

/// The address with the brackets that were left out: where the rest is IPv6, the last part is taken for the port.
fn with_brackets(text: &str) -> String {
    let is_ip = |host: &str| host.parse::<std::net::Ipv6Addr>().is_ok();
    match text.rsplit_once(':') {
        Some((host, port)) if !is_ip(text) && is_ip(host) && port.parse::<u16>().is_ok() => {
            format!("[{host}]:{port}")
        }
        _ => format!("[{}]:50051", show(text)),
    }
}

/// Reads what follows an opening bracket: IPv6, the closing bracket, and perhaps a port.
fn split_brackets(rest: &str) -> Option<(&str, Option<&str>)> {
    let (host, port) = rest.split_once(']')?;
    host.parse::<Ipv6Addr>().ok()?;
    if port.is_empty() {
        return Some((host, None));
    }
    Some((host, Some(port.strip_prefix(':')?)))
}

fn check_port(port: &str) -> Result<u16, AddressError> {
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    match port.parse() {
        Ok(port) if digits && port > 0 => Ok(port),
        _ => Err(AddressError::Port(show(port))),
    }
}

fn check_host(host: &str) -> Result<String, AddressError> {
    let name = host.strip_suffix('.').unwrap_or(host);
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    // A last label of digits alone is a mistyped IPv4 address: no top level domain is a number.
    let numeric = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    let is_name = name.len() <= HOST_LIMIT
        && name.split('.').all(label)
        && !name.rsplit('.').next().is_some_and(numeric);
    if is_name || host.parse::<IpAddr>().is_ok() {
        Ok(host.to_owned())
    } else {
        Err(AddressError::Host(show(host)))
    }
}

fn show(text: &str) -> String {
    escape(text, SHOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_written_alike() {
        for text in [
            "localhost:50051",
            "10.0.0.7:1",
            "[::1]:50051",
            "[fe80::1]:65535",
            "master_1.example.org:50051",
            "master.:9",
        ] {
            let address: HostPort = text.parse().unwrap();

            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_told_apart() {
        let error = |text: &str| text.parse::<HostPort>().unwrap_err().to_string();

        assert_eq!(error(""), "is empty");
        assert!(error("localhost").contains("no port; add one, such as 'localhost:50051'"));
        assert!(error("http://a:1").contains("leave 'http://' away"));
        assert!(error("::1").contains("write '[::1]:50051'"));
        assert!(error("::1:25003").contains("write '[::1]:25003'"));
        assert!(error("fe80::1:99999").contains("write '[fe80::1:99999]:50051'"));
        for port in ["0", "65536", "+1", "-1", "", "a", "1 "] {
            assert!(
                error(&format!("a:{port}")).contains("no number from 1"),
                "{port}"
            );
        }
        for host in ["", "a b", "a/b", "300.1.1.1", "a..b", "[::1", "[zz]", "é"] {
            assert!(error(&format!("{host}:1")).contains("neither"), "{host}");
        }
    }

    #[test]
    fn a_password_in_an_address_is_not_repeated() {
        for text in [
            "u:hidden@a:1",
            "u:hidden@a",
            "hidden@a:1",
            "http://u:hidden@a",
            "u:hidden@[::1]:1",
        ] {
            assert_eq!(text.parse::<HostPort>(), Err(AddressError::Login), "{text}");
        }
        assert!(!AddressError::Login.to_string().contains("hidden"));
    }

    #[test]
    fn an_error_cannot_forge_a_line() {
        let error = "a\nb:1".parse::<HostPort>().unwrap_err();

        assert!(error.to_string().contains("a\\nb"));
    }

    #[test]
    fn a_host_may_stand_alone() {
        assert_eq!(parse_host("::1"), Ok(("::1".into(), None)));
        assert_eq!(parse_host("[::1]"), Ok(("::1".into(), None)));
        assert_eq!(parse_host("[::1]:7"), Ok(("::1".into(), Some(7))));
        assert_eq!(parse_host("node-3"), Ok(("node-3".into(), None)));
        assert_eq!(parse_host("node-3:7"), Ok(("node-3".into(), Some(7))));
        assert!(parse_host("").is_err());
    }

    #[test]
    fn loopback_has_many_names() {
        for host in [
            "localhost",
            "LOCALHOST",
            "a.localhost",
            "127.0.0.1",
            "127.9.9.9",
            "::1",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["10.0.0.1", "worker", "localhost.example.org", "::2"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
