//! The demo's own calls to the engine: that it answers, that it has the image, and that no container of the demo's worker is left
//! in the end. The tasks themselves are the worker's business.

use std::time::Duration;

use std::sync::Arc;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};

use super::{error::DemoError, screen::Screen};
use crate::{
    config,
    domain::{
        id::{ContainerId, WorkerId},
        spec::TaskSpec,
    },
    engine::{DockerEngine, EngineAddress, EngineOptions},
    ports::engine::{ContainerEngine, EngineError, Force, ImageRef, SpecCodec},
};

/// A pull that shows no progress for this long is given up.
const PULL_SILENCE: Duration = Duration::from_secs(60);
/// How long the worker may take after the last result to remove its containers; then the demo complains.
const CLEARED_WITHIN: Duration = Duration::from_secs(10);
/// Time between two looks at the containers that are left.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A connection to the engine.
pub(super) struct Engine {
    engine: DockerEngine,
}

impl Engine {
    /// Connects, and says who answers.
    pub(super) async fn find(
        address: &config::EngineAddress,
        screen: &Screen,
    ) -> Result<Self, DemoError> {
        let engine = DockerEngine::connect(
            &adapted(address),
            Arc::new(NoSpecs),
            EngineOptions::default(),
        );
        let info = match engine.info().await {
            Ok(info) => info,
            Err(source) => {
                let forbidden = crate::engine::refusal(&adapted(address)).await;
                return Err(forbidden.map_or_else(
                    || DemoError::NoEngine {
                        address: address.to_string(),
                        source,
                    },
                    DemoError::EngineForbidden,
                ));
            }
        };
        screen.about("engine", &format!("Docker {} at {address}", info.version));
        Ok(Self { engine })
    }

    /// Pulls the image unless the engine has it.
    pub(super) async fn provide_image(&self, name: &str, screen: &Screen) -> Result<(), DemoError> {
        let image = self.engine.parse_image(name);
        let image = image.map_err(|why| DemoError::ImageName {
            image: name.to_owned(),
            why,
        })?;
        let no_image = |why: String| DemoError::NoImage {
            image: image.0.clone(),
            why,
        };
        let found = self.engine.find_image(&image).await;
        if found
            .map_err(|error| no_image(error.to_string()))?
            .is_some()
        {
            screen.about("image", &format!("{name} is on this machine"));
            return Ok(());
        }
        screen.about(
            "image",
            &format!("{name} is not on this machine: pulling it"),
        );
        self.pull(&image, screen).await.map_err(no_image)
    }

    async fn pull(&self, image: &ImageRef, screen: &Screen) -> Result<(), String> {
        let (sender, mut progress) = mpsc::channel(16);
        let mut pull = self.engine.pull(image, sender);
        loop {
            tokio::select! {
                pulled = &mut pull => return pulled.map(|_| ()).map_err(|error| error.to_string()),
                news = timeout(PULL_SILENCE, progress.recv()) => match news {
                    Ok(Some(Some(line))) => screen.log(super::screen::Ink::Dim, "image", &line),
                    Ok(Some(None)) => {}
                    // The pull drops the sender when it ends.
                    Ok(None) => return pull.await.map(|_| ()).map_err(|error| error.to_string()),
                    Err(_elapsed) => {
                        return Err(format!("no progress for {} s", PULL_SILENCE.as_secs()));
                    }
                },
            }
        }
    }

    /// Waits until the worker has removed its containers; false where it has not within `CLEARED_WITHIN`.
    pub(super) async fn wait_cleared(&self, worker: &WorkerId) -> bool {
        let deadline = Instant::now() + CLEARED_WITHIN;
        while !matches!(self.left(worker).await, Ok(left) if left.is_empty()) {
            if Instant::now() >= deadline {
                return false;
            }
            sleep(LOOK_AGAIN).await;
        }
        true
    }

    /// Removes the worker's containers that are left, and returns their number: 0 where the engine cannot be asked.
    pub(super) async fn clear(&self, worker: &WorkerId) -> usize {
        let left = self.left(worker).await.unwrap_or_default();
        for container in &left {
            if let Err(error) = self.engine.remove(container, Force::Yes).await {
                eprintln!("warning: the container {container} is left behind: {error}");
            }
        }
        left.len()
    }

    async fn left(&self, worker: &WorkerId) -> Result<Vec<ContainerId>, EngineError> {
        let listed = self.engine.list(worker).await?;
        Ok(listed.into_iter().map(|listed| listed.id).collect())
    }
}

/// No container is created or adopted here, so no spec is written or read.
struct NoSpecs;

impl SpecCodec for NoSpecs {
    fn encode(&self, _spec: &TaskSpec) -> String {
        String::new()
    }

    fn decode(&self, _label: &str) -> Option<TaskSpec> {
        None
    }
}

fn adapted(address: &config::EngineAddress) -> EngineAddress {
    match address {
        config::EngineAddress::Unix(path) => EngineAddress::Unix(path.clone()),
        config::EngineAddress::Tcp(host_port) => EngineAddress::Tcp(host_port.to_string()),
    }
}
