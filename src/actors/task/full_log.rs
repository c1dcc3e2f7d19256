//! Adds a log that is too long for a report to the output files, as a whole.

use std::{io, sync::Arc};

use super::TaskEnv;
use crate::{
    domain::{
        id::TaskId,
        log_line::Line,
        text::{REPORT_LOG_LIMIT, repair_utf8},
    },
    ports::spool::{LogCursor, LogItem, Spool},
    supervision::threads::blocking,
};

/// The file's name among the task's output files.
const NAME: &str = "worker-node-full-log.txt";

/// Most bytes that one byte of a log takes in a report: an invalid byte becomes a character of three.
const REPAIRED: u64 = 3;

impl TaskEnv {
    /// Adds the log to the output files if a report cannot carry all of it. The bytes are as the container wrote them, both
    /// sources in the order in which they came.
    pub(super) async fn keep_full_log(
        &self,
        task: &TaskId,
        spool: Option<Arc<dyn Spool>>,
    ) -> io::Result<()> {
        let Some(spool) = spool else { return Ok(()) };
        let (stdout, stderr) = spool.appended();
        if (stdout + stderr) * REPAIRED <= REPORT_LOG_LIMIT as u64
            || fits_a_report(spool.cursor()).await?
        {
            return Ok(());
        }
        let (outputs, name) = (Arc::clone(&self.outputs), task.clone());
        let mut file = blocking(move || outputs.add(&name, NAME)).await??;
        let mut cursor = spool.cursor();
        // One blocking thread per piece, and none that waits for the next: reading the log needs such a thread too.
        while let Some(lines) = next_lines(cursor.as_mut()).await? {
            let write = move || file.write_all(&joined(&lines)).map(|()| file);
            file = blocking(write).await??;
        }
        blocking(move || file.flush()).await?
    }
}

async fn fits_a_report(mut cursor: Box<dyn LogCursor>) -> io::Result<bool> {
    let mut length = 0;
    while let Some(lines) = next_lines(cursor.as_mut()).await? {
        length += lines
            .iter()
            .map(|line| repair_utf8(&line.bytes).len() + 1)
            .sum::<usize>();
        if length > REPORT_LOG_LIMIT {
            return Ok(false);
        }
    }
    Ok(true)
}

fn joined(lines: &[Line]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in lines {
        bytes.extend_from_slice(&line.bytes);
        if !line.continued {
            bytes.push(b'\n');
        }
    }
    bytes
}

/// The next lines of the log, unfinished ones at the end included; `None` after the last.
pub(crate) async fn next_lines(cursor: &mut dyn LogCursor) -> io::Result<Option<Vec<Line>>> {
    let lines = match cursor.next().await? {
        LogItem::Lines(lines) => lines,
        LogItem::CaughtUp => cursor.take_unfinished(),
        LogItem::End(_) => Vec::new(),
    };
    Ok((!lines.is_empty()).then_some(lines))
}
