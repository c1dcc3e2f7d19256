//! HTTP/2 by hand, for callers that no library would be: frames are written as a test wants them, and answers are read to their ends.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::PATIENCE;

/// What every connection begins with.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Kinds of frames.
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const CONTINUATION: u8 = 9;

/// Flags: the stream's last frame of this side, and the last part of its headers.
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// The longest payload that may be sent unasked, in bytes.
const PAYLOAD: usize = 16_384;

/// One frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len())
        .expect("it is short")
        .to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head, payload].concat()
}

/// Settings that leave all as it is.
pub(crate) const AS_USUAL: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

/// Settings that let no answer's body come.
pub(crate) const NO_WINDOW: &[u8] = &[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0];

/// A number of HPACK behind a prefix of seven bits.
fn number(number: usize) -> Vec<u8> {
    let short = |number: usize| u8::try_from(number).expect("it is below 128");
    if number < 127 {
        return vec![short(number)];
    }
    let (mut bytes, mut rest) = (vec![127], number - 127);
    while rest >= 128 {
        bytes.push(short(rest % 128) | 128);
        rest /= 128;
    }
    bytes.push(short(rest));
    bytes
}

/// A header as HPACK's plainest form.
pub(crate) fn header(name: &str, value: &[u8]) -> Vec<u8> {
    let text = |text: &[u8]| [number(text.len()), text.to_vec()].concat();
    [vec![0], text(name.as_bytes()), text(value)].concat()
}

/// The headers of a call of that method.
pub(crate) fn call(method: &str) -> Vec<u8> {
    let path = format!("/cluster.MasterWorker/{method}");
    let headers: [(&str, &str); 6] = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", &path),
        (":authority", "worker"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let headers = headers.map(|(name, value)| header(name, value.as_bytes()));
    headers.concat()
}

/// Headers in as many frames as they take.
pub(crate) fn in_frames(stream: u32, flags: u8, headers: &[u8]) -> Vec<u8> {
    let parts: Vec<_> = headers.chunks(PAYLOAD).collect();
    let last = parts.len() - 1;
    let frames = parts.iter().enumerate().map(|(index, part)| {
        let end = if index == last { END_HEADERS } else { 0 };
        match index {
            0 => frame(HEADERS, flags | end, stream, part),
            _ => frame(CONTINUATION, end, stream, part),
        }
    });
    frames.collect::<Vec<_>>().concat()
}

/// A message as gRPC sends it.
pub(crate) fn message(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len())
        .expect("it is short")
        .to_be_bytes();
    [&[0], &length[..], bytes].concat()
}

/// A field of bytes of a message.
pub(crate) fn field(number_of: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len())
        .ok()
        .filter(|length| *length < 128);
    [&[number_of << 3 | 2, length.expect("it is short")], bytes].concat()
}

/// A connection of a stranger.
#[derive(Debug)]
pub(crate) struct Caller {
    stream: TcpStream,
    next: u32,
    open: BTreeSet<u32>,
}

impl Caller {
    /// From the address 127.0.0.`from` of this machine. Nothing is said yet.
    pub(crate) async fn silent(from: u8, worker: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a descriptor");
        let own = SocketAddr::from((Ipv4Addr::new(127, 0, 0, from), 0));
        socket.bind(own).expect("an address of this machine");
        Self {
            stream: socket.connect(worker).await.expect("the worker listens"),
            next: 1,
            open: BTreeSet::new(),
        }
    }

    /// One that has said what every connection begins with.
    pub(crate) async fn greeting(from: u8, worker: SocketAddr, settings: &[u8]) -> Self {
        let mut caller = Self::silent(from, worker).await;
        caller.say(&[PREFACE, settings].concat()).await;
        caller
    }

    /// Where the other side has hung up nothing happens: that is seen by who waits for an answer.
    pub(crate) async fn say(&mut self, bytes: &[u8]) {
        let _hung_up = self.stream.write_all(bytes).await;
    }

    /// A call whose request ends with this body.
    pub(crate) async fn ask(&mut self, headers: &[u8], body: &[u8]) {
        let stream = self.begin(headers).await;
        let (parts, last) = body.split_at(body.len() / PAYLOAD * PAYLOAD);
        let parts = parts
            .chunks(PAYLOAD)
            .map(|part| frame(DATA, 0, stream, part));
        let frames = parts.chain([frame(DATA, END_STREAM, stream, last)]);
        self.say(&frames.collect::<Vec<_>>().concat()).await;
    }

    /// A call whose body is still to come; returns its stream.
    pub(crate) async fn begin(&mut self, headers: &[u8]) -> u32 {
        let stream = self.next;
        self.next += 2;
        self.open.insert(stream);
        self.say(&in_frames(stream, 0, headers)).await;
        stream
    }

    /// Reads until every call has its end; false, if the connection has ended before.
    pub(crate) async fn all_answered(&mut self) -> bool {
        let answered = async {
            while !self.open.is_empty() {
                let Some((kind, flags, stream)) = self.read().await else {
                    return false;
                };
                let ends = matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0;
                if ends || kind == RST_STREAM {
                    self.open.remove(&stream);
                }
            }
            true
        };
        let within = tokio::time::timeout(PATIENCE, answered).await;
        within.expect("each call comes to an end")
    }

    /// Waits until the other side hangs up.
    pub(crate) async fn hung_up(&mut self) {
        let over = async { while self.read().await.is_some() {} };
        let within = tokio::time::timeout(PATIENCE, over).await;
        within.expect("the connection comes to an end");
    }

    /// The next frame: its kind, flags and stream. None: the connection is over.
    async fn read(&mut self) -> Option<(u8, u8, u32)> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).ok()?];
        self.stream.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some((head[3], head[4], stream & (u32::MAX >> 1)))
    }
}
