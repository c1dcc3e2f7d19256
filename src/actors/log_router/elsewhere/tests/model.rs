//! Printing, streaming, breaks and losses in any order, and the log that comes of them.

use proptest::prelude::*;

use super::*;

/// One thing that happens; things happen in any order.
#[derive(Debug, Clone)]
enum Deed {
    /// This many bytes of one source, which end a line or do not.
    Print(bool, u8, bool),
    /// The stream brings this many bytes of what was printed.
    Stream(u8),
    Pass(u16),
    /// The stream ends; the record is read until the engine breaks off after this many entries, and on from there.
    Breaks(usize),
    /// The worker reads this many entries and dies; another one reads on.
    WorkerDies(usize),
    /// The engine dies at full speed, and loses this many entries.
    EngineDies(usize),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let print = (any::<bool>(), 1_u8..9, prop::bool::weighted(0.8));
    let deed = prop_oneof![
        12 => print.prop_map(|(is_err, size, ends)| Deed::Print(is_err, size, ends)),
        6 => (0_u8..40).prop_map(Deed::Stream),
        3 => (0_u16..30_000).prop_map(Deed::Pass),
        1 => (0_usize..9).prop_map(Deed::Breaks),
        1 => (0_usize..9).prop_map(Deed::WorkerDies),
        1 => (0_usize..4).prop_map(Deed::EngineDies),
    ];
    prop::collection::vec(deed, 0..60)
}

impl Stage {
    async fn perform(&mut self, deed: Deed, text: impl Fn(u8) -> String) {
        let cut = |stage: &Self, cut| stage.engine.0.lock().unwrap().cuts.push_back(cut);
        match deed {
            Deed::Print(is_err, size, ends) => {
                let end = if ends { "\n" } else { "" };
                self.print(SOURCES[usize::from(is_err)], &(text(size) + end));
            }
            Deed::Stream(bytes) => self.stream(bytes.into()).await,
            Deed::Pass(millis) => {
                // A stream brings what there is in time.
                self.stream(usize::MAX).await;
                self.pass(millis.into());
            }
            Deed::Breaks(entries) => {
                cut(self, Cut::Breaks(entries));
                assert_eq!(self.read().await, Some(ReadEnd::Whole));
            }
            Deed::WorkerDies(entries) => {
                self.replace_worker();
                cut(self, Cut::Hangs(entries));
                self.read().await;
                self.replace_worker();
            }
            Deed::EngineDies(lost) => {
                for _ in 0..2 * BUSY_BYTES / 1_024 + lost {
                    self.print(Source::Stdout, &("x".repeat(1_023) + &text(5) + "\n"));
                }
                self.stream(usize::MAX).await;
                self.streamed = None;
                let mut world = self.engine.0.lock().unwrap();
                let kept = world.record.len() - lost;
                world.record.truncate(kept);
                if lost > 0 {
                    world.died = Some(world.millis);
                }
                world.millis += 1_000;
            }
        }
    }
}

/// The log of these deeds, read to its end.
fn log_of(
    deeds: Vec<Deed>,
    text: impl Fn(u8) -> String,
) -> ([Vec<u8>; 2], Vec<String>, [Vec<u8>; 2]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut stage = Stage::new();
        for deed in deeds {
            stage.perform(deed, &text).await;
        }
        stage.end();
        stage.engine.0.lock().unwrap().cuts.clear();
        assert_eq!(stage.read().await, Some(ReadEnd::Whole));
        let (bytes, markers) = stage.stored().await;
        (bytes, markers, stage.printed)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Nothing is in the log twice.
    #[test]
    fn whoever_dies_when_every_byte_is_stored_once_or_a_marker_stands(deeds in deeds()) {
        // Lines that are equal, more or less.
        let (bytes, markers, printed) = log_of(deeds, |size| "a".repeat(usize::from(size % 3)));
        prop_assert!(bytes == printed || !markers.is_empty(), "{bytes:?}, {printed:?}");
    }

    /// The log is whole however the worker and the streams break off.
    #[test]
    fn lines_that_differ_are_stored_without_a_marker_where_nothing_is_lost(deeds in deeds()) {
        let nothing_is_lost = |deed: &Deed| !matches!(deed, Deed::EngineDies(lost) if *lost > 0);
        let deeds = deeds.into_iter().filter(nothing_is_lost).collect();
        let number = std::cell::Cell::new(0_u32);
        let (bytes, markers, printed) = log_of(deeds, |_| {
            number.set(number.get() + 1);
            format!("{}.", number.get())
        });
        prop_assert_eq!((bytes, markers), (printed, vec![]));
    }
}
