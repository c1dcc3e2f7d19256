//! The life of a task as a state machine: an event in, effects out. `actors::task` performs the effects and brings their
//! results back as events. Pure.
//!
//! ```text
//! Accepted -> Pulling -> Creating -> Starting -> Running -> Collecting -> Recording -> Delivering -> Cleaning -> Done
//!     \________\___________\__________\_________/ cancel, timeout, failure           (the outbox:
//!                                               -> Stopping -> Collecting -> ...      upload, seal, report)
//! ```
//!
//! A cancel is valid in every state. Before a container runs it leads straight to `Recording`; a create or start that is in
//! flight is awaited first, since nobody can take it back. After the end was recorded the cancel is the registry's business:
//! it holds the request and turns the outcome into `cancelled` when the result is sealed.

use super::{
    id::ContainerId,
    outcome::{Exit, Failure, Outcome},
    record::{Ending, Outputs, Phase, TaskRecord},
    storage::Over,
};

/// Where a running incarnation of a task stands.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// The task was accepted, and no work on it has begun.
    Accepted,
    /// Its image is looked for or pulled.
    Pulling,
    /// A create of its container is in flight.
    Creating {
        /// Why the task is to be stopped once the create is answered, if it is.
        stop: Option<StopReason>,
    },
    /// A start of its container is in flight, or it is being found out whether an earlier start took place.
    Starting {
        /// The container that is started.
        container: ContainerId,
        /// Why the task is to be stopped once the start is answered, if it is.
        stop: Option<StopReason>,
    },
    /// Its container runs.
    Running {
        /// The container that runs.
        container: ContainerId,
    },
    /// Its container was sent the stop signal, or killed, and has not ended yet.
    Stopping {
        /// The container that is to end.
        container: ContainerId,
        /// Why the task is stopped.
        reason: StopReason,
    },
    /// Its log is drained and its outputs are listed.
    Collecting {
        /// Its container; `None`: it is gone.
        container: Option<ContainerId>,
        /// How the task ended.
        outcome: Outcome,
        /// The container's exit; `None`: the engine could not tell it.
        exit: Option<Exit>,
    },
    /// Its ending is being made durable.
    Recording {
        /// The container that is still to be removed.
        container: Option<ContainerId>,
    },
    /// The outbox has its result: it uploads, seals and reports it.
    Delivering {
        /// The container that is still to be removed.
        container: Option<ContainerId>,
    },
    /// Container and output folder are being removed.
    Cleaning,
    /// Nothing is left to do.
    Done,
}

/// How far a task has come: by its stage it is decided how much room it still holds, and shown where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// The task was accepted, and no work on it has begun.
    Accepted,
    /// Its image is looked for or pulled.
    Pulling,
    /// Its container is made.
    Creating,
    /// Its container is started.
    Starting,
    /// Its container runs.
    Running,
    /// Its container was sent the stop signal, or killed, and has not ended yet.
    Stopping,
    /// Its process is dead, or never was: from here on it needs no core and no memory.
    Collecting,
    /// Its ending is durable, and the outbox has its result.
    Reporting,
    /// Its outputs are uploaded.
    Uploading,
    /// Its verdict is fixed: from here on the task waits for the master alone.
    Sealed,
    /// The master has its result; its container and output folder are removed.
    Cleaning,
    /// Nothing is left to do.
    Done,
}

impl Stage {
    /// The stage as a word, for people and heartbeats.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Pulling => "pulling",
            Self::Creating => "creating",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Collecting => "collecting",
            Self::Uploading => "uploading",
            Self::Reporting | Self::Sealed => "reporting",
            Self::Cleaning => "cleaning",
            Self::Done => "done",
        }
    }
}

/// Why the worker stops a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The master cancelled the task.
    Cancelled,
    /// The task ran longer than its timeout.
    TimedOut,
    /// The task has written more than its storage allowance.
    OverStorage(Over),
    /// The operator stops the worker, and its tasks with it (`--on-stop stop`).
    WorkerStopped,
}

/// What happened to a task: the result of an effect, or news from outside.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A task that was just accepted is to begin.
    Begin,
    /// The task can never run here: the reason.
    FoundImpossible(String),
    /// The image is here.
    ImageReady,
    /// The image cannot be pulled: the registry's words.
    PullFailed(String),
    /// The image was here, and is not any more: somebody has removed it.
    ImageGone,
    /// The container exists and has not been started.
    Created(ContainerId),
    /// The container cannot be created: the engine's words.
    CreateFailed(String),
    /// The engine said that the container runs.
    Started,
    /// The engine said that the container cannot be started: its words, and what it says of the exit.
    StartFailed(String),
    /// It is proven that the container was never started: it is to be made anew.
    NeverStarted,
    /// The container ended.
    Exited(Exit),
    /// The container ended because the engine or somebody else stopped it: who or what did, in words.
    StoppedByOther(Exit, String),
    /// The container is gone, and with it its exit code: the reason, in words.
    Lost(String),
    /// The master cancels the task.
    CancelRequested,
    /// The task's timeout has passed.
    TimeElapsed,
    /// The task has written more than its storage allowance.
    OverStorage(Over),
    /// The worker is stopped, and its tasks with it.
    WorkerStopped,
    /// The container did not end within its grace after the stop signal.
    GraceElapsed,
    /// The log is drained and the outputs are listed; with remarks for the trailer.
    Collected(Outputs, Vec<String>),
    /// The ending is durable.
    Recorded,
    /// The verdict is durable: what the master is told is fixed.
    Sealed,
    /// The master has the result, or its report was given up for good.
    Delivered,
    /// The container and the output folder are removed.
    Cleaned,
}

/// What the task's actor is to do. Every effect is idempotent, since a new incarnation may ask for it again.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Look for the image and pull it.
    Pull,
    /// Give up the pull that is in flight.
    AbortPull,
    /// Record `Starting` and create the container.
    Create,
    /// Attach to the container, then start it. Only ever asked for a container whose create was seen by this very incarnation,
    /// or that was proven never to have been started.
    Start(ContainerId),
    /// Find out whether a container in state 'created' was started, without starting it.
    ProveStart(ContainerId),
    /// Remove a container that never ran, count the attempt, and begin again with the image.
    CreateAnew(ContainerId),
    /// Record `Running` and wait for the container's end.
    Watch(ContainerId),
    /// Send the stop signal to the container; after its grace `Event::GraceElapsed` is due.
    Terminate(ContainerId),
    /// Kill the container at once.
    Kill(ContainerId),
    /// Drain the task's log and list its outputs.
    Collect(Option<ContainerId>),
    /// Make the task's ending durable.
    Record(Box<Ending>),
    /// Hand the task's result to the outbox.
    Deliver,
    /// Remove the container, however long that takes: nothing waits for it but the end of `Clean`.
    Remove(ContainerId),
    /// Remove the container, if there is one, and the output folder.
    Clean(Option<ContainerId>),
    /// End the actor.
    Finish,
}

/// What the engine says of a task's container when an incarnation begins.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// The engine has no container of the task.
    Nothing,
    /// The task may have had a container on an engine that was given up since.
    GoneWithEngine,
    /// The container is made and, as far as the engine tells, was never started.
    Created(ContainerId),
    /// The container runs.
    Running(ContainerId),
    /// The container ended, and nobody but the task or this worker ended it.
    Exited(ContainerId, Exit),
    /// The container ended because the engine or somebody else stopped it: who or what did, in words.
    Stopped(ContainerId, Exit, String),
}

impl State {
    /// The state in which an incarnation begins, from the task's record and the engine's answer. A task that has just been accepted
    /// passes `Found::Nothing` without asking: its container cannot exist.
    #[must_use]
    pub fn resume(record: &TaskRecord, found: Found) -> (Self, Vec<Effect>) {
        let container = match &found {
            Found::Nothing | Found::GoneWithEngine => None,
            Found::Created(id)
            | Found::Running(id)
            | Found::Exited(id, _)
            | Found::Stopped(id, _, _) => Some(id.clone()),
        };
        match record.phase {
            Phase::Accepted | Phase::Starting | Phase::Running => {
                Self::resume_unfinished(record, found)
            }
            Phase::Ended => (Self::Delivering { container }, vec![Effect::Deliver]),
            Phase::Sealed => {
                let remove = container.clone().map(Effect::Remove);
                let effects = [Effect::Deliver].into_iter().chain(remove).collect();
                (Self::Delivering { container }, effects)
            }
            Phase::Delivered => (Self::Cleaning, vec![Effect::Clean(container)]),
            Phase::Done => (Self::Done, vec![Effect::Finish]),
        }
    }

    fn resume_unfinished(record: &TaskRecord, found: Found) -> (Self, Vec<Effect>) {
        let stop = record.cancel_requested.then_some(StopReason::Cancelled);
        match (found, record.phase) {
            (Found::Nothing, Phase::Running) => Self::lost("its container is gone", stop),
            // The container may have been started on the other engine, so the task is not started here again.
            (Found::GoneWithEngine, _) => Self::lost(
                "its container is gone with the engine that it began on",
                stop,
            ),
            (Found::Nothing, _) if stop.is_some() => {
                Self::Accepted.record(None, Outcome::Cancelled)
            }
            (Found::Nothing, _) => (Self::Pulling, vec![Effect::Pull]),
            (Found::Created(container), Phase::Accepted) if stop.is_some() => {
                Self::Accepted.record(Some(container), Outcome::Cancelled)
            }
            (Found::Created(container), _) => (
                Self::Starting {
                    container: container.clone(),
                    stop,
                },
                vec![Effect::ProveStart(container)],
            ),
            (Found::Running(container), _) => match stop {
                None => (
                    Self::Running {
                        container: container.clone(),
                    },
                    vec![Effect::Watch(container)],
                ),
                Some(reason) => (
                    Self::Stopping {
                        container: container.clone(),
                        reason,
                    },
                    vec![
                        Effect::Watch(container.clone()),
                        Effect::Terminate(container),
                    ],
                ),
            },
            (Found::Exited(container, exit), _) => {
                let outcome = stop.map_or(exit.outcome(), StopReason::outcome);
                Self::Accepted.after_end(Some(container), outcome, Some(exit))
            }
            (Found::Stopped(container, exit, who), _) => {
                let stopped = Outcome::Failed(Failure::StoppedByOther(who));
                let outcome = stop.map_or(stopped, StopReason::outcome);
                Self::Accepted.after_end(Some(container), outcome, Some(exit))
            }
        }
    }

    fn lost(why: &str, stop: Option<StopReason>) -> (Self, Vec<Effect>) {
        let lost = Outcome::Failed(Failure::EngineLost(why.into()));
        let outcome = stop.map_or(lost, StopReason::outcome);
        Self::Accepted.after_end(None, outcome, None)
    }

    /// The next state and its effects. An event that has no meaning in this state (a late timer, a repeat) changes nothing.
    #[must_use]
    pub fn on(self, event: Event) -> (Self, Vec<Effect>) {
        match event {
            Event::CancelRequested => self.stop(StopReason::Cancelled),
            Event::TimeElapsed => self.stop(StopReason::TimedOut),
            Event::WorkerStopped => self.stop(StopReason::WorkerStopped),
            Event::OverStorage(over) => self.on_over_storage(over),
            Event::Begin | Event::FoundImpossible(_) | Event::ImageReady | Event::PullFailed(_) => {
                self.on_image(event)
            }
            Event::ImageGone | Event::Created(_) | Event::CreateFailed(_) => self.on_create(event),
            Event::Started | Event::StartFailed(_) | Event::NeverStarted => self.on_start(event),
            Event::Exited(exit) => self.on_exit(exit, exit.outcome()),
            Event::StoppedByOther(exit, who) => {
                self.on_exit(exit, Outcome::Failed(Failure::StoppedByOther(who)))
            }
            Event::Lost(why) => self.on_lost(why),
            Event::GraceElapsed => self.on_grace_elapsed(),
            Event::Collected(outputs, notes) => self.on_collected(outputs, notes),
            Event::Recorded | Event::Sealed | Event::Delivered | Event::Cleaned => {
                self.on_delivery(&event)
            }
        }
    }

    /// The stage that this state belongs to.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match self {
            Self::Accepted => Stage::Accepted,
            Self::Pulling => Stage::Pulling,
            Self::Creating { .. } => Stage::Creating,
            Self::Starting { .. } => Stage::Starting,
            Self::Running { .. } => Stage::Running,
            Self::Stopping { .. } => Stage::Stopping,
            Self::Collecting { .. } | Self::Recording { .. } => Stage::Collecting,
            Self::Delivering { .. } => Stage::Reporting,
            Self::Cleaning => Stage::Cleaning,
            Self::Done => Stage::Done,
        }
    }

    fn on_image(self, event: Event) -> (Self, Vec<Effect>) {
        match (self, event) {
            (Self::Accepted, Event::Begin) => (Self::Pulling, vec![Effect::Pull]),
            (state @ (Self::Accepted | Self::Pulling), Event::FoundImpossible(why)) => {
                state.record(None, Outcome::Failed(Failure::Impossible(why)))
            }
            (Self::Pulling, Event::ImageReady) => {
                (Self::Creating { stop: None }, vec![Effect::Create])
            }
            (state @ Self::Pulling, Event::PullFailed(why)) => {
                state.record(None, Outcome::Failed(Failure::Pull(why)))
            }
            (state, _) => (state, vec![]),
        }
    }

    fn on_create(self, event: Event) -> (Self, Vec<Effect>) {
        match (self, event) {
            (Self::Creating { stop: None }, Event::Created(container)) => (
                Self::Starting {
                    container: container.clone(),
                    stop: None,
                },
                vec![Effect::Start(container)],
            ),
            // The stop came first: the container is not started, and is removed once the result is sealed.
            (state @ Self::Creating { .. }, Event::Created(container)) => {
                let outcome = state.stopped_outcome().unwrap_or(Outcome::Cancelled);
                state.record(Some(container), outcome)
            }
            (Self::Creating { stop: None }, Event::ImageGone) => {
                (Self::Pulling, vec![Effect::Pull])
            }
            (Self::Creating { stop: Some(reason) }, Event::ImageGone) => {
                Self::Accepted.record(None, reason.outcome())
            }
            (state @ Self::Creating { .. }, Event::CreateFailed(why)) => {
                let outcome = state
                    .stopped_outcome()
                    .unwrap_or(Outcome::Failed(Failure::Create(why)));
                state.record(None, outcome)
            }
            (state, _) => (state, vec![]),
        }
    }

    fn on_start(self, event: Event) -> (Self, Vec<Effect>) {
        match (self, event) {
            (
                Self::Starting {
                    container,
                    stop: None,
                },
                Event::Started,
            ) => (
                Self::Running {
                    container: container.clone(),
                },
                vec![Effect::Watch(container)],
            ),
            (
                Self::Starting {
                    container,
                    stop: Some(reason),
                },
                Event::Started,
            ) => (
                Self::Stopping {
                    container: container.clone(),
                    reason,
                },
                vec![
                    Effect::Watch(container.clone()),
                    Effect::Terminate(container),
                ],
            ),
            (Self::Starting { container, stop }, Event::StartFailed(why)) => {
                let outcome =
                    stop.map_or(Outcome::Failed(Failure::Start(why)), StopReason::outcome);
                Self::Accepted.record(Some(container), outcome)
            }
            (
                Self::Starting {
                    container,
                    stop: Some(reason),
                },
                Event::NeverStarted,
            ) => Self::Accepted.record(Some(container), reason.outcome()),
            (
                Self::Starting {
                    container,
                    stop: None,
                },
                Event::NeverStarted,
            ) => (Self::Pulling, vec![Effect::CreateAnew(container)]),
            (state, _) => (state, vec![]),
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "an event without meaning in a state has no effects there"
    )]
    fn on_exit(self, exit: Exit, outcome: Outcome) -> (Self, Vec<Effect>) {
        match self {
            Self::Running { container }
            | Self::Starting {
                container,
                stop: None,
            } => Self::Accepted.after_end(Some(container), outcome, Some(exit)),
            Self::Stopping { container, reason }
            | Self::Starting {
                container,
                stop: Some(reason),
            } => Self::Accepted.after_end(Some(container), reason.outcome(), Some(exit)),
            state => (state, vec![]),
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "an event without meaning in a state has no effects there"
    )]
    fn on_lost(self, why: String) -> (Self, Vec<Effect>) {
        match self {
            Self::Running { .. } | Self::Starting { stop: None, .. } => {
                self.after_end(None, Outcome::Failed(Failure::EngineLost(why)), None)
            }
            Self::Stopping { reason, .. }
            | Self::Starting {
                stop: Some(reason), ..
            } => Self::Accepted.after_end(None, reason.outcome(), None),
            state => (state, vec![]),
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "an event without meaning in a state has no effects there"
    )]
    fn on_grace_elapsed(self) -> (Self, Vec<Effect>) {
        match self {
            Self::Stopping { ref container, .. } => {
                let kill = Effect::Kill(container.clone());
                (self, vec![kill])
            }
            state => (state, vec![]),
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "an event without meaning in a state has no effects there"
    )]
    fn on_collected(self, outputs: Outputs, notes: Vec<String>) -> (Self, Vec<Effect>) {
        match self {
            Self::Collecting {
                container,
                outcome,
                exit,
            } => {
                let ending = Ending {
                    outcome,
                    exit,
                    outputs,
                    notes,
                };
                (
                    Self::Recording { container },
                    vec![Effect::Record(Box::new(ending))],
                )
            }
            state => (state, vec![]),
        }
    }

    /// The container is killed without a stop signal and without the rest of its grace: it is filling the disk.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "an event without meaning in a state has no effects there"
    )]
    fn on_over_storage(self, over: Over) -> (Self, Vec<Effect>) {
        let reason = StopReason::OverStorage(over);
        let (container, reason) = match self {
            Self::Running { container } => (container, reason),
            Self::Stopping {
                container,
                reason: earlier,
            } => (container, reason.over(Some(earlier)).unwrap_or(earlier)),
            state => return (state, vec![]),
        };
        let kill = Effect::Kill(container.clone());
        (Self::Stopping { container, reason }, vec![kill])
    }

    fn on_delivery(self, event: &Event) -> (Self, Vec<Effect>) {
        match (self, event) {
            (Self::Recording { container }, Event::Recorded) => {
                (Self::Delivering { container }, vec![Effect::Deliver])
            }
            (Self::Delivering { container }, Event::Sealed) => {
                let remove = container.clone().map(Effect::Remove);
                (Self::Delivering { container }, remove.into_iter().collect())
            }
            (Self::Delivering { container }, Event::Delivered) => {
                (Self::Cleaning, vec![Effect::Clean(container)])
            }
            (Self::Cleaning, Event::Cleaned) => (Self::Done, vec![Effect::Finish]),
            (state, _) => (state, vec![]),
        }
    }

    fn stop(self, reason: StopReason) -> (Self, Vec<Effect>) {
        match self {
            Self::Accepted => self.record(None, reason.outcome()),
            Self::Pulling => {
                let (state, mut effects) = self.record(None, reason.outcome());
                effects.insert(0, Effect::AbortPull);
                (state, effects)
            }
            Self::Creating { stop } => (
                Self::Creating {
                    stop: reason.over(stop),
                },
                vec![],
            ),
            Self::Starting { container, stop } => (
                Self::Starting {
                    container,
                    stop: reason.over(stop),
                },
                vec![],
            ),
            Self::Running { container } => (
                Self::Stopping {
                    container: container.clone(),
                    reason,
                },
                vec![Effect::Terminate(container)],
            ),
            Self::Stopping {
                container,
                reason: earlier,
            } => {
                let reason = reason.over(Some(earlier)).unwrap_or(earlier);
                (Self::Stopping { container, reason }, vec![])
            }
            // The ending is not recorded yet, so a cancel still decides the outcome; every other reason comes too late.
            Self::Collecting {
                container, exit, ..
            } if reason == StopReason::Cancelled => (
                Self::Collecting {
                    container,
                    outcome: Outcome::Cancelled,
                    exit,
                },
                vec![],
            ),
            state @ (Self::Collecting { .. }
            | Self::Recording { .. }
            | Self::Delivering { .. }
            | Self::Cleaning
            | Self::Done) => (state, vec![]),
        }
    }

    /// Whether the task was asked to end, and has not ended yet.
    #[must_use]
    pub fn is_asked_to_stop(&self) -> bool {
        self.stopped_outcome().is_some()
    }

    fn stopped_outcome(&self) -> Option<Outcome> {
        match self {
            Self::Creating { stop } | Self::Starting { stop, .. } => stop.map(StopReason::outcome),
            Self::Stopping { reason, .. } => Some(reason.outcome()),
            Self::Accepted
            | Self::Pulling
            | Self::Running { .. }
            | Self::Collecting { .. }
            | Self::Recording { .. }
            | Self::Delivering { .. }
            | Self::Cleaning
            | Self::Done => None,
        }
    }

    /// Ends a task of which no container ever ran: there is no log and no output to collect.
    fn record(self, container: Option<ContainerId>, outcome: Outcome) -> (Self, Vec<Effect>) {
        let ending = Ending {
            outcome,
            exit: None,
            outputs: Outputs::default(),
            notes: Vec::new(),
        };
        (
            Self::Recording { container },
            vec![Effect::Record(Box::new(ending))],
        )
    }

    /// Ends a task whose container ran: its log and outputs are collected before its ending is recorded.
    fn after_end(
        self,
        container: Option<ContainerId>,
        outcome: Outcome,
        exit: Option<Exit>,
    ) -> (Self, Vec<Effect>) {
        let collect = Effect::Collect(container.clone());
        (
            Self::Collecting {
                container,
                outcome,
                exit,
            },
            vec![collect],
        )
    }
}

impl StopReason {
    /// The outcome of a task that was stopped for this reason.
    #[must_use]
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Cancelled => Outcome::Cancelled,
            Self::TimedOut => Outcome::Failed(Failure::TimedOut),
            Self::OverStorage(over) => Outcome::Failed(Failure::OverStorage(over.to_string())),
            Self::WorkerStopped => {
                let why = "stopped with its worker (--on-stop stop)";
                Outcome::Failed(Failure::StoppedByOther(why.into()))
            }
        }
    }

    /// The reason that counts of an earlier one and this one: a cancel outranks all others, since the master never takes it back;
    /// of the others the first counts.
    fn over(self, earlier: Option<Self>) -> Option<Self> {
        match (earlier, self) {
            (_, Self::Cancelled) | (None, _) => Some(self),
            (Some(earlier), Self::TimedOut | Self::OverStorage(_) | Self::WorkerStopped) => {
                Some(earlier)
            }
        }
    }
}

#[cfg(test)]
mod tests;
