//! Whether an image that is here under a name that moves (`latest`) is still the one that its registry has. After a registry
//! could not be asked, it is not asked again for a while: there is an image to go on with, and not every task has to wait for the
//! same failure.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::ports::engine::{ContainerEngine, EngineError, ImageRef};

/// For this long a registry that could not be asked is not asked again.
const LEFT_ALONE: Duration = Duration::from_secs(60);

/// Registries that could not be asked: until when they are left alone, and why.
#[derive(Debug, Default)]
pub(super) struct Silent(Mutex<HashMap<String, (Instant, String)>>);

impl Silent {
    /// The digest that the name stands for now, or why it is not known.
    pub(super) async fn ask(
        &self,
        engine: &dyn ContainerEngine,
        image: &ImageRef,
    ) -> Result<String, String> {
        if let Some(why) = self.known(image.registry()) {
            return Err(why);
        }
        let answer = engine.registry_digest(image).await;
        answer.map_err(|error| self.remember(image.registry(), &error))
    }

    fn known(&self, registry: &str) -> Option<String> {
        let mut silent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        silent.retain(|_, (until, _)| Instant::now() < *until);
        silent.get(registry).map(|(_, why)| why.clone())
    }

    /// Remembers a registry that failed or did not answer. One that lacks or refuses an image may have others.
    fn remember(&self, registry: &str, error: &EngineError) -> String {
        let why = match error {
            EngineError::Deadline(_) => format!("{registry} did not answer in time"),
            error => error.to_string(),
        };
        if matches!(error, EngineError::Deadline(_) | EngineError::Failed(_)) {
            let until = Instant::now() + LEFT_ALONE;
            let mut silent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            silent.insert(registry.to_owned(), (until, why.clone()));
        }
        why
    }
}
