//! The reader of one container: moves the container's output from the engine into the spool until the container has ended,
//! whatever happens to the stream. It is a task of its own beside the actor, and knows no mailbox.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt};
use log::warn;
use tokio::{
    sync::{
        Notify, OwnedSemaphorePermit, Semaphore,
        mpsc::{UnboundedReceiver, unbounded_channel},
        watch,
    },
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use tokio_stream::wrappers::UnboundedReceiverStream;

use super::{
    counting::Counting,
    elsewhere::Elsewhere,
    from_file::{Ended, FromFile},
    intake::Intake,
};
use crate::{
    actors::engine_watch::{EngineView, ride_out},
    domain::id::{ContainerId, TaskId},
    ports::{
        clock::Clock,
        engine::{ContainerEngine, ContainerState, EngineError, Frame, Frames},
        engine_log::EngineLog,
        spool::{Piece, Spool},
    },
    supervision::threads::beside,
};

/// Most frames in one append: at 32 KiB each 2 MiB, as much as the engine holds back before the container is blocked.
pub(super) const BATCH: usize = 64;

/// Bytes of a container's stream that are held while the spool writes others: about as much as an engine holds itself. An engine
/// throws away what is left of a stream 2 s after the container's end (Docker 20.10: 46 kB of 1.3 MB), so a stream that brings
/// more than this is dropped, if the rest can be read from the engine's files.
const AHEAD: usize = 1024 * 1024;

/// A container's stream ends some ms before its end is known. If the container still runs this long after its stream ended, the
/// stream broke: the rest is read from the engine's record, which costs time and no byte.
const UNPROVEN: Duration = Duration::from_millis(200);

/// How long to wait for the next byte after the container has ended: longer than an engine on a busy machine is silent. Then the
/// stream is given up, once, and the rest is read from the engine's own log.
const DRAIN: Duration = Duration::from_secs(10);

/// How long a stream may be silent after the engine came back: its connection may be dead without any error. Then it is opened
/// anew, which costs a container that is only silent one call.
pub(super) const SILENCE: Duration = Duration::from_secs(10);

/// How the reading of a container's output ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadEnd {
    /// At the output's end: every byte is in the spool.
    Whole,
    /// It broke off, or the end did not come: bytes may be missing.
    Broken,
    /// No reader in this process has read it.
    NoReader,
}

/// The state of a reader.
#[derive(Debug, Clone, Copy)]
enum Stand {
    /// It reads; something came when this state was last set.
    Reading,
    /// It waits for the engine, for its turn, or for this machine, so nothing can come.
    Waiting,
    /// The stream has ended, and it is not known yet whether the container has.
    Drained,
    /// The reading has ended, in this way and at this time.
    Ended(ReadEnd, Instant),
}

/// What a reader works with: whose output, from which engine, into which spool.
#[derive(Clone)]
pub(super) struct Work {
    pub(super) engine: Arc<dyn ContainerEngine>,
    pub(super) view: Arc<EngineView>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) task: TaskId,
    pub(super) container: ContainerId,
    pub(super) spool: Arc<dyn Spool>,
    /// Bounds how many records are read at once: each takes memory, and the engine's time.
    pub(super) turns: Arc<Semaphore>,
    /// The runtime on which attached streams are taken.
    pub(super) intake: Intake,
    /// Rings when the present stream is to be given up.
    pub(super) give_up: Arc<Notify>,
    pub(super) progress: Progress,
    pub(super) ended: Ended,
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Work({}, {})", self.task, self.container)
    }
}

impl Work {
    /// Opens the engine's log files; `None` where they cannot be read here.
    async fn open_log(&self) -> Result<Option<Box<dyn EngineLog>>, EngineError> {
        match self.view.data_root() {
            Some(root) => self.engine.open_log(&self.container, &root).await,
            None => Ok(None),
        }
    }

    /// As [`open_log`](Self::open_log), but waits until the engine is there.
    async fn open_log_in_time(&self) -> Option<Box<dyn EngineLog>> {
        loop {
            self.progress.during(self.view.here()).await;
            match self.open_log().await {
                Ok(log) => return log,
                Err(error) if !error.passes() => return None,
                Err(error) => self.progress.during(ride_out(&self.view, &error)).await,
            }
        }
    }

    fn files(&self, log: Box<dyn EngineLog>) -> FromFile {
        FromFile::new(
            self.task.clone(),
            Arc::clone(&self.spool),
            self.progress.clone(),
            self.ended.clone(),
            log,
            Arc::clone(&self.clock),
        )
    }

    /// Says something in the task's log and in the worker's.
    pub(super) async fn note(&self, text: &str) {
        warn!(task:% = self.task; "{text}");
        if let Err(error) = self.spool.note(text.to_owned()).await {
            warn!(task:% = self.task, error:%; "a marker is not in the log");
        }
    }

    /// Whether the container has ended, shortly after its stream did: then the stream ended for that reason.
    async fn has_ended_with_its_stream(&self) -> bool {
        self.progress.stand(Stand::Drained);
        sleep(UNPROVEN).await;
        self.progress.goes_on();
        match self.engine.inspect(&self.container.0).await {
            Ok(facts) => matches!(facts.state, ContainerState::Exited(_)),
            Err(EngineError::NotFound(_)) => true,
            Err(_) => false,
        }
    }

    /// Whether the engine answers at once; if not, waits until it does.
    async fn engine_answers(&self) -> bool {
        let mut at_once = true;
        loop {
            match self.engine.inspect(&self.container.0).await {
                Err(error @ (EngineError::Away(_) | EngineError::Deadline(_))) => {
                    at_once = false;
                    ride_out(&self.view, &error).await;
                }
                Ok(_) | Err(_) => return at_once,
            }
        }
    }
}

/// The stream of a container that was attached to before its start.
pub(super) struct Begun {
    pub(super) frames: Frames,
    /// Counts the engine's log files, where they can be read here.
    pub(super) counting: Option<Counting>,
    /// When the engine was asked for the stream.
    pub(super) asked: Instant,
}

impl Begun {
    pub(super) async fn open(work: &Work) -> Result<Self, EngineError> {
        let asked = Instant::now();
        let (engine, container) = (Arc::clone(&work.engine), work.container.clone());
        let attach = async move { engine.attach(&container).await };
        let attached = work.intake.open(attach);
        let (frames, log) = tokio::try_join!(attached, work.open_log())?;
        let counting = match log {
            Some(log) => {
                let begun = Counting::begin(work.task.clone(), Arc::clone(&work.spool), log).await;
                begun
                    .map_err(|error| EngineError::Failed(error.to_string()))?
                    .into()
            }
            None => None,
        };
        Ok(Self {
            frames,
            counting,
            asked,
        })
    }
}

/// Reads a stream as long as that makes sense: when the engine has come back, the stream's connection may be dead without any
/// error, and would never end.
pub(super) struct Patience {
    work: Work,
    returned: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Patience {
    pub(super) fn new(work: &Work) -> Self {
        let view = Arc::clone(&work.view);
        Self {
            work: work.clone(),
            returned: Box::pin(async move { view.returned().await }),
        }
    }

    /// The next item; an error if, as far as can be told, none will come any more.
    pub(super) async fn next<S: Stream + Unpin>(
        &mut self,
        stream: &mut S,
    ) -> Result<Option<S::Item>, EngineError> {
        let silent = || Err(EngineError::Away("its stream is silent".into()));
        let next = tokio::select! {
            biased;
            item = stream.next() => Ok(item),
            () = self.work.give_up.notified() => silent(),
            () = &mut self.returned => {
                let view = Arc::clone(&self.work.view);
                self.returned = Box::pin(async move { view.returned().await });
                match timeout(SILENCE, stream.next()).await {
                    Ok(item) => Ok(item),
                    Err(_) => silent(),
                }
            }
        };
        self.work.progress.goes_on();
        next
    }
}

/// The state of a reader, as those who wait for its end see it.
#[derive(Debug, Clone)]
pub(super) struct Progress(Arc<watch::Sender<Stand>>);

impl Default for Progress {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Stand::Reading)))
    }
}

impl Progress {
    fn stand(&self, stand: Stand) {
        self.0.send_replace(stand);
    }

    /// Something has come.
    pub(super) fn goes_on(&self) {
        self.stand(Stand::Reading);
    }

    /// Does work during which nothing can come, and which ends by itself.
    pub(super) async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        self.stand(Stand::Waiting);
        let done = work.await;
        self.goes_on();
        done
    }

    /// Waits for the reader's end; `None` if it reads, and nothing has come for [`DRAIN`].
    async fn end(&self) -> Option<ReadEnd> {
        let mut stand = self.0.subscribe();
        loop {
            let present = *stand.borrow_and_update();
            let changed = stand.changed();
            let changed = match present {
                Stand::Drained => return Some(ReadEnd::Whole),
                Stand::Ended(how, _) => return Some(how),
                Stand::Waiting => changed.await,
                Stand::Reading => timeout(DRAIN, changed).await.ok()?,
            };
            // The sender lives as long as `self`.
            changed.ok()?;
        }
    }
}

/// A reader at work, or its result.
#[derive(Debug)]
pub(super) struct Reader {
    work: Work,
    reading: JoinHandle<()>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl Reader {
    /// Starts a reader: with the stream that was attached before the container's start, or else from the engine's own log.
    pub(super) fn start(work: Work, begun: Option<Begun>) -> Self {
        let kept = work.clone();
        let reading = beside(async move {
            let how = read(&work, begun).await;
            work.progress.stand(Stand::Ended(how, Instant::now()));
        });
        Self {
            work: kept,
            reading,
        }
    }

    fn stand(&self) -> Stand {
        *self.work.progress.0.borrow()
    }

    /// Whether that container's output is being read, or was read to its end.
    pub(super) fn reads(&self, container: &ContainerId) -> bool {
        let broken = matches!(self.stand(), Stand::Ended(how, _) if how != ReadEnd::Whole);
        self.work.container == *container && !broken
    }

    /// Whether the reader ended at least this long ago.
    pub(super) fn is_stale(&self, age: Duration) -> bool {
        matches!(self.stand(), Stand::Ended(_, at) if at.elapsed() >= age)
    }

    /// Waits for the reader's end after the container's, as long as bytes come. A stream from which none come is given up once,
    /// and the rest is read from the engine's record.
    pub(super) fn finish(&self) -> impl Future<Output = ReadEnd> + Send + 'static {
        let work = self.work.clone();
        work.ended.tell();
        async move {
            let mut given_up = false;
            loop {
                if let Some(how) = work.progress.end().await {
                    return how;
                }
                // An engine that did not answer could send nothing meanwhile.
                if !work.engine_answers().await {
                    continue;
                }
                if std::mem::replace(&mut given_up, true) {
                    return ReadEnd::Broken;
                }
                work.give_up.notify_one();
            }
        }
    }
}

pub(super) async fn read(work: &Work, begun: Option<Begun>) -> ReadEnd {
    let mut broke_off = None;
    match begun {
        Some(Begun {
            frames,
            counting: Some(mut counting),
            ..
        }) => {
            pump(work, frames, Some(&mut counting)).await;
            let ended = work.clock.now();
            let Some((log, counted)) = counting.end().await else {
                return ReadEnd::Broken;
            };
            return work.files(log).behind_a_stream(counted, ended).await;
        }
        Some(Begun { frames, asked, .. }) => {
            let came_to_its_end = pump(work, frames, None).await;
            broke_off = Some(Instant::now());
            // The stream of an engine that was away since it was asked may have ended with that engine, and the container after.
            let was_there = work.view.outages_after(asked).is_empty();
            if came_to_its_end && was_there && work.has_ended_with_its_stream().await {
                return ReadEnd::Whole;
            }
        }
        None => {
            if let Some(log) = work.open_log_in_time().await {
                return work.files(log).at_the_logs_place().await;
            }
        }
    }
    Elsewhere::new(work.clone(), broke_off).run().await
}

/// A frame of a stream, and the room that it takes until it is in the spool.
type Taken = (Result<Frame, EngineError>, Option<OwnedSemaphorePermit>);

/// Takes a stream off the engine as it comes, up to [`AHEAD`] bytes ahead of the spool.
fn take_ahead(
    intake: &Intake,
    mut frames: Frames,
    when_full: WhenFull,
) -> UnboundedReceiver<Taken> {
    let (sender, taken) = unbounded_channel();
    let room = Arc::new(Semaphore::new(AHEAD));
    intake.spawn(async move {
        loop {
            let frame = tokio::select! {
                biased;
                frame = frames.next() => frame,
                () = sender.closed() => None,
            };
            let Some(frame) = frame else { return };
            // A task may print single bytes: then what holds a byte takes more room than the byte.
            let bytes = frame.as_ref().map_or(0, |frame| frame.bytes.len());
            let bytes = (bytes + size_of::<Taken>()).min(AHEAD);
            let places = u32::try_from(bytes).unwrap_or(u32::MAX);
            let place = match Arc::clone(&room).try_acquire_many_owned(places) {
                Err(_) if when_full == WhenFull::LetGo => return,
                Err(_) => Arc::clone(&room).acquire_many_owned(places).await.ok(),
                Ok(place) => Some(place),
            };
            if sender.send((frame, place)).is_err() {
                return;
            }
        }
    });
    taken
}

/// What happens to a stream that brings more than the spool takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WhenFull {
    /// It is not taken, which blocks the container in the end.
    Wait,
    /// It is dropped, and the rest is read from the engine's files.
    LetGo,
}

/// Moves a stream into the spool; true if it came to its end. It reads on even if the spool cannot be written: a container whose
/// output is not read is blocked after about 2 MB, and if it ends then, the engine throws that output away. With `counting`, what
/// is missing can be read from the files, so the stream is dropped when the container has ended, or brings more than the spool
/// takes.
async fn pump(work: &Work, frames: Frames, mut counting: Option<&mut Counting>) -> bool {
    // Only a stream whose rest can be read from the files may be dropped; any other is read to its end.
    let when_full = match counting {
        Some(_) => WhenFull::LetGo,
        None => WhenFull::Wait,
    };
    let taken = take_ahead(&work.intake, frames, when_full);
    let taken = UnboundedReceiverStream::new(taken);
    let mut batches = taken.ready_chunks(BATCH);
    let mut patience = Patience::new(work);
    let mut said = false;
    loop {
        let next = tokio::select! {
            biased;
            next = patience.next(&mut batches) => next,
            () = work.ended.told(), if counting.is_some() => return true,
        };
        let (batch, mut broken) = match next {
            Ok(Some(batch)) => (batch, None),
            Ok(None) => return true,
            Err(silent) => (Vec::new(), Some(silent)),
        };
        let mut pieces = Vec::with_capacity(batch.len());
        let mut places = Vec::with_capacity(batch.len());
        // The places are held until the bytes are in the spool: they bound what is in memory.
        for (frame, place) in batch {
            places.push(place);
            match frame {
                Ok(frame) => pieces.push(Piece {
                    source: frame.source,
                    bytes: frame.bytes,
                    time: frame.time,
                }),
                Err(error) => broken = Some(error),
            }
        }
        let bytes = pieces.iter().map(|piece| piece.bytes.len()).sum();
        if let Err(error) = work.spool.append(pieces).await
            && !std::mem::replace(&mut said, true)
        {
            warn!(task:% = work.task, error:%; "a log cannot be written; its container goes on");
        }
        // Also after a write that failed: the stream is read on, or the container would be blocked.
        drop(places);
        if let Some(counting) = &mut counting {
            counting.appended(bytes).await;
        }
        if let Some(error) = broken {
            warn!(task:% = work.task, error:%; "a container's output broke off");
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{future::join, stream};

    use super::*;
    use crate::domain::log_line::Source;

    const SHORT: Duration = Duration::from_secs(9);
    const LONG: Duration = Duration::from_secs(600);

    async fn reads(progress: &Progress, times: u32) {
        let mut items = tokio::time::interval(SHORT);
        for _ in 0..times {
            items.tick().await;
            progress.goes_on();
        }
    }

    fn ends(progress: &Progress) {
        progress.stand(Stand::Ended(ReadEnd::Whole, Instant::now()));
    }

    /// Frames of 32 KiB without end, and whether the stream still exists.
    fn endless() -> (Frames, std::sync::Weak<()>) {
        let held = Arc::new(());
        let weak = Arc::downgrade(&held);
        let frames = stream::repeat_with(move || {
            let _held = &held;
            Ok(Frame {
                source: Source::Stdout,
                bytes: vec![b'x'; 32 * 1024].into(),
                time: None,
            })
        });
        (Box::pin(frames), weak)
    }

    #[tokio::test]
    async fn a_stream_that_brings_more_than_is_taken_is_let_go_with_all_that_came() {
        let (frames, held) = endless();
        let mut taken = take_ahead(&Intake::default(), frames, WhenFull::LetGo);
        let mut bytes = 0;
        while let Some((frame, _place)) = taken.recv().await {
            bytes += frame.unwrap().bytes.len();
            while held.strong_count() > 0 && taken.len() < AHEAD / (32 * 1024) - 1 {
                tokio::task::yield_now().await;
            }
        }

        assert!(bytes >= AHEAD - 2 * 32 * 1024, "{bytes}");
        assert_eq!(held.strong_count(), 0);
    }

    #[tokio::test]
    async fn a_byte_at_a_time_takes_no_more_room_than_many() {
        let byte = || Frame {
            source: Source::Stdout,
            bytes: b"x".as_slice().into(),
            time: None,
        };
        let frames = stream::repeat_with(move || Ok(byte())).take(2 * AHEAD);
        let mut taken = take_ahead(&Intake::default(), Box::pin(frames), WhenFull::LetGo);

        let mut waiting = 0;
        while !taken.is_closed() && waiting < AHEAD {
            tokio::task::yield_now().await;
            waiting = taken.len();
        }
        while taken.recv().await.is_some() {}

        assert!(waiting <= AHEAD / size_of::<Taken>(), "{waiting}");
    }

    #[tokio::test]
    async fn a_stream_that_can_be_read_nowhere_else_waits_and_ends_with_its_reader() {
        let (frames, held) = endless();
        let mut taken = take_ahead(&Intake::default(), frames, WhenFull::Wait);
        let full = AHEAD / (32 * 1024 + size_of::<Taken>());
        while taken.len() < full {
            tokio::task::yield_now().await;
        }
        for _ in 0..10 * full {
            assert!(taken.recv().await.is_some());
        }

        drop(taken);
        while held.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_is_waited_for_as_long_as_anything_comes() {
        let progress = Progress::default();
        let reading = async {
            reads(&progress, 100).await;
            ends(&progress);
        };

        let (end, ()) = join(progress.end(), reading).await;

        assert_eq!(end, Some(ReadEnd::Whole));
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_is_waited_for_while_nothing_can_come() {
        let progress = Progress::default();
        let reading = async {
            progress
                .during(timeout(LONG, std::future::pending::<()>()))
                .await
                .unwrap_err();
            ends(&progress);
        };

        let (end, ()) = join(progress.end(), reading).await;

        assert_eq!(end, Some(ReadEnd::Whole));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silence_is_told_and_what_comes_after_it_is_waited_for_again() {
        let progress = Progress::default();
        let begun = Instant::now();

        assert_eq!(progress.end().await, None);
        assert_eq!(begun.elapsed(), DRAIN);

        let reading = async {
            reads(&progress, 3).await;
            progress.stand(Stand::Drained);
        };
        let (end, ()) = join(progress.end(), reading).await;
        assert_eq!(end, Some(ReadEnd::Whole));
    }
}
