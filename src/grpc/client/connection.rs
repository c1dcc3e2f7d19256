//! One connection to a master, for one call. Owns the socket and the tasks that drive it: dropping it closes the socket at
//! once, whatever is still under way.
//!
//! A connection counts as made when the master's first bytes have come (every HTTP/2 server begins with its settings). So a
//! listener whose program hangs, or a proxy in front of nobody, is still 'never connected', and no request was risked on it. Where
//! TLS is spoken they come after its handshake; what either side does not like about the other's certificate is in the error.
//! No pings are sent, and no proxy of the environment is asked.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use log::debug;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::watch,
};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};
use tonic::{
    body::Body,
    codegen::{
        BoxFuture, Service, StdError,
        http::{
            self,
            header::{AUTHORIZATION, HeaderValue},
        },
    },
};

use super::{
    super::{
        keys::Keys,
        socket,
        status::{NeverSent, chain},
    },
    lookup,
};
use crate::{
    domain::address::HostPort,
    ports::master::{MasterAddress, MasterError},
};

/// How long a connection may take to be made: a master that answers at all does so within this.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// A connection that was made.
pub(super) struct Connection {
    requests: Requests,
    traffic: watch::Receiver<Traffic>,
    origin: http::Uri,
    _cut: DropGuard,
}

/// What has passed through a connection's socket.
#[derive(Debug, Clone, Copy, Default)]
struct Traffic {
    /// Whether the master has said something.
    heard: bool,
    /// How often the socket took bytes of ours.
    writes: u64,
}

impl Connection {
    /// Connects within `within`, or less.
    ///
    /// # Errors
    /// `Unreachable`, whatever went wrong.
    pub(super) async fn open(
        master: &MasterAddress,
        keys: &Keys,
        within: Duration,
    ) -> Result<Self, MasterError> {
        let within = within.min(CONNECT_WITHIN);
        match tokio::time::timeout(within, Self::connect(master, keys)).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(MasterError::Unreachable(format!("{master}: {error}"))),
            Err(_) => Err(MasterError::Unreachable(format!(
                "{master}: no answer within {within:?}"
            ))),
        }
    }

    async fn connect(master: &MasterAddress, keys: &Keys) -> Result<Self, StdError> {
        let stream = TcpStream::connect(&*lookup::addresses(&master.0).await?).await?;
        socket::prepare(&stream)?;
        match keys.connector() {
            None => Self::begin(stream, origin("http", master), keys.authorization()).await,
            Some(connector) => {
                let stream = connector.connect(server_name(master)?, stream).await?;
                Self::begin(stream, origin("https", master), keys.authorization()).await
            }
        }
    }

    async fn begin<S>(
        stream: S,
        origin: http::Uri,
        authorization: Option<HeaderValue>,
    ) -> Result<Self, StdError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let cut = CancellationToken::new();
        let (traffic, mut seen) = watch::channel(Traffic::default());
        let socket = Socket {
            stream,
            traffic,
            cut: Box::pin(cut.clone().cancelled_owned()),
        };
        let cut = cut.drop_guard();
        let (requests, driver) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await?;
        // Ends with the socket, which the guard closes; nobody needs its result later, since the request sees it too.
        let driving = tokio::spawn(async move {
            let ended = driver.await;
            if let Err(error) = &ended {
                debug!(error:%; "a connection to the master ended");
            }
            ended
        });
        // The handshake of HTTP/2 sends, and waits for nothing: only the master's first bytes show that somebody is there.
        if seen.wait_for(|traffic| traffic.heard).await.is_err() {
            return Err(match driving.await {
                Ok(Err(error)) => chain(&error).into(),
                Ok(Ok(())) | Err(_) => "it closed the connection without a word".into(),
            });
        }
        Ok(Self {
            requests: Requests {
                sending: requests,
                authorization,
            },
            traffic: seen,
            origin,
            _cut: cut,
        })
    }

    /// Sends requests over this connection.
    pub(super) fn requests(&self) -> Requests {
        self.requests.clone()
    }

    /// The beginning of every request's URI.
    pub(super) fn origin(&self) -> http::Uri {
        self.origin.clone()
    }

    /// Waits until the socket has taken more bytes of ours; for ever once it is closed.
    pub(super) async fn progress(&mut self) {
        let before = self.traffic.borrow_and_update().writes;
        let closed = self
            .traffic
            .wait_for(|now| now.writes != before)
            .await
            .is_err();
        if closed {
            std::future::pending::<()>().await;
        }
    }
}

/// The host that the master's certificate must be for: as it is dialled, a name or an address.
fn server_name(master: &MasterAddress) -> Result<ServerName<'static>, StdError> {
    let HostPort { host, .. } = master.0.parse()?;
    Ok(ServerName::try_from(host)?)
}

fn origin(scheme: &str, master: &MasterAddress) -> http::Uri {
    // An address with a zone (`[fe80::1%2]`) is no part of a URI; nobody reads it there.
    format!("{scheme}://{master}")
        .parse()
        .unwrap_or_else(|_| http::Uri::from_static("http://master"))
}

/// Sends requests over a connection, as tonic's client wants it.
#[derive(Clone)]
pub(in super::super) struct Requests {
    sending: SendRequest<Body>,
    /// The header that shows our token, if we have one.
    authorization: Option<HeaderValue>,
}

impl Requests {
    /// Sends requests as they are, without a token.
    pub(in super::super) fn over(sending: SendRequest<Body>) -> Self {
        Self {
            sending,
            authorization: None,
        }
    }
}

impl Service<http::Request<Body>> for Requests {
    type Response = http::Response<Incoming>;
    type Error = StdError;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StdError>> {
        // HTTP/2 takes a request at any time. That the connection has ended is said by `call`: tonic would turn an error of
        // this method into a status without a source, as if it were the master's.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        if let Some(authorization) = &self.authorization {
            let headers = request.headers_mut();
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        let sending = self.sending.try_send_request(request);
        Box::pin(async move {
            sending.await.map_err(|mut failed| {
                // The request comes back only where not a byte of it was written.
                if failed.take_message().is_some() {
                    NeverSent(failed.into_error().to_string()).into()
                } else {
                    failed.into_error().into()
                }
            })
        })
    }
}

/// A socket that tells what passes, and closes when its connection is dropped.
struct Socket<S> {
    stream: S,
    traffic: watch::Sender<Traffic>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl<S> Socket<S> {
    fn or_cut<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if poll.is_pending() && self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        poll
    }

    fn wrote(&self, poll: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(1..)) = poll {
            self.traffic.send_modify(|traffic| traffic.writes += 1);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.traffic
                .send_if_modified(|traffic| !std::mem::replace(&mut traffic.heard, true));
        }
        self.or_cut(cx, poll)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(&poll);
        self.or_cut(cx, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.wrote(&poll);
        self.or_cut(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_flush(cx);
        self.or_cut(cx, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.or_cut(cx, poll)
    }
}
