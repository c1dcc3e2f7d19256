//! Rust source as words and signs, without comments and without what stands between quotes. Knows just enough of the language
//! for the rules of `rules`, and marks what is compiled for tests only.

/// A word or a sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// Counted from 1.
    pub(crate) line: usize,
    /// Which.
    pub(crate) kind: Kind,
    /// It stands under `#[cfg(test)]`.
    pub(crate) test: bool,
}

/// What a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A keyword or name; numbers too.
    Word(String),
    /// `::`
    PathSeparator,
    /// Any other single sign.
    Sign(char),
}

impl Token {
    /// The word, if it is one.
    pub(crate) fn word(&self) -> Option<&str> {
        match &self.kind {
            Kind::Word(word) => Some(word),
            _ => None,
        }
    }

    /// Whether it is that very sign.
    pub(crate) fn is(&self, sign: char) -> bool {
        self.kind == Kind::Sign(sign)
    }
}

/// An attribute's place among the tokens, from `#` to behind `]`.
pub(crate) struct Attribute {
    /// Of its `#`.
    pub(crate) start: usize,
    /// Behind its `]`.
    pub(crate) end: usize,
    /// For the whole file or block (`#!`).
    pub(crate) inner: bool,
}

/// Splits a file and marks its test code.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Lexer {
        rest: text,
        line: 1,
        tokens: Vec::new(),
    }
    .run();
    for attribute in attributes(&tokens) {
        if !attribute.inner && is_for_tests(&tokens[attribute.start..attribute.end]) {
            let end = item_end(&tokens, attribute.end);
            for token in &mut tokens[attribute.start..end] {
                token.test = true;
            }
        }
    }
    tokens
}

/// Every attribute of a file.
pub(crate) fn attributes(tokens: &[Token]) -> Vec<Attribute> {
    let mut found = Vec::new();
    for start in (0..tokens.len()).filter(|at| tokens[*at].is('#')) {
        let inner = tokens.get(start + 1).is_some_and(|token| token.is('!'));
        let open = start + 1 + usize::from(inner);
        if tokens.get(open).is_some_and(|token| token.is('[')) {
            let end = group_end(tokens, open);
            found.push(Attribute { start, end, inner });
        }
    }
    found
}

fn is_for_tests(attribute: &[Token]) -> bool {
    let has = |wanted: &str| attribute.iter().any(|token| token.word() == Some(wanted));
    has("cfg") && has("test") && !has("not")
}

/// Behind the group that opens at `open`.
fn group_end(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.kind {
            Kind::Sign('(' | '[' | '{') => depth += 1,
            Kind::Sign(')' | ']' | '}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

/// Behind the item that starts at `at`, further attributes included: at its semicolon, or at the brace that closes its body.
fn item_end(tokens: &[Token], mut at: usize) -> usize {
    let mut is_use = false;
    while let Some(token) = tokens.get(at) {
        is_use = is_use || token.word() == Some("use");
        match token.kind {
            Kind::Sign(';') => return at + 1,
            Kind::Sign('{') if !is_use => return group_end(tokens, at),
            Kind::Sign('(' | '[' | '{') => at = group_end(tokens, at),
            _ => at += 1,
        }
    }
    tokens.len()
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
    tokens: Vec<Token>,
}

impl Lexer<'_> {
    fn run(mut self) -> Vec<Token> {
        while let Some(first) = self.rest.chars().next() {
            if self.rest.starts_with("//") {
                self.skip(self.rest.find('\n').unwrap_or(self.rest.len()));
            } else if self.rest.starts_with("/*") {
                self.skip(comment_length(self.rest));
            } else if let Some(length) = raw_string_length(self.rest) {
                self.skip(length);
            } else if let Some(length) = quoted_length(self.rest) {
                self.skip(length);
            } else if is_word(first) {
                self.word();
            } else if self.rest.starts_with("::") {
                self.push(Kind::PathSeparator);
                self.skip(2);
            } else {
                if !first.is_whitespace() {
                    self.push(Kind::Sign(first));
                }
                self.skip(first.len_utf8());
            }
        }
        self.tokens
    }

    fn word(&mut self) {
        // A raw name is the name.
        let prefix = if self.rest.starts_with("r#") { 2 } else { 0 };
        let length = self.rest[prefix..]
            .find(|character| !is_word(character))
            .map_or(self.rest.len(), |length| prefix + length);
        self.push(Kind::Word(self.rest[prefix..length].to_owned()));
        self.skip(length);
    }

    fn push(&mut self, kind: Kind) {
        self.tokens.push(Token {
            line: self.line,
            kind,
            test: false,
        });
    }

    fn skip(&mut self, length: usize) {
        let (skipped, rest) = self.rest.split_at(length);
        self.line += skipped.matches('\n').count();
        self.rest = rest;
    }
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Of a block comment, those within it included.
fn comment_length(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

/// Of `r"..."`, `r#"..."#`, `br..`, `cr..`.
fn raw_string_length(text: &str) -> Option<usize> {
    let body = ["r", "br", "cr"].iter().find_map(|prefix| {
        let rest = text.strip_prefix(prefix)?;
        rest.trim_start_matches('#')
            .starts_with('"')
            .then_some(rest)
    })?;
    let hashes = body.len() - body.trim_start_matches('#').len();
    let closing = format!("\"{}", "#".repeat(hashes));
    let start = text.len() - body.len() + hashes + 1;
    Some(match text[start..].find(&closing) {
        Some(length) => start + length + closing.len(),
        None => text.len(),
    })
}

/// Of `"..."`, `'x'` and their byte forms; `None` for a lifetime, which is a sign and a word.
fn quoted_length(text: &str) -> Option<usize> {
    let prefix = usize::from(text.starts_with(['b', 'c']) && text[1..].starts_with(['"', '\'']));
    let quote = text[prefix..]
        .chars()
        .next()
        .filter(|first| matches!(first, '"' | '\''))?;
    let mut characters = text[prefix + 1..].char_indices();
    if quote == '\'' {
        let mut ahead = text[prefix + 1..].chars();
        let (first, second) = (ahead.next(), ahead.next());
        if first != Some('\\') && second != Some('\'') {
            return None;
        }
    }
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => {
                characters.next();
            }
            character if character == quote => return Some(prefix + 1 + at + 1),
            _ => {}
        }
    }
    Some(text.len())
}
