//! `worker-node doctor`: examines, part by part, whether a worker with this configuration can work here, before one runs and
//! while it does. Where the start checks the same thing, its own function is used. Nothing is changed: no folder or container is
//! made, and the master gets only a call that it does not know.

mod port;
mod state;

use std::{path::Path, sync::Arc, time::Duration};

use rustix::process::{Resource, geteuid, getrlimit};
use tokio::{runtime::Builder, time::timeout};

use super::build;
use crate::{
    actors::janitor,
    config::{Config, Launch, Limits},
    engine::{DockerEngine, EngineOptions, Examined},
    grpc::{admin::RemoteAdmin, client::GrpcMaster, convert::TaskMessageCodec, keys::Keys},
    ports::{
        admin::Admin,
        clock::{Clock, SystemClock},
        doctor::Finding,
        engine::EngineError,
        master::{MasterAddress, MasterError},
        status::WorkerStatus,
    },
    telemetry::machine::{MachineSampler, Room},
};

use self::{port::Port, state::StateFolder};

/// How long the engine may take to answer; a slower one is told as a fault.
const ENGINE: Duration = Duration::from_secs(10);

/// With a lower limit of open files than this, some hundred tasks are too many.
const FEW_FILES: u64 = 4_096;

/// Examines all parts; each has at least one finding.
#[must_use]
pub fn diagnose(launch: &Launch) -> Vec<Finding> {
    match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(examine(launch)),
        Err(error) => vec![Finding::fault(
            "process",
            format!("this process cannot begin: {error}"),
        )],
    }
}

async fn examine(launch: &Launch) -> Vec<Finding> {
    let config = &launch.config;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let folder = StateFolder::look(config);
    // Only a running worker can tell whether the master has registered it.
    let status = match folder.holder {
        Some(_) => RemoteAdmin::of(config.state.folder.as_path())
            .status()
            .await
            .ok(),
        None => None,
    };
    let keys = build::keys(config, &clock);
    let mut findings = vec![configuration(launch)];
    findings.extend(
        config
            .warnings()
            .into_iter()
            .map(|warning| Finding::warning("configuration", warning)),
    );
    findings.push(rights());
    findings.extend(folder.findings.clone());
    findings.push(worker(&folder, status.as_ref()));
    findings.extend(engine(config, folder.engine.as_deref()).await);
    findings.extend(certificates(&keys));
    findings.extend(match keys {
        Ok(keys) => master(config, &folder, keys, status.as_ref()).await,
        Err(_) => vec![Finding::skipped(
            "master",
            "it is called with the certificates and the token, which cannot be used",
        )],
    });
    findings.extend(ports(config, folder.holder.flatten()).await);
    findings.push(Finding::skipped(
        "clock",
        "the master's answers carry no time to compare it with; `timedatectl` says whether it is set by the network",
    ));
    findings.push(disk(config));
    findings.extend(reserve(config));
    findings.push(files());
    findings
}

fn configuration(launch: &Launch) -> Finding {
    let (set, all) = (launch.settings.set(), launch.settings.all.len());
    let file = launch.settings.file.as_deref().map(Path::display);
    let by = match file {
        Some(file) => format!("{file}, flags and variables"),
        None => "flags and variables".to_owned(),
    };
    let why = format!("sound; {set} of {all} keys are set by {by}");
    Finding::fine("configuration", why)
}

/// The port for the master's calls, and the HTTP door's port with `--http`.
async fn ports(config: &Config, worker: Option<u32>) -> Vec<Finding> {
    let [master, http] = [("port", "-port"), ("http", "--http")];
    let port = |(part, flag)| Port { part, flag };
    let mut findings = vec![port::finding(port(master), &config.cluster.listen, worker).await];
    if let Some(address) = &config.cluster.http {
        findings.push(port::finding(port(http), address, worker).await);
    }
    findings
}

fn rights() -> Finding {
    match geteuid() {
        root if root.is_root() => Finding::fine("rights", "runs as root"),
        user => Finding::fine(
            "rights",
            format!(
                "runs as user {}, whom the engine's socket must let in; the engine's own files are root's",
                user.as_raw()
            ),
        ),
    }
}

/// Whether a worker runs on this state folder, and whether it answers.
fn worker(folder: &StateFolder, status: Option<&WorkerStatus>) -> Finding {
    match (folder.holder, status) {
        (None, _) => Finding::fine("worker", "none runs on this state folder"),
        (Some(_), Some(status)) => Finding::fine(
            "worker",
            format!(
                "{} {} runs (process {}); `worker-node status` says how it is",
                status.worker, status.version, status.process
            ),
        ),
        (Some(_), None) => Finding::warning(
            "worker",
            "one runs on this state folder, and does not answer",
        )
        .remedy("look at its log, and at `worker-node events`"),
    }
}

async fn engine(config: &Config, owned: Option<&str>) -> Vec<Finding> {
    let address = &config.tasks.engine;
    if let Some(refusal) = build::engine_refusal(config).await {
        return vec![Finding::fault("engine", refusal)];
    }
    let examined = match timeout(ENGINE, ask_engine(config)).await {
        Ok(Ok(examined)) => examined,
        Ok(Err(error)) => {
            return vec![
                Finding::fault("engine", format!("{address}: {error}"))
                    .remedy("start it (systemctl start docker), or say where it is with --engine"),
            ];
        }
        Err(_) => {
            return vec![
                Finding::fault(
                    "engine",
                    format!("{address} does not answer within {ENGINE:?}"),
                )
                .remedy("look at its log (journalctl -u docker)"),
            ];
        }
    };
    let mut findings = vec![of_engine(config, &examined)];
    findings.extend(
        examined
            .remarks
            .iter()
            .map(|remark| Finding::warning("engine", remark)),
    );
    findings.extend(another_engine(&examined, owned));
    findings.push(live_restore(&examined));
    findings.push(log_files(&examined));
    findings.extend(engines_disk(config, &examined));
    findings
}

async fn ask_engine(config: &Config) -> Result<Examined, EngineError> {
    let address = config.tasks.engine.to_string();
    let address = address
        .parse()
        .map_err(|error| EngineError::Invalid(format!("{error}")))?;
    let options = EngineOptions {
        network: config.tasks.network.clone(),
        ..EngineOptions::default()
    };
    let engine = DockerEngine::connect(&address, Arc::new(TaskMessageCodec), options);
    engine.examine(config.tasks.limits == Limits::Enforce).await
}

fn of_engine(config: &Config, examined: &Examined) -> Finding {
    if let Some(lack) = &examined.lack {
        return Finding::fault("engine", lack);
    }
    let (info, address) = (&examined.info, &config.tasks.engine);
    Finding::fine(
        "engine",
        format!(
            "{address} answers: version {} (API {}), control groups v{}, storage {}",
            info.version, info.api_version, examined.control_groups, examined.storage
        ),
    )
}

fn another_engine(examined: &Examined, owned: Option<&str>) -> Option<Finding> {
    let (owned, found) = (owned?, examined.info.place()?);
    (owned != found).then(|| {
        Finding::warning(
            "engine",
            format!("the containers of this state folder are on the engine {owned}, and this one is {found}"),
        )
        .remedy("give the --engine of the first; while tasks have not ended there, a start on another one is refused")
    })
}

fn live_restore(examined: &Examined) -> Finding {
    match examined.info.live_restore {
        true => Finding::fine(
            "live-restore",
            "on: tasks run on while the engine is restarted",
        ),
        false => Finding::warning(
            "live-restore",
            "off: tasks end when the engine is stopped or upgraded",
        )
        .remedy("set \"live-restore\": true in /etc/docker/daemon.json, and reload the engine"),
    }
}

/// Whether the engine's log files look readable. A start proves it with a container, which is not made here.
fn log_files(examined: &Examined) -> Finding {
    let readable = examined.info.data_root.as_ref().map(|root| {
        let containers = root.join("containers");
        std::fs::read_dir(&containers).map_err(|error| (containers, error))
    });
    let otherwise = "output that breaks off is read on through the engine";
    match readable {
        Some(Ok(_)) => Finding::fine(
            "log files",
            "the engine's can be read: no output is lost while no worker runs",
        ),
        Some(Err((containers, error))) => Finding::warning(
            "log files",
            format!(
                "{} cannot be read: {error}; {otherwise}",
                containers.display()
            ),
        )
        .remedy("run the worker as root"),
        None => Finding::warning(
            "log files",
            format!("the engine's are not on this machine, or are not seen from here; {otherwise}"),
        ),
    }
}

fn certificates(keys: &Result<Keys, crate::grpc::keys::KeyError>) -> Option<Finding> {
    let keys = match keys {
        Ok(keys) => keys,
        Err(error) => return Some(Finding::fault("certificates", error.to_string())),
    };
    let (level, words) = keys.certificate_remains()?;
    Some(match level {
        log::Level::Error => Finding::fault("certificates", words),
        log::Level::Warn => Finding::warning("certificates", words),
        _ => Finding::fine("certificates", words),
    })
}

async fn master(
    config: &Config,
    folder: &StateFolder,
    keys: Keys,
    status: Option<&WorkerStatus>,
) -> Vec<Finding> {
    let address = folder.master(config);
    let knocked = GrpcMaster::with_keys(Arc::new(keys)).knock(&address).await;
    let mut findings = vec![answers(&address, &knocked)];
    if knocked.is_ok() {
        findings.push(registered(config, &address, status));
    }
    findings
}

fn answers(address: &MasterAddress, knocked: &Result<(), MasterError>) -> Finding {
    match knocked {
        Ok(()) => Finding::fine("master", format!("{address} answers by gRPC")),
        Err(error @ MasterError::Unreachable(_)) => Finding::fault("master", error.to_string()).remedy(
            "see that it runs, that its name and port are right (--master), and that no firewall stands between",
        ),
        Err(error) => Finding::fault("master", format!("{address}: {error}"))
            .remedy("see that --master names the master's gRPC port, and what it wants of callers (--master-tls, --token-file)"),
    }
}

/// Whether the master has registered the worker, as a running worker tells: only a registration can show it, and doctor makes
/// none.
fn registered(config: &Config, address: &MasterAddress, status: Option<&WorkerStatus>) -> Finding {
    let worker = &config.cluster.worker;
    let reach = match config.cluster.listen.port {
        0 => format!(
            "{}:PORT (the worker's log has it)",
            config.cluster.reach.host
        ),
        port => config.advertised(port),
    };
    let type_this = format!("its administrator must type: register {worker} {reach}");
    match status.map(|status| &status.master) {
        Some(master) if master.registered_for.is_some() => {
            Finding::fine("registered", format!("by the master at {}", master.address))
        }
        Some(master) => {
            let why = master
                .failure
                .clone()
                .unwrap_or_else(|| "it has not answered yet".into());
            Finding::fault(
                "registered",
                format!("not by the master at {}: {why}", master.address),
            )
            .remedy(type_this)
        }
        None => Finding::skipped(
            "registered",
            format!(
                "whether the master at {address} knows {worker} shows when the worker runs; where it does not, {type_this}"
            ),
        ),
    }
}

fn disk(config: &Config) -> Finding {
    let (folder, low) = (&config.state.folder, config.state.disk_low);
    let room = match Room::of(&state::nearest(folder)) {
        Ok(room) => room,
        Err(error) => {
            let why = format!("{} does not tell its room: {error}", folder.display());
            return Finding::warning("disk", why);
        }
    };
    match janitor::no_room(room, low) {
        Some(why) => Finding::fault("disk", why)
            .remedy("remove files from the state folder's disk; new tasks are refused until then"),
        None => Finding::fine("disk", free(room, folder, low)),
    }
}

/// The disk that holds the engine's data, where that lies on this machine.
fn engines_disk(config: &Config, examined: &Examined) -> Option<Finding> {
    let (root, low) = (examined.info.data_root.as_ref()?, config.state.disk_low);
    let room = Room::of(root).ok()?;
    Some(match janitor::no_room_of_engine(room, root, low) {
        Some(why) => Finding::fault("engine's disk", why),
        None => Finding::fine("engine's disk", free(room, root, low)),
    })
}

fn free(room: Room, folder: &Path, low: u64) -> String {
    let (free, low) = (room.bytes >> 20, low >> 20);
    format!(
        "{free} MiB are free for {}, {low} MiB are needed (--disk-low)",
        folder.display()
    )
}

/// Only where one is set, and leaves nothing.
fn reserve(config: &Config) -> Option<Finding> {
    let sampler = MachineSampler::new(&state::nearest(&config.state.folder)).ok()?;
    let left = sampler.totals().ok()?.less(&config.tasks.reserve);
    let why = left.err()?;
    Some(Finding::fault("reserve", why.to_string()))
}

fn files() -> Finding {
    let most = getrlimit(Resource::Nofile).maximum;
    match most {
        Some(most) if most < FEW_FILES => Finding::warning(
            "nofile",
            format!("this user may open {most} files at once, too few for some hundred tasks"),
        )
        .remedy("LimitNOFILE=65536 in the unit, or ulimit -Hn"),
        Some(most) => Finding::fine("nofile", format!("{most} files at once")),
        None => Finding::fine("nofile", "any number of files at once"),
    }
}
