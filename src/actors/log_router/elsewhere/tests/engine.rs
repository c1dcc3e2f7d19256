//! A fake engine that keeps a record of one container's output, and can do nothing else.

use std::{
    collections::VecDeque,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{
    StreamExt, future,
    stream::{iter, once, pending},
};
use tokio::{sync::mpsc, time::timeout};

use crate::{
    domain::{
        id::{ContainerId, WorkerId},
        log_line::Source,
        shelf::Stored,
        storage::{Allowance, Written},
        task_settings::Terms,
        usage::Usage,
    },
    ports::{
        clock::Clock,
        engine::{
            ContainerEngine, ContainerFacts, ContainerPlan, ContainerState, EngineError,
            EngineInfo, Events, ExitFacts, Force, Frame, Frames, Image, ImageRef, Listed,
            RememberedEnd, Signal, TarStream, Trial, TrialResult,
        },
        engine_log::EngineLog,
        shelf::ImageShelf,
    },
};

/// What happens to an answer after this many entries.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cut {
    /// The connection breaks.
    Breaks(usize),
    /// No more comes, and the connection stays open.
    Hangs(usize),
    /// The engine fails to read on.
    Fails(usize),
    /// The answer ends, as if that were all.
    Ends(usize),
    /// The first entry comes after this many seconds.
    Waits(u64),
}

/// A machine with an engine, and one container on it.
#[derive(Default)]
pub(super) struct World {
    /// The time, by the clock of the worker's machine.
    pub(super) millis: u64,
    /// How much the engine's clock is ahead, in milliseconds.
    pub(super) ahead: u64,
    /// The record, with the engine's times.
    pub(super) record: Vec<(Source, Bytes, u64)>,
    pub(super) runs: bool,
    /// When the engine last died since the container's start.
    pub(super) died: Option<u64>,
    /// Whether the engine has forgotten the container's start, since too much has happened.
    pub(super) forgot_start: bool,
    /// What happens to the next answers.
    pub(super) cuts: VecDeque<Cut>,
    /// What is printed while the record is followed; then the container ends.
    pub(super) later: Vec<(Source, Bytes)>,
    /// How often the record was asked for.
    pub(super) asked: usize,
}

impl World {
    pub(super) fn write(&mut self, source: Source, bytes: Bytes) {
        self.millis += 1;
        self.record.push((source, bytes, self.millis + self.ahead));
    }
}

fn time(millis: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(millis)
}

#[derive(Clone, Default)]
pub(super) struct Scripted(pub(super) Arc<Mutex<World>>);

impl Clock for Scripted {
    fn now(&self) -> SystemTime {
        time(self.0.lock().unwrap().millis)
    }
}

impl Scripted {
    fn told(&self, since: SystemTime) -> Frames {
        let mut world = self.0.lock().unwrap();
        world.asked += 1;
        let frames: Vec<_> = world
            .record
            .iter()
            .map(|(source, bytes, millis)| Frame {
                source: *source,
                bytes: bytes.clone(),
                time: Some(time(*millis)),
            })
            .filter(|frame| frame.time >= Some(since))
            .map(Ok)
            .collect();
        let first = |count| iter(frames.clone()).take(count);
        let error = |error: EngineError| iter([Err(error)]);
        match world.cuts.pop_front() {
            None => Box::pin(iter(frames)),
            Some(Cut::Ends(count)) => Box::pin(first(count)),
            Some(Cut::Waits(seconds)) => {
                let wait = once(timeout(
                    Duration::from_secs(seconds),
                    future::pending::<()>(),
                ));
                Box::pin(wait.flat_map(move |_| iter(frames.clone())))
            }
            Some(Cut::Hangs(count)) => Box::pin(first(count).chain(pending())),
            Some(Cut::Breaks(count)) => {
                Box::pin(first(count).chain(error(EngineError::Away("it broke".into()))))
            }
            Some(Cut::Fails(count)) => {
                let failed = EngineError::Failed("invalid character".into());
                Box::pin(first(count).chain(error(failed)))
            }
        }
    }
}

type Answer<T> = Result<T, EngineError>;

fn never<T>() -> Answer<T> {
    Err(EngineError::Invalid("a reader asks for this".into()))
}

#[async_trait]
impl ImageShelf for Scripted {
    async fn images(&self) -> Answer<Vec<Stored>> {
        never()
    }
    async fn remove_image(&self, _: &str) -> Answer<()> {
        never()
    }
}

#[async_trait]
impl ContainerEngine for Scripted {
    async fn logs(&self, _: &ContainerId, since: SystemTime) -> Answer<Frames> {
        Ok(self.told(since))
    }
    async fn follow(&self, _: &ContainerId, since: SystemTime) -> Answer<Frames> {
        {
            let mut world = self.0.lock().unwrap();
            for (source, bytes) in std::mem::take(&mut world.later) {
                world.write(source, bytes);
            }
            world.runs = false;
        }
        Ok(self.told(since))
    }
    async fn last_written(&self, _: &ContainerId) -> Answer<Option<SystemTime>> {
        let world = self.0.lock().unwrap();
        Ok(world.record.last().map(|(.., millis)| time(*millis)))
    }
    async fn time(&self) -> Answer<SystemTime> {
        let world = self.0.lock().unwrap();
        Ok(time(world.millis + world.ahead))
    }
    async fn inspect(&self, _: &str) -> Answer<ContainerFacts> {
        Ok(ContainerFacts {
            id: ContainerId("c".into()),
            state: if self.0.lock().unwrap().runs {
                ContainerState::Running
            } else {
                ContainerState::Exited(ExitFacts {
                    code: 0,
                    oom_killed: false,
                    started_at: None,
                    finished_at: None,
                })
            },
            started_at: None,
            ours: None,
            terms: Terms::default(),
            output_is_bound: false,
            error: String::new(),
        })
    }
    async fn was_started(&self, _: &ContainerId) -> Answer<bool> {
        let world = self.0.lock().unwrap();
        Ok(world.died.is_none() && !world.forgot_start)
    }
    async fn has_lived_since(&self, since: SystemTime) -> Answer<bool> {
        let world = self.0.lock().unwrap();
        let died = world.died.map(|millis| time(millis + world.ahead));
        Ok(died.is_none_or(|died| died < since))
    }

    fn address(&self) -> String {
        "elsewhere".into()
    }
    fn parse_image(&self, name: &str) -> Result<ImageRef, String> {
        Ok(ImageRef(name.into()))
    }
    async fn find_image(&self, _: &ImageRef) -> Answer<Option<Image>> {
        never()
    }
    async fn registry_digest(&self, _: &ImageRef) -> Answer<String> {
        never()
    }
    async fn pull(&self, _: &ImageRef, _: mpsc::Sender<Option<String>>) -> Answer<Image> {
        never()
    }
    async fn info(&self) -> Answer<EngineInfo> {
        never()
    }
    async fn try_out(&self, _: &Trial) -> Answer<TrialResult> {
        never()
    }
    async fn create(&self, _: &ContainerPlan) -> Answer<ContainerId> {
        never()
    }
    async fn attach(&self, _: &ContainerId) -> Answer<Frames> {
        never()
    }
    async fn open_log(&self, _: &ContainerId, _: &Path) -> Answer<Option<Box<dyn EngineLog>>> {
        never()
    }
    async fn start(&self, _: &ContainerId) -> Answer<()> {
        never()
    }
    async fn wait(&self, _: &ContainerId) -> Answer<i64> {
        never()
    }
    async fn remembered_end(&self, _: &ContainerId) -> Answer<RememberedEnd> {
        never()
    }
    async fn kill(&self, _: &ContainerId, _: Signal) -> Answer<()> {
        never()
    }
    async fn remove(&self, _: &ContainerId, _: Force) -> Answer<()> {
        never()
    }
    async fn usage(&self, _: &ContainerId) -> Answer<Option<Usage>> {
        never()
    }
    async fn storage(&self, _: &ContainerId, _: Option<&Path>, _: &Allowance) -> Answer<Written> {
        never()
    }
    async fn download_output(&self, _: &ContainerId) -> Answer<TarStream> {
        never()
    }
    async fn list(&self, _: &WorkerId) -> Answer<Vec<Listed>> {
        never()
    }
    async fn events(&self, _: &WorkerId) -> Answer<Events> {
        never()
    }
}
