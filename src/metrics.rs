//! What a monitoring system is told: counters, kept by watchers that `app` puts around the ports, and gauges, which are read for
//! each page. One page in the OpenMetrics text format; `http` serves it. The same watchers keep what happened lately, for the
//! observer (`timeline`).
//!
//! Names follow that format's conventions: `worker_node_`, base units, `_total` for counters. No label holds a task's id, an
//! image or anything else that a stranger chooses: their number is bounded by this program alone.

mod calls;
mod gauges;
mod journal;
mod logs;
mod process;
mod timeline;

use std::sync::Arc;

use prometheus_client::{
    encoding::{prometheus_text, text},
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        histogram::Histogram,
        info::Info,
    },
    registry::{Metric, Registry, Unit},
};

use self::gauges::Gauges;
pub use self::{
    calls::{CountedMaster, CountedWorker},
    gauges::Reading,
    journal::CountedJournal,
    logs::CountedSpools,
    timeline::{Course, Event, News, Timeline},
};
use crate::supervision::{Edge, LifecycleEvent};

/// The two forms of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For scrapers that ask for it, as Prometheus does.
    OpenMetrics,
    /// The older text format, which everything understands.
    Text,
}

impl Form {
    /// The form that the sender of this `Accept` header understands.
    #[must_use]
    pub fn accepted_by(accept: &str) -> Self {
        match accept.contains("application/openmetrics-text") {
            true => Self::OpenMetrics,
            false => Self::Text,
        }
    }

    /// The form's content type in HTTP.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Buckets for the time of a task's phase: up to about three hours, in seconds.
const PHASES: Buckets = Buckets {
    first: 0.01,
    factor: 4.0,
    count: 11,
};

/// Buckets for the time of a call: up to about 16 s, in seconds; slower ones, such as uploads, are counted above the last.
const CALLS: Buckets = Buckets {
    first: 0.001,
    factor: 4.0,
    count: 8,
};

/// A label and its value: both are words of this program.
type Label = (&'static str, &'static str);

/// How many events there were, by labels.
type Counters<const LABELS: usize> = Family<[Label; LABELS], Counter>;

/// How long events took, in seconds, by labels.
type Times<const LABELS: usize> = Family<[Label; LABELS], Histogram, Buckets>;

/// The upper bounds of a histogram: `count` of them, each `factor` times the one before.
#[derive(Debug, Clone, Copy)]
struct Buckets {
    first: f64,
    factor: f64,
    count: u16,
}

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(prometheus_client::metrics::histogram::exponential_buckets(
            self.first,
            self.factor,
            self.count,
        ))
    }
}

/// All metrics of a worker. Lives beside the actors: their restarts set nothing back.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    gauges: Gauges,
    /// What happened lately, for the observer.
    timeline: Timeline,
    /// Tasks that were accepted.
    accepted: Counter,
    /// Tasks whose verdict is fixed, by outcome.
    ended: Counters<1>,
    /// How long tasks took, by phase.
    phases: Times<1>,
    /// Calls of a master, by method and answer.
    served: Times<2>,
    /// Calls to the master, by method and what came of them.
    master: Times<2>,
    /// Calls to the engine, by name.
    engine: Times<1>,
    /// Calls to the engine that failed, by name and kind of error.
    engine_failed: Counters<2>,
    /// Events in the lives of actors, by actor (all tasks are one) and event.
    lifecycle: Family<[(&'static str, String); 2], Counter>,
    /// Bytes that containers printed, by stream.
    printed: Counters<1>,
    /// Bytes of logs that were read by viewers.
    viewed: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut all = Registry::default();
        let gauges = Gauges::register(&mut all);
        let registry = all.sub_registry_with_prefix("worker_node");
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The program", build);
        Self {
            gauges,
            timeline: Timeline::default(),
            accepted: counter(
                registry,
                "tasks_accepted",
                "Tasks that are accepted, durably",
            ),
            ended: counters(registry, "tasks_ended", "Tasks whose end is fixed"),
            phases: times(
                registry,
                "task_phase",
                "From one durable step of a task to the next",
                PHASES,
            ),
            served: times(
                registry,
                "served_call",
                "Calls of the master, by answer",
                CALLS,
            ),
            master: times(
                registry,
                "master_call",
                "Calls to the master, by what came of them",
                CALLS,
            ),
            engine: times(
                registry,
                "engine_call",
                "Calls to the container engine",
                CALLS,
            ),
            engine_failed: counters(
                registry,
                "engine_call_errors",
                "Calls to the engine that failed",
            ),
            lifecycle: lifecycle(registry),
            printed: bytes(registry, "log", "What containers printed"),
            viewed: bytes(registry, "log_viewed", "What viewers read of logs"),
            registry: all,
        }
    }
}

fn counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::default();
    registry.register(name, help, counter.clone());
    counter
}

fn counters<const LABELS: usize>(
    registry: &mut Registry,
    name: &str,
    help: &str,
) -> Counters<LABELS> {
    let counters = Counters::default();
    registry.register(name, help, counters.clone());
    counters
}

fn bytes<C>(registry: &mut Registry, name: &str, help: &str) -> C
where
    C: Metric + Default + Clone,
{
    let counted = C::default();
    registry.register_with_unit(name, help, Unit::Bytes, counted.clone());
    counted
}

fn lifecycle(registry: &mut Registry) -> Family<[(&'static str, String); 2], Counter> {
    let lifecycle = Family::default();
    registry.register("actor_events", "What happened to actors", lifecycle.clone());
    lifecycle
}

fn times<const LABELS: usize>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    buckets: Buckets,
) -> Times<LABELS> {
    let times = Times::new_with_constructor(buckets);
    registry.register_with_unit(name, help, Unit::Seconds, times.clone());
    times
}

/// How many tasks came and ended since the process began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Tasks that were accepted.
    pub taken: u64,
    /// Tasks that ended well.
    pub succeeded: u64,
    /// Tasks that failed.
    pub failed: u64,
    /// Tasks that were cancelled.
    pub cancelled: u64,
}

impl Metrics {
    /// The tally of tasks.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let ended = |word| self.ended.get_or_create(&[("outcome", word)]).get();
        Tally {
            taken: self.accepted.get(),
            succeeded: ended(journal::SUCCEEDED),
            failed: ended(journal::FAILED),
            cancelled: ended(journal::CANCELLED),
        }
    }

    /// The whole page, with gauges set from `reading`.
    #[must_use]
    pub fn page(&self, reading: &Reading, form: Form) -> String {
        self.gauges.set(reading);
        let mut page = String::new();
        // Writing to a string does not fail.
        let _ = match form {
            Form::OpenMetrics => text::encode(&mut page, &self.registry),
            Form::Text => prometheus_text::encode(&mut page, &self.registry),
        };
        page
    }

    /// The listener that the supervisor tells what happens to its actors. Costs it a few hundred nanoseconds.
    #[must_use]
    pub fn listener(self: &Arc<Self>) -> Arc<dyn Fn(&LifecycleEvent) + Send + Sync> {
        let this = Arc::clone(self);
        Arc::new(move |event| {
            this.count(event);
            this.timeline.hear(event);
        })
    }

    /// What happened lately, for the observer.
    #[must_use]
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    fn count(&self, event: &LifecycleEvent) {
        let what = match event.edge {
            Edge::Panicked => "panicked",
            Edge::Hung => "hung",
            Edge::GaveUp => "gave_up",
            Edge::Restarting => "restarting",
            Edge::Recovered => "recovered",
            Edge::Started => "started",
            Edge::Starting | Edge::Stopping | Edge::Stopped => return,
        };
        let labels = [
            ("actor", kind_of(&event.actor).to_owned()),
            ("event", what.to_owned()),
        ];
        self.lifecycle.get_or_create(&labels).inc();
    }
}

/// An actor's label. All tasks have one: their names are the master's.
fn kind_of(actor: &str) -> &str {
    match actor.strip_prefix("task(") {
        Some(_) => "task",
        None => actor,
    }
}
