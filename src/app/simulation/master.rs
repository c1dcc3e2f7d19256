//! The master's port: what the fake master takes from the worker and writes into its books.

use std::{io::Read as _, time::Duration};

use async_trait::async_trait;

use super::{
    cluster::Copied,
    world::{Broken, Shared, State, To},
};
use crate::ports::master::{
    Beat, Master, MasterAddress, MasterError, Registration, Report, RunningTask, Upload, Uploaded,
};

/// How long the adapter waits for short calls.
const SHORT: Duration = Duration::from_secs(4);

/// Most time between two heartbeats, and before the first.
const GAP: Duration = Duration::from_secs(7);

/// The master's port.
pub(super) struct Port(pub(super) Shared);

impl Port {
    async fn call<T>(
        &self,
        deadline: Duration,
        effect: impl FnOnce(&mut State) -> Result<T, MasterError>,
    ) -> Result<T, MasterError> {
        let answer = self.0.call(To::Master, deadline, effect).await;
        answer.map_err(|broken| match broken {
            Broken::Unreachable => MasterError::Unreachable("connection refused".into()),
            Broken::Lost => MasterError::Lost("reset".into()),
            Broken::Late => MasterError::Deadline(deadline),
        })?
    }
}

#[async_trait]
impl Master for Port {
    async fn register(&self, _: &MasterAddress, _: Registration) -> Result<(), MasterError> {
        self.call(SHORT, |state| {
            state.note("the worker registers");
            state.cluster.is_registered = true;
            Ok(())
        })
        .await
    }

    async fn heartbeat(&self, _: &MasterAddress, beat: Beat) -> Result<(), MasterError> {
        self.0.lock().gives_a_sign();
        self.call(SHORT, move |state| state.take_beat(beat)).await
    }

    async fn upload(&self, _: &MasterAddress, upload: Upload) -> Result<Uploaded, MasterError> {
        let Upload {
            task, files, store, ..
        } = upload;
        let mut paths = Vec::new();
        for file in &files {
            let mut text = String::new();
            let mut content = store
                .open(&task, file)
                .map_err(|error| MasterError::Source(error.to_string()))?;
            let _ = content.read_to_string(&mut text);
            if text != task.as_str() {
                let what = format!("{task} uploads {text:?} as {}", file.path);
                self.0.change(|state| state.breaks(what));
            }
            paths.push(file.path.clone());
        }
        let inactivity = upload.inactivity;
        self.call(inactivity, move |state| {
            state.note(format!("the master takes the files of {task}"));
            let received = u32::try_from(paths.len()).unwrap();
            state.cluster.row(&task).uploads.push(paths);
            Ok(Uploaded {
                received,
                skipped: Vec::new(),
            })
        })
        .await
    }

    async fn report(&self, _: &MasterAddress, report: Report) -> Result<(), MasterError> {
        let (task, timeout) = (report.task.clone(), report.timeout);
        let copy = self
            .call(timeout, move |state| state.take_report(report))
            .await?;
        self.0
            .change(|state| state.cluster.row(&task).copies[copy].is_known = true);
        Ok(())
    }
}

impl State {
    fn take_report(&mut self, report: Report) -> Result<usize, MasterError> {
        let Report {
            task,
            result_id,
            status,
            logs,
            output_files,
            ..
        } = report;
        let status = status.in_report();
        let refusals = &mut self.cluster.row(&task).refusals;
        if *refusals > 0 {
            *refusals -= 1;
            self.note(format!("the master refuses the result of {task}"));
            return Err(MasterError::Refused("not now".into()));
        }
        self.note(format!("the master takes the result of {task}: {status}"));
        let row = self.cluster.row(&task);
        let before = row.copies.first().cloned();
        row.status = status;
        row.copies.push(Copied {
            result: result_id.clone(),
            status,
            logs,
            files: output_files,
            is_known: false,
        });
        let number = row.copies.len() - 1;
        if let Some(before) = before
            && (before.result != result_id || before.status != status)
        {
            self.breaks(format!("{task} has two outcomes"));
        }
        Ok(number)
    }

    fn take_beat(&mut self, beat: Beat) -> Result<(), MasterError> {
        if !self.cluster.is_registered {
            return Err(MasterError::NotRegistered("not registered".into()));
        }
        self.judge_beat(&beat);
        self.cluster.beat = Some(beat);
        Ok(())
    }

    fn judge_beat(&mut self, beat: &Beat) {
        let totals = super::totals();
        // A task that has ended is not counted: a worker that was away still takes it for running, while others have its room.
        let alive = |task: &&RunningTask| !self.docker.has_run(&task.task);
        let alive: Vec<_> = beat.running.iter().filter(alive).collect();
        let sum =
            |amount: fn(&RunningTask) -> f64| alive.iter().map(|task| amount(task)).sum::<f64>();
        let (cpu, memory) = (sum(|task| task.cpu), sum(|task| task.memory));
        if cpu > totals.cpu + 1e-6 || memory > totals.memory + 1e-6 {
            self.breaks(format!("a heartbeat tells of {cpu} cores and {memory} GiB"));
        }
        if let Some(stranger) = beat
            .running
            .iter()
            .find(|task| !self.disk.knows(&task.task))
        {
            self.breaks(format!("a heartbeat tells of {}", stranger.task));
        }
    }

    /// A heartbeat is sent, whether it arrives or not.
    fn gives_a_sign(&mut self) {
        let now = self.now();
        let gap = now - self.cluster.last_sign;
        self.cluster.last_sign = now;
        if gap > GAP {
            self.breaks(format!("{gap:?} without a heartbeat"));
        }
    }
}
