//! The same for how a worker stands.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{millis, senseless};
use crate::{
    domain::id::WorkerId,
    ports::{
        admin::AdminError,
        status::{EngineContact, LoggedError, MasterContact, Room, WorkerStatus},
    },
    proto::worker_admin as wire,
};

pub(in super::super) fn status_to_wire(status: WorkerStatus) -> wire::Status {
    let WorkerStatus {
        master,
        engine,
        room,
        ..
    } = status;
    wire::Status {
        worker: status.worker.to_string(),
        version: status.version,
        process: status.process,
        uptime_ms: millis(status.uptime),
        master: Some(wire::MasterContact {
            address: master.address,
            registered_ms: master.registered_for.map(millis),
            beat_ago_ms: master.beat_ago.map(millis),
            beat_took_ms: master.beat_took.map(millis),
            failing_ms: master.failing_for.map(millis),
            failure: master.failure,
        }),
        engine: Some(wire::EngineContact {
            address: engine.address,
            version: engine.version,
            away_ms: engine.away_for.map(millis),
            failure: engine.failure,
        }),
        refusing: status.refusing,
        room: Some(wire::Room {
            cpu: room.cpu,
            memory: room.memory,
            gpu: room.gpu,
            tasks: room.tasks,
        }),
        certificate_until: status.certificate_until.map(seconds_since_epoch),
        errors: status.errors.into_iter().map(error_to_wire).collect(),
    }
}

fn error_to_wire(error: LoggedError) -> wire::LoggedError {
    wire::LoggedError {
        ago_ms: millis(error.ago),
        text: error.text,
    }
}

fn error(error: wire::LoggedError) -> LoggedError {
    LoggedError {
        ago: Duration::from_millis(error.ago_ms),
        text: error.text,
    }
}

fn seconds_since_epoch(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

pub(in super::super) fn status(status: wire::Status) -> Result<WorkerStatus, AdminError> {
    let time = |millis: Option<u64>| millis.map(Duration::from_millis);
    let master = status.master.unwrap_or_default();
    let engine = status.engine.unwrap_or_default();
    let room = status.room.unwrap_or_default();
    Ok(WorkerStatus {
        worker: WorkerId::new(status.worker).map_err(|_| senseless("the worker's name"))?,
        version: status.version,
        process: status.process,
        uptime: Duration::from_millis(status.uptime_ms),
        master: MasterContact {
            address: master.address,
            registered_for: time(master.registered_ms),
            beat_ago: time(master.beat_ago_ms),
            beat_took: time(master.beat_took_ms),
            failing_for: time(master.failing_ms),
            failure: master.failure,
        },
        engine: EngineContact {
            address: engine.address,
            version: engine.version,
            away_for: time(engine.away_ms),
            failure: engine.failure,
        },
        refusing: status.refusing,
        room: Room {
            cpu: room.cpu,
            memory: room.memory,
            gpu: room.gpu,
            tasks: room.tasks,
        },
        certificate_until: status
            .certificate_until
            .and_then(|until| UNIX_EPOCH.checked_add(Duration::from_secs(until))),
        errors: status.errors.into_iter().map(error).collect(),
    })
}
