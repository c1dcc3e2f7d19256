//! Starting work that must not run in a handler: on a thread that may block, on a thread of its own, or beside the actors. All
//! such work starts here, and so do the actors themselves. So a test can run a whole worker on its own thread, where everything
//! comes in the same order each time (`one`).

#[cfg(test)]
pub(crate) mod one;

use std::{io, thread};

use tokio::{
    runtime::Handle,
    task::{JoinError, JoinHandle},
};

/// Runs work that may block, on a thread for such work, and waits for its result.
///
/// # Errors
/// The work panicked, or the runtime ends.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    #[cfg(test)]
    if one::is_on() {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await
}

/// Starts work beside the actors, which outlives the actor that started it. Dropping the handle does not end it.
pub fn beside<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    #[cfg(test)]
    if one::is_on() {
        return tokio::spawn(one::in_turn(work));
    }
    tokio::spawn(work)
}

/// Starts work on a thread of its own, where it may block between its awaits. Must be called within a runtime. The work may
/// outlive that runtime, so it may use channels, but neither timers nor sockets.
///
/// # Errors
/// No thread can be started.
pub fn own<F>(name: &str, work: impl FnOnce() -> F + Send + 'static) -> io::Result<()>
where
    F: Future<Output = ()> + 'static,
{
    #[cfg(test)]
    if one::is_on() {
        one::begin(one::alone(one::held_up(work())));
        return Ok(());
    }
    let runtime = Handle::current();
    let begin = move || runtime.block_on(work());
    thread::Builder::new()
        .name(name.into())
        .spawn(begin)
        .map(drop)
}

/// Starts work on this very thread, which must be an arbiter's.
pub(super) fn here(work: impl Future<Output = ()> + 'static) {
    #[cfg(test)]
    if one::is_on() {
        one::begin(work);
        return;
    }
    actix::spawn(work);
}
