//! Bounds on what a viewer may hold: a batch of lines, and a whole long line only where few others hold one.

use super::*;
use crate::domain::log_line::SHORT;

/// Most lines in one `LogItem`, as it promises.
const MOST: usize = 512;

async fn batch(cursor: &mut Box<dyn LogCursor>) -> Vec<Line> {
    match cursor.next().await.unwrap() {
        LogItem::Lines(lines) => lines,
        stop => panic!("no lines, but {stop:?}"),
    }
}

#[tokio::test]
async fn lines_that_say_nothing_come_in_batches_that_weigh_little() {
    let (_folder, store) = store();
    let spool = store.open(&task("a")).unwrap();
    let text: String = (0..5_000)
        .map(|n| if n % 5 == 0 { "x\n" } else { "\n" })
        .collect();
    print(&spool, text.clone()).await;
    spool.close(end()).await.unwrap();

    let mut cursor = spool.cursor();
    let mut seen = String::new();
    while let LogItem::Lines(lines) = cursor.next().await.unwrap() {
        assert!(lines.len() <= MOST, "{} lines at once", lines.len());
        for line in texts(&lines) {
            seen = seen + line + "\n";
        }
    }

    assert_eq!(seen, text);
}

#[tokio::test]
async fn a_viewer_that_the_hole_overtakes_within_a_record_misses_each_byte_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(&folder, 64 * 1024);
    let spool = store.open(&task("a")).unwrap();
    let head = "h\n".repeat(10_000);
    print(&spool, head.clone()).await;
    let mut cursor = spool.cursor();
    let first = batch(&mut cursor).await;
    let filler = "f\n".repeat(2_000);
    for _ in 0..200 {
        print(&spool, filler.clone()).await;
    }
    let printed = head.len() + 200 * filler.len();

    let (rest, _) = read(&mut cursor).await;

    let mut counted = 0;
    let mut markers = 0;
    for line in first.iter().chain(&rest) {
        if line.source != Source::Worker {
            counted += line.bytes.len() + 1;
            continue;
        }
        let text = texts(std::slice::from_ref(line))[0].to_owned();
        let missing = text.strip_prefix("[worker-node] ").unwrap();
        let missing = missing.strip_suffix(" bytes left out here").unwrap();
        counted += missing.parse::<usize>().unwrap();
        markers += 1;
    }
    assert_eq!(counted, printed);
    assert!(markers > 0, "nothing was left out");
}

#[tokio::test]
async fn a_long_line_is_whole_for_some_viewers_in_parts_for_more_and_none_is_cut() {
    let (_folder, store) = store();
    let spool = store.open(&task("a")).unwrap();
    let long = "y".repeat(900_000);
    for _ in 0..2 {
        print(&spool, format!("short\n{long}\n")).await;
    }
    let mut whole = Vec::new();
    for _ in 0..LONG_LINES {
        let mut cursor = spool.cursor();
        let (lines, _) = read(&mut cursor).await;
        assert_eq!(texts(&lines), ["short", &long, "short", &long]);
        whole.push(cursor);
    }

    let (parts, _) = read(&mut spool.cursor()).await;
    whole.pop();
    let (after, _) = read(&mut spool.cursor()).await;

    assert!(parts.iter().all(|line| line.bytes.len() <= SHORT));
    let mut joined = String::new();
    for line in &parts {
        joined.push_str(texts(std::slice::from_ref(line))[0]);
        joined.push_str(if line.continued { "" } else { "\n" });
    }
    assert_eq!(joined, format!("short\n{long}\n").repeat(2));
    assert_eq!(after.len(), 4, "a place is free again");
}
