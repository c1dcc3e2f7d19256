//! The page about one actor, for people: its state, its child spec, its last events. Pure.

use super::{tree, words};
use crate::{
    cli::events::line, domain::restart::RestartType, ports::admin::ActorView,
    telemetry::history::HistoryEvent,
};

/// Bytes of the actor's name that are shown: a task's id may be this long.
const NAME_LIMIT: usize = 1_024;
const REASON_LIMIT: usize = 512;

/// One actor and its last events, oldest first.
pub(super) fn page(actor: &ActorView, events: &[HistoryEvent]) -> String {
    let mut page = format!(
        "{}  {}\n",
        words::foreign(&actor.name, NAME_LIMIT),
        actor.state
    );
    for (name, value) in facts(actor) {
        page.push_str(&format!("  {name:<12}{value}\n"));
    }
    if events.is_empty() {
        page.push_str("  no events yet\n");
    } else {
        page.push_str(&format!("  last {} events\n", events.len()));
    }
    for event in events {
        page.push_str(&format!("    {}\n", line::text(event)));
    }
    page
}

fn facts(actor: &ActorView) -> Vec<(&'static str, String)> {
    let spec = &actor.spec;
    let mut facts = vec![
        (
            "uptime",
            actor.uptime.map_or_else(|| "-".to_owned(), words::time),
        ),
        ("generation", actor.generation.to_string()),
        ("restarts", tree::restarts(actor)),
        (
            "budget",
            format!(
                "{} of {} restarts left in {}",
                spec.budget_left,
                spec.budget.intensity,
                words::time(spec.budget.window)
            ),
        ),
        ("mailbox", mailbox(actor)),
        ("busy", words::percent(actor.busy)),
    ];
    if let Some(reason) = &actor.last_reason {
        facts.push(("last reason", words::foreign(reason, REASON_LIMIT)));
    }
    facts.push((
        "spec",
        format!(
            "{}, on {}, {} to stop",
            restart_type(spec.restart),
            spec.runs_on,
            words::time(spec.shutdown)
        ),
    ));
    facts
}

fn mailbox(actor: &ActorView) -> String {
    let figures = format!("{} waiting, {} handled", actor.mailbox, actor.handled);
    match &actor.last_message {
        Some(message) => format!("{figures}, last {message}"),
        None => figures,
    }
}

/// OTP's word for the restart type.
pub(super) fn restart_type(restart: RestartType) -> &'static str {
    match restart {
        RestartType::Permanent => "permanent",
        RestartType::Transient => "transient",
        RestartType::Temporary => "temporary",
    }
}

#[cfg(test)]
mod tests {
    use super::{super::specimen, *};

    #[test]
    fn one_actor_is_shown_with_its_spec_its_budget_and_its_story() {
        let mut actor = specimen::failed("registry");
        actor.spec.budget_left = 3;
        let event = HistoryEvent {
            ts: "2026-11-23T18:29:22.929123Z".into(),
            actor: "registry".into(),
            event: "started".into(),
            generation: 3,
            ..HistoryEvent::default()
        };

        assert_eq!(
            page(&actor, &[event]),
            "\
registry  BACKOFF
  uptime      -
  generation  3
  restarts    2 (7s ago)
  budget      3 of 5 restarts left in 30s
  mailbox     4 waiting, 120 handled, last Commit
  busy        12.5%
  last reason panicked at a.rs:1:2: oh\\n\\u{1b}[2J
  spec        permanent, on a thread of its own, 5s to stop
  last 1 events
    2026-11-23T18:29:22.929Z registry      started     generation=3
"
        );
    }

    #[test]
    fn an_actor_without_a_past_says_so() {
        let page = page(&specimen::subsystem("journal"), &[]);

        assert!(page.contains("no events yet"), "{page}");
        assert!(!page.contains("last reason"), "{page}");
    }
}
