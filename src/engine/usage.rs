//! What a container uses. Where its control group lies on this machine that is read, which costs the engine nothing; else the
//! engine is asked.

pub(super) mod control_group;
mod told;

use std::path::Path;

use bollard::query_parameters::StatsOptions;
use futures_util::StreamExt;

use super::{DockerEngine, call::path_part, failure};
use crate::{
    domain::{id::ContainerId, usage::Usage},
    ports::engine::EngineError,
};

impl DockerEngine {
    /// What the container uses; `None` where it does not run.
    pub(super) async fn read_usage(
        &self,
        container: &ContainerId,
    ) -> Result<Option<Usage>, EngineError> {
        let id = path_part(&container.0)?;
        let name = id.to_owned();
        let read = tokio::task::spawn_blocking(move || control_group::read(Path::new("/"), &name));
        if let Ok(Some(usage)) = read.await {
            return Ok(Some(usage));
        }
        let options = StatsOptions {
            stream: false,
            one_shot: true,
        };
        let mut answers = self.line.docker()?.stats(id, Some(options));
        match answers.next().await {
            Some(Ok(stats)) => Ok(told::usage(&stats)),
            Some(Err(error)) => Err(failure::of_call(error)),
            None => Err(EngineError::Away(
                "it closed the stats without an answer".into(),
            )),
        }
    }
}
