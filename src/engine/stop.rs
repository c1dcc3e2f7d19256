//! Stopping a container, which means every process in it. The engine's own way reaches process 1 alone, and when the shell that a
//! command runs in has died of it, the kernel kills the rest, whatever they were about to save.
//!
//! So the signal is sent from within, to every process at once, and the shell waits for all the others before it ends:
//! `cd x && prog; y`, `prog | cat`, scripts, programs that left its process group. Where nothing can be run in the container
//! (no shell, a proxy that forbids it) process 1 gets the signal, and passes it on to its group.

use bollard::{
    exec::StartExecOptions,
    models::{ContainerInspectResponse, ExecConfig},
    query_parameters::KillContainerOptions,
};
use log::debug;

use super::{DockerEngine, call::path_part, failure};
use crate::{
    domain::id::ContainerId,
    ports::engine::{EngineError, Signal},
};

/// Tells the engine's process 1 to pass signals on to the whole group of its child.
pub(super) const TO_THE_GROUP: &str = "TINI_KILL_PROCESS_GROUP=1";

/// The script of the shell that runs a task's command. At a signal that asks it to end, the shell waits for its own children first,
/// then for processes that lost their parents; a program in the foreground ends before, since it got the signal too. The command is
/// an argument of its own, since the kernel takes no longer argument than the longest command; the command itself finds no
/// arguments.
const WAIT_FOR_ALL: &str = r#"trap 'trap "" TERM INT QUIT; wait; while kill -0 -1; do sleep 0.1 || sleep 1 || break; done 2>/dev/null; exit 143' TERM INT QUIT; eval "set --; $1""#;

/// The arguments of `/bin/sh -c` for a command that outlives, when it is asked to end, all that it has begun.
pub(super) fn waiting_for_all(command: &str) -> [String; 3] {
    [WAIT_FOR_ALL, "/bin/sh", command].map(str::to_owned)
}

/// How a container is asked to end.
#[derive(Debug, PartialEq, Eq)]
struct Manner {
    /// The signal that the image names, else SIGTERM.
    signal: String,
    /// Whether its command runs in the shell that waits for all.
    waits: bool,
    /// Whether process 1 is the engine's own, which ends by itself.
    has_init: bool,
}

impl DockerEngine {
    pub(super) async fn send_signal(
        &self,
        container: &ContainerId,
        signal: Signal,
    ) -> Result<(), EngineError> {
        match signal {
            Signal::Kill => self.signal_first(container, "SIGKILL").await,
            Signal::Term => self.ask_to_end(container).await,
        }
    }

    async fn ask_to_end(&self, container: &ContainerId) -> Result<(), EngineError> {
        let docker = self.line.docker()?;
        let id = path_part(&container.0)?;
        let found = docker.inspect_container(id, None).await;
        let manner = manner(found.map_err(failure::of_call)?);
        if manner.waits {
            match self.signal_all(id, &manner.signal).await {
                Ok(()) if manner.has_init => return Ok(()),
                // A signal to all leaves out process 1, which here is the shell.
                Ok(()) => {}
                Err(error) => {
                    debug!(container:%, error:%; "a signal could not be sent from within")
                }
            }
        }
        self.signal_first(container, &manner.signal).await
    }

    async fn signal_first(&self, container: &ContainerId, signal: &str) -> Result<(), EngineError> {
        let options = KillContainerOptions {
            signal: signal.into(),
        };
        let id = path_part(&container.0)?;
        let killed = self.line.docker()?.kill_container(id, Some(options)).await;
        killed.map_err(failure::of_call)
    }

    /// Sends a signal to every process of the container but its first, by a `kill` within.
    async fn signal_all(&self, id: &str, signal: &str) -> Result<(), EngineError> {
        let name = signal.strip_prefix("SIG").unwrap_or(signal);
        let kill = ["/bin/sh", "-c", &format!("kill -{name} -1")].map(str::to_owned);
        let exec = ExecConfig {
            cmd: Some(kill.into()),
            // As root, to reach the processes of other users too.
            user: Some("0".into()),
            ..ExecConfig::default()
        };
        let docker = self.line.docker()?;
        let made = docker
            .create_exec(id, exec)
            .await
            .map_err(failure::of_call)?;
        let detached = StartExecOptions {
            detach: true,
            ..StartExecOptions::default()
        };
        let started = docker.start_exec(&made.id, Some(detached)).await;
        started.map(|_| ()).map_err(failure::of_call)
    }
}

fn manner(found: ContainerInspectResponse) -> Manner {
    let config = found.config.unwrap_or_default();
    let commands = config.cmd.unwrap_or_default();
    let wanted = config.stop_signal.unwrap_or_default();
    let is_clean = |signal: &String| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-');
        !signal.is_empty() && signal.bytes().all(allowed) && !signal.starts_with('-')
    };
    let host = found.host_config.unwrap_or_default();
    Manner {
        signal: Some(wanted).filter(is_clean).unwrap_or("SIGTERM".into()),
        waits: commands.iter().any(|command| command == WAIT_FOR_ALL),
        has_init: host.init == Some(true),
    }
}

#[cfg(test)]
mod tests {
    use bollard::models::{ContainerConfig, HostConfig};

    use super::*;

    fn container(cmd: &[String], stop_signal: Option<&str>, init: Option<bool>) -> Manner {
        manner(ContainerInspectResponse {
            config: Some(ContainerConfig {
                cmd: Some(cmd.to_vec()),
                stop_signal: stop_signal.map(str::to_owned),
                ..ContainerConfig::default()
            }),
            host_config: Some(HostConfig {
                init,
                ..HostConfig::default()
            }),
            ..ContainerInspectResponse::default()
        })
    }

    #[test]
    fn an_image_says_by_which_signal_it_is_stopped() {
        for (wanted, sent) in [
            (None, "SIGTERM"),
            (Some(""), "SIGTERM"),
            (Some("SIGINT"), "SIGINT"),
            (Some("3"), "3"),
            (Some("SIGRTMIN+3"), "SIGRTMIN+3"),
            (Some("TERM -1; rm"), "SIGTERM"),
            (Some("-1"), "SIGTERM"),
        ] {
            assert_eq!(container(&[], wanted, None).signal, sent, "{wanted:?}");
        }
    }

    #[test]
    fn only_a_command_of_ours_is_trusted_to_wait_for_the_rest() {
        let ours = container(&waiting_for_all("prog | cat"), None, Some(true));
        let images = container(&["prog".to_owned()], None, Some(false));

        assert!(ours.waits && ours.has_init);
        assert!(!images.waits && !images.has_init);
    }
}
