//! Files into chunks, in the order and with the marks that the contract wants. Runs on a blocking thread, pushes into a channel,
//! holds two chunks at a time.
//!
//! A file is sent as it is when it is read, not as it was listed: it may have grown or shrunk. A file that cannot be opened is left
//! out; one that breaks off while it is read is ended there, since its beginning was sent already. Both are said to the caller.

use std::{
    collections::HashSet,
    fmt::Write as _,
    io::{self, Read},
    vec,
};

use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::{
    domain::{record::OutputFile, text},
    ports::master::Upload,
    proto::FileChunk,
};

/// Bytes of a file in one chunk.
pub(super) const CHUNK: usize = 1024 * 1024;

/// Bytes of a name, which goes along with every chunk: a longer one is cut, so that a chunk always passes.
const NAME_LIMIT: usize = 4 * 1024;

/// How many sentences about files left out are kept; the others are counted.
const SKIPPED_SHOWN: usize = 10;

/// The other side of the channel is gone: the call has ended without the rest of the files.
#[derive(Debug)]
pub(super) struct NobodyListens;

/// An upload being cut into chunks.
pub(super) struct Framing<'a> {
    upload: &'a Upload,
    chunks: &'a mpsc::Sender<FileChunk>,
    user_id: &'a str,
    task_name: String,
    skipped: Vec<String>,
    skipped_more: usize,
}

/// A file that is being sent.
struct Opened {
    path: String,
    reader: Box<dyn Read + Send>,
}

impl<'a> Framing<'a> {
    pub(super) fn new(upload: &'a Upload, chunks: &'a mpsc::Sender<FileChunk>) -> Self {
        Self {
            upload,
            chunks,
            user_id: text::truncate(&upload.user_id, NAME_LIMIT),
            // The master makes folders of a name with `/`, and then does not find them again.
            task_name: text::truncate(&upload.task_name, NAME_LIMIT).replace('/', "_"),
            skipped: Vec::new(),
            skipped_more: 0,
        }
    }

    /// Sends everything that can be read; returns what was left out.
    ///
    /// The next file is opened before the present one ends: only then is it known which chunk is the last of all.
    pub(super) fn send_all(mut self) -> Result<Vec<String>, NobodyListens> {
        let files = self.distinct();
        let mut files = files.into_iter();
        let mut next = self.open_next(&mut files);
        while let Some(present) = next {
            next = self.send_file(present, &mut files)?;
        }
        if self.skipped_more > 0 {
            let more = self.skipped_more;
            self.skipped.push(format!("{more} more were left out"));
        }
        Ok(self.skipped)
    }

    /// The files with clean paths, each path once: the master joins them unchecked, and a second file under one path destroys the
    /// first.
    fn distinct(&mut self) -> Vec<&'a OutputFile> {
        let mut seen = HashSet::new();
        let mut files = Vec::with_capacity(self.upload.files.len());
        for file in &self.upload.files {
            if !is_clean(&file.path) {
                self.skip(&file.path, "its path is not clean");
            } else if seen.insert(file.path.as_str()) {
                files.push(file);
            } else {
                self.skip(&file.path, "another file has the same path");
            }
        }
        files
    }

    fn open_next(&mut self, files: &mut vec::IntoIter<&'a OutputFile>) -> Option<Opened> {
        for file in files {
            match self.upload.store.open(&self.upload.task, file) {
                Ok(reader) => {
                    return Some(Opened {
                        path: file.path.clone(),
                        reader,
                    });
                }
                Err(error) => self.skip(&file.path, &error.to_string()),
            }
        }
        None
    }

    /// Sends one file, and opens the one after it on the way.
    fn send_file(
        &mut self,
        mut file: Opened,
        files: &mut vec::IntoIter<&'a OutputFile>,
    ) -> Result<Option<Opened>, NobodyListens> {
        let mut hash = Sha256::new();
        let mut present = self.read(&mut file);
        loop {
            hash.update(&present);
            // A short chunk is the last one; a full one is the last where nothing comes after it.
            let following = if present.len() < CHUNK {
                Vec::new()
            } else {
                self.read(&mut file)
            };
            if !following.is_empty() {
                self.push(self.chunk(&file.path, present))?;
                present = following;
                continue;
            }
            let next = self.open_next(files);
            self.push(FileChunk {
                is_last_chunk: true,
                is_last_file: next.is_none(),
                sha256: hex(&hash.finalize()),
                ..self.chunk(&file.path, present)
            })?;
            return Ok(next);
        }
    }

    /// Reads a whole chunk, or what is left of the file. A file that breaks off ends there.
    fn read(&mut self, file: &mut Opened) -> Vec<u8> {
        let mut chunk = Vec::new();
        // The chunk grows with what is there: most files are small.
        let limit = CHUNK as u64;
        if let Err(error) = io::Read::take(&mut file.reader, limit).read_to_end(&mut chunk) {
            self.skip(&file.path, &format!("broke off: {error}"));
            // Nothing more is read of this file, whatever the next call would bring.
            file.reader = Box::new(io::empty());
        }
        chunk
    }

    fn chunk(&self, path: &str, data: Vec<u8>) -> FileChunk {
        FileChunk {
            task_id: self.upload.task.as_str().to_owned(),
            user_id: self.user_id.to_owned(),
            task_name: self.task_name.clone(),
            file_path: path.to_owned(),
            data,
            is_last_chunk: false,
            is_last_file: false,
            timestamp: self.upload.submitted_at,
            sha256: String::new(),
        }
    }

    fn push(&self, chunk: FileChunk) -> Result<(), NobodyListens> {
        self.chunks.blocking_send(chunk).map_err(|_| NobodyListens)
    }

    fn skip(&mut self, path: &str, why: &str) {
        if self.skipped.len() < SKIPPED_SHOWN {
            let path = text::escape(path, 256);
            self.skipped.push(format!("{path}: {why}"));
        } else {
            self.skipped_more += 1;
        }
    }
}

fn is_clean(path: &str) -> bool {
    path.len() <= NAME_LIMIT
        && !path.contains('\0')
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests;
