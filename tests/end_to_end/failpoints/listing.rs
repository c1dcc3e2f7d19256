//! The list of failpoints is complete, and so are the points: one in every handler, `started` and spawned future of every
//! actor. And none of it is in what ships.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use worker_node::failpoint;

use crate::harness::is_full;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn texts(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    sources(&root().join(folder), &mut found);
    assert!(found.len() > 10, "{folder} was found");
    let read = |path: PathBuf| (path.clone(), fs::read_to_string(path).expect("a text"));
    found.into_iter().map(read).collect()
}

/// Names of points in a text: the first argument of the macro, and the names of the journal's durable steps.
fn names_in(text: &str) -> Vec<String> {
    let dense: String = text.split_whitespace().collect();
    let first_of = |rest: &str| rest.split('"').next().unwrap_or_default().to_owned();
    let called = dense.split("failpoint!(\"").skip(1).map(first_of);
    let steps = dense.split("[\"journal.").skip(1).flat_map(|rest| {
        let (both, _) = rest.split_once(']').expect("a pair");
        let names = both
            .split('"')
            .step_by(2)
            .filter(|name| name.ends_with(".before") || name.ends_with(".after"));
        names
            .map(|name| format!("journal.{}", name.trim_start_matches("journal.")))
            .collect::<Vec<_>>()
    });
    called.chain(steps).collect()
}

#[test]
fn the_list_names_every_point_and_each_once() {
    let texts = texts("src");
    let in_code = texts
        .iter()
        .filter(|(path, _)| !path.ends_with("src/failpoint.rs"));
    let mut found: Vec<String> = in_code.flat_map(|(_, text)| names_in(text)).collect();
    found.sort_unstable();
    let mut listed: Vec<String> = failpoint::NAMES
        .iter()
        .map(|&name| name.to_owned())
        .collect();
    listed.sort_unstable();

    assert_eq!(found, listed);
    let distinct: BTreeSet<_> = listed.iter().collect();
    assert_eq!(distinct.len(), listed.len(), "two points have one name");
}

/// The functions of a formatted text: from a line that begins one to the next that does.
fn functions(text: &str) -> Vec<String> {
    let mut functions = vec![String::new()];
    for line in text.lines() {
        let code = line.trim_start();
        if code.starts_with("fn ")
            || code.contains(" fn ") && code.starts_with("pub")
            || code.starts_with("async fn ")
        {
            functions.push(String::new());
        }
        if let Some(last) = functions.last_mut() {
            last.push_str(line);
            last.push('\n');
        }
    }
    functions
}

/// Functions of the actors that handle a message, begin an actor, or put a future or a timer on its context.
fn without_a_point(text: &str) -> Vec<String> {
    let production = text.split("#[cfg(test)]").next().unwrap_or_default();
    let wants = |function: &&String| {
        let begins = ["fn handle(&mut self", "fn started(&mut self"];
        let spawns = [
            "ctx.spawn(",
            "AsyncContext::spawn(",
            ".run_later(",
            ".into_actor(self)",
        ];
        let code = function.trim_start();
        begins.iter().any(|begin| code.starts_with(begin))
            || code
                .lines()
                .any(|line| spawns.iter().any(|spawn| line.contains(spawn)))
    };
    functions(production)
        .iter()
        .filter(wants)
        .filter(|function| !function.contains("failpoint!("))
        .map(|function| {
            function
                .lines()
                .next()
                .unwrap_or_default()
                .trim()
                .to_owned()
        })
        .collect()
}

/// Functions that want no point of their own, and why.
const EXCUSED: &[(&str, &str)] = &[
    (
        "fn look_at_disk(&mut self, ctx: &mut Context<Self>) {",
        "the future is one call, with its point inside",
    ),
    (
        "fn answer(&self, answer: AssignAnswer) -> Answer {",
        "the future is a value that is there already",
    ),
];

#[test]
fn every_handler_start_and_spawned_future_of_an_actor_has_a_point() {
    let actors = texts("src/actors");
    let bare: Vec<String> = actors
        .iter()
        .flat_map(|(path, text)| {
            let file = path
                .strip_prefix(root())
                .unwrap_or(path)
                .display()
                .to_string();
            without_a_point(text)
                .into_iter()
                .map(move |function| format!("{file}: {function}"))
        })
        .filter(|found| !EXCUSED.iter().any(|(excused, _)| found.ends_with(excused)))
        .collect();

    assert!(bare.is_empty(), "no failpoint in\n{}", bare.join("\n"));
}

#[test]
fn a_handler_without_a_point_is_found() {
    let text = "impl X {\n    fn handle(&mut self, _: M) {\n        self.n += 1;\n    }\n}\n";

    assert_eq!(without_a_point(text), ["fn handle(&mut self, _: M) {"]);
    assert!(without_a_point(&text.replace("self.n", "failpoint!(\"a.b\"); self.n")).is_empty());
}

#[test]
fn the_command_lists_them() {
    let listed = Command::new(env!("CARGO_BIN_EXE_worker-node"))
        .arg("failpoints")
        .output();
    let listed = listed.expect("it can be started");

    let names = String::from_utf8(listed.stdout).expect("UTF-8");
    assert_eq!(names.lines().collect::<Vec<_>>(), failpoint::NAMES);
    assert_eq!(listed.status.code(), Some(0));
}

#[test]
fn a_typo_in_a_test_is_no_silence() {
    let started = Command::new(env!("CARGO_BIN_EXE_worker-node"))
        .env("FAILPOINTS", "registry.AsignTask=panic")
        .output()
        .expect("it can be started");

    assert_eq!(started.status.code(), Some(2));
    let said = String::from_utf8_lossy(&started.stderr);
    assert!(said.contains("registry.AsignTask"), "{said}");
}

fn dependencies(features: &[&str]) -> String {
    let tree = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--edges",
            "normal,build",
            "--prefix",
            "none",
            "--offline",
        ])
        .args(features)
        .current_dir(root())
        .output()
        .expect("cargo can be started");
    assert!(
        tree.status.success(),
        "{}",
        String::from_utf8_lossy(&tree.stderr)
    );
    String::from_utf8(tree.stdout).expect("UTF-8")
}

#[test]
fn what_ships_has_no_failpoints() {
    let has_fail = |tree: &str| tree.lines().any(|line| line.starts_with("fail "));

    // Without the crate there is no code of theirs: each of them is behind the feature that brings it.
    assert!(
        !has_fail(&dependencies(&[])),
        "an ordinary build has failpoints"
    );
    assert!(
        has_fail(&dependencies(&["--features", "failpoints"])),
        "nothing can be seen this way"
    );
}

/// The same, on a build of its own.
#[test]
fn the_shipped_program_does_not_know_the_variable() {
    if !is_full() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder for the build");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--offline", "--bin", "worker-node", "--target-dir"])
        .arg(folder.path())
        .current_dir(root())
        .status()
        .expect("cargo can be started");
    assert!(built.success());
    let program = folder.path().join("debug/worker-node");

    let listed = Command::new(&program)
        .arg("failpoints")
        .output()
        .expect("it can be started");
    let bytes = fs::read(&program).expect("it is there");

    assert_eq!(listed.status.code(), Some(2), "such a command is not known");
    let name = b"registry.unrepeated_offer";
    assert!(
        !bytes.windows(name.len()).any(|window| window == name),
        "a point is in it"
    );
}
