//! One source in the engine's record: where the record goes on beyond the spool, and what it ends with.

use std::{
    collections::VecDeque,
    mem,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;

use super::{
    deaths::{Deaths, Pace, Passed},
    track::{Mode, Spooled, Track},
};
use crate::{
    domain::log_line::Source,
    ports::{engine::Frame, spool::Spool},
};

/// So many bytes of the end of a record are kept, to be joined with a stream.
const KEPT: usize = 8 << 20;

/// The spool's newest bytes came at most that long after they had been written, and an engine that died takes longer to come up
/// again.
pub(super) const DELIVERY: Duration = Duration::from_millis(200);

/// Where the record of one source goes on beyond the spool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Place {
    /// To be found by comparing from the beginning.
    #[default]
    Unknown,
    /// After so many bytes of the record, when this unfinished line of the spool has been skipped.
    Within(u64, Option<SystemTime>, Vec<u8>),
    /// Behind so many bytes of the record, the last of which were written then, and behind these of the spool, as far as the
    /// record has them: it may have them later, or never.
    Ahead(u64, Option<SystemTime>, Vec<u8>),
    /// After so many bytes of the record, the last of which were written then.
    After(u64, Option<SystemTime>),
    /// Where it was written later than what the spool had.
    Newer,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Side {
    pub(super) place: Place,
    pub(super) pace: Pace,
    /// When the last of it was written that was read.
    pub(super) last: Option<SystemTime>,
    /// When what was read last was written.
    newest_seen: Option<SystemTime>,
    end: VecDeque<Bytes>,
    kept: usize,
}

impl Side {
    /// The record is read once more.
    pub(super) fn begin(&mut self) {
        *self = Self {
            place: mem::take(&mut self.place),
            ..Self::default()
        };
    }

    /// Its way through the record, beside the spool, which had nothing newer than that.
    pub(super) fn track(
        &self,
        spool: &Arc<dyn Spool>,
        source: Source,
        newest: Option<SystemTime>,
    ) -> Track {
        Track::new(match &self.place {
            Place::Unknown => Mode::comparing(Spooled::From(spool.cursor(), source)),
            Place::Within(at, written, line) => {
                let line = Mode::comparing(Spooled::These(line.clone()));
                Mode::Skipping(*at, *written, Box::new(line))
            }
            Place::Ahead(at, written, bytes) => {
                Mode::Skipping(*at, *written, Box::new(Mode::ahead(bytes)))
            }
            Place::After(at, written) => Mode::Skipping(*at, *written, Box::new(Mode::Appending)),
            Place::Newer => newest.map_or(Mode::Appending, |newest| Mode::Newer(newest + DELIVERY)),
        })
    }

    /// Takes note of what was read; tells when it is the first beyond a death.
    pub(super) fn see(&mut self, frame: &Frame, deaths: &Deaths) -> Option<Passed> {
        self.last = self.last.max(frame.time);
        self.newest_seen = frame.time;
        self.kept += frame.bytes.len();
        self.end.push_back(frame.bytes.clone());
        while self.kept > KEPT
            && let Some(first) = self.end.pop_front()
        {
            self.kept -= first.len();
        }
        self.pace.go_on(deaths, frame.time, frame.bytes.len())
    }

    /// The reading ended here. What has been compared is compared again: the record may have lost its beginning by then.
    pub(super) fn stop(&mut self, track: &Track) {
        if matches!(track.mode, Mode::Appending) && self.place != Place::Unknown {
            self.place = Place::After(track.read, self.newest_seen);
        }
    }

    /// Whether nothing was read.
    pub(super) fn is_empty(&self) -> bool {
        self.end.is_empty()
    }

    /// What was read last.
    pub(super) fn end(&self) -> Vec<u8> {
        self.end.iter().flatten().copied().collect()
    }
}
