//! A task's `/output` where it lies inside the container: made before the start, fetched after the end, both by the engine's
//! archive calls, so that it works for an engine on another machine. The archive is passed on as it is: links and special files are
//! entries of it and never followed; judging them is the reader's business.

use std::io;

use bollard::{
    body_full,
    query_parameters::{DownloadFromContainerOptions, UploadToContainerOptions},
};
use bytes::Bytes;
use futures_util::StreamExt;

use super::{DockerEngine, call::path_part, failure, streams::opened};
use crate::{
    domain::id::ContainerId,
    ports::engine::{EngineError, TarStream},
};

/// Where a container finds its output folder.
pub(super) const OUTPUT: &str = "/output";

/// Anybody may write there and nobody removes another's files, like `/tmp`: tasks run under any user.
const OUTPUT_MODE: u32 = 0o1777;

impl DockerEngine {
    /// Makes the output folder in a container that was not started yet. Idempotent.
    pub(super) async fn make_output(&self, container: &ContainerId) -> Result<(), EngineError> {
        let archive = empty_folder().map_err(|error| EngineError::Failed(error.to_string()))?;
        let options = UploadToContainerOptions {
            path: "/".into(),
            ..UploadToContainerOptions::default()
        };
        let id = path_part(&container.0)?;
        self.line
            .docker()?
            .upload_to_container(id, Some(options), body_full(archive.into()))
            .await
            .map_err(failure::of_call)
    }

    /// The container's output folder as an archive, whose paths begin with `output/`.
    pub(super) async fn open_output(
        &self,
        container: &ContainerId,
    ) -> Result<TarStream, EngineError> {
        let options = DownloadFromContainerOptions {
            path: OUTPUT.into(),
        };
        let id = path_part(&container.0)?;
        let docker = self.line.docker()?;
        let pieces = docker.download_from_container(id, Some(options));
        opened(pieces.map(|piece: Result<Bytes, _>| piece.map_err(failure::of_call))).await
    }
}

fn empty_folder() -> io::Result<Vec<u8>> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_mode(OUTPUT_MODE);
    header.set_size(0);
    let mut archive = tar::Builder::new(Vec::new());
    let name = OUTPUT.trim_start_matches('/');
    archive.append_data(&mut header, format!("{name}/"), io::empty())?;
    archive.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_holds_one_folder_for_everybody() {
        let archive = empty_folder().unwrap();
        let mut archive = tar::Archive::new(archive.as_slice());
        let mut entries = archive.entries().unwrap();

        let folder = entries.next().unwrap().unwrap();

        assert_eq!(folder.path().unwrap().to_str(), Some("output/"));
        assert_eq!(folder.header().mode().unwrap(), 0o1777);
        assert!(folder.header().entry_type().is_dir());
        assert!(entries.next().is_none());
    }
}
