//! Tries whether docker-init, the engine's small process 1, runs in containers. The engine itself tries it outside of containers
//! alone: a docker-init that needs a loader or a shell works there, but in a container ends at once with code 1, which would look
//! like the exit of every task. So this container is started. In it docker-init runs itself, as the image holds no other program.

use std::time::Duration;

use bollard::models::{ContainerCreateBody, HostConfig};
use tokio::time::timeout;

use super::DockerEngine;
use crate::{
    domain::id::ContainerName,
    ports::engine::{ContainerPlan, EngineError},
};

/// The command of the container: process 1's own program as its child sees it, with a flag that each such program answers.
const ITSELF: [&str; 2] = ["/proc/self/exe", "--version"];

/// How long the container may take; after that docker-init is taken to run, since offers wait for the trial.
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
            // With the trial's limit of a tenth of a core, docker-init would take ten times as long.
            enforce_limits: false,
            ..plan.clone()
        };
        match self.run_init(&plan).await {
            Ok(runs) => Ok(runs),
            Err(error @ (EngineError::Away(_) | EngineError::Deadline(_))) => Err(error),
            Err(EngineError::Invalid(_)) => Ok(false),
            // Such an error says nothing about process 1: the rest of the trial finds what else is in the way.
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

/// Has docker-init run itself, and without a network, as making one would take the longest.
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
