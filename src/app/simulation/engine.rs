//! The engine's port, over the world's containers.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use futures_util::stream::{self, StreamExt};
use tokio::sync::mpsc;

use super::{
    scene::{ABSENT, FLAKY},
    world::{Broken, Due, Shared, State, To, engine_time, pass},
};
use crate::{
    domain::{
        id::{ContainerId, WorkerId},
        log_line::Source,
        shelf::Stored,
        storage::{Allowance, Written},
        usage::Usage,
    },
    ports::{
        engine::{
            ContainerEngine, ContainerFacts, ContainerPlan, ContainerState, EngineError,
            EngineInfo, Events, Force, Frame, Frames, Image, ImageRef, Listed, RememberedEnd,
            Signal, TarStream, Trial, TrialResult,
        },
        engine_log::EngineLog,
        shelf::ImageShelf,
    },
};

/// How long the adapter waits for an answer of the engine.
const DEADLINE: Duration = Duration::from_secs(20);

/// How much later a start may take place whose caller has given up, in milliseconds: less than a worker waits for that.
const LATE: std::ops::Range<u64> = 100..9_000;

/// The port. `repeats_starts` plants a fault that the real adapter must not have.
pub(super) struct Engine {
    pub(super) world: Shared,
    pub(super) repeats_starts: bool,
}

type Answer<T> = Result<T, EngineError>;

fn away(broken: Broken) -> EngineError {
    match broken {
        Broken::Unreachable => EngineError::Away("cannot connect".into()),
        Broken::Lost => EngineError::Away("the connection broke".into()),
        Broken::Late => EngineError::Deadline("it did not answer"),
    }
}

impl Engine {
    async fn call<T>(&self, effect: impl FnOnce(&mut State) -> Answer<T>) -> Answer<T> {
        let answer = self.world.call(To::Engine, DEADLINE, effect).await;
        answer.map_err(away)?
    }

    /// What a container prints from place `seen` on, until it has ended, the engine has ended, or the connection breaks.
    fn output(&self, container: &ContainerId, (seen, run): (usize, u32), told: Told) -> Frames {
        let beginning = Some((self.world.clone(), container.clone(), seen));
        let output = stream::unfold(beginning, move |place| async move {
            let (world, container, seen) = place?;
            let more = |state: &mut State| {
                if state.docker.run != run {
                    return Some(None);
                }
                let Ok(printed) = state.docker.get(&container) else {
                    return Some(None);
                };
                let has_exited = printed.has_exited();
                match printed.output.get(seen).map(|line| frame(line, told)) {
                    Some(_) if state.meets_trouble() => Some(Some(Err(away(Broken::Lost)))),
                    Some(frame) => Some(Some(Ok(frame))),
                    None => has_exited.then_some(None),
                }
            };
            let frame = world.wait(more).await?;
            let place = frame.is_ok().then_some((world, container, seen + 1));
            Some((frame, place))
        });
        output.boxed()
    }
}

/// The source of output: an attached stream has no times, the engine's record has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Attached,
    Recorded,
}

fn frame((line, at): &(String, Duration), told: Told) -> Frame {
    Frame {
        source: Source::Stdout,
        bytes: line.clone().into(),
        time: (told == Told::Recorded).then(|| engine_time(*at)),
    }
}

#[async_trait]
impl ImageShelf for Engine {
    async fn images(&self) -> Answer<Vec<Stored>> {
        let stored = |name: &String| Stored {
            id: name.clone(),
            tags: vec![name.clone()],
            bytes: 0,
        };
        self.call(move |state| Ok(state.docker.images.iter().map(stored).collect()))
            .await
    }

    /// The scene's journal has no images, so the worker never removes one.
    async fn remove_image(&self, name_or_id: &str) -> Answer<()> {
        Err(EngineError::Conflict(format!("{name_or_id} is in use")))
    }
}

#[async_trait]
impl ContainerEngine for Engine {
    async fn info(&self) -> Answer<EngineInfo> {
        self.call(|state| {
            Ok(EngineInfo {
                id: "ENGINE".into(),
                version: "20.10.24".into(),
                api_version: "1.41".into(),
                root: "/var/lib/docker".into(),
                local: false,
                live_restore: state.docker.live_restore,
                data_root: None,
            })
        })
        .await
    }

    fn address(&self) -> String {
        "the simulated engine".into()
    }

    async fn try_out(&self, trial: &Trial) -> Answer<TrialResult> {
        let (folder, file) = (trial.folder.clone(), trial.file);
        self.call(move |state| {
            let seen = folder.and_then(|folder| state.disk.read(&folder, file));
            Ok(TrialResult {
                seen,
                ..TrialResult::default()
            })
        })
        .await
    }

    fn parse_image(&self, name: &str) -> Result<ImageRef, String> {
        match name.starts_with('!') {
            true => Err("it starts with '!'".into()),
            false => Ok(ImageRef(name.into())),
        }
    }

    async fn find_image(&self, image: &ImageRef) -> Answer<Option<Image>> {
        let id = image.0.clone();
        self.call(move |state| {
            let is_here = state.docker.images.contains(&id);
            Ok(is_here.then_some(Image {
                id,
                repo_digest: None,
            }))
        })
        .await
    }

    /// No image of a scene has a tag that may move.
    async fn registry_digest(&self, image: &ImageRef) -> Answer<String> {
        Err(EngineError::NotFound(format!("{} has no tag", image.0)))
    }

    async fn pull(
        &self,
        image: &ImageRef,
        progress: mpsc::Sender<Option<String>>,
    ) -> Answer<Image> {
        let takes = self.call(|state| Ok(state.random.u64(20..6_000))).await?;
        let _ = progress.send(Some("pulling".into())).await;
        pass(Duration::from_millis(takes)).await;
        let id = image.0.clone();
        self.call(move |state| {
            if id == ABSENT {
                return Err(EngineError::NotFound("manifest unknown".into()));
            }
            if id == FLAKY && state.random.u32(0..3) > 0 {
                return Err(EngineError::Failed("503 from the registry".into()));
            }
            state.docker.images.insert(id.clone());
            Ok(Image {
                id,
                repo_digest: None,
            })
        })
        .await
    }

    async fn create(&self, plan: &ContainerPlan) -> Answer<ContainerId> {
        let plan = plan.clone();
        self.call(move |state| state.create(plan)).await
    }

    async fn attach(&self, container: &ContainerId) -> Answer<Frames> {
        let id = container.clone();
        let look = move |state: &mut State| {
            let seen = state.docker.get(&id)?.output.len();
            Ok((seen, state.docker.run))
        };
        let from = self.call(look).await?;
        Ok(self.output(container, from, Told::Attached))
    }

    async fn open_log(&self, _: &ContainerId, _: &Path) -> Answer<Option<Box<dyn EngineLog>>> {
        Ok(None)
    }

    async fn logs(&self, container: &ContainerId, since: SystemTime) -> Answer<Frames> {
        let id = container.clone();
        let lines = self
            .call(move |state| Ok(state.docker.get(&id)?.output.clone()))
            .await?;
        let frames = lines.iter().map(|line| frame(line, Told::Recorded));
        let frames: Vec<_> = frames
            .filter(|frame| frame.time >= Some(since))
            .map(Ok)
            .collect();
        Ok(stream::iter(frames).boxed())
    }

    async fn follow(&self, container: &ContainerId, since: SystemTime) -> Answer<Frames> {
        let id = container.clone();
        let look = move |state: &mut State| {
            let output = &state.docker.get(&id)?.output;
            let before = output.iter().filter(|(_, at)| engine_time(*at) < since);
            Ok((before.count(), state.docker.run))
        };
        let from = self.call(look).await?;
        Ok(self.output(container, from, Told::Recorded))
    }

    async fn last_written(&self, container: &ContainerId) -> Answer<Option<SystemTime>> {
        let id = container.clone();
        self.call(move |state| {
            let output = &state.docker.get(&id)?.output;
            Ok(output.last().map(|(_, at)| engine_time(*at)))
        })
        .await
    }

    async fn time(&self) -> Answer<SystemTime> {
        self.call(|state| Ok(engine_time(state.now()))).await
    }

    async fn start(&self, container: &ContainerId) -> Answer<()> {
        let id = container.clone();
        let started = self.call(move |state| state.start(&id)).await;
        let is_unknown = matches!(
            started,
            Err(EngineError::Away(_) | EngineError::Deadline(_))
        );
        if is_unknown && self.repeats_starts {
            pass(Duration::from_secs(1)).await;
            let id = container.clone();
            return self.call(move |state| state.start(&id)).await;
        }
        if is_unknown {
            // If the engine lives, the request may still be on its way.
            self.world.change(|state| {
                if state.docker.is_up && state.docker.is_new(container) && state.random.bool() {
                    state.within(LATE, Due::StartsLate(container.clone()));
                }
            });
        }
        started
    }

    async fn wait(&self, container: &ContainerId) -> Answer<i64> {
        let id = container.clone();
        let run = self.call(|state| Ok(state.docker.run)).await?;
        self.world
            .wait(|state| {
                if state.docker.run != run {
                    return Some(Err(away(Broken::Lost)));
                }
                match state.docker.inspect(&id.0).map(|facts| facts.state) {
                    Err(error) => Some(Err(error)),
                    // As the real engine answers: nothing runs.
                    Ok(ContainerState::Created) => Some(Ok(0)),
                    Ok(ContainerState::Running) => None,
                    Ok(ContainerState::Exited(facts)) => Some(Ok(facts.code)),
                }
            })
            .await
    }

    async fn inspect(&self, id_or_name: &str) -> Answer<ContainerFacts> {
        self.call(|state| state.docker.inspect(id_or_name)).await
    }

    async fn was_started(&self, container: &ContainerId) -> Answer<bool> {
        self.call(|state| Ok(state.docker.was_started(container)))
            .await
    }

    async fn has_lived_since(&self, time: SystemTime) -> Answer<bool> {
        self.call(|state| Ok(engine_time(state.docker.up_since) < time))
            .await
    }

    async fn remembered_end(&self, container: &ContainerId) -> Answer<RememberedEnd> {
        self.call(|state| Ok(state.docker.remembered_end(container)))
            .await
    }

    async fn kill(&self, container: &ContainerId, signal: Signal) -> Answer<()> {
        self.call(|state| state.kill(container, signal)).await
    }

    async fn remove(&self, container: &ContainerId, force: Force) -> Answer<()> {
        self.call(|state| state.remove(container, force)).await
    }

    async fn usage(&self, _: &ContainerId) -> Answer<Option<Usage>> {
        self.call(|_| Ok(Some(Usage::default()))).await
    }

    async fn storage(
        &self,
        container: &ContainerId,
        _: Option<&Path>,
        allowance: &Allowance,
    ) -> Answer<Written> {
        let (id, most) = (container.clone(), allowance.bytes);
        self.call(move |state| {
            let now = state.now();
            Ok(Written {
                layer: match state.docker.get(&id)?.is_too_large(now) {
                    true => most + 1,
                    false => 0,
                },
                ..Written::default()
            })
        })
        .await
    }

    async fn download_output(&self, _: &ContainerId) -> Answer<TarStream> {
        self.call(|_| Err(EngineError::NotFound("no such folder".into())))
            .await
    }

    async fn list(&self, _: &WorkerId) -> Answer<Vec<Listed>> {
        self.call(|state| Ok(state.docker.list())).await
    }

    async fn events(&self, _: &WorkerId) -> Answer<Events> {
        let (run, seen) = self
            .call(|state| Ok((state.docker.run, state.docker.events.len())))
            .await?;
        let beginning = Some((self.world.clone(), seen));
        let events = stream::unfold(beginning, move |place| async move {
            let (world, seen) = place?;
            let more = |state: &mut State| {
                if state.docker.run != run {
                    return Some(Err(away(Broken::Lost)));
                }
                let event = state.docker.events.get(seen).cloned()?;
                Some(match state.meets_trouble() {
                    true => Err(away(Broken::Lost)),
                    false => Ok(event),
                })
            };
            let event = world.wait(more).await;
            let place = event.is_ok().then_some((world, seen + 1));
            Some((event, place))
        });
        Ok(events.boxed())
    }
}
