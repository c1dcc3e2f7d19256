//! The observer's page in a real browser, headless Chromium, driven over WebDriver: Debian's `chromium-driver`, 300 MB with all that it
//! brings. So `cargo test` leaves it out (Cargo.toml), and it is run by hand: `tests/with-docker cargo test --test observer`. A picture of
//! the page is written where `WORKER_NODE_PICTURE` says.

#[path = "support/harness.rs"]
mod harness;

use std::{fs, process::Command, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::{interval, timeout},
};

use harness::{Cluster, PATIENCE, Process};

/// A browser with one page.
struct Browser {
    _driver: Process,
    address: String,
    session: String,
}

impl Browser {
    async fn start() -> Self {
        let mut driver = Command::new("sh");
        // It says its port on its standard output.
        let driver = driver.args(["-c", "exec chromedriver --port=0 >&2"]);
        let driver = Process::start("chromedriver", driver);
        let said = driver.wait_line("started successfully on port ").await;
        let port = said.rsplit("port ").next().expect("a port");
        let mut browser = Self {
            _driver: driver,
            address: format!("127.0.0.1:{}", port.trim_end_matches('.')),
            session: String::new(),
        };
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--window-size=1280,1560",
        ];
        let wanted = json!({ "goog:chromeOptions": { "args": arguments } });
        let session = browser
            .call(
                "POST",
                "/session",
                &json!({ "capabilities": { "alwaysMatch": wanted } }),
            )
            .await;
        browser.session = session["sessionId"].as_str().expect("a session").to_owned();
        browser
    }

    /// One command of WebDriver's; its value.
    async fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = body.to_string();
        let (address, length) = (&self.address, body.len());
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        let answer = async {
            let stream = TcpStream::connect(address).await;
            let mut stream = BufReader::new(stream.expect("the driver listens"));
            stream.write_all(request.as_bytes()).await.expect("sent");
            let (mut head, mut length) = (String::new(), 0);
            while !head.ends_with("\r\n\r\n") {
                let begins = head.len();
                let read = stream.read_line(&mut head).await.expect("a head");
                assert_ne!(read, 0, "it hung up: {head}");
                let line = head[begins..].to_lowercase();
                if let Some(value) = line.strip_prefix("content-length:") {
                    length = value.trim().parse().expect("a length");
                }
            }
            // It keeps the connection.
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await.expect("a body");
            (head, String::from_utf8(body).expect("UTF-8"))
        };
        let answer = timeout(PATIENCE, answer).await;
        let (head, body) = answer.expect("in time");
        assert!(
            head.starts_with("HTTP/1.1 200"),
            "{method} {path}: {head}{body}"
        );
        let body: Value = serde_json::from_str(&body).expect("JSON");
        body["value"].clone()
    }

    async fn page(&self, what: &str, body: &Value) -> Value {
        let path = format!("/session/{}/{what}", self.session);
        self.call("POST", &path, body).await
    }

    /// What a script in the page returns.
    async fn run(&self, script: &str) -> Value {
        self.page("execute/sync", &json!({ "script": script, "args": [] }))
            .await
    }

    /// Waits until a script says true: the page rings nobody.
    async fn until(&self, what: &str, script: &str) {
        let mut looks = interval(Duration::from_millis(50));
        let waiting = async {
            while self.run(script).await != true {
                looks.tick().await;
            }
        };
        if timeout(PATIENCE, waiting).await.is_err() {
            let page = self.run("return document.body.innerText").await;
            panic!("not {what}: {page}");
        }
    }

    async fn close(self) {
        let path = format!("/session/{}", self.session);
        self.call("DELETE", &path, &json!({})).await;
    }

    /// Writes a picture of it where that is wanted.
    async fn picture(&self) {
        let Ok(place) = std::env::var("WORKER_NODE_PICTURE") else {
            return;
        };
        let path = format!("/session/{}/screenshot", self.session);
        let picture = self.call("GET", &path, &json!({})).await;
        let picture = BASE64_STANDARD.decode(picture.as_str().expect("a picture"));
        fs::write(place, picture.expect("base64")).expect("it is written");
    }
}

/// The page of a worker, in a browser.
async fn opened(cluster: &Cluster) -> Browser {
    let said = cluster
        .worker
        .wait_log_line("answering over HTTP on ")
        .await;
    let after = said.split("answering over HTTP on ").nth(1);
    let door = after
        .and_then(|rest| rest.split(": ").next())
        .expect("an address");
    let browser = Browser::start().await;
    browser
        .page("url", &json!({ "url": format!("http://{door}/") }))
        .await;
    let is_good = "return document.getElementById('health').className === 'good'";
    browser.until("healthy", is_good).await;
    browser
}

/// Whether the row of a task says that.
fn row(task: &str, words: &str) -> String {
    format!(
        "return [...document.querySelectorAll('#tasks tbody tr')]\
         .some((row) => row.dataset.key === '{task}' && row.innerText.includes('{words}'))"
    )
}

async fn sees_a_restart(browser: &Browser) {
    let restarted = "return [...document.querySelectorAll('#actors tbody tr')].some((row) => row.innerText.includes('heartbeat') \
                     && Number(row.cells[3].innerText) >= 1 && row.cells[7].innerText.includes('panicked'))";
    browser.until("restarted", restarted).await;
    let count = |what: &str| format!("return document.querySelectorAll('{what}').length > 0");
    browser.until("told", &count("#events .bad")).await;
    browser.until("marked", &count("#timeline .bad")).await;
}

/// The bars of a minute are longer than those of five.
async fn draws_a_minute(browser: &Browser) {
    let minute = "document.getElementById('window').value = '60'; scrollTo(0, 0)";
    browser.run(minute).await;
    let drawn = "return [...document.querySelectorAll('#timeline .s-running')].some((bar) => bar.getBBox().width > 100)";
    browser.until("drawn", drawn).await;
}

#[tokio::test]
async fn a_panic_is_seen_as_it_happens_and_tasks_come_and_go() {
    let cluster = Cluster::start_with(|setup| {
        let setup = setup.arguments(["--http", "127.0.0.1:0", "--supervise"]);
        setup.variable("FAILPOINTS", "heartbeat.beat=3*off->2*panic->off")
    })
    .await;
    let browser = opened(&cluster).await;

    let hostile = "<img src=x onerror=alert(1)>";
    let long = "while [ ! -e /tmp/go ]; do sleep 0.05; done; echo over";
    let long = cluster.task(&format!("echo '{hostile}'; {long}"));
    let long = cluster.submit(long).await;
    let ill = cluster.submit(cluster.task("sleep 1; exit 3")).await;
    let well = cluster.submit(cluster.task("sleep 2")).await;
    browser.until("running", &row(&long, "running")).await;
    browser.until("failed", &row(&ill, "failed")).await;
    browser.until("succeeded", &row(&well, "succeeded")).await;
    sees_a_restart(&browser).await;

    let rows = "[...document.querySelectorAll('#tasks tbody tr')]";
    let click = format!("{rows}.find((row) => row.dataset.key === '{long}').click()");
    browser.run(&click).await;
    let says = |words: &str| {
        let words = json!(words);
        format!("return document.getElementById('log').innerText.includes({words})")
    };
    browser.until("read", &says(hostile)).await;
    let pictures = "return document.querySelectorAll('img').length";
    assert_eq!(browser.run(pictures).await, 0, "it is text");
    draws_a_minute(&browser).await;
    browser.picture().await;
    let container = cluster.engine.containers_of(&long).await.remove(0);
    cluster.engine.touch_in(&container, "/tmp/go").await;
    browser
        .until("over", &says("[worker-node] succeeded"))
        .await;
    browser.until("done", &row(&long, "done")).await;
    browser.close().await;
    cluster.finish().await;
}
