//! A worker to show, for the tests of what shows it.

use std::time::Duration;

use super::{Moment, Results};
use crate::{
    cli::actors::specimen,
    domain::id::WorkerId,
    ports::{
        admin::TaskView,
        status::{EngineContact, MasterContact, Room, WorkerStatus},
    },
};

/// A worker with nothing wrong, and three tasks.
pub(super) fn well() -> Moment {
    let task = |stage: &str, cpu, memory| TaskView {
        used: None,
        task: format!("a {stage} task"),
        stage: stage.into(),
        cpu,
        memory,
        gpu: 0.0,
    };
    Moment {
        status: WorkerStatus {
            worker: WorkerId::new("w").unwrap(),
            version: "0.1.0".into(),
            process: 7,
            uptime: Duration::from_secs(3 * 3_600),
            master: MasterContact {
                address: "m:1".into(),
                registered_for: Some(Duration::from_secs(3 * 3_600)),
                beat_ago: Some(Duration::from_secs(2)),
                beat_took: Some(Duration::from_millis(4)),
                failing_for: None,
                failure: None,
            },
            engine: EngineContact {
                address: "unix:///e".into(),
                version: Some("20.10.24".into()),
                away_for: None,
                failure: None,
            },
            refusing: None,
            room: Room {
                cpu: 2.0,
                memory: 23.5,
                gpu: 0.0,
                tasks: 256,
            },
            certificate_until: None,
            errors: Vec::new(),
        },
        tasks: vec![
            task("running", 0.5, 1.0),
            task("running", 0.5, 1.0),
            task("pulling", 0.5, 1.0),
        ],
        actors: vec![specimen::subsystem("journal")],
        results: Results::default(),
        disk_free: Some(2 << 30),
    }
}
