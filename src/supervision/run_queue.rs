//! How long a thread has waited for a core. A child whose thread gets no core is not hung: that is common on a machine that is
//! busy with its tasks, and a restart would only cost more.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    sync::{Arc, OnceLock},
    time::Duration,
};

/// The waiting time of one thread as the kernel counts it (`schedstat` of proc(5): nanoseconds on a processor, nanoseconds on a
/// run queue, turns).
#[derive(Debug, Clone, Default)]
pub(super) struct RunQueue(Arc<OnceLock<File>>);

impl RunQueue {
    /// Counts for the calling thread from now on.
    pub(super) fn is_of_this_thread(&self) {
        // In tests with one thread and a made-up time, no thread waits for a core.
        #[cfg(test)]
        if super::threads::one::is_on() {
            return;
        }
        if let Ok(file) = File::open("/proc/thread-self/schedstat") {
            // Set once: a second call keeps the first thread.
            let _ = self.0.set(file);
        }
    }

    /// Waiting time since the thread began; zero before [`is_of_this_thread`](Self::is_of_this_thread), or where the kernel does
    /// not count.
    pub(super) fn waited(&self) -> Duration {
        let mut text = [0; 64];
        let read = self
            .0
            .get()
            .and_then(|file| file.read_at(&mut text, 0).ok());
        let text = read.map_or(&[][..], |length| &text[..length]);
        let mut figures = std::str::from_utf8(text)
            .unwrap_or_default()
            .split_whitespace();
        let nanos = figures.nth(1).and_then(|figure| figure.parse().ok());
        Duration::from_nanos(nanos.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        thread,
    };

    use tokio::time::Instant;

    use super::*;

    #[test]
    fn a_thread_without_a_core_is_seen_to_wait() {
        let stop = Arc::new(AtomicBool::new(false));
        let cores = thread::available_parallelism().map_or(1, Into::into);
        // Spinning threads, more than there are cores.
        let spin = |queue: RunQueue| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                queue.is_of_this_thread();
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        };
        let queues: Vec<_> = (0..cores * 4).map(|_| RunQueue::default()).collect();
        let threads: Vec<_> = queues.iter().cloned().map(spin).collect();

        let begun = Instant::now();
        let waits = |queue: &RunQueue| queue.waited() > Duration::from_millis(20);
        while !queues.iter().all(waits) {
            assert!(begun.elapsed() < Duration::from_secs(60), "{queues:?}");
            thread::yield_now();
        }
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(RunQueue::default().waited(), Duration::ZERO);
    }
}
