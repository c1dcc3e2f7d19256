//! What can be told of an engine without making anything on it: for somebody who asks whether it will do, before a worker tries it out.

use super::{DockerEngine, failure, trial};
use crate::ports::engine::{EngineError, EngineInfo};

/// What was found.
#[derive(Debug, Clone)]
pub struct Examined {
    /// What it says of itself.
    pub info: EngineInfo,
    /// The version of the control groups that it limits containers by.
    pub control_groups: String,
    /// How it keeps images and containers.
    pub storage: String,
    /// Why no task could be run, with what to do about it.
    pub lack: Option<String>,
    /// What is not as it should be, though tasks run.
    pub remarks: Vec<String>,
}

impl DockerEngine {
    /// Asks the engine, as the trial of a start begins.
    ///
    /// # Errors
    /// It is away, or does not tell.
    pub async fn examine(&self, enforce_limits: bool) -> Result<Examined, EngineError> {
        let info = self.read_info().await?;
        let says = self.line.docker()?.info().await.map_err(failure::of_call)?;
        let told = trial::told(&says, enforce_limits);
        let version = says.cgroup_version.map(|version| version.to_string());
        Ok(Examined {
            info,
            control_groups: version.unwrap_or_else(|| "unknown".into()),
            storage: says.driver.unwrap_or_else(|| "unknown".into()),
            lack: match self.missing_network().await? {
                Some(lack) => Some(lack),
                None => told.lack,
            },
            remarks: told.remarks,
        })
    }
}
