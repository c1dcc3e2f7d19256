//! Whether this worker and this engine can run tasks together. Neither of the two can tell that: it is tried, at the start and
//! after each return of the engine, before an offer is taken.

use std::sync::Arc;

use ipnet::IpNet;
use log::{error, info, warn};

use crate::{
    domain::id::{TaskId, WorkerId},
    ports::{
        engine::{ContainerEngine, EngineError, Trial, TrialResult},
        outputs::OutputStore,
    },
    supervision::threads::blocking,
};

/// The name of a trial's output folder. No task that runs has it: ids with spaces are refused.
const FOLDER: &str = "worker-node trial of the engine";

/// The file in it that the engine must see.
const FILE: &str = "probe";

/// The result of a trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fitness {
    /// Output folders of this worker can be bound into containers; otherwise outputs are fetched by the engine's archive call.
    pub binds_outputs: bool,
    /// Containers can have the engine's small init as process 1; otherwise process 1 is the task's shell.
    pub has_init: bool,
    /// The engine's log files of containers can be read here; otherwise output behind a broken stream is read through the engine.
    pub reads_log_files: bool,
    /// The engine holds a container's own layer to a size.
    pub sizes_layers: bool,
    /// The networks of this machine that tasks' containers are in; `None` where they are not known.
    pub networks: Option<Vec<IpNet>>,
    /// Why no task can run, with what to do about it; offers are refused meanwhile. `None` if tasks can run.
    pub lack: Option<String>,
    /// What should be mended although tasks run.
    pub remarks: Vec<String>,
}

/// Why a worker does not start with this engine (`--fail-fast`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfit {
    /// The engine does not answer.
    Away(EngineError),
    /// No task could run: why, with what to do about it.
    Lacks(String),
}

/// Tries the engine out.
#[derive(Clone)]
pub struct Trier {
    /// The worker whose labels the trial's container gets.
    pub worker: WorkerId,
    /// The store of output folders, for a worker that may bind them: any user of a container must be able to write there, and the
    /// worker must be able to remove what they wrote. `None` otherwise.
    pub outputs: Option<Arc<dyn OutputStore>>,
    /// Whether containers get limits.
    pub enforce_limits: bool,
}

impl Trier {
    /// Tries the engine out once.
    ///
    /// # Errors
    /// The engine is away.
    pub async fn try_out(&self, engine: &dyn ContainerEngine) -> Result<Fitness, EngineError> {
        let nonce = format!("{:032x}", fastrand::u128(..));
        let prepared = match &self.outputs {
            Some(outputs) => prepare(Arc::clone(outputs), nonce.clone()).await,
            None => Ok(None),
        };
        let (folder, unprepared) = match prepared {
            Ok(folder) => (folder, None),
            Err(error) => (None, Some(error.to_string())),
        };
        let trial = Trial {
            worker: self.worker.clone(),
            folder,
            file: FILE,
            enforce_limits: self.enforce_limits,
        };
        let tried = engine.try_out(&trial).await;
        // On a full disk the folder may be half made.
        if let Some(outputs) = &self.outputs {
            tidy_up(Arc::clone(outputs)).await;
        }
        let result = match tried {
            Ok(result) => result,
            Err(error @ EngineError::Away(_)) => return Err(error),
            Err(error) => TrialResult::untried(&error.to_string()),
        };
        Ok(self.judge(result, &nonce, unprepared))
    }

    /// As [`try_out`](Self::try_out), for a worker that must not start where no task could run.
    ///
    /// # Errors
    /// The engine is away, or no task could run.
    pub async fn insist(&self, engine: &dyn ContainerEngine) -> Result<(), Unfit> {
        engine.info().await.map_err(Unfit::Away)?;
        let fitness = self.try_out(engine).await.map_err(Unfit::Away)?;
        fitness.lack.map_or(Ok(()), |lack| Err(Unfit::Lacks(lack)))
    }

    fn judge(&self, result: TrialResult, nonce: &str, unprepared: Option<String>) -> Fitness {
        let binds_outputs = result.seen.as_deref() == Some(nonce.as_bytes());
        let mut remarks = result.remarks;
        remarks.extend(unprepared.map(|why| {
            format!("whether the engine sees this worker's files could not be tried: {why}")
        }));
        if self.outputs.is_some() && !binds_outputs {
            remarks.push(
                "the engine does not see this worker's files: output files go through its archive call"
                    .into(),
            );
        }
        Fitness {
            binds_outputs,
            has_init: result.has_init,
            reads_log_files: result.reads_log_files,
            sizes_layers: result.sizes_layers,
            networks: result.networks,
            lack: result.lack,
            remarks,
        }
    }
}

impl Fitness {
    /// Logs what has changed since the last trial.
    pub(super) fn say(&self, before: Option<&Self>) {
        let lacked = before.and_then(|before| before.lack.as_ref());
        match (&self.lack, lacked) {
            (Some(lack), _) if Some(lack) != lacked => error!("new tasks are refused: {lack}"),
            (None, Some(_)) => {
                info!("new tasks are taken again: the engine lacks nothing any more")
            }
            (Some(_) | None, _) => {}
        }
        let told = before.map_or(&[][..], |before| &before.remarks);
        for remark in self.remarks.iter().filter(|remark| !told.contains(remark)) {
            warn!("{remark}");
        }
    }
}

fn name() -> Option<TaskId> {
    TaskId::new(FOLDER).ok()
}

/// Makes an output folder as a task gets one, with a file in it.
async fn prepare(
    outputs: Arc<dyn OutputStore>,
    content: String,
) -> std::io::Result<Option<std::path::PathBuf>> {
    let Some(name) = name() else { return Ok(None) };
    blocking(move || {
        let folder = outputs.prepare(&name)?;
        outputs.add(&name, FILE)?.write_all(content.as_bytes())?;
        Ok(Some(folder))
    })
    .await?
}

async fn tidy_up(outputs: Arc<dyn OutputStore>) {
    let Some(name) = name() else { return };
    // A folder that stays behind is removed by the janitor.
    let _ = blocking(move || outputs.remove(&name)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nowhere;

    impl OutputStore for Nowhere {
        fn prepare(&self, _: &TaskId) -> std::io::Result<std::path::PathBuf> {
            unreachable!("results are judged here, and nothing is tried")
        }

        fn is_there(&self, _: &TaskId) -> std::io::Result<bool> {
            unreachable!("as above")
        }

        fn list(&self, _: &TaskId) -> std::io::Result<crate::domain::record::Outputs> {
            unreachable!("as above")
        }

        fn open(
            &self,
            _: &TaskId,
            _: &crate::domain::record::OutputFile,
        ) -> std::io::Result<Box<dyn std::io::Read + Send>> {
            unreachable!("as above")
        }

        fn unpack(&self, _: &TaskId, _: &mut dyn std::io::Read) -> std::io::Result<Vec<String>> {
            unreachable!("as above")
        }

        fn add(&self, _: &TaskId, _: &str) -> std::io::Result<Box<dyn std::io::Write + Send>> {
            unreachable!("as above")
        }

        fn remove(&self, _: &TaskId) -> std::io::Result<()> {
            unreachable!("as above")
        }
    }

    fn judged(seen: Option<&[u8]>, may_bind: bool) -> Fitness {
        let trier = Trier {
            worker: WorkerId::new("w").unwrap(),
            outputs: may_bind.then(|| Arc::new(Nowhere) as Arc<dyn OutputStore>),
            enforce_limits: true,
        };
        let result = TrialResult {
            seen: seen.map(<[u8]>::to_vec),
            ..TrialResult::default()
        };
        trier.judge(result, "nonce", None)
    }

    #[test]
    fn outputs_are_bound_only_where_the_engine_has_read_what_was_written() {
        assert!(judged(Some(b"nonce"), true).binds_outputs);
        for seen in [None, Some(&b""[..]), Some(b"another machine's")] {
            let fitness = judged(seen, true);
            assert!(!fitness.binds_outputs, "{seen:?}");
            assert_eq!(fitness.remarks.len(), 1, "{seen:?}");
            assert_eq!(fitness.lack, None, "the archive way is as good");
        }
    }

    #[test]
    fn a_worker_that_may_not_bind_has_nothing_to_say_about_it() {
        let fitness = judged(None, false);

        assert!(!fitness.binds_outputs);
        assert_eq!(fitness.remarks, [""; 0]);
    }
}
