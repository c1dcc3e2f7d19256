//! The fake engine's containers. It behaves as Docker was measured to: starting is not idempotent, a name is taken until its
//! container is removed, and a restart of the engine erases its memory of events.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use sha2::{Digest, Sha256};

use super::{
    disk::OUTPUT,
    scene::is_greedy,
    world::{Due, State, engine_time},
};
use crate::{
    domain::{
        admission::Amounts,
        id::{ContainerId, ContainerName, ResultId, TaskId},
        record::{Phase, TaskRecord},
        spec::GIB,
    },
    ports::engine::{
        ContainerFacts, ContainerPlan, ContainerState, EngineError, EngineEvent, ExitFacts, Force,
        Listed, Ours, Proof, RememberedEnd, Signal, ToldEnd,
    },
};

/// How long after its start a greedy task has written more than its storage.
const TOO_LARGE_AFTER: Duration = Duration::from_secs(3);

/// The fake engine.
pub(super) struct Docker {
    pub(super) is_up: bool,
    /// Whether its containers run on while it is stopped.
    pub(super) live_restore: bool,
    /// When it was last started.
    pub(super) up_since: Duration,
    /// The number of its starts.
    pub(super) run: u32,
    pub(super) containers: BTreeMap<ContainerId, Container>,
    pub(super) images: BTreeSet<String>,
    /// The events since its start.
    pub(super) events: Vec<EngineEvent>,
    /// For each task, how each start of a container of it ended.
    pub(super) executions: BTreeMap<TaskId, Vec<End>>,
    made: u64,
}

/// How a start of a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It still runs.
    NotYet,
    /// By itself, with this exit code.
    Itself(i64),
    /// The worker ended it.
    ByWorker,
    /// The engine ended it, at its own end or its next start.
    ByEngine,
}

/// A container.
pub(super) struct Container {
    pub(super) name: ContainerName,
    pub(super) plan: ContainerPlan,
    pub(super) state: Stands,
    /// What the container printed, with the times.
    pub(super) output: Vec<(String, Duration)>,
    pub(super) habits: Habits,
    signals: Vec<i64>,
    /// When and how the present run will end.
    ends: Option<(Duration, i64, End)>,
}

impl Container {
    /// Whether the container runs at this time and has written more than its task asked for.
    pub(super) fn is_too_large(&self, now: Duration) -> bool {
        let since = match self.state {
            Stands::Running { since } => since,
            Stands::Created | Stands::Exited { .. } => return false,
        };
        is_greedy(&self.plan.spec) && now > since + TOO_LARGE_AFTER
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stands {
    Created,
    Running { since: Duration },
    Exited { facts: ExitFacts },
}

/// How a task's container behaves, as its command says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Habits {
    /// How long it runs.
    pub(super) runs: Duration,
    /// The exit code that it then ends with.
    pub(super) code: i64,
    /// Whether it ignores SIGTERM.
    pub(super) is_stubborn: bool,
    /// Whether it leaves an output file.
    pub(super) leaves_a_file: bool,
}

impl Habits {
    /// The command that stands for these habits.
    pub(super) fn command(&self) -> String {
        let (stubborn, file) = (u8::from(self.is_stubborn), u8::from(self.leaves_a_file));
        format!("{} {} {stubborn} {file}", self.runs.as_millis(), self.code)
    }

    fn of(command: &str) -> Self {
        let words: Vec<i64> = command
            .split(' ')
            .map(|word| word.parse().unwrap())
            .collect();
        Self {
            runs: Duration::from_millis(words[0].unsigned_abs()),
            code: words[1],
            is_stubborn: words[2] == 1,
            leaves_a_file: words[3] == 1,
        }
    }
}

impl Docker {
    pub(super) fn new(live_restore: bool) -> Self {
        Self {
            is_up: true,
            live_restore,
            up_since: Duration::ZERO,
            run: 1,
            containers: BTreeMap::new(),
            images: BTreeSet::new(),
            events: Vec::new(),
            executions: BTreeMap::new(),
            made: 0,
        }
    }

    /// The container with this id or name.
    pub(super) fn find(&self, id_or_name: &str) -> Option<(&ContainerId, &Container)> {
        self.containers
            .iter()
            .find(|(id, container)| id.0 == id_or_name || container.name.0 == id_or_name)
    }

    pub(super) fn get(&mut self, container: &ContainerId) -> Result<&mut Container, EngineError> {
        let found = self.containers.get_mut(container);
        found.ok_or_else(|| EngineError::NotFound(format!("no such container: {container}")))
    }

    /// Whether the container was never started, whatever the engine's events tell.
    pub(super) fn is_new(&self, container: &ContainerId) -> bool {
        let found = self.containers.get(container);
        found.is_some_and(|container| container.state == Stands::Created)
    }

    /// Whether a container of the task has run and ended.
    pub(super) fn has_run(&self, task: &TaskId) -> bool {
        let mut containers = self.containers.values();
        containers.any(|container| container.plan.spec.id == *task && container.has_exited())
    }

    /// Whether the container is to end at that time, unless something ends it before.
    pub(super) fn ends_at(&self, container: &ContainerId, at: Duration) -> bool {
        let found = self.containers.get(container);
        let ends = found.and_then(|container| container.ends);
        ends.is_some_and(|(end, ..)| end == at)
    }

    pub(super) fn inspect(&self, id_or_name: &str) -> Result<ContainerFacts, EngineError> {
        let (id, container) = self
            .find(id_or_name)
            .ok_or_else(|| EngineError::NotFound(format!("no such container: {id_or_name}")))?;
        Ok(ContainerFacts {
            id: id.clone(),
            state: match container.state {
                Stands::Created => ContainerState::Created,
                Stands::Running { .. } => ContainerState::Running,
                Stands::Exited { facts } => ContainerState::Exited(facts),
            },
            started_at: None,
            ours: Some(container.ours()),
            terms: container.plan.given.settings.terms(),
            output_is_bound: container.plan.output_folder.is_some(),
            error: String::new(),
        })
    }

    pub(super) fn list(&self) -> Vec<Listed> {
        self.containers
            .iter()
            .map(|(id, container)| Listed {
                id: id.clone(),
                ours: container.ours(),
                record: Some(Box::new(container.record(id))),
                running: matches!(container.state, Stands::Running { .. }),
            })
            .collect()
    }

    pub(super) fn remembered_end(&self, container: &ContainerId) -> RememberedEnd {
        let its = self
            .events
            .iter()
            .filter(|event| event.container == *container);
        match its.clone().any(|event| event.action == "die") {
            true => RememberedEnd::Seen(ToldEnd {
                signals: its.filter_map(|event| event.signal).collect(),
                out_of_memory: false,
            }),
            false => RememberedEnd::BeforeItsStart,
        }
    }

    pub(super) fn was_started(&self, container: &ContainerId) -> bool {
        let is_start =
            |event: &EngineEvent| event.container == *container && event.action == "start";
        self.events.iter().any(is_start)
    }

    fn tell(&mut self, container: &ContainerId, action: &str, signal: Option<i64>) {
        self.events.push(EngineEvent {
            container: container.clone(),
            action: action.into(),
            signal,
        });
    }

    /// Cores (in thousandths) and bytes of memory that running containers are given.
    fn held(&self) -> (u64, u64) {
        let running = self
            .containers
            .values()
            .filter(|container| matches!(container.state, Stands::Running { .. }));
        running.fold((0, 0), |(cpu, memory), container| {
            let amounts = Amounts::of(&container.plan.spec.wants);
            (cpu + amounts.milli_cpus, memory + amounts.memory)
        })
    }
}

impl Container {
    fn ours(&self) -> Ours {
        Ours {
            worker: self.plan.worker.as_str().into(),
            task: self.plan.spec.id.as_str().into(),
            attempt: self.plan.attempt,
            digest: self.plan.digest.to_string(),
            proof: Proof::Mark,
        }
    }

    /// The container's record, as rebuilt from its labels.
    fn record(&self, id: &ContainerId) -> TaskRecord {
        let digest = Sha256::digest(self.name.0.as_bytes());
        let result = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let plan = &self.plan;
        TaskRecord {
            attempt: plan.attempt,
            phase: Phase::Starting,
            answered: true,
            container: Some(id.clone()),
            ..TaskRecord::accepted(
                plan.spec.clone(),
                plan.digest,
                ResultId(result),
                self.name.clone(),
                plan.created,
            )
        }
    }

    pub(super) fn has_exited(&self) -> bool {
        matches!(self.state, Stands::Exited { .. })
    }
}

impl State {
    pub(super) fn create(&mut self, plan: ContainerPlan) -> Result<ContainerId, EngineError> {
        if self.docker.find(&plan.name.0).is_some() {
            return Err(EngineError::Conflict(format!("{} is in use", plan.name)));
        }
        if !self.docker.images.contains(&plan.image.id) {
            return Err(EngineError::NotFound(format!("no image {}", plan.image.id)));
        }
        self.docker.made += 1;
        let id = ContainerId(format!("c{:04}", self.docker.made));
        self.note(format!("{} is created for {}", id, plan.spec.id));
        let container = Container {
            name: plan.name.clone(),
            habits: Habits::of(&plan.spec.command),
            plan,
            state: Stands::Created,
            output: Vec::new(),
            signals: Vec::new(),
            ends: None,
        };
        self.docker.containers.insert(id.clone(), container);
        Ok(id)
    }

    /// Starts a container. Not idempotent: one that has ended runs again.
    pub(super) fn start(&mut self, id: &ContainerId) -> Result<(), EngineError> {
        let now = self.now();
        let container = self.docker.get(id)?;
        if matches!(container.state, Stands::Running { .. }) {
            return Ok(());
        }
        let task = container.plan.spec.id.clone();
        let Habits { runs, code, .. } = container.habits;
        container.state = Stands::Running { since: now };
        container.output.push((format!("{task} begins\n"), now));
        container.ends = Some((now + runs, code, End::Itself(code)));
        self.at(now + runs, Due::Ends(id.clone()));
        self.docker.tell(id, "start", None);
        self.note(format!("{id} runs for {task}"));
        self.is_executed(task);
        Ok(())
    }

    fn is_executed(&mut self, task: TaskId) {
        let executions = self.docker.executions.entry(task.clone()).or_default();
        executions.push(End::NotYet);
        if executions.len() > 1 {
            self.breaks(format!("{task} is executed a second time"));
        }
        let (cpu, memory) = self.docker.held();
        let totals = super::totals();
        let (cores, gibibytes) = (totals.cpu * 1_000.0, totals.memory * GIB);
        if cpu as f64 > cores || memory as f64 > gibibytes {
            self.breaks(format!(
                "{cpu} thousandths of a core and {memory} bytes are used"
            ));
        }
    }

    pub(super) fn kill(&mut self, id: &ContainerId, signal: Signal) -> Result<(), EngineError> {
        let (now, wait) = (self.now(), self.random.u64(5..1_500));
        let container = self.docker.get(id)?;
        if !matches!(container.state, Stands::Running { .. }) {
            return Err(EngineError::Conflict(format!("{id} is not running")));
        }
        let (number, wait) = match signal {
            Signal::Term => (15, (!container.habits.is_stubborn).then_some(wait)),
            Signal::Kill => (9, Some(1)),
        };
        container.signals.push(number);
        let task = container.plan.spec.id.clone();
        let end = wait.map(|wait| now + Duration::from_millis(wait));
        if let Some(end) = end.filter(|end| container.ends.is_none_or(|(at, ..)| *end < at)) {
            container.ends = Some((end, 128 + number, End::ByWorker));
            self.at(end, Due::Ends(id.clone()));
        }
        self.docker.tell(id, "kill", Some(number));
        self.note(format!("{id} gets signal {number}"));
        self.judge_kill(&task);
        Ok(())
    }

    /// Ends a container whose time has come; nothing happens if its end has moved or was before.
    pub(super) fn comes_to_its_end(&mut self, id: &ContainerId, at: Duration) {
        let Ok(container) = self.docker.get(id) else {
            return;
        };
        let (Stands::Running { since }, Some((ends, code, how))) =
            (container.state, container.ends)
        else {
            return;
        };
        if ends != at {
            return;
        }
        container.ends = None;
        container.state = Stands::Exited {
            facts: ExitFacts {
                code,
                oom_killed: false,
                started_at: Some(engine_time(since)),
                finished_at: Some(engine_time(at)),
            },
        };
        let task = container.plan.spec.id.clone();
        let file = container.habits.leaves_a_file && container.plan.output_folder.is_some();
        if how == End::Itself(code) {
            container.output.push((format!("{task} ends\n"), at));
            self.judge_own_end(&task, (since, at));
        }
        if let Some(last) = self
            .docker
            .executions
            .get_mut(&task)
            .and_then(|all| all.last_mut())
        {
            *last = how;
        }
        if file {
            self.disk.put(&task, OUTPUT, task.as_str().into());
        }
        if how != End::ByEngine {
            self.docker.tell(id, "die", None);
        }
        self.note(format!("{id} ends: {how:?}"));
    }

    pub(super) fn remove(&mut self, id: &ContainerId, force: Force) -> Result<(), EngineError> {
        let now = self.now();
        let Ok(container) = self.docker.get(id) else {
            return Ok(());
        };
        if matches!(container.state, Stands::Running { .. }) {
            if force == Force::No {
                return Err(EngineError::Conflict(format!("{id} is running")));
            }
            container.ends = Some((now, 137, End::ByWorker));
            self.comes_to_its_end(id, now);
        }
        self.docker.containers.remove(id);
        self.note(format!("{id} is removed"));
        Ok(())
    }

    /// Stops the engine. `gently`: by a signal that lets it end its containers.
    pub(super) fn engine_stops(&mut self, gently: bool) {
        self.note("the engine stops");
        if gently && !self.docker.live_restore {
            self.ends_all();
        }
        self.docker.is_up = false;
        self.docker.run += 1;
        self.docker.events.clear();
    }

    /// Starts the engine. Without live-restore it ends the containers that were left running.
    pub(super) fn engine_returns(&mut self) {
        if self.docker.is_up {
            return;
        }
        self.note("the engine is back");
        self.docker.is_up = true;
        self.docker.up_since = self.now();
        if !self.docker.live_restore {
            self.ends_all();
        }
    }

    fn ends_all(&mut self) {
        let now = self.now();
        let all: Vec<_> = self.docker.containers.keys().cloned().collect();
        for id in all {
            if let Ok(container) = self.docker.get(&id) {
                container.ends = Some((now, 137, End::ByEngine));
            }
            self.comes_to_its_end(&id, now);
        }
    }
}
