//! The other side of each adapter: a worker that does what a task's names tell it, a log cursor fed by the test, and the server
//! put up around them.

use std::{collections::HashMap, io, sync::Arc, sync::Mutex};

use async_trait::async_trait;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use worker_node::{
    domain::{
        id::TaskId,
        log_line::{Line, Source},
        outcome::StatusWord,
        spec::Offer,
    },
    grpc::listener::{Doorkeeper, Limits, ServeError, Services, serve},
    ports::{
        master::MasterAddress,
        spool::{LogCursor, LogEnd, LogItem, LogRange, RawItem, Span, Stretch},
        worker::{AssignAnswer, CancelAnswer, LogsError, MoveError, Worker},
    },
    proto::{self, master_worker_client::MasterWorkerClient},
};

pub(crate) type Client = MasterWorkerClient<Channel>;

/// Answers as the name of the image (offers) or of the task (cancels) says.
#[derive(Default)]
pub(crate) struct FakeWorker {
    pub(crate) offers: Mutex<Vec<Offer>>,
    pub(crate) moves: Mutex<Vec<Option<MasterAddress>>>,
    /// What was asked for of logs.
    pub(crate) ranges: Mutex<Vec<LogRange>>,
    logs: Mutex<HashMap<String, Box<dyn LogCursor>>>,
    /// Told when a call hangs.
    hanging: Mutex<Option<oneshot::Sender<()>>>,
    gated: Mutex<Option<Gated>>,
}

/// A call that goes on when the test says so.
struct Gated {
    begun: oneshot::Sender<()>,
    opened: oneshot::Receiver<oneshot::Sender<()>>,
}

/// Holds a call.
pub(crate) struct Gate(oneshot::Sender<oneshot::Sender<()>>);

impl Gate {
    /// Lets the call go on; the answer is an error where it does not any more.
    pub(crate) fn open(self) -> oneshot::Receiver<()> {
        let (tell, done) = oneshot::channel();
        let _ = self.0.send(tell);
        done
    }
}

impl FakeWorker {
    /// The log that the next viewer of `task` gets.
    pub(crate) fn put_log(&self, task: &str, cursor: impl LogCursor + 'static) {
        let mut logs = self.logs.lock().unwrap();
        logs.insert(task.to_owned(), Box::new(cursor));
    }

    /// Fires when the next call to 'hang' has come.
    pub(crate) fn next_hang(&self) -> oneshot::Receiver<()> {
        let (tell, told) = oneshot::channel();
        *self.hanging.lock().unwrap() = Some(tell);
        told
    }

    /// Fires when the next call to 'gated' has come, which then waits for the gate.
    pub(crate) fn next_gated(&self) -> (oneshot::Receiver<()>, Gate) {
        let (begun, told) = oneshot::channel();
        let (open, opened) = oneshot::channel();
        *self.gated.lock().unwrap() = Some(Gated { begun, opened });
        (told, Gate(open))
    }

    async fn wait_at_the_gate(&self) {
        let gated = self.gated.lock().unwrap().take().unwrap();
        gated.begun.send(()).unwrap();
        gated.opened.await.unwrap().send(()).unwrap();
    }

    async fn hang<T>(&self) -> T {
        if let Some(tell) = self.hanging.lock().unwrap().take() {
            let _ = tell.send(());
        }
        std::future::pending().await
    }
}

#[async_trait]
impl Worker for FakeWorker {
    async fn assign(&self, offer: Offer) -> AssignAnswer {
        self.offers.lock().unwrap().push(offer.clone());
        match offer.spec.image.as_str() {
            "again" => AssignAnswer::AlreadyAccepted,
            "refuse" => AssignAnswer::Refused("draining".into()),
            "panic" => panic!("as the test wants it"),
            "hang" => self.hang().await,
            _ => AssignAnswer::Accepted,
        }
    }

    async fn cancel(&self, task: TaskId) -> CancelAnswer {
        match task.as_str() {
            "unknown" => CancelAnswer::NotFound,
            "finished" => CancelAnswer::AlreadyFinished(StatusWord::Success),
            "panic" => panic!("as the test wants it"),
            "hang" => self.hang().await,
            "gated" => {
                self.wait_at_the_gate().await;
                CancelAnswer::Accepted
            }
            _ => CancelAnswer::Accepted,
        }
    }

    async fn open_log(
        &self,
        task: TaskId,
        range: LogRange,
    ) -> Result<Box<dyn LogCursor>, LogsError> {
        self.ranges.lock().unwrap().push(range);
        if task.as_str() == "away" {
            return Err(LogsError::Unavailable);
        }
        let log = self.logs.lock().unwrap().remove(task.as_str());
        log.ok_or(LogsError::UnknownTask)
    }

    async fn master_is_at(&self, master: Option<MasterAddress>) -> Result<(), MoveError> {
        if master.as_ref().is_some_and(|master| master.0 == "pinned:1") {
            return Err(MoveError::Pinned);
        }
        self.moves.lock().unwrap().push(master);
        Ok(())
    }
}

/// What a fed cursor finds next.
pub(crate) enum Step {
    Item(LogItem),
    /// A marker in the place of bytes.
    Gap,
    Fails,
    Panics,
}

/// What stands in the place of what is missing.
pub(crate) const MISSING: &str = "[worker-node] 7 bytes left out here";

const LOST: u64 = 7;

/// A cursor that finds what the test feeds it, and is caught up in between.
pub(crate) struct FedCursor {
    steps: mpsc::UnboundedReceiver<Step>,
    ahead: Option<Step>,
    /// Bytes of lines that were given out as bytes.
    offset: u64,
    _dropped: oneshot::Sender<()>,
}

/// The other end of a [`FedCursor`].
pub(crate) struct Feed {
    steps: mpsc::UnboundedSender<Step>,
    dropped: oneshot::Receiver<()>,
}

pub(crate) fn fed_cursor() -> (Feed, FedCursor) {
    let (feed, steps) = mpsc::unbounded_channel();
    let (tell, dropped) = oneshot::channel();
    let cursor = FedCursor {
        steps,
        ahead: None,
        offset: 0,
        _dropped: tell,
    };
    let feed = Feed {
        steps: feed,
        dropped,
    };
    (feed, cursor)
}

impl Feed {
    pub(crate) fn lines(&self, lines: Vec<Line>) {
        self.step(Step::Item(LogItem::Lines(lines)));
    }

    /// Bytes as they were printed.
    pub(crate) fn print(&self, source: Source, micros: i64, bytes: &[u8]) {
        self.lines(vec![Line {
            source,
            continued: true,
            ..line(micros, bytes)
        }]);
    }

    pub(crate) fn end(&self, word: StatusWord, trailer: &str) {
        let trailer = trailer.to_owned();
        self.step(Step::Item(LogItem::End(LogEnd { word, trailer })));
    }

    pub(crate) fn step(&self, step: Step) {
        assert!(self.steps.send(step).is_ok(), "the cursor is gone");
    }

    /// Waits until nobody holds the cursor any more.
    pub(crate) async fn cursor_dropped(self) {
        let _ = self.dropped.await;
    }
}

impl FedCursor {
    fn take_step(&mut self) -> Option<Step> {
        self.ahead.take().or_else(|| self.steps.try_recv().ok())
    }
}

/// Lines as they were printed; those that go on have no newline.
pub(crate) fn stretch(lines: &[Line], offset: &mut u64) -> Stretch {
    let mut bytes = Vec::new();
    let mut spans = Vec::new();
    for line in lines {
        let newline: &[u8] = if line.continued { b"" } else { b"\n" };
        let printed = [&line.bytes, newline].concat();
        spans.push(Span {
            source: line.source,
            offset: *offset,
            micros: line.micros,
            len: printed.len(),
            interrupts: false,
        });
        if line.source != Source::Worker {
            *offset += printed.len() as u64;
        }
        bytes.extend(printed);
    }
    Stretch {
        bytes: bytes.into(),
        spans,
    }
}

#[async_trait]
impl LogCursor for FedCursor {
    async fn next_bytes(&mut self) -> io::Result<RawItem> {
        self.ahead = self.take_step();
        if let Some(Step::Gap) = self.ahead {
            self.ahead = None;
            self.offset += LOST;
            return Ok(RawItem::Bytes(Stretch {
                bytes: format!("{MISSING}\n").into(),
                spans: vec![Span {
                    source: Source::Worker,
                    offset: self.offset - LOST,
                    micros: 0,
                    len: MISSING.len() + 1,
                    interrupts: true,
                }],
            }));
        }
        Ok(match self.next().await? {
            LogItem::Lines(lines) => RawItem::Bytes(stretch(&lines, &mut self.offset)),
            LogItem::CaughtUp => RawItem::CaughtUp,
            LogItem::End(end) => RawItem::End(end),
        })
    }

    async fn next(&mut self) -> io::Result<LogItem> {
        match self.take_step() {
            Some(Step::Item(item)) => Ok(item),
            Some(Step::Gap) => panic!("it stands among bytes alone"),
            Some(Step::Fails) => Err(io::Error::other("the disk is gone")),
            Some(Step::Panics) => panic!("as the test wants it"),
            None => Ok(LogItem::CaughtUp),
        }
    }

    fn take_unfinished(&mut self) -> Vec<Line> {
        Vec::new()
    }

    async fn grown(&mut self) {
        match self.steps.recv().await {
            Some(step) => self.ahead = Some(step),
            None => std::future::pending().await,
        }
    }
}

pub(crate) fn line(micros: i64, bytes: &[u8]) -> Line {
    Line {
        source: Source::Stdout,
        micros,
        bytes: bytes.to_vec(),
        continued: false,
    }
}

pub(crate) fn task(id: &str, image: &str) -> proto::Task {
    proto::Task {
        task_id: id.into(),
        docker_image: image.into(),
        ..proto::Task::default()
    }
}

/// A server around a fake worker.
pub(crate) struct Node {
    pub(crate) worker: Arc<FakeWorker>,
    pub(crate) stop: CancellationToken,
    pub(crate) listener: Arc<TcpListener>,
    pub(crate) serving: JoinHandle<Result<(), ServeError>>,
    pub(crate) address: String,
}

impl Node {
    pub(crate) async fn start(limits: Limits) -> Self {
        Self::start_behind(Doorkeeper::of_an_open_door(), limits).await
    }

    pub(crate) async fn start_behind(doorkeeper: Doorkeeper, limits: Limits) -> Self {
        Self::start_with(doorkeeper, limits, |worker| Services::of(worker)).await
    }

    pub(crate) async fn start_with(
        doorkeeper: Doorkeeper,
        limits: Limits,
        services: impl FnOnce(Arc<FakeWorker>) -> Services,
    ) -> Self {
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
        let worker = Arc::new(FakeWorker::default());
        let stop = CancellationToken::new();
        Self {
            address: listener.local_addr().unwrap().to_string(),
            serving: tokio::spawn(serve(
                Arc::clone(&listener),
                services(worker.clone()),
                limits,
                Arc::new(doorkeeper),
                stop.clone(),
            )),
            worker,
            stop,
            listener,
        }
    }

    /// A client with a connection of its own, made with its first call.
    pub(crate) fn client(&self) -> Client {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address));
        MasterWorkerClient::new(endpoint.unwrap().connect_lazy())
    }
}
