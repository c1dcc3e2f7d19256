//! What the tree is made of: every port, and what is known when it starts. `build` opens the real ones.

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

/// See the module.
pub(super) struct Parts {
    pub(super) config: Config,
    pub(super) clock: Arc<dyn Clock>,
    /// What the master is told.
    pub(super) advertised: String,
    pub(super) open_journal: OpenJournal,
    /// What can change while it runs.
    pub(super) dials: Arc<Dials>,
    /// Counts the times that it was lost under us.
    pub(super) journal_lost: watch::Receiver<u64>,
    /// How old what is done was at the start.
    pub(super) ages: Arc<Ages>,
    pub(super) master: Arc<dyn Master>,
    pub(super) master_address: MasterAddress,
    pub(super) engine: Arc<dyn ContainerEngine>,
    pub(super) claim: ClaimEngine,
    pub(super) lost_with_engine: LostWithEngine,
    /// What is needed to try the engine out.
    pub(super) trier: Trier,
    /// Takes what containers print off the engine.
    pub(super) intake: Intake,
    pub(super) spools: Arc<dyn SpoolStore>,
    pub(super) outputs: Arc<dyn OutputStore>,
    /// The same two, as what lies on the disk.
    pub(super) holdings: Vec<Arc<dyn Holdings>>,
    pub(super) totals: MachineTotals,
    /// Of this machine: how much is begun at once.
    pub(super) cores: usize,
    pub(super) load: SampleLoad,
    pub(super) room: RoomFigure,
    /// Of the state folder, without what `holdings` have.
    pub(super) own_space: DiskFigure,
}
