//! Standard output as the commands use it: a page once, or again and again. On a terminal the next page takes the last one's
//! place and is cut to the window; anywhere else it follows it.

use std::io::{self, IsTerminal, Stdout, Write};

use rustix::termios::tcgetwinsize;

use crate::exit::Exit;

/// The output that pages are written to, and how many have been.
pub(super) struct Paper<W> {
    out: W,
    surface: Surface,
    pages: usize,
}

/// What becomes of a page when the next one comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Surface {
    /// It is overwritten.
    Screen,
    /// It stays.
    Roll,
}

impl Paper<Stdout> {
    /// Standard output.
    pub(super) fn standard() -> Self {
        let out = io::stdout();
        let surface = match out.is_terminal() {
            true => Surface::Screen,
            false => Surface::Roll,
        };
        Self {
            out,
            surface,
            pages: 0,
        }
    }
}

impl<W: Write> Paper<W> {
    /// Whether the output is a terminal, so that the next page overwrites the last one.
    pub(super) fn is_screen(&self) -> bool {
        self.surface == Surface::Screen
    }

    /// Writes text as it is.
    pub(super) fn put(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// Writes the next page of a series.
    pub(super) fn turn(&mut self, page: &str) -> io::Result<()> {
        let first = self.pages == 0;
        self.pages += 1;
        match self.surface {
            Surface::Roll if first => self.put(page),
            Surface::Roll => self.put(&format!("\n{page}")),
            Surface::Screen => {
                let page = redrawn(page, window());
                self.put(&page)
            }
        }
    }
}

/// Columns and rows of the terminal; no bound where it does not say.
fn window() -> (usize, usize) {
    match tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        Ok(_) | Err(_) => (usize::MAX, usize::MAX),
    }
}

/// Draws the page from the top of the screen over the last one, so that the screen is never empty. The last row is left to the
/// cursor.
fn redrawn(page: &str, (columns, rows): (usize, usize)) -> String {
    const TOP: &str = "\x1b[H";
    const CLEAR_LINE: &str = "\x1b[K";
    const CLEAR_BELOW: &str = "\x1b[J";
    let lines = page.lines().take(rows.saturating_sub(1).max(1));
    let mut drawn = String::from(TOP);
    for line in lines {
        drawn.extend(line.chars().take(columns));
        drawn.push_str(CLEAR_LINE);
        drawn.push('\n');
    }
    drawn.push_str(CLEAR_BELOW);
    drawn
}

/// The exit code of a command whose output could not be written. A reader that has gone, as `head` does, is no failure.
pub(super) fn unwritten(error: &io::Error) -> Exit {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Exit::Clean;
    }
    eprintln!("error: the output cannot be written: {error}");
    Exit::Unexpected
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(surface: Surface, pages: &[&str]) -> String {
        let mut paper = Paper {
            out: Vec::new(),
            surface,
            pages: 0,
        };
        for page in pages {
            paper.turn(page).unwrap();
        }
        String::from_utf8(paper.out).unwrap()
    }

    #[test]
    fn pages_follow_each_other_where_nobody_looks() {
        assert_eq!(written(Surface::Roll, &["a\nb\n", "c\n"]), "a\nb\n\nc\n");
    }

    #[test]
    fn a_page_on_a_screen_takes_the_last_ones_place() {
        let screen = written(Surface::Screen, &["a\n", "b\n"]);

        assert_eq!(screen, "\x1b[Ha\x1b[K\n\x1b[J\x1b[Hb\x1b[K\n\x1b[J");
    }

    #[test]
    fn a_page_is_cut_to_the_window() {
        let drawn = redrawn("1234\n├─56\n7\n8\n", (3, 3));

        assert_eq!(drawn, "\x1b[H123\x1b[K\n├─5\x1b[K\n\x1b[J");
    }
}
