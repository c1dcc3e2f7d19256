//! Measures how much a container has written to its own layer, to its anonymous volumes and to `/output`. Where these lie on this
//! machine and may be read, they are counted here; else the engine is asked for the layer's size, which counts holes and no inodes.

mod open;
mod walk;

use std::{
    io,
    path::{Path, PathBuf},
};

use bollard::{models::ContainerInspectResponse, query_parameters::InspectContainerOptions};

use super::{
    DockerEngine, LOOK, SIZE, call::path_part, failure, outputs::OUTPUT, usage::control_group,
};
use crate::{
    domain::{
        id::ContainerId,
        storage::{Allowance, Written},
    },
    ports::engine::EngineError,
};
use walk::{Sum, Walk};

/// The key under which the storage driver overlay2 tells the folder of a container's own layer.
const UPPER: &str = "UpperDir";

impl DockerEngine {
    pub(super) async fn read_storage(
        &self,
        container: &ContainerId,
        root: Option<&Path>,
        most: &Allowance,
    ) -> Result<Written, EngineError> {
        let found = self.inspect_storage(container, Sizes::No).await?;
        let places = Places::of(&found, root);
        // One sum goes through all places, so that the walk ends as soon as together they are over the allowance.
        let mut sum = Sum::default();
        let counted = count(places.layer.as_deref(), &mut sum, most).await;
        if !counted.map_err(uncounted)? {
            let told = self.inspect_storage(container, Sizes::Yes).await?;
            sum.bytes = u64::try_from(told.size_rw.unwrap_or(0)).unwrap_or(0);
        }
        for volume in &places.volumes {
            let counted = count(Some(volume), &mut sum, most).await;
            counted.map_err(uncounted)?;
        }
        if root.is_some() {
            sum = with_deleted(sum, container, places.own)
                .await
                .map_err(uncounted)?;
        }
        let layer = sum.bytes;
        let counted = count(places.outputs.as_deref(), &mut sum, most).await;
        counted.map_err(uncounted)?;
        Ok(Written {
            layer,
            outputs: sum.bytes - layer,
            inodes: sum.inodes(),
            counted: sum.counted,
            free: sum.free,
        })
    }

    async fn inspect_storage(
        &self,
        container: &ContainerId,
        sizes: Sizes,
    ) -> Result<ContainerInspectResponse, EngineError> {
        let (deadline, size) = match sizes {
            Sizes::No => (LOOK, false),
            Sizes::Yes => (SIZE, true),
        };
        let docker = self.line.docker()?;
        let options = Some(InspectContainerOptions { size });
        let inspect = async {
            let found = docker.inspect_container(path_part(&container.0)?, options);
            found.await.map_err(failure::of_call)
        };
        self.line
            .within(deadline, "inspect", self.of_our_own(inspect))
            .await
    }
}

/// Whether the engine is to add up the size of the container's layer, which may take it seconds.
#[derive(Clone, Copy)]
enum Sizes {
    No,
    Yes,
}

/// Where on this machine a container's files lie.
#[derive(Debug, Default, PartialEq, Eq)]
struct Places {
    layer: Option<PathBuf>,
    volumes: Vec<PathBuf>,
    outputs: Option<PathBuf>,
    /// The places of `outputs` and `volumes` within the container.
    own: Vec<String>,
}

impl Places {
    fn of(found: &ContainerInspectResponse, root: Option<&Path>) -> Self {
        let driver = found.graph_driver.as_ref();
        let layer = driver.and_then(|driver| driver.data.get(UPPER));
        let mounts = found.mounts.as_deref().unwrap_or_default();
        let outputs = mounts.iter().find(|mount| {
            let is_bind = mount.typ.as_deref() == Some("bind");
            is_bind && mount.destination.as_deref() == Some(OUTPUT)
        });
        let volumes = mounts
            .iter()
            .filter(|mount| mount.name.as_deref().is_some_and(is_anonymous));
        let own = outputs.into_iter().chain(volumes.clone());
        Self {
            own: own.filter_map(|mount| mount.destination.clone()).collect(),
            layer: layer.filter(|_| root.is_some()).map(Into::into),
            volumes: volumes
                .filter(|_| root.is_some())
                .filter_map(|mount| mount.source.as_deref().map(Into::into))
                .collect(),
            // A bound `/output` is this worker's own folder, which the engine was seen to share: it is here whatever `root` says.
            outputs: outputs.and_then(|mount| mount.source.as_deref().map(Into::into)),
        }
    }
}

/// Whether a volume is anonymous: made by the engine for this container alone, and removed with it.
fn is_anonymous(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Adds the files in a folder to `sum`. False where there is no such folder, or it may not be read.
async fn count(folder: Option<&Path>, sum: &mut Sum, most: &Allowance) -> io::Result<bool> {
    let Some(folder) = folder else {
        return Ok(false);
    };
    let walk = match Walk::into(folder) {
        Ok(walk) => walk,
        Err(error) => {
            return match error.kind() {
                io::ErrorKind::NotFound
                | io::ErrorKind::NotADirectory
                | io::ErrorKind::PermissionDenied => Ok(false),
                _ => Err(error),
            };
        }
    };
    *sum = walk::to_its_end(walk, *sum, *most).await?;
    Ok(true)
}

/// Adds the container's files that were deleted and are still open, which no walk through folders finds.
async fn with_deleted(mut sum: Sum, container: &ContainerId, own: Vec<String>) -> io::Result<Sum> {
    let id = container.0.clone();
    walk::in_turn(move || {
        let processes = control_group::processes(Path::new("/"), &id);
        open::add(&processes, &own, &mut sum);
        sum
    })
    .await
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` has it")]
fn uncounted(error: io::Error) -> EngineError {
    EngineError::Failed(format!(
        "what the task has written cannot be counted: {error}"
    ))
}

#[cfg(test)]
mod tests {
    use bollard::models::{DriverData, MountPoint};

    use super::*;

    fn mount(typ: &str, name: Option<String>, at: (&str, &str)) -> MountPoint {
        MountPoint {
            typ: Some(typ.into()),
            name,
            source: Some(at.0.into()),
            destination: Some(at.1.into()),
            ..MountPoint::default()
        }
    }

    #[test]
    fn what_goes_with_a_container_counts_and_what_it_shares_does_not() {
        let data = [(UPPER.to_owned(), "/root/diff".to_owned())];
        let found = ContainerInspectResponse {
            graph_driver: Some(DriverData {
                name: "overlay2".into(),
                data: data.into(),
            }),
            mounts: Some(vec![
                mount("volume", Some("ab".repeat(32)), ("/root/own", "/data")),
                mount("volume", Some("cache".into()), ("/root/cache", "/cache")),
                mount("bind", None, ("/sets", "/sets")),
                mount("bind", None, ("/state/outputs/x", "/output")),
            ]),
            ..ContainerInspectResponse::default()
        };

        let here = Places::of(&found, Some(Path::new("/root")));
        assert_eq!(here.own, ["/output", "/data"]);
        assert_eq!(here.layer, Some("/root/diff".into()));
        assert_eq!(here.volumes, [PathBuf::from("/root/own")]);
        assert_eq!(here.outputs, Some("/state/outputs/x".into()));

        let elsewhere = Places::of(&found, None);
        assert_eq!((elsewhere.layer, elsewhere.volumes), (None, vec![]));
        let nothing = ContainerInspectResponse::default();
        assert_eq!(
            Places::of(&nothing, Some(Path::new("/root"))),
            Places::default()
        );
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_is_nobodys_fault() {
        let most = Allowance {
            bytes: 1,
            inodes: 1,
        };
        let mut sum = Sum::default();

        let gone = count(Some(Path::new("/no/such/folder")), &mut sum, &most).await;

        assert!(!gone.unwrap());
        assert_eq!(sum.bytes, 0);
    }
}
