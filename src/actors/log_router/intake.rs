//! Takes the streams of containers off the engine, on a thread and a runtime of their own. An engine throws away what is not
//! taken within 2 s of the container's end, and on the common runtime of a busy machine with many viewers a stream waits that
//! long for its turn (63 viewers cost a task its last 26 lines).

use std::{future::pending, sync::mpsc, thread};

use log::warn;
use tokio::{
    runtime::{Builder, Handle},
    task::JoinSet,
};

use crate::{ports::engine::EngineError, supervision::threads::beside};

/// The runtime that takes the streams; by default the caller's.
#[derive(Debug, Clone, Default)]
pub struct Intake(Option<Handle>);

impl Intake {
    /// An intake with a thread that lasts as long as the process. If none can be started, the caller's runtime is used.
    #[must_use]
    pub fn start() -> Self {
        let (sender, started) = mpsc::sync_channel(1);
        let run = move || match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => {
                // `start` waits for this.
                let _ = sender.send(runtime.handle().clone());
                runtime.block_on(pending::<()>());
            }
            Err(error) => warn!(error:%; "output is taken off the engine on the common threads"),
        };
        if let Err(error) = thread::Builder::new().name("log-intake".into()).spawn(run) {
            warn!(error:%; "output is taken off the engine on the common threads");
        }
        Self(started.recv().ok())
    }

    /// Runs work on the intake's runtime until it ends.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        match &self.0 {
            Some(runtime) => drop(runtime.spawn(work)),
            None => drop(beside(work)),
        }
    }

    /// Opens a connection on the intake's runtime, which then drives it. Dropping this future ends the opening.
    pub(super) async fn open<T: Send + 'static>(
        &self,
        opening: impl Future<Output = Result<T, EngineError>> + Send + 'static,
    ) -> Result<T, EngineError> {
        let Some(runtime) = &self.0 else {
            return opening.await;
        };
        let mut work = JoinSet::new();
        work.spawn_on(opening, runtime);
        match work.join_next().await {
            Some(Ok(opened)) => opened,
            Some(Err(error)) => Err(EngineError::Failed(error.to_string())),
            None => Err(EngineError::Failed("nothing was opened".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> Option<String> {
        thread::current().name().map(str::to_owned)
    }

    #[tokio::test]
    async fn what_is_opened_runs_on_its_thread_and_ends_with_whoever_waits() {
        let intake = Intake::start();
        let opened = intake.open(async { Ok(name()) }).await.unwrap();
        assert_eq!(opened.as_deref(), Some("log-intake"));

        let (alive, mut ended) = tokio::sync::mpsc::channel::<()>(1);
        let never = intake.open(async move {
            let _alive = alive;
            pending::<Result<(), EngineError>>().await
        });
        drop(tokio::time::timeout(std::time::Duration::from_millis(1), never).await);
        assert_eq!(ended.recv().await, None);

        let here = Intake::default().open(async { Ok(name()) }).await.unwrap();
        assert_ne!(here.as_deref(), Some("log-intake"));
    }
}
