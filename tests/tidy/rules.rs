//! The rules of this house that no compiler keeps: who may name whom, and how a file begins. The arrows are data; a room without
//! a row is a violation itself, so that nobody adds one without saying where it stands.

use std::{collections::HashSet, fmt};

use crate::{
    lexer::{self, Token},
    paths::{self, Named, Target},
};

/// One file of the tree.
pub(crate) struct Source {
    /// From the tree's root, such as `src/domain/id.rs`.
    pub(crate) path: String,
    /// What is in it.
    pub(crate) text: String,
}

/// A rule that is broken, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// From the tree's root.
    pub(crate) file: String,
    /// Counted from 1.
    pub(crate) line: usize,
    /// Which rule.
    pub(crate) what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

/// Which rooms of ours a room may name, itself aside. The longest row that fits a module counts.
const ARROWS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("exit", &[]),
    ("failpoint", &[]),
    ("proto", &[]),
    ("ports", &["domain"]),
    ("supervision", &["domain::restart", "domain::backoff"]),
    ("telemetry", &["domain", "ports"]),
    ("state_dir", &["domain", "exit"]),
    ("config", &["domain", "ports", "telemetry"]),
    ("engine", &["domain", "ports"]),
    ("journal", &["domain", "ports"]),
    ("spool", &["domain", "ports"]),
    ("outputs", &["domain", "ports"]),
    ("grpc", &["domain", "ports", "proto"]),
    (
        "grpc::server",
        &["domain", "ports", "proto", "grpc", "handle"],
    ),
    (
        "actors",
        &["domain", "ports", "supervision", "telemetry", "failpoint"],
    ),
    (
        "handle",
        &["domain", "ports", "supervision", "telemetry", "actors"],
    ),
    ("metrics", &["domain", "ports", "supervision"]),
    ("http", &["domain", "ports", "grpc::listener", "metrics"]),
    ("dev_master", &["proto"]),
    (
        "cli",
        &[
            "domain",
            "ports",
            "exit",
            "config",
            "state_dir",
            "telemetry",
            "failpoint",
        ],
    ),
    (
        "cli::demo",
        &[
            "domain",
            "ports",
            "exit",
            "config",
            "state_dir",
            "telemetry",
            "cli",
            "engine",
            "dev_master",
            "proto",
        ],
    ),
    (
        "app",
        &[
            "domain",
            "ports",
            "exit",
            "config",
            "state_dir",
            "telemetry",
            "supervision",
            "actors",
            "handle",
            "engine",
            "journal",
            "spool",
            "outputs",
            "grpc",
            "http",
            "metrics",
        ],
    ),
    (
        "main",
        &[
            "domain",
            "exit",
            "config",
            "state_dir",
            "telemetry",
            "cli",
            "app",
            "failpoint",
        ],
    ),
];

/// What is outside, and the only rooms that may name it.
const FOREIGN: &[(&str, &[&str])] = &[
    ("tonic", &["grpc", "proto", "dev_master"]),
    ("tonic_prost", &["grpc", "proto", "dev_master"]),
    ("prost", &["grpc", "proto", "engine", "dev_master"]),
    ("tokio_rustls", &["grpc"]),
    ("rustls_native_certs", &["grpc"]),
    ("x509_parser", &["grpc"]),
    ("bollard", &["engine"]),
    ("rusqlite", &["journal"]),
    ("actix", &["actors", "supervision", "handle", "app", "main"]),
    (
        "actix_rt",
        &["actors", "supervision", "handle", "app", "main"],
    ),
    ("clap", &["cli", "config", "main"]),
];

/// Actors decide and ask; files are their adapters' business. The same holds for those above and below them.
const WITHOUT_FILES: &[&str] = &["domain", "ports", "supervision", "actors", "handle"];

/// What the kernel counts of one's own threads comes by a file, and is nobody's.
const OWN_COUNTS: [&str; 2] = ["supervision", "run_queue"];

/// What the domain may name beside the standard library: what decides nothing and does nothing.
const DOMAIN_CRATES: &[&str] = &["std", "core", "thiserror", "memchr", "ipnet", "wildmatch"];

/// Checks a whole tree; `crates` are the names of all that the manifest depends on.
pub(crate) fn violations(tree: &[Source], crates: &[String]) -> Vec<Violation> {
    let files: Vec<_> = tree
        .iter()
        .map(|source| File::read(source, crates))
        .collect();
    let tests: HashSet<Vec<String>> = files.iter().flat_map(File::test_modules).collect();
    files
        .iter()
        .flat_map(|file| file.violations(&tests))
        .collect()
}

struct File<'a> {
    path: &'a str,
    text: &'a str,
    tokens: Vec<Token>,
    /// Below the crate's root; `None` outside of `src`.
    module: Option<Vec<String>>,
    crates: &'a [String],
}

impl<'a> File<'a> {
    fn read(source: &'a Source, crates: &'a [String]) -> Self {
        Self {
            path: &source.path,
            text: &source.text,
            tokens: lexer::tokens(&source.text),
            module: module_of(&source.path),
            crates,
        }
    }

    /// The modules of other files that this one declares for tests only.
    fn test_modules(&self) -> Vec<Vec<String>> {
        let Some(module) = &self.module else {
            return Vec::new();
        };
        let declared = paths::test_modules(&self.tokens);
        declared
            .into_iter()
            .map(|name| [module.clone(), vec![name]].concat())
            .collect()
    }

    fn violations(&self, tests: &HashSet<Vec<String>>) -> Vec<Violation> {
        let mut found: Vec<_> = self.head().into_iter().collect();
        found.extend(self.attributes());
        let is_test = match &self.module {
            None => true,
            Some(module) => (1..=module.len()).any(|length| tests.contains(&module[..length])),
        };
        found.extend(self.sleeps(is_test));
        if let Some(module) = self.module.as_ref().filter(|_| !is_test) {
            found.extend(if module.is_empty() {
                self.overview()
            } else {
                self.arrows(module)
            });
        }
        found
    }

    fn violation(&self, line: usize, what: impl Into<String>) -> Violation {
        Violation {
            file: self.path.to_owned(),
            line,
            what: what.into(),
        }
    }

    fn head(&self) -> Option<Violation> {
        let first = self.text.lines().find(|line| !line.trim().is_empty());
        let has_head = first.is_some_and(|line| line.trim_start().starts_with("//!"));
        (!has_head).then(|| {
            self.violation(
                1,
                "begins without `//!`: what it owns, who talks to it, what it does not do",
            )
        })
    }

    fn attributes(&self) -> Vec<Violation> {
        let banned = |words: &[&str]| {
            ["ignore", "should_panic"].into_iter().find(|banned| {
                words.first() == Some(banned)
                    || (words.first() == Some(&"cfg_attr") && words.contains(banned))
            })
        };
        let attributes = lexer::attributes(&self.tokens);
        let found = attributes.iter().filter_map(|attribute| {
            let tokens = &self.tokens[attribute.start..attribute.end];
            let words: Vec<_> = tokens.iter().filter_map(Token::word).collect();
            let banned = banned(&words)?;
            Some(self.violation(
                tokens[0].line,
                format!("`#[{banned}]`: a test runs, and says itself what it expects"),
            ))
        });
        found.collect()
    }

    fn sleeps(&self, is_test: bool) -> Vec<Violation> {
        let calls = self.tokens.windows(2).filter(|two| {
            let sleeps = matches!(two[0].word(), Some("sleep" | "sleep_until" | "sleep_ms"));
            (is_test || two[0].test) && sleeps && two[1].is('(')
        });
        calls
            .map(|two| self.violation(two[0].line, "sleeps in a test: wait for a fact"))
            .collect()
    }

    /// `lib.rs` is the overview: modules, and nothing else.
    fn overview(&self) -> Vec<Violation> {
        let mut rest: Vec<_> = self.tokens.iter().collect();
        for attribute in lexer::attributes(&self.tokens).iter().rev() {
            rest.drain(attribute.start..attribute.end);
        }
        let modules = rest.chunks(4).filter(|line| {
            let words: Vec<_> = line.iter().filter_map(|token| token.word()).collect();
            !(matches!(words[..], ["pub", "mod", _])
                && line.last().is_some_and(|token| token.is(';')))
        });
        modules
            .map(|line| self.violation(line[0].line, "holds more than `pub mod` lines"))
            .take(1)
            .collect()
    }

    fn arrows(&self, module: &[String]) -> Vec<Violation> {
        let Some((_, allowed)) = row(module) else {
            let what = format!("the room `{}` has no row in the table of arrows", module[0]);
            return vec![self.violation(1, what)];
        };
        let named = paths::named(&self.tokens, module);
        let mut production: Vec<_> = named.into_iter().filter(|named| !named.test).collect();
        production.dedup();
        production
            .into_iter()
            .filter_map(|Named { line, target, .. }| {
                let what = match target {
                    Target::Own(path) => own(&path, module, allowed),
                    Target::Foreign(path) => self.foreign(&path, module),
                }?;
                Some(self.violation(line, what))
            })
            .collect()
    }

    fn foreign(&self, path: &[String], module: &[String]) -> Option<String> {
        let (room, first) = (module[0].as_str(), path[0].as_str());
        let files =
            matches!(first, "std" | "tokio") && path.get(1).is_some_and(|part| part == "fs");
        let counts = module.iter().take(2).eq(OWN_COUNTS);
        if files && !counts && WITHOUT_FILES.contains(&room) {
            return Some(format!(
                "`{room}` names `{first}::fs`: files are its adapters' business"
            ));
        }
        let is_crate = self.crates.iter().any(|name| name == first);
        if room == "domain" && is_crate && !DOMAIN_CRATES.contains(&first) {
            return Some(format!("`domain` names the crate `{first}`"));
        }
        let (_, rooms) = FOREIGN.iter().find(|(name, _)| *name == first)?;
        let rooms_text = rooms.join(", ");
        (!rooms.contains(&room))
            .then(|| format!("`{room}` names the crate `{first}`, which belongs in {rooms_text}"))
    }
}

/// Below the crate's root: `src/grpc/server.rs` is `grpc::server`, `src/lib.rs` the root itself, `src/main.rs` a room.
fn module_of(path: &str) -> Option<Vec<String>> {
    let parts = path.strip_prefix("src/")?.strip_suffix(".rs")?;
    if parts == "lib" {
        return Some(Vec::new());
    }
    Some(parts.split('/').map(ToOwned::to_owned).collect())
}

/// The row for a module: the longest that it lies within.
fn row(module: &[String]) -> Option<(&'static str, &'static [&'static str])> {
    let rows = ARROWS.iter().filter(|(room, _)| lies_within(module, room));
    rows.max_by_key(|(room, _)| room.len()).copied()
}

fn lies_within(path: &[String], room: &str) -> bool {
    let mut parts = path.iter();
    room.split("::")
        .all(|wanted| parts.next().is_some_and(|part| part == wanted))
}

fn own(path: &[String], module: &[String], allowed: &[&str]) -> Option<String> {
    let at_home = lies_within(path, &module[0]);
    // An exported macro stands at the crate's root, whatever room it is from. A room without a row is told where it begins.
    let is_macro = path.len() == 1 && path[0] != "*" && row(path).is_none();
    let granted = is_macro || allowed.iter().any(|room| lies_within(path, room));
    let target = if path.is_empty() {
        "*".to_owned()
    } else {
        path.join("::")
    };
    (!at_home && !granted).then(|| {
        format!(
            "`{}` names `{target}`, which is not among its arrows",
            module.join("::")
        )
    })
}
