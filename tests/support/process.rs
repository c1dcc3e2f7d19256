//! A child process whose standard error is read line by line, and whose end is a fact to wait for. It is killed when it is
//! dropped.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::watch;

use super::PATIENCE;

/// A running or ended child.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    pid: Pid,
    lines: Arc<Mutex<Vec<String>>>,
    /// Rings at every line.
    written: watch::Receiver<usize>,
    exit: watch::Receiver<Option<ExitStatus>>,
    reader: Arc<Reader>,
}

/// Whoever reads the pipe, and may be told to pause.
#[derive(Debug, Default)]
struct Reader {
    pauses: Mutex<bool>,
    changed: Condvar,
}

impl Reader {
    fn wait_while_paused(&self) {
        let pauses = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.changed.wait_while(pauses, |pauses| *pauses));
    }
}

impl Process {
    /// Starts it with no input and its standard output thrown away.
    pub(crate) fn start(name: &str, command: &mut Command) -> Self {
        let command = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let (ring, written) = watch::channel(0);
        let lines = Arc::new(Mutex::new(Vec::new()));
        let reader = Arc::<Reader>::default();
        read_lines(&mut child, Arc::clone(&lines), ring, Arc::clone(&reader));
        Self {
            name: name.to_owned(),
            pid: Pid::from_child(&child),
            lines,
            written,
            exit: watch_exit(child),
            reader,
        }
    }

    /// Leaves what it writes in the pipe, which holds 64 KiB, or reads on.
    pub(crate) fn pause_reading(&self, pauses: bool) {
        let mut paused = self
            .reader
            .pauses
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *paused = pauses;
        drop(paused);
        self.reader.changed.notify_all();
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// What it has written to its standard error so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Waits for a line that holds `text`.
    pub(crate) async fn wait_line(&self, text: &str) -> String {
        self.wait_lines(text, 1).await
    }

    /// Waits for so many lines that hold `text`, and returns the last of these.
    pub(crate) async fn wait_lines(&self, text: &str, count: usize) -> String {
        let mut written = self.written.clone();
        let look = || {
            let mut lines = self.lines().into_iter();
            let mut found = lines.by_ref().filter(|line| line.contains(text));
            found.nth(count - 1)
        };
        let search = async {
            loop {
                if let Some(line) = look() {
                    return Some(line);
                }
                // The reader ends with the pipe: then the last look was the last chance.
                if written.changed().await.is_err() {
                    return look();
                }
            }
        };
        let found = tokio::time::timeout(PATIENCE, search).await.ok().flatten();
        found.unwrap_or_else(|| {
            let tail = self.tail();
            panic!(
                "{} never wrote {text:?} {count} times, but:\n{tail}",
                self.name
            )
        })
    }

    /// Waits until it has written so many lines, or no more come.
    pub(crate) async fn wait_count(&self, count: usize) {
        let mut written = self.written.clone();
        let _ended = written.wait_for(|lines| *lines >= count).await;
    }

    /// The most memory that it has had, in MiB.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = format!("/proc/{}/status", self.pid.as_raw_nonzero());
        let status = std::fs::read_to_string(status).expect("it runs");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        peak.expect("a figure in KiB") / 1_024
    }

    /// How many descriptors it has open.
    pub(crate) fn descriptors(&self) -> usize {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.pid.as_raw_nonzero()));
        open.expect("it runs").count()
    }

    /// The processor time that it has used, in seconds.
    pub(crate) fn processor_time(&self) -> f64 {
        let stat = format!("/proc/{}/stat", self.pid.as_raw_nonzero());
        let stat = std::fs::read_to_string(stat).expect("it runs");
        // Behind the name, which may hold anything: of its own, and of the kernel for it.
        let (_, fields) = stat.rsplit_once(") ").expect("a name");
        let ticks = fields.split(' ').skip(11).take(2);
        let ticks: f64 = ticks.filter_map(|field| field.parse::<f64>().ok()).sum();
        ticks / 100.0
    }

    /// Sends a signal; nothing happens when it has ended.
    pub(crate) fn signal(&self, signal: Signal) {
        if self.exit.borrow().is_none() {
            // It may end between the look and the signal; then there is nobody to tell.
            let _gone = kill_process(self.pid, signal);
        }
    }

    /// Waits for its end.
    pub(crate) async fn wait_exit(&self) -> ExitStatus {
        let mut exit = self.exit.clone();
        let ended = exit.wait_for(Option::is_some);
        match tokio::time::timeout(PATIENCE, ended).await {
            Ok(Ok(status)) => status.expect("it was waited for"),
            Ok(Err(_)) | Err(_) => panic!("{} does not end:\n{}", self.name, self.tail()),
        }
    }

    /// How it has ended, once it has.
    pub(crate) fn exit(&self) -> watch::Receiver<Option<ExitStatus>> {
        self.exit.clone()
    }

    /// Its last lines.
    pub(crate) fn tail(&self) -> String {
        let lines = self.lines();
        let from = lines.len().saturating_sub(400);
        lines[from..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.pause_reading(false);
        self.signal(Signal::KILL);
        let mut exit = self.exit.clone();
        super::run_to_end(async move {
            // A killed process ends; if it should not, the test is over all the same.
            let _ended = tokio::time::timeout(PATIENCE, exit.wait_for(Option::is_some)).await;
        });
    }
}

fn read_lines(
    child: &mut Child,
    lines: Arc<Mutex<Vec<String>>>,
    ring: watch::Sender<usize>,
    reader: Arc<Reader>,
) {
    let pipe = BufReader::new(child.stderr.take().expect("it was asked for"));
    std::thread::spawn(move || {
        for line in pipe.split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            lines
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(line);
            ring.send_modify(|count| *count += 1);
            reader.wait_while_paused();
        }
    });
}

fn watch_exit(mut child: Child) -> watch::Receiver<Option<ExitStatus>> {
    let (sender, receiver) = watch::channel(None);
    std::thread::spawn(move || {
        let status = child.wait().expect("a child can be waited for");
        sender.send_replace(Some(status));
    });
    receiver
}
