//! The HTTP door, over the real binary: what probes and a monitoring system are told, and who is told nothing.

use std::{fs::OpenOptions, io::Write, os::unix::fs::OpenOptionsExt, path::Path, process::Command};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    authority::Authority,
    harness::{Cluster, EngineProxy, PATIENCE},
};

/// An answer.
#[derive(Debug)]
struct Answer {
    code: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The value of a metric by its name with its labels, as the page has them.
    fn metric(&self, name: &str) -> f64 {
        let mut lines = self.body.lines();
        let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = line.unwrap_or_else(|| panic!("{name} in {}", self.body));
        value.parse().expect("a number")
    }
}

/// Asks once, with more lines for the head.
async fn get(address: &str, path: &str, more: &str) -> Answer {
    let asking = async {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        let host = match more.contains("Host:") {
            true => String::new(),
            false => format!("Host: {address}\r\n"),
        };
        let request = format!("GET {path} HTTP/1.1\r\n{host}Connection: close\r\n{more}\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        answer
    };
    let answer = tokio::time::timeout(PATIENCE, asking).await;
    let answer = answer.expect("in time");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let code = head.split(' ').nth(1).expect("a code");
    Answer {
        code: code.parse().expect("a number"),
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

/// Reads on until that has come.
async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut came = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&came).contains(text) {
            let read = stream.read_buf(&mut came).await.expect("it goes on");
            assert_ne!(read, 0, "it ended: {}", String::from_utf8_lossy(&came));
        }
    };
    let read = tokio::time::timeout(PATIENCE, reading).await;
    let came = String::from_utf8_lossy(&came).into_owned();
    assert!(read.is_ok(), "no {text:?} in {came}");
    came
}

/// Where the worker says that it answers.
async fn door(cluster: &Cluster) -> String {
    let said = cluster
        .worker
        .wait_log_line("answering over HTTP on ")
        .await;
    let after = said.split("answering over HTTP on ").nth(1);
    let address = after.and_then(|rest| rest.split(": ").next());
    address.expect("an address").to_owned()
}

/// Asks until it is so: nothing rings when a worker has come to be ready.
async fn until(address: &str, path: &str, is_so: impl Fn(&Answer) -> bool) -> Answer {
    let mut last = get(address, path, "").await;
    let mut looks = tokio::time::interval(std::time::Duration::from_millis(20));
    let waiting = async {
        while !is_so(&last) {
            looks.tick().await;
            last = get(address, path, "").await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(waited.is_ok(), "{path} came to: {last:?}");
    last
}

#[tokio::test]
async fn a_probe_is_told_whether_tasks_are_taken_and_if_not_why() {
    let proxy = EngineProxy::start();
    let engine = proxy.address();
    let cluster = Cluster::start_with(|setup| {
        setup.arguments(["--http", "127.0.0.1:0", "--engine", &engine])
    })
    .await;
    let door = door(&cluster).await;

    until(&door, "/readyz", |answer| answer.code == 200).await;
    assert_eq!(get(&door, "/healthz", "").await.body, "ok\n");

    proxy.go();
    let away = until(&door, "/readyz", |answer| answer.code == 503).await;
    let told = away.json();
    assert_eq!(told["ready"], false, "{told}");
    assert_eq!(told["reasons"][0]["what"], "engine", "{told}");
    assert_eq!(get(&door, "/healthz", "").await.code, 200, "it lives");
    until(&door, "/metrics", |answer| {
        answer.metric("worker_node_engine_up") == 0.0
    })
    .await;

    proxy.come();
    until(&door, "/readyz", |answer| answer.code == 200).await;
    let mut cordon = Command::new(env!("CARGO_BIN_EXE_worker-node"));
    cordon
        .args(["cordon", "--state-dir"])
        .arg(cluster.worker.state_dir());
    assert!(cordon.status().expect("it starts").success());
    let told = get(&door, "/readyz", "").await.json();
    assert_eq!(told["reasons"][0]["what"], "refusing", "{told}");
    assert!(
        told["reasons"][0]["why"]
            .as_str()
            .expect("words")
            .contains("cordon"),
        "{told}"
    );
    cluster.finish().await;
}

#[tokio::test]
async fn what_is_counted_of_a_task_is_what_became_of_it() {
    let cluster = Cluster::start_with(|setup| setup.arguments(["--http", "127.0.0.1:0"])).await;
    let door = door(&cluster).await;
    let accept = "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n";
    let plain = get(&door, "/metrics", "").await;
    assert!(
        plain.head.contains("text/plain; version=0.0.4"),
        "{plain:?}"
    );
    let page = get(&door, "/metrics", accept).await;
    assert!(
        page.head
            .contains("application/openmetrics-text; version=1.0.0"),
        "{page:?}"
    );
    assert!(page.body.ends_with("# EOF\n"), "{page:?}");
    assert_eq!(page.metric("worker_node_tasks_accepted_total"), 0.0);

    let well = cluster
        .submit(cluster.task("echo 123456789; echo 1 >&2"))
        .await;
    let ill = cluster.submit(cluster.task("exit 3")).await;
    cluster.report(&well).await;
    cluster.report(&ill).await;
    let page = until(&door, "/metrics", |answer| {
        answer.body.contains("phase=\"clean\"")
            && answer.metric("worker_node_task_phase_seconds_count{phase=\"clean\"}") == 2.0
    })
    .await;

    for (name, value) in [
        ("worker_node_tasks_accepted_total", 2.0),
        ("worker_node_tasks_ended_total{outcome=\"succeeded\"}", 1.0),
        ("worker_node_tasks_ended_total{outcome=\"failed\"}", 1.0),
        ("worker_node_task_phase_seconds_count{phase=\"run\"}", 2.0),
        ("worker_node_log_bytes_total{stream=\"stdout\"}", 10.0),
        ("worker_node_log_bytes_total{stream=\"stderr\"}", 2.0),
        (
            "worker_node_served_call_seconds_count{method=\"assign\",answer=\"accepted\"}",
            2.0,
        ),
        (
            "worker_node_master_call_seconds_count{method=\"report\",answer=\"ok\"}",
            2.0,
        ),
        ("worker_node_actor_up{actor=\"registry\"}", 1.0),
        ("worker_node_master_registered", 1.0),
        ("worker_node_tasks{state=\"running\"}", 0.0),
    ] {
        assert_eq!(page.metric(name), value, "{name}");
    }
    assert!(page.metric("worker_node_engine_call_seconds_count{call=\"create\"}") >= 2.0);
    assert!(page.metric("process_resident_memory_bytes") > 1e6);
    assert!(page.metric("worker_node_disk_free_bytes") > 0.0);
    for stranger in [&well, &ill] {
        assert!(
            !page.body.contains(stranger.as_str()),
            "no label is a task's"
        );
    }
    cluster.finish().await;
}

#[tokio::test]
async fn the_page_is_told_the_course_of_a_task_and_reads_its_log_as_it_grows() {
    let cluster = Cluster::start_with(|setup| setup.arguments(["--http", "127.0.0.1:0"])).await;
    let door = door(&cluster).await;
    let page = get(&door, "/", "").await;
    assert!(page.head.contains("default-src 'none'"), "{page:?}");
    for part in ["/observer.css", "/observer.js"] {
        assert!(page.body.contains(&part[1..]), "{part}");
        assert_eq!(get(&door, part, "").await.code, 200, "{part}");
    }
    assert_eq!(get(&door, "/api/v1/tasks/none/log", "").await.code, 404);

    let gate = "while [ ! -e /tmp/go ]; do sleep 0.05; done";
    let task = cluster.task(&format!("echo '<b>one</b>'; {gate}; echo two; exit 7"));
    let task = cluster.submit(task).await;
    let mut log = TcpStream::connect(&door).await.expect("it listens");
    let asked = format!("GET /api/v1/tasks/{task}/log HTTP/1.1\r\nHost: {door}\r\n\r\n");
    cluster.engine.wait_task(&task, "start").await;
    log.write_all(asked.as_bytes()).await.expect("sent");
    let first = read_until(&mut log, "<b>one</b>\n").await;
    assert!(first.contains("application/octet-stream"), "{first}");
    let running = |answer: &Answer| answer.json()["tasks"][0]["stage"] == "running";
    let now = until(&door, "/api/v1/observer", running).await.json();
    assert_eq!(now["held"]["tasks"], 1, "{now}");
    assert_eq!(now["ready"], true, "{now}");

    let containers = cluster.engine.containers_of(&task).await;
    cluster.engine.touch_in(&containers[0], "/tmp/go").await;
    read_until(&mut log, "two\n").await;
    read_until(&mut log, "exit code 7").await;
    let done = |answer: &Answer| answer.json()["courses"][0]["done"].is_u64();
    let now = until(&door, "/api/v1/observer", done).await.json();
    let course = &now["courses"][0];
    assert_eq!(course["task"], task.as_str(), "{course}");
    assert_eq!(course["outcome"], "failed", "{course}");
    let stages = course["stages"].as_array().expect("stages");
    let came = |word: &str| stages.iter().position(|stage| stage[0] == word);
    assert!(
        came("accepted").is_some() && came("accepted") < came("running"),
        "{course}"
    );
    let again = format!(
        "/api/v1/observer?process={}&since={}",
        now["process"], now["number"]
    );
    let news = get(&door, &again, "").await.json();
    assert_eq!(news["courses"], Value::Array(Vec::new()), "nothing is new");
    let anew = format!("/api/v1/observer?process=1&since={}", now["number"]);
    let all = get(&door, &anew, "").await.json();
    assert_eq!(all["courses"][0]["task"], task.as_str(), "{all}");
    cluster.finish().await;
}

#[tokio::test]
async fn the_alert_rules_name_what_there_is() {
    // One of them is about a certificate.
    let folder = tempfile::tempdir().expect("a folder");
    let (certificate, key) = Authority::new()
        .sign(&["worker.example"])
        .write(folder.path());
    let (certificate, key) = (certificate.display(), key.display());
    let cluster = Cluster::start_with(|setup| {
        setup.arguments([
            "--http",
            "127.0.0.1:0",
            &format!("--tls-cert={certificate}"),
            &format!("--tls-key={key}"),
        ])
    })
    .await;
    let door = door(&cluster).await;
    // The counters of actors begin with their first event.
    let page = until(&door, "/metrics", |answer| {
        answer.body.contains("event=\"started\"")
    })
    .await;

    let rules = include_str!("../../src/packaging/alerts.yml");
    let expressions = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("expr: "));
    let words = expressions.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_'));
    let named: Vec<&str> = words
        .filter(|word| word.starts_with("worker_node_"))
        .collect();
    assert!(named.len() >= 5, "{named:?}");
    for name in named {
        assert!(
            page.body.contains(&format!("\n{name}")),
            "{name} in {}",
            page.body
        );
    }
    cluster.finish().await;
}

#[tokio::test]
async fn who_asks_by_another_name_or_for_more_than_to_look_is_turned_away() {
    let cluster = Cluster::start_with(|setup| setup.arguments(["--http", "127.0.0.1:0"])).await;
    let door = door(&cluster).await;

    let rebound = get(&door, "/metrics", "Host: evil.example\r\n").await;
    assert_eq!(rebound.code, 421, "{rebound:?}");
    assert!(
        rebound.body.contains("not known by that name"),
        "{rebound:?}"
    );
    assert_eq!(
        get(&door, "/metrics", "Host: localhost\r\n").await.code,
        200
    );
    let nothing = get(&door, "/nothing", "").await;
    assert_eq!(nothing.code, 404);
    assert!(nothing.body.contains("/metrics"), "{nothing:?}");
    let mut stream = TcpStream::connect(&door).await.expect("it listens");
    let post = format!("POST /metrics HTTP/1.1\r\nHost: {door}\r\nConnection: close\r\n\r\n");
    stream.write_all(post.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    cluster.finish().await;
}

/// A token's file, for its owner alone.
fn token_in(folder: &Path) -> String {
    let token = folder.join("token");
    let mut file = OpenOptions::new();
    let file = file.write(true).create(true).mode(0o600).open(&token);
    let written = file.and_then(|mut file| file.write_all(b"secret-of-the-cluster"));
    written.expect("it is written");
    token.to_str().expect("UTF-8").to_owned()
}

/// What a browser hears whose user has typed that.
async fn as_browser(address: &str, name_and_password: &str) -> u16 {
    let shown = BASE64_STANDARD.encode(name_and_password);
    let shown = format!("Authorization: Basic {shown}\r\n");
    get(address, "/", &shown).await.code
}

#[tokio::test]
async fn from_elsewhere_it_is_asked_with_the_token_or_not_opened() {
    let folder = tempfile::tempdir().expect("a folder");
    let token = token_in(folder.path());

    let mut open = Command::new(env!("CARGO_BIN_EXE_worker-node"));
    open.args(["--http", ":0", "--port", "127.0.0.1:0", "--state-dir"]);
    let refused = open
        .arg(folder.path().join("state"))
        .output()
        .expect("it starts");
    let words = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(78), "{words}");
    assert!(
        words.contains("--http :0 can be reached from other machines: give --token-file"),
        "{words}"
    );

    let cluster = Cluster::start_with(|setup| {
        setup.arguments([
            "--http",
            "0.0.0.0:0",
            "--token-file",
            &token,
            "--token-in-clear",
        ])
    })
    .await;
    let port = door(&cluster).await.replace("0.0.0.0", "127.0.0.1");
    let without = get(&port, "/metrics", "").await;
    assert_eq!(without.code, 401, "{without:?}");
    assert!(
        without
            .head
            .to_lowercase()
            .contains("www-authenticate: basic"),
        "{without:?}"
    );
    assert_eq!(
        get(&port, "/healthz", "Authorization: Bearer wrong\r\n")
            .await
            .code,
        401
    );
    let with = get(
        &port,
        "/metrics",
        "Authorization: Bearer secret-of-the-cluster\r\n",
    )
    .await;
    assert_eq!(with.code, 200, "{with:?}");
    assert!(!with.body.contains("secret-of-the-cluster"));
    for (shown, code) in [
        ("anybody:secret-of-the-cluster", 200),
        ("secret-of-the-cluster:wrong", 401),
    ] {
        assert_eq!(as_browser(&port, shown).await, code, "{shown}");
    }
}
