//! Whether the engine that answers is the one that has this worker's containers. Only there is 'no such container' an answer:
//! another engine at the same address knows none of them, and they live all the same.

use std::sync::{Arc, PoisonError, RwLock};

use super::DockerEngine;
use crate::ports::engine::{ContainerEngine as _, EngineError};

/// The place of the engine that has our containers, once it is known; shared with whoever decides that.
#[derive(Debug, Clone, Default)]
pub struct OwnEngine(Arc<RwLock<Option<String>>>);

impl OwnEngine {
    /// From now on it is this one.
    pub fn set(&self, place: Option<String>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = place;
    }

    fn get(&self) -> Option<String> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether an engine at this place has none of ours.
    fn is_another(&self, place: Option<&str>) -> bool {
        let own = self.get();
        matches!((own.as_deref(), place), (Some(own), Some(place)) if own != place)
    }
}

impl DockerEngine {
    /// Takes 'not found' for an answer from our own engine alone; from another one it is as if ours were away.
    pub(super) async fn of_our_own<T: Send>(
        &self,
        call: impl Future<Output = Result<T, EngineError>> + Send,
    ) -> Result<T, EngineError> {
        match call.await {
            Err(not_found @ EngineError::NotFound(_)) => {
                let place = self.info().await?.place();
                if self.options.own.is_another(place.as_deref()) {
                    return Err(EngineError::Away(
                        "another engine answers in its place".into(),
                    ));
                }
                Err(not_found)
            }
            answer => answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_engine_is_one_that_says_so() {
        let own = OwnEngine::default();
        assert!(!own.is_another(Some("A at /r")), "none is known yet");

        own.set(Some("A at /r".into()));

        assert!(!own.is_another(Some("A at /r")));
        assert!(!own.is_another(None), "it does not say");
        assert!(own.is_another(Some("A at /s")) && own.is_another(Some("B at /r")));
    }
}
