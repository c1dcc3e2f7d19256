//! The way of log lines to standard error: a bounded queue, and a thread that alone writes. A caller of the log never waits for a
//! slow reader: a line that does not fit into the queue is dropped, and the number of dropped lines is told when there is room
//! again.

use std::{
    io::{self, Write},
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// Most bytes in the queue. As many more may be in the thread's hands.
const WAITING: usize = 512 * 1024;

/// The pause before the next try on a non-blocking descriptor whose reader takes no bytes now.
const BREATH: Duration = Duration::from_millis(50);

/// The end of the queue that lines are put into. Clones share one queue.
#[derive(Clone)]
pub(super) struct Sink(Arc<Shared>);

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
    emptied: Condvar,
}

#[derive(Default)]
struct Queue {
    lines: Vec<u8>,
    dropped: u64,
    /// Whether the thread has taken lines out that are not written yet.
    on_its_way: bool,
}

impl Sink {
    /// Starts the thread, which writes to `out`. `say` makes the line about a number of dropped lines.
    pub(super) fn to(
        out: impl Write + Send + 'static,
        say: impl Fn(u64) -> String + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let this = Self(Arc::clone(&shared));
        thread::Builder::new()
            .name("log".into())
            .spawn(move || shared.write_on(out, say))?;
        Ok(this)
    }

    /// Waits until everything is written, or until `within` is over.
    pub(super) fn flush_within(&self, within: Duration) {
        let queue = self.0.queue();
        let unwritten = |queue: &mut Queue| queue.on_its_way || !queue.is_empty();
        drop(self.0.emptied.wait_timeout_while(queue, within, unwritten));
    }
}

/// Each call puts one line into the queue, or drops it.
impl Write for Sink {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut queue = self.0.queue();
        // After a dropped line all further ones are dropped until that has been told: so the line about it stands at the right
        // place.
        if queue.dropped > 0 || queue.lines.len() + line.len() > WAITING {
            queue.dropped += 1;
        } else {
            queue.lines.extend_from_slice(line);
        }
        drop(queue);
        self.0.filled.notify_one();
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.dropped == 0
    }
}

impl Shared {
    fn write_on(&self, mut out: impl Write, say: impl Fn(u64) -> String) {
        loop {
            let (lines, dropped) = self.next();
            write_all(&mut out, &lines);
            if dropped > 0 {
                write_all(&mut out, say(dropped).as_bytes());
            }
            let mut queue = self.queue();
            queue.on_its_way = false;
            if queue.is_empty() {
                self.emptied.notify_all();
            }
        }
    }

    fn next(&self) -> (Vec<u8>, u64) {
        let empty = |queue: &mut Queue| queue.is_empty();
        let queue = self.queue();
        let waited = self.filled.wait_while(queue, empty);
        let mut queue = waited.unwrap_or_else(PoisonError::into_inner);
        queue.on_its_way = true;
        (mem::take(&mut queue.lines), mem::take(&mut queue.dropped))
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes what can be written. An error ends it: there is no other place to tell it.
fn write_all(out: &mut impl Write, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return,
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::park_timeout(BREATH),
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// A reader that takes a write only when the test lets it, and hands the bytes to the test.
    struct Reader {
        turns: mpsc::Receiver<()>,
        taken: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.turns.recv().is_err() {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            self.taken.send(bytes.to_vec()).expect("the test waits");
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn sink() -> (Sink, mpsc::Sender<()>, mpsc::Receiver<Vec<u8>>) {
        let (turn, turns) = mpsc::channel();
        let (taken, takes) = mpsc::channel();
        let say = |dropped| format!("{dropped} dropped\n");
        (Sink::to(Reader { turns, taken }, say).unwrap(), turn, takes)
    }

    #[test]
    fn a_reader_that_stands_still_costs_lines_that_are_counted_and_nobody_waits() {
        let (mut sink, turn, takes) = sink();
        let line = [b'x'; 1024];
        let room = 2 * WAITING / line.len();

        sink.write_all(&line).unwrap();
        // The writer's thread stands still with this line: all lines that are dropped from now on are told by one line.
        while !sink.0.queue().is_empty() {
            thread::yield_now();
        }
        for _ in 0..room + 6 {
            sink.write_all(&line).unwrap();
        }

        let mut read = Vec::new();
        while !read.ends_with(b"dropped\n") {
            turn.send(()).unwrap();
            read.extend(takes.recv_timeout(PATIENCE).unwrap());
        }
        let whole = read.iter().filter(|byte| **byte == b'x').count() / line.len();
        let said = String::from_utf8_lossy(&read[whole * line.len()..]).into_owned();
        assert_eq!(said, format!("{} dropped\n", room + 7 - whole));
        assert!(whole >= room / 2, "{whole} lines");
        sink.write_all(b"again\n").unwrap();
        turn.send(()).unwrap();
        assert_eq!(takes.recv_timeout(PATIENCE).unwrap(), b"again\n");
    }

    #[test]
    fn a_flush_waits_for_what_is_written_and_no_longer_than_it_may() {
        let (mut sink, turn, takes) = sink();
        sink.write_all(b"a\n").unwrap();
        sink.flush_within(Duration::from_millis(1));
        assert!(takes.try_recv().is_err(), "nobody has read it");

        turn.send(()).unwrap();
        sink.flush_within(PATIENCE);

        assert_eq!(takes.try_recv().unwrap(), b"a\n");
    }

    #[test]
    fn a_reader_that_has_gone_is_nobodys_trouble() {
        let (mut sink, turn, _takes) = sink();
        drop(turn);

        for _ in 0..10 {
            sink.write_all(&[b'x'; WAITING]).unwrap();
            sink.flush_within(PATIENCE);
        }
    }
}
