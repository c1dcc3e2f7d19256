//! An outbox's surroundings for its tests: only a master and a journal are real.

use std::sync::{Arc, Mutex};

use tokio::sync::{Semaphore, mpsc, watch};

use super::{Correspondents, Gates, Patience, Receipts, silence::Silence, turns::Turns};
use crate::{
    actors::{journal::Records, session::MasterView},
    domain::{id::WorkerId, settle::SettleTime},
    outputs::{OutputFolders, Quotas},
    ports::{
        clock::SystemClock,
        master::{Master, MasterAddress},
    },
    supervision::slot,
};

pub(super) fn with(master: Arc<dyn Master>, records: Records) -> Correspondents {
    let outputs = tempfile::tempdir().unwrap();
    Correspondents {
        worker: WorkerId::new("w").unwrap(),
        master,
        master_view: Arc::new(MasterView::new(MasterAddress("m:1".into()))),
        records,
        logs: slot("log_router").0,
        registry: slot("registry").0,
        news: mpsc::unbounded_channel().0,
        outputs: Arc::new(OutputFolders::open(outputs.path(), Quotas::default()).unwrap()),
        settle: Arc::new(Mutex::new(SettleTime::new(None))),
        receipts: Arc::new(Receipts::default()),
        clock: Arc::new(SystemClock),
        patience: Patience::default(),
    }
}

/// Gates with one place of each kind.
pub(super) fn gates() -> Gates {
    Gates {
        uploads: Turns::new(1),
        reports: Semaphore::new(1),
        logs: Semaphore::new(1),
        retry_parked: watch::Sender::new(()),
        silence: Silence::default(),
    }
}
