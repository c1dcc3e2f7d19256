//! Reading records from rows of the journal's tables, and writing them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{
    Connection, Row, named_params, params_from_iter,
    types::{FromSqlError, Type},
};

use super::{is_unreadable, json};
use crate::{
    domain::{
        id::{ContainerId, ContainerName, PayloadDigest, ResultId, TaskId},
        record::{Phase, Snapshot, TaskRecord, Tombstone},
        shelf::Pulled,
        spec::{TaskSpec, Wants},
    },
    ports::{
        journal::Household,
        state::{LostRow, TaskStory, Wanted},
    },
};

const SELECT_TASKS: &str = "
SELECT id, image, command, req_cpu, req_memory, req_storage, req_gpu, user_id, task_name, task_type, sla_multiplier,
       submitted_at, asked, digest, attempt, result_id, phase, answered, cancel_requested, container_name, image_ran, container, ending,
       verdict, accepted_at, done_at, coalesce(uploaded, 0) AS uploaded, upload_note,
       coalesce(upload_attempts, 0) AS upload_attempts, coalesce(report_attempts, 0) AS report_attempts, parked,
       starting_at, running_at, ended_at, sealed_at, delivered_at
FROM tasks LEFT JOIN outbox ON outbox.task = tasks.id";

const INSERT_TASK: &str = "
INSERT INTO tasks (id, image, command, req_cpu, req_memory, req_storage, req_gpu, user_id, task_name, task_type,
                   sla_multiplier, submitted_at, asked, digest, attempt, result_id, phase, answered, cancel_requested,
                   container_name, image_ran, container, ending, verdict, accepted_at, done_at)
VALUES (:id, :image, :command, :req_cpu, :req_memory, :req_storage, :req_gpu, :user_id, :task_name, :task_type,
        :sla_multiplier, :submitted_at, :asked, :digest, :attempt, :result_id, :phase, :answered, :cancel_requested,
        :container_name, :image_ran, :container, :ending, :verdict, :accepted_at, :done_at)";

const INSERT_OUTBOX: &str = "
INSERT INTO outbox (task, uploaded, upload_attempts, report_attempts, parked)
VALUES (:task, :uploaded, :upload_attempts, :report_attempts, :parked)";

const SELECT_TOMBSTONES: &str = "SELECT task, digest, result_id, verdict FROM tombstones";

/// Everything in the file; and the rows of finished tasks that cannot be read.
pub(super) fn snapshot(connection: &Connection) -> rusqlite::Result<(Snapshot, Vec<LostRow>)> {
    let mut lost = Vec::new();
    let tasks = Rows {
        query: &format!("{SELECT_TASKS} ORDER BY seq"),
        id: "id",
        read: read_task,
        is_finished: |row| matches!(read_phase(row), Ok(Phase::Done)),
    };
    let tombstones = Rows {
        query: &format!("{SELECT_TOMBSTONES} ORDER BY seq"),
        id: "task",
        read: read_tombstone,
        is_finished: |_| true,
    };
    let snapshot = Snapshot {
        tasks: tasks.readable(connection, &mut lost)?,
        tombstones: tombstones.readable(connection, &mut lost)?,
        ..beside_tasks(connection)?
    };
    Ok((snapshot, lost))
}

/// A query whose rows of finished tasks may be damaged: those are left out and reported, while a damaged row of an unfinished
/// task is an error.
struct Rows<'a, T> {
    query: &'a str,
    /// The column with the task's id.
    id: &'a str,
    read: fn(&Row<'_>) -> rusqlite::Result<T>,
    is_finished: fn(&Row<'_>) -> bool,
}

impl<T> Rows<'_, T> {
    fn readable(
        &self,
        connection: &Connection,
        lost: &mut Vec<LostRow>,
    ) -> rusqlite::Result<Vec<T>> {
        let mut statement = connection.prepare_cached(self.query)?;
        let mut rows = statement.query([])?;
        let mut readable = Vec::new();
        while let Some(row) = rows.next()? {
            match (self.read)(row) {
                Ok(found) => readable.push(found),
                Err(error) if is_unreadable(&error) && (self.is_finished)(row) => {
                    lost.push(lost_row(row, self.id, &error)?);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(readable)
    }
}

/// Names the task of a row that cannot be read, from the column `id`.
fn lost_row(row: &Row<'_>, id: &str, why: &rusqlite::Error) -> rusqlite::Result<LostRow> {
    let id = row.get_ref(id)?;
    let id = id.as_bytes_or_null().ok().flatten().unwrap_or_default();
    Ok(LostRow {
        task: String::from_utf8_lossy(id).into_owned(),
        why: why.to_string(),
    })
}

/// A snapshot of everything but tasks and tombstones, which stay empty.
fn beside_tasks(connection: &Connection) -> rusqlite::Result<Snapshot> {
    Ok(Snapshot {
        tasks: Vec::new(),
        tombstones: Vec::new(),
        early_cancels: all(
            connection,
            "SELECT task FROM early_cancels ORDER BY seq",
            |row| task_id(row, "task"),
        )?,
        redeliveries: all(
            connection,
            "SELECT task FROM redeliveries ORDER BY seq",
            |row| task_id(row, "task"),
        )?,
        settings: all(
            connection,
            "SELECT key, value FROM settings ORDER BY key",
            |row| Ok((row.get("key")?, row.get("value")?)),
        )?,
    })
}

/// What a start of the worker reads: all tasks but the finished ones, of which there may be any number; and what else it must
/// know.
pub(super) fn unfinished(connection: &Connection) -> rusqlite::Result<Snapshot> {
    let query = format!("{SELECT_TASKS} WHERE phase <> 'done' ORDER BY seq");
    Ok(Snapshot {
        tasks: all(connection, &query, read_task)?,
        tombstones: Vec::new(),
        ..beside_tasks(connection)?
    })
}

/// What the janitor reads in each round: ids and times instead of whole records.
pub(super) fn household(connection: &Connection) -> rusqlite::Result<Household> {
    let finished = Rows {
        query: "SELECT id, done_at FROM tasks WHERE phase = 'done' ORDER BY done_at",
        id: "id",
        read: |row| dated(row, "id", "done_at"),
        is_finished: |_| true,
    };
    Ok(Household {
        finished: finished.readable(connection, &mut Vec::new())?,
        unfinished: connection
            .prepare_cached("SELECT id FROM tasks WHERE phase <> 'done'")?
            .query_map([], |row| task_id(row, "id"))?
            .collect::<rusqlite::Result<_>>()?,
        containers: connection
            .prepare_cached(
                "SELECT container FROM tasks WHERE phase <> 'done' AND container IS NOT NULL",
            )?
            .query_map([], |row| row.get("container").map(ContainerId))?
            .collect::<rusqlite::Result<_>>()?,
        parked: all(
            connection,
            "SELECT task, parked_at FROM outbox WHERE parked_at IS NOT NULL ORDER BY parked_at",
            |row| dated(row, "task", "parked_at"),
        )?,
        images: images(connection)?,
        images_wanted: connection
            .prepare_cached("SELECT image, image_ran FROM tasks WHERE phase <> 'done'")?
            .query_map([], |row| Ok((row.get("image")?, row.get("image_ran")?)))?
            .collect::<rusqlite::Result<_>>()?,
    })
}

/// The images that were pulled, each once with all its names.
fn images(connection: &Connection) -> rusqlite::Result<Vec<Pulled>> {
    let query = "SELECT id, reference, told, pulled_at, used_at FROM images ORDER BY id, reference";
    let rows = all(connection, query, |row| {
        Ok(Pulled {
            id: row.get("id")?,
            told: row.get("told")?,
            references: vec![row.get("reference")?],
            pulled_at: time(row.get("pulled_at")?),
            used_at: time(row.get("used_at")?),
        })
    })?;
    let mut images: Vec<Pulled> = Vec::new();
    for row in rows {
        match images.last_mut().filter(|image| image.id == row.id) {
            Some(image) => {
                image.references.extend(row.references);
                image.pulled_at = image.pulled_at.min(row.pulled_at);
                image.used_at = image.used_at.max(row.used_at);
            }
            None => images.push(row),
        }
    }
    Ok(images)
}

fn dated(row: &Row<'_>, id: &str, at: &str) -> rusqlite::Result<(TaskId, SystemTime)> {
    let at: Option<i64> = row.get(at)?;
    Ok((task_id(row, id)?, at.map_or(UNIX_EPOCH, time)))
}

/// The record of one task; `QueryReturnedNoRows` where there is none.
pub(super) fn task(connection: &Connection, task: &TaskId) -> rusqlite::Result<TaskRecord> {
    connection
        .prepare_cached(&format!("{SELECT_TASKS} WHERE id = ?1"))?
        .query_row([task.as_str()], read_task)
}

/// What the journal knows of the wanted tasks, the oldest first; a row that cannot be understood is told as such and hides no
/// other.
pub(super) fn stories(
    connection: &Connection,
    wanted: &Wanted,
) -> rusqlite::Result<Vec<TaskStory>> {
    let tasks = |condition: &str, values: &[&str]| {
        connection
            .prepare(&format!("{SELECT_TASKS} {condition} ORDER BY seq"))?
            .query_map(params_from_iter(values), |row| {
                read_story(row).or_else(|error| unreadable_story(row, "id", error))
            })?
            .collect::<rusqlite::Result<Vec<_>>>()
    };
    let task = match wanted {
        Wanted::Unfinished => return tasks("WHERE phase <> 'done'", &[]),
        Wanted::All => return tasks("", &[]),
        Wanted::One(task) => task.as_str(),
    };
    let kept = tasks("WHERE id = ?1", &[task])?;
    if !kept.is_empty() {
        return Ok(kept);
    }
    let query =
        "SELECT task, digest, result_id, verdict, retired_at FROM tombstones WHERE task = ?1";
    connection
        .prepare(query)?
        .query_map([task], |row| {
            read_retired(row).or_else(|error| unreadable_story(row, "task", error))
        })?
        .collect()
}

fn read_story(row: &Row<'_>) -> rusqlite::Result<TaskStory> {
    let columns = [
        (Phase::Accepted, "accepted_at"),
        (Phase::Starting, "starting_at"),
        (Phase::Running, "running_at"),
        (Phase::Ended, "ended_at"),
        (Phase::Sealed, "sealed_at"),
        (Phase::Delivered, "delivered_at"),
        (Phase::Done, "done_at"),
    ];
    let mut times = Vec::new();
    for (phase, column) in columns {
        let at: Option<i64> = row.get(column)?;
        times.extend(at.map(|at| (phase, time(at))));
    }
    Ok(TaskStory::Kept {
        record: Box::new(read_task(row)?),
        times,
    })
}

fn read_retired(row: &Row<'_>) -> rusqlite::Result<TaskStory> {
    Ok(TaskStory::Retired {
        stone: read_tombstone(row)?,
        at: time(row.get("retired_at")?),
    })
}

/// Turns a row that cannot be understood into a story that says so. Every other error is the journal's own, and stays one.
fn unreadable_story(
    row: &Row<'_>,
    id: &str,
    error: rusqlite::Error,
) -> rusqlite::Result<TaskStory> {
    match is_unreadable(&error) {
        true => Ok(TaskStory::Unreadable(lost_row(row, id, &error)?)),
        false => Err(error),
    }
}

/// Whether the task has a record that is not done.
pub(super) fn is_unfinished(connection: &Connection, task: &TaskId) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM tasks WHERE id = ?1 AND phase <> 'done')")?
        .query_row([task.as_str()], |row| row.get(0))
}

/// What is left of a retired task; `QueryReturnedNoRows` where there is no tombstone.
pub(super) fn tombstone(connection: &Connection, task: &TaskId) -> rusqlite::Result<Tombstone> {
    connection
        .prepare_cached(&format!("{SELECT_TOMBSTONES} WHERE task = ?1"))?
        .query_row([task.as_str()], read_tombstone)
}

/// Inserts a whole record. An id that exists already is SQLite's error.
pub(super) fn insert(connection: &Connection, record: &TaskRecord) -> rusqlite::Result<()> {
    let spec = &record.spec;
    connection
        .prepare_cached(INSERT_TASK)?
        .execute(named_params! {
            ":id": spec.id.as_str(),
            ":image": spec.image,
            ":command": spec.command,
            ":req_cpu": spec.wants.cpu,
            ":req_memory": spec.wants.memory,
            ":req_storage": spec.wants.storage,
            ":req_gpu": spec.wants.gpu,
            ":user_id": spec.user_id,
            ":task_name": spec.task_name,
            ":task_type": spec.task_type,
            ":sla_multiplier": spec.sla_multiplier,
            ":submitted_at": spec.submitted_at,
            ":asked": spec.asked.as_deref().map(json::asked_to_text),
            ":digest": record.digest.0,
            ":attempt": record.attempt,
            ":result_id": record.result_id.0,
            ":phase": phase_word(record.phase),
            ":answered": record.answered,
            ":cancel_requested": record.cancel_requested,
            ":container_name": record.container_name.0,
            ":image_ran": record.image,
            ":container": record.container.as_ref().map(|container| &container.0),
            ":ending": record.ending.as_ref().map(json::ending_to_text),
            ":verdict": record.verdict.as_ref().map(json::verdict_to_text),
            ":accepted_at": nanos(record.accepted_at),
            ":done_at": record.done_at.map(nanos),
        })?;
    insert_outbox(connection, record)
}

/// Inserts the outbox's row, where the record needs one: a record that was rebuilt from a container may have got that far
/// already.
fn insert_outbox(connection: &Connection, record: &TaskRecord) -> rusqlite::Result<()> {
    let attempts = record.upload_attempts > 0 || record.report_attempts > 0;
    if record.phase < Phase::Ended && !record.uploaded && !attempts && record.parked.is_none() {
        return Ok(());
    }
    connection
        .prepare_cached(INSERT_OUTBOX)?
        .execute(named_params! {
            ":task": record.spec.id.as_str(),
            ":uploaded": record.uploaded,
            ":upload_attempts": record.upload_attempts,
            ":report_attempts": record.report_attempts,
            ":parked": record.parked,
        })?;
    Ok(())
}

fn read_task(row: &Row<'_>) -> rusqlite::Result<TaskRecord> {
    let mut ending = parsed(row, "ending", json::ending_from_text)?;
    if let (Some(ending), Some(note)) = (&mut ending, row.get("upload_note")?) {
        ending.notes.push(note);
    }
    Ok(TaskRecord {
        spec: read_spec(row)?,
        digest: PayloadDigest(row.get("digest")?),
        attempt: row.get("attempt")?,
        result_id: ResultId(row.get("result_id")?),
        phase: read_phase(row)?,
        answered: row.get("answered")?,
        cancel_requested: row.get("cancel_requested")?,
        container_name: ContainerName(row.get("container_name")?),
        image: row.get("image_ran")?,
        container: row.get::<_, Option<_>>("container")?.map(ContainerId),
        ending,
        verdict: parsed(row, "verdict", json::verdict_from_text)?,
        uploaded: row.get("uploaded")?,
        upload_attempts: row.get("upload_attempts")?,
        report_attempts: row.get("report_attempts")?,
        parked: row.get("parked")?,
        accepted_at: time(row.get("accepted_at")?),
        done_at: row.get::<_, Option<_>>("done_at")?.map(time),
    })
}

fn read_spec(row: &Row<'_>) -> rusqlite::Result<TaskSpec> {
    Ok(TaskSpec {
        id: task_id(row, "id")?,
        image: row.get("image")?,
        command: row.get("command")?,
        wants: Wants {
            cpu: amount(row, "req_cpu")?,
            memory: amount(row, "req_memory")?,
            storage: amount(row, "req_storage")?,
            gpu: amount(row, "req_gpu")?,
        },
        user_id: row.get("user_id")?,
        task_name: row.get("task_name")?,
        task_type: row.get("task_type")?,
        sla_multiplier: amount(row, "sla_multiplier")?,
        submitted_at: row.get("submitted_at")?,
        asked: parsed(row, "asked", json::asked_from_text)?.map(Box::new),
    })
}

fn read_tombstone(row: &Row<'_>) -> rusqlite::Result<Tombstone> {
    let verdict = parsed(row, "verdict", json::verdict_from_text)?;
    Ok(Tombstone {
        task: task_id(row, "task")?,
        digest: PayloadDigest(row.get("digest")?),
        result_id: ResultId(row.get("result_id")?),
        verdict: verdict.ok_or_else(|| unreadable("a tombstone without a verdict"))?,
    })
}

fn all<T>(
    connection: &Connection,
    query: &str,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    connection
        .prepare_cached(query)?
        .query_map([], |row| read(row))?
        .collect()
}

fn task_id(row: &Row<'_>, column: &str) -> rusqlite::Result<TaskId> {
    TaskId::new(row.get::<_, String>(column)?).map_err(unreadable)
}

/// A number of the master's. SQLite stores a value that is not a number as NULL.
fn amount(row: &Row<'_>, column: &str) -> rusqlite::Result<f64> {
    Ok(row.get::<_, Option<f64>>(column)?.unwrap_or(f64::NAN))
}

fn parsed<T>(
    row: &Row<'_>,
    column: &str,
    parse: impl Fn(&str) -> Result<T, json::Garbled>,
) -> rusqlite::Result<Option<T>> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| parse(&text))
        .transpose()
        .map_err(unreadable)
}

pub(super) fn read_phase(row: &Row<'_>) -> rusqlite::Result<Phase> {
    let word: String = row.get("phase")?;
    PHASES
        .into_iter()
        .find_map(|(phase, its_word)| (its_word == word).then_some(phase))
        .ok_or_else(|| unreadable("a phase that there is not"))
}

const PHASES: [(Phase, &str); 7] = [
    (Phase::Accepted, phase_word(Phase::Accepted)),
    (Phase::Starting, phase_word(Phase::Starting)),
    (Phase::Running, phase_word(Phase::Running)),
    (Phase::Ended, phase_word(Phase::Ended)),
    (Phase::Sealed, phase_word(Phase::Sealed)),
    (Phase::Delivered, phase_word(Phase::Delivered)),
    (Phase::Done, phase_word(Phase::Done)),
];

pub(super) const fn phase_word(phase: Phase) -> &'static str {
    match phase {
        Phase::Accepted => "accepted",
        Phase::Starting => "starting",
        Phase::Running => "running",
        Phase::Ended => "ended",
        Phase::Sealed => "sealed",
        Phase::Delivered => "delivered",
        Phase::Done => "done",
    }
}

fn unreadable(
    why: impl Into<Box<dyn std::error::Error + Send + Sync + 'static>>,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(
        0,
        Type::Text,
        Box::new(FromSqlError::Other(why.into())),
    )
}

/// Nanoseconds since the Unix epoch; times before 1677 and after 2262 become the nearest that fits.
pub(super) fn nanos(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |n| -n),
    }
}

fn time(nanos: i64) -> SystemTime {
    let distance = Duration::from_nanos(nanos.unsigned_abs());
    if nanos < 0 {
        UNIX_EPOCH - distance
    } else {
        UNIX_EPOCH + distance
    }
}
