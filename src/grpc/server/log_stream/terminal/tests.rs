//! What is shown of what is printed, and when.

use proptest::prelude::*;

use super::*;

/// What was shown: a text, and its marks, `+` where it goes on with the one before and `..` where it is gone on with.
fn told(shown: &Shown<'_>) -> String {
    let text = String::from_utf8_lossy(&shown.text);
    let (before, after) = (shown.joins, shown.continued);
    format!(
        "{}{text}{}",
        if before { "+" } else { "" },
        if after { ".." } else { "" }
    )
}

struct Screen {
    terminal: Terminal,
    began: Instant,
    shown: Vec<String>,
}

impl Screen {
    fn new() -> Self {
        Self {
            terminal: Terminal::new(|| true),
            began: Instant::now(),
            shown: Vec::new(),
        }
    }

    fn write(&mut self, source: Source, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (taken, shown) = self.terminal.take(source, 0, rest);
            assert!(taken > 0 || shown.is_some(), "it goes on");
            self.shown.extend(shown.as_ref().map(told));
            rest = &rest[taken..];
        }
    }

    fn print(&mut self, text: &str) {
        self.write(Source::Stdout, text.as_bytes());
    }

    /// Tells that everything was read at this time; returns when something is due.
    fn caught_up(&mut self, millis: u64) -> Option<u128> {
        let now = self.began + Duration::from_millis(millis);
        let due = self.terminal.caught_up(now);
        due.map(|due| (due - self.began).as_millis())
    }

    fn pass(&mut self, millis: u64) {
        let now = self.began + Duration::from_millis(millis);
        while let Some(shown) = self.terminal.due(now) {
            self.shown.push(told(&shown));
        }
    }

    fn finish(&mut self) {
        while let Some(shown) = self.terminal.finish() {
            self.shown.push(told(&shown));
        }
    }
}

/// What a replay of the text shows.
fn replay(text: &str) -> Vec<String> {
    let mut screen = Screen::new();
    screen.print(text);
    screen.finish();
    screen.shown
}

#[test]
fn of_states_that_are_overwritten_the_last_one_is_shown() {
    for (printed, shown) in [
        ("10%\r20%\r100%\n", &["100%"][..]),
        ("10%\r20%\r\n", &["20%"]),
        ("\r10%\r20%\nnext\n", &["20%", "next"]),
        ("windows\r\nlines\r\n", &["windows", "lines"]),
        ("a\r\r\n\r\n\n", &["a", "", ""]),
        ("no end\rbut a state", &["but a state"]),
        ("no end\r", &["no end"]),
        ("\r", &[]),
    ] {
        assert_eq!(replay(printed), shown, "{printed:?}");
    }
}

#[test]
fn an_unfinished_line_is_shown_after_a_second_of_silence_and_goes_on() {
    let mut screen = Screen::new();
    screen.print("Password");
    assert_eq!(screen.caught_up(0), Some(1_000));
    screen.print(": ");
    assert_eq!(screen.caught_up(900), Some(1_900));
    screen.pass(1_899);
    assert!(screen.shown.is_empty());

    screen.pass(1_900);
    screen.print("given");
    assert_eq!(screen.caught_up(2_000), Some(3_000));
    screen.print("\nnext\n");

    assert_eq!(screen.caught_up(2_100), None);
    assert_eq!(screen.shown, ["Password: ..", "+given", "next"]);
}

#[test]
fn a_line_that_was_shown_and_only_ends_is_ended() {
    let mut screen = Screen::new();
    screen.print("working");
    screen.caught_up(0);
    screen.pass(1_000);
    screen.print("\r\n");

    assert_eq!(screen.shown, ["working..", "+"]);
}

#[test]
fn a_progress_bar_is_shown_once_a_second_and_its_end_once() {
    let mut screen = Screen::new();
    for tenth in 0..25 {
        screen.print(&format!("{tenth} of 25\r"));
        screen.caught_up(tenth * 100);
        screen.pass(tenth * 100);
    }
    screen.pass(3_500);
    screen.pass(9_000);
    screen.print("\ndone\n");

    // Due a second after the first one, and a second after the first that came behind a shown one.
    assert_eq!(screen.shown, ["10 of 25", "21 of 25", "24 of 25", "done"]);
}

#[test]
fn a_shown_part_that_is_overwritten_ends_before_the_next_state() {
    let mut screen = Screen::new();
    screen.print("loading");
    screen.caught_up(0);
    screen.pass(1_000);
    screen.print("\r50%");
    screen.print("\r100%\n");

    assert_eq!(screen.shown, ["loading..", "+", "100%"]);
}

#[test]
fn a_state_that_was_shown_and_goes_on_is_shown_whole() {
    let mut screen = Screen::new();
    screen.print("a\rbusy");
    screen.caught_up(0);
    screen.pass(1_000);
    screen.print(" and done\n");

    assert_eq!(screen.shown, ["busy", "busy and done"]);
}

#[test]
fn no_part_ends_within_a_character() {
    let mut screen = Screen::new();
    let euro = "\u{20ac}".as_bytes();
    screen.write(Source::Stdout, b"10 ");
    screen.write(Source::Stdout, &euro[..2]);
    screen.caught_up(0);
    screen.pass(1_000);
    screen.write(Source::Stdout, &euro[2..]);
    screen.print("\n");
    screen.write(Source::Stdout, &euro[..1]);
    screen.caught_up(2_000);
    screen.pass(3_000);
    screen.write(Source::Stdout, &euro[1..]);
    screen.print("\n");

    assert_eq!(screen.shown, ["10 ..", "+\u{20ac}", "\u{20ac}"]);
}

#[test]
fn what_is_held_is_bounded_by_a_mebibyte_or_32_kib() {
    for (may, longest) in [(true, LINE_LIMIT), (false, SHORT)] {
        let mut terminal = Terminal::new(move || may);
        let line = [vec![b'x'; longest], vec![b'\n']].concat();
        let longer = [vec![b'x'; 2 * longest + 1], vec![b'\n']].concat();
        let mut shown = Vec::new();
        for mut rest in [&line[..], &longer] {
            while !rest.is_empty() {
                let (taken, part) = terminal.take(Source::Stdout, 0, rest);
                shown.extend(part.map(|part| (part.text.len(), part.continued)));
                rest = &rest[taken..];
            }
        }

        let parts = [
            (longest, false),
            (longest, true),
            (longest, true),
            (1, false),
        ];
        assert_eq!(shown, parts);
    }
}

#[test]
fn the_workers_lines_are_whole_and_disturb_no_other() {
    let mut screen = Screen::new();
    screen.print("begun ");
    screen.write(Source::Worker, b"[worker-node] a note\n\n");
    screen.print("and ended\n");

    assert_eq!(
        screen.shown,
        ["[worker-node] a note", "", "begun and ended"]
    );
}

/// What is left of a line in the end, looked at as a whole.
fn state_of(line: &str) -> String {
    let line = line.trim_end_matches('\r');
    line.rsplit('\r').next().unwrap_or_default().to_owned()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_replay_is_the_last_state_of_each_line_whatever_the_pieces(
        text in "[ab\r\n]{0,40}",
        cuts in prop::collection::vec(0..40_usize, 0..6),
    ) {
        let mut expected: Vec<_> = text.split('\n').map(state_of).collect();
        // Behind the last newline nothing has begun.
        if expected.last().is_some_and(String::is_empty) {
            expected.pop();
        }
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
        cuts.sort_unstable();

        let mut screen = Screen::new();
        let mut from = 0;
        for cut in cuts.into_iter().chain([text.len()]) {
            screen.print(&text[from..cut]);
            from = cut;
        }
        screen.finish();

        prop_assert_eq!(screen.shown, expected);
    }

    #[test]
    fn without_carriage_returns_no_byte_is_lost_whenever_it_is_looked_at(
        pieces in prop::collection::vec(("[ab\n\u{e9}]{0,8}", 0..1_500_u64), 0..20),
    ) {
        let mut screen = Screen::new();
        let mut now = 0;
        for (piece, pause) in &pieces {
            screen.print(piece);
            screen.caught_up(now);
            now += pause;
            screen.pass(now);
        }
        screen.print("\n");
        screen.finish();

        let printed: String = pieces.into_iter().map(|(piece, _)| piece).collect();
        let mut joined = String::new();
        for shown in &screen.shown {
            let text = shown.strip_prefix('+').unwrap_or(shown);
            match text.strip_suffix("..") {
                Some(part) => joined.push_str(part),
                None => { joined.push_str(text); joined.push('\n'); }
            }
        }
        prop_assert_eq!(joined, printed + "\n");
    }
}
