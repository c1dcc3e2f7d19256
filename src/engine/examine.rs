//! Examines an engine without making anything on it: for an operator who asks whether the engine will do before a worker starts.

use super::{DockerEngine, failure, trial};
use crate::ports::engine::{EngineError, EngineInfo};

/// The findings about an engine.
#[derive(Debug, Clone)]
pub struct Examined {
    /// The engine's name, version and the like, as it tells them.
    pub info: EngineInfo,
    /// The version of the control groups that limit containers: `1`, `2` or `unknown`.
    pub control_groups: String,
    /// The storage driver for images and containers, such as `overlay2`, or `unknown`.
    pub storage: String,
    /// Why no task could be run, with what to do about it.
    pub lack: Option<String>,
    /// Shortcomings with which tasks run all the same.
    pub remarks: Vec<String>,
}

impl DockerEngine {
    /// Asks the engine the questions that the trial at a worker's start begins with.
    ///
    /// # Errors
    /// The engine is away, or does not answer the questions.
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
