//! The images of a container engine, as a whole.

use async_trait::async_trait;

use super::engine::EngineError;
use crate::domain::shelf::Stored;

/// What an engine has, and what it lets go of.
#[async_trait]
pub trait ImageShelf: Send + Sync {
    /// All images, whosever they are.
    ///
    /// # Errors
    /// The engine's.
    async fn images(&self) -> Result<Vec<Stored>, EngineError>;

    /// Takes a name from an image, or removes one by its id, with its last name. Without force: what has a container or
    /// another name stays.
    ///
    /// # Errors
    /// `Conflict`: it stays. `NotFound`: there is none.
    async fn remove_image(&self, name_or_id: &str) -> Result<(), EngineError>;
}
