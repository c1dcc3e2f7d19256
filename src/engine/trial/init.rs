//! Whether docker-init, the engine's small process 1, runs in containers. The engine tries it on its own machine alone: one that
//! needs a loader or a shell is well there, and in a container ends at once with code 1, which would be told as every task's own.
//! So this one container of the trial is started. The program runs itself in it, since nothing else is sure to be there.

use std::time::Duration;

use bollard::models::{ContainerCreateBody, HostConfig};
use tokio::time::timeout;

use super::DockerEngine;
use crate::{
    domain::id::ContainerName,
    ports::engine::{ContainerPlan, EngineError},
};

/// The program that is process 1, as its child sees it, and a question that each such program answers.
const ITSELF: [&str; 2] = ["/proc/self/exe", "--version"];

/// How long the container may take; then docker-init is taken to run, since offers wait for the trial.
const PATIENCE: Duration = Duration::from_secs(10);

impl DockerEngine {
    /// Whether process 1 of a container like this one runs, as far as it can be tried.
    ///
    /// # Errors
    /// The engine is away.
    pub(super) async fn runs_init(&self, plan: &ContainerPlan) -> Result<bool, EngineError> {
        let plan = ContainerPlan {
            name: ContainerName(format!("{}-init", plan.name)),
            output_folder: None,
            // With the trial's tenth of a core, docker-init takes ten times as long.
            enforce_limits: false,
            ..plan.clone()
        };
        match self.run_init(&plan).await {
            Ok(runs) => Ok(runs),
            Err(error @ (EngineError::Away(_) | EngineError::Deadline(_))) => Err(error),
            Err(EngineError::Invalid(_)) => Ok(false),
            // This says nothing about process 1: the rest of the trial tells what else is in the way.
            Err(_) => Ok(true),
        }
    }

    async fn run_init(&self, plan: &ContainerPlan) -> Result<bool, EngineError> {
        let id = self.make(plan, running_itself).await?;
        let run = async {
            self.start_container(&id).await?;
            self.wait_for_end(&id).await
        };
        let ran = timeout(PATIENCE, run).await;
        self.remove_by_force(&id.0).await?;
        match ran {
            Ok(code) => Ok(code? == 0),
            Err(_) => Ok(true),
        }
    }
}

/// Has docker-init run itself, without a network, which would take longer than all else.
fn running_itself(body: ContainerCreateBody) -> ContainerCreateBody {
    let host = body.host_config.map(|host| HostConfig {
        network_mode: Some("none".into()),
        ..host
    });
    ContainerCreateBody {
        cmd: Some(ITSELF.map(str::to_owned).into()),
        host_config: host,
        ..body
    }
}
