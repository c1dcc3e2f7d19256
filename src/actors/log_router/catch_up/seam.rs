//! Where a stream was opened while a source was silent, nobody knows whether that source had begun a line: the beginning would
//! be in no stream, and in the record only with its end. So the first line that the stream brings is looked up in the record.

use std::{collections::VecDeque, time::SystemTime};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::time::sleep;

use super::{
    AGAIN, NOT_PROVABLE,
    survey::Tail,
    track::{TAIL, number_of, tail},
};
use crate::{
    actors::log_router::reader::Work,
    domain::{
        log_joint::missing_head,
        log_line::{LINE_LIMIT, Source},
    },
    ports::engine::{EngineError, Frame, Frames},
};

/// How many of the record's last entries are looked at, in turn: the line may not be recorded yet, and others may follow it.
const LOOKS: [usize; 6] = [16, 64, 512, 4_096, 4_096, 16_384];

/// The stream, with the beginning of a first line that it lacks. `open`: of each source that was silent, when the last of its
/// record was written.
pub(super) fn close(work: &Work, frames: Frames, open: [Option<Option<SystemTime>>; 2]) -> Frames {
    if open == [None; 2] {
        return frames;
    }
    let seam = Seam {
        work: work.clone(),
        frames: Box::pin(frames.fuse()),
        open: open.map(|last| last.map(|last| Open { last, held: vec![] })),
        out: VecDeque::new(),
    };
    Box::pin(stream::unfold(seam, async |mut seam| {
        seam.next().await.map(|item| (item, seam))
    }))
}

struct Seam {
    work: Work,
    frames: Frames,
    open: [Option<Open>; 2],
    out: VecDeque<Result<Frame, EngineError>>,
}

/// A source that has brought no whole line.
struct Open {
    /// When the last of its record was written.
    last: Option<SystemTime>,
    held: Vec<u8>,
}

impl Seam {
    async fn next(&mut self) -> Option<Result<Frame, EngineError>> {
        loop {
            if let Some(item) = self.out.pop_front() {
                return Some(item);
            }
            let item = self.frames.next().await;
            let Some(Ok(frame)) = item else {
                self.give_up();
                self.out.extend(item);
                return self.out.pop_front();
            };
            let Some(open) = &mut self.open[number_of(frame.source)] else {
                return Some(Ok(frame));
            };
            open.held.extend_from_slice(&frame.bytes);
            if open.held.contains(&b'\n') || open.held.len() > LINE_LIMIT {
                self.complete(frame.source).await;
            }
        }
    }

    /// No whole line came: what came is what there is.
    fn give_up(&mut self) {
        for (open, source) in self.open.iter_mut().zip([Source::Stdout, Source::Stderr]) {
            if let Some(open) = open.take()
                && !open.held.is_empty()
            {
                self.out.push_back(Ok(piece(source, open.held)));
            }
        }
    }

    /// The first line of a source has come.
    async fn complete(&mut self, source: Source) {
        let Some(open) = self.open[number_of(source)].take() else {
            return;
        };
        match head(&self.work, source, &open).await {
            Some(head) if head.is_empty() => {}
            Some(head) => self.out.push_back(Ok(piece(source, head))),
            None => self.work.note(NOT_PROVABLE).await,
        }
        self.out.push_back(Ok(piece(source, open.held)));
    }
}

/// What the stream lacks of that line; `None`: it is not found.
async fn head(work: &Work, source: Source, open: &Open) -> Option<Vec<u8>> {
    let line = first_line(&open.held)?;
    let (_, spooled) = work
        .progress
        .during(tail(work.spool.cursor(), source, TAIL))
        .await
        .ok()?;
    for entries in LOOKS {
        let Tail { frames, .. } = Tail::read(work, entries).await.ok()?;
        let new = frames
            .iter()
            .filter(|frame| frame.source == source && frame.time > open.last);
        let new: Vec<u8> = new.flat_map(|frame| frame.bytes.to_vec()).collect();
        let recorded = first_line(&new);
        if let Some(head) = recorded.and_then(|recorded| missing_head(recorded, &spooled, line)) {
            return Some(head.to_vec());
        }
        sleep(AGAIN).await;
    }
    None
}

/// With its newline.
fn first_line(bytes: &[u8]) -> Option<&[u8]> {
    let newline = bytes.iter().position(|byte| *byte == b'\n')?;
    Some(&bytes[..=newline])
}

fn piece(source: Source, bytes: Vec<u8>) -> Frame {
    Frame {
        source,
        bytes: Bytes::from(bytes),
        time: None,
        entries: 0,
    }
}
