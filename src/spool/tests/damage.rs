//! Logs that are no longer what was written: any byte changed, or cut anywhere. A reader is told what is missing at its place,
//! and gets the rest.

use super::*;
use crate::ports::spool::{LogRange, RawItem, Stretch};

const LINES: [&str; 5] = ["one", "two", "three", "four", "five"];
const DAMAGED: &str = "damaged";

/// What a reader gets of the log: lines of the container with their offsets, those of the worker, and whether the log ended.
async fn seen(folder: &TempDir) -> Option<(Vec<(u64, String)>, bool)> {
    let spool = store_in(folder, 1 << 30).find(&task("a")).unwrap()?;
    let mut cursor = spool.cursor_from(LogRange::default());
    let mut lines = Vec::new();
    let is_ended = loop {
        match cursor.next_bytes().await.unwrap() {
            RawItem::Bytes(Stretch { bytes, spans }) => {
                let mut rest = &bytes[..];
                for span in spans {
                    let (text, behind) = rest.split_at(span.len);
                    for line in String::from_utf8_lossy(text).lines() {
                        lines.push((span.offset, line.to_owned()));
                    }
                    rest = behind;
                }
            }
            RawItem::CaughtUp => break false,
            RawItem::End(_) => break true,
        }
    };
    assert_eq!(
        texts(&read_all(&spool).await).len(),
        lines.len(),
        "both ways show the same"
    );
    Some((lines, is_ended))
}

/// A log of some lines, each its own record of its own time, and one end.
async fn written(folder: &TempDir) -> Vec<u8> {
    let spool = store_in(folder, 1 << 30).open(&task("a")).unwrap();
    for line in LINES {
        print(&spool, format!("{line}\n")).await;
        // A position record between them, so that the lines are spans of their own.
        spool.append_up_to(Vec::new(), position(0)).await.unwrap();
    }
    spool.close(end()).await.unwrap();
    drop(spool);
    fs::read(only_file(folder)).unwrap()
}

#[tokio::test]
async fn whichever_byte_of_a_finished_log_is_another_one_its_record_alone_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let whole = written(&folder).await;
    let path = only_file(&folder);
    let (all, true) = seen(&folder).await.unwrap() else {
        panic!("it has an end")
    };
    let is_marker = |line: &(u64, String)| line.1.contains(DAMAGED);
    let (mut lost_at, mut shifted) = (HashSet::new(), 0);

    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(&path, &bytes).unwrap();

        let (lines, is_ended) = seen(&folder).await.expect("it is still the task's");

        let markers: Vec<_> = (0..lines.len())
            .filter(|place| is_marker(&lines[*place]))
            .collect();
        let kept: Vec<_> = lines.iter().filter(|line| !is_marker(line)).collect();
        let text = |line: &(u64, String)| kept.iter().any(|kept| kept.1 == line.1);
        let missing: Vec<_> = all.iter().filter(|line| !text(line)).collect();
        shifted += usize::from(!kept.iter().all(|line| all.contains(line)));
        assert!(
            markers.len() <= 1 && missing.len() <= 1,
            "byte {at}: {lines:?}"
        );
        if let Some(missing) = missing.first() {
            let place = all.iter().position(|line| line == *missing);
            assert_eq!(markers.first().copied(), place, "byte {at}: {lines:?}");
            lost_at.extend(place);
        }
        let end_is_damaged = at >= whole.len() - 100;
        assert!(is_ended || end_is_damaged, "byte {at}: {lines:?}");
    }

    assert_eq!(lost_at.len(), LINES.len(), "each line was lost once");
    // Where the byte was a record's kind.
    let records = 2 * LINES.len() + 1;
    assert!(
        shifted <= records,
        "{shifted} times the offsets behind the damage are others"
    );
}

#[tokio::test]
async fn wherever_a_finished_log_is_cut_what_lies_before_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let whole = written(&folder).await;
    let path = only_file(&folder);
    let (all, _) = seen(&folder).await.unwrap();
    let mut lengths = HashSet::new();

    for length in (0..whole.len()).rev() {
        fs::write(&path, &whole[..length]).unwrap();
        let Some((lines, is_ended)) = seen(&folder).await else {
            assert!(
                length < format::HEADER as usize + 2 * format::HEAD,
                "{length}"
            );
            fs::remove_file(path.with_extension("log.damaged")).unwrap();
            continue;
        };
        assert!(!is_ended && all.starts_with(&lines), "{length}: {lines:?}");
        lengths.insert(lines.len());
    }

    assert_eq!(lengths.len(), LINES.len() + 1);
}

#[tokio::test]
async fn damage_beside_a_dropped_middle_costs_no_line_without_a_word() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(&folder, 64 * 1024);
    let spool = store.open(&task("a")).unwrap();
    flood(&spool, 0..4_000).await;
    spool.close(end()).await.unwrap();
    drop((spool, store));
    let path = only_file(&folder);
    let whole = fs::read(&path).unwrap();

    for at in (0..format::new_header().len()).chain((0..whole.len()).step_by(997)) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(&path, &bytes).unwrap();

        let (lines, _) = seen(&folder).await.expect("it is still the task's");

        let mut next = Some(0);
        for (_, line) in &lines {
            let number = line
                .strip_prefix("line")
                .and_then(|line| line.trim().parse::<usize>().ok());
            match number {
                None => next = None,
                Some(number) => {
                    assert!(
                        next.is_none_or(|next| next == number),
                        "byte {at}: {number}, not {next:?}"
                    );
                    next = Some(number + 1);
                }
            }
        }
        assert!(lines.len() > 500, "byte {at}: {} lines", lines.len());
    }
}
