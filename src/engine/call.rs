//! One call to the engine: the client for it, its deadline, and the parts of its path. Every call has its own connection, so
//! nothing here outlives a call and nothing is to be repaired after the engine came back. No proxy is ever in the way: the
//! HTTP client underneath knows of none, whatever `HTTP_PROXY` says.

use std::{sync::OnceLock, time::Duration};

use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::Instant,
};

use super::{address::EngineAddress, failure};
use crate::ports::engine::{CallWatch, EngineError};

/// The client's own limit for response headers, in seconds: out of the way of every deadline of ours.
const CLIENT_TIMEOUT: u64 = 7 * 24 * 3_600;

/// A connection to the engine that its client does not manage.
pub(super) trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// How calls reach one engine: its address, the client, and who is told how each call went.
pub(super) struct Line {
    pub(super) address: EngineAddress,
    docker: OnceLock<Docker>,
    watch: Option<CallWatch>,
}

impl Line {
    /// Calls to that address; nothing is opened.
    pub(super) fn to(address: EngineAddress) -> Self {
        Self {
            address,
            docker: OnceLock::new(),
            watch: None,
        }
    }

    /// The same calls; `watch` is told how each call under a deadline went.
    pub(super) fn watched(self, watch: Option<CallWatch>) -> Self {
        Self { watch, ..self }
    }

    /// The client for a call.
    ///
    /// # Errors
    /// `Away`: the client refuses to exist before the socket does, so it is made at the first call that finds one.
    pub(super) fn docker(&self) -> Result<&Docker, EngineError> {
        if let Some(docker) = self.docker.get() {
            return Ok(docker);
        }
        let docker = self.new_client().map_err(failure::of_call)?;
        Ok(self.docker.get_or_init(|| docker))
    }

    fn new_client(&self) -> Result<Docker, bollard::errors::Error> {
        let docker = match &self.address {
            EngineAddress::Unix(path) => Docker::connect_with_unix(
                &path.to_string_lossy(),
                CLIENT_TIMEOUT,
                API_DEFAULT_VERSION,
            )?,
            EngineAddress::Tcp(host_port) => {
                Docker::connect_with_http(host_port, CLIENT_TIMEOUT, API_DEFAULT_VERSION)?
            }
        };
        Ok(docker.with_request_modifier(with_url_safe_credentials))
    }

    /// A copy for a stream that outlives the call.
    pub(super) fn clone_address(&self) -> Self {
        Self::to(self.address.clone()).watched(self.watch.clone())
    }

    /// Opens a connection without the client.
    ///
    /// # Errors
    /// Nobody listens at the address.
    pub(super) async fn connect(&self) -> std::io::Result<Box<dyn Connection>> {
        Ok(match &self.address {
            EngineAddress::Unix(path) => Box::new(UnixStream::connect(path).await?),
            EngineAddress::Tcp(host_port) => Box::new(TcpStream::connect(host_port).await?),
        })
    }

    /// Whether the address is a socket of this machine.
    pub(super) fn is_socket(&self) -> bool {
        matches!(self.address, EngineAddress::Unix(_))
    }

    /// Runs a call under its deadline. A call that is cut off is dropped: what it did is unknown.
    ///
    /// # Errors
    /// The error of the call, or `Deadline` with the call's name.
    pub(super) async fn within<T>(
        &self,
        deadline: Duration,
        name: &'static str,
        call: impl Future<Output = Result<T, EngineError>> + Send,
    ) -> Result<T, EngineError> {
        let begun = Instant::now();
        let answer = tokio::time::timeout(deadline, call)
            .await
            .unwrap_or(Err(EngineError::Deadline(name)));
        if let Some(watch) = &self.watch {
            watch(name, begun.elapsed(), answer.as_ref().err());
        }
        answer
    }
}

/// The engine reads the credentials' header as URL-safe base64, and takes what it cannot read for no credentials at all; the
/// client writes plain base64. The two differ for passwords with `>`, `?` or `~` in certain places.
fn with_url_safe_credentials(mut request: BollardRequest) -> BollardRequest {
    if let Some(header) = request.headers_mut().get_mut("x-registry-auth") {
        let url_safe = header
            .to_str()
            .unwrap_or_default()
            .replace('+', "-")
            .replace('/', "_");
        if let Ok(value) = url_safe.parse() {
            *header = value;
            header.set_sensitive(true);
        }
    }
    request
}

/// Checks a container's id or name before it becomes a part of a path: a `..` or `?` in it would ask for something else.
///
/// # Errors
/// `Invalid`: it has another character than letters, digits, `_`, `.` and `-`, or does not begin with a letter or a digit.
pub(super) fn path_part(id_or_name: &str) -> Result<&str, EngineError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric();
    let allowed = |byte: u8| plain(byte) || matches!(byte, b'_' | b'.' | b'-');
    let starts_plainly = id_or_name.bytes().next().is_some_and(plain);
    if starts_plainly && id_or_name.bytes().all(allowed) {
        Ok(id_or_name)
    } else {
        Err(EngineError::Invalid(format!(
            "{id_or_name:?} is no container's id or name"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_part_cannot_leave_its_place() {
        assert!(path_part("wn-worker.1_a-0f3c").is_ok());
        for bad in [
            "",
            "..",
            "../images",
            "a/b",
            "a?force=1",
            "a b",
            "a%2e",
            "é",
        ] {
            assert!(path_part(bad).is_err(), "{bad:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_without_an_answer_ends_at_its_deadline() {
        let line = Line::to(EngineAddress::default());
        let begun = tokio::time::Instant::now();

        let outcome: Result<(), _> = line
            .within(Duration::from_secs(5), "list", std::future::pending())
            .await;

        assert_eq!(outcome, Err(EngineError::Deadline("list")));
        assert_eq!(begun.elapsed(), Duration::from_secs(5));
    }
}
