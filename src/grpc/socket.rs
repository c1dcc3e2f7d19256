//! The options that every TCP connection of ours gets, in either direction. HTTP/2 pings are never sent (masters punish
//! them), so that the kernel is the one that notices a peer that has gone without a word.

use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::TcpStream;

/// How long a connection is silent before the kernel probes it.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// Time between two probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// How many probes without an answer end the connection.
const KEEPALIVE_PROBES: u32 = 3;

/// Sets the options. Small messages leave at once; a dead peer is noticed within two minutes.
///
/// # Errors
/// An error of the kernel; the connection is likely gone already.
pub(super) fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES)?;
    Ok(())
}
