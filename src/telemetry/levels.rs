//! Which lines are shown while the worker runs: what `RUST_LOG` said at its start, until an operator adds something to that, for
//! a while or until it is taken back. A while is over by the clock: whoever logs next looks at it, and nobody has to wake up.

use std::{
    sync::{PoisonError, RwLock},
    time::Duration,
};

use env_logger::Logger;
use log::{Log, Metadata, Record};
use tokio::time::Instant;

use super::filter::Filter;
use crate::ports::admin::{LogLevel, LogOrder};

/// Makes a logger that shows what these directives say.
type MakeLogger = Box<dyn Fn(&str) -> Logger + Send + Sync>;

/// See the module.
pub(super) struct Levels {
    make: MakeLogger,
    /// What `RUST_LOG` said.
    said: String,
    first: Shown,
    /// In its place, for as long as it lasts.
    added: RwLock<Option<Added>>,
}

/// What is shown.
struct Shown {
    directives: String,
    logger: Logger,
}

struct Added {
    shown: Shown,
    /// `None`: until it is taken back.
    until: Option<Instant>,
}

impl Added {
    fn lasts(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

impl Levels {
    /// Begins with what `said`, in the words of `RUST_LOG`; and what of that is not understood.
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

    /// What an operator wants, and what is in force then.
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
                    // A time beyond all clocks is one that nobody sees the end of.
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

    /// Added to what was said at the start, not to what was added before: each order takes the place of the last.
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

    /// What nobody shows is left out before it comes here. Called by whoever holds the lock, so that the last word stands.
    fn announce(&self, added: Option<&Added>) {
        let first = self.first.logger.filter();
        // When a while is over, whoever logs what is shown again must come by to notice.
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

    /// Whatever is in force at that moment; what is over is let go.
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

/// As people tell it; what is left of a second is one.
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
