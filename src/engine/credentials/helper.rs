//! One run of a credential helper: a program that is given a registry's name and answers with a secret. It is ended, with all
//! that it has begun, as soon as nobody waits for it any more.

use std::{process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Command,
};

use super::config::Found;

/// How long a helper may take, its wait for its own last run included; then it is ended. One that asks a keychain or a cloud
/// answers within this, or not at all.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);

/// Bytes of an answer that are read: tokens have some thousands.
const ANSWER_LIMIT: u64 = 1 << 20;

/// What stands in place of a user's name where the secret is an identity token.
const TOKEN: &str = "<token>";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// A helper's process group, which is killed on drop; `None` once the helper has ended by itself.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // The group may have ended meanwhile.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Runs a helper and reads its answer; `None`: it works, and knows nothing of that registry.
///
/// # Errors
/// What is wrong with the helper, as words that follow its name; nothing of its output is in them.
pub(super) async fn ask(mut command: Command, server: &str) -> Result<Option<Found>, String> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true);
    let cannot = |error: std::io::Error| format!("cannot be run: {error}");
    let mut child = command.spawn().map_err(cannot)?;
    let id = child.id().and_then(|id| i32::try_from(id).ok());
    let mut group = Group(id.and_then(Pid::from_raw));
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read its input tells what is wrong by its exit code.
        let _ = stdin.write_all(server.as_bytes()).await;
    }
    let mut said = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        let read = stdout.take(ANSWER_LIMIT).read_to_end(&mut said).await;
        read.map_err(cannot)?;
    }
    let ended = child.wait().await.map_err(cannot)?;
    group.0 = None;
    if ended.success() {
        return read(&said).map(Some);
    }
    // By the protocol, this helper works and has no credentials for the registry.
    if String::from_utf8_lossy(&said).contains("credentials not found") {
        return Ok(None);
    }
    Err("failed".into())
}

fn read(said: &[u8]) -> Result<Found, String> {
    let answer: Answer = serde_json::from_slice(said)
        .map_err(|_| "gave an answer that makes no sense".to_owned())?;
    Ok(if answer.username == TOKEN {
        Found {
            identity: answer.secret,
            ..Found::default()
        }
    } else {
        Found {
            username: answer.username,
            password: answer.secret,
            ..Found::default()
        }
    })
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, Read},
        os::fd::AsRawFd,
    };

    use super::*;

    fn script(text: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", text]);
        command
    }

    #[tokio::test]
    async fn a_helper_is_asked_by_its_protocol() {
        let answer = |user: &str| {
            script(&format!(
                r#"read name; echo "{{\"ServerURL\":\"$name\",\"Username\":\"{user}\",\"Secret\":\"s of $name\"}}""#
            ))
        };

        let user = ask(answer("u"), "r:5000\n").await.unwrap().unwrap();
        assert_eq!(
            (user.username.as_str(), user.password.as_str()),
            ("u", "s of r:5000")
        );
        let token = ask(answer("<token>"), "r\n").await.unwrap().unwrap();
        assert_eq!(
            (token.username.as_str(), token.identity.as_str()),
            ("", "s of r")
        );
        let none = script("echo credentials not found in native keychain; exit 1");
        assert_eq!(ask(none, "r").await, Ok(None));
        for (text, why) in [("exit 1", "failed"), ("echo secret", "makes no sense")] {
            let said = ask(script(text), "r").await.unwrap_err();
            assert!(said.contains(why) && !said.contains("secret"), "{said}");
        }
        let said = ask(Command::new("/no/such/helper"), "r").await.unwrap_err();
        assert!(said.starts_with("cannot be run: "), "{said}");
    }

    #[tokio::test]
    async fn a_helper_that_nobody_waits_for_is_ended_with_all_it_has_begun() {
        let (reader, writer) = std::io::pipe().unwrap();
        // Both processes hold the pipe: it ends when both have.
        let (us, end) = (std::process::id(), writer.as_raw_fd());
        let stuck = script(&format!(
            "exec 3>/proc/{us}/fd/{end}; echo begun >&3; sleep 997 & exec sleep 998"
        ));
        let mut reader = BufReader::new(reader);
        let asked = tokio::spawn(async move { ask(stuck, "r").await });
        let mut reader = tokio::task::spawn_blocking(move || {
            reader.read_line(&mut String::new()).unwrap();
            reader
        })
        .await
        .unwrap();
        drop(writer);

        asked.abort();

        let end = tokio::task::spawn_blocking(move || reader.read_to_end(&mut Vec::new()));
        assert_eq!(end.await.unwrap().unwrap(), 0);
    }
}
