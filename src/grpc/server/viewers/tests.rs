//! Who goes for whom, without a socket: that a stream which is ended closes its connection is shown over one, in
//! `tests/grpc/crowding.rs`.

use std::net::IpAddr;

use futures_util::{StreamExt, stream};
use tonic::Code;

use super::*;
use crate::grpc::listener::{Entry, Places};

const LIMITS: (usize, usize, usize) = (6, 3, 2);

fn viewers() -> Arc<Viewers> {
    let (viewers, viewers_per_peer, viewers_per_task) = LIMITS;
    Viewers::new(&Limits {
        viewers,
        viewers_per_peer,
        viewers_per_task,
        ..Limits::default()
    })
}

/// Lets time pass, and everything happen that is due.
async fn pass(seconds: u64) {
    let never = std::future::pending::<()>();
    let passed = tokio::time::timeout(Duration::from_secs(seconds), never).await;
    assert!(passed.is_err());
}

/// A stream and the connection that carries it.
struct Seen {
    chunks: ChunkStream,
    connection: Connection,
}

impl Seen {
    fn enter(viewers: &Arc<Viewers>, from: u8, task: &str, chunks: ChunkStream) -> Self {
        let peer = Peer::Network(IpAddr::from([10, 0, 0, from]));
        let Entry::Free(place) = Places::new(1, 1).enter(peer) else {
            panic!("no place");
        };
        let connection = place.connection().clone();
        let task = TaskId::new(task.to_owned()).unwrap();
        Self {
            chunks: viewers.enter(task, Some(&connection), chunks),
            connection,
        }
    }

    /// A stream of a log that says nothing now.
    fn quiet(viewers: &Arc<Viewers>, from: u8, task: &str) -> Self {
        Self::enter(viewers, from, task, Box::pin(stream::pending()))
    }

    /// A stream of a log that has always something to say.
    fn busy(viewers: &Arc<Viewers>, from: u8, task: &str) -> Self {
        let chunks = stream::repeat_with(|| Ok(LogChunk::default()));
        Self::enter(viewers, from, task, Box::pin(chunks))
    }

    fn is_closed(&self) -> bool {
        self.connection.is_closing()
    }

    /// The code that an ended stream gets.
    fn told(&mut self) -> Option<Code> {
        match futures_util::FutureExt::now_or_never(self.chunks.next()) {
            Some(Some(Err(status))) => Some(status.code()),
            _ => None,
        }
    }
}

#[test]
fn a_peer_over_its_share_makes_room_with_its_own_oldest() {
    let viewers = viewers();
    let mut master = Seen::quiet(&viewers, 1, "a");
    let mut strangers: Vec<_> = ["b", "c", "d", "e"]
        .map(|task| Seen::quiet(&viewers, 2, task))
        .into();

    let told: Vec<_> = strangers.iter_mut().map(Seen::told).collect();

    assert_eq!(told, [Some(Code::ResourceExhausted), None, None, None]);
    assert_eq!(master.told(), None);
}

#[test]
fn a_task_that_strangers_crowd_is_still_open_to_another_peer() {
    let viewers = viewers();
    let mut strangers: Vec<_> = (0..2).map(|_| Seen::quiet(&viewers, 2, "a")).collect();
    let mut master = Seen::quiet(&viewers, 1, "a");
    assert_eq!(strangers[0].told(), Some(Code::ResourceExhausted));

    // One each: the newcomer's own peer is as good as the other, and the oldest goes.
    let mut third = Seen::quiet(&viewers, 2, "a");

    assert_eq!(strangers[1].told(), Some(Code::ResourceExhausted));
    assert_eq!((master.told(), third.told()), (None, None));
}

#[tokio::test(start_paused = true)]
async fn who_stands_still_goes_before_who_waits_and_takes_its_connection_along() {
    let viewers = viewers();
    tokio::time::advance(Duration::from_secs(1)).await;
    let mut waits = Seen::quiet(&viewers, 1, "a");
    let mut stands = Seen::busy(&viewers, 1, "a");
    assert!(stands.chunks.next().await.unwrap().is_ok());

    let _newcomer = Seen::quiet(&viewers, 1, "a");

    assert!(stands.is_closed());
    assert_eq!((waits.told(), waits.is_closed()), (None, false));
}

#[tokio::test(start_paused = true)]
async fn a_viewer_that_takes_nothing_is_ended_and_one_that_waits_or_reads_is_not() {
    let viewers = viewers();
    let watching = tokio::spawn(Arc::clone(&viewers).watch(Duration::from_secs(60)));
    let mut waits = Seen::quiet(&viewers, 1, "a");
    let mut reads = Seen::busy(&viewers, 1, "b");
    let mut stands = Seen::busy(&viewers, 1, "c");
    pass(1).await;
    assert!(stands.chunks.next().await.unwrap().is_ok());

    for _ in 0..5 {
        assert!(reads.chunks.next().await.unwrap().is_ok());
        assert!(!stands.is_closed(), "its time is not over");
        pass(11).await;
    }
    pass(11).await;

    assert!(stands.is_closed());
    assert!(!reads.is_closed() && !waits.is_closed());
    assert_eq!((waits.told(), reads.told()), (None, None));
    assert_eq!(viewers.here().viewers.len(), 2);
    watching.abort();
}

#[test]
fn a_viewer_that_goes_leaves_its_place() {
    let viewers = viewers();
    drop(Seen::quiet(&viewers, 1, "a"));

    assert!(viewers.here().viewers.is_empty());
}
