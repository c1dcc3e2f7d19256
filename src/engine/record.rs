//! The engine's own record of a container's output, read by hand: the engine sends one chunk per line, and the client takes
//! ten times as long over each as this. Only a record whose last chunk came is whole; one that ends before is an engine that
//! went away. Each line comes with its time, which is taken off again.

use std::{
    collections::VecDeque,
    io,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, stream};
use jiff::Timestamp;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    call::{Connection, Line},
    failure,
    streams::engine_words,
};
use crate::{
    domain::log_line::Source,
    ports::engine::{EngineError, Frame},
};

/// Bytes asked of the connection at once.
const READ: usize = 64 * 1024;

/// Bytes of an answer's head, and of a failure's words, that are read; a longer head is an error.
const HEAD: usize = 64 * 1024;

/// Bytes before a frame's content: its kind, three zeros, the length.
const FRAME_HEADER: usize = 8;

/// The status of an answer with success.
const OK: u16 = 200;

/// The beginning of a time as the engine writes it: `2026-11-24T04:58:50.663`.
type Millisecond = [u8; 23];

/// The frames of the record at this path, which is opened when the stream is first read. Entries of one source and one millisecond
/// that come at once are one frame.
pub(super) fn frames(
    line: &Line,
    path: String,
) -> impl Stream<Item = Result<Frame, EngineError>> + Send + use<> {
    let line = line.clone_address();
    stream::unfold(Reading::NotYet(line, path), |reading| async move {
        let mut reader = match reading {
            Reading::NotYet(line, path) => match Reader::open(&line, &path).await {
                Ok(reader) => reader,
                Err(error) => return Some((Err(error), Reading::Over)),
            },
            Reading::Open(reader) => reader,
            Reading::Over => return None,
        };
        match reader.next().await {
            Ok(frame) => frame.map(|frame| (Ok(frame), Reading::Open(reader))),
            Err(error) => Some((Err(error), Reading::Over)),
        }
    })
}

enum Reading {
    NotYet(Line, String),
    Open(Box<Reader>),
    Over,
}

struct Reader {
    connection: Box<dyn Connection>,
    chunks: Chunks,
    frames: VecDeque<Frame>,
    body: BytesMut,
}

impl Reader {
    async fn open(line: &Line, path: &str) -> Result<Box<Self>, EngineError> {
        let mut connection = line.connect().await.map_err(broken)?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n");
        let written = connection.write_all(request.as_bytes()).await;
        written.map_err(broken)?;
        let mut bytes = BytesMut::new();
        let end = loop {
            match bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                Some(end) => break end,
                None if bytes.len() > HEAD => return Err(nonsense("an endless head")),
                None => more(&mut *connection, &mut bytes).await?,
            }
        };
        let head = bytes.split_to(end + 4);
        let status = status(&head).ok_or_else(|| nonsense("no status"))?;
        let is_chunked = String::from_utf8_lossy(&head)
            .to_ascii_lowercase()
            .contains("transfer-encoding: chunked");
        if status != OK {
            return Err(refusal(status, &mut *connection, bytes).await);
        }
        if !is_chunked {
            return Err(nonsense("an answer that is not in chunks"));
        }
        Ok(Box::new(Self {
            connection,
            chunks: Chunks {
                bytes,
                left: None,
                is_over: false,
            },
            frames: VecDeque::new(),
            body: BytesMut::new(),
        }))
    }

    /// The next frame; `None` at the end of a record that is whole.
    async fn next(&mut self) -> Result<Option<Frame>, EngineError> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return Ok(Some(frame));
            }
            self.chunks.take(&mut self.body)?;
            take_frames(&mut self.body, &mut self.frames)?;
            if self.frames.is_empty() {
                if self.chunks.is_over {
                    return Ok(None);
                }
                more(&mut *self.connection, &mut self.chunks.bytes).await?;
            }
        }
    }
}

/// The body of an answer in chunks, as it comes.
#[derive(Debug)]
struct Chunks {
    bytes: BytesMut,
    /// Bytes left of the present chunk, its line's end included; `None` between two.
    left: Option<usize>,
    is_over: bool,
}

impl Chunks {
    /// Moves the content of all chunks that have come to `body`.
    fn take(&mut self, body: &mut BytesMut) -> Result<(), EngineError> {
        while !self.is_over {
            let Some(left) = self.left else {
                let Some(end) = self.bytes.windows(2).position(|two| two == b"\r\n") else {
                    return Ok(());
                };
                let size = self.bytes.split_to(end + 2);
                let size = chunk_size(&size).ok_or_else(|| nonsense("a chunk without a size"))?;
                self.is_over = size == 0;
                self.left = Some(size.saturating_add(2));
                continue;
            };
            if self.bytes.is_empty() {
                return Ok(());
            }
            let here = left.min(self.bytes.len());
            let content = here.min(left.saturating_sub(2));
            body.extend_from_slice(&self.bytes[..content]);
            self.bytes.advance(here);
            self.left = Some(left - here).filter(|left| *left > 0);
        }
        Ok(())
    }
}

/// Takes all complete frames off the front; those of one source and one millisecond that follow each other become one.
fn take_frames(body: &mut BytesMut, frames: &mut VecDeque<Frame>) -> Result<(), EngineError> {
    let mut run = Run::of(Source::Stdout, &[]);
    while let Some(head) = body.first_chunk::<FRAME_HEADER>() {
        let [kind, _, _, _, length @ ..] = *head;
        let end = FRAME_HEADER + u32::from_be_bytes(length) as usize;
        if body.len() < end {
            break;
        }
        let frame = body.split_to(end);
        let content = &frame[FRAME_HEADER..];
        let source = match kind {
            0 | 1 => Source::Stdout,
            2 => Source::Stderr,
            _ => return Err(engine_words(content)),
        };
        let (time, line) = split_time(content);
        if source != run.source || !run.is_of(time) {
            run.end(frames);
            run = Run::of(source, time);
        }
        run.bytes.extend_from_slice(line);
    }
    run.end(frames);
    Ok(())
}

/// The time at the beginning of an entry, and the line behind it.
fn split_time(content: &[u8]) -> (&[u8], &[u8]) {
    match content.iter().position(|byte| *byte == b' ') {
        Some(end) => (&content[..end], &content[end + 1..]),
        None => (&[], content),
    }
}

/// Entries that become one frame: of one source and one millisecond.
struct Run {
    source: Source,
    millisecond: Millisecond,
    time: Option<SystemTime>,
    bytes: BytesMut,
}

impl Run {
    fn of(source: Source, time: &[u8]) -> Self {
        Self {
            source,
            millisecond: millisecond(time),
            time: read_time(time),
            bytes: BytesMut::new(),
        }
    }

    fn is_of(&self, time: &[u8]) -> bool {
        self.millisecond == millisecond(time)
    }

    fn end(&mut self, frames: &mut VecDeque<Frame>) {
        let bytes: Bytes = self.bytes.split().freeze();
        if !bytes.is_empty() {
            frames.push_back(Frame {
                source: self.source,
                bytes,
                time: self.time,
            });
        }
    }
}

/// The beginning of a time; behind a shorter one stand zeros.
fn millisecond(time: &[u8]) -> Millisecond {
    let mut millisecond = [0; size_of::<Millisecond>()];
    for (to, from) in millisecond.iter_mut().zip(time) {
        *to = *from;
    }
    millisecond
}

/// A time, rounded down to the millisecond.
fn read_time(text: &[u8]) -> Option<SystemTime> {
    let time: Timestamp = std::str::from_utf8(text).ok()?.parse().ok()?;
    let millis = u64::try_from(time.as_millisecond()).ok()?;
    Some(UNIX_EPOCH + Duration::from_millis(millis))
}

fn status(head: &[u8]) -> Option<u16> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let line = std::str::from_utf8(line).ok()?;
    line.split(' ').nth(1)?.parse().ok()
}

fn chunk_size(line: &[u8]) -> Option<usize> {
    let line = std::str::from_utf8(line).ok()?;
    let size = line.split(';').next()?.trim();
    usize::from_str_radix(size, 16).ok()
}

/// The error that the engine's answer with another status stands for.
async fn refusal(status: u16, connection: &mut dyn Connection, mut bytes: BytesMut) -> EngineError {
    #[derive(Deserialize)]
    struct Said {
        message: String,
    }
    // The engine closes the connection behind the words; if it breaks before, only words are lost.
    while bytes.len() < HEAD && more(connection, &mut bytes).await.is_ok() {}
    let text = String::from_utf8_lossy(&bytes);
    let object = text.find('{').zip(text.rfind('}'));
    let said = object.and_then(|(from, to)| serde_json::from_str::<Said>(&text[from..=to]).ok());
    failure::by_status(status, &said.map(|said| said.message).unwrap_or_default())
}

async fn more(connection: &mut dyn Connection, bytes: &mut BytesMut) -> Result<(), EngineError> {
    bytes.reserve(READ);
    match connection.read_buf(bytes).await.map_err(broken)? {
        0 => Err(EngineError::Away(
            "the engine's record of the output broke off".into(),
        )),
        _ => Ok(()),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn broken(error: io::Error) -> EngineError {
    EngineError::Away(error.to_string())
}

fn nonsense(what: &str) -> EngineError {
    EngineError::Failed(format!("the engine's answer makes no sense: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame_bytes(kind: u8, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len()).unwrap().to_be_bytes();
        [&[kind, 0, 0, 0], &length[..], content].concat()
    }

    fn chunk(content: &[u8]) -> Vec<u8> {
        [
            format!("{:x}\r\n", content.len()).as_bytes(),
            content,
            b"\r\n",
        ]
        .concat()
    }

    /// The frames of a body that comes in pieces of that size, and whether its end came.
    fn read(answer: &[u8], piece: usize) -> (Vec<(Source, Vec<u8>)>, bool) {
        let mut chunks = Chunks {
            bytes: BytesMut::new(),
            left: None,
            is_over: false,
        };
        let (mut body, mut frames) = (BytesMut::new(), VecDeque::new());
        for piece in answer.chunks(piece) {
            chunks.bytes.extend_from_slice(piece);
            chunks.take(&mut body).unwrap();
            take_frames(&mut body, &mut frames).unwrap();
        }
        let frames = frames.into_iter();
        (
            frames
                .map(|frame| (frame.source, frame.bytes.to_vec()))
                .collect(),
            chunks.is_over,
        )
    }

    #[test]
    fn a_record_is_the_same_in_pieces_of_any_size() {
        let one = frame_bytes(1, b"one\n");
        let (half, rest) = one.split_at(5);
        let two = frame_bytes(2, b"two\r\n\n");
        let answer = [
            chunk(half),
            chunk(rest),
            chunk(&[two.clone(), one.clone()].concat()),
            b"0\r\n\r\n".to_vec(),
        ]
        .concat();

        for piece in 1..=answer.len() {
            let (frames, is_over) = read(&answer, piece);
            let of = |wanted| {
                let its = frames.iter().filter(move |(source, _)| *source == wanted);
                its.flat_map(|(_, bytes)| bytes.clone()).collect::<Vec<_>>()
            };

            assert!(is_over, "{piece}");
            assert_eq!(of(Source::Stdout), b"one\none\n", "{piece}");
            assert_eq!(of(Source::Stderr), b"two\r\n\n", "{piece}");
        }
    }

    #[test]
    fn a_record_without_its_last_chunk_is_not_whole() {
        let answer = chunk(&frame_bytes(1, b"one\n"));

        let (frames, is_over) = read(&answer, 7);

        assert_eq!(frames, [(Source::Stdout, b"one\n".to_vec())]);
        assert!(!is_over);
    }

    #[test]
    fn the_engines_own_words_in_a_record_are_a_failure() {
        let mut body = BytesMut::from(&frame_bytes(3, b"Error grabbing log\n")[..]);

        let taken = take_frames(&mut body, &mut VecDeque::new());

        assert_eq!(taken, Err(EngineError::Failed("Error grabbing log".into())));
    }

    #[test]
    fn lines_of_one_millisecond_share_a_frame_and_its_time() {
        let line = |nanos: &str, text: &str| {
            frame_bytes(
                1,
                format!("2024-01-01T00:00:01.{nanos}Z {text}\n").as_bytes(),
            )
        };
        let lines = [
            line("007000001", "one"),
            line("007999999", "two"),
            line("008000000", "three"),
        ];
        let mut body = BytesMut::from(&lines.concat()[..]);

        let mut frames = VecDeque::new();
        take_frames(&mut body, &mut frames).unwrap();

        let at = |text: &str| Some(SystemTime::from(text.parse::<Timestamp>().unwrap()));
        let seen: Vec<_> = frames
            .iter()
            .map(|frame| (&frame.bytes[..], frame.time))
            .collect();
        let expected: [(&[u8], _); 2] = [
            (b"one\ntwo\n", at("2024-01-01T00:00:01.007Z")),
            (b"three\n", at("2024-01-01T00:00:01.008Z")),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn times_of_other_engines_are_read_too() {
        let at = |text: &str| Some(SystemTime::from(text.parse::<Timestamp>().unwrap()));

        let time = read_time(b"2024-01-01T02:00:01+02:00");
        assert_eq!(time, at("2024-01-01T00:00:01Z"));
        let time = read_time(b"2024-01-01T00:00:01.5Z");
        assert_eq!(time, at("2024-01-01T00:00:01.5Z"));
        assert_eq!(read_time(b"line"), None);
    }

    #[test]
    fn a_head_tells_its_status() {
        assert_eq!(status(b"HTTP/1.1 404 Not Found\r\n\r\n"), Some(404));
        assert_eq!(status(b"nonsense\r\n"), None);
        assert_eq!(chunk_size(b"1a;x=y\r\n"), Some(26));
        assert_eq!(chunk_size(b"\r\n"), None);
    }
}
