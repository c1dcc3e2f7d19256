//! Which lines are shown while the worker runs: what `RUST_LOG` said at the start, until an operator adds to it, for some time or
//! until the order is taken back. No timer ends that time: each call of the log compares it with the clock.

use std::{
    sync::{PoisonError, RwLock},
    time::Duration,
};

use env_logger::Logger;
use log::{Log, Metadata, Record};
use tokio::time::Instant;

use super::filter::Filter;
use crate::ports::admin::{LogLevel, LogOrder};

/// Makes a logger that shows what the given directives say.
type MakeLogger = Box<dyn Fn(&str) -> Logger + Send + Sync>;

/// The levels in force. See the module.
pub(super) struct Levels {
    make: MakeLogger,
    /// The text of `RUST_LOG` at the start.
    said: String,
    first: Shown,
    /// An operator's addition, which replaces `first` for as long as it lasts.
    added: RwLock<Option<Added>>,
}

/// Directives, and the logger made of them.
struct Shown {
    directives: String,
    logger: Logger,
}

struct Added {
    shown: Shown,
    /// When the addition ends; `None`: when it is taken back.
    until: Option<Instant>,
}

impl Added {
    fn lasts(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

impl Levels {
    /// Levels that begin with `said`, in the grammar of `RUST_LOG`; and what of that cannot be understood.
    pub(super) fn new(
        said: &str,
        make: impl Fn(&str) -> Logger + Send + Sync + 'static,
    ) -> (Self, Vec<String>) {
        let Filter {
            directives,
            complaints,
            ..
        } = Filter::read(said);
        let levels = Self {
            first: Shown {
                logger: make(&directives),
                directives,
            },
            make: Box::new(make),
            said: said.to_owned(),
            added: RwLock::new(None),
        };
        levels.announce(None);
        (levels, complaints)
    }

    /// Carries out an operator's order. Returns what is in force then, or what is wrong with the order: then nothing has changed.
    pub(super) fn order(&self, order: LogOrder, now: Instant) -> LogLevel {
        match order {
            LogOrder::Show => {}
            LogOrder::Reset => self.put(None),
            LogOrder::Set { said, lasts } => match self.read(&said) {
                Ok(directives) => self.put(Some(Added {
                    shown: Shown {
                        logger: (self.make)(&directives),
                        directives,
                    },
                    // A time that the clock cannot hold is as good as no end.
                    until: lasts.and_then(|lasts| now.checked_add(lasts)),
                })),
                Err(faults) => {
                    return LogLevel {
                        faults,
                        ..self.in_force(now)
                    };
                }
            },
        }
        self.in_force(now)
    }

    /// The directives of an order: its text added to that of the start, not to that of an earlier order, which it replaces.
    fn read(&self, said: &str) -> Result<String, Vec<String>> {
        if said.contains('/') {
            return Err(vec!["a pattern (/...) is for RUST_LOG alone".into()]);
        }
        let Filter {
            complaints, says, ..
        } = Filter::read(said);
        if !complaints.is_empty() {
            return Err(complaints);
        }
        if !says {
            return Err(vec!["nothing is said; write a level, or NAME=LEVEL".into()]);
        }
        let (names, pattern) = match self.said.split_once('/') {
            Some((names, pattern)) => (names, format!("/{pattern}")),
            None => (self.said.as_str(), String::new()),
        };
        Ok(Filter::read(&format!("{names},{said}{pattern}")).directives)
    }

    fn put(&self, added: Option<Added>) {
        let mut place = self.added.write().unwrap_or_else(PoisonError::into_inner);
        self.announce(added.as_ref());
        *place = added;
    }

    /// Tells the `log` crate the highest level that is shown, so that lines above it cost nothing. Called under the lock, so that
    /// the last order counts.
    fn announce(&self, added: Option<&Added>) {
        let first = self.first.logger.filter();
        // Keep the level of the start as well: when the addition ends, a call at that level must get here to notice it.
        log::set_max_level(added.map_or(first, |added| added.shown.logger.filter().max(first)));
    }

    fn in_force(&self, now: Instant) -> LogLevel {
        let added = self.added.read().unwrap_or_else(PoisonError::into_inner);
        let first = self.first.directives.clone();
        match added.as_ref().filter(|added| added.lasts(now)) {
            None => LogLevel {
                in_force: first,
                ..LogLevel::default()
            },
            Some(Added { shown, until }) => LogLevel {
                in_force: shown.directives.clone(),
                then: Some(first),
                left: until.map(|until| whole_seconds(until.saturating_duration_since(now))),
                faults: Vec::new(),
            },
        }
    }

    /// Asks the logger that is in force at the moment `now`; an addition that has ended is removed.
    fn with<T>(&self, now: Instant, ask: impl FnOnce(&Logger) -> T) -> T {
        let added = self.added.read().unwrap_or_else(PoisonError::into_inner);
        match &*added {
            None => ask(&self.first.logger),
            Some(added) if added.lasts(now) => ask(&added.shown.logger),
            Some(_) => {
                drop(added);
                self.let_go(now);
                ask(&self.first.logger)
            }
        }
    }

    fn let_go(&self, now: Instant) {
        let mut added = self.added.write().unwrap_or_else(PoisonError::into_inner);
        if added.as_ref().is_some_and(|added| !added.lasts(now)) {
            *added = None;
            self.announce(None);
        }
    }
}

impl Log for Levels {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.with(Instant::now(), |logger| logger.enabled(metadata))
    }

    fn log(&self, record: &Record<'_>) {
        self.with(Instant::now(), |logger| logger.log(record));
    }

    fn flush(&self) {}
}

/// Whole seconds, rounded up, as people read them.
fn whole_seconds(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs() + u64::from(time.subsec_nanos() > 0))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write},
        sync::{Arc, Mutex},
    };

    use env_logger::{Builder, Target};
    use log::Level;

    use super::*;
    use crate::telemetry::filter::DEFAULT;

    const WHILE: Duration = Duration::from_secs(600);

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn levels(said: &str) -> (Levels, Kept) {
        let kept = Kept::default();
        let out = kept.clone();
        let (levels, complaints) = Levels::new(said, move |directives| {
            Builder::new()
                .parse_filters(directives)
                .target(Target::Pipe(Box::new(out.clone())))
                .format(|out, record| writeln!(out, "{}", record.args()))
                .build()
        });
        assert_eq!(complaints, [""; 0]);
        (levels, kept)
    }

    fn set(said: &str, lasts: Option<Duration>) -> LogOrder {
        LogOrder::Set {
            said: said.into(),
            lasts,
        }
    }

    /// Whether a debug line of the operator's is shown at that moment.
    fn shows_debug(levels: &Levels, now: Instant) -> bool {
        let metadata = Metadata::builder()
            .level(Level::Debug)
            .target("worker_node::telemetry::operator")
            .build();
        levels.with(now, |logger| logger.enabled(&metadata))
    }

    #[test]
    fn what_an_operator_adds_lasts_until_it_is_taken_back() {
        let (levels, _) = levels("");
        let now = Instant::now();
        assert!(!shows_debug(&levels, now));

        let told = levels.order(set("operator=debug", None), now);

        assert!(shows_debug(&levels, now + 100 * WHILE));
        assert_eq!(
            told.in_force,
            format!("{DEFAULT},worker_node::telemetry::operator=debug")
        );
        assert_eq!((told.left, told.then), (None, Some(DEFAULT.into())));
        let told = levels.order(LogOrder::Reset, now);
        assert_eq!((told.in_force.as_str(), told.then), (DEFAULT, None));
        assert!(!shows_debug(&levels, now));
    }

    #[test]
    fn a_while_is_over_by_itself() {
        let (levels, _) = levels("");
        let now = Instant::now();

        let told = levels.order(set("debug", Some(WHILE)), now);

        assert_eq!(told.left, Some(WHILE));
        let just_before = now + WHILE - Duration::from_millis(1);
        assert!(shows_debug(&levels, just_before));
        let told = levels.order(LogOrder::Show, just_before);
        assert_eq!(told.left, Some(Duration::from_secs(1)), "not none at all");
        let told = levels.order(LogOrder::Show, now + WHILE);
        assert_eq!((told.in_force.as_str(), told.left), (DEFAULT, None));
        assert!(!shows_debug(&levels, now + WHILE));
        assert!(levels.added.read().unwrap().is_none(), "it is let go");
    }

    #[test]
    fn a_while_of_silence_is_over_too() {
        let (levels, kept) = levels("");
        levels.order(set("off", Some(Duration::ZERO)), Instant::now());

        let error = Record::builder()
            .level(Level::Error)
            .target("worker_node::app")
            .args(format_args!("back"))
            .build();
        levels.log(&error);

        assert_eq!(*kept.0.lock().unwrap(), b"back\n");
    }

    #[test]
    fn each_order_is_added_to_what_was_said_at_the_start_alone() {
        let (levels, _) = levels("lifecycle=off/task");
        let now = Instant::now();
        levels.order(set("operator=debug", None), now);

        let told = levels.order(set("h2=info, reporting=trace", None), now);

        assert_eq!(
            told.in_force,
            format!(
                "{DEFAULT},lifecycle=off,h2=info,worker_node::actors::outbox::reporting=trace/task"
            )
        );
        let told = levels.order(set("warn", None), now);
        assert_eq!(told.in_force, "warn,lifecycle=off/task");
    }

    #[test]
    fn words_that_are_wrong_change_nothing_and_are_told() {
        let (levels, _) = levels("");
        let now = Instant::now();
        levels.order(set("operator=debug", None), now);

        for wrong in [
            "operatr=debug",
            "loud",
            "debug,operator=loud",
            "info/x",
            " ,",
        ] {
            let told = levels.order(set(wrong, None), now);

            assert_eq!(told.faults.len(), 1, "{wrong}");
            assert!(told.in_force.ends_with("operator=debug"), "{wrong}");
        }
    }
}
