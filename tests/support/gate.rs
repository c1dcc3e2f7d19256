//! A TCP proxy that takes connections and lets nothing through until it is opened: a pull through it is under way for as
//! long as a test needs, or is told to come again later.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::PATIENCE;

/// A running proxy; its connections end with it.
#[derive(Debug)]
pub(crate) struct Gate {
    address: SocketAddr,
    state: watch::Sender<State>,
    knocks: watch::Receiver<usize>,
    accepting: JoinHandle<()>,
}

/// What becomes of who connects.
#[derive(Clone, Copy, Debug)]
enum State {
    /// Nothing, until that is another one.
    Shut,
    /// Each is told by HTTP that there are too many, with these words.
    Busy(&'static str),
    /// It is let through.
    Open,
}

impl Gate {
    /// In front of `behind`, and shut.
    pub(crate) async fn shut(behind: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let state = watch::Sender::new(State::Shut);
        let (knocked, knocks) = watch::channel(0);
        let gate = state.subscribe();
        let accepting = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                knocked.send_modify(|count| *count += 1);
                connections.spawn(pass(stream, behind.clone(), gate.clone()));
            }
        });
        Self {
            address,
            state,
            knocks,
            accepting,
        }
    }

    /// The reference of an image behind it.
    pub(crate) fn reference(&self, name: &str) -> String {
        format!("{}/{name}:1", self.address)
    }

    /// Waits until somebody has connected.
    pub(crate) async fn wait_knock(&self) {
        self.wait_knocks(1).await;
    }

    /// Waits until so many have connected.
    pub(crate) async fn wait_knocks(&self, least: usize) {
        let mut knocks = self.knocks.clone();
        let knocked = tokio::time::timeout(PATIENCE, knocks.wait_for(|count| *count >= least));
        let knocked = knocked.await;
        assert!(
            matches!(knocked, Ok(Ok(_))),
            "not {least} connected to the gate"
        );
    }

    /// Whoever comes is told from now on that there are too many.
    pub(crate) fn be_busy(&self, words: &'static str) {
        self.state.send_replace(State::Busy(words));
    }

    /// Lets everything through from now on.
    pub(crate) fn open(&self) {
        self.state.send_replace(State::Open);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn pass(mut near: TcpStream, behind: String, mut gate: watch::Receiver<State>) {
    let state = gate.wait_for(|state| !matches!(state, State::Shut)).await;
    let Ok(state) = state.map(|state| *state) else {
        return;
    };
    if let State::Busy(words) = state {
        let _hung_up = too_many(&mut near, words).await;
        return;
    }
    if let Ok(mut far) = TcpStream::connect(behind).await {
        // Either end may hang up: that is how connections end.
        let _hung_up = tokio::io::copy_bidirectional(&mut near, &mut far).await;
    }
}

/// Answers as a registry does to who asks too much of it.
async fn too_many(near: &mut TcpStream, words: &str) -> std::io::Result<()> {
    let body = format!(r#"{{"errors":[{{"code":"TOOMANYREQUESTS","message":"{words}"}}]}}"#);
    let answer = format!(
        "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nRetry-After: 1\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut request = [0; 4_096];
    // One that has not been read is lost with the connection, and the answer with it.
    let _read = near.read(&mut request).await?;
    near.write_all(answer.as_bytes()).await?;
    near.shutdown().await
}
