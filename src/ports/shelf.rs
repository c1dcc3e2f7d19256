//! The images of a container engine, as a whole.

use async_trait::async_trait;

use super::engine::EngineError;
use crate::domain::shelf::Stored;

/// Shows and removes the images of an engine.
#[async_trait]
pub trait ImageShelf: Send + Sync {
    /// All images, whosever they are.
    ///
    /// # Errors
    /// An error of the engine.
    async fn images(&self) -> Result<Vec<Stored>, EngineError>;

    /// Takes a name from an image, which goes with its last one, or removes an image by its id. Without force: an image that has a
    /// container or another name stays.
    ///
    /// # Errors
    /// `Conflict`: the image stays. `NotFound`: there is none.
    async fn remove_image(&self, name_or_id: &str) -> Result<(), EngineError>;
}
