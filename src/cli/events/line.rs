//! One event on one line: `key=value` for people, as the log has it, or an object for programs. Pure.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    cli::words::{self, JSON_VERSION},
    telemetry::history::HistoryEvent,
};

/// Bytes of a name, and of a cause, that are shown.
const NAME_LIMIT: usize = 128;
const CAUSE_LIMIT: usize = 2_048;

#[derive(Serialize)]
struct Line<'a> {
    version: u32,
    #[serde(flatten)]
    event: &'a HistoryEvent,
}

/// One event for programs: `{"version":1,"ts":"...","actor":"registry",...}`
pub(super) fn json(event: &HistoryEvent) -> String {
    let line = Line {
        version: JSON_VERSION,
        event,
    };
    serde_json::to_string(&line).expect("texts and numbers have a form in JSON")
}

/// One event for people: `2026-11-23T18:29:22.929Z registry      restarting  generation=1 restarts=1/5 in 30s ...`
pub(in crate::cli) fn text(event: &HistoryEvent) -> String {
    let mut fields: Vec<String> = who(event);
    if event.generation > 0 {
        fields.push(format!("generation={}", event.generation));
    }
    fields.extend(restarts(event));
    let times = [
        ("backoff", event.backoff_ms),
        ("took", event.duration_ms),
        ("uptime", event.uptime_ms),
    ];
    for (name, time) in times {
        let time = time.map(Duration::from_millis).map(words::time);
        fields.extend(time.map(|time| format!("{name}={time}")));
    }
    let cause = event.cause.as_deref();
    fields.extend(cause.map(|cause| format!("cause=\"{}\"", words::foreign(cause, CAUSE_LIMIT))));
    format!(
        "{} {:<13} {:<11} {}",
        moment(&event.ts),
        words::foreign(&event.actor, NAME_LIMIT),
        words::foreign(&event.event, NAME_LIMIT),
        fields.join(" ")
    )
}

/// Who gave the order, and how many entries before it are missing.
fn who(event: &HistoryEvent) -> Vec<String> {
    let peer = event.peer.as_deref();
    let peer = peer.map(|peer| format!("peer={}", words::foreign(peer, NAME_LIMIT)));
    let names = words::foreign(&event.certificate.join(","), CAUSE_LIMIT);
    let certificate = (!names.is_empty()).then(|| format!("certificate=\"{names}\""));
    let user = event.user.map(|user| format!("user={user}"));
    let missing = event.missing.map(|count| format!("missing={count}"));
    let all = [peer, certificate, user, missing];
    all.into_iter().flatten().collect()
}

/// The event's time to the millisecond, as the log has it; a text that is no time is shown as it is.
fn moment(ts: &str) -> String {
    match ts.parse::<Timestamp>() {
        Ok(at) => format!("{at:.3}"),
        Err(_) => words::foreign(ts, NAME_LIMIT),
    }
}

fn restarts(event: &HistoryEvent) -> Option<String> {
    let (used, intensity) = (event.restarts?, event.intensity?);
    let window = words::time(Duration::from_millis(event.window_ms?));
    Some(format!("restarts={used}/{intensity} in {window}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn restarting() -> HistoryEvent {
        HistoryEvent {
            ts: "2026-11-23T18:29:22.929123456Z".into(),
            actor: "registry".into(),
            event: "restarting".into(),
            generation: 1,
            cause: Some("panicked at a.rs:1:2: oh\nfaked".into()),
            restarts: Some(1),
            intensity: Some(5),
            window_ms: Some(30_000),
            backoff_ms: Some(250),
            duration_ms: Some(3),
            uptime_ms: Some(61_000),
            ..HistoryEvent::default()
        }
    }

    #[test]
    fn a_line_tells_all_that_is_known() {
        assert_eq!(
            text(&restarting()),
            "2026-11-23T18:29:22.929Z registry      restarting  generation=1 restarts=1/5 in 30s backoff=250ms took=3ms \
             uptime=1m1s cause=\"panicked at a.rs:1:2: oh\\nfaked\""
        );
    }

    #[test]
    fn who_changed_something_is_told_and_cannot_forge_a_line() {
        let event = HistoryEvent {
            ts: "2026-11-23T18:29:22.9Z".into(),
            actor: "task(a)".into(),
            event: "cancel".into(),
            peer: Some("10.0.0.1:5".into()),
            certificate: vec!["m.example".into(), "a\nb".into()],
            ..HistoryEvent::default()
        };
        let operator = HistoryEvent {
            user: Some(0),
            missing: Some(3),
            peer: None,
            certificate: Vec::new(),
            ..event.clone()
        };

        assert_eq!(
            text(&event),
            "2026-11-23T18:29:22.900Z task(a)       cancel      peer=10.0.0.1:5 certificate=\"m.example,a\\nb\""
        );
        assert_eq!(
            text(&operator),
            "2026-11-23T18:29:22.900Z task(a)       cancel      user=0 missing=3"
        );
        assert_eq!(
            json(&operator),
            r#"{"version":1,"ts":"2026-11-23T18:29:22.9Z","actor":"task(a)","event":"cancel","user":0,"missing":3}"#
        );
    }

    #[test]
    fn what_is_not_known_is_left_away() {
        let event = HistoryEvent {
            ts: "soon\n".into(),
            actor: "task(a)".into(),
            event: "started".into(),
            generation: 2,
            ..HistoryEvent::default()
        };

        assert_eq!(
            text(&event),
            "soon\\n task(a)       started     generation=2"
        );
        assert_eq!(
            json(&event),
            r#"{"version":1,"ts":"soon\n","actor":"task(a)","event":"started","generation":2}"#
        );
    }
}
