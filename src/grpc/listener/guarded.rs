//! A connection that is not held for ever: it ends where its first bytes do not come in time, where it idles, and where the
//! server cuts it off. Belongs to the connection's own task; nobody waits for it.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

/// The length of the HTTP/2 client preface, in bytes.
const PREFACE: usize = 24;

/// How long a connection may be silent.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Patience {
    /// Before the preface is complete, from the beginning on.
    pub(in super::super) preface: Duration,
    /// After it, while no log stream is open.
    pub(in super::super) idle: Duration,
}

/// How many log streams a connection carries. A call finds it among its request's extensions.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct OpenStreams(Arc<AtomicUsize>);

/// A log stream that is open, for as long as this is kept.
pub(in super::super) struct OpenStream(Arc<AtomicUsize>);

impl OpenStreams {
    /// Counts a stream.
    pub(in super::super) fn enter(&self) -> OpenStream {
        self.0.fetch_add(1, Ordering::Relaxed);
        OpenStream(Arc::clone(&self.0))
    }

    fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection under guard.
pub(in super::super) struct Guarded<S> {
    stream: S,
    patience: Patience,
    streams: OpenStreams,
    /// Bytes read, as far as it matters.
    received: usize,
    heard: Instant,
    /// Rings when patience may be over. Moved on only when it rings, since that is dearer than a look at the clock.
    alarm: Pin<Box<Sleep>>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    _slot: OwnedSemaphorePermit,
}

impl<S> Guarded<S> {
    /// Guards `stream`, which gives its slot back when it ends.
    pub(in super::super) fn new(
        stream: S,
        slot: OwnedSemaphorePermit,
        patience: Patience,
        cut: &CancellationToken,
    ) -> Self {
        Self {
            stream,
            patience,
            streams: OpenStreams::default(),
            received: 0,
            heard: Instant::now(),
            alarm: Box::pin(tokio::time::sleep(patience.preface)),
            cut: Box::pin(cut.clone().cancelled_owned()),
            _slot: slot,
        }
    }

    fn hear(&mut self, bytes: usize) {
        self.heard = Instant::now();
        if self.received < PREFACE {
            self.received += bytes;
            if self.received >= PREFACE {
                self.alarm.as_mut().reset(self.heard + self.patience.idle);
            }
        }
    }

    /// Asked whenever the connection would wait: whether it has waited too long.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(io::ErrorKind::ConnectionAborted.into());
        }
        loop {
            ready!(self.alarm.as_mut().poll(cx));
            if self.received < PREFACE {
                return Poll::Ready(io::ErrorKind::TimedOut.into());
            }
            if self.streams.any() {
                self.heard = Instant::now();
            }
            let until = self.heard + self.patience.idle;
            if until <= Instant::now() {
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
    type ConnectInfo = OpenStreams;

    fn connect_info(&self) -> OpenStreams {
        self.streams.clone()
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
