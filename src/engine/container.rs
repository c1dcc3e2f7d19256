//! Makes containers of plans, and carries out the commands of their life: create, start, wait, remove.

use std::collections::HashMap;

use bollard::{
    errors::Error,
    models::{
        ContainerCreateBody, ContainerWaitResponse, DeviceRequest, HealthConfig, HostConfig,
        HostConfigLogConfig, Mount, MountType, ResourcesUlimits, RestartPolicy,
        RestartPolicyNameEnum,
    },
    query_parameters::{
        CreateContainerOptions, RemoveContainerOptions, StartContainerOptions, WaitContainerOptions,
    },
};
use futures_util::StreamExt;

use super::{
    DockerEngine, EngineOptions, binds,
    call::path_part,
    failure::{self, has_any},
    given,
    labels::{self, Labels},
    log_file,
    outputs::OUTPUT,
    stop,
};
use crate::{
    domain::{id::ContainerId, spec::TaskSpec},
    ports::engine::{ContainerPlan, ContainerState, EngineError, Force},
};

/// The smallest `/dev/shm`, in bytes: as large as the engine makes it by itself.
const SHARED_MEMORY_LEAST: u64 = 64 << 20;

impl DockerEngine {
    /// Creates a container by one call, and a second one that makes `/output` in it where no folder of this machine is bound there.
    /// No container stays without `/output`: where the second call fails the container is removed, or completed by the next create
    /// under its name.
    pub(super) async fn create_container(
        &self,
        plan: &ContainerPlan,
    ) -> Result<ContainerId, EngineError> {
        let options = CreateContainerOptions {
            name: Some(path_part(&plan.name.0)?.to_owned()),
            ..CreateContainerOptions::default()
        };
        let labels = labels::of_plan(plan, &*self.codec, self.options.maker.as_ref());
        let given = &plan.given;
        binds::check(plan, &self.line.address).await?;
        let variables = given::variables(given).await?;
        let body = body(plan, labels, &self.options)?;
        let body = given::give(body, given, variables, &self.options);
        let docker = self.line.docker()?;
        let created = docker.create_container(Some(options), body).await;
        match created.map_err(failure::of_call) {
            Ok(made) if plan.output_folder.is_none() => {
                self.with_output(ContainerId(made.id)).await
            }
            Ok(made) => Ok(ContainerId(made.id)),
            Err(EngineError::Conflict(said)) => {
                if plan.output_folder.is_none() {
                    self.complete(plan).await?;
                }
                Err(EngineError::Conflict(said))
            }
            Err(error) => Err(error),
        }
    }

    async fn with_output(&self, id: ContainerId) -> Result<ContainerId, EngineError> {
        let Err(error) = self.make_output(&id).await else {
            return Ok(id);
        };
        // Where the removal fails too, the next create meets the name and completes the container.
        let _ = self.remove_container(&id, Force::Yes).await;
        Err(error)
    }

    /// Makes `/output` in the container that has the plan's name, if it is this plan's own and not started: a create that was cut
    /// off between its two calls left it without.
    async fn complete(&self, plan: &ContainerPlan) -> Result<(), EngineError> {
        let facts = self.inspect_container(&plan.name.0).await?;
        let ours = facts
            .ours
            .is_some_and(|ours| labels::is_of_plan(&ours, plan));
        if ours && facts.state == ContainerState::Created {
            self.make_output(&facts.id).await?;
        }
        Ok(())
    }

    pub(super) async fn start_container(&self, container: &ContainerId) -> Result<(), EngineError> {
        let id = path_part(&container.0)?;
        self.line
            .docker()?
            .start_container(id, None::<StartContainerOptions>)
            .await
            .map_err(failure::of_start)
    }

    pub(super) async fn wait_for_end(&self, container: &ContainerId) -> Result<i64, EngineError> {
        let options = WaitContainerOptions {
            condition: "not-running".into(),
        };
        let id = path_part(&container.0)?;
        let mut answers = self.line.docker()?.wait_container(id, Some(options));
        exit_code(answers.next().await)
    }

    pub(super) async fn remove_container(
        &self,
        container: &ContainerId,
        force: Force,
    ) -> Result<(), EngineError> {
        let options = RemoveContainerOptions {
            v: true,
            force: force == Force::Yes,
            link: false,
        };
        let id = path_part(&container.0)?;
        let docker = self.line.docker()?;
        let remove = async {
            let removed = docker.remove_container(id, Some(options)).await;
            removed.map_err(failure::of_call)
        };
        match self.of_our_own(remove).await {
            Err(EngineError::NotFound(_)) => Ok(()),
            Err(EngineError::Conflict(said)) if has_any(&said, &["already in progress"]) => {
                self.wait_for_removal(id).await
            }
            other => other,
        }
    }

    /// Waits until the removal that somebody else has begun is done.
    async fn wait_for_removal(&self, id: &str) -> Result<(), EngineError> {
        let options = WaitContainerOptions {
            condition: "removed".into(),
        };
        let mut answers = self.line.docker()?.wait_container(id, Some(options));
        match answers.next().await {
            Some(Ok(_) | Err(Error::DockerContainerWaitError { .. })) => Ok(()),
            Some(Err(error)) => match failure::of_call(error) {
                EngineError::NotFound(_) => Ok(()),
                other => Err(other),
            },
            None => Err(EngineError::Away(
                "it closed a wait without an answer".into(),
            )),
        }
    }
}

/// The exit code in a wait's answer. An engine that gives up a wait answers with a code below zero, which is an error here.
fn exit_code(answer: Option<Result<ContainerWaitResponse, Error>>) -> Result<i64, EngineError> {
    let ended = match answer {
        Some(Ok(ended)) => ended,
        // The client takes an exit code other than 0 for an error.
        Some(Err(Error::DockerContainerWaitError { code, .. })) => return Ok(code),
        Some(Err(error)) => return Err(failure::of_call(error)),
        None => {
            return Err(EngineError::Away(
                "it closed a wait without an answer".into(),
            ));
        }
    };
    if ended.status_code >= 0 {
        return Ok(ended.status_code);
    }
    let said = ended.error.and_then(|error| error.message);
    Err(EngineError::Failed(said.unwrap_or_else(|| {
        "the engine ended a wait without an exit code".into()
    })))
}

/// The body of the create call for a plan, without the task's settings (see `given`).
pub(super) fn body(
    plan: &ContainerPlan,
    labels: Labels,
    options: &EngineOptions,
) -> Result<ContainerCreateBody, EngineError> {
    let shell = |parts: &[&str]| Some(parts.iter().map(|part| (*part).to_owned()).collect());
    let command = plan.spec.command.as_str();
    let (entrypoint, cmd) = if command.is_empty() {
        (None, None)
    } else {
        let arguments = stop::waiting_for_all(command).into();
        (shell(&["/bin/sh", "-c"]), Some(arguments))
    };
    Ok(ContainerCreateBody {
        image: Some(plan.image.id.clone()),
        entrypoint,
        cmd,
        // Without the first one a Python program's output comes in blocks of 4 KiB, or only at its end.
        env: Some(vec!["PYTHONUNBUFFERED=1".into(), stop::TO_THE_GROUP.into()]),
        labels: Some(labels),
        // A tty mixes the two streams into one, and this client's reader of tty streams loses bytes.
        tty: Some(false),
        open_stdin: Some(false),
        attach_stdin: Some(false),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        // A health check would run the image's own programs beside the task, against its limits.
        healthcheck: Some(HealthConfig {
            test: Some(vec!["NONE".into()]),
            ..HealthConfig::default()
        }),
        host_config: Some(host_config(plan, options)?),
        ..ContainerCreateBody::default()
    })
}

fn host_config(plan: &ContainerPlan, options: &EngineOptions) -> Result<HostConfig, EngineError> {
    let wants = &plan.spec.wants;
    let memory = wants.memory_bytes().filter(|_| plan.enforce_limits);
    let memory = memory.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
    let privileges = &options.privileges;
    Ok(HostConfig {
        // The engine's process 1 reaps zombies, and ends with the command: see `stop`.
        init: Some(plan.init),
        auto_remove: Some(false),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        nano_cpus: wants.nano_cpus().filter(|_| plan.enforce_limits),
        memory,
        // Memory and swap together: as much as the memory alone means no swap.
        memory_swap: memory,
        pids_limit: Some(options.pids_limit),
        oom_score_adj: Some(oom_score(memory)),
        ulimits: Some(ulimits(options)),
        shm_size: wants.memory_bytes().map(shared_memory),
        security_opt: (privileges.no_new).then(|| vec!["no-new-privileges".into()]),
        cap_drop: Some(privileges.dropped.clone()),
        cap_add: Some(privileges.added.clone()),
        log_config: Some(log_config(plan, options)),
        network_mode: options.network.clone(),
        device_requests: gpus(&plan.spec),
        mounts: output_mount(plan)?.map(|mount| vec![mount]),
        storage_opt: plan.layer_size.map(layer_size),
        ..HostConfig::default()
    })
}

/// The kernel's preference for killing a task where the machine runs out of memory: tasks die before engine and worker, and tasks
/// without a memory limit first.
fn oom_score(memory: Option<i64>) -> i64 {
    match memory {
        Some(_) => 300,
        None => 600,
    }
}

fn layer_size(bytes: u64) -> HashMap<String, String> {
    HashMap::from([("size".into(), bytes.to_string())])
}

fn ulimits(options: &EngineOptions) -> Vec<ResourcesUlimits> {
    options.ulimits.iter().cloned().map(given::ulimit).collect()
}

/// The size of `/dev/shm`, in bytes: half of the task's memory limit, since programs such as data loaders share data between their
/// processes there. Its content counts as the task's memory.
fn shared_memory(memory: u64) -> i64 {
    i64::try_from((memory / 2).max(SHARED_MEMORY_LEAST)).unwrap_or(i64::MAX)
}

/// The log driver: `local` where the worker can read its files, else `json-file`, which all engines know (Podman has no `local`).
/// Read through the engine, `local` lacks the ends of long lines up to Docker 20.10.
fn log_config(plan: &ContainerPlan, options: &EngineOptions) -> HostConfigLogConfig {
    let max_size = format!("{}k", log_file::size_of_one(options.log_size) >> 10);
    let mut config = HashMap::from([
        ("max-size".into(), max_size),
        ("max-file".into(), log_file::FILES.to_string()),
    ]);
    if plan.local_log {
        config.insert("compress".into(), "false".into());
    }
    let driver = if plan.local_log {
        log_file::DRIVER
    } else {
        "json-file"
    };
    HostConfigLogConfig {
        typ: Some(driver.into()),
        config: Some(config),
    }
}

fn gpus(spec: &TaskSpec) -> Option<Vec<DeviceRequest>> {
    let wanted = spec.wants.gpu;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "checked at the door: a positive amount below the machine's; saturates otherwise"
    )]
    let count = wanted.ceil() as i64;
    (wanted > 0.0).then(|| {
        vec![DeviceRequest {
            count: Some(count),
            capabilities: Some(vec![vec!["gpu".into()]]),
            ..DeviceRequest::default()
        }]
    })
}

/// The mount of the output folder. Unlike a bind by text, a missing folder is an error and not made by the engine, and a `:` in its
/// path is harmless.
fn output_mount(plan: &ContainerPlan) -> Result<Option<Mount>, EngineError> {
    let Some(folder) = &plan.output_folder else {
        return Ok(None);
    };
    let source = folder.to_str().ok_or_else(|| {
        EngineError::Invalid(format!("the path {} is no UTF-8", folder.display()))
    })?;
    Ok(Some(Mount {
        typ: Some(MountType::BIND),
        source: Some(source.to_owned()),
        target: Some(OUTPUT.into()),
        ..Mount::default()
    }))
}

#[cfg(test)]
mod tests {
    use super::{super::labels::tests::plan, *};

    fn made(plan: &ContainerPlan) -> ContainerCreateBody {
        body(plan, Labels::new(), &EngineOptions::default()).unwrap()
    }

    #[test]
    fn a_command_runs_in_a_shell_whatever_the_images_entrypoint_is() {
        let body = made(&plan());

        assert_eq!(body.entrypoint.unwrap(), ["/bin/sh", "-c"]);
        assert_eq!(body.cmd.unwrap(), stop::waiting_for_all("true"));
    }

    #[test]
    fn without_a_command_the_image_decides() {
        let mut plan = plan();
        plan.spec.command.clear();

        let body = made(&plan);

        assert_eq!((body.entrypoint, body.cmd), (None, None));
    }

    #[test]
    fn limits_are_set_only_where_they_are_enforced() {
        let mut plan = plan();
        plan.spec.wants.cpu = 0.5;
        plan.spec.wants.memory = 1.0;
        let enforced = made(&plan).host_config.unwrap();
        plan.enforce_limits = false;
        let reserved = made(&plan).host_config.unwrap();

        assert_eq!(enforced.nano_cpus, Some(500_000_000));
        assert_eq!(enforced.memory, Some(1 << 30));
        assert_eq!(enforced.memory_swap, enforced.memory);
        assert_eq!(
            (reserved.nano_cpus, reserved.memory, reserved.memory_swap),
            (None, None, None)
        );
        assert_eq!(reserved.pids_limit, Some(4_096), "never without this one");
        assert!(reserved.oom_score_adj > enforced.oom_score_adj);
        assert!(enforced.oom_score_adj > Some(0));
    }

    #[test]
    fn shared_memory_is_half_of_the_memory_and_never_less_than_the_engines_own() {
        let mut plan = plan();
        for (memory, shared) in [(0.0, None), (0.0625, Some(64 << 20)), (3.0, Some(3 << 29))] {
            plan.spec.wants.memory = memory;
            assert_eq!(
                made(&plan).host_config.unwrap().shm_size,
                shared,
                "{memory}"
            );
        }
    }

    #[test]
    fn a_layer_is_given_a_size_only_where_the_plan_has_one() {
        let mut plan = plan();
        assert_eq!(made(&plan).host_config.unwrap().storage_opt, None);

        plan.layer_size = Some(1 << 30);

        let sized = made(&plan).host_config.unwrap().storage_opt.unwrap();
        assert_eq!(sized, HashMap::from([("size".into(), "1073741824".into())]));
    }

    #[test]
    fn only_an_exit_code_is_an_exit() {
        let answer = |status_code, message: Option<&str>| {
            let error = message.map(|message| bollard::models::ContainerWaitExitError {
                message: Some(message.into()),
            });
            exit_code(Some(Ok(ContainerWaitResponse { status_code, error })))
        };
        let failed = Error::DockerContainerWaitError {
            error: String::new(),
            code: 137,
        };

        assert_eq!(answer(0, None), Ok(0));
        assert_eq!(exit_code(Some(Err(failed))), Ok(137));
        assert_eq!(
            answer(-1, Some("context canceled")),
            Err(EngineError::Failed("context canceled".into()))
        );
        assert!(matches!(answer(-1, None), Err(EngineError::Failed(_))));
        assert!(matches!(exit_code(None), Err(EngineError::Away(_))));
    }

    #[test]
    fn a_part_of_a_gpu_is_a_whole_one() {
        let mut plan = plan();
        assert_eq!(gpus(&plan.spec), None);

        plan.spec.wants.gpu = 1.5;

        assert_eq!(gpus(&plan.spec).unwrap()[0].count, Some(2));
    }

    #[test]
    fn an_output_folder_with_a_colon_is_one_path() {
        let mut plan = plan();
        plan.output_folder = Some("/state/a:/etc".into());

        let mounts = made(&plan).host_config.unwrap().mounts.unwrap();

        assert_eq!(mounts.len(), 1);
        assert_eq!(mounts[0].source.as_deref(), Some("/state/a:/etc"));
        assert_eq!(mounts[0].target.as_deref(), Some("/output"));
    }
}
