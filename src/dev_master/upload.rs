//! One UploadTaskFiles stream, chunk by chunk: what the real master would have stored, and which rules the worker broke.
//! Pure: `service` feeds it. It keeps the bytes of small files and the digest of every file, so that a file of any size
//! costs the same memory.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::judge::Rule;
use crate::proto::FileChunk;

/// Bytes of the largest file whose content is kept.
const KEPT_BYTES: usize = 1 << 20;
/// Bytes of the largest chunk: it should leave room under the 4 MiB of a message.
const LARGEST_CHUNK: usize = 3_670_016;

/// How an upload ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UploadEnd {
    /// The stream ended in order, and the master has taken it.
    Complete,
    /// The stream broke off, with the text of its error.
    Broken(String),
}

/// What one UploadTaskFiles stream carried.
#[derive(Clone, Debug)]
pub struct Upload {
    /// The task's id, from the first chunk.
    pub task_id: String,
    /// The user's id, from the first chunk.
    pub user_id: String,
    /// The task's name, from the first chunk.
    pub task_name: String,
    /// When the task was submitted, in Unix seconds, from the first chunk.
    pub timestamp: i64,
    /// The files in the order of their first chunks.
    pub files: Vec<UploadedFile>,
    /// How many chunks came.
    pub chunks: usize,
    /// How it ended.
    pub end: UploadEnd,
}

impl Upload {
    /// The file of this path.
    pub fn file(&self, path: &str) -> Option<&UploadedFile> {
        self.files.iter().find(|file| file.path == path)
    }
}

/// One file as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadedFile {
    /// The path, as sent.
    pub path: String,
    /// The size in bytes.
    pub size: u64,
    /// SHA-256 of the bytes that came, in lower-case hex.
    pub sha256: String,
    /// The bytes, of files up to 1 MiB.
    pub bytes: Option<Vec<u8>>,
    /// How many chunks it took.
    pub chunks: usize,
}

/// A broken rule and the sentence that says how.
pub(super) type Finding = (Rule, String);

/// Follows one stream and judges it.
#[derive(Default)]
pub(super) struct UploadCheck {
    first: Option<FileChunk>,
    open: Option<OpenFile>,
    closed: BTreeSet<String>,
    files: Vec<UploadedFile>,
    chunks: usize,
    last_file_seen: bool,
    findings: Vec<Finding>,
}

struct OpenFile {
    path: String,
    size: u64,
    hash: Sha256,
    bytes: Option<Vec<u8>>,
    chunks: usize,
}

impl UploadCheck {
    /// Takes the next chunk.
    pub(super) fn chunk(&mut self, mut chunk: FileChunk) {
        self.chunks += 1;
        let data = std::mem::take(&mut chunk.data);
        self.check_names(&chunk);
        if self.last_file_seen {
            self.find(
                Rule::EarlyLastFile,
                format!("{:?} came after is_last_file", chunk.file_path),
            );
            return;
        }
        if data.len() > LARGEST_CHUNK {
            self.find(
                Rule::MessageSize,
                format!("a chunk of {:?} has {} bytes", chunk.file_path, data.len()),
            );
        }
        self.switch_file(&chunk);
        self.append(&data, &chunk);
        if chunk.is_last_chunk {
            self.close_file(&chunk.sha256);
        }
        if chunk.is_last_file {
            self.last_file_seen = true;
            if !chunk.is_last_chunk {
                self.find(
                    Rule::EarlyLastFile,
                    format!(
                        "{:?} has is_last_file on a chunk that is not its last",
                        chunk.file_path
                    ),
                );
            }
        }
    }

    /// What came, and what was wrong with it, now that the stream has ended.
    pub(super) fn finish(mut self, end: UploadEnd) -> (Upload, Vec<Finding>) {
        if end == UploadEnd::Complete {
            self.check_end();
        }
        let first = self.first.unwrap_or_default();
        let upload = Upload {
            task_id: first.task_id,
            user_id: first.user_id,
            task_name: first.task_name,
            timestamp: first.timestamp,
            files: self.files,
            chunks: self.chunks,
            end,
        };
        (upload, self.findings)
    }

    fn check_end(&mut self) {
        if self.chunks == 0 {
            return self.find(
                Rule::EmptyUpload,
                "an upload stream carried no chunk".to_owned(),
            );
        }
        if let Some(open) = self.open.take() {
            self.find(
                Rule::UnfinishedUpload,
                format!("{:?} has no is_last_chunk", open.path),
            );
        }
        if !self.last_file_seen {
            self.find(
                Rule::UnfinishedUpload,
                "no chunk had is_last_file".to_owned(),
            );
        }
    }

    fn check_names(&mut self, chunk: &FileChunk) {
        if let Err(why) = clean_path(&chunk.file_path) {
            self.find(
                Rule::UncleanPath,
                format!("file_path {:?} {why}", chunk.file_path),
            );
        }
        if chunk.task_name.contains('/') {
            self.find(
                Rule::SlashInTaskName,
                format!("task_name {:?} hides the files", chunk.task_name),
            );
        }
        match &self.first {
            None if chunk.task_id.is_empty() => self.find(
                Rule::UploadNames,
                "the first chunk names no task".to_owned(),
            ),
            Some(first) if !chunk.task_id.is_empty() && chunk.task_id != first.task_id => {
                let sentence = format!(
                    "one stream carries {:?} and {:?}",
                    first.task_id, chunk.task_id
                );
                self.find(Rule::Interleaved, sentence);
            }
            None | Some(_) => {}
        }
        if self.first.is_none() {
            self.first = Some(chunk.clone());
        }
    }

    /// Makes the chunk's file the open one, as the real master does: a file that was open before is left as it is.
    fn switch_file(&mut self, chunk: &FileChunk) {
        let path = &chunk.file_path;
        if self.open.as_ref().is_some_and(|open| open.path == *path) {
            return;
        }
        if let Some(open) = self.open.take() {
            self.find(
                Rule::Interleaved,
                format!("{path:?} came before the end of {:?}", open.path),
            );
            self.closed.insert(open.path);
        }
        if self.closed.contains(path) {
            self.find(
                Rule::ChunkAfterLast,
                format!("{path:?} was already complete and is now truncated"),
            );
            self.files.retain(|file| file.path != *path);
        }
        self.open = Some(OpenFile {
            path: path.clone(),
            size: 0,
            hash: Sha256::new(),
            bytes: Some(Vec::new()),
            chunks: 0,
        });
    }

    fn append(&mut self, data: &[u8], chunk: &FileChunk) {
        let Some(open) = &mut self.open else { return };
        open.chunks += 1;
        open.size += data.len() as u64;
        open.hash.update(data);
        if open.size > KEPT_BYTES as u64 {
            open.bytes = None;
        }
        if let Some(bytes) = &mut open.bytes {
            bytes.extend_from_slice(data);
        }
        if data.is_empty() && !chunk.is_last_chunk {
            self.find(
                Rule::MessageSize,
                format!("an empty chunk in the middle of {:?}", chunk.file_path),
            );
        }
    }

    fn close_file(&mut self, announced: &str) {
        let Some(open) = self.open.take() else { return };
        let sha256 = hex(&open.hash.finalize());
        if !announced.is_empty() && announced != sha256 {
            self.find(
                Rule::WrongDigest,
                format!("{:?} came as {sha256}, announced as {announced}", open.path),
            );
        }
        self.closed.insert(open.path.clone());
        self.files.push(UploadedFile {
            path: open.path,
            size: open.size,
            sha256,
            bytes: open.bytes,
            chunks: open.chunks,
        });
    }

    fn find(&mut self, rule: Rule, sentence: String) {
        self.findings.push((rule, sentence));
    }
}

/// Why a path is not clean and relative, if so: the real master joins paths unchecked.
fn clean_path(path: &str) -> Result<(), &'static str> {
    if path.is_empty() {
        return Err("is empty");
    }
    if path.starts_with('/') {
        return Err("is absolute");
    }
    if path.contains('\0') {
        return Err("holds a NUL");
    }
    let unclean = |part: &str| part.is_empty() || part == "." || part == "..";
    if path.split('/').any(unclean) {
        return Err("is not clean");
    }
    Ok(())
}

/// Lower-case hex of some bytes.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(path: &str, data: &[u8], last_chunk: bool, last_file: bool) -> FileChunk {
        FileChunk {
            task_id: "t1".to_owned(),
            file_path: path.to_owned(),
            data: data.to_vec(),
            is_last_chunk: last_chunk,
            is_last_file: last_file,
            ..FileChunk::default()
        }
    }

    fn follow(chunks: impl IntoIterator<Item = FileChunk>) -> (Upload, Vec<Rule>) {
        let mut check = UploadCheck::default();
        chunks.into_iter().for_each(|chunk| check.chunk(chunk));
        let (upload, findings) = check.finish(UploadEnd::Complete);
        (upload, findings.into_iter().map(|(rule, _)| rule).collect())
    }

    #[test]
    fn files_come_out_as_they_went_in() {
        let (upload, findings) = follow([
            chunk("a.txt", b"one ", false, false),
            chunk("a.txt", b"two", true, false),
            chunk("sub/empty", b"", true, true),
        ]);

        assert_eq!(findings, []);
        assert_eq!(
            upload.file("a.txt").unwrap().bytes.as_deref(),
            Some(&b"one two"[..])
        );
        assert_eq!(upload.file("sub/empty").unwrap().size, 0);
    }

    #[test]
    fn a_large_file_keeps_its_digest_alone() {
        let piece = vec![7; KEPT_BYTES];
        let (upload, _) = follow([
            chunk("big", &piece, false, false),
            chunk("big", &piece, true, true),
        ]);

        let file = upload.file("big").unwrap();
        assert_eq!((file.size, &file.bytes), (2 * KEPT_BYTES as u64, &None));
        assert_eq!(file.sha256, hex(&Sha256::digest(vec![7; 2 * KEPT_BYTES])));
    }

    #[test]
    fn interleaved_files_are_found_and_lost() {
        let (upload, findings) = follow([
            chunk("a", b"1", false, false),
            chunk("b", b"2", true, false),
            chunk("a", b"3", true, true),
        ]);

        assert_eq!(findings, [Rule::Interleaved, Rule::ChunkAfterLast]);
        assert_eq!(upload.file("a").unwrap().bytes.as_deref(), Some(&b"3"[..]));
    }

    #[test]
    fn a_chunk_after_the_last_truncates_the_file() {
        let (upload, findings) =
            follow([chunk("a", b"1", true, false), chunk("a", b"2", true, true)]);

        assert_eq!(findings, [Rule::ChunkAfterLast]);
        assert_eq!(upload.files.len(), 1);
    }

    #[test]
    fn an_early_last_file_loses_the_later_ones() {
        let (upload, findings) =
            follow([chunk("a", b"1", true, true), chunk("b", b"2", true, true)]);

        assert_eq!(findings, [Rule::EarlyLastFile]);
        assert!(upload.file("b").is_none());
    }

    #[test]
    fn an_end_in_the_middle_is_found() {
        assert_eq!(follow([]).1, [Rule::EmptyUpload]);
        assert_eq!(
            follow([chunk("a", b"1", true, false)]).1,
            [Rule::UnfinishedUpload]
        );
        assert_eq!(
            follow([chunk("a", b"1", false, false)]).1,
            [Rule::UnfinishedUpload; 2]
        );
    }

    #[test]
    fn paths_that_could_leave_the_folder_are_found() {
        for path in [
            "",
            "/etc/passwd",
            "../a",
            "a/../b",
            "a//b",
            "./a",
            "a/",
            "a\0b",
        ] {
            assert_eq!(
                follow([chunk(path, b"1", true, true)]).1,
                [Rule::UncleanPath],
                "{path:?}"
            );
        }
        assert_eq!(follow([chunk("a/b..c/.d", b"1", true, true)]).1, []);
    }

    #[test]
    fn a_wrong_digest_and_a_slash_in_the_name_are_found() {
        let mut wrong = chunk("a", b"1", true, true);
        wrong.sha256 = "00".repeat(32);
        wrong.task_name = "team/job".to_owned();

        assert_eq!(
            follow([wrong]).1,
            [Rule::SlashInTaskName, Rule::WrongDigest]
        );
    }
}
