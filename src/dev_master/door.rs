//! The listener: one TCP port whose door can be shut, opened again on the same port, or held by somebody who turns callers away
//! (connections are made and come to nothing), and whose connections can be cut. It also reads along on every connection and counts
//! the HTTP/2 PING frames of the workers, since a Go server punishes them.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

/// What a shut door does with the connections that exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inside {
    /// They are cut.
    Cut,
    /// They stay.
    Keep,
}

/// What becomes of a connection that is made while nobody serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callers {
    /// It is held, and nothing comes back.
    KeptWaiting,
    /// It is closed at once.
    HungUpOn,
}

/// The listener of one master.
#[derive(Debug)]
pub(super) struct Door {
    address: SocketAddr,
    connections: mpsc::Sender<io::Result<ServerIo>>,
    accepting: Mutex<Option<JoinHandle<()>>>,
    /// Parent of the switches of all connections.
    switch: Mutex<CancellationToken>,
    pings: watch::Sender<u64>,
    /// How many connections were made, whatever became of them.
    knocks: watch::Sender<u64>,
}

impl Door {
    /// Binds and accepts; connections come out of the receiver.
    pub(super) async fn open(
        listen: SocketAddr,
    ) -> io::Result<(Self, mpsc::Receiver<io::Result<ServerIo>>)> {
        let listener = TcpListener::bind(listen).await?;
        let (connections, receiver) = mpsc::channel(16);
        let door = Self {
            address: listener.local_addr()?,
            connections,
            accepting: Mutex::new(None),
            switch: Mutex::new(CancellationToken::new()),
            pings: watch::Sender::new(0),
            knocks: watch::Sender::new(0),
        };
        door.accept(listener);
        Ok((door, receiver))
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many PING frames came in, acknowledgements aside.
    pub(super) fn pings(&self) -> watch::Receiver<u64> {
        self.pings.subscribe()
    }

    /// How many connections were made, whatever became of them.
    pub(super) fn knocks(&self) -> watch::Receiver<u64> {
        self.knocks.subscribe()
    }

    /// Refuses connections from now on.
    pub(super) async fn shut(&self, inside: Inside) {
        self.stop_accepting().await;
        if inside == Inside::Cut {
            self.cut();
        }
    }

    /// Accepts connections that come to nothing, until the door is opened again; those that exist are cut.
    pub(super) async fn turn_away(&self, callers: Callers) -> io::Result<()> {
        self.shut(Inside::Cut).await;
        let listener = TcpListener::bind(self.address).await?;
        let knocks = self.knocks.clone();
        self.set_accepting(tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                if callers == Callers::KeptWaiting {
                    held.push(stream);
                }
                knocks.send_modify(|count| *count += 1);
            }
        }));
        Ok(())
    }

    /// Listens again on the same port.
    pub(super) async fn reopen(&self) -> io::Result<()> {
        self.stop_accepting().await;
        let listener = TcpListener::bind(self.address).await?;
        self.accept(listener);
        Ok(())
    }

    /// Cuts every connection that exists.
    pub(super) fn cut(&self) {
        let mut switch = self.switch.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *switch).cancel();
    }

    fn accept(&self, listener: TcpListener) {
        let connections = self.connections.clone();
        let switch = self
            .switch
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let (pings, knocks) = (self.pings.clone(), self.knocks.clone());
        self.set_accepting(tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // As every Go program does: without it the kernel holds small answers back for 40 ms now and then.
                let _closed_already = stream.set_nodelay(true);
                knocks.send_modify(|count| *count += 1);
                let served = ServerIo::new(stream, switch.child_token(), pings.clone());
                if connections.send(Ok(served)).await.is_err() {
                    return;
                }
            }
        }));
    }

    fn set_accepting(&self, task: JoinHandle<()>) {
        *self
            .accepting
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(task);
    }

    /// Stops accepting; returns once the port is free.
    async fn stop_accepting(&self) {
        let task = self
            .accepting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(task) = task {
            task.abort();
            let _cancelled = task.await;
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Some(task) = self
            .accepting
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            task.abort();
        }
        self.cut();
    }
}

/// The switch of the connection that a call came on.
#[derive(Clone, Debug)]
pub(super) struct ConnectionSwitch(CancellationToken);

impl ConnectionSwitch {
    pub(super) fn cut(&self) {
        self.0.cancel();
    }
}

/// A connection that can be cut and whose frames are watched.
pub(super) struct ServerIo {
    stream: TcpStream,
    switch: CancellationToken,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    frames: FrameWatch,
    pings: watch::Sender<u64>,
}

impl ServerIo {
    fn new(stream: TcpStream, switch: CancellationToken, pings: watch::Sender<u64>) -> Self {
        let cut = Box::pin(switch.clone().cancelled_owned());
        Self {
            stream,
            switch,
            cut,
            frames: FrameWatch::new(),
            pings,
        }
    }

    fn check_cut(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.cut.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionReset.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl Connected for ServerIo {
    type ConnectInfo = ConnectionSwitch;

    fn connect_info(&self) -> Self::ConnectInfo {
        ConnectionSwitch(self.switch.clone())
    }
}

impl AsyncRead for ServerIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_cut(cx)?;
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        let pings = self.frames.feed(&buf.filled()[before..]);
        if pings > 0 {
            self.pings.send_modify(|count| *count += pings);
        }
        result
    }
}

impl AsyncWrite for ServerIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check_cut(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Follows the frame headers of a client's half of an HTTP/2 connection, however the bytes are cut.
struct FrameWatch {
    /// Bytes to pass over before the next header: the preface first, then payloads.
    skip: usize,
    header: [u8; Self::HEADER],
    have: usize,
}

impl FrameWatch {
    const PREFACE: usize = 24;
    const HEADER: usize = 9;
    const PING: u8 = 6;
    const ACK: u8 = 1;

    fn new() -> Self {
        Self {
            skip: Self::PREFACE,
            header: [0; Self::HEADER],
            have: 0,
        }
    }

    /// How many PING frames begin in these bytes.
    fn feed(&mut self, mut bytes: &[u8]) -> u64 {
        let mut pings = 0;
        while !bytes.is_empty() {
            let passed = self.skip.min(bytes.len());
            self.skip -= passed;
            bytes = &bytes[passed..];
            let taken = bytes.len().min(Self::HEADER - self.have);
            self.header[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == Self::HEADER {
                pings += u64::from(self.end_header());
            }
        }
        pings
    }

    fn end_header(&mut self) -> bool {
        let [high, middle, low, kind, flags, ..] = self.header;
        self.skip = u32::from_be_bytes([0, high, middle, low]) as usize;
        self.have = 0;
        kind == Self::PING && flags & Self::ACK == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        let mut frame = vec![0, 0, length, kind, flags, 0, 0, 0, 0];
        frame.extend_from_slice(payload);
        frame
    }

    #[test]
    fn pings_are_counted_however_the_bytes_are_cut() {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(4, 0, &[]));
        bytes.extend(frame(6, 0, &[6; 8]));
        bytes.extend(frame(0, 1, &[6; 200]));
        bytes.extend(frame(6, 1, &[0; 8]));
        bytes.extend(frame(6, 0, &[0; 8]));

        for size in [1, 2, 7, 9, 10, 33, bytes.len()] {
            let mut watch = FrameWatch::new();
            let pings: u64 = bytes.chunks(size).map(|piece| watch.feed(piece)).sum();
            assert_eq!(pings, 2, "in pieces of {size}");
        }
    }
}
