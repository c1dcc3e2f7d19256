//! Who fell and who rose again, read from the worker's log.

use crate::harness::Process;

/// One edge in the life of an actor, as the log tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Edge {
    /// The word: panicked, hung, restarting, ...
    pub(crate) word: String,
    /// The child's name.
    pub(crate) actor: String,
    /// The whole line.
    pub(crate) line: String,
}

/// All edges so far.
pub(crate) fn edges(process: &Process) -> Vec<Edge> {
    process
        .lines()
        .iter()
        .filter_map(|line| edge(line))
        .collect()
}

fn edge(line: &str) -> Option<Edge> {
    let (_, told) = line.split_once(" lifecycle: ")?;
    let (word, fields) = told.split_once(' ')?;
    let actor = fields.split_once("actor=")?.1.split(' ').next()?;
    Some(Edge {
        word: word.to_owned(),
        actor: actor.to_owned(),
        line: line.to_owned(),
    })
}

/// The names of those that failed, one entry per failure, tasks as `task`.
pub(crate) fn failures(process: &Process) -> Vec<String> {
    let restarting = edges(process)
        .into_iter()
        .filter(|edge| edge.word == "restarting");
    restarting.map(|edge| kind(&edge.actor)).collect()
}

fn kind(actor: &str) -> String {
    actor.split('(').next().unwrap_or(actor).to_owned()
}

#[test]
fn an_edge_is_read_from_a_line_of_the_log() {
    let line = "2026-11-24T04:58:50.663Z WARN  lifecycle: restarting actor=task(t-1) generation=1 cause=\"x\" restarts=1";

    let edge = edge(line).unwrap();

    assert_eq!(
        (edge.word.as_str(), edge.actor.as_str()),
        ("restarting", "task(t-1)")
    );
    assert_eq!(kind(&edge.actor), "task");
}
