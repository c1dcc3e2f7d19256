//! An attached stream that ends before the container is seen to have ended: whether that end was the stream's reason.

use futures_util::{StreamExt, stream};
use tokio::time::{Instant, advance};

use super::*;
use crate::actors::log_router::reader::{Begun, read};

/// A stream that was attached now, and ends without a byte.
fn empty() -> Begun {
    Begun {
        frames: stream::empty().boxed(),
        counting: None,
        asked: Instant::now(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_with_its_container_has_brought_everything() {
    let stage = Stage::new();

    let how = read(&stage.work(), Some(empty())).await;

    assert_eq!(how, ReadEnd::Whole);
    stage.assert_is(stage.stored().await, &[]);
}

/// The answer to the attach lay in a buffer while the engine was started anew, and the container was started by the new one: the
/// old one's stream is over, and says nothing of what was printed.
#[tokio::test(start_paused = true)]
async fn a_stream_that_ended_with_its_engine_is_read_on_from_the_record() {
    let mut stage = Stage::new();
    let (work, begun) = (stage.work(), empty());
    advance(Duration::from_millis(1)).await;
    work.view.went_away();
    stage.print(Source::Stdout, "printed\n");
    stage.end();

    read(&work, Some(begun)).await;

    assert_eq!(stage.stored().await.0, stage.printed);
}
