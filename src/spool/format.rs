//! The bytes of a log file: header, records, footer. Pure: knows nothing of files but offsets. All numbers are little-endian.
//!
//! ```text
//! header  magic 8 | slot 64 | slot 64
//! slot    generation 8 | start 8 | end 8 | before 8 | stdout 8 | stderr 8 | crc32 4 | zeros 12
//! record  length 4 | kind 1 | zeros 3 | microseconds 8 | crc32 of content 4 | crc32 of all before and the offset 4 | content
//! place   device 8 | inode 8 | offset 8 | nanoseconds 8 | run 8 | stdout 8 | stderr 8
//! end     word 1 | stdout 8 | stderr 8 | trailer
//! footer  magic 8 | offset of the end record 8 | crc32 4 | zeros 4
//! ```

use crate::{
    domain::{log_line::Source, outcome::StatusWord},
    ports::{
        engine_log::Place,
        spool::{LogEnd, Position},
    },
};

/// Offset of the first record.
pub(super) const HEADER: u64 = 8 + 2 * SLOT as u64;
/// Bytes of the footer.
pub(super) const FOOTER: usize = 24;
/// Most bytes of content that one record is written with; longer output is split. A reader's chunk holds one such record.
pub(super) const RECORD_LIMIT: usize = 64 * 1024;
/// Most bytes of content that a record may have when it is read; a head that says more is damaged.
const CONTENT_LIMIT: usize = 1024 * 1024;
/// Most bytes of an end record's trailer.
pub(super) const TRAILER_LIMIT: usize = CONTENT_LIMIT - 17;

const MAGIC: [u8; 8] = *b"WNSPOOL1";
const FOOTER_MAGIC: [u8; 8] = *b"WNSPLEND";
const SLOT: usize = 64;
const SLOT_VALUES: usize = 48;
/// Bytes of a record's head, which lies before its content.
pub(super) const HEAD: usize = 24;

/// What a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The task's id; the first record.
    Id,
    /// What a container wrote, or a line of the worker's.
    Output(Source),
    /// How many bytes of stdout and stderr were left out here, because the disk or the log was full.
    Gap,
    /// How the log ended; the last record.
    End,
    /// A place in the engine's own log, up to which this log has the container's output.
    Position,
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Self::Id => 1,
            Self::Output(Source::Stdout) => 2,
            Self::Output(Source::Stderr) => 3,
            Self::Output(Source::Worker) => 4,
            Self::Gap => 5,
            Self::End => 6,
            Self::Position => 7,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Id,
            2 => Self::Output(Source::Stdout),
            3 => Self::Output(Source::Stderr),
            4 => Self::Output(Source::Worker),
            5 => Self::Gap,
            6 => Self::End,
            7 => Self::Position,
            _ => return None,
        })
    }
}

/// The part of a log that was dropped: from the end of its first quarter to where it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Hole {
    /// Offset of the first byte dropped.
    pub(super) start: u64,
    /// Where the log goes on: the offset of the first record after the hole.
    pub(super) end: u64,
    /// Bytes of container output before the hole.
    pub(super) before: u64,
    /// Bytes of stdout in the hole.
    pub(super) stdout: u64,
    /// Bytes of stderr in the hole.
    pub(super) stderr: u64,
}

impl Hole {
    /// Bytes of the file that the hole takes up.
    pub(super) fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Whether the offset lies in the hole.
    pub(super) fn holds(&self, at: u64) -> bool {
        (self.start..self.end).contains(&at)
    }

    /// Bytes of container output up to the hole's end.
    pub(super) fn behind(&self) -> u64 {
        self.before + self.stdout + self.stderr
    }
}

/// A new file's header.
pub(super) fn new_header() -> Vec<u8> {
    let mut header = MAGIC.to_vec();
    header.extend(slot(0, &Hole::default()));
    header.resize(MAGIC.len() + 2 * SLOT, 0);
    header
}

/// Offset of the slot for a generation: generations alternate between two slots, so that a slot torn by a power cut leaves the
/// other one whole.
pub(super) fn slot_offset(generation: u64) -> u64 {
    (MAGIC.len() + SLOT * usize::from(generation % 2 == 1)) as u64
}

/// A slot's bytes.
pub(super) fn slot(generation: u64, hole: &Hole) -> [u8; SLOT] {
    let mut bytes = [0; SLOT];
    let values = [
        generation,
        hole.start,
        hole.end,
        hole.before,
        hole.stdout,
        hole.stderr,
    ];
    for (place, value) in bytes.chunks_exact_mut(8).zip(values) {
        place.copy_from_slice(&value.to_le_bytes());
    }
    let sum = crc32fast::hash(&bytes[..SLOT_VALUES]);
    bytes[SLOT_VALUES..SLOT_VALUES + 4].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// Generation and hole of the newest whole slot; `None` where the bytes are no header of this format.
pub(super) fn read_header(header: &[u8]) -> Option<(u64, Hole)> {
    let slots = header.strip_prefix(&MAGIC)?.get(..2 * SLOT)?;
    let whole = slots.chunks_exact(SLOT).filter_map(read_slot);
    whole.max_by_key(|(generation, _)| *generation)
}

fn read_slot(bytes: &[u8]) -> Option<(u64, Hole)> {
    if crc32fast::hash(&bytes[..SLOT_VALUES]) != number32(bytes, SLOT_VALUES) {
        return None;
    }
    let hole = Hole {
        start: number64(bytes, 8),
        end: number64(bytes, 16),
        before: number64(bytes, 24),
        stdout: number64(bytes, 32),
        stderr: number64(bytes, 40),
    };
    (hole.start <= hole.end).then(|| (number64(bytes, 0), hole))
}

/// Records on their way to the file, in one buffer for one write.
pub(super) struct Batch {
    bytes: Vec<u8>,
    at: u64,
    micros: i64,
    open: Option<(usize, Kind)>,
}

impl Batch {
    /// A batch that will be written at the offset `at`. Records have the time `micros` until output with another time is added.
    pub(super) fn new(at: u64, micros: i64, capacity: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(capacity),
            at,
            micros,
            open: None,
        }
    }

    /// Adds output; pieces of one source and time that follow each other share records.
    pub(super) fn output(&mut self, source: Source, micros: i64, mut bytes: &[u8]) {
        let kind = Kind::Output(source);
        if micros != self.micros {
            self.finish();
            self.micros = micros;
        }
        while !bytes.is_empty() {
            let start = match self.open {
                Some((start, open)) if open == kind && self.content(start) < RECORD_LIMIT => start,
                _ => self.begin(kind),
            };
            let room = RECORD_LIMIT - self.content(start);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.bytes.extend_from_slice(now);
            bytes = later;
        }
    }

    /// Adds a record that shares its content with no other piece.
    pub(super) fn record(&mut self, kind: Kind, content: &[u8]) {
        self.begin(kind);
        self.bytes.extend_from_slice(content);
        self.finish();
    }

    /// Adds a gap record: how many bytes of each stream were left out.
    pub(super) fn gap(&mut self, stdout: u64, stderr: u64) {
        let content = [stdout.to_le_bytes(), stderr.to_le_bytes()].concat();
        self.record(Kind::Gap, &content);
    }

    /// Adds a position record: where reading goes on in the engine's own log.
    pub(super) fn position(&mut self, position: &Position) {
        let Position {
            place,
            run,
            stdout,
            stderr,
        } = *position;
        let values = [
            place.device,
            place.inode,
            place.offset,
            place.written.cast_unsigned(),
            run,
            stdout,
            stderr,
        ];
        self.record(Kind::Position, &values.map(u64::to_le_bytes).concat());
    }

    /// Adds the end record, and the footer that tells its offset.
    pub(super) fn end(&mut self, end: &LogEnd, stdout: u64, stderr: u64) {
        let word = match end.word {
            StatusWord::Success => 1,
            StatusWord::Failed => 2,
            StatusWord::Cancelled => 3,
        };
        let counts = [stdout.to_le_bytes(), stderr.to_le_bytes()].concat();
        let content = [&[word], counts.as_slice(), end.trailer.as_bytes()].concat();
        self.finish();
        let at = self.at + self.bytes.len() as u64;
        self.record(Kind::End, &content);
        let mut footer = FOOTER_MAGIC.to_vec();
        footer.extend(at.to_le_bytes());
        footer.extend(crc32fast::hash(&footer).to_le_bytes());
        footer.resize(FOOTER, 0);
        self.bytes.extend(footer);
    }

    /// The file's offset behind all records so far: where the next one will begin.
    pub(super) fn next(&mut self) -> u64 {
        self.finish();
        self.at + self.bytes.len() as u64
    }

    /// The bytes for the file.
    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        self.finish();
        self.bytes
    }

    fn content(&self, start: usize) -> usize {
        self.bytes.len() - start - HEAD
    }

    fn begin(&mut self, kind: Kind) -> usize {
        self.finish();
        let start = self.bytes.len();
        self.open = Some((start, kind));
        self.bytes.resize(start + HEAD, 0);
        start
    }

    fn finish(&mut self) {
        let Some((start, kind)) = self.open.take() else {
            return;
        };
        let (head, content) = self.bytes[start..].split_at_mut(HEAD);
        let length = u32::try_from(content.len()).expect("a record has a limit");
        head[0..4].copy_from_slice(&length.to_le_bytes());
        head[4] = kind.byte();
        head[8..16].copy_from_slice(&self.micros.to_le_bytes());
        head[16..20].copy_from_slice(&crc32fast::hash(content).to_le_bytes());
        let sum = head_sum(head, self.at + start as u64);
        head[20..24].copy_from_slice(&sum.to_le_bytes());
    }
}

/// The checksum of a head. The offset is part of it, so that bytes of an old record are never taken for a record at another
/// place.
fn head_sum(head: &[u8], at: u64) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&head[..20]);
    sum.update(&at.to_le_bytes());
    sum.finalize()
}

/// A record as read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    /// The record's offset in the file.
    pub(super) at: u64,
    /// Offset of the next record.
    pub(super) next: u64,
    /// What the content is.
    pub(super) kind: Kind,
    /// When the record arrived, in microseconds since the Unix epoch.
    pub(super) micros: i64,
    /// The content; it is what was written only if `is_whole`.
    pub(super) content: &'a [u8],
    sum: u32,
}

impl Record<'_> {
    /// Whether the content is what was written, by its checksum.
    pub(super) fn is_whole(&self) -> bool {
        crc32fast::hash(self.content) == self.sum
    }

    /// Bytes of container output (stdout, stderr) that the record stands for: its content, or the gap's counts.
    pub(super) fn counts(&self) -> (u64, u64) {
        let length = self.content.len() as u64;
        match self.kind {
            Kind::Output(Source::Stdout) => (length, 0),
            Kind::Output(Source::Stderr) => (0, length),
            Kind::Gap if length == 16 => (number64(self.content, 0), number64(self.content, 8)),
            Kind::Gap | Kind::Id | Kind::End | Kind::Position | Kind::Output(Source::Worker) => {
                (0, 0)
            }
        }
    }
}

/// Parses the content of a position record; `None` where its length is wrong.
pub(super) fn read_position(content: &[u8]) -> Option<Position> {
    if content.len() != 7 * 8 {
        return None;
    }
    let value = |number: usize| number64(content, 8 * number);
    Some(Position {
        place: Place {
            device: value(0),
            inode: value(1),
            offset: value(2),
            written: value(3).cast_signed(),
        },
        run: value(4),
        stdout: value(5),
        stderr: value(6),
    })
}

/// Where a record's head should be, there is none with a right checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Damaged;

/// Parses the record at the beginning of `bytes`, which lie at the file's offset `at`; `None` where `bytes` end before the record
/// does.
pub(super) fn read_record(bytes: &[u8], at: u64) -> Result<Option<Record<'_>>, Damaged> {
    let Some(length) = record_length(bytes, at)? else {
        return Ok(None);
    };
    let Some(content) = bytes.get(HEAD..length) else {
        return Ok(None);
    };
    Ok(Some(Record {
        at,
        next: at + length as u64,
        kind: Kind::from_byte(bytes[4]).ok_or(Damaged)?,
        micros: number64(bytes, 8).cast_signed(),
        content,
        sum: number32(bytes, 16),
    }))
}

/// Bytes of the record at the beginning of `bytes`, head included; `None` where `bytes` end within the head.
pub(super) fn record_length(bytes: &[u8], at: u64) -> Result<Option<usize>, Damaged> {
    let Some(head) = bytes.get(..HEAD) else {
        return Ok(None);
    };
    let length = number32(head, 0) as usize;
    if length > CONTENT_LIMIT || head_sum(head, at) != number32(head, 20) {
        return Err(Damaged);
    }
    Ok(Some(HEAD + length))
}

/// The first place in `bytes` where a head may stand: a cheap test without the checksum, so the caller must check it.
pub(super) fn find_head(bytes: &[u8]) -> Option<usize> {
    let heads = bytes.windows(HEAD);
    heads.into_iter().position(|head| {
        head[5..8] == [0; 3]
            && Kind::from_byte(head[4]).is_some()
            && number32(head, 0) as usize <= CONTENT_LIMIT
    })
}

/// Whether a record whose head is damaged was output of the container, as far as its kind byte tells.
pub(super) fn looks_like_output(head: &[u8]) -> bool {
    let kind = head.get(4).and_then(|byte| Kind::from_byte(*byte));
    matches!(kind, Some(Kind::Output(Source::Stdout | Source::Stderr)))
}

/// Offset of the end record of a closed log, from the file's last bytes; `None` where they are no footer.
pub(super) fn read_footer(footer: &[u8; FOOTER]) -> Option<u64> {
    let whole =
        footer.starts_with(&FOOTER_MAGIC) && crc32fast::hash(&footer[..16]) == number32(footer, 16);
    whole.then(|| number64(footer, 8))
}

/// Parses the content of an end record: how the log ended, and the bytes of stdout and stderr ever appended.
pub(super) fn read_end(content: &[u8]) -> Option<(LogEnd, u64, u64)> {
    let word = match content.first()? {
        1 => StatusWord::Success,
        2 => StatusWord::Failed,
        3 => StatusWord::Cancelled,
        _ => return None,
    };
    let trailer = String::from_utf8(content.get(17..)?.to_vec()).ok()?;
    let end = LogEnd { word, trailer };
    Some((end, number64(content, 1), number64(content, 9)))
}

fn number32(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

fn number64(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}
