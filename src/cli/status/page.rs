//! The status of a worker for people. Pure: a moment in, a page out.

use std::{collections::BTreeMap, path::Path, time::SystemTime};

use super::{Moment, is_down};
use crate::{
    cli::words,
    ports::{
        admin::ActorKind,
        clock::{Clock, SystemClock},
        status::MasterContact,
    },
};

/// Seconds of a day.
const DAY: u64 = 86_400;

/// Bytes of foreign text that are shown.
const WORDS: usize = 256;

/// From this age on, in seconds, the last heartbeat is late: one is sent every 5 s, and a master may be slow.
const LATE: u64 = 20;

/// Each thing that is wrong with what to do about it, the worst first. Empty: the worker is well.
pub(super) fn troubles(moment: &Moment) -> Vec<String> {
    let status = &moment.status;
    let mut troubles = Vec::new();
    let engine = &status.engine;
    if let Some(why) = &engine.failure {
        let why = words::foreign(why, WORDS);
        troubles.push(match engine.away_for {
            Some(away) => format!(
                "the engine at {} is away for {}: {why}; see to it (systemctl status docker): running tasks go on, new ones are refused",
                engine.address,
                words::time(away)
            ),
            None => format!("no task can run on the engine: {why}"),
        });
    }
    troubles.extend(master_trouble(&status.master));
    if let Some(why) = &status.refusing {
        troubles.push(format!(
            "new tasks are refused: {}",
            words::foreign(why, WORDS)
        ));
    }
    if let Some(until) = status
        .certificate_until
        .filter(|until| *until <= SystemClock.now())
    {
        troubles.push(format!(
            "the certificate of --tls-cert ran out at {}: nobody trusts it; put a new one into its file",
            humantime::format_rfc3339_seconds(until)
        ));
    }
    if moment.results.parked > 0 {
        troubles.push(format!(
            "{} results are parked, the master does not take them: `worker-node state dump` says why, `worker-node outbox retry` \
             sends them again",
            moment.results.parked
        ));
    }
    let down = moment
        .actors
        .iter()
        .filter(|actor| actor.kind == ActorKind::Subsystem && is_down(actor));
    troubles.extend(down.map(|actor| {
        format!(
            "the actor {} is {}: `worker-node actors {}` says why",
            actor.name, actor.state, actor.name
        )
    }));
    troubles
}

fn master_trouble(master: &MasterContact) -> Option<String> {
    let address = words::foreign(&master.address, WORDS);
    if let (Some(time), Some(why)) = (master.failing_for, &master.failure) {
        let (time, why) = (words::time(time), words::foreign(why, WORDS));
        return Some(format!(
            "the master at {address} does not take this worker for {time}: {why}; results wait for it"
        ));
    }
    if master.registered_for.is_none() {
        return Some(format!(
            "the master at {address} has not registered this worker yet"
        ));
    }
    let late = master.beat_ago.filter(|ago| ago.as_secs() >= LATE)?;
    Some(format!(
        "the last heartbeat that the master took is {} old",
        words::time(late)
    ))
}

/// The whole page.
pub(super) fn page(moment: &Moment, troubles: &[String], folder: &Path) -> String {
    let status = &moment.status;
    let verdict = match troubles.is_empty() {
        true => "healthy",
        false => "NOT WELL",
    };
    let mut page = format!(
        "{} is {verdict} ({}, process {}, up {}, state {})\n",
        status.worker,
        words::foreign(&status.version, WORDS),
        status.process,
        words::time(status.uptime),
        words::foreign(&folder.to_string_lossy(), WORDS),
    );
    for trouble in troubles {
        page.push_str(&format!("  !! {trouble}\n"));
    }
    for (name, value) in [
        ("master", master(&status.master)),
        ("engine", engine(moment)),
        ("tasks", tasks(moment)),
        ("room", room(moment)),
        ("results", results(moment)),
        ("disk", disk(moment)),
        ("actors", actors(moment)),
    ] {
        page.push_str(&format!("  {name:<9}{value}\n"));
    }
    if let Some(until) = status.certificate_until {
        page.push_str(&format!("  {:<9}{}\n", "TLS", certificate(until)));
    }
    for error in &status.errors {
        let (ago, text) = (words::time(error.ago), words::foreign(&error.text, WORDS));
        page.push_str(&format!("  {:<9}{ago} ago, {text}\n", "error"));
    }
    page
}

fn certificate(until: SystemTime) -> String {
    let date = humantime::format_rfc3339_seconds(until);
    match until.duration_since(SystemClock.now()) {
        Ok(left) => format!(
            "its certificate is good for {} more days, until {date}",
            left.as_secs() / DAY
        ),
        Err(_) => format!("its certificate ran out at {date}"),
    }
}

fn master(master: &MasterContact) -> String {
    let mut told = words::foreign(&master.address, WORDS);
    match master.registered_for {
        Some(time) => told.push_str(&format!(", registered for {}", words::time(time))),
        None => told.push_str(", not registered"),
    }
    if let (Some(ago), Some(took)) = (master.beat_ago, master.beat_took) {
        let (ago, took) = (words::time(ago), words::time(took));
        told.push_str(&format!(", last heartbeat {ago} ago, answered in {took}"));
    }
    told
}

fn engine(moment: &Moment) -> String {
    let engine = &moment.status.engine;
    match &engine.version {
        Some(version) => format!(
            "{}, version {}",
            engine.address,
            words::foreign(version, WORDS)
        ),
        None => format!("{}, away", engine.address),
    }
}

fn tasks(moment: &Moment) -> String {
    let mut stages = BTreeMap::new();
    for task in &moment.tasks {
        *stages.entry(task.stage.as_str()).or_insert(0) += 1;
    }
    let stages: Vec<_> = stages
        .into_iter()
        .map(|(stage, count)| format!("{count} {stage}"))
        .collect();
    match stages.is_empty() {
        true => "none".to_owned(),
        false => stages.join(", "),
    }
}

fn room(moment: &Moment) -> String {
    let room = moment.status.room;
    let held =
        |of: fn(&crate::ports::admin::TaskView) -> f64| moment.tasks.iter().map(of).sum::<f64>();
    let left = |all: f64, held: f64| ((all - held).max(0.0) * 100.0).round() / 100.0;
    let mut told = format!(
        "{} of {} cores, {} of {} GiB",
        left(room.cpu, held(|task| task.cpu)),
        left(room.cpu, 0.0),
        left(room.memory, held(|task| task.memory)),
        left(room.memory, 0.0),
    );
    if room.gpu > 0.0 {
        let free = left(room.gpu, held(|task| task.gpu));
        told.push_str(&format!(", {free} of {} GPUs", room.gpu));
    }
    let places = room.tasks.saturating_sub(moment.tasks.len() as u64);
    told.push_str(&format!(", {places} of {} tasks", room.tasks));
    told
}

fn results(moment: &Moment) -> String {
    let results = moment.results;
    match (results.waiting, results.parked) {
        (0, 0) => "none waits for the master".to_owned(),
        (waiting, parked) => format!("{waiting} wait for the master, {parked} are parked"),
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
fn disk(moment: &Moment) -> String {
    moment.disk_free.map_or_else(
        || "not known".to_owned(),
        |free| format!("{:.1} GiB free", free as f64 / f64::from(1 << 30)),
    )
}

fn actors(moment: &Moment) -> String {
    let subsystems = || {
        let actors = moment.actors.iter();
        actors.filter(|actor| actor.kind == ActorKind::Subsystem)
    };
    let running = subsystems().filter(|actor| !is_down(actor)).count();
    let restarted: Vec<_> = subsystems()
        .filter(|actor| actor.restarts > 0)
        .map(|actor| format!("{} {} times", actor.name, actor.restarts))
        .collect();
    let mut told = format!("{running} of {} run", subsystems().count());
    if !restarted.is_empty() {
        told.push_str(&format!("; restarted: {}", restarted.join(", ")));
    }
    told
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::specimen, *};
    use crate::ports::status::LoggedError;

    fn shown(moment: &Moment) -> String {
        page(moment, &troubles(moment), Path::new("/s"))
    }

    #[test]
    fn a_worker_that_is_well_is_told_in_eight_lines() {
        assert_eq!(
            shown(&specimen::well()),
            "\
w is healthy (0.1.0, process 7, up 3h, state /s)
  master   m:1, registered for 3h, last heartbeat 2s ago, answered in 4ms
  engine   unix:///e, version 20.10.24
  tasks    1 pulling, 2 running
  room     0.5 of 2 cores, 20.5 of 23.5 GiB, 253 of 256 tasks
  results  none waits for the master
  disk     2.0 GiB free
  actors   1 of 1 run
"
        );
    }

    #[test]
    fn each_trouble_is_told_with_its_age_its_cause_and_what_to_do() {
        let mut moment = specimen::well();
        let minute = Some(Duration::from_secs(60));
        moment.status.engine.version = None;
        moment.status.engine.away_for = minute;
        moment.status.engine.failure = Some("refused\x1b".into());
        moment.status.master.failing_for = minute;
        moment.status.master.failure = Some("no route".into());
        moment.status.refusing = Some("the disk is full".into());
        moment.results.parked = 2;
        moment.actors[0].restarts = 3;
        moment.actors[0].state = crate::ports::admin::ActorState::Backoff;

        let told = shown(&moment);

        assert!(told.starts_with("w is NOT WELL ("), "{told}");
        for words in [
            "!! the engine at unix:///e is away for 1m: refused\\u{1b}; see to it",
            "!! the master at m:1 does not take this worker for 1m: no route;",
            "!! new tasks are refused: the disk is full",
            "!! 2 results are parked",
            "!! the actor journal is BACKOFF: `worker-node actors journal`",
            "0 of 1 run; restarted: journal 3 times",
            "unix:///e, away",
        ] {
            assert!(told.contains(words), "{words} in {told}");
        }
    }

    #[test]
    fn the_last_errors_and_the_certificate_are_told_where_there_are_any() {
        let mut moment = specimen::well();
        moment.status.errors = vec![LoggedError {
            ago: Duration::from_secs(90),
            text: "outbox: no\x1b route".into(),
        }];
        moment.status.certificate_until =
            Some(SystemClock.now() + Duration::from_secs(10 * DAY + 60));
        let told = shown(&moment);
        assert!(told.starts_with("w is healthy ("), "{told}");
        assert!(
            told.contains("\n  TLS      its certificate is good for 10 more days, until "),
            "{told}"
        );
        assert!(
            told.ends_with("\n  error    1m30s ago, outbox: no\\u{1b} route\n"),
            "{told}"
        );

        moment.status.certificate_until = Some(SystemTime::UNIX_EPOCH);
        assert!(troubles(&moment)[0].contains("ran out at 1970-01-01T00:00:00Z"));
    }

    #[test]
    fn a_master_that_is_silent_is_a_trouble() {
        let mut moment = specimen::well();
        moment.status.master.beat_ago = Some(Duration::from_secs(40));
        assert!(troubles(&moment)[0].contains("40s old"));

        moment.status.master.registered_for = None;
        assert!(troubles(&moment)[0].contains("has not registered"));
    }
}
