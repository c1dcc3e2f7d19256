//! What the demo's spectator sees: whole lines on standard output, with a colour per task on a terminal. Text from outside is
//! escaped here, so that no log can forge a line or move the cursor. A reader that went away is no reason to stop: what was
//! started must be put away all the same.

use std::{
    env,
    io::{self, IsTerminal, Write},
    sync::{Mutex, PoisonError},
};

use crate::domain::text::escape;

/// Width of the word before each line, in columns.
const LABEL: usize = 8;
/// Colours that tell tasks apart: cyan, magenta, yellow, blue, green.
const TASK_COLOURS: [u8; 5] = [36, 35, 33, 34, 32];

/// How a piece of text looks on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ink {
    /// For the heads of tables.
    Bold,
    /// For what is less important.
    Dim,
    /// For what went as it should.
    Good,
    /// For what did not.
    Bad,
    /// A task's own colour, by its number.
    Task(usize),
}

/// The demo's standard output, written a line at a time.
pub(super) struct Screen {
    out: Mutex<Box<dyn Write + Send>>,
    colours: bool,
}

impl Screen {
    /// Standard output; in colours on a terminal, unless `NO_COLOR` says otherwise.
    pub(super) fn stdout() -> Self {
        let plain = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
        let colours = !plain && io::stdout().is_terminal();
        Self::new(Box::new(io::stdout()), colours)
    }

    fn new(out: Box<dyn Write + Send>, colours: bool) -> Self {
        Self {
            out: Mutex::new(out),
            colours,
        }
    }

    /// One line of our own words.
    pub(super) fn line(&self, text: &str) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let _reader_gone = writeln!(out, "{text}").and_then(|()| out.flush());
    }

    /// A line about a part of the demo.
    pub(super) fn about(&self, part: &str, text: &str) {
        let label = self.paint(Ink::Dim, &format!("{part:<LABEL$}"));
        self.line(&format!("  {label}  {text}"));
    }

    /// A line of a log, from outside, behind the name of its task.
    pub(super) fn log(&self, ink: Ink, name: &str, text: &str) {
        let label = self.paint(ink, &format!("{name:<LABEL$} |"));
        self.line(&format!("  {label} {}", shown(text)));
    }

    /// A line of the worker's own log, which nobody has to read.
    pub(super) fn aside(&self, text: &str) {
        let line = self.paint(Ink::Dim, &format!("{:<LABEL$} | {}", "worker", shown(text)));
        self.line(&format!("  {line}"));
    }

    /// The text in that ink, where there are colours.
    pub(super) fn paint(&self, ink: Ink, text: &str) -> String {
        if self.colours {
            format!("\x1b[{}m{text}\x1b[0m", ink.code())
        } else {
            text.to_owned()
        }
    }
}

impl Ink {
    /// The terminal's number for this ink.
    fn code(self) -> u8 {
        match self {
            Self::Bold => 1,
            Self::Dim => 2,
            Self::Good => 32,
            Self::Bad => 31,
            Self::Task(number) => TASK_COLOURS[number % TASK_COLOURS.len()],
        }
    }
}

/// A line from outside, fit for a terminal; its tabs may stay.
pub(super) fn shown(text: &str) -> String {
    let pieces: Vec<_> = text
        .split('\t')
        .map(|piece| escape(piece, usize::MAX))
        .collect();
    pieces.join("\t")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(colours: bool, write: impl FnOnce(&Screen)) -> String {
        let paper = Paper::default();
        write(&Screen::new(Box::new(paper.clone()), colours));
        String::from_utf8(paper.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_log_line_stands_behind_its_task_and_can_do_no_harm() {
        let plain = written(false, |screen| {
            screen.log(Ink::Task(0), "left", "a\tb\x1b[2J\r")
        });

        assert_eq!(plain, "  left     | a\tb\\u{1b}[2J\\r\n");
    }

    #[test]
    fn there_are_colours_only_where_they_are_wanted() {
        let show = |screen: &Screen| screen.log(Ink::Task(0), "left", "a");

        assert_eq!(
            written(true, show),
            "  \x1b[36mleft     |\x1b[0m a\n".to_owned()
        );
        assert!(!written(false, show).contains('\x1b'));
    }
}
