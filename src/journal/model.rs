//! A model of the journal for its tests: the same rules in the plainest way, on a snapshot in memory.

use crate::{
    domain::{
        id::{TaskId, check_safe_name},
        outcome::Outcome,
        record::{Change, Ending, Phase, Snapshot, TaskRecord, Tombstone},
    },
    ports::journal::Refused,
};

#[derive(Clone, Default)]
pub(crate) struct Model(pub(crate) Snapshot);

impl Model {
    pub(crate) fn request(&mut self, changes: &[Change]) -> Result<(), Refused> {
        if let [change] = changes {
            return self.apply(change);
        }
        let before = self.0.clone();
        let applied = changes.iter().try_for_each(|change| self.apply(change));
        if applied.is_err() {
            self.0 = before;
        }
        applied
    }

    fn apply(&mut self, change: &Change) -> Result<(), Refused> {
        match change {
            Change::Accept(record) => return self.accept(record),
            Change::CancelRequested(task) => return self.cancel(task),
            Change::Retire(task) => return self.retire(task),
            Change::Withdraw(task) => return self.withdraw(task),
            Change::Redeliver(task) => return self.redeliver(task),
            Change::Redelivered(task) => {
                self.0.redeliveries.retain(|known| known != task);
                return Ok(());
            }
            // Images are not part of a snapshot.
            Change::ImagePulled { .. } | Change::ImageRemoved(_) => return Ok(()),
            Change::Set { key, value } => {
                self.0.settings.retain(|(known, _)| known != key);
                self.0.settings.push((key.clone(), value.clone()));
                self.0.settings.sort();
                return Ok(());
            }
            _ => {}
        }
        let record = self.record(task_of(change)).ok_or(Refused::UnknownTask)?;
        step(record, change)
    }

    fn accept(&mut self, record: &TaskRecord) -> Result<(), Refused> {
        let id = &record.spec.id;
        let buried = self.0.tombstones.iter().any(|stone| stone.task == *id);
        if buried || self.record(id).is_some() {
            return Err(Refused::Duplicate);
        }
        let mut record = record.clone();
        record.cancel_requested |= self.0.early_cancels.contains(id);
        self.0.early_cancels.retain(|task| task != id);
        self.0.tasks.push(record);
        Ok(())
    }

    fn redeliver(&mut self, task: &TaskId) -> Result<(), Refused> {
        let buried = self.0.tombstones.iter().any(|stone| stone.task == *task);
        if self.record(task).is_none() && !buried {
            return Err(Refused::UnknownTask);
        }
        if !self.0.redeliveries.contains(task) {
            self.0.redeliveries.push(task.clone());
        }
        Ok(())
    }

    fn withdraw(&mut self, task: &TaskId) -> Result<(), Refused> {
        let record = self.record(task).ok_or(Refused::UnknownTask)?.clone();
        let ending = record.ending.as_ref();
        let is_impossible =
            record.phase == Phase::Ended && ending.is_some_and(Ending::is_impossible);
        if (record.phase != Phase::Accepted && !is_impossible) || record.answered {
            return Err(Refused::Past);
        }
        self.0.tasks.retain(|known| known.spec.id != *task);
        if record.cancel_requested {
            self.remember_cancel(task);
        }
        Ok(())
    }

    /// Remembers a cancel that came before its task. Tasks whose ids are no safe names never run, so theirs are not kept.
    fn remember_cancel(&mut self, task: &TaskId) {
        if check_safe_name(task.as_str()).is_ok() {
            self.0.early_cancels.push(task.clone());
        }
    }

    fn cancel(&mut self, task: &TaskId) -> Result<(), Refused> {
        if self.0.tombstones.iter().any(|stone| stone.task == *task) {
            return Err(Refused::Past);
        }
        let known = self.0.early_cancels.contains(task);
        match self.record(task) {
            Some(record) if record.phase >= Phase::Sealed => return Err(Refused::Past),
            Some(record) => record.cancel_requested = true,
            None if known => {}
            None => self.remember_cancel(task),
        }
        Ok(())
    }

    fn retire(&mut self, task: &TaskId) -> Result<(), Refused> {
        let record = self.record(task).ok_or(Refused::UnknownTask)?.clone();
        self.0.tombstones.push(Tombstone {
            task: task.clone(),
            digest: record.digest,
            result_id: record.result_id,
            verdict: record.verdict.ok_or(Refused::Early)?,
        });
        self.0.tasks.retain(|known| known.spec.id != *task);
        Ok(())
    }

    fn record(&mut self, task: &TaskId) -> Option<&mut TaskRecord> {
        let mut records = self.0.tasks.iter_mut();
        records.find(|record| record.spec.id == *task)
    }
}

fn step(record: &mut TaskRecord, change: &Change) -> Result<(), Refused> {
    let before = record.clone();
    let past = |phase| not_yet(&before, phase);
    match change {
        Change::Answered(_) => record.answered = true,
        Change::Starting {
            attempt,
            container_name,
            image,
            ..
        } => {
            past(Phase::Running)?;
            if *attempt < before.attempt {
                return Err(Refused::Past);
            }
            record.phase = Phase::Starting;
            record.attempt = *attempt;
            record.container_name = container_name.clone();
            record.image = Some(image.clone());
            record.container = None;
        }
        Change::Running { container, .. } => {
            let same = before
                .container
                .as_ref()
                .is_none_or(|known| known == container);
            if before.phase > Phase::Running || before.phase == Phase::Running && !same {
                return Err(Refused::Past);
            }
            record.phase = Phase::Running;
            record.container = Some(container.clone());
        }
        Change::Ended { ending, .. } if before.phase == Phase::Ended => {
            // The upload's note stands behind the notes of the ending.
            let mut stored = before.ending.clone().unwrap();
            stored.notes.truncate(ending.notes.len());
            if stored != **ending {
                return Err(Refused::Past);
            }
        }
        Change::Ended { ending, .. } => {
            past(Phase::Ended)?;
            record.phase = Phase::Ended;
            record.ending = Some((**ending).clone());
        }
        _ => return delivery_step(record, change),
    }
    Ok(())
}

fn not_yet(record: &TaskRecord, phase: Phase) -> Result<(), Refused> {
    if record.phase >= phase {
        Err(Refused::Past)
    } else {
        Ok(())
    }
}

fn delivery_step(record: &mut TaskRecord, change: &Change) -> Result<(), Refused> {
    let before = record.clone();
    let past = |phase| not_yet(&before, phase);
    match change {
        Change::UploadFailed(_) => {
            past(Phase::Sealed)?;
            record.upload_attempts += 1;
        }
        Change::Uploaded { note, .. } => {
            past(Phase::Sealed)?;
            if !record.uploaded
                && let Some(ending) = &mut record.ending
            {
                ending.notes.extend(note.clone());
            }
            record.uploaded = true;
        }
        Change::Sealed { verdict, .. } => {
            let cancelled = before.cancel_requested && verdict.outcome != Outcome::Cancelled;
            if before.phase < Phase::Sealed && cancelled {
                return Err(Refused::CancelPending);
            }
            if before.phase != Phase::Sealed || before.verdict.as_ref() != Some(verdict) {
                past(Phase::Sealed)?;
            }
            record.phase = Phase::Sealed;
            record.verdict = Some(verdict.clone());
        }
        Change::ReportFailed(_) => {
            past(Phase::Delivered)?;
            record.report_attempts += 1;
        }
        Change::Parked { reason, .. } => {
            past(Phase::Delivered)?;
            record.parked.clone_from(reason);
        }
        Change::Delivered(_) => {
            past(Phase::Done)?;
            record.phase = Phase::Delivered;
            record.parked = None;
        }
        Change::Done { at, .. } => {
            record.phase = Phase::Done;
            record.done_at = before.done_at.or(Some(*at));
        }
        _ => unreachable!("not about a record alone"),
    }
    Ok(())
}

fn task_of(change: &Change) -> &TaskId {
    match change {
        Change::Answered(task)
        | Change::UploadFailed(task)
        | Change::ReportFailed(task)
        | Change::Delivered(task)
        | Change::Starting { task, .. }
        | Change::Running { task, .. }
        | Change::Ended { task, .. }
        | Change::Uploaded { task, .. }
        | Change::Sealed { task, .. }
        | Change::Parked { task, .. }
        | Change::Done { task, .. } => task,
        Change::Accept(_)
        | Change::Withdraw(_)
        | Change::CancelRequested(_)
        | Change::Redeliver(_)
        | Change::Redelivered(_)
        | Change::Retire(_)
        | Change::ImagePulled { .. }
        | Change::ImageRemoved(_)
        | Change::Set { .. } => unreachable!("not about a record alone"),
    }
}
