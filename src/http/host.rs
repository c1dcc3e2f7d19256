//! The names by which the operator's door may be asked. A page from elsewhere in an operator's browser can have the browser ask us,
//! by a name of its owner's that stands for our address (DNS rebinding): such a request says that name, and no honest one does.

use std::{net::IpAddr, str::FromStr};

use axum::{
    extract::Request,
    http::{header::HOST, uri::Authority},
};

/// The worker's names. An address, `localhost` and no name at all are fine too: only a name can be somebody else's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hosts(Vec<String>);

impl Hosts {
    /// The door with these names.
    #[must_use]
    pub fn named(names: impl IntoIterator<Item = String>) -> Self {
        let names = names.into_iter().map(|name| name.to_ascii_lowercase());
        Self(names.collect())
    }

    /// Whether a request asks for this worker.
    pub(super) fn admit(&self, request: &Request) -> bool {
        let named = request.headers().get(HOST);
        let named = named.map(|name| name.to_str().ok());
        match (request.uri().authority(), named) {
            (Some(authority), _) => self.admit_name(authority.host()),
            (None, Some(Some(name))) => {
                let authority = Authority::from_str(name);
                authority.is_ok_and(|authority| self.admit_name(authority.host()))
            }
            (None, Some(None)) => false,
            // HTTP/1.0 has no such header; no browser speaks it.
            (None, None) => true,
        }
    }

    fn admit_name(&self, host: &str) -> bool {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let name = host.to_ascii_lowercase();
        bare.parse::<IpAddr>().is_ok() || name == "localhost" || self.0.contains(&name)
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn admits(host: Option<&str>, uri: &str) -> bool {
        let mut request = Request::builder().uri(uri);
        if let Some(host) = host {
            request = request.header(HOST, host);
        }
        let request = request.body(Body::empty()).unwrap();
        Hosts::named(["Worker-7.Example".to_owned()]).admit(&request)
    }

    #[test]
    fn only_a_strange_name_is_turned_away() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:9100",
            "[::1]:9100",
            "localhost:9100",
            "LOCALHOST",
            "worker-7.example:1",
        ] {
            assert!(admits(Some(host), "/metrics"), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:9100",
            "127.0.0.1.evil.example",
            "a b",
            "",
        ] {
            assert!(!admits(Some(host), "/metrics"), "{host}");
        }
        assert!(admits(None, "/metrics"));
        assert!(!admits(None, "http://evil.example/metrics"));
        assert!(!admits(Some("localhost"), "http://evil.example/metrics"));
    }
}
