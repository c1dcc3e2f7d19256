//! The journal's format on disk, and the steps that lead from older formats to it. A step that was released never changes: a new
//! format is a new step at the end.

use rusqlite::{Connection, TransactionBehavior};

/// Marks the file as ours (`WNOD`), in SQLite's own header field for that.
pub(super) const APPLICATION_ID: i64 = 0x574E_4F44;

/// The format that this program writes.
pub(super) const KNOWN: i64 = STEPS.len() as i64;

/// What leads from format n to n + 1. Times are nanoseconds since the Unix epoch. An amount that is NULL was no number:
/// SQLite cannot store one, and a task that asks for it is accepted all the same, to fail with that reason.
const STEPS: [&str; 7] = [
    r"
CREATE TABLE tasks (
    seq              INTEGER PRIMARY KEY,
    id               TEXT    NOT NULL UNIQUE,
    image            TEXT    NOT NULL,
    command          TEXT    NOT NULL,
    req_cpu          REAL,
    req_memory       REAL,
    req_storage      REAL,
    req_gpu          REAL,
    user_id          TEXT    NOT NULL,
    task_name        TEXT    NOT NULL,
    task_type        TEXT    NOT NULL,
    sla_multiplier   REAL,
    submitted_at     INTEGER NOT NULL,
    digest           BLOB    NOT NULL CHECK (length(digest) = 32),
    attempt          INTEGER NOT NULL CHECK (attempt BETWEEN 0 AND 4294967295),
    result_id        TEXT    NOT NULL,
    phase            TEXT    NOT NULL CHECK (phase IN
        ('accepted', 'starting', 'running', 'ended', 'sealed', 'delivered', 'done')),
    answered         INTEGER NOT NULL CHECK (answered IN (0, 1)),
    cancel_requested INTEGER NOT NULL CHECK (cancel_requested IN (0, 1)),
    container_name   TEXT    NOT NULL,
    container        TEXT,
    ending           TEXT,
    verdict          TEXT,
    accepted_at      INTEGER NOT NULL,
    done_at          INTEGER
) STRICT;

-- Made when a task has something to deliver, kept as long as the task.
CREATE TABLE outbox (
    task             TEXT    NOT NULL PRIMARY KEY REFERENCES tasks (id) ON DELETE CASCADE,
    uploaded         INTEGER NOT NULL DEFAULT 0 CHECK (uploaded IN (0, 1)),
    upload_note      TEXT,
    upload_attempts  INTEGER NOT NULL DEFAULT 0 CHECK (upload_attempts BETWEEN 0 AND 4294967295),
    report_attempts  INTEGER NOT NULL DEFAULT 0 CHECK (report_attempts BETWEEN 0 AND 4294967295),
    parked           TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE tombstones (
    seq              INTEGER PRIMARY KEY AUTOINCREMENT,
    task             TEXT    NOT NULL UNIQUE,
    digest           BLOB    NOT NULL CHECK (length(digest) = 32),
    result_id        TEXT    NOT NULL,
    verdict          TEXT    NOT NULL,
    retired_at       INTEGER NOT NULL
) STRICT;
CREATE INDEX tombstones_by_age ON tombstones (retired_at);

CREATE TABLE early_cancels (
    seq              INTEGER PRIMARY KEY AUTOINCREMENT,
    task             TEXT    NOT NULL UNIQUE,
    requested_at     INTEGER NOT NULL
) STRICT;
CREATE INDEX early_cancels_by_age ON early_cancels (requested_at);

CREATE TABLE settings (
    key              TEXT    NOT NULL PRIMARY KEY,
    value            TEXT    NOT NULL
) STRICT, WITHOUT ROWID;
",
    r"
-- Results that the master offered their tasks for again: to be sent once more. Of tasks and of tombstones.
CREATE TABLE redeliveries (
    seq              INTEGER PRIMARY KEY,
    task             TEXT    NOT NULL UNIQUE
) STRICT;
",
    r"
-- When its result was put aside first, for its retention.
ALTER TABLE outbox ADD COLUMN parked_at INTEGER;

-- What is asked of all tasks again and again is answered without reading them.
CREATE INDEX tasks_finished ON tasks (done_at, id) WHERE phase = 'done';
CREATE INDEX tasks_unfinished ON tasks (seq, id) WHERE phase <> 'done';
CREATE INDEX outbox_parked ON outbox (parked_at) WHERE parked_at IS NOT NULL;
",
    r"
-- When it came to each phase, for whoever asks what became of it. NULL where a step was leapt over, or taken before this format.
ALTER TABLE tasks ADD COLUMN starting_at INTEGER;
ALTER TABLE tasks ADD COLUMN running_at INTEGER;
ALTER TABLE tasks ADD COLUMN ended_at INTEGER;
ALTER TABLE tasks ADD COLUMN sealed_at INTEGER;
ALTER TABLE tasks ADD COLUMN delivered_at INTEGER;
",
    r"
-- Which image its container is made of: a registry's digest, else the engine's id.
ALTER TABLE tasks ADD COLUMN image_ran TEXT;
",
    r"
-- Images that came by a pull of this worker, a row for each name.
CREATE TABLE images (
    id               TEXT    NOT NULL,
    reference        TEXT    NOT NULL,
    told             TEXT    NOT NULL,
    pulled_at        INTEGER NOT NULL,
    used_at          INTEGER NOT NULL,
    PRIMARY KEY (id, reference)
) STRICT, WITHOUT ROWID;
",
    r"
-- What it asks for beside image, command and amounts; NULL: nothing.
ALTER TABLE tasks ADD COLUMN asked TEXT;
",
];

/// Brings the file from format `found` to [`KNOWN`], a step per transaction.
pub(super) fn migrate(connection: &mut Connection, found: i64) -> rusqlite::Result<()> {
    for (from, step) in (0..).zip(STEPS).skip_while(|(from, _)| *from < found) {
        let migration = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        migration.execute_batch(step)?;
        migration.pragma_update(None, "application_id", APPLICATION_ID)?;
        migration.pragma_update(None, "user_version", from + 1)?;
        migration.commit()?;
    }
    Ok(())
}
