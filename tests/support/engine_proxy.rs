//! A proxy in front of the engine, on a unix socket of its own. It can hold back requests or answers of one kind, so that a
//! task stays where a test wants it; it can answer with a failure of its own, lose answers, cut them off, leave out a field of
//! them, or let a connection die without a word; and it can be away, as an engine that does not run is away.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::PATIENCE;

/// A running proxy; its connections end with it.
#[derive(Debug)]
pub(crate) struct EngineProxy {
    folder: TempDir,
    rules: watch::Sender<Rules>,
    held: watch::Sender<usize>,
    failed: watch::Sender<usize>,
    cuts: Cuts,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

/// What is held back now: parts of a request's first line.
#[derive(Clone, Debug, Default)]
struct Rules {
    requests: Option<&'static str>,
    answers: Option<&'static str>,
    dead: Option<&'static str>,
    hidden: Option<&'static str>,
    failing: Option<Failing>,
}

/// Requests that the engine never sees: they fail on its side, in these words.
#[derive(Clone, Copy, Debug)]
struct Failing {
    part: &'static str,
    words: &'static str,
}

/// Answers that are not to be whole, and how many have not been.
#[derive(Clone, Debug, Default)]
struct Cuts {
    wanted: Arc<Mutex<Vec<Cut>>>,
    made: watch::Sender<usize>,
}

/// One answer to a request whose first line holds `part` breaks off after so many bytes.
#[derive(Clone, Copy, Debug)]
struct Cut {
    part: &'static str,
    after: usize,
}

impl Cuts {
    /// How many of these bytes may still pass, where the answer is to be cut within them.
    fn within(&self, asked: &str, passed: usize, count: usize) -> Option<usize> {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let due = |cut: &Cut| asked.contains(cut.part) && cut.after < passed + count;
        let place = wanted.iter().position(due)?;
        let cut = wanted.remove(place);
        self.made.send_modify(|made| *made += 1);
        Some(cut.after.saturating_sub(passed))
    }
}

impl EngineProxy {
    /// In front of the engine, and there.
    pub(crate) fn start() -> Self {
        let proxy = Self::away();
        proxy.come();
        proxy
    }

    /// In front of the engine, and not there yet.
    pub(crate) fn away() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a folder for a socket"),
            rules: watch::Sender::default(),
            held: watch::Sender::default(),
            failed: watch::Sender::default(),
            cuts: Cuts::default(),
            accepting: Mutex::default(),
        }
    }

    /// For `--engine`.
    pub(crate) fn address(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("engine.sock")
    }

    /// Listens from now on.
    pub(crate) fn come(&self) {
        let listener = UnixListener::bind(self.socket()).expect("a socket in a new folder");
        let (rules, held) = (self.rules.clone(), self.held.clone());
        let (cuts, failed) = (self.cuts.clone(), self.failed.clone());
        let accepting = tokio::spawn(async move {
            // Dropped with this task, and all the connections with it.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                let counts = (held.clone(), failed.clone());
                connections.spawn(pass(near, rules.subscribe(), counts, cuts.clone()));
            }
        });
        self.set(Some(accepting));
    }

    /// Cuts every connection and refuses new ones.
    pub(crate) fn go(&self) {
        self.set(None);
        std::fs::remove_file(self.socket()).expect("the socket was there");
    }

    /// Requests whose first line holds `part` wait from now on, before the engine sees them.
    pub(crate) fn hold_requests(&self, part: &'static str) {
        self.rules.send_modify(|rules| rules.requests = Some(part));
    }

    /// What the engine answers to requests whose first line holds `part` waits from now on.
    pub(crate) fn hold_answers(&self, part: &'static str) {
        self.rules.send_modify(|rules| rules.answers = Some(part));
    }

    /// Requests whose first line or body holds `part` are answered with status 500 and these words from now on, and do nothing.
    pub(crate) fn fail(&self, part: &'static str, words: &'static str) {
        let failing = Some(Failing { part, words });
        self.rules.send_modify(|rules| rules.failing = failing);
    }

    /// Waits until so many requests have failed since the start.
    pub(crate) async fn wait_failed(&self, count: usize) {
        let mut failed = self.failed.subscribe();
        let waited = tokio::time::timeout(PATIENCE, failed.wait_for(|failed| *failed >= count));
        let waited = waited.await;
        let failed = *self.failed.borrow();
        assert!(
            matches!(waited, Ok(Ok(_))),
            "{failed} requests failed, not {count}"
        );
    }

    /// Everything waits from now on, streams too; new connections are taken, and nobody answers.
    pub(crate) fn freeze(&self) {
        self.rules.send_modify(|rules| {
            (rules.requests, rules.answers) = (Some("HTTP"), Some("HTTP"));
        });
    }

    /// Connections with a request whose first line holds `part` are dead without a word when something passes, for good.
    pub(crate) fn let_die(&self, part: &'static str) {
        self.rules.send_modify(|rules| rules.dead = Some(part));
    }

    /// Answers lack the fields of this name from now on: they have another one.
    pub(crate) fn hide(&self, field: &'static str) {
        self.rules.send_modify(|rules| rules.hidden = Some(field));
    }

    /// So many answers to requests whose first line holds `part` are cut off after some bytes.
    pub(crate) fn cut_answers(&self, part: &'static str, after: usize, times: usize) {
        let wanted = self.cuts.wanted.lock();
        let mut wanted = wanted.unwrap_or_else(PoisonError::into_inner);
        wanted.extend(std::iter::repeat_n(Cut { part, after }, times));
    }

    /// So many answers to requests whose first line holds `part` are lost: the engine has done what it was asked for.
    pub(crate) fn lose_answers(&self, part: &'static str, times: usize) {
        self.cut_answers(part, 0, times);
    }

    /// Waits until so many answers have been cut off since the start.
    pub(crate) async fn wait_cut(&self, count: usize) {
        let mut made = self.cuts.made.subscribe();
        let waited = tokio::time::timeout(PATIENCE, made.wait_for(|made| *made >= count)).await;
        let made = *self.cuts.made.borrow();
        assert!(
            matches!(waited, Ok(Ok(_))),
            "{made} answers were cut, not {count}"
        );
    }

    /// How many answers have been cut off since the start.
    pub(crate) fn cut(&self) -> usize {
        *self.cuts.made.borrow()
    }

    /// Everything goes on, but what is dead.
    pub(crate) fn release(&self) {
        self.rules.send_replace(Rules::default());
    }

    /// Waits until so many connections are being held back.
    pub(crate) async fn wait_held(&self, count: usize) {
        let mut held = self.held.subscribe();
        let waited = tokio::time::timeout(PATIENCE, held.wait_for(|held| *held >= count)).await;
        assert!(
            matches!(waited, Ok(Ok(_))),
            "{} connections were held back, not {count}",
            *self.held.borrow()
        );
    }

    fn set(&self, accepting: Option<JoinHandle<()>>) {
        let mut present = self
            .accepting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = std::mem::replace(&mut *present, accepting) {
            before.abort();
        }
    }
}

impl Drop for EngineProxy {
    fn drop(&mut self) {
        self.set(None);
    }
}

trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// To the engine that the tests use.
async fn engine() -> io::Result<Box<dyn Connection>> {
    let host = std::env::var("DOCKER_HOST").unwrap_or_default();
    Ok(match host.strip_prefix("tcp://") {
        Some(address) => Box::new(TcpStream::connect(address).await?),
        None => {
            let path = host.strip_prefix("unix://");
            Box::new(UnixStream::connect(path.unwrap_or("/var/run/docker.sock")).await?)
        }
    })
}

async fn pass(
    near: UnixStream,
    rules: watch::Receiver<Rules>,
    (held, failed): (watch::Sender<usize>, watch::Sender<usize>),
    cuts: Cuts,
) {
    let Ok(far) = engine().await else { return };
    let (near_reader, near_writer) = tokio::io::split(near);
    let (far_reader, far_writer) = tokio::io::split(far);
    let valve = Valve {
        rules,
        held,
        failed,
        cuts,
        cut: Notify::new(),
        refused: watch::Sender::default(),
        asked: Mutex::default(),
    };
    let both = async {
        // Either side may hang up: that is how connections end.
        let _hung_up = tokio::join!(
            valve.requests(near_reader, far_writer),
            valve.answers(far_reader, near_writer)
        );
    };
    tokio::select! {
        () = both => {}
        () = valve.cut.notified() => {}
    }
}

/// One connection's place to wait.
struct Valve {
    rules: watch::Receiver<Rules>,
    held: watch::Sender<usize>,
    failed: watch::Sender<usize>,
    cuts: Cuts,
    /// What is said in the engine's place.
    refused: watch::Sender<Option<&'static str>>,
    /// Rings when the connection is to be cut.
    cut: Notify,
    /// The first line of the last request.
    asked: Mutex<String>,
}

impl Valve {
    async fn requests(
        &self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) -> io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = from.read(&mut buffer).await?;
            if let Some(line) = request_line(&buffer[..count]) {
                *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = line;
                self.wait(|rules| rules.requests).await;
            }
            if count == 0 {
                return to.shutdown().await;
            }
            if let Some(words) = self.failure(&buffer[..count]) {
                self.failed.send_modify(|failed| *failed += 1);
                self.refused.send_replace(Some(words));
                return Ok(());
            }
            to.write_all(&buffer[..count]).await?;
        }
    }

    fn failure(&self, bytes: &[u8]) -> Option<&'static str> {
        let failing = self.rules.borrow().failing?;
        let part = failing.part;
        let meant = self.asked().contains(part) || String::from_utf8_lossy(bytes).contains(part);
        meant.then_some(failing.words)
    }

    async fn answers(
        &self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) -> io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        let mut passed = 0;
        loop {
            let count = tokio::select! {
                count = from.read(&mut buffer) => count?,
                words = self.refusal() => {
                    to.write_all(failed_answer(words).as_bytes()).await?;
                    return to.shutdown().await;
                }
            };
            self.wait(|rules| rules.answers).await;
            if count == 0 {
                return to.shutdown().await;
            }
            if let Some(last) = self.cuts.within(&self.asked(), passed, count) {
                to.write_all(&buffer[..last]).await?;
                self.cut.notify_one();
                return Ok(());
            }
            if let Some(field) = self.rules.borrow().hidden {
                hide(field, &mut buffer[..count]);
            }
            to.write_all(&buffer[..count]).await?;
            passed += count;
        }
    }

    async fn refusal(&self) -> &'static str {
        let mut refused = self.refused.subscribe();
        let words = refused.wait_for(Option::is_some).await;
        words.ok().and_then(|words| *words).unwrap_or_default()
    }

    fn asked(&self) -> String {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.clone()
    }

    async fn wait(&self, held_back: fn(&Rules) -> Option<&'static str>) {
        let asked = self.asked();
        if self
            .rules
            .borrow()
            .dead
            .is_some_and(|part| asked.contains(part))
        {
            std::future::pending::<()>().await;
        }
        let free = |rules: &Rules| !held_back(rules).is_some_and(|part| asked.contains(part));
        let mut rules = self.rules.clone();
        if free(&rules.borrow_and_update()) {
            return;
        }
        self.held.send_modify(|held| *held += 1);
        // The proxy is gone: so is this connection, in a moment.
        let _gone = rules.wait_for(free).await.is_err();
        self.held.send_modify(|held| *held -= 1);
    }
}

/// As the engine would say it.
fn failed_answer(words: &str) -> String {
    let body = format!(r#"{{"message":"{words}"}}"#);
    format!(
        "HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Makes another name of a field's.
fn hide(field: &str, bytes: &mut [u8]) {
    let key = format!("\"{field}\":");
    let places = 0..(bytes.len() + 1).saturating_sub(key.len());
    for start in places {
        if bytes[start..].starts_with(key.as_bytes()) {
            bytes[start + 1..start + 1 + field.len()].fill(b'-');
        }
    }
}

/// A request begins where bytes begin: the client sends one at a time.
fn request_line(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|byte| *byte == b'\r')?;
    let line = std::str::from_utf8(&bytes[..end]).ok()?;
    line.ends_with("HTTP/1.1").then(|| line.to_owned())
}
