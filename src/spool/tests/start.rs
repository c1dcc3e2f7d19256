//! Where readers begin: at an offset, some lines before the end, at a time; and what they get of a log as bytes.

use futures_util::FutureExt as _;

use super::*;
use crate::ports::spool::{LogRange, RawItem, Start, Streams, Stretch};

fn from(start: Start) -> LogRange {
    LogRange {
        start,
        ..LogRange::default()
    }
}

fn last(lines: u64) -> LogRange {
    from(Start::LastLines(lines))
}

async fn lines_of(spool: &Arc<dyn Spool>, range: LogRange) -> Vec<Line> {
    let mut cursor = spool.cursor_from(range);
    let (mut lines, _) = read(&mut cursor).await;
    lines.extend(cursor.take_unfinished());
    lines
}

async fn stretches(spool: &Arc<dyn Spool>, range: LogRange) -> Vec<Stretch> {
    let mut cursor = spool.cursor_from(range);
    let mut stretches = Vec::new();
    while let RawItem::Bytes(stretch) = cursor.next_bytes().await.unwrap() {
        stretches.push(stretch);
    }
    stretches
}

/// The pieces of a log with their offsets, the worker's among them.
async fn pieces(spool: &Arc<dyn Spool>, range: LogRange) -> Vec<(Source, u64, Vec<u8>)> {
    let mut pieces = Vec::new();
    for Stretch { bytes, spans } in stretches(spool, range).await {
        let mut rest = &bytes[..];
        for span in spans {
            let (piece, behind) = rest.split_at(span.len);
            pieces.push((span.source, span.offset, piece.to_vec()));
            rest = behind;
        }
        assert!(rest.is_empty(), "the spans cover all bytes");
    }
    pieces
}

async fn container_bytes(spool: &Arc<dyn Spool>, range: LogRange) -> Vec<u8> {
    let pieces = pieces(spool, range).await;
    let of_container = pieces.into_iter().filter(|piece| piece.0 != Source::Worker);
    of_container.flat_map(|piece| piece.2).collect()
}

#[tokio::test]
async fn bytes_come_as_they_were_printed_with_their_offsets_and_sources() {
    let (_folder, store) = store();
    let spool = store.open(&task("a")).unwrap();
    spool.note("pulling".into()).await.unwrap();
    let frames = [
        (Source::Stdout, "on"),
        (Source::Stdout, "e\r\n"),
        (Source::Stderr, "\0\x1b[1m"),
    ];
    let frames = frames.map(|(source, text)| piece(source, text));
    spool.append(frames.into()).await.unwrap();
    spool.note(String::new()).await.unwrap();
    print(&spool, "two").await;

    let seen = pieces(&spool, LogRange::default()).await;

    let piece = |source, offset, bytes: &str| (source, offset, bytes.as_bytes().to_vec());
    assert_eq!(
        seen,
        [
            piece(Source::Worker, 0, "pulling\n"),
            piece(Source::Stdout, 0, "one\r\n"),
            piece(Source::Stderr, 5, "\0\x1b[1m"),
            piece(Source::Worker, 10, "\n"),
            piece(Source::Stdout, 10, "two"),
        ]
    );
}

#[tokio::test]
async fn a_stretch_has_a_bound_in_bytes_and_in_spans() {
    let (_folder, store) = store();
    let spool = store.open(&task("a")).unwrap();
    for _ in 0..1_500 {
        print(&spool, "x").await;
    }
    print(&spool, vec![b'y'; 1_000_000]).await;

    let seen = stretches(&spool, LogRange::default()).await;

    assert!(seen.iter().all(|one| one.spans.len() <= 512));
    assert!(seen.iter().all(|one| one.bytes.len() <= 64 * 1024));
    assert_eq!(
        seen.iter().map(|one| one.bytes.len()).sum::<usize>(),
        1_001_500
    );
}

#[tokio::test]
async fn bytes_and_lines_do_not_mix_and_bytes_go_on_as_they_come() {
    let (_folder, store) = store();
    let spool = store.open(&task("a")).unwrap();
    print(&spool, "no newline").await;
    let mut cursor = spool.cursor();
    assert!(matches!(
        cursor.next_bytes().await.unwrap(),
        RawItem::Bytes(_)
    ));
    assert_eq!(cursor.next_bytes().await.unwrap(), RawItem::CaughtUp);
    assert!(cursor.grown().now_or_never().is_none());

    let (_, closed) = tokio::join!(cursor.grown(), spool.close(end()));

    closed.unwrap();
    assert_eq!(cursor.next_bytes().await.unwrap(), RawItem::End(end()));
}

#[tokio::test]
async fn whatever_is_asked_for_that_is_not_there_is_the_beginning_or_the_end() {
    let (_folder, store) = store();
    let spool = store.open(&task("a")).unwrap();
    assert_eq!(lines_of(&spool, last(3)).await, []);
    print(&spool, "one\ntwo\n").await;
    let far = UNIX_EPOCH + Duration::from_secs(1 << 40);
    let before = UNIX_EPOCH - Duration::from_secs(1);

    for start in [
        Start::LastLines(u64::MAX),
        Start::Offset(0),
        Start::Since(before),
        Start::Since(UNIX_EPOCH),
    ] {
        assert_eq!(
            texts(&lines_of(&spool, from(start)).await),
            ["one", "two"],
            "{start:?}"
        );
    }
    for start in [
        Start::LastLines(0),
        Start::Offset(8),
        Start::Offset(u64::MAX),
        Start::Since(far),
    ] {
        let mut cursor = spool.cursor_from(from(start));
        assert_eq!(cursor.next().await.unwrap(), LogItem::CaughtUp, "{start:?}");
    }
}

#[tokio::test]
async fn a_reader_that_begins_at_the_end_gets_what_comes() {
    let (_folder, store) = store();
    let spool = store.open(&task("a")).unwrap();
    print(&spool, "old\n").await;
    let mut at_end = spool.cursor_from(last(0));
    let mut beyond = spool.cursor_from(from(Start::Offset(1_000)));
    for cursor in [&mut at_end, &mut beyond] {
        assert_eq!(cursor.next().await.unwrap(), LogItem::CaughtUp);
    }

    print(&spool, "new\n").await;

    for cursor in [&mut at_end, &mut beyond] {
        assert_eq!(texts(&read(cursor).await.0), ["new"]);
    }
}

#[tokio::test]
async fn one_stream_alone_comes_with_the_workers_lines() {
    let (_folder, store) = store();
    let spool = store.open(&task("a")).unwrap();
    for n in 0..100 {
        let frames = [
            piece(Source::Stdout, format!("out {n}\n")),
            piece(Source::Stderr, format!("err {n}\n")),
        ];
        spool.append(frames.into()).await.unwrap();
    }
    spool.note("a note".into()).await.unwrap();
    let only = |streams, start| LogRange { start, streams };

    let out = lines_of(&spool, only(Streams::Stdout, Start::LastLines(3))).await;
    let err = lines_of(&spool, only(Streams::Stderr, Start::First)).await;

    assert_eq!(texts(&out), ["out 98", "out 99", "a note"]);
    assert_eq!(err.len(), 101);
    assert_eq!(texts(&err)[99..], ["err 99", "a note"]);
}

#[tokio::test]
async fn lines_of_two_streams_that_lie_among_each_other_are_whole() {
    let (_folder, store) = store();
    let spool = store.open(&task("a")).unwrap();
    let frames = [
        (Source::Stdout, "begun "),
        (Source::Stderr, "e1\ne2\n"),
        (Source::Stdout, "and ended\n"),
    ];
    let frames = frames.map(|(source, text)| piece(source, text));
    spool.append(frames.into()).await.unwrap();

    assert_eq!(texts(&lines_of(&spool, last(1)).await), ["begun and ended"]);
    assert_eq!(
        texts(&lines_of(&spool, last(2)).await),
        ["e2", "begun and ended"]
    );
}

#[tokio::test]
async fn the_last_lines_are_found_from_the_end_of_the_file() {
    let (folder, store) = store();
    let spool = store.open(&task("a")).unwrap();
    for n in 0..40 {
        let lines: String = (0..1_000)
            .map(|line| format!("{:>99}\n", n * 1_000 + line))
            .collect();
        print(&spool, lines).await;
    }
    // A reader of this place finds no record.
    let file = fs::OpenOptions::new()
        .write(true)
        .open(only_file(&folder))
        .unwrap();
    let from_end = file.metadata().unwrap().len() - 1_000_000;
    std::os::unix::fs::FileExt::write_all_at(&file, &vec![0xAA; 1_000_000], from_end - 1_000_000)
        .unwrap();

    let lines = lines_of(&spool, last(5_000)).await;
    let at = lines_of(&spool, from(Start::Offset(39_999 * 100 + 50))).await;
    let cut = lines_of(&spool, last(20_000)).await;

    assert_eq!(lines.len(), 5_000);
    assert_eq!(texts(&lines)[0].trim(), "35000");
    assert_eq!(texts(&at)[0].trim(), "39999");
    assert_eq!(at[0].bytes.len(), 49);
    let text = texts(&cut)[0];
    assert!(text.ends_with("damaged: it begins here"), "{text}");
    assert!((9_000..10_000).contains(&cut.len()), "{}", cut.len());
}

#[tokio::test]
async fn what_was_dropped_is_counted_wherever_a_reader_begins() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(&folder, CAP);
    let spool = store.open(&task("a")).unwrap();
    flood(&spool, 0..10_000).await;
    let total = spool.appended().0;

    for offset in [0, 1, 10_000, 100_000, 300_000, total - 10_000, total] {
        let seen = pieces(&spool, from(Start::Offset(offset))).await;
        let mut shown = 0;
        let mut missing = 0;
        let mut next = None;
        for (source, at, bytes) in &seen {
            if *source == Source::Worker {
                let text = std::str::from_utf8(bytes).unwrap();
                let count = text.strip_prefix("[worker-node] ").unwrap();
                let count = count.strip_suffix(" bytes left out here\n").unwrap();
                missing += count.parse::<u64>().unwrap();
            } else {
                shown += bytes.len() as u64;
                assert!(next.is_none_or(|next| next <= *at), "{offset}");
                next = Some(at + bytes.len() as u64);
            }
        }
        assert_eq!(offset + shown + missing, total, "from {offset}");
        assert!(next.is_none_or(|next| next == total), "from {offset}");
    }
    let lines = lines_of(&spool, last(9_999)).await;
    assert!(left_out(&lines) > 0 && texts(&lines)[0].starts_with("line      0"));
    let lines = lines_of(&spool, last(10)).await;
    assert_eq!((lines.len(), left_out(&lines)), (10, 0));
}

#[tokio::test]
async fn lines_that_ended_since_a_time_are_whole() {
    let (_folder, store) = store();
    let spool = store.open(&task("a")).unwrap();
    let at = |seconds, text: &'static str| Piece {
        time: Some(UNIX_EPOCH + Duration::from_secs(seconds)),
        ..piece(Source::Stdout, text)
    };
    let frames = vec![
        at(7, "seven\n"),
        at(8, "begun at eight"),
        at(9, " and ended at nine\n"),
        at(10, "unfinished"),
    ];
    spool.append(frames).await.unwrap();

    for (second, expected) in [
        (
            7,
            &["seven", "begun at eight and ended at nine", "unfinished"][..],
        ),
        (9, &["begun at eight and ended at nine", "unfinished"]),
        (10, &["unfinished"]),
        (11, &[]),
    ] {
        let since = Start::Since(UNIX_EPOCH + Duration::from_secs(second));
        assert_eq!(
            texts(&lines_of(&spool, from(since)).await),
            expected,
            "{second}"
        );
    }
}

#[tokio::test]
async fn a_line_without_an_end_costs_no_more_than_a_line_may_have() {
    let (_folder, store) = store();
    let spool = store.open(&task("a")).unwrap();
    for _ in 0..80 {
        print(&spool, vec![b'x'; 64 * 1024]).await;
    }
    print(&spool, "\nlast\n").await;

    let lines = container_bytes(&spool, last(2)).await;

    let most = LINE + 256 * 1024;
    assert!((LINE..most).contains(&lines.len()), "{}", lines.len());
    assert!(lines.ends_with(b"x\nlast\n"));
}

const LINE: usize = 1024 * 1024;

/// The content of a log: its bytes, and its lines.
#[derive(Default)]
struct Model {
    bytes: Vec<u8>,
    /// The lines, each with the offset of its end.
    lines: Vec<(usize, Source, Vec<u8>)>,
    begun: [(usize, Vec<u8>); 2],
    seen: usize,
}

impl Model {
    fn append(&mut self, source: Source, bytes: &[u8]) {
        let begun = &mut self.begun[usize::from(source == Source::Stderr)];
        for byte in bytes {
            self.bytes.push(*byte);
            self.seen += 1;
            if *byte == b'\n' {
                let line = mem::take(&mut begun.1);
                self.lines.push((self.seen, source, line));
            } else {
                begun.1.push(*byte);
                begun.0 = self.seen;
            }
        }
    }

    fn note(&mut self, line: &str) {
        self.seen += 1;
        self.lines
            .push((self.seen, Source::Worker, line.as_bytes().to_vec()));
    }

    /// The lines, sorted by their ends.
    fn lines(&self) -> Vec<(Source, Vec<u8>)> {
        let mut lines = self.lines.clone();
        for (source, begun) in [Source::Stdout, Source::Stderr]
            .into_iter()
            .zip(&self.begun)
        {
            if !begun.1.is_empty() {
                lines.push((begun.0, source, begun.1.clone()));
            }
        }
        lines.sort_by_key(|line| line.0);
        lines.into_iter().map(|line| (line.1, line.2)).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_reader_begins_where_a_count_from_the_first_byte_would(
        events in prop::collection::vec(any_event(), 1..20),
        lines in 0..30_u64,
        place in 0.0..1.1_f64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let mut store = store_in(&folder, 1 << 30);
            let mut spool = store.open(&task("a")).unwrap();
            let mut model = Model::default();
            for event in events {
                match event {
                    Event::Append(frames) => {
                        for (source, bytes) in &frames {
                            model.append(*source, bytes);
                        }
                        let frames = frames.into_iter();
                        let frames = frames.map(|(source, bytes)| piece(source, bytes));
                        spool.append(frames.collect()).await.unwrap();
                    }
                    Event::Note(line) => {
                        model.note(&line);
                        spool.note(line).await.unwrap();
                    }
                    Event::Restart => {
                        drop((spool, store));
                        store = store_in(&folder, 1 << 30);
                        spool = store.open(&task("a")).unwrap();
                    }
                }
            }

            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a place")]
            let offset = (model.bytes.len() as f64 * place) as usize;
            let seen = container_bytes(&spool, from(Start::Offset(offset as u64))).await;
            prop_assert_eq!(seen, &model.bytes[offset.min(model.bytes.len())..]);

            let all = model.lines();
            let skipped = all.len().saturating_sub(usize::try_from(lines).unwrap());
            let mut expected = all[skipped..].to_vec();
            let seen = lines_of(&spool, last(lines)).await;
            let mut seen: Vec<_> = seen.into_iter().map(|line| (line.source, line.bytes)).collect();
            // Two unfinished lines come in the order of their sources.
            let by_text = |line: &(Source, Vec<u8>)| (line.0 as u8, line.1.clone());
            seen.sort_by_key(by_text);
            expected.sort_by_key(by_text);
            prop_assert_eq!(seen, expected);
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn who_looks_for_a_beginning_waits_for_a_turn_and_who_has_one_reads_on() {
    let (_folder, store) = store();
    let spool = store.open(&task("a")).unwrap();
    let frames = vec![piece(Source::Stdout, "one\ntwo\n")];
    spool.append(frames).await.unwrap();
    let mut begun = spool.cursor_from(last(1));
    assert!(matches!(begun.next_bytes().await, Ok(RawItem::Bytes(_))));

    let turns = Arc::clone(&store.house.beginnings);
    let held = turns.acquire_owned().await.unwrap();
    let mut looks = spool.cursor_from(last(1));
    assert!(looks.next_bytes().now_or_never().is_none());
    assert!(matches!(begun.next_bytes().await, Ok(RawItem::CaughtUp)));
    assert_eq!(lines_of(&spool, LogRange::default()).await.len(), 2);

    drop(held);
    let RawItem::Bytes(stretch) = looks.next_bytes().await.unwrap() else {
        panic!("the log has a last line");
    };
    assert_eq!(&stretch.bytes[..], b"two\n");
}
