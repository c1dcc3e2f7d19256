//! The trial of an engine: makes a container just as those of tasks are made, from an image of one empty file, which needs no
//! registry, and never starts it. A file in a bound folder is read back through the engine's archive call, the only proof that both
//! sides see the same files; and the engine's folder of that container shows whether its log files can be read here. Only a second
//! container, which is started, shows whether docker-init runs (`init`); others show whether layers are held to a size (`layer`).

mod init;
mod layer;

use std::io;

use bollard::{
    body_full,
    models::{ContainerCreateBody, SystemInfo},
    query_parameters::{
        CreateContainerOptions, CreateImageOptions, DownloadFromContainerOptions,
        RemoveContainerOptions, RemoveImageOptions,
    },
};
use futures_util::StreamExt;
use ipnet::IpNet;

use super::{
    DockerEngine, call::path_part, container, failure, labels::Labels, log_file::DRIVER,
    outputs::OUTPUT,
};
use crate::{
    domain::{
        id::{ContainerId, ContainerName, PayloadDigest, TaskId},
        profile::Given,
        spec::{TaskSpec, Wants},
    },
    ports::engine::{ContainerPlan, EngineError, Image, Trial, TrialResult},
};

/// The label of a trial's containers: the next trial removes a container that a dead worker left.
const LABEL: &str = "worker-node.trial";

/// The most bytes that are read of the trial's file.
const FILE_LIMIT: u64 = 1_024;

/// Network names that are not looked for: every engine has these, or takes them for something else.
const ALWAYS_THERE: [&str; 4] = ["default", "none", "host", "bridge"];

/// The version of docker-init that an engine tells where it has no docker-init that works.
const NO_INIT: &str = "N/A";

/// The remark where the engine has docker-init, but containers with it end at once.
const INIT_FAILS: &str = "the engine's docker-init does not run in containers (they lack the loader or the shell that it needs, or it is damaged)";

/// The advice where the engine's disk is full.
const MAKE_ROOM: &str = "remove images and containers there, such as by `docker system prune`";

/// Limits for the trial: small, and above every engine's least.
const SOME_MEMORY_GIB: f64 = 0.0625;
const SOME_CPU: f64 = 0.1;

impl DockerEngine {
    pub(super) async fn run_trial(&self, trial: &Trial) -> Result<TrialResult, EngineError> {
        let info = self.line.docker()?.info().await.map_err(failure::of_call)?;
        let told = TrialResult {
            networks: self.task_networks().await,
            ..told(&info, trial.enforce_limits)
        };
        if let Some(lack) = self.missing_network().await? {
            return Ok(TrialResult {
                lack: Some(lack),
                ..told
            });
        }
        let image = match self.import_probe().await {
            Ok(image) => image,
            Err(EngineError::Failed(why)) if failure::is_out_of_room(&why) => {
                let why = format!("{why}; {MAKE_ROOM}");
                return Ok(TrialResult {
                    lack: Some(no_containers(&why)),
                    ..told
                });
            }
            Err(error) => return Err(error),
        };
        let tried = self.try_containers(trial, &image, told).await;
        let tried = match tried {
            Ok(tried) if trial.enforce_limits && tried.lack.is_none() => {
                let sizes_layers = self.sizes_layers(trial, &image).await;
                sizes_layers.map(|sizes_layers| TrialResult {
                    sizes_layers,
                    ..tried
                })
            }
            tried => tried,
        };
        // The image goes before an error of the trial is returned, so that a failed trial leaves none behind.
        self.remove_probe(&image).await?;
        tried
    }

    async fn remove_probe(&self, image: &str) -> Result<(), EngineError> {
        let options = RemoveImageOptions {
            force: true,
            ..RemoveImageOptions::default()
        };
        let docker = self.line.docker()?;
        // An image that stays has no name, so the engine's own pruning removes it.
        let _ = docker.remove_image(image, Some(options), None).await;
        Ok(())
    }

    /// The complaint if the engine lacks the network of `--network`. The engine itself looks for it only when a container starts,
    /// so that every task would fail.
    pub(super) async fn missing_network(&self) -> Result<Option<String>, EngineError> {
        let named = self.options.network.as_deref();
        let Some(network) =
            named.filter(|name| !name.contains(':') && !ALWAYS_THERE.contains(name))
        else {
            return Ok(None);
        };
        let docker = self.line.docker()?;
        let found = docker.inspect_network(path_part(network)?, None).await;
        match found.map_err(failure::of_call) {
            Err(EngineError::NotFound(_)) => Ok(Some(format!(
                "the engine has no network {network} (--network); make it with `docker network create {network}`, or give one \
                 that `docker network ls` shows"
            ))),
            // An engine that refuses to show its networks has its say about this one at the first task.
            Ok(_) | Err(EngineError::Failed(_) | EngineError::Invalid(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The networks that tasks call this worker from; `None`: the engine does not tell. Empty with an engine that is reached over
    /// the network, or with tasks in the machine's own network, where tasks cannot be told from other callers.
    async fn task_networks(&self) -> Option<Vec<IpNet>> {
        let network = match self.options.network.as_deref() {
            None | Some("default") => "bridge",
            Some(network) => network,
        };
        if !self.line.is_socket() || matches!(network, "none" | "host") || network.contains(':') {
            return Some(Vec::new());
        }
        let found = self.line.docker().ok()?;
        let found = found.inspect_network(path_part(network).ok()?, None);
        let pools = found.await.ok()?.ipam?.config?;
        let subnets = pools.iter().filter_map(|pool| pool.subnet.as_deref());
        Some(subnets.filter_map(|subnet| subnet.parse().ok()).collect())
    }

    /// Imports an image of one empty file, and returns its id.
    async fn import_probe(&self) -> Result<String, EngineError> {
        let archive = one_file().map_err(|error| EngineError::Failed(error.to_string()))?;
        self.import(archive).await
    }

    async fn import(&self, archive: Vec<u8>) -> Result<String, EngineError> {
        let options = CreateImageOptions {
            from_src: Some("-".into()),
            ..CreateImageOptions::default()
        };
        let docker = self.line.docker()?;
        let mut items = docker.create_image(Some(options), Some(body_full(archive.into())), None);
        let mut id = None;
        while let Some(item) = items.next().await {
            let status = item.map_err(failure::of_call)?.status.unwrap_or_default();
            id = status.starts_with("sha256:").then_some(status).or(id);
        }
        id.ok_or_else(|| EngineError::Failed("it does not tell the id of what it imports".into()))
    }

    async fn try_containers(
        &self,
        trial: &Trial,
        image: &str,
        told: TrialResult,
    ) -> Result<TrialResult, EngineError> {
        let plan = ContainerPlan {
            init: told.has_init,
            local_log: told.reads_log_files,
            ..plan(trial, image)?
        };
        // Both containers at once: the one that is started may take seconds, and offers wait for the trial.
        let runs_init = async {
            match told.has_init {
                true => self.runs_init(&plan).await,
                false => Ok(true),
            }
        };
        let bound = self.try_container(&plan, trial.file);
        let (bound, runs_init) = tokio::join!(bound, runs_init);
        let told = match runs_init? {
            true => told,
            false => without_init(told, INIT_FAILS),
        };
        let tried = self.judged(trial, &plan, bound, told.clone()).await?;
        let Some(why) = tried.lack.as_ref().filter(|_| plan.init) else {
            return Ok(tried);
        };
        // The same container without docker-init shows whether docker-init is to blame, or no container can be made at all.
        let told = match told.has_init {
            true => without_init(
                told,
                &format!("no container can be made with the engine's own process 1 ({why})"),
            ),
            false => told,
        };
        let bare = ContainerPlan {
            init: false,
            ..plan
        };
        let bound = self.try_container(&bare, trial.file).await;
        let without = self.judged(trial, &bare, bound, told).await?;
        Ok(match without.lack {
            None => without,
            Some(_) => tried,
        })
    }

    /// The result from a container of this plan; where that failed, from the same container without the bound folder.
    async fn judged(
        &self,
        trial: &Trial,
        plan: &ContainerPlan,
        bound: Result<Shown, EngineError>,
        told: TrialResult,
    ) -> Result<TrialResult, EngineError> {
        let without = ContainerPlan {
            output_folder: None,
            ..plan.clone()
        };
        match bound {
            Ok(shown) => Ok(shown.beside(told)),
            Err(error @ (EngineError::Away(_) | EngineError::Deadline(_))) => Err(error),
            // The same container without the folder shows whether the folder is to blame, or no container can be made at all.
            Err(error) => match self.try_container(&without, trial.file).await {
                Ok(shown) if trial.folder.is_some() => Ok(shown.beside(told)),
                Ok(_) => Err(error),
                Err(error @ (EngineError::Away(_) | EngineError::Deadline(_))) => Err(error),
                Err(error) => Ok(TrialResult {
                    lack: Some(no_containers(&error.to_string())),
                    ..told
                }),
            },
        }
    }

    /// Makes a container, reads a file in it where a folder is bound, and removes it.
    async fn try_container(&self, plan: &ContainerPlan, file: &str) -> Result<Shown, EngineError> {
        let never_started = |body| ContainerCreateBody {
            cmd: Some(vec!["never started".into()]),
            ..body
        };
        let id = self.make(plan, never_started).await?;
        let shown = self.look_into(plan, &id, file).await;
        self.remove_by_force(&id.0).await?;
        shown
    }

    /// Makes a container as a task has it, changed by `change` and with the trial's label.
    async fn make(
        &self,
        plan: &ContainerPlan,
        change: impl FnOnce(ContainerCreateBody) -> ContainerCreateBody,
    ) -> Result<ContainerId, EngineError> {
        let labels = Labels::from([(LABEL.to_owned(), plan.worker.to_string())]);
        let body = change(container::body(plan, labels, &self.options)?);
        let docker = self.line.docker()?;
        let options = CreateContainerOptions {
            name: Some(path_part(&plan.name.0)?.to_owned()),
            ..CreateContainerOptions::default()
        };
        self.remove_leftover(&plan.name.0).await?;
        let made = docker.create_container(Some(options), body).await;
        Ok(ContainerId(made.map_err(failure::of_call)?.id))
    }

    async fn look_into(
        &self,
        plan: &ContainerPlan,
        container: &ContainerId,
        file: &str,
    ) -> Result<Shown, EngineError> {
        let seen = match plan.output_folder {
            Some(_) => self.read_file(&container.0, file).await?,
            None => None,
        };
        let reads_log_files = plan.local_log && self.can_read_log(container).await?;
        Ok(Shown {
            seen,
            reads_log_files,
        })
    }

    async fn can_read_log(&self, container: &ContainerId) -> Result<bool, EngineError> {
        match self.read_info().await?.data_root {
            Some(root) => Ok(self.open_log_file(container, &root).await?.is_some()),
            None => Ok(false),
        }
    }

    /// Removes the container of that name, if a worker that died in a trial left it.
    async fn remove_leftover(&self, name: &str) -> Result<(), EngineError> {
        let docker = self.line.docker()?;
        let found = match docker.inspect_container(name, None).await {
            Ok(found) => found,
            Err(error) => match failure::of_call(error) {
                EngineError::NotFound(_) => return Ok(()),
                error => return Err(error),
            },
        };
        let labels = found.config.and_then(|config| config.labels);
        match found.id {
            Some(id) if labels.is_some_and(|labels| labels.contains_key(LABEL)) => {
                self.remove_by_force(&id).await
            }
            _ => Ok(()),
        }
    }

    async fn remove_by_force(&self, id: &str) -> Result<(), EngineError> {
        let options = RemoveContainerOptions {
            v: true,
            force: true,
            link: false,
        };
        let docker = self.line.docker()?;
        let removed = docker.remove_container(id, Some(options)).await;
        match removed.map_err(failure::of_call) {
            Err(EngineError::NotFound(_) | EngineError::Conflict(_)) => Ok(()),
            other => other,
        }
    }

    /// The content of a file below a container's `/output` as the engine sees it; `None`: the engine sees no such file.
    async fn read_file(&self, id: &str, file: &str) -> Result<Option<Vec<u8>>, EngineError> {
        let options = DownloadFromContainerOptions {
            path: format!("{OUTPUT}/{file}"),
        };
        let docker = self.line.docker()?;
        let mut pieces = docker.download_from_container(id, Some(options));
        let mut archive = Vec::new();
        while let Some(piece) = pieces.next().await {
            match piece.map_err(failure::of_call) {
                Ok(piece) if archive.len() as u64 <= 8 * FILE_LIMIT => archive.extend(&piece),
                Ok(_) => {}
                Err(EngineError::NotFound(_)) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(first_file(&archive))
    }
}

/// The findings from one container of a trial.
struct Shown {
    seen: Option<Vec<u8>>,
    reads_log_files: bool,
}

impl Shown {
    /// Adds the findings to the result from the engine's own `info`.
    fn beside(self, mut told: TrialResult) -> TrialResult {
        if !self.reads_log_files {
            told.remarks.push(
                "the engine's log files cannot be read here: output that breaks off is read on through the engine"
                    .into(),
            );
        }
        TrialResult {
            seen: self.seen,
            reads_log_files: self.reads_log_files,
            ..told
        }
    }
}

/// The result as far as the engine's own `info` tells it.
pub(super) fn told(info: &SystemInfo, enforce_limits: bool) -> TrialResult {
    let init = info
        .init_commit
        .as_ref()
        .and_then(|commit| commit.id.as_deref());
    let mut remarks = Vec::new();
    if enforce_limits && info.memory_limit == Some(false) {
        remarks.push(
            "the engine cannot limit the memory of containers (see `docker info`): tasks run without that limit"
                .into(),
        );
    }
    let drivers = info.plugins.as_ref();
    let drivers = drivers.and_then(|plugins| plugins.log.as_ref());
    let reads_log_files = drivers.is_some_and(|drivers| drivers.iter().any(|name| name == DRIVER));
    let lack = (enforce_limits && info.cpu_cfs_quota == Some(false)).then(|| {
        "the engine cannot limit the CPU use of containers (see `docker info`); give --limits reserve to run without limits"
            .to_owned()
    });
    let told = TrialResult {
        seen: None,
        has_init: true,
        reads_log_files,
        sizes_layers: false,
        networks: None,
        lack,
        remarks,
    };
    match init {
        Some(NO_INIT) => without_init(told, "the engine has no docker-init"),
        Some(_) | None => told,
    }
}

fn without_init(mut told: TrialResult, why: &str) -> TrialResult {
    let remark = format!("{why}: the tasks' own shells are process 1 of their containers");
    told.remarks.push(remark);
    TrialResult {
        has_init: false,
        ..told
    }
}

fn no_containers(why: &str) -> String {
    format!("the engine can make no containers for this worker: {why}")
}

fn plan(trial: &Trial, image: &str) -> Result<ContainerPlan, EngineError> {
    let invalid = |error: String| EngineError::Invalid(error);
    let wants = Wants {
        cpu: SOME_CPU,
        memory: SOME_MEMORY_GIB,
        ..Wants::default()
    };
    Ok(ContainerPlan {
        name: ContainerName(format!("wn-{}-trial", trial.worker)),
        worker: trial.worker.clone(),
        spec: TaskSpec {
            id: TaskId::new("trial").map_err(|error| invalid(error.to_string()))?,
            image: image.to_owned(),
            command: String::new(),
            wants,
            user_id: String::new(),
            task_name: String::new(),
            task_type: String::new(),
            sla_multiplier: 0.0,
            submitted_at: 0,
            asked: None,
        },
        digest: PayloadDigest([0; 32]),
        attempt: 1,
        created: std::time::SystemTime::UNIX_EPOCH,
        image: Image {
            id: image.to_owned(),
            repo_digest: None,
        },
        given: Given::default(),
        output_folder: trial.folder.clone(),
        enforce_limits: trial.enforce_limits,
        init: false,
        local_log: false,
        layer_size: None,
    })
}

fn one_file() -> io::Result<Vec<u8>> {
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o444);
    header.set_size(0);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, "worker-node-trial", io::empty())?;
    archive.into_inner()
}

fn first_file(archive: &[u8]) -> Option<Vec<u8>> {
    let mut archive = tar::Archive::new(archive);
    let entry = archive.entries().ok()?.next()?.ok()?;
    let mut content = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(entry, FILE_LIMIT), &mut content).ok()?;
    Some(content)
}
