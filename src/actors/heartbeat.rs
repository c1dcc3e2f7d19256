//! Heartbeats: one every 5 s, the first at once. A beat has its own deadline and waits for no other actor: its content is read
//! from boards that others keep.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, WrapFuture};
use log::{Level, debug};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::session::{MasterView, RegisterAgain, SessionActor};
use crate::{
    domain::{id::WorkerId, settle::SettleTime},
    failpoint,
    ports::master::{Beat, Master, MasterAddress, MasterError, RunningTask},
    supervision::{AskError, Slot},
    telemetry::{
        operator,
        voice::{HeartbeatVoice, Outage},
    },
};

/// How long the first beat waits for the registration.
const FIRST: Duration = Duration::from_secs(1);

/// After the session died twice of `RegisterAgain`, how long until it is asked again: twice its restart budget's window, so that
/// the repeats do not spend the budget.
const POISON: Duration = Duration::from_secs(60);

/// The time between two beats, by the contract.
pub const PERIOD: Duration = Duration::from_secs(5);

/// How long the session may take to take `RegisterAgain`.
const ASK: Duration = Duration::from_secs(2);

/// Most bytes of the list of tasks in a beat, so that a beat stays well under a MiB, however many tasks there are. Tasks beyond
/// it are left out.
const LIST: usize = 1_000_000;

/// Most bytes that a task takes in the list besides its id: three figures of 9, the longest word, tags and lengths.
const LISTED: usize = 64;

/// How busy the machine is, in percent.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Load {
    /// Processor time in use, of all cores.
    pub cpu: f64,
    /// Memory in use.
    pub memory: f64,
    /// Space in use on the file system of the state folder.
    pub storage: f64,
    /// GPU time in use.
    pub gpu: f64,
}

/// Samples the machine in well under a millisecond. Lives beside the actor: a fresh sampler would tell the average since boot.
pub type SampleLoad = Arc<dyn Fn() -> Load + Send + Sync>;

/// The sources of a beat's content.
#[derive(Clone)]
pub struct BeatSources {
    /// This worker's id.
    pub worker: WorkerId,
    /// Samples the machine.
    pub load: SampleLoad,
    /// The tasks, from the registry's board.
    pub running: watch::Receiver<Arc<Vec<RunningTask>>>,
    /// Where the master is, and how it answers.
    pub master_view: Arc<MasterView>,
    /// Takes how long the master's answers took.
    pub settle: Arc<Mutex<SettleTime>>,
}

/// The actor that sends heartbeats. See the module.
pub struct HeartbeatActor {
    master: Arc<dyn Master>,
    sources: BeatSources,
    session: Slot<SessionActor>,
    voice: HeartbeatVoice,
    /// Says once that the master answers, but does not know this worker.
    forgotten: Outage,
    failing: bool,
    /// Tasks that the last beat had no room for.
    left_out: usize,
    /// When the session may be asked to register again; set after it died twice of being asked.
    not_again_before: Option<Instant>,
}

impl HeartbeatActor {
    /// Beats towards the master that `sources` show.
    #[must_use]
    pub fn new(master: Arc<dyn Master>, sources: BeatSources, session: Slot<SessionActor>) -> Self {
        Self {
            master,
            sources,
            session,
            voice: HeartbeatVoice::default(),
            forgotten: Outage::default(),
            failing: false,
            left_out: 0,
            not_again_before: None,
        }
    }

    fn beat(&mut self, ctx: &mut Context<Self>) {
        failpoint!("heartbeat.beat");
        let load = (self.sources.load)();
        let running = self.sources.running.borrow().clone();
        let (listed, left_out) = that_fit(&running);
        if std::mem::replace(&mut self.left_out, left_out) == 0 && left_out > 0 {
            operator::heartbeat_cut(left_out);
        }
        let beat = Beat {
            worker: self.sources.worker.clone(),
            cpu: load.cpu,
            memory: load.memory,
            storage: load.storage,
            gpu: load.gpu,
            running: listed,
        };
        let (master, address) = (Arc::clone(&self.master), self.sources.master_view.address());
        let sent = async move {
            let begun = Instant::now();
            let result = master.heartbeat(&address, beat).await;
            (address, result, begun.elapsed())
        };
        ctx.spawn(
            sent.into_actor(self)
                .map(move |(address, result, took), actor, ctx| {
                    failpoint!("heartbeat.beaten");
                    actor.tell_of_the_master(&address, &result);
                    actor.beaten(result, took, (load, running.len()), ctx);
                }),
        );
    }

    fn beaten(
        &mut self,
        result: Result<(), MasterError>,
        took: Duration,
        (load, tasks): (Load, usize),
        ctx: &mut Context<Self>,
    ) {
        match result {
            Ok(()) => {
                let mut settle = self
                    .sources
                    .settle
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                settle.answered_after(took);
                self.sources.master_view.has_beaten(took);
                drop(settle);
                self.forgotten.over();
                operator::heartbeat_sent(self.voice.sent(), load.cpu, load.memory, tasks);
                // A master that was away may have forgotten this worker, or be another one.
                if std::mem::take(&mut self.failing) {
                    self.register_again(ctx);
                }
            }
            Err(error) => {
                if matches!(error, MasterError::NotRegistered(_)) {
                    operator::heartbeat_failed(self.forgotten.again(), &error);
                    self.register_again(ctx);
                } else {
                    // If the master does not answer at all, that has been logged.
                    let loudness = self.voice.failed();
                    let level = if is_away(&error) {
                        Level::Debug
                    } else {
                        loudness
                    };
                    operator::heartbeat_failed(level, &error);
                    self.failing = true;
                    self.sources.master_view.note(false);
                }
            }
        }
    }

    fn tell_of_the_master(&self, address: &MasterAddress, result: &Result<(), MasterError>) {
        match result {
            Err(error) if is_away(error) => self.sources.master_view.is_away(address, error),
            Ok(()) | Err(_) => self.sources.master_view.is_there(address),
        }
    }

    fn register_again(&mut self, ctx: &mut Context<Self>) {
        let now = Instant::now();
        if self.not_again_before.is_some_and(|instant| now < instant) {
            return;
        }
        let session = self.session.clone();
        let ask = async move {
            failpoint!("heartbeat.register_again");
            session.ask_idempotent(RegisterAgain, now + ASK).await
        };
        ctx.spawn(ask.into_actor(self).map(move |asked, actor, _| {
            let Err(error) = asked else { return };
            debug!(error:%; "the session did not take the request; a later beat asks again");
            if error == AskError::Poisoned {
                actor.not_again_before = Some(now + POISON);
            }
        }));
    }
}

/// The tasks that fit into a beat, and the number of those that do not: those with the longest ids.
fn that_fit(running: &[RunningTask]) -> (Vec<RunningTask>, usize) {
    let size = |task: &RunningTask| task.task.as_str().len() + LISTED;
    if running.iter().map(size).sum::<usize>() <= LIST {
        return (running.to_vec(), 0);
    }
    let mut listed = running.to_vec();
    listed.sort_by_key(size);
    let mut room = LIST;
    let fits = listed.iter().take_while(|task| {
        let rest = room.checked_sub(size(task));
        room = rest.unwrap_or(room);
        rest.is_some()
    });
    let fits = fits.count();
    listed.truncate(fits);
    (listed, running.len() - fits)
}

/// Whether the master did not answer at all.
fn is_away(error: &MasterError) -> bool {
    match error {
        MasterError::Unreachable(_) | MasterError::Lost(_) | MasterError::Deadline(_) => true,
        MasterError::NotRegistered(_)
        | MasterError::Refused(_)
        | MasterError::Unacceptable(_)
        | MasterError::Source(_) => false,
    }
}

impl Actor for HeartbeatActor {
    type Context = Context<Self>;

    /// The first beat follows the registration at once: before it the master would refuse it.
    fn started(&mut self, ctx: &mut Self::Context) {
        failpoint!("heartbeat.started");
        let mut registered = self.sources.master_view.registered();
        let first = async move {
            let _ = timeout(FIRST, registered.wait_for(|registered| *registered)).await;
        };
        ctx.spawn(first.into_actor(self).map(|(), actor, ctx| {
            actor.beat(ctx);
            ctx.run_interval(PERIOD, Self::beat);
        }));
    }
}

crate::answers_pings!(HeartbeatActor);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::{TASK_ID_LIMIT, TaskId};

    fn task(id: &str) -> RunningTask {
        RunningTask {
            task: TaskId::new(id).unwrap(),
            cpu: 1.0,
            memory: 1.0,
            gpu: 1.0,
            status: "collecting",
        }
    }

    #[test]
    fn a_beat_stays_under_its_limit_whatever_tasks_there_are() {
        let long = |n: usize| task(&format!("{n:0width$}", width = TASK_ID_LIMIT));
        let mut running: Vec<_> = (0..5_000).map(long).collect();
        running.push(task("short"));

        let (listed, left_out) = that_fit(&running);

        assert_eq!(listed.len() + left_out, running.len());
        assert!(
            listed.contains(&task("short")),
            "the longest are left out first"
        );
        let bytes: usize = listed.iter().map(|t| t.task.as_str().len() + LISTED).sum();
        assert!((LIST - 2_000..=LIST).contains(&bytes), "{bytes}");
    }

    #[test]
    fn tasks_that_fit_are_all_told() {
        let running = vec![task("a"), task("b")];

        assert_eq!(that_fit(&running), (running.clone(), 0));
    }
}
