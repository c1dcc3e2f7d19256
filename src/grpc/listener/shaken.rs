//! A connection that may have to begin with a TLS handshake. The handshake is made as the connection is read or written, by the
//! connection's own task: the accept loop waits for none, and its deadline is that of the first bytes (`guarded`). Once it is over,
//! the connection knows its caller.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{Accept, server::TlsStream};

use super::{Doorkeeper, places::Connection};
use crate::{domain::callers::Caller, grpc::keys::Certificate};

/// A TCP connection, with or without TLS.
pub(super) struct Shaken {
    stage: Stage,
    peer: SocketAddr,
    doorkeeper: Arc<Doorkeeper>,
    connection: Connection,
}

enum Stage {
    /// There is no handshake.
    Clear(TcpStream),
    Shaking(Box<Accept<TcpStream>>),
    Done(Box<TlsStream<TcpStream>>),
    /// The handshake failed, and that was said.
    Failed,
}

impl Shaken {
    /// Begins with a handshake if the keys of this moment ask for one.
    pub(super) fn new(
        stream: TcpStream,
        peer: SocketAddr,
        doorkeeper: &Arc<Doorkeeper>,
        connection: &Connection,
    ) -> Self {
        let stage = match doorkeeper.keys().acceptor() {
            Some(acceptor) => Stage::Shaking(Box::new(acceptor.accept(stream))),
            None => {
                connection.is_of(at(peer));
                Stage::Clear(stream)
            }
        };
        Self {
            stage,
            peer,
            doorkeeper: Arc::clone(doorkeeper),
            connection: connection.clone(),
        }
    }

    /// Waits for the end of the handshake, and then performs `act`.
    fn poll_then<T>(
        &mut self,
        cx: &mut Context<'_>,
        act: impl FnOnce(Pin<&mut dyn Duplex>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        ready!(self.poll_shaken(cx))?;
        match &mut self.stage {
            Stage::Clear(stream) => act(Pin::new(stream), cx),
            Stage::Done(stream) => act(Pin::new(&mut **stream), cx),
            Stage::Shaking(_) | Stage::Failed => {
                Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
            }
        }
    }

    fn poll_shaken(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Stage::Shaking(accept) = &mut self.stage else {
            return Poll::Ready(Ok(()));
        };
        match ready!(Pin::new(&mut **accept).poll(cx)) {
            Ok(stream) => {
                self.connection.is_of(Caller {
                    certificate: names(&stream),
                    ..at(self.peer)
                });
                self.stage = Stage::Done(Box::new(stream));
                Poll::Ready(Ok(()))
            }
            Err(error) => {
                self.stage = Stage::Failed;
                self.doorkeeper.unshaken(self.peer, &error);
                Poll::Ready(Err(error))
            }
        }
    }
}

fn at(peer: SocketAddr) -> Caller {
    Caller {
        address: Some(peer),
        ..Caller::default()
    }
}

/// The names in the certificate that the handshake has found good.
fn names(stream: &TlsStream<TcpStream>) -> Vec<String> {
    let (_, session) = stream.get_ref();
    let own = session.peer_certificates().and_then(<[_]>::first);
    let certificate = own.and_then(|own| Certificate::read(own));
    certificate
        .map(|certificate| certificate.names)
        .unwrap_or_default()
}

/// What both kinds of stream can do.
trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Duplex for S {}

impl AsyncRead for Shaken {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_then(cx, |stream, cx| stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Shaken {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_then(cx, |stream, cx| stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_then(cx, |stream, cx| stream.poll_write_vectored(cx, parts))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stage {
            Stage::Clear(stream) => stream.is_write_vectored(),
            Stage::Done(stream) => stream.is_write_vectored(),
            Stage::Shaking(_) | Stage::Failed => true,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_then(cx, |stream, cx| stream.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A connection that is closed in the middle of a handshake owes nobody a farewell.
        match &self.stage {
            Stage::Shaking(_) | Stage::Failed => Poll::Ready(Ok(())),
            Stage::Clear(_) | Stage::Done(_) => {
                self.poll_then(cx, |stream, cx| stream.poll_shutdown(cx))
            }
        }
    }
}
