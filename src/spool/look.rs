//! A survey of the logs in a folder, for `worker-node state`. It changes nothing: damage that opening a log would mend is
//! counted.

use std::{
    fs::{self, File},
    io,
    ops::ControlFlow,
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
};

use super::{
    format::{self, FOOTER, HEADER, Hole, Kind, Record},
    open::walk,
};
use crate::{domain::id::TaskId, ports::state::LogFacts};

/// Surveys every log of the folder, ordered by file name. A log that is removed meanwhile is left out.
///
/// # Errors
/// The folder cannot be read.
pub fn look(folder: &Path) -> io::Result<Vec<LogFacts>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut logs = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.extension().is_some_and(|ending| ending == "log") {
            logs.extend(look_at(&path, name.into_owned())?);
        }
    }
    logs.sort_unstable_by(|one, other| one.file.cmp(&other.file));
    Ok(logs)
}

fn look_at(path: &Path, name: String) -> io::Result<Option<LogFacts>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let found = file.metadata()?;
    let mut facts = LogFacts {
        file: name,
        task: None,
        bytes: found.blocks() * 512,
        records: 0,
        damaged: 0,
        is_ended: false,
        torn: 0,
    };
    let size = found.len();
    let Some(hole) = hole_of(&file)? else {
        facts.damaged = 1;
        return Ok(Some(facts));
    };
    let first = if hole.len() > 0 { hole.start } else { size };
    let mut at = count(&file, HEADER, first, &mut facts)?;
    if hole.len() > 0 && at == hole.start {
        at = count(&file, hole.end, size, &mut facts)?;
    }
    let rest = size.saturating_sub(at);
    facts.is_ended &= rest == FOOTER as u64;
    facts.torn = if facts.is_ended { 0 } else { rest };
    if facts.task.is_none() {
        facts.damaged += 1;
    }
    Ok(Some(facts))
}

fn hole_of(file: &File) -> io::Result<Option<Hole>> {
    let mut header = format::new_header();
    match file.read_exact_at(&mut header, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    Ok(format::read_header(&header).map(|(_, hole)| hole))
}

/// Counts the records between two offsets; returns the offset behind the last of them.
fn count(file: &File, from: u64, until: u64, facts: &mut LogFacts) -> io::Result<u64> {
    let mut at = from;
    walk(file, from, until, |record| {
        at = record.next;
        take(record, facts);
        ControlFlow::Continue(())
    })?;
    Ok(at)
}

fn take(record: &Record<'_>, facts: &mut LogFacts) {
    if !record.is_whole() {
        facts.damaged += 1;
        return;
    }
    facts.records += 1;
    match record.kind {
        Kind::Id => {
            let id = String::from_utf8(record.content.to_vec()).ok();
            facts.task = id.and_then(|id| TaskId::new(id).ok());
        }
        Kind::End => facts.is_ended = true,
        Kind::Output(_) | Kind::Gap | Kind::Position => {}
    }
}
