//! Between the words of `ports::admin` and the messages of `worker_admin.proto`, both ways. A message that makes no sense on the
//! way back (a state that this build does not know) is an answer that was lost.

mod status;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(super) use self::status::{status, status_to_wire};
use crate::{
    domain::{
        id::WorkerId,
        restart::{Budget, RestartType},
        usage::{Transfer, Usage, Use},
    },
    ports::admin::{
        ActorKind, ActorSpec, ActorState, ActorTree, ActorView, AdminError, ImageView, LogLevel,
        LogOrder, PullStep, TaskView,
    },
    proto::worker_admin::{self as wire, ListActorsReply, pull_image_reply::Step},
};

pub(super) fn tree_to_wire(tree: ActorTree) -> ListActorsReply {
    ListActorsReply {
        worker: tree.worker.to_string(),
        process: tree.process,
        actors: tree.actors.into_iter().map(actor_to_wire).collect(),
    }
}

pub(super) fn task_to_wire(task: TaskView) -> wire::Task {
    wire::Task {
        id: task.task,
        stage: task.stage,
        cpu: task.cpu,
        memory: task.memory,
        gpu: task.gpu,
        used: task.used.map(used_to_wire),
    }
}

fn used_to_wire(Use { usage, cores }: Use) -> wire::TaskUse {
    wire::TaskUse {
        cores,
        cpu_seconds: usage.cpu.as_secs_f64(),
        memory_bytes: usage.memory,
        peak_memory_bytes: usage.peak_memory,
        pids: usage.pids,
        disk_read_bytes: usage.disk.into,
        disk_write_bytes: usage.disk.out,
        network_receive_bytes: usage.network.map(|network| network.into),
        network_transmit_bytes: usage.network.map(|network| network.out),
    }
}

fn used(used: wire::TaskUse) -> Use {
    let network = used.network_receive_bytes.zip(used.network_transmit_bytes);
    Use {
        cores: used.cores,
        usage: Usage {
            cpu: Duration::try_from_secs_f64(used.cpu_seconds).unwrap_or_default(),
            memory: used.memory_bytes,
            peak_memory: used.peak_memory_bytes,
            pids: used.pids,
            disk: Transfer {
                into: used.disk_read_bytes,
                out: used.disk_write_bytes,
            },
            network: network.map(|(into, out)| Transfer { into, out }),
        },
    }
}

pub(super) fn task(task: wire::Task) -> TaskView {
    TaskView {
        task: task.id,
        stage: task.stage,
        cpu: task.cpu,
        memory: task.memory,
        gpu: task.gpu,
        used: task.used.map(used),
    }
}

pub(super) fn image_to_wire(image: ImageView) -> wire::Image {
    let since_1970 = |time: SystemTime| millis(time.duration_since(UNIX_EPOCH).unwrap_or_default());
    let (pulled, used) = image.ours.unzip();
    wire::Image {
        names: image.names,
        told: image.told,
        id: image.id,
        bytes: image.bytes,
        tasks: image.tasks,
        pulled_ms: pulled.map(since_1970),
        used_ms: used.map(since_1970),
    }
}

pub(super) fn image(image: wire::Image) -> ImageView {
    let time = |millis: u64| UNIX_EPOCH.checked_add(Duration::from_millis(millis));
    let pulled = image.pulled_ms.and_then(time);
    ImageView {
        names: image.names,
        told: image.told,
        id: image.id,
        bytes: image.bytes,
        tasks: image.tasks,
        ours: pulled.zip(image.used_ms.and_then(time)),
    }
}

pub(super) fn step_to_wire(step: PullStep) -> wire::PullImageReply {
    wire::PullImageReply {
        step: Some(match step {
            PullStep::Line(line) => Step::Line(line),
            PullStep::Here(told) => Step::Here(told),
            PullStep::Failed(why) => Step::Failed(why),
        }),
    }
}

pub(super) fn step(reply: wire::PullImageReply) -> Result<PullStep, AdminError> {
    Ok(
        match reply.step.ok_or_else(|| senseless("a step of a pull"))? {
            Step::Line(line) => PullStep::Line(line),
            Step::Here(told) => PullStep::Here(told),
            Step::Failed(why) => PullStep::Failed(why),
        },
    )
}

pub(super) fn log_order_to_wire(order: LogOrder) -> wire::SetLogLevelRequest {
    let (said, lasts) = match order {
        LogOrder::Show => (None, None),
        LogOrder::Reset => (Some(String::new()), None),
        LogOrder::Set { said, lasts } => (Some(said), lasts),
    };
    wire::SetLogLevelRequest {
        said,
        lasts_ms: lasts.map(millis),
    }
}

pub(super) fn log_order(request: &wire::SetLogLevelRequest) -> LogOrder {
    match request.said.as_deref() {
        None => LogOrder::Show,
        Some("") => LogOrder::Reset,
        Some(said) => LogOrder::Set {
            said: said.to_owned(),
            lasts: request.lasts_ms.map(Duration::from_millis),
        },
    }
}

/// An order in words, for the book of who changed what; `None` for one that changes nothing.
pub(super) fn told(order: &LogOrder) -> Option<String> {
    match order {
        LogOrder::Show => None,
        LogOrder::Reset => Some("reset".to_owned()),
        LogOrder::Set { said, lasts: None } => Some(said.clone()),
        LogOrder::Set {
            said,
            lasts: Some(lasts),
        } => Some(format!("{said} for {}", humantime::format_duration(*lasts))),
    }
}

pub(super) fn log_level_to_wire(level: LogLevel) -> wire::SetLogLevelReply {
    wire::SetLogLevelReply {
        in_force: level.in_force,
        left_ms: level.left.map(millis),
        then: level.then,
        faults: level.faults,
    }
}

pub(super) fn log_level(level: wire::SetLogLevelReply) -> LogLevel {
    LogLevel {
        in_force: level.in_force,
        left: level.left_ms.map(Duration::from_millis),
        then: level.then,
        faults: level.faults,
    }
}

pub(super) fn actor_to_wire(actor: ActorView) -> wire::Actor {
    wire::Actor {
        name: actor.name,
        kind: match actor.kind {
            ActorKind::Subsystem => wire::ActorKind::Subsystem,
            ActorKind::Task => wire::ActorKind::Task,
        }
        .into(),
        state: state_to_wire(actor.state).into(),
        uptime_ms: actor.uptime.map(millis),
        generation: actor.generation,
        restarts: actor.restarts,
        last_restart_ms: actor.last_restart.map(millis),
        mailbox: actor.mailbox,
        handled: actor.handled,
        last_message: actor.last_message,
        busy: actor.busy,
        last_reason: actor.last_reason,
        spec: Some(spec_to_wire(actor.spec)),
    }
}

fn state_to_wire(state: ActorState) -> wire::ActorState {
    match state {
        ActorState::Starting => wire::ActorState::Starting,
        ActorState::Running => wire::ActorState::Running,
        ActorState::Backoff => wire::ActorState::Backoff,
        ActorState::Stopping => wire::ActorState::Stopping,
        ActorState::Stopped => wire::ActorState::Stopped,
        ActorState::Fatal => wire::ActorState::Fatal,
    }
}

fn spec_to_wire(spec: ActorSpec) -> wire::ActorSpec {
    wire::ActorSpec {
        restart: match spec.restart {
            RestartType::Permanent => wire::RestartType::Permanent,
            RestartType::Transient => wire::RestartType::Transient,
            RestartType::Temporary => wire::RestartType::Temporary,
        }
        .into(),
        intensity: spec.budget.intensity,
        window_ms: millis(spec.budget.window),
        budget_left: spec.budget_left,
        shutdown_ms: millis(spec.shutdown),
        runs_on: spec.runs_on,
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn tree(reply: ListActorsReply) -> Result<ActorTree, AdminError> {
    Ok(ActorTree {
        worker: WorkerId::new(reply.worker).map_err(|_| senseless("the worker's name"))?,
        process: reply.process,
        actors: reply
            .actors
            .into_iter()
            .map(actor)
            .collect::<Result<_, _>>()?,
    })
}

pub(super) fn actor(actor: wire::Actor) -> Result<ActorView, AdminError> {
    Ok(ActorView {
        kind: match actor.kind() {
            wire::ActorKind::Subsystem => ActorKind::Subsystem,
            wire::ActorKind::Task => ActorKind::Task,
            wire::ActorKind::Unspecified => return Err(senseless("an actor's kind")),
        },
        state: state(actor.state())?,
        name: actor.name,
        uptime: actor.uptime_ms.map(Duration::from_millis),
        generation: actor.generation,
        restarts: actor.restarts,
        last_restart: actor.last_restart_ms.map(Duration::from_millis),
        mailbox: actor.mailbox,
        handled: actor.handled,
        last_message: actor.last_message,
        busy: actor.busy,
        last_reason: actor.last_reason,
        spec: spec(&actor.spec.ok_or_else(|| senseless("an actor's spec"))?)?,
    })
}

fn state(state: wire::ActorState) -> Result<ActorState, AdminError> {
    Ok(match state {
        wire::ActorState::Starting => ActorState::Starting,
        wire::ActorState::Running => ActorState::Running,
        wire::ActorState::Backoff => ActorState::Backoff,
        wire::ActorState::Stopping => ActorState::Stopping,
        wire::ActorState::Stopped => ActorState::Stopped,
        wire::ActorState::Fatal => ActorState::Fatal,
        wire::ActorState::Unspecified => return Err(senseless("an actor's state")),
    })
}

fn spec(spec: &wire::ActorSpec) -> Result<ActorSpec, AdminError> {
    Ok(ActorSpec {
        restart: match spec.restart() {
            wire::RestartType::Permanent => RestartType::Permanent,
            wire::RestartType::Transient => RestartType::Transient,
            wire::RestartType::Temporary => RestartType::Temporary,
            wire::RestartType::Unspecified => return Err(senseless("a restart type")),
        },
        budget: Budget {
            intensity: spec.intensity,
            window: Duration::from_millis(spec.window_ms),
        },
        budget_left: spec.budget_left,
        shutdown: Duration::from_millis(spec.shutdown_ms),
        runs_on: spec.runs_on.clone(),
    })
}

fn senseless(what: &str) -> AdminError {
    AdminError::Lost(format!(
        "{what} makes no sense; is the worker of another version?"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(state: ActorState, kind: ActorKind, restart: RestartType) -> ActorView {
        ActorView {
            name: "journal".into(),
            kind,
            state,
            uptime: Some(Duration::from_millis(1_500)),
            generation: 3,
            restarts: 2,
            last_restart: Some(Duration::from_secs(7)),
            mailbox: 4,
            handled: 5,
            last_message: Some("Commit".into()),
            busy: 0.25,
            last_reason: Some("panicked: oh".into()),
            spec: ActorSpec {
                restart,
                budget: Budget::SUBSYSTEM,
                budget_left: 1,
                shutdown: Duration::from_secs(5),
                runs_on: "a thread of its own".into(),
            },
        }
    }

    #[test]
    fn an_actor_comes_through_whole() {
        use ActorState::{Backoff, Fatal, Running, Starting, Stopped, Stopping};
        let kinds = [ActorKind::Subsystem, ActorKind::Task];
        let restarts = [
            RestartType::Permanent,
            RestartType::Transient,
            RestartType::Temporary,
        ];
        for state in [Starting, Running, Backoff, Stopping, Stopped, Fatal] {
            for (kind, restart) in kinds.into_iter().cycle().zip(restarts) {
                let sent = ActorTree {
                    worker: WorkerId::new("w").unwrap(),
                    process: 9,
                    actors: vec![view(state, kind, restart)],
                };

                assert_eq!(tree(tree_to_wire(sent.clone())), Ok(sent));
            }
        }
    }

    #[test]
    fn an_image_and_the_steps_of_its_pull_come_through_whole() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        for ours in [None, Some((at(1), at(2)))] {
            let sent = ImageView {
                names: vec!["r/a:1".into()],
                told: "r/a@sha256:1".into(),
                id: "sha256:2".into(),
                bytes: 3,
                tasks: 4,
                ours,
            };

            assert_eq!(image(image_to_wire(sent.clone())), sent);
        }
        for sent in [
            PullStep::Line("l".into()),
            PullStep::Here("h".into()),
            PullStep::Failed("f".into()),
        ] {
            assert_eq!(step(step_to_wire(sent.clone())), Ok(sent));
        }
    }

    #[test]
    fn what_the_log_is_to_show_comes_through_whole() {
        let lasts = Some(Duration::from_secs(600));
        let said = "operator=debug".to_owned();
        for (order, in_the_book) in [
            (LogOrder::Show, None),
            (LogOrder::Reset, Some("reset")),
            (
                LogOrder::Set { said, lasts },
                Some("operator=debug for 10m"),
            ),
        ] {
            assert_eq!(told(&order).as_deref(), in_the_book);
            assert_eq!(log_order(&log_order_to_wire(order.clone())), order);
        }
        let level = LogLevel {
            in_force: "debug".into(),
            left: lasts,
            then: Some("warn".into()),
            faults: vec!["x".into()],
        };
        assert_eq!(log_level(log_level_to_wire(level.clone())), level);
    }

    #[test]
    fn an_answer_of_an_unknown_version_is_not_guessed_at() {
        let known = || {
            actor_to_wire(view(
                ActorState::Running,
                ActorKind::Task,
                RestartType::Permanent,
            ))
        };
        let unknown_state = wire::Actor {
            state: 99,
            ..known()
        };
        let without_spec = wire::Actor {
            spec: None,
            ..known()
        };

        for answer in [unknown_state, without_spec] {
            assert!(matches!(actor(answer), Err(AdminError::Lost(_))));
        }
    }
}
