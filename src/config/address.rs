//! Addresses of three kinds: at which the master reaches us, at which we listen, and of the engine. Nothing is resolved or bound.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use crate::domain::address::{AddressError, HostPort, is_loopback, parse_host};

/// The engine's socket if nobody sets another.
const ENGINE_SOCKET: &str = "/var/run/docker.sock";

/// The address at which the master reaches this worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// A name or an address; IPv6 without its brackets.
    pub host: String,
    /// A port that is forwarded to us; `None`: the listener's own.
    pub port: Option<u16>,
}

impl Reach {
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let (host, port) = parse_host(text).map_err(|error| {
            format!("{error}; give the address at which the master reaches this machine")
        })?;
        if host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_unspecified())
        {
            return Err(
                "is no address that anybody can call; give the one at which the master reaches \
                        this machine (where to listen is said by --port)"
                    .into(),
            );
        }
        Ok(Self { host, port })
    }

    /// The host alone, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The address that the master is told: always `host:port`.
    #[must_use]
    pub fn advertised(&self, bound_port: u16) -> String {
        let host = self.host.clone();
        let port = self.port.unwrap_or(bound_port);
        HostPort { host, port }.to_string()
    }

    pub(super) fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }
}

/// An address at which this worker listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenAddress {
    /// The machine's address to listen on; `None`: every one.
    pub address: Option<IpAddr>,
    /// The port; 0: any free one.
    pub port: u16,
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => SocketAddr::new(address, self.port).fmt(f),
            None => write!(f, ":{}", self.port),
        }
    }
}

impl ListenAddress {
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let complaint = |what: &str| format!("{what}; write 50052, :50052 or 127.0.0.1:50052");
        // A bare port has no colon, an address always has one before its port.
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port
            .parse()
            .ok()
            .filter(|_| digits)
            .ok_or_else(|| complaint("has no port from 0 to 65535 at its end"))?;
        let address = match host {
            "" => None,
            "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            host => Some(read_ip(host).ok_or_else(|| {
                complaint("does not begin with an IP address of this machine (IPv6 in brackets)")
            })?),
        };
        Ok(Self { address, port })
    }

    /// The addresses to bind, in this order, until one works: a machine may know no IPv6.
    #[must_use]
    pub fn candidates(&self) -> Vec<SocketAddr> {
        let at = |address: IpAddr| SocketAddr::new(address, self.port);
        match self.address {
            Some(address) => vec![at(address)],
            None => vec![
                at(Ipv6Addr::UNSPECIFIED.into()),
                at(Ipv4Addr::UNSPECIFIED.into()),
            ],
        }
    }

    /// Whether only this machine itself reaches the address.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.address.is_some_and(|address| address.is_loopback())
    }
}

fn read_ip(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')?
            .parse::<Ipv6Addr>()
            .ok()
            .map(Into::into),
        None => host.parse::<Ipv4Addr>().ok().map(Into::into),
    }
}

/// The engine's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineAddress {
    /// A socket on this machine.
    Unix(PathBuf),
    /// A host and its port, without TLS.
    Tcp(HostPort),
}

impl EngineAddress {
    pub(super) fn read(text: &str) -> Result<Self, String> {
        const FORMS: &str = "write unix:///var/run/docker.sock or tcp://host:2375";
        if text.starts_with('/') {
            return Ok(Self::Unix(text.into()));
        }
        match text.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(("unix", _)) => Err(format!("names no absolute path; {FORMS}")),
            Some(("tcp" | "http", rest)) => rest
                .trim_end_matches('/')
                .parse()
                .map(Self::Tcp)
                .map_err(|error: AddressError| format!("{error}; {FORMS}")),
            Some((scheme @ ("https" | "ssh" | "npipe" | "fd"), _)) => Err(format!(
                "asks for {scheme}, which this worker does not speak; {FORMS}"
            )),
            _ => Err(format!("is no engine's address; {FORMS}")),
        }
    }
}

impl Default for EngineAddress {
    fn default() -> Self {
        Self::Unix(ENGINE_SOCKET.into())
    }
}

impl fmt::Display for EngineAddress {
    /// As the engine's own tools write it: `unix:///path` or `tcp://host:port`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_master_is_always_told_host_and_port() {
        let told = |text: &str| Reach::read(text).unwrap().advertised(50_052);

        assert_eq!(told("localhost"), "localhost:50052");
        assert_eq!(told("10.0.0.7:6000"), "10.0.0.7:6000");
        assert_eq!(told("::1"), "[::1]:50052");
        assert_eq!(told("[::1]"), "[::1]:50052");
        assert_eq!(told("[::1]:6000"), "[::1]:6000");
    }

    #[test]
    fn nobody_is_told_an_address_that_cannot_be_called() {
        for text in ["", "0.0.0.0", "[::]", "[::]:1", "http://a", "a:0", "a b"] {
            assert!(Reach::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_port_can_be_written_in_every_usual_way() {
        let read = |text: &str| {
            let listen = ListenAddress::read(text).unwrap();
            listen.candidates()[0].to_string()
        };

        assert_eq!(read("50052"), "[::]:50052");
        assert_eq!(read(":50052"), "[::]:50052");
        assert_eq!(read(":0"), "[::]:0");
        assert_eq!(read("127.0.0.1:50052"), "127.0.0.1:50052");
        assert_eq!(read("localhost:1"), "127.0.0.1:1");
        assert_eq!(read("[::1]:50052"), "[::1]:50052");
        for bad in [
            "",
            ":",
            "99999",
            ":abc",
            ":-1",
            ":+1",
            "::1",
            "node:1",
            "127.0.0.1",
            "[::1]",
        ] {
            assert!(ListenAddress::read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_address_means_both_families() {
        let candidates = ListenAddress::read(":7").unwrap().candidates();

        let shown: Vec<_> = candidates.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["[::]:7", "0.0.0.0:7"]);
    }

    #[test]
    fn an_engine_is_a_socket_or_a_host() {
        let read = |text: &str| EngineAddress::read(text).map(|engine| engine.to_string());

        assert_eq!(read("/run/d.sock").unwrap(), "unix:///run/d.sock");
        assert_eq!(read("unix:///run/d.sock").unwrap(), "unix:///run/d.sock");
        assert_eq!(read("tcp://10.0.0.1:2375").unwrap(), "tcp://10.0.0.1:2375");
        assert_eq!(read("http://[::1]:2375/").unwrap(), "tcp://[::1]:2375");
        assert!(read("ssh://a").unwrap_err().contains("asks for ssh"));
        for bad in ["", "unix://d.sock", "tcp://a", "docker", "foo://a:1"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
