//! Applies one change to the journal, or refuses it. The rules: a phase only grows; a step that repeats what is written already
//! succeeds; a step that would undo or rewrite what is written is refused as `Past`. A step may leap over phases: an impossible
//! task ends without ever starting.

use rusqlite::{Connection, OptionalExtension, params};

use super::{json, rows};
use crate::{
    domain::{
        id::{Attempt, ContainerId, ContainerName, TaskId, check_safe_name},
        limits,
        outcome::Outcome,
        record::{Change, Ending, Phase, TaskRecord, Verdict},
        shelf::Brought,
    },
    ports::journal::Refused,
};

/// Tombstones of retired tasks that are kept; beyond that, the oldest are forgotten.
const TOMBSTONES: i64 = 100_000;
/// Cancels of unknown tasks that are kept, the newest: as many as the registry remembers.
const EARLY_CANCELS: i64 = limits::UNKNOWN_IDS as i64;
/// Most bytes of a stored ending; a larger one is refused as `TooBig`. The limits on what a task leaves behind come to much less,
/// and an ending that does not fit must not keep others from being written.
const ENDING: usize = 16 * 1024 * 1024;
/// How long tombstones and early cancels are kept: 30 days, in nanoseconds.
const TRACE_AGE: i64 = 30 * 24 * 60 * 60 * 1_000_000_000;

/// Why a change was not applied.
pub(super) enum Stop {
    /// The request is refused; the rest of the batch goes on.
    Refused(Refused),
    /// The store failed: the whole batch is rolled back.
    Sql(rusqlite::Error),
}

impl From<Refused> for Stop {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<rusqlite::Error> for Stop {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

/// The part of a record that the rules look at.
struct Standing {
    phase: Phase,
    attempt: Attempt,
    answered: bool,
    cancel_requested: bool,
    container: Option<String>,
    ending: Option<String>,
    verdict: Option<String>,
}

/// Applies a change within the transaction that `connection` is in.
pub(super) fn apply(connection: &Connection, change: &Change, now: i64) -> Result<(), Stop> {
    let steps = Steps { connection, now };
    match change {
        Change::Accept(record) => steps.accept(record),
        Change::Withdraw(task) => steps.withdraw(task),
        Change::Answered(task) => steps.answered(task),
        Change::CancelRequested(task) => steps.cancel_requested(task),
        Change::Starting {
            task,
            attempt,
            container_name,
            image,
        } => steps.starting(task, *attempt, (container_name, image)),
        Change::Running { task, container } => steps.running(task, container),
        Change::Ended { task, ending } => steps.ended(task, ending),
        Change::UploadFailed(task) => steps.upload_failed(task),
        Change::Uploaded { task, note } => steps.uploaded(task, note.as_deref()),
        Change::Sealed { task, verdict } => steps.sealed(task, verdict),
        Change::ReportFailed(task) => steps.report_failed(task),
        Change::Parked { task, reason } => steps.parked(task, reason.as_deref()),
        Change::Delivered(task) => steps.delivered(task),
        Change::Redeliver(task) => steps.redeliver(task),
        Change::Redelivered(task) => steps.redelivered(task),
        Change::Done { task, at } => steps.done(task, rows::nanos(*at)),
        Change::Retire(task) => steps.retire(task),
        Change::ImagePulled {
            id,
            told,
            reference,
            brought,
        } => steps.image_pulled((id, told), reference, *brought),
        Change::ImageRemoved(id) => steps.image_removed(id),
        Change::Set { key, value } => steps.set(key, value),
    }
}

/// Whether a change may add a tombstone or an early cancel, whose number is bounded.
pub(super) fn leaves_a_trace(change: &Change) -> bool {
    matches!(
        change,
        Change::Retire(_) | Change::CancelRequested(_) | Change::Withdraw(_)
    )
}

/// Forgets tombstones and early cancels that are older than 30 days or too many, the oldest first.
pub(super) fn forget_old_traces(connection: &Connection, now: i64) -> rusqlite::Result<()> {
    for (by_age, by_count, limit) in [
        (
            "DELETE FROM tombstones WHERE retired_at < ?1",
            "DELETE FROM tombstones WHERE seq <= (SELECT max(seq) FROM tombstones) - ?1",
            TOMBSTONES,
        ),
        (
            "DELETE FROM early_cancels WHERE requested_at < ?1",
            "DELETE FROM early_cancels WHERE seq <= (SELECT max(seq) FROM early_cancels) - ?1",
            EARLY_CANCELS,
        ),
    ] {
        let oldest = now.saturating_sub(TRACE_AGE);
        connection.prepare_cached(by_age)?.execute([oldest])?;
        connection.prepare_cached(by_count)?.execute([limit])?;
    }
    Ok(())
}

struct Steps<'a> {
    connection: &'a Connection,
    now: i64,
}

impl Steps<'_> {
    fn accept(&self, record: &TaskRecord) -> Result<(), Stop> {
        let task = &record.spec.id;
        if self.find(task)?.is_some() || self.is_buried(task)? {
            return Err(Refused::Duplicate.into());
        }
        rows::insert(self.connection, record)?;
        let cancelled = "DELETE FROM early_cancels WHERE task = ?1";
        if self.run(cancelled, params![task.as_str()])? > 0 {
            self.mark_cancelled(task)?;
        }
        Ok(())
    }

    /// The cancel of a withdrawn task is remembered: its offer may come again.
    fn withdraw(&self, task: &TaskId) -> Result<(), Stop> {
        let standing = self.standing(task)?;
        let has_begun = standing.phase > Phase::Accepted && !standing.is_impossible();
        if has_begun || standing.answered {
            return Err(Refused::Past.into());
        }
        self.run("DELETE FROM tasks WHERE id = ?1", params![task.as_str()])?;
        if standing.cancel_requested {
            self.remember_cancel(task)?;
        }
        Ok(())
    }

    fn answered(&self, task: &TaskId) -> Result<(), Stop> {
        self.standing(task)?;
        let update = "UPDATE tasks SET answered = 1 WHERE id = ?1";
        self.run(update, params![task.as_str()])?;
        Ok(())
    }

    fn cancel_requested(&self, task: &TaskId) -> Result<(), Stop> {
        match self.find(task)? {
            Some(standing) if standing.phase >= Phase::Sealed => Err(Refused::Past.into()),
            Some(_) => self.mark_cancelled(task),
            None if self.is_buried(task)? => Err(Refused::Past.into()),
            None => self.remember_cancel(task),
        }
    }

    fn starting(
        &self,
        task: &TaskId,
        attempt: Attempt,
        (container_name, image): (&ContainerName, &str),
    ) -> Result<(), Stop> {
        let standing = self.standing(task)?;
        if standing.phase > Phase::Starting || attempt < standing.attempt {
            return Err(Refused::Past.into());
        }
        let update = "UPDATE tasks SET phase = ?2, attempt = ?3, container_name = ?4, image_ran = ?5, container = NULL, starting_at = ?6 WHERE id = ?1";
        let phase = rows::phase_word(Phase::Starting);
        let values = params![
            task.as_str(),
            phase,
            attempt,
            container_name.0,
            image,
            self.now
        ];
        self.run(update, values)?;
        self.image_used(task)
    }

    fn running(&self, task: &TaskId, container: &ContainerId) -> Result<(), Stop> {
        let standing = self.standing(task)?;
        let repeated = standing
            .container
            .as_ref()
            .is_none_or(|known| *known == container.0);
        standing.reaches(Phase::Running, repeated)?;
        // A repeat keeps the time of the first.
        let update = "UPDATE tasks SET phase = ?2, container = ?3, running_at = iif(phase = ?2, running_at, ?4) WHERE id = ?1";
        let phase = rows::phase_word(Phase::Running);
        self.run(update, params![task.as_str(), phase, container.0, self.now])?;
        Ok(())
    }

    fn ended(&self, task: &TaskId, ending: &Ending) -> Result<(), Stop> {
        let ending = json::ending_to_text(ending);
        if ending.len() > ENDING {
            return Err(Refused::TooBig.into());
        }
        let standing = self.standing(task)?;
        let repeated = standing.ending.as_ref() == Some(&ending);
        if !standing.reaches(Phase::Ended, repeated)? {
            return Ok(());
        }
        let update = "UPDATE tasks SET phase = ?2, ending = ?3, ended_at = ?4 WHERE id = ?1";
        let phase = rows::phase_word(Phase::Ended);
        self.run(update, params![task.as_str(), phase, ending, self.now])?;
        let enqueue = "INSERT INTO outbox (task) VALUES (?1) ON CONFLICT DO NOTHING";
        self.run(enqueue, params![task.as_str()])?;
        Ok(())
    }

    fn upload_failed(&self, task: &TaskId) -> Result<(), Stop> {
        self.standing(task)?.before(Phase::Sealed)?;
        let count = "INSERT INTO outbox (task, upload_attempts) VALUES (?1, 1)
                     ON CONFLICT DO UPDATE SET upload_attempts = upload_attempts + 1";
        self.run(count, params![task.as_str()])?;
        Ok(())
    }

    /// The first note stays: a repeat of the step must not add a second one.
    fn uploaded(&self, task: &TaskId, note: Option<&str>) -> Result<(), Stop> {
        self.standing(task)?.before(Phase::Sealed)?;
        let note_once = "INSERT INTO outbox (task, uploaded, upload_note) VALUES (?1, 1, ?2)
                         ON CONFLICT DO UPDATE SET uploaded = 1, upload_note = ?2 WHERE NOT uploaded";
        self.run(note_once, params![task.as_str(), note])?;
        Ok(())
    }

    fn sealed(&self, task: &TaskId, verdict: &Verdict) -> Result<(), Stop> {
        let standing = self.standing(task)?;
        if standing.phase < Phase::Sealed
            && standing.cancel_requested
            && verdict.outcome != Outcome::Cancelled
        {
            // Of a cancel and a verdict that cross each other, the cancel that is durable first wins.
            return Err(Refused::CancelPending.into());
        }
        let verdict = json::verdict_to_text(verdict);
        let repeated = standing.verdict.as_ref() == Some(&verdict);
        if !standing.reaches(Phase::Sealed, repeated)? {
            return Ok(());
        }
        let update = "UPDATE tasks SET phase = ?2, verdict = ?3, sealed_at = ?4 WHERE id = ?1";
        let phase = rows::phase_word(Phase::Sealed);
        self.run(update, params![task.as_str(), phase, verdict, self.now])?;
        Ok(())
    }

    fn report_failed(&self, task: &TaskId) -> Result<(), Stop> {
        self.standing(task)?.before(Phase::Delivered)?;
        let count = "INSERT INTO outbox (task, report_attempts) VALUES (?1, 1)
                     ON CONFLICT DO UPDATE SET report_attempts = report_attempts + 1";
        self.run(count, params![task.as_str()])?;
        Ok(())
    }

    fn parked(&self, task: &TaskId, reason: Option<&str>) -> Result<(), Stop> {
        self.standing(task)?.before(Phase::Delivered)?;
        // A repeat keeps the time of the first, which the retention of the result counts from.
        let park = "INSERT INTO outbox (task, parked, parked_at) VALUES (?1, ?2, ?3)
                    ON CONFLICT DO UPDATE SET parked = ?2, parked_at = iif(?2 IS NULL, NULL, coalesce(parked_at, ?3))";
        let since = reason.map(|_| self.now);
        self.run(park, params![task.as_str(), reason, since])?;
        Ok(())
    }

    /// Delivering a parked result also ends its parking.
    fn delivered(&self, task: &TaskId) -> Result<(), Stop> {
        if !self.standing(task)?.reaches(Phase::Delivered, true)? {
            return Ok(());
        }
        let update = "UPDATE tasks SET phase = ?2, delivered_at = ?3 WHERE id = ?1";
        let phase = rows::phase_word(Phase::Delivered);
        self.run(update, params![task.as_str(), phase, self.now])?;
        let unpark = "UPDATE outbox SET parked = NULL, parked_at = NULL WHERE task = ?1";
        self.run(unpark, params![task.as_str()])?;
        Ok(())
    }

    /// Records a pull. One that brought nothing new does not make an image the worker's own; but a further name of an own image
    /// is recorded.
    fn image_pulled(
        &self,
        (id, told): (&str, &str),
        reference: &str,
        brought: Brought,
    ) -> Result<(), Stop> {
        let is_ours = "SELECT EXISTS (SELECT 1 FROM images WHERE id = ?1)";
        let mut is_ours = self.connection.prepare_cached(is_ours)?;
        let is_ours: bool = is_ours.query_row([id], |row| row.get(0))?;
        if brought == Brought::New || is_ours {
            let insert = "INSERT INTO images (id, reference, told, pulled_at, used_at) VALUES (?1, ?2, ?3, ?4, ?4)
                          ON CONFLICT DO UPDATE SET told = ?3, used_at = ?4";
            self.run(insert, params![id, reference, told, self.now])?;
        }
        Ok(())
    }

    fn image_removed(&self, id: &str) -> Result<(), Stop> {
        self.run("DELETE FROM images WHERE id = ?1", [id])?;
        Ok(())
    }

    /// Sets the time of last use of the image that the task's container is made of: at the start, and when the task is done.
    fn image_used(&self, task: &TaskId) -> Result<(), Stop> {
        let update = "UPDATE images SET used_at = max(used_at, ?2)
                      WHERE told = (SELECT image_ran FROM tasks WHERE id = ?1)";
        self.run(update, params![task.as_str(), self.now])?;
        Ok(())
    }

    fn redeliver(&self, task: &TaskId) -> Result<(), Stop> {
        if self.find(task)?.is_none() && !self.is_buried(task)? {
            return Err(Refused::UnknownTask.into());
        }
        let remember = "INSERT INTO redeliveries (task) VALUES (?1) ON CONFLICT DO NOTHING";
        self.run(remember, params![task.as_str()])?;
        Ok(())
    }

    fn redelivered(&self, task: &TaskId) -> Result<(), Stop> {
        let forget = "DELETE FROM redeliveries WHERE task = ?1";
        self.run(forget, params![task.as_str()])?;
        Ok(())
    }

    fn done(&self, task: &TaskId, at: i64) -> Result<(), Stop> {
        if !self.standing(task)?.reaches(Phase::Done, true)? {
            return Ok(());
        }
        let update = "UPDATE tasks SET phase = ?2, done_at = ?3 WHERE id = ?1";
        let phase = rows::phase_word(Phase::Done);
        self.run(update, params![task.as_str(), phase, at])?;
        self.image_used(task)
    }

    fn retire(&self, task: &TaskId) -> Result<(), Stop> {
        if self.standing(task)?.verdict.is_none() {
            return Err(Refused::Early.into());
        }
        let bury = "INSERT INTO tombstones (task, digest, result_id, verdict, retired_at)
                    SELECT id, digest, result_id, verdict, ?2 FROM tasks WHERE id = ?1";
        self.run(bury, params![task.as_str(), self.now])?;
        self.run("DELETE FROM tasks WHERE id = ?1", params![task.as_str()])?;
        Ok(())
    }

    fn set(&self, key: &str, value: &str) -> Result<(), Stop> {
        let set = "INSERT INTO settings (key, value) VALUES (?1, ?2)
                   ON CONFLICT DO UPDATE SET value = ?2";
        self.run(set, params![key, value])?;
        Ok(())
    }

    fn mark_cancelled(&self, task: &TaskId) -> Result<(), Stop> {
        let update = "UPDATE tasks SET cancel_requested = 1 WHERE id = ?1";
        self.run(update, params![task.as_str()])?;
        Ok(())
    }

    /// Remembers a cancel that came before its task. A task whose id is no safe name never runs, so its cancel is not kept.
    fn remember_cancel(&self, task: &TaskId) -> Result<(), Stop> {
        if check_safe_name(task.as_str()).is_err() {
            return Ok(());
        }
        let insert = "INSERT INTO early_cancels (task, requested_at) VALUES (?1, ?2)
                      ON CONFLICT DO NOTHING";
        self.run(insert, params![task.as_str(), self.now])?;
        Ok(())
    }

    fn is_buried(&self, task: &TaskId) -> rusqlite::Result<bool> {
        self.connection
            .prepare_cached("SELECT 1 FROM tombstones WHERE task = ?1")?
            .exists([task.as_str()])
    }

    fn standing(&self, task: &TaskId) -> Result<Standing, Stop> {
        Ok(self.find(task)?.ok_or(Refused::UnknownTask)?)
    }

    fn find(&self, task: &TaskId) -> rusqlite::Result<Option<Standing>> {
        let query = "SELECT phase, attempt, answered, cancel_requested, container, ending, verdict FROM tasks WHERE id = ?1";
        let mut statement = self.connection.prepare_cached(query)?;
        let standing = statement.query_row([task.as_str()], |row| {
            Ok(Standing {
                phase: rows::read_phase(row)?,
                attempt: row.get("attempt")?,
                answered: row.get("answered")?,
                cancel_requested: row.get("cancel_requested")?,
                container: row.get("container")?,
                ending: row.get("ending")?,
                verdict: row.get("verdict")?,
            })
        });
        standing.optional()
    }

    fn run(&self, statement: &str, values: impl rusqlite::Params) -> rusqlite::Result<usize> {
        self.connection.prepare_cached(statement)?.execute(values)
    }
}

impl Standing {
    /// Whether the task has ended without ever starting, because it is impossible here.
    fn is_impossible(&self) -> bool {
        let ending = self.ending.as_deref().map(json::ending_from_text);
        self.phase == Phase::Ended && matches!(ending, Some(Ok(ending)) if ending.is_impossible())
    }

    /// Whether a step to `phase` has anything to write. `repeated` tells that the step says the same as what is written: then it
    /// has nothing to write; else a step to a phase that was reached is refused.
    fn reaches(&self, phase: Phase, repeated: bool) -> Result<bool, Refused> {
        if self.phase < phase {
            Ok(true)
        } else if self.phase == phase && repeated {
            Ok(false)
        } else {
            Err(Refused::Past)
        }
    }

    fn before(&self, phase: Phase) -> Result<(), Refused> {
        if self.phase < phase {
            Ok(())
        } else {
            Err(Refused::Past)
        }
    }
}
