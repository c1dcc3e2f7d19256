//! The parts that the tree is made of: every port, and the facts known at the start. `build` opens the real ones, the simulation
//! its own.

use std::sync::Arc;

use tokio::sync::watch;

use super::reload::Dials;
use crate::{
    actors::{
        engine_watch::{ClaimEngine, Trier},
        heartbeat::SampleLoad,
        janitor::{Ages, DiskFigure, RoomFigure},
        journal::OpenJournal,
        log_router::Intake,
        task::LostWithEngine,
    },
    config::Config,
    domain::spec::MachineTotals,
    ports::{
        clock::Clock,
        engine::ContainerEngine,
        holdings::Holdings,
        master::{Master, MasterAddress},
        outputs::OutputStore,
        spool::SpoolStore,
    },
};

/// The parts of a worker.
pub(super) struct Parts {
    pub(super) config: Config,
    pub(super) clock: Arc<dyn Clock>,
    /// The address that the master is given to reach this worker.
    pub(super) advertised: String,
    pub(super) open_journal: OpenJournal,
    /// The settings that a reload can change.
    pub(super) dials: Arc<Dials>,
    /// Counts how often the journal was lost while in use.
    pub(super) journal_lost: watch::Receiver<u64>,
    /// Age of every finished task when the process started.
    pub(super) ages: Arc<Ages>,
    pub(super) master: Arc<dyn Master>,
    pub(super) master_address: MasterAddress,
    pub(super) engine: Arc<dyn ContainerEngine>,
    pub(super) claim: ClaimEngine,
    pub(super) lost_with_engine: LostWithEngine,
    /// Tries the engine out.
    pub(super) trier: Trier,
    /// The thread that takes the output of containers from the engine.
    pub(super) intake: Intake,
    pub(super) spools: Arc<dyn SpoolStore>,
    pub(super) outputs: Arc<dyn OutputStore>,
    /// Spools and output folders again, as stores on the disk.
    pub(super) holdings: Vec<Arc<dyn Holdings>>,
    /// What can be given to tasks: what the machine has, without what is kept for the system.
    pub(super) totals: MachineTotals,
    /// Cores of this machine: they bound how many containers are started at once.
    pub(super) cores: usize,
    pub(super) load: SampleLoad,
    pub(super) room: RoomFigure,
    /// Bytes of the state folder, without those in `holdings`.
    pub(super) own_space: DiskFigure,
}
