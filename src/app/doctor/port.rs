//! Examines a port: whether it is free, by binding it as the start does, or is the running worker's own.

use std::{fs, io};

use super::super::build::{self, StartError};
use crate::{config::ListenAddress, ports::doctor::Finding};

/// A port that the worker listens on.
#[derive(Clone, Copy)]
pub(super) struct Port {
    /// The name of the finding's part.
    pub(super) part: &'static str,
    /// The flag that sets the port.
    pub(super) flag: &'static str,
}

/// Examines a port of `address`; `worker` is the id of the process that has the state folder.
pub(super) async fn finding(
    Port { part, flag }: Port,
    address: &ListenAddress,
    worker: Option<u32>,
) -> Finding {
    let port = address.port;
    match build::listen(address, flag).await {
        Ok(_) if port == 0 => Finding::fine(part, "any free one is taken"),
        Ok(_) => Finding::fine(part, format!("{address} is free")),
        Err(StartError::Listen { source, .. })
            if source.kind() == io::ErrorKind::AddrInUse
                && worker.is_some_and(|worker| is_listening(worker, port)) =>
        {
            Finding::fine(part, format!("{address} is the running worker's"))
        }
        Err(error) => Finding::fault(part, error.to_string()),
    }
}

/// Whether this process listens on the port; false where its files cannot be read.
fn is_listening(process: u32, port: u16) -> bool {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
    let sockets: Vec<_> = tables
        .iter()
        .flatten()
        .flat_map(|table| listeners(table, port))
        .collect();
    let Ok(open) = fs::read_dir(format!("/proc/{process}/fd")) else {
        return false;
    };
    let links = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    links.into_iter().any(|link| {
        let link = link.to_string_lossy();
        sockets
            .iter()
            .any(|socket| link == format!("socket:[{socket}]"))
    })
}

/// The inode numbers of the sockets that listen on this port.
fn listeners(table: &str, port: u16) -> Vec<String> {
    const LISTENS: &str = "0A";
    let of_line = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let (local, state, socket) = (words.get(1)?, words.get(3)?, words.get(9)?);
        let is_there = local.ends_with(&format!(":{port:04X}")) && *state == LISTENS;
        is_there.then(|| (*socket).to_owned())
    };
    table.lines().filter_map(of_line).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_port_is_known_for_the_process_that_listens_there() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();

        assert!(is_listening(std::process::id(), port));
        assert!(!is_listening(1_000_000_000, port));
        drop(taken);
        assert!(!is_listening(std::process::id(), port));
    }

    #[test]
    fn only_what_listens_there_counts() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:C384 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1\n\
            1: 0100007F:C384 0100007F:0001 01 00000000:00000000 00:00000000 00000000     0        0 12 1\n\
            2: 0100007F:C385 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 13 1\n";

        assert_eq!(listeners(table, 0xC384), ["11"]);
    }
}
