//! What the demo sets up on the machine and takes away again: a temporary folder, the master, the worker's process. Nothing
//! of it is left behind after success; after a failure the folder stays, for whoever wants to know why.

use std::{
    env, fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::process::Signal;
use tokio::time::timeout;

use super::{
    Settings,
    engine::Engine,
    error::DemoError,
    screen::Screen,
    signals::Signals,
    stage::Stage,
    worker::{Start, Worker},
};
use crate::{
    dev_master::{DevMaster, MasterOptions},
    domain::id::WorkerId,
};

/// How soon the master repeats a refused offer: a worker that has just registered may refuse for a moment, and the real master's
/// five seconds are long for those who look on.
const OFFER_AGAIN: Duration = Duration::from_millis(200);
/// How long the master waits for each event; then the demo fails.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the worker may take to end after SIGTERM, more than its own deadline; then it is killed.
const STOPPED_WITHIN: Duration = Duration::from_secs(25);

/// The folder, the master and the worker of one demo.
pub(super) struct House {
    /// The master and the screen.
    pub(super) stage: Arc<Stage>,
    /// The worker's process.
    pub(super) worker: Worker,
    id: WorkerId,
    folder: PathBuf,
}

impl House {
    /// Starts the master and a worker, and returns before the worker has registered.
    pub(super) async fn build(
        settings: &Settings,
        screen: &Arc<Screen>,
    ) -> Result<Self, DemoError> {
        let letters: String = (0..8).map(|_| fastrand::lowercase()).collect();
        let id = format!("demo-{letters}");
        let folder = env::temp_dir().join(format!("worker-node-{id}"));
        let made = fs::DirBuilder::new().mode(0o700).create(&folder);
        made.map_err(DemoError::path("cannot make the folder", &folder))?;
        let built = Self::build_in(&folder, &id, settings, screen).await;
        if built.is_err() {
            // Nothing of interest is in it yet.
            let _best_effort = fs::remove_dir_all(&folder);
        }
        built
    }

    async fn build_in(
        folder: &Path,
        id: &str,
        settings: &Settings,
        screen: &Arc<Screen>,
    ) -> Result<Self, DemoError> {
        let options = MasterOptions {
            offer_again: OFFER_AGAIN,
            patience: PATIENCE,
            ..MasterOptions::for_anyone()
        };
        // The master first: its address, with a port that the system picks, is an argument of the worker.
        let master = DevMaster::start(options).await;
        let master = master.map_err(DemoError::machine("the demo's master cannot listen"))?;
        let address = master.address().to_string();
        screen.about("master", &format!("listening on {address} (gRPC)"));
        let worker = Worker::start(Start {
            id,
            master: address,
            engine: &settings.engine,
            folder,
            aside: settings.verbose.then(|| Arc::clone(screen)),
        })?;
        let (pid, log) = (worker.pid(), worker.log().display().to_string());
        screen.about(
            "worker",
            &format!("{id} is process {pid}, its log is {log}"),
        );
        let stage = Stage {
            master,
            screen: Arc::clone(screen),
            image: settings.image.clone(),
        };
        Ok(Self {
            stage: Arc::new(stage),
            worker,
            id: WorkerId::new(id).expect("it is made of letters"),
            folder: folder.to_owned(),
        })
    }

    /// The worker's name.
    pub(super) fn id(&self) -> &WorkerId {
        &self.id
    }

    /// Stops the worker and removes all that the demo has made; returns the first error. `so_far` is how the demo itself went.
    pub(super) async fn clear(
        self,
        engine: &Engine,
        signals: &mut Signals,
        so_far: Result<(), DemoError>,
    ) -> Result<(), DemoError> {
        let stopped = self.stop(signals).await;
        let left = match engine.clear(&self.id).await {
            0 => Ok(()),
            count => Err(DemoError::LeftBehind(count)),
        };
        remove_locks(&self.id);
        let result = so_far.and(stopped).and(left);
        match &result {
            Ok(()) | Err(DemoError::Interrupted) => {
                let removed = fs::remove_dir_all(&self.folder);
                result.and(removed.map_err(DemoError::path("cannot remove", &self.folder)))
            }
            Err(_) => {
                eprintln!(
                    "The worker's log and state are kept: {}",
                    self.folder.display()
                );
                result
            }
        }
    }

    /// Stops the worker: by SIGTERM, and by SIGKILL after `STOPPED_WITHIN` or at the next signal.
    async fn stop(&self, signals: &mut Signals) -> Result<(), DemoError> {
        self.worker.signal(Signal::TERM);
        let ended = tokio::select! {
            ended = timeout(STOPPED_WITHIN, self.worker.ended()) => ended.ok(),
            () = signals.next() => None,
        };
        let status = match ended {
            Some(status) => status,
            None => {
                self.worker.signal(Signal::KILL);
                self.worker.ended().await
            }
        };
        if status.success() {
            Ok(())
        } else {
            Err(DemoError::WorkerStop(status))
        }
    }
}

/// Removes the lock files that a worker leaves because its name may come again: this one's never does.
fn remove_locks(worker: &WorkerId) {
    let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    for place in [Some(PathBuf::from("/run/lock")), runtime]
        .into_iter()
        .flatten()
    {
        let entries = fs::read_dir(place).into_iter().flatten().flatten();
        let ours = format!("worker-node-{worker}-");
        for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&ours))
        {
            let _best_effort = fs::remove_file(entry.path());
        }
    }
}
