//! Lifecycle events: what happened to a child, for the log and for whoever keeps a history.

use std::{sync::Arc, time::Duration};

use log::{
    Level, Record,
    kv::{Key, Value},
};

use super::exit::Exit;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Edge {
    /// A new incarnation was sent to its arbiter.
    Starting,
    /// The child runs.
    Started,
    /// The child was asked to stop.
    Stopping,
    /// The incarnation ended: of its own will, on request, with a failure that it reported itself, or with its arbiter. The cause
    /// tells.
    Stopped,
    /// The incarnation panicked.
    Panicked,
    /// The incarnation was declared hung and fenced off.
    Hung,
    /// A successor will be started, now or after a backoff.
    Restarting,
    /// The child failed, and there is no successor.
    GaveUp,
    /// The child runs again after a failure.
    Recovered,
}

impl Edge {
    /// The word for the edge in the log and in the history.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Started => "started",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Panicked => "panicked",
            Self::Hung => "hung",
            Self::Restarting => "restarting",
            Self::GaveUp => "gave_up",
            Self::Recovered => "recovered",
        }
    }

    pub(super) fn of(exit: &Exit) -> Self {
        match exit {
            Exit::Stopped | Exit::Failed(_) | Exit::Dropped => Self::Stopped,
            Exit::Panicked { .. } => Self::Panicked,
            Exit::Hung => Self::Hung,
        }
    }
}

/// The state of a restart budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartsUsed {
    /// Restarts within the window.
    pub used: u32,
    /// Restarts allowed within the window.
    pub of: u32,
    /// The window.
    pub window: Duration,
}

/// One edge in the life of a child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LifecycleEvent {
    /// What happened.
    pub edge: Edge,
    /// The child's name.
    pub actor: Arc<str>,
    /// The incarnation that it happened to, counted from 1.
    pub generation: u64,
    /// Why, where there is a reason to tell.
    pub cause: Option<String>,
    /// True when the cause is a failure.
    pub failure: bool,
    /// The restart budget, where it is involved.
    pub restarts: Option<RestartsUsed>,
    /// Time until the restart; zero means at once.
    pub backoff: Option<Duration>,
    /// How long the phase took that ends here: the start, the stop, or the outage.
    pub duration: Option<Duration>,
    /// How long the incarnation had run.
    pub uptime: Option<Duration>,
}

impl LifecycleEvent {
    pub(super) fn new(edge: Edge, actor: &Arc<str>, generation: u64) -> Self {
        Self {
            edge,
            actor: Arc::clone(actor),
            generation,
            cause: None,
            failure: false,
            restarts: None,
            backoff: None,
            duration: None,
            uptime: None,
        }
    }

    fn level(&self) -> Level {
        match self.edge {
            Edge::GaveUp | Edge::Panicked | Edge::Hung => Level::Error,
            Edge::Restarting => Level::Warn,
            Edge::Stopped if self.failure => Level::Warn,
            Edge::Recovered => Level::Info,
            // Ordinary steps: the history has them all the same.
            Edge::Starting | Edge::Started | Edge::Stopping | Edge::Stopped => Level::Debug,
        }
    }

    /// Writes the event to the log under the target `lifecycle`.
    pub(super) fn log(&self) {
        let level = self.level();
        if !log::log_enabled!(target: TARGET, level) {
            return;
        }
        let message = self.edge.as_str();
        log::logger().log(
            &Record::builder()
                .level(level)
                .target(TARGET)
                .module_path(Some(module_path!()))
                .key_values(&self.fields())
                .args(format_args!("{message}"))
                .build(),
        );
    }

    fn fields(&self) -> Vec<(Key<'_>, Value<'_>)> {
        let mut fields = vec![
            (Key::from("actor"), Value::from(&*self.actor)),
            (Key::from("generation"), Value::from(self.generation)),
        ];
        if let Some(cause) = &self.cause {
            fields.push((Key::from("cause"), Value::from(cause.as_str())));
        }
        if let Some(RestartsUsed { used, of, window }) = self.restarts {
            fields.push((Key::from("restarts"), Value::from(used)));
            fields.push((Key::from("of"), Value::from(of)));
            fields.push((Key::from("window_s"), Value::from(window.as_secs_f64())));
        }
        let times = [
            ("backoff_ms", self.backoff),
            ("duration_ms", self.duration),
            ("uptime_ms", self.uptime),
        ];
        for (name, time) in times {
            fields.extend(time.map(|time| (Key::from(name), milliseconds(time))));
        }
        fields
    }
}

const TARGET: &str = "lifecycle";

fn milliseconds(time: Duration) -> Value<'static> {
    Value::from(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gave_up() -> LifecycleEvent {
        LifecycleEvent {
            cause: Some("panicked at a.rs:1:2: oh".to_owned()),
            failure: true,
            restarts: Some(RestartsUsed {
                used: 5,
                of: 5,
                window: Duration::from_secs(30),
            }),
            backoff: Some(Duration::from_millis(250)),
            duration: Some(Duration::from_millis(7)),
            uptime: Some(Duration::from_secs(61)),
            ..LifecycleEvent::new(Edge::GaveUp, &"registry".into(), 6)
        }
    }

    #[test]
    fn an_event_names_everything_that_it_knows() {
        let event = gave_up();

        let fields: Vec<String> = event
            .fields()
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();

        assert_eq!(
            fields,
            [
                "actor=registry",
                "generation=6",
                "cause=panicked at a.rs:1:2: oh",
                "restarts=5",
                "of=5",
                "window_s=30",
                "backoff_ms=250",
                "duration_ms=7",
                "uptime_ms=61000",
            ]
        );
    }

    #[test]
    fn a_level_tells_who_must_act() {
        let level = |edge, failure| {
            let event = LifecycleEvent::new(edge, &"x".into(), 1);
            LifecycleEvent { failure, ..event }.level()
        };

        assert_eq!(gave_up().level(), Level::Error);
        assert_eq!(level(Edge::Stopped, false), Level::Debug);
        assert_eq!(level(Edge::Stopped, true), Level::Warn);
        assert_eq!(level(Edge::Restarting, false), Level::Warn);
        assert_eq!(level(Edge::Recovered, false), Level::Info);
    }
}
