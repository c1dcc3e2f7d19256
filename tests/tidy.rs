//! Keeps what the compiler does not: the arrows between the rooms, the heads of the files, tests that neither sleep nor are
//! switched off, and a tree without strangers at its top. Each rule is shown to fail on made-up sources.

#[path = "tidy/lexer.rs"]
mod lexer;
#[path = "tidy/paths.rs"]
mod paths;
#[path = "tidy/rules.rs"]
mod rules;

use std::{fs, path::Path};

use rules::{Source, violations};

/// What is seen at the top of the tree; hidden entries and the build's own folder aside.
const TOP: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "README.md",
    "actors.md",
    "build.rs",
    "proto",
    "src",
    "tests",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file of the tree.
fn tree() -> Vec<Source> {
    let mut sources = Vec::new();
    for top in ["src", "tests", "build.rs"] {
        read(&root().join(top), &mut sources);
    }
    sources
}

fn read(path: &Path, sources: &mut Vec<Source>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("a folder") {
            read(&entry.expect("an entry").path(), sources);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        let shown = path.strip_prefix(root()).expect("below the root");
        sources.push(Source {
            path: shown.to_str().expect("UTF-8").to_owned(),
            text: fs::read_to_string(path).expect("a text"),
        });
    }
}

/// The crates that the manifest names.
fn crates() -> Vec<String> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("a manifest");
    let mut names = vec!["std".to_owned(), "core".to_owned()];
    let mut within = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            within = line.contains("dependencies");
        } else if let Some((name, _)) = line.split_once(" =").filter(|_| within) {
            names.push(name.trim().replace('-', "_"));
        }
    }
    names
}

#[test]
fn the_tree_keeps_its_rules() {
    let tree = tree();
    assert!(tree.len() > 20, "the tree was found");

    let found = violations(&tree, &crates());

    let lines: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "\n{}\n", lines.join("\n"));
}

#[test]
fn nothing_else_stands_at_the_top() {
    let entries = fs::read_dir(root()).expect("the root");
    let strangers: Vec<_> = entries
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .filter(|name| !name.starts_with('.') && name != "target")
        .filter(|name| !TOP.contains(&name.as_str()))
        .collect();

    assert!(strangers.is_empty(), "not agreed on: {strangers:?}");
}

/// What is found in one made-up file, as `line: what`.
#[track_caller]
fn found_in(path: &str, text: &str) -> Vec<String> {
    let source = Source {
        path: path.to_owned(),
        text: format!("//! Head.\n{text}"),
    };
    let crates = ["std", "serde", "thiserror", "tonic"].map(ToOwned::to_owned);
    let found = violations(&[source], &crates);
    found
        .iter()
        .map(|one| format!("{}: {}", one.line, one.what))
        .collect()
}

#[track_caller]
fn is_found(path: &str, text: &str) {
    let found = found_in(path, text);
    assert_eq!(found.len(), 1, "{path}: {text}: {found:?}");
    assert!(found[0].starts_with("2: "), "{found:?}");
}

#[track_caller]
fn is_fine(path: &str, text: &str) {
    let found = found_in(path, text);
    assert!(found.is_empty(), "{path}: {text}: {found:?}");
}

#[test]
fn an_arrow_against_the_table_is_found() {
    for (path, text) in [
        ("src/domain/id.rs", "use crate::ports::clock::Clock;"),
        ("src/domain/id.rs", "use serde::Serialize;"),
        ("src/domain/id.rs", "use std::fs;"),
        ("src/ports/engine.rs", "use crate::engine::Docker;"),
        ("src/ports/engine.rs", "fn f(e: bollard::Docker) {}"),
        ("src/actors/task.rs", "use tonic::Status;"),
        ("src/actors/task.rs", "use ::tonic::Status;"),
        ("src/actors/task.rs", "use std::{fmt, fs::File};"),
        ("src/actors/task.rs", "fn f() { tokio::fs::read(\"x\"); }"),
        (
            "src/actors/task.rs",
            "use crate::{domain::id, engine::Docker};",
        ),
        ("src/actors/task.rs", "use super::super::grpc;"),
        ("src/actors/task.rs", "use crate::*;"),
        (
            "src/actors/task/deep.rs",
            "fn f() { crate::journal::open(); }",
        ),
        ("src/engine/pull.rs", "use crate::actors::Task;"),
        (
            "src/engine/pull.rs",
            "use crate::{ports::{engine as e}, spool::Spool};",
        ),
        ("src/grpc/client.rs", "use crate::handle::WorkerHandle;"),
        ("src/grpc/server.rs", "use crate::actors::Registry;"),
        ("src/journal.rs", "use crate::spool;"),
        ("src/journal.rs", "use actix::Actor;"),
        ("src/spool/file.rs", "use rusqlite::Connection;"),
        (
            "src/supervision/slot.rs",
            "use crate::domain::spec::TaskSpec;",
        ),
        ("src/config.rs", "use crate::app;"),
        ("src/cli/logs.rs", "use crate::dev_master::DevMaster;"),
        ("src/app.rs", "use crate::dev_master::DevMaster;"),
        ("src/main.rs", "use worker_node::actors;"),
    ] {
        is_found(path, text);
    }
}

#[test]
fn what_the_table_allows_is_fine() {
    for (path, text) in [
        (
            "src/domain/id.rs",
            "use std::fmt; use thiserror::Error; use super::text::escape;",
        ),
        ("src/domain/id.rs", "use crate::domain::{self, spec};"),
        (
            "src/actors/task.rs",
            "use crate::{domain::id, ports::engine, supervision::Slot, telemetry::operator};",
        ),
        (
            "src/actors/task.rs",
            "use actix::Actor; use super::registry; crate::answers_pings!(Task);",
        ),
        ("src/supervision.rs", "pub use crate::answers_pings;"),
        (
            "src/engine/pull.rs",
            "use bollard::Docker; use super::convert; use crate::engine::labels;",
        ),
        (
            "src/grpc/server.rs",
            "use crate::handle::WorkerHandle; use tonic::Status;",
        ),
        ("src/cli/demo.rs", "use crate::dev_master::DevMaster;"),
        ("src/app.rs", "use crate::{actors, engine, grpc, journal};"),
        (
            "src/actors/task.rs",
            "fn f<'a>() -> impl Iterator + use<'a> { let c = 'x'; }",
        ),
    ] {
        is_fine(path, text);
    }
}

#[test]
fn words_and_comments_are_no_code() {
    is_fine(
        "src/actors/task.rs",
        "// use tonic::Status;\n/* use /* tonic:: */ tonic::Status; */",
    );
    is_fine(
        "src/actors/task.rs",
        r##"const A: &str = "use tonic::Status; \" tonic::x"; const B: &str = r#"tonic::" x"#;"##,
    );
    is_fine(
        "src/actors/task.rs",
        "const QUOTE: (char, char, u8) = ('\"', '\\'', b'\"');\n// tonic::Status",
    );
    is_found(
        "src/actors/task.rs",
        "const QUOTE: (char, char, u8) = ('\"', '\\'', b'\"'); use tonic::Status;",
    );
}

#[test]
fn tests_may_name_what_they_like_and_nothing_beside_them_may() {
    is_fine(
        "src/actors/task.rs",
        "#[cfg(test)] mod tests { use tonic::Status; use crate::engine; }",
    );
    is_fine(
        "src/actors/task.rs",
        "#[cfg(test)] use crate::engine::{Docker, Fake};",
    );
    is_found(
        "src/actors/task.rs",
        "#[cfg(test)] mod tests { mod a {} } use tonic::Status;",
    );
    is_found(
        "src/actors/task.rs",
        "#[cfg(not(test))] mod real { use tonic::Status; }",
    );
    is_found(
        "src/actors/task.rs",
        "#[cfg(test)] use std::{io, fmt}; use tonic::Status;",
    );
}

#[test]
fn a_module_within_a_file_counts_for_super() {
    is_fine("src/domain/id.rs", "mod a { use super::super::text; }");
    is_found(
        "src/domain/id.rs",
        "mod a { use super::super::super::ports; }",
    );
    is_found("src/domain/id.rs", "mod a { } use super::super::ports;");
}

#[test]
fn a_file_of_tests_is_known_by_its_declaration() {
    let tree = |declaration: &str| {
        let source = |path: &str, text: &str| Source {
            path: path.to_owned(),
            text: format!("//! Head.\n{text}"),
        };
        let tree = [
            source("src/actors.rs", declaration),
            source("src/actors/tests.rs", "use tonic::Status;"),
        ];
        violations(&tree, &[]).len()
    };

    assert_eq!(tree("#[cfg(test)]\nmod tests;"), 0);
    assert_eq!(tree("mod tests;"), 1);
}

#[test]
fn a_room_without_a_row_is_found() {
    let found = found_in("src/cellar/wine.rs", "");

    assert_eq!(
        found,
        ["1: the room `cellar` has no row in the table of arrows"]
    );
}

#[test]
fn the_overview_holds_modules_alone() {
    is_fine(
        "src/lib.rs",
        "#![deny(warnings)]\npub mod domain;\n#[cfg(unix)]\npub mod ports;",
    );
    is_found("src/lib.rs", "pub use domain::id;");
    is_found("src/lib.rs", "fn helper() {}");
}

#[test]
fn a_file_without_a_head_is_found() {
    let source = Source {
        path: "tests/lifecycle.rs".to_owned(),
        text: "\nuse std::fmt;\n".to_owned(),
    };

    let found = violations(&[source], &[]);

    assert_eq!(found.len(), 1);
    assert!(
        found[0]
            .to_string()
            .starts_with("tests/lifecycle.rs:1: begins without")
    );
}

#[test]
fn a_test_that_sleeps_is_found() {
    is_found(
        "tests/lifecycle.rs",
        "async fn t() { tokio::time::sleep(d).await; }",
    );
    is_found("tests/support/node.rs", "fn t() { thread::sleep(d); }");
    is_found(
        "src/actors/task.rs",
        "#[cfg(test)] mod tests { fn t() { sleep_until(d); } }",
    );
    is_fine(
        "src/actors/task.rs",
        "async fn backoff() { tokio::time::sleep(d).await; }",
    );
    is_fine(
        "tests/lifecycle.rs",
        "const COMMAND: &str = \"sleep(1)\"; // sleep(2)",
    );
}

#[test]
fn a_test_that_is_switched_off_or_expects_a_panic_is_found() {
    is_found("tests/lifecycle.rs", "#[ignore] #[test] fn t() {}");
    is_found(
        "src/domain/id.rs",
        "#[cfg(test)] mod tests { #[ignore = \"slow\"] fn t() {} }",
    );
    is_found(
        "tests/lifecycle.rs",
        "#[should_panic(expected = \"x\")] fn t() {}",
    );
    is_found("tests/lifecycle.rs", "#[cfg_attr(unix, ignore)] fn t() {}");
    is_fine(
        "tests/lifecycle.rs",
        "#[test] fn ignore() { should_panic(); }",
    );
}
