//! No secret is told: distinct ones are planted wherever the worker meets one, and looked for in all that it says and keeps.

use std::{io::Read, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use flate2::read::GzDecoder;

use super::*;
use crate::harness::{Engine, LOGIN, Registry, remove_image};

/// What is not to be found anywhere.
struct Secrets {
    guessed_token: String,
    refused_password: String,
    in_image: String,
    in_address: String,
    in_proxy: String,
    in_environment: String,
}

impl Secrets {
    fn new() -> Self {
        Self {
            guessed_token: unique("guessed"),
            refused_password: unique("refused"),
            in_image: unique("image"),
            in_address: unique("address"),
            in_proxy: unique("proxy"),
            in_environment: unique("environment"),
        }
    }

    async fn house(&self, docker_config: &Path) -> House {
        let proxy = format!("http://ann:{}@127.0.0.1:1", self.in_proxy);
        House::start_with(|setup| {
            setup
                .variable("DOCKER_CONFIG", &text(docker_config))
                .variable("HTTP_PROXY", &proxy)
                .variable("HTTPS_PROXY", &proxy)
                .variable("PLANTED", &self.in_environment)
        })
        .await
    }

    fn all(&self, house: &House) -> Vec<String> {
        let key = std::fs::read_to_string(house.folder.path().join("key.pem")).expect("the key");
        let line_of_key = key.lines().nth(1).expect("a line");
        let own = [
            &self.guessed_token,
            &self.refused_password,
            &self.in_image,
            &self.in_address,
            &self.in_proxy,
            &self.in_environment,
            &house.token,
        ];
        let own = own.into_iter().map(String::as_str);
        let all = own.chain([LOGIN.1, line_of_key]).flat_map(forms);
        all.collect()
    }
}

/// As it is, and as it reads within base64, where it begins at any byte of three.
fn forms(secret: &str) -> Vec<String> {
    let coded = (0..3).map(|shift: usize| {
        let coded = BASE64.encode(format!("{}{secret}", "x".repeat(shift)));
        let whole = (shift * 8).div_ceil(6)..(shift + secret.len()) * 8 / 6;
        coded[whole].to_owned()
    });
    std::iter::once(secret.to_owned()).chain(coded).collect()
}

fn login(user: &str, password: &str) -> Value {
    serde_json::json!({"auth": BASE64.encode(format!("{user}:{password}"))})
}

fn task_of(image: String) -> Task {
    Task {
        docker_image: image,
        ..task("env; echo made > /output/made")
    }
}

impl House {
    /// How a task ended, as its master was told.
    async fn runs(&self, task: &Task) -> String {
        self.master_of.inherit(task.clone(), self.worker.id());
        let ack = self.master().assign_task(task.clone()).await;
        assert!(ack.expect("an answer").get_ref().success);
        let report = self.master_of.wait_report(&task.task_id).await;
        report.expect("a report").status
    }

    /// What a command prints of this worker.
    async fn prints(&self, words: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_worker-node"));
        command.args(words).arg("--state-dir");
        run({
            command.arg(self.worker.state_dir());
            command
        })
        .await
    }
}

/// All that lies in a folder and below it.
fn files_of(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let paths = entries.flatten().map(|entry| entry.path());
    let found = paths.flat_map(|path| match path.is_dir() {
        true => files_of(&path),
        false => vec![path],
    });
    found.collect()
}

/// What lies in a bundle.
fn entries_of(bundle: &Path) -> Vec<(String, String)> {
    let file = std::fs::File::open(bundle).expect("it was made");
    let mut archive = tar::Archive::new(GzDecoder::new(file));
    let entries = archive.entries().expect("an archive").map(|entry| {
        let mut entry = entry.expect("an entry");
        let name = entry.path().expect("a name").display().to_string();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("all of it");
        (name, String::from_utf8_lossy(&content).into_owned())
    });
    let entries: Vec<_> = entries.collect();
    assert!(entries.len() > 10, "{entries:?}");
    entries
}

/// Everything that the worker said and kept, by where.
async fn everything(house: &House, tasks: &[&str]) -> Vec<(String, String)> {
    let process = house.worker.process();
    let pid = process.pid().as_raw_nonzero();
    let command_line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).expect("one");
    let mut said = vec![
        ("log".to_owned(), process.lines().join("\n")),
        ("command line".to_owned(), command_line),
    ];
    for task in tasks {
        let known = house.master_of.task(task).expect("it is known");
        let told = format!("{:?} {:?}", known.reports, known.uploads);
        said.push((format!("master of {task}"), told));
        said.push((format!("logs {task}"), house.prints(&["logs", task]).await));
    }
    for words in [
        &["actors", "--json"][..],
        &["tasks", "--all", "--json"],
        &["events", "--json"],
        &["events", "--audit", "--json"],
        &["state", "dump", "--json"],
    ] {
        said.push((words.join(" "), house.prints(words).await));
    }
    let bundle = house.folder.path().join("bundle.tar.gz");
    house.prints(&["bundle", &text(&bundle)]).await;
    said.extend(entries_of(&bundle));
    for file in files_of(house.worker.state_dir()) {
        let bytes = std::fs::read(&file).unwrap_or_default();
        said.push((text(&file), String::from_utf8_lossy(&bytes).into_owned()));
    }
    said
}

#[test]
fn a_secret_is_found_within_base64_wherever_it_begins() {
    for before in ["", "a", "ab", "abc"] {
        let coded = BASE64.encode(format!("{before}:secret-word\"}}"));

        assert!(
            forms("secret-word").iter().any(|form| coded.contains(form)),
            "{coded}"
        );
    }
}

#[tokio::test]
async fn no_planted_secret_is_in_a_log_a_report_the_state_a_command_line_or_what_is_printed() {
    let (secrets, docker_config) = (Secrets::new(), tempfile::tempdir().expect("a folder"));
    let house = secrets.house(docker_config.path()).await;
    let (open, shut) = (
        Registry::start_guarded().await,
        Registry::start_guarded().await,
    );
    let logins = serde_json::json!({"auths": {
        open.address(): login(LOGIN.0, LOGIN.1),
        shut.address(): login(LOGIN.0, &secrets.refused_password),
    }});
    put(docker_config.path(), "config.json", &logins.to_string());
    let engine = Engine::connect().await;
    let pulled = open.reference(&open.push_busybox(engine.docker()).await);

    let done = task_of(pulled.clone());
    assert_eq!(
        house.runs(&done).await,
        "success",
        "with the right password"
    );
    remove_image(engine.docker(), &pulled).await;
    let refused = task_of(shut.reference("none"));
    assert_eq!(house.runs(&refused).await, "failed");
    let named = format!("ann:{}@{}", secrets.in_image, open.reference("none"));
    let named = task_of(named);
    assert_eq!(house.runs(&named).await, "failed");
    let moved = MasterInfo {
        master_id: "m".to_owned(),
        master_address: format!("ann:{}@127.0.0.1:1", secrets.in_address),
    };
    let moved = house.master().master_register(moved).await;
    let moved = format!("{moved:?}");
    let keys = house.authority.calling(Some(&house.master_certificate));
    let mut guessing = house.client(keys, Some(&secrets.guessed_token));
    assert!(guessing.cancel_task(id(&done)).await.is_err());
    house.worker.wait_log_line("was refused").await;
    put(house.folder.path(), "token", "two words");
    house.worker.process().signal(Signal::HUP);
    house.worker.wait_log_line("of before stays in use").await;

    let tasks = [&done, &refused, &named].map(|task| task.task_id.as_str());
    let mut said = everything(&house, &tasks).await;
    said.push(("answer".to_owned(), moved));
    for place in ["log", "tasks --all --json", "state dump --json"] {
        let (_, text) = said.iter().find(|(name, _)| name == place).expect("it");
        assert!(text.contains(tasks[0]), "{place} is looked into");
    }
    assert!(said[0].1.contains(" DEBUG "), "all of it is logged");
    for secret in secrets.all(&house) {
        let found = said.iter().filter(|(_, text)| text.contains(&secret));
        let places: Vec<_> = found.map(|(place, _)| place).collect();
        assert!(places.is_empty(), "{secret} is in {places:?}");
    }
}

#[tokio::test]
async fn a_start_with_a_password_in_an_address_is_refused_and_the_password_is_not_repeated() {
    let secret = unique("secret");
    for (variable, value) in [
        ("DOCKER_HOST", format!("tcp://ann:{secret}@127.0.0.1:1")),
        ("WORKER_NODE_ENGINE", format!("ssh://ann:{secret}@e")),
        ("WORKER_NODE_MASTER", format!("ann:{secret}@127.0.0.1:1")),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_worker-node"));
        let process = Process::start("told", command.env(variable, value));

        assert_eq!(process.wait_exit().await.code(), Some(2), "{variable}");

        process.wait_line("***@").await;
        assert!(!process.lines().join("\n").contains(&secret), "{variable}");
    }
}
