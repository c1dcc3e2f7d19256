//! The addresses of a name. A name server that says nothing holds a thread for half a minute: so look-ups have a few threads of
//! their own, and nobody else's blocking work waits behind them.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
    thread,
};

use tokio::sync::{Semaphore, oneshot};

/// How many look-ups of the whole process run at once: each costs a thread.
static AT_ONCE: Semaphore = Semaphore::const_new(4);

/// Looks up `HOST:PORT`, at once where it is an address. One that is given up goes on until the name server answers, and keeps
/// its turn until then.
///
/// # Errors
/// An error of the system.
pub(super) async fn addresses(host: &str) -> io::Result<Vec<SocketAddr>> {
    let name = host.to_owned();
    look_up(host, &AT_ONCE, move || {
        Ok(name.to_socket_addrs()?.collect())
    })
    .await
}

async fn look_up(
    host: &str,
    turns: &'static Semaphore,
    ask: impl FnOnce() -> io::Result<Vec<SocketAddr>> + Send + 'static,
) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let turn = turns.acquire().await.map_err(io::Error::other)?;
    let (tell, told) = oneshot::channel();
    thread::Builder::new()
        .name("lookup".into())
        .spawn(move || {
            let found = ask();
            drop(turn);
            // The caller may have given up.
            let _ = tell.send(found);
        })?;
    told.await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures_util::{FutureExt, future::join_all};

    use super::*;

    static TURNS: Semaphore = Semaphore::const_new(2);

    #[tokio::test]
    async fn look_ups_that_hang_cost_their_threads_and_no_more() {
        let (answer, answers) = mpsc::channel::<()>();
        let answers = std::sync::Arc::new(std::sync::Mutex::new(answers));
        let asks = (0..10).map(|_| {
            let answers = std::sync::Arc::clone(&answers);
            look_up("silent:1", &TURNS, move || {
                let _ = answers.lock().map(|answers| answers.recv());
                Ok(Vec::new())
            })
        });
        let mut all = Box::pin(join_all(asks));
        assert!((&mut all).now_or_never().is_none());

        assert_eq!(TURNS.available_permits(), 0);
        let address = look_up("127.0.0.1:1", &TURNS, || unreachable!("it is an address")).await;
        assert_eq!(address.unwrap(), ["127.0.0.1:1".parse().unwrap()]);

        drop(answer);
        assert_eq!(all.await.len(), 10);
    }

    #[tokio::test]
    async fn a_name_of_this_machine_is_found_and_nonsense_is_not() {
        assert!(!addresses("localhost:1").await.unwrap().is_empty());
        assert!(addresses("no port").await.is_err());
    }
}
