//! Output folders in memory.

use std::{
    io::{self, Cursor, Read, Write},
    path::{Path, PathBuf},
};

use rustix::io::Errno;

use super::super::world::Shared;
use crate::{
    domain::{
        id::TaskId,
        record::{OutputFile, Outputs},
    },
    ports::{
        holdings::{Holdings, Known},
        outputs::OutputStore,
    },
};

/// The port of the output folders.
pub(in super::super) struct Folders(pub(in super::super) Shared);

impl OutputStore for Folders {
    fn prepare(&self, task: &TaskId) -> io::Result<PathBuf> {
        let mut state = self.0.lock();
        state.writes()?;
        state.disk.room_for_a_log()?;
        state.disk.outputs.entry(task.as_str().into()).or_default();
        Ok(Path::new("/outputs").join(task.as_str()))
    }

    fn is_there(&self, task: &TaskId) -> io::Result<bool> {
        Ok(self.0.lock().disk.outputs.contains_key(task.as_str()))
    }

    fn list(&self, task: &TaskId) -> io::Result<Outputs> {
        let disk = &self.0.lock().disk;
        let folder = disk.outputs.get(task.as_str()).into_iter().flatten();
        let files = folder.map(|(name, bytes)| OutputFile {
            path: name.clone(),
            source: name.clone().into(),
            size: bytes.len() as u64,
        });
        Ok(Outputs {
            files: files.collect(),
            skipped: Vec::new(),
        })
    }

    fn open(&self, task: &TaskId, file: &OutputFile) -> io::Result<Box<dyn Read + Send>> {
        let disk = &self.0.lock().disk;
        let folder = disk.outputs.get(task.as_str());
        let bytes = folder.and_then(|folder| folder.get(&file.path)).cloned();
        Ok(Box::new(Cursor::new(bytes.ok_or(Errno::NOENT)?)))
    }

    fn unpack(&self, _: &TaskId, _: &mut dyn Read) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn add(&self, task: &TaskId, name: &str) -> io::Result<Box<dyn Write + Send>> {
        let state = self.0.lock();
        state.writes()?;
        state.disk.room_for_a_log()?;
        drop(state);
        Ok(Box::new(Added {
            world: self.0.clone(),
            task: task.clone(),
            name: name.to_owned(),
            bytes: Vec::new(),
        }))
    }

    fn remove(&self, task: &TaskId) -> io::Result<()> {
        let mut state = self.0.lock();
        state.writes()?;
        state.disk.outputs.remove(task.as_str());
        Ok(())
    }
}

impl Holdings for Folders {
    fn total_bytes(&self) -> u64 {
        0
    }

    fn strangers(&self, known: &Known) -> io::Result<Vec<String>> {
        let state = self.0.lock();
        let folders = state.disk.outputs.keys();
        let is_strange = |name: &&String| {
            !known
                .unfinished
                .iter()
                .any(|task| task.as_str() == name.as_str())
        };
        Ok(folders.filter(is_strange).cloned().collect())
    }

    fn remove_stranger(&self, name: &str) -> io::Result<()> {
        let mut state = self.0.lock();
        state.writes()?;
        state.disk.outputs.remove(name);
        state.note(format!(
            "the output folder {name} is removed: it is nobody's"
        ));
        Ok(())
    }
}

/// A file that grows as it is written.
struct Added {
    world: Shared,
    task: TaskId,
    name: String,
    bytes: Vec<u8>,
}

impl Write for Added {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        let written = self.bytes.clone();
        let mut state = self.world.lock();
        state.writes()?;
        state.disk.put(&self.task, &self.name, written);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
