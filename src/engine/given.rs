//! Puts a task's settings, from the operator's profiles and its own wishes, into the container that the engine is asked to make.
//! Values of variables that lie in files are read here, at that moment, and go nowhere but into the container.

use std::{collections::HashMap, path::Path};

use bollard::models::{
    ContainerCreateBody, HostConfig, Mount, MountTmpfsOptions, MountType, PortBinding,
    ResourcesUlimits,
};
use tokio::{fs::File, io::AsyncReadExt as _};

use super::EngineOptions;
use crate::{
    domain::{
        privileges::Ulimit,
        profile::Given,
        task_settings::{Entrypoint, Port, Source, Variable, Volume},
    },
    ports::engine::EngineError,
};

/// The largest value of a variable that is taken from a file, in bytes; with a larger one the container is not made.
const LARGEST_VALUE: u64 = 64 << 10;

/// The task's variables, each with its value; values in files are read now.
pub(super) async fn variables(given: &Given) -> Result<Vec<(String, String)>, EngineError> {
    let mut variables = Vec::new();
    for (name, variable) in &given.settings.environment {
        let value = match variable {
            Variable::Text(text) => text.clone(),
            Variable::File(path) => read(path).await.map_err(|why| {
                let path = path.display();
                EngineError::Invalid(format!("the value of {name} in {path} {why}"))
            })?,
            Variable::Lost => {
                return Err(EngineError::Invalid(format!(
                    "the value of {name} is lost with the worker's journal; submit the task again"
                )));
            }
        };
        variables.push((name.clone(), value));
    }
    Ok(variables)
}

/// A file's text without the line break at its end. The error is the end of a sentence, and tells nothing of the text.
async fn read(path: &Path) -> Result<String, String> {
    let unread = |error: std::io::Error| format!("cannot be read: {error}");
    let facts = tokio::fs::metadata(path).await.map_err(unread)?;
    if !facts.is_file() {
        return Err("cannot be read: it is no file".into());
    }
    let file = File::open(path).await.map_err(unread)?;
    let mut bytes = Vec::new();
    let mut bounded = file.take(LARGEST_VALUE + 1);
    bounded.read_to_end(&mut bytes).await.map_err(unread)?;
    if bytes.len() as u64 > LARGEST_VALUE {
        return Err(format!("is larger than {} KiB", LARGEST_VALUE >> 10));
    }
    let text = String::from_utf8(bytes).map_err(|_| "is no UTF-8 text")?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    match text.contains('\0') {
        true => Err("holds a NUL".into()),
        false => Ok(text.to_owned()),
    }
}

/// The body of the create call with the task's settings put in; a setting wins over the worker's own value.
pub(super) fn give(
    mut body: ContainerCreateBody,
    given: &Given,
    variables: Vec<(String, String)>,
    options: &EngineOptions,
) -> ContainerCreateBody {
    let settings = &given.settings;
    body.env = Some(environment(body.env.take().unwrap_or_default(), variables));
    body.working_dir = settings.workdir.clone().or(body.working_dir);
    body.user = settings.user.clone().or(body.user);
    body.hostname = settings.hostname.clone().or(body.hostname);
    body.stop_signal = settings.stop_signal.clone().or(body.stop_signal);
    if let Some(ports) = &settings.ports {
        let exposed = ports.iter().map(exposed);
        body.exposed_ports = Some(exposed.collect());
    }
    if settings.entrypoint == Some(Entrypoint::Keep) {
        // Without an entrypoint of the body the image's own stays; the shell and its command become its arguments.
        let shell = body.entrypoint.take().unwrap_or_default();
        let command = body.cmd.take();
        body.cmd = command.map(|command| shell.into_iter().chain(command).collect());
    }
    let host = body.host_config.take().unwrap_or_default();
    body.host_config = Some(give_host(host, given, options));
    body
}

fn give_host(mut host: HostConfig, given: &Given, options: &EngineOptions) -> HostConfig {
    let settings = &given.settings;
    if let Some(volumes) = &settings.volumes {
        let ours = host.mounts.take().unwrap_or_default().into_iter();
        host.mounts = Some(ours.chain(volumes.iter().map(mount)).collect());
    }
    if let Some(ports) = &settings.ports {
        let mut bindings: HashMap<_, Vec<PortBinding>> = HashMap::new();
        for port in ports {
            let own = bindings.entry(exposed(port)).or_default();
            own.push(binding(port));
        }
        let bindings = bindings.into_iter();
        host.port_bindings = Some(bindings.map(|(port, own)| (port, Some(own))).collect());
    }
    if let Some(limits) = &settings.ulimits {
        host.ulimits = Some(ulimits(limits));
    }
    if settings.cap_add.is_some() || settings.cap_drop.is_some() {
        let add = settings.cap_add.as_deref().unwrap_or_default();
        let drop = settings.cap_drop.as_deref().unwrap_or_default();
        let privileges = options.privileges.with(add, drop);
        host.cap_add = Some(privileges.added);
        host.cap_drop = Some(privileges.dropped);
    }
    host.network_mode = settings.network.clone().or(host.network_mode);
    host.extra_hosts = settings.extra_hosts.clone().or(host.extra_hosts);
    host.shm_size = settings.shm_size.map(whole).or(host.shm_size);
    host.runtime = settings.runtime.clone().or(host.runtime);
    host.readonly_rootfs = settings.read_only_root.or(host.readonly_rootfs);
    host
}

/// The worker's variables and the given ones, each name once: the given one wins. The variable that a stop needs is never given
/// (`reading::variable_name`).
fn environment(ours: Vec<String>, given: Vec<(String, String)>) -> Vec<String> {
    let is_given = |pair: &String| {
        let name = pair.split('=').next().unwrap_or_default();
        given.iter().any(|(given, _)| given == name)
    };
    let kept: Vec<_> = ours.into_iter().filter(|pair| !is_given(pair)).collect();
    let given = given.iter().map(|(name, value)| format!("{name}={value}"));
    kept.into_iter().chain(given).collect()
}

/// The given ulimits, and one against core dumps, which would fill the engine's disk, unless `core` is given.
fn ulimits(limits: &[Ulimit]) -> Vec<ResourcesUlimits> {
    let no_core = (!limits.iter().any(|limit| limit.name == "core")).then(Ulimit::no_core);
    limits.iter().cloned().chain(no_core).map(ulimit).collect()
}

pub(super) fn ulimit(limit: Ulimit) -> ResourcesUlimits {
    ResourcesUlimits {
        name: Some(limit.name),
        soft: Some(limit.soft),
        hard: Some(limit.hard),
    }
}

fn mount(volume: &Volume) -> Mount {
    let (typ, source, most) = match &volume.source {
        Source::Named(name) => (MountType::VOLUME, Some(name.clone()), None),
        Source::Bind(path) => (MountType::BIND, Some(path.clone()), None),
        Source::Memory(most) => (MountType::TMPFS, None, Some(whole(*most))),
    };
    Mount {
        typ: Some(typ),
        source,
        target: Some(volume.target.clone()),
        read_only: volume.read_only.then_some(true),
        tmpfs_options: most.map(|most| MountTmpfsOptions {
            size_bytes: Some(most),
            ..MountTmpfsOptions::default()
        }),
        ..Mount::default()
    }
}

/// The engine's name of a task's port, such as `80/tcp`.
fn exposed(port: &Port) -> String {
    format!("{}/{}", port.task, port.protocol)
}

fn binding(port: &Port) -> PortBinding {
    PortBinding {
        host_ip: port.address.map(|address| address.to_string()),
        // Without a port the engine chooses one.
        host_port: (port.machine > 0).then(|| port.machine.to_string()),
    }
}

fn whole(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{container::body, labels::tests::plan, stop},
        *,
    };
    use crate::domain::{privileges::Capability, task_settings::TaskSettings};

    fn given(settings: TaskSettings) -> Given {
        Given {
            profile: Some("p".into()),
            settings,
            asked_binds: None,
        }
    }

    fn made(settings: TaskSettings, variables: &[(&str, &str)]) -> ContainerCreateBody {
        let options = EngineOptions::default();
        let body = body(&plan(), HashMap::new(), &options).unwrap();
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()));
        give(body, &given(settings), variables.collect(), &options)
    }

    #[test]
    fn where_nothing_is_given_nothing_changes() {
        let plain = body(&plan(), HashMap::new(), &EngineOptions::default()).unwrap();

        assert_eq!(made(TaskSettings::default(), &[]), plain);
    }

    #[test]
    fn a_variable_is_given_once_and_wins_over_ours() {
        let body = made(
            TaskSettings::default(),
            &[("PYTHONUNBUFFERED", ""), ("A", "b=c")],
        );

        assert_eq!(
            body.env.unwrap(),
            [stop::TO_THE_GROUP, "PYTHONUNBUFFERED=", "A=b=c"]
        );
    }

    #[test]
    fn an_entrypoint_that_is_kept_has_the_command_as_its_arguments() {
        let body = made(
            TaskSettings {
                entrypoint: Some(Entrypoint::Keep),
                ..TaskSettings::default()
            },
            &[],
        );

        let command = body.cmd.unwrap();
        assert_eq!(body.entrypoint, None);
        assert_eq!(command[..2], ["/bin/sh", "-c"]);
        assert_eq!(command[2..], stop::waiting_for_all("true"));
    }

    #[test]
    fn every_setting_reaches_the_engine() {
        let volume = |source, read_only| Volume {
            target: format!("/{read_only}"),
            source,
            read_only,
        };
        let body = made(
            TaskSettings {
                volumes: Some(vec![
                    volume(Source::Named("cache".into()), false),
                    volume(Source::Bind("/data".into()), true),
                    volume(Source::Memory(1 << 20), false),
                ]),
                network: Some("none".into()),
                ports: Some(vec![Port::read("127.0.0.1:8080:80").unwrap()]),
                workdir: Some("/w".into()),
                user: Some("1:2".into()),
                hostname: Some("h".into()),
                extra_hosts: Some(vec!["a:1.2.3.4".into()]),
                stop_signal: Some("SIGINT".into()),
                shm_size: Some(2 << 20),
                ulimits: Some(vec![Ulimit::read("nofile=1:2").unwrap()]),
                runtime: Some("runc".into()),
                read_only_root: Some(true),
                cap_add: Some(vec![Capability::read("NET_RAW").unwrap()]),
                cap_drop: Some(vec![Capability::read("CHOWN").unwrap()]),
                ..TaskSettings::default()
            },
            &[],
        );

        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            (body.working_dir, body.user, body.hostname, body.stop_signal),
            (text("/w"), text("1:2"), text("h"), text("SIGINT"))
        );
        assert_eq!(body.exposed_ports.unwrap(), ["80/tcp"]);
        let host = body.host_config.unwrap();
        let binding = &host.port_bindings.unwrap()["80/tcp"].clone().unwrap()[0];
        assert_eq!(binding.host_port, text("8080"));
        assert_eq!(binding.host_ip, text("127.0.0.1"));
        assert_eq!(
            (host.network_mode, host.runtime),
            (text("none"), text("runc"))
        );
        assert_eq!(host.extra_hosts.unwrap(), ["a:1.2.3.4"]);
        assert_eq!(host.shm_size, Some(2 << 20));
        assert_eq!(host.readonly_rootfs, Some(true));
        assert_eq!(host.cap_add.unwrap(), ["NET_RAW"]);
        assert_eq!(host.cap_drop.unwrap(), ["MKNOD", "CHOWN"]);
        let limits = host.ulimits.unwrap().into_iter();
        let names: Vec<_> = limits.filter_map(|limit| limit.name).collect();
        assert_eq!(names, ["nofile", "core"]);
        let mounts = host.mounts.unwrap();
        let kinds: Vec<_> = mounts.iter().filter_map(|mount| mount.typ).collect();
        assert_eq!(
            kinds,
            [MountType::VOLUME, MountType::BIND, MountType::TMPFS]
        );
        assert_eq!(mounts[1].read_only, Some(true));
        let most = mounts[2].tmpfs_options.as_ref().unwrap().size_bytes;
        assert_eq!((&mounts[2].source, most), (&None, Some(1 << 20)));
    }

    async fn value_in(bytes: &[u8]) -> Result<String, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        read(file.path()).await
    }

    #[tokio::test]
    async fn a_value_in_a_file_is_its_text_within_bounds() {
        assert_eq!(value_in(b"a\nb\r\n").await, Ok("a\nb".into()));
        assert_eq!(value_in(b"").await, Ok(String::new()));
        assert_eq!(value_in(b"a\0").await, Err("holds a NUL".into()));
        assert_eq!(value_in(b"\xff").await, Err("is no UTF-8 text".into()));
        let large = vec![b'x'; (64 << 10) + 1];
        assert_eq!(value_in(&large).await, Err("is larger than 64 KiB".into()));
        assert!(value_in(&large[1..]).await.is_ok());
        let folder = read(Path::new("/")).await;
        assert_eq!(folder, Err("cannot be read: it is no file".into()));
    }

    #[tokio::test]
    async fn a_value_that_is_lost_is_not_made_up() {
        let settings = TaskSettings {
            environment: [("TOKEN".to_owned(), Variable::Lost)].into(),
            ..TaskSettings::default()
        };

        let error = variables(&given(settings)).await.unwrap_err().to_string();

        assert!(error.starts_with("the value of TOKEN is lost"), "{error}");
    }

    #[tokio::test]
    async fn a_file_that_is_missing_is_named_with_its_variable() {
        let variable = Variable::File("/nowhere/token".into());
        let settings = TaskSettings {
            environment: [("TOKEN".to_owned(), variable)].into(),
            ..TaskSettings::default()
        };

        let error = variables(&given(settings)).await.unwrap_err().to_string();

        let begins = "the value of TOKEN in /nowhere/token cannot be read: No such file";
        assert!(error.starts_with(begins), "{error}");
    }
}
