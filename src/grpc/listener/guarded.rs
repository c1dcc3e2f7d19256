//! A connection that is not held for ever: it ends where its first bytes do not come in time, where it idles, and where the
//! server cuts it off. Belongs to the connection's own task; nobody waits for it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use super::places::{Connection, Place};

/// The length of the HTTP/2 client preface, in bytes.
const PREFACE: usize = 24;

/// How long a connection may be of no use; then it is closed.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Patience {
    /// From its beginning until the preface is complete.
    pub(in super::super) preface: Duration,
    /// After the preface, without a call and without a log stream. Pings are no calls.
    pub(in super::super) idle: Duration,
}

/// A connection under guard.
pub(in super::super) struct Guarded<S> {
    stream: S,
    patience: Patience,
    /// Bytes read, counted until the preface is complete.
    received: usize,
    /// Rings when patience may be over. It is set on only when it rings, since that is dearer than a look at the clock.
    alarm: Pin<Box<Sleep>>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    closing: Pin<Box<WaitForCancellationFutureOwned>>,
    place: Place,
}

impl<S> Guarded<S> {
    /// Guards `stream`, which gives its place back when it ends.
    pub(in super::super) fn new(
        stream: S,
        place: Place,
        patience: Patience,
        cut: &CancellationToken,
    ) -> Self {
        Self {
            stream,
            patience,
            received: 0,
            alarm: Box::pin(tokio::time::sleep(patience.preface)),
            cut: Box::pin(cut.clone().cancelled_owned()),
            closing: Box::pin(place.connection().closing().cancelled_owned()),
            place,
        }
    }

    fn hear(&mut self, bytes: usize) {
        if self.received < PREFACE {
            self.received += bytes;
            if self.received >= PREFACE {
                let until = Instant::now() + self.patience.idle;
                self.alarm.as_mut().reset(until);
            }
        }
    }

    /// Whether the connection has waited too long; asked whenever it would wait.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if self.cut.as_mut().poll(cx).is_ready() || self.closing.as_mut().poll(cx).is_ready() {
            return Poll::Ready(io::ErrorKind::ConnectionAborted.into());
        }
        loop {
            ready!(self.alarm.as_mut().poll(cx));
            if self.received < PREFACE {
                return Poll::Ready(io::ErrorKind::TimedOut.into());
            }
            let now = Instant::now();
            let since = self.place.connection().idle_since().unwrap_or(now);
            let until = since + self.patience.idle;
            if until <= now {
                return Poll::Ready(io::ErrorKind::TimedOut.into());
            }
            self.alarm.as_mut().reset(until);
        }
    }

    /// Ends the wait of an operation that is not ready, where the connection's time is over.
    fn or_over<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match poll {
            Poll::Ready(done) => Poll::Ready(done),
            Poll::Pending => self.poll_over(cx).map(Err),
        }
    }
}

impl<S> Connected for Guarded<S> {
    type ConnectInfo = Connection;

    fn connect_info(&self) -> Connection {
        self.place.connection().clone()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(cx, buf);
        if poll.is_ready() {
            self.hear(buf.filled().len() - before);
        }
        self.or_over(cx, poll)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.or_over(cx, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.or_over(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_flush(cx);
        self.or_over(cx, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.or_over(cx, poll)
    }
}
