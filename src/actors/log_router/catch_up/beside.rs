//! A stream of output that is held while the record of the same output is read. What it brings is kept, up to a bound; then it
//! is let go: one that is not read on holds its container up, and what that wrote last is lost if it ends meanwhile. Only
//! where the engine cannot read its record, or has died and may not, the container is to wait: so that the place stands still while
//! it is looked for.

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use tokio::time::timeout;

use super::track::number_of;
use crate::ports::{
    clock::Clock,
    engine::{EngineError, Frame, Frames},
};

/// Bytes that are held at most.
const LIMIT: usize = 8 << 20;

/// Bytes that are held of one whose container may wait, while it is not known whether it must. The engine holds about 2 MB more
/// before it does, and these must have room too.
pub(super) const WAITING_SOON: usize = LIMIT / 2;

/// The same of one whose container must.
pub(super) const WAITING: usize = 1 << 20;

/// What to do with a stream that brings more than is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// It goes.
    LetGo,
    /// It is held up to so many bytes, and then its container waits.
    Wait(usize),
}

/// A stream from which nothing comes for so long has been read to its present end.
const DRAINED: Duration = Duration::from_millis(50);

/// One that never pauses for so long has been read far enough by then.
const ENDLESS: Duration = Duration::from_secs(2);

/// See the module.
pub(super) struct Beside {
    frames: Frames,
    clock: Arc<dyn Clock>,
    held: Vec<Frame>,
    /// Of stdout and stderr.
    bytes: [usize; 2],
    /// It has ended, or broken off.
    over: Option<Result<(), EngineError>>,
    /// It brought more than is held, and was let go.
    is_let_go: bool,
}

impl Beside {
    pub(super) fn new(frames: Frames, clock: Arc<dyn Clock>) -> Self {
        Self {
            frames,
            clock,
            held: Vec::new(),
            bytes: [0; 2],
            over: None,
            is_let_go: false,
        }
    }

    /// Holds what comes while something else is done.
    pub(super) async fn during<T>(&mut self, full: Full, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let limit = match full {
            Full::LetGo => LIMIT,
            Full::Wait(limit) => limit,
        };
        tokio::select! {
            done = &mut work => return done,
            () = self.hold(limit) => {}
        }
        if full == Full::LetGo && self.over.is_none() {
            self.is_let_go = true;
            self.frames = Box::pin(stream::empty());
            self.held = Vec::new();
        }
        work.await
    }

    /// Holds what comes for so long; shorter where the stream ends.
    pub(super) async fn settle(&mut self, time: Duration) {
        let _endless = timeout(time, self.hold(LIMIT)).await;
    }

    /// Holds what the engine has sent already; of one that sends on and on, what it sends within a time.
    pub(super) async fn drain(&mut self) {
        let _endless = timeout(ENDLESS, self.hold_until_quiet()).await;
    }

    async fn hold_until_quiet(&mut self) {
        while !self.is_done(LIMIT) {
            let Ok(item) = timeout(DRAINED, self.frames.next()).await else {
                return;
            };
            self.take(item);
        }
    }

    async fn hold(&mut self, limit: usize) {
        while !self.is_done(limit) {
            let item = self.frames.next().await;
            self.take(item);
        }
    }

    fn is_done(&self, limit: usize) -> bool {
        self.over.is_some() || self.is_let_go || self.bytes[0] + self.bytes[1] >= limit
    }

    fn take(&mut self, item: Option<Result<Frame, EngineError>>) {
        match item {
            Some(Ok(mut frame)) => {
                // It is appended much later than it came, and what is newer in the record is told by its time.
                frame.time.get_or_insert_with(|| self.clock.now());
                self.bytes[number_of(frame.source)] += frame.bytes.len();
                self.held.push(frame);
            }
            Some(Err(error)) => self.over = Some(Err(error)),
            None => self.over = Some(Ok(())),
        }
    }

    /// Bytes that are held of stdout and stderr.
    pub(super) fn bytes(&self) -> [usize; 2] {
        self.bytes
    }

    /// Whether it has ended, or broken off.
    pub(super) fn is_over(&self) -> bool {
        self.over.is_some()
    }

    /// Whether it brought too much.
    pub(super) fn is_let_go(&self) -> bool {
        self.is_let_go
    }

    /// What is held of stdout and stderr.
    pub(super) fn held(&self) -> [Vec<u8>; 2] {
        let mut held = [Vec::new(), Vec::new()];
        for frame in &self.held {
            held[number_of(frame.source)].extend_from_slice(&frame.bytes);
        }
        held
    }

    /// The stream from where so many bytes of stdout and stderr were.
    pub(super) fn after(mut self, mut known: [usize; 2]) -> Frames {
        for frame in &mut self.held {
            let known = &mut known[number_of(frame.source)];
            let skipped = frame.bytes.len().min(*known);
            *known -= skipped;
            frame.bytes = frame.bytes.split_off(skipped);
        }
        self.held.retain(|frame| !frame.bytes.is_empty());
        let held = stream::iter(self.held.into_iter().map(Ok));
        match self.over {
            None => Box::pin(held.chain(self.frames)),
            Some(Ok(())) => Box::pin(held),
            Some(Err(error)) => Box::pin(held.chain(stream::iter([Err(error)]))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU64, Ordering},
        time::SystemTime,
    };

    use bytes::Bytes;
    use tokio::time::interval;

    use super::*;
    use crate::{domain::log_line::Source, ports::clock::SystemClock};

    fn clock() -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }

    fn frame(source: Source, text: &'static str) -> Frame {
        Frame {
            source,
            bytes: Bytes::from_static(text.as_bytes()),
            time: None,
            entries: 0,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_held_comes_before_what_comes_and_what_is_known_does_not() {
        let items = [
            frame(Source::Stdout, "one\ntw"),
            frame(Source::Stderr, "oops\n"),
            frame(Source::Stdout, "o\nthree\n"),
        ];
        let mut beside = Beside::new(Box::pin(stream::iter(items.map(Ok))), clock());
        beside.settle(Duration::from_secs(1)).await;

        assert_eq!(beside.held()[0], b"one\ntwo\nthree\n");
        assert_eq!(beside.bytes(), [14, 5]);
        let rest: Vec<_> = beside.after([8, 0]).collect().await;

        let rest = rest.into_iter().map(|item| item.unwrap().bytes);
        assert_eq!(rest.collect::<Vec<_>>(), ["oops\n", "three\n"]);
    }

    /// It stands still but for each look at it.
    #[derive(Default)]
    struct Ticking(AtomicU64);

    impl Clock for Ticking {
        fn now(&self) -> SystemTime {
            let seconds = self.0.fetch_add(1, Ordering::Relaxed);
            SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_held_says_when_it_came() {
        let items = ["one\n", "two\n"].map(|text| Ok(frame(Source::Stdout, text)));
        let ticking = Arc::new(Ticking::default());
        let mut beside = Beside::new(Box::pin(stream::iter(items)), ticking);
        beside.settle(Duration::from_secs(1)).await;

        let rest: Vec<_> = beside.after([0, 0]).collect().await;

        let times = rest.into_iter().map(|item| item.unwrap().time);
        let at = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(times.collect::<Vec<_>>(), [at(0), at(1)]);
    }

    async fn a_second() {
        let mut seconds = interval(Duration::from_secs(1));
        seconds.tick().await;
        seconds.tick().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_never_pauses_is_drained_for_a_while() {
        let ticks = stream::unfold(interval(DRAINED / 5), |mut ticks| async {
            ticks.tick().await;
            Some((Ok(frame(Source::Stdout, "tick\n")), ticks))
        });
        let mut beside = Beside::new(Box::pin(ticks), clock());

        beside.drain().await;

        assert!(beside.bytes()[0] > 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_brings_too_much_is_let_go() {
        let text: &str = Box::leak("x".repeat(LIMIT / 2).into_boxed_str());
        let endless = stream::repeat_with(move || Ok(frame(Source::Stdout, text)));
        let mut beside = Beside::new(Box::pin(endless), clock());

        beside.during(Full::Wait(WAITING), a_second()).await;
        assert_eq!(
            (beside.bytes(), beside.is_let_go()),
            ([LIMIT / 2, 0], false)
        );
        beside.during(Full::LetGo, a_second()).await;

        assert!(beside.is_let_go());
        assert_eq!(beside.held(), [b"", b""]);
    }
}
