//! What the engine tells about itself and about containers, in the port's words. What is unclear is an error: it is
//! never taken for 'exited'.

use std::time::SystemTime;

use bollard::{
    models::{
        ContainerInspectResponse, ContainerState as State, ContainerStateStatusEnum as Status,
        ContainerSummary, ContainerSummaryStateEnum as Listing, SystemInfo, SystemVersion,
    },
    query_parameters::ListContainersOptions,
};
use futures_util::future::try_join;

use super::{
    DockerEngine,
    call::path_part,
    failure,
    labels::{self, read_time},
    maker::Maker,
    outputs::OUTPUT,
};
use crate::{
    domain::id::{ContainerId, ContainerName, WorkerId},
    ports::engine::{
        ContainerFacts, ContainerState, EngineError, EngineInfo, ExitFacts, Listed, SpecCodec,
    },
};

impl DockerEngine {
    pub(super) async fn read_info(&self) -> Result<EngineInfo, EngineError> {
        let docker = self.line.docker()?;
        let (info, version) = try_join(docker.info(), docker.version())
            .await
            .map_err(failure::of_call)?;
        let local = self.line.is_socket() && is_this_machine(&info).await;
        Ok(EngineInfo {
            id: lasting_id(&info, &version),
            version: info.server_version.unwrap_or_default(),
            root: info.docker_root_dir.clone().unwrap_or_default(),
            api_version: version.api_version.unwrap_or_default(),
            local,
            live_restore: info.live_restore_enabled.unwrap_or_default(),
            data_root: info.docker_root_dir.filter(|_| local).map(Into::into),
        })
    }

    pub(super) async fn inspect_container(
        &self,
        id_or_name: &str,
    ) -> Result<ContainerFacts, EngineError> {
        let found = self
            .line
            .docker()?
            .inspect_container(path_part(id_or_name)?, None)
            .await
            .map_err(failure::of_call)?;
        facts(found, self.options.maker.as_ref())
    }

    pub(super) async fn list_containers(
        &self,
        worker: &WorkerId,
    ) -> Result<Vec<Listed>, EngineError> {
        let options = ListContainersOptions {
            all: true,
            filters: Some(labels::filter_of(worker)),
            ..ListContainersOptions::default()
        };
        let found = self
            .line
            .docker()?
            .list_containers(Some(options))
            .await
            .map_err(failure::of_call)?;
        let listed = |summary| listed(summary, &*self.codec, self.options.maker.as_ref());
        Ok(found.into_iter().filter_map(listed).collect())
    }
}

/// The engine's own id. Podman (seen with 4.3.1) makes a new id up for each answer: its machine's name stands for it.
fn lasting_id(info: &SystemInfo, version: &SystemVersion) -> String {
    let mut components = version.components.iter().flatten();
    match components.any(|part| part.name == "Podman Engine") {
        true => format!("podman of {}", info.name.as_deref().unwrap_or_default()),
        false => info.id.clone().unwrap_or_default(),
    }
}

/// Whether the engine runs on this machine, with our files: a socket may lead into another machine, or this process may sit in a
/// container of its own. Then the engine's name for its machine is not our host name.
async fn is_this_machine(info: &SystemInfo) -> bool {
    let same = async |told: &Option<String>, file: &str| {
        let ours = tokio::fs::read_to_string(file).await;
        matches!((told, ours), (Some(told), Ok(ours)) if told == ours.trim())
    };
    same(&info.kernel_version, "/proc/sys/kernel/osrelease").await
        && same(&info.name, "/proc/sys/kernel/hostname").await
}

fn facts(
    found: ContainerInspectResponse,
    maker: Option<&Maker>,
) -> Result<ContainerFacts, EngineError> {
    let unclear = |what: &str| EngineError::Failed(format!("the engine does not tell {what}"));
    let told = found
        .state
        .ok_or_else(|| unclear("the container's state"))?;
    let state = state(&told).ok_or_else(|| unclear("a state that is known"))?;
    let labels = found.config.and_then(|config| config.labels);
    let terms = labels.as_ref().map(labels::terms).unwrap_or_default();
    let name = found
        .name
        .as_deref()
        .and_then(|name| name.strip_prefix('/'));
    let created = found.created.as_deref().and_then(read_time);
    let created = created.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
    let created = created.and_then(|age| i64::try_from(age.as_secs()).ok());
    let mounts = found.mounts.unwrap_or_default();
    let output_is_bound = mounts.iter().any(|mount| {
        let is_bind = mount.typ.as_deref() == Some("bind");
        is_bind && mount.destination.as_deref() == Some(OUTPUT)
    });
    Ok(ContainerFacts {
        id: ContainerId(found.id.ok_or_else(|| unclear("the container's id"))?),
        state,
        started_at: told.started_at.as_deref().and_then(read_time),
        terms,
        ours: labels.and_then(|labels| labels::owner(&labels, name, created, maker)),
        output_is_bound,
        error: told.error.unwrap_or_default(),
    })
}

fn state(told: &State) -> Option<ContainerState> {
    let started_at = told.started_at.as_deref().and_then(read_time);
    let exited = || {
        Some(ContainerState::Exited(ExitFacts {
            code: told.exit_code?,
            oom_killed: told.oom_killed.unwrap_or_default(),
            started_at,
            finished_at: told.finished_at.as_deref().and_then(read_time),
        }))
    };
    match told.status? {
        Status::CREATED if started_at.is_none() => Some(ContainerState::Created),
        Status::RUNNING | Status::PAUSED | Status::RESTARTING | Status::STOPPING => {
            Some(ContainerState::Running)
        }
        // A container that is being removed is at its end too, whether it ever ran or not.
        Status::EXITED | Status::DEAD | Status::REMOVING => exited(),
        Status::CREATED | Status::EMPTY => None,
    }
}

fn listed(
    summary: ContainerSummary,
    codec: &dyn SpecCodec,
    maker: Option<&Maker>,
) -> Option<Listed> {
    let labels = summary.labels.unwrap_or_default();
    let names = summary.names.unwrap_or_default();
    let name = names.iter().find_map(|name| name.strip_prefix('/'));
    let ours = labels::owner(&labels, name, summary.created, maker)?;
    let id = ContainerId(summary.id?);
    let record = name.and_then(|name| {
        let name = ContainerName(name.to_owned());
        labels::record(&labels, &id, &name, codec).map(Box::new)
    });
    let running = matches!(
        summary.state,
        Some(Listing::RUNNING | Listing::PAUSED | Listing::RESTARTING | Listing::STOPPING)
    );
    Some(Listed {
        id,
        ours,
        record,
        running,
    })
}

#[cfg(test)]
mod tests {
    use bollard::models::SystemVersionComponents;

    use super::*;
    use crate::engine::labels::tests::{IdCodec, plan};

    fn told(status: Status, started_at: &str) -> State {
        State {
            status: Some(status),
            exit_code: Some(137),
            oom_killed: Some(true),
            started_at: Some(started_at.into()),
            finished_at: Some("2024-01-01T00:00:02Z".into()),
            ..State::default()
        }
    }

    const NEVER: &str = "0001-01-01T00:00:00Z";
    const ONCE: &str = "2024-01-01T00:00:01Z";

    #[test]
    fn every_state_of_the_engine_is_told_or_unclear() {
        let exited = |started: &str| {
            ContainerState::Exited(ExitFacts {
                code: 137,
                oom_killed: true,
                started_at: read_time(started),
                finished_at: read_time("2024-01-01T00:00:02Z"),
            })
        };
        for (status, started, expected) in [
            (Status::CREATED, NEVER, Some(ContainerState::Created)),
            (Status::CREATED, ONCE, None),
            (Status::EMPTY, ONCE, None),
            (Status::RUNNING, ONCE, Some(ContainerState::Running)),
            (Status::PAUSED, ONCE, Some(ContainerState::Running)),
            (Status::RESTARTING, ONCE, Some(ContainerState::Running)),
            (Status::STOPPING, ONCE, Some(ContainerState::Running)),
            (Status::EXITED, ONCE, Some(exited(ONCE))),
            (Status::DEAD, ONCE, Some(exited(ONCE))),
            (Status::REMOVING, NEVER, Some(exited(NEVER))),
        ] {
            assert_eq!(state(&told(status, started)), expected, "{status:?}");
        }
        let without_code = State {
            exit_code: None,
            ..told(Status::EXITED, ONCE)
        };
        assert_eq!(state(&without_code), None, "no code is no exit");
        assert!(facts(ContainerInspectResponse::default(), None).is_err());
    }

    #[test]
    fn an_engine_that_makes_its_id_up_anew_is_known_by_its_machine() {
        let info = SystemInfo {
            id: Some("949d6a64".into()),
            name: Some("vm".into()),
            ..SystemInfo::default()
        };
        let of = |component: &str| SystemVersion {
            components: Some(vec![SystemVersionComponents {
                name: component.into(),
                ..SystemVersionComponents::default()
            }]),
            ..SystemVersion::default()
        };
        assert_eq!(lasting_id(&info, &of("Podman Engine")), "podman of vm");
        assert_eq!(lasting_id(&info, &of("Engine")), "949d6a64");
        assert_eq!(lasting_id(&info, &SystemVersion::default()), "949d6a64");
    }

    #[test]
    fn a_listing_keeps_ours_and_leaves_out_others() {
        let ours = ContainerSummary {
            id: Some("ab".into()),
            names: Some(vec!["/wn-w-1".into()]),
            labels: Some(labels::of_plan(&plan(), &IdCodec, None)),
            state: Some(Listing::PAUSED),
            ..ContainerSummary::default()
        };
        let foreign = ContainerSummary {
            labels: None,
            ..ours.clone()
        };
        let nameless = ContainerSummary {
            names: None,
            ..ours.clone()
        };

        let line = listed(ours, &IdCodec, None).unwrap();

        assert!(line.running);
        assert_eq!(line.record.unwrap().container_name, plan().name);
        assert_eq!(listed(foreign, &IdCodec, None), None);
        assert_eq!(listed(nameless, &IdCodec, None).unwrap().record, None);
    }
}
