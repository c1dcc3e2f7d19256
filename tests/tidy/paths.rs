//! Which paths a file names, with the braces of `use` opened and `self` and `super` resolved.

use crate::lexer::{Kind, Token};

/// A path as it is named somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    /// Where.
    pub(crate) line: usize,
    /// In code that is compiled for tests only.
    pub(crate) test: bool,
    /// In this crate or outside.
    pub(crate) target: Target,
}

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// Into this crate: the parts below its root.
    Own(Vec<String>),
    /// Anything else: all parts.
    Foreign(Vec<String>),
}

/// A `mod name;` under `#[cfg(test)]`: its file is test code.
pub(crate) fn test_modules(tokens: &[Token]) -> Vec<String> {
    tokens
        .windows(3)
        .filter(|three| three[0].test && three[0].word() == Some("mod") && three[2].is(';'))
        .filter_map(|three| three[1].word().map(ToOwned::to_owned))
        .collect()
}

/// Every path that a file names. `module` is the file's own path below the crate's root.
pub(crate) fn named(tokens: &[Token], module: &[String]) -> Vec<Named> {
    let mut reader = Reader {
        tokens,
        at: 0,
        module: module.to_vec(),
        open: Vec::new(),
        depth: 0,
        found: Vec::new(),
    };
    while reader.at < tokens.len() {
        reader.step();
    }
    reader.found
}

struct Reader<'a> {
    tokens: &'a [Token],
    at: usize,
    /// Of the code that is being read, modules within the file included.
    module: Vec<String>,
    /// At which depths the modules within the file began.
    open: Vec<usize>,
    depth: usize,
    found: Vec<Named>,
}

impl Reader<'_> {
    fn step(&mut self) {
        let token = &self.tokens[self.at];
        match (&token.kind, token.word()) {
            (Kind::Sign('{'), _) => self.depth += 1,
            (Kind::Sign('}'), _) => self.close(),
            (_, Some("mod")) if self.sign_at(self.at + 2, '{') => {
                let name = self.word_at(self.at + 1);
                self.module.extend(name);
                self.open.push(self.depth);
                self.depth += 1;
                self.at += 2;
            }
            // `use<..>` bounds what a type captures and imports nothing.
            (_, Some("use")) if !self.sign_at(self.at + 1, '<') => {
                self.at += 1;
                return self.tree(&[], Alone::IsPath);
            }
            (_, Some(_)) => return self.tree(&[], Alone::IsName),
            _ => {}
        }
        self.at += 1;
    }

    fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        if self.open.last() == Some(&self.depth) {
            self.open.pop();
            self.module.pop();
        }
    }

    /// Reads one path, or one tree of paths, from its first word on.
    fn tree(&mut self, prefix: &[String], alone: Alone) {
        let line = self.tokens.get(self.at).map_or(0, |token| token.line);
        let mut path = prefix.to_vec();
        loop {
            match self.tokens.get(self.at).map(|token| &token.kind) {
                Some(Kind::Word(word)) => path.push(word.clone()),
                Some(Kind::Sign('*')) if !path.is_empty() => path.push("*".into()),
                Some(Kind::Sign('{')) if alone == Alone::IsPath => return self.group(&path),
                Some(Kind::PathSeparator) => {
                    self.at += 1;
                    continue;
                }
                _ => break,
            }
            self.at += 1;
            if self.tokens.get(self.at).map(|token| &token.kind) != Some(&Kind::PathSeparator) {
                break;
            }
        }
        self.note(line, path, alone);
    }

    /// Reads what stands between the braces of a `use`.
    fn group(&mut self, prefix: &[String]) {
        self.at += 1;
        while let Some(token) = self.tokens.get(self.at) {
            match token.kind {
                Kind::Sign('}') => {
                    self.at += 1;
                    return;
                }
                Kind::Sign(',') => self.at += 1,
                _ if token.word() == Some("as") => self.at += 2,
                Kind::Word(_) | Kind::Sign('*' | '{') | Kind::PathSeparator => {
                    self.tree(prefix, Alone::IsPath);
                }
                Kind::Sign(_) => self.at += 1,
            }
        }
    }

    fn note(&mut self, line: usize, path: Vec<String>, alone: Alone) {
        let Some(target) = resolve(path, &self.module, alone) else {
            return;
        };
        let test = self.tokens[self.at.saturating_sub(1)].test;
        self.found.push(Named { line, test, target });
    }

    fn sign_at(&self, at: usize, sign: char) -> bool {
        self.tokens.get(at).is_some_and(|token| token.is(sign))
    }

    fn word_at(&self, at: usize) -> Option<String> {
        self.tokens.get(at)?.word().map(ToOwned::to_owned)
    }
}

/// What a single word is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Alone {
    /// In `use`: a path.
    IsPath,
    /// Elsewhere: any name.
    IsName,
}

fn resolve(path: Vec<String>, module: &[String], alone: Alone) -> Option<Target> {
    if path.len() < 2 && alone == Alone::IsName {
        return None;
    }
    let mut parts = path.iter().map(String::as_str).peekable();
    let mut base: Vec<String> = match parts.next()? {
        "crate" | "worker_node" => Vec::new(),
        "self" => module.to_vec(),
        "super" => parent(module),
        _ => return Some(Target::Foreign(path)),
    };
    while parts.next_if_eq(&"super").is_some() {
        base = parent(&base);
    }
    // `{self, ..}` names what stands before it.
    base.extend(parts.filter(|part| *part != "self").map(ToOwned::to_owned));
    Some(Target::Own(base))
}

fn parent(module: &[String]) -> Vec<String> {
    module[..module.len().saturating_sub(1)].to_vec()
}
