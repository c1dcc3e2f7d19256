//! The viewers of logs: a peer and a task have their shares, and a newcomer is let in at the cost of a viewer that stands still, or
//! else of the oldest, among those of the peer that has the most. A viewer whose peer takes nothing is ended, since it holds lines
//! meanwhile. Reads no log itself.

use std::{
    collections::HashMap,
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::Stream;
use log::debug;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;

use super::{
    super::{
        listener::{Connection, Limits, Peer, Use},
        status::Denied,
    },
    log_stream::ChunkStream,
};
use crate::{domain::id::TaskId, proto::LogChunk};

/// Time between two looks for viewers that stand still.
const LOOK: Duration = Duration::from_secs(5);

/// All viewers.
pub(super) struct Viewers {
    total: usize,
    per_peer: usize,
    per_task: usize,
    began: Instant,
    here: Mutex<Here>,
}

#[derive(Default)]
struct Here {
    next: u64,
    viewers: HashMap<u64, Arc<Viewer>>,
}

/// One viewer of a log.
struct Viewer {
    task: TaskId,
    peer: Peer,
    connection: Option<Connection>,
    /// Since when its peer has not taken what it was given, in milliseconds after `began`; 0 while the viewer waits for us.
    stands: AtomicU64,
    /// Whether it was ended; looked at before every chunk, which costs less than to ask the token.
    is_ended: AtomicBool,
    /// Wakes its stream when it is ended.
    ended: CancellationToken,
}

/// A log stream that counts as a viewer for as long as it is kept.
struct Viewed {
    chunks: ChunkStream,
    viewers: Arc<Viewers>,
    viewer: Arc<Viewer>,
    number: u64,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    over: bool,
    _views: Option<Use>,
}

impl Viewers {
    /// No viewers yet.
    pub(super) fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            total: limits.viewers,
            per_peer: limits.viewers_per_peer,
            per_task: limits.viewers_per_task,
            began: Instant::now(),
            here: Mutex::default(),
        })
    }

    /// Lets one more viewer in; returns its stream, which ends early where its place is needed.
    pub(super) fn enter(
        self: &Arc<Self>,
        task: TaskId,
        connection: Option<&Connection>,
        chunks: ChunkStream,
    ) -> ChunkStream {
        let viewer = Arc::new(Viewer {
            task,
            peer: connection.map_or(Peer::Local, Connection::peer),
            connection: connection.cloned(),
            stands: AtomicU64::new(0),
            is_ended: AtomicBool::new(false),
            ended: CancellationToken::new(),
        });
        let mut here = self.here();
        for displaced in self.make_room(&mut here, &viewer) {
            displaced.end();
        }
        let number = here.next;
        here.next += 1;
        here.viewers.insert(number, Arc::clone(&viewer));
        drop(here);
        Box::pin(Viewed {
            chunks,
            viewers: Arc::clone(self),
            number,
            ended: Box::pin(viewer.ended.clone().cancelled_owned()),
            over: false,
            _views: connection.map(Connection::views),
            viewer,
        })
    }

    /// Ends the viewers that stand still for `patience`; never returns.
    pub(super) async fn watch(self: Arc<Self>, patience: Duration) -> Infallible {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let before = self.millis().saturating_sub(millis(patience));
            let mut here = self.here();
            for (_, viewer) in here
                .viewers
                .extract_if(|_, viewer| viewer.stands_since().is_some_and(|since| since <= before))
            {
                debug!(task:% = viewer.task; "a viewer that takes nothing is ended");
                viewer.end();
            }
        }
    }

    fn make_room(&self, here: &mut Here, newcomer: &Viewer) -> Vec<Arc<Viewer>> {
        let of_peer = |viewer: &Viewer| viewer.peer == newcomer.peer;
        let of_task = |viewer: &Viewer| viewer.task == newcomer.task;
        let mut displaced = Vec::new();
        displaced.extend(here.displace(self.per_peer, &of_peer));
        displaced.extend(here.displace(self.per_task, &of_task));
        displaced.extend(here.displace(self.total, &|_| true));
        displaced
    }

    fn millis(&self) -> u64 {
        millis(self.began.elapsed())
    }

    fn here(&self) -> MutexGuard<'_, Here> {
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Here {
    /// Takes one viewer out, if there are `limit` or more for which `is_one` holds.
    fn displace(&mut self, limit: usize, is_one: &dyn Fn(&Viewer) -> bool) -> Option<Arc<Viewer>> {
        let such = || self.viewers.iter().filter(|(_, viewer)| is_one(viewer));
        if such().count() < limit {
            return None;
        }
        let mut of_peers: HashMap<Peer, usize> = HashMap::new();
        for (_, viewer) in such() {
            *of_peers.entry(viewer.peer).or_default() += 1;
        }
        let first = such().min_by_key(|(number, viewer)| {
            let stands = viewer.stands_since().unwrap_or(u64::MAX);
            let most = of_peers.get(&viewer.peer).copied().unwrap_or_default();
            (std::cmp::Reverse(most), stands, **number)
        });
        let number = first.map(|(number, _)| *number)?;
        self.viewers.remove(&number)
    }
}

impl Viewer {
    fn stands_since(&self) -> Option<u64> {
        match self.stands.load(Ordering::Relaxed) {
            0 => None,
            since => Some(since),
        }
    }

    /// Ends the viewer. One that waits for us hears why. One that stands still hears nothing, and what it was given lies in its
    /// connection: so the connection is closed.
    fn end(&self) {
        self.is_ended.store(true, Ordering::Release);
        self.ended.cancel();
        if self.stands_since().is_some()
            && let Some(connection) = &self.connection
        {
            connection.close();
        }
    }
}

impl Stream for Viewed {
    type Item = Result<LogChunk, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.viewer.stands.store(0, Ordering::Relaxed);
        if self.over {
            return Poll::Ready(None);
        }
        if self.viewer.is_ended.load(Ordering::Acquire) {
            return self.displaced();
        }
        let chunk = self.chunks.as_mut().poll_next(cx);
        if chunk.is_ready() {
            let now = self.viewers.millis().max(1);
            self.viewer.stands.store(now, Ordering::Relaxed);
        } else if self.ended.as_mut().poll(cx).is_ready() {
            return self.displaced();
        }
        chunk
    }
}

impl Viewed {
    /// The error that an ended viewer gets.
    fn displaced(&mut self) -> Poll<Option<Result<LogChunk, Status>>> {
        self.over = true;
        Poll::Ready(Some(Err(Denied::Displaced.into())))
    }
}

impl Drop for Viewed {
    fn drop(&mut self) {
        self.viewers.here().viewers.remove(&self.number);
    }
}

#[cfg(test)]
mod tests;
