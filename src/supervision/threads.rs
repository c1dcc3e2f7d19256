//! Where work runs that must not run in a handler: on a thread that may block, on a thread of its own, beside the actors. All of it
//! begins here, and so do the actors themselves: that is how a test has a whole worker on its own thread, where everything comes in
//! the same order each time (`one`).

#[cfg(test)]
pub(crate) mod one;

use std::{io, thread};

use tokio::{
    runtime::Handle,
    task::{JoinError, JoinHandle},
};

/// Does what may block on a thread for such work.
///
/// # Errors
/// It panicked, or the runtime ends.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    #[cfg(test)]
    if one::is_on() {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await
}

/// Begins what goes on beside the actors, and outlives the one that began it. To let go of the handle does not end it.
pub fn beside<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    #[cfg(test)]
    if one::is_on() {
        return tokio::spawn(one::in_turn(work));
    }
    tokio::spawn(work)
}

/// Begins work on a thread of its own, which may block between its waits. Must be called within a runtime; of that, the work may
/// use channels, and neither timers nor sockets: it may outlive it.
///
/// # Errors
/// There is no thread to be had.
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

/// Begins work on this very thread, which must be an arbiter's.
pub(super) fn here(work: impl Future<Output = ()> + 'static) {
    #[cfg(test)]
    if one::is_on() {
        one::begin(work);
        return;
    }
    actix::spawn(work);
}
