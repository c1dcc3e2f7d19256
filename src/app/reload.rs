//! The configuration read anew while the worker runs: by SIGHUP, or because an operator asks for it. What can change is handed to
//! those who go by it, what cannot is told by name, and a configuration that is wrong changes nothing.

use std::sync::{Arc, Mutex, PoisonError};

use log::{error, info, warn};
use tokio::sync::watch;

use super::build::Built;
use crate::{
    actors::janitor::Retention,
    config::{Config, Launch, Settings},
    domain::{callers::Caller, image_rules::ImageRules, profile::Profiles},
    grpc::keys::Keys,
    ports::{
        admin::Reload,
        audit::{Audit, Deed},
    },
};

/// What is told where anything of the profiles, or of what every task gets, was changed.
const PROFILES: &str = "profiles";

/// Makes the configuration of this process anew, or says everything that is wrong.
pub type Reread = fn() -> Result<Launch, Vec<String>>;

/// See the module.
pub(super) struct Reloader {
    reread: Reread,
    /// What the worker goes by. Held while it is read anew: one at a time.
    in_force: Mutex<Settings>,
    dials: Arc<Dials>,
    keys: Arc<Keys>,
    audit: Arc<dyn Audit>,
}

/// What can change while the worker runs (`config::keys::RELOADED`). Those who go by it look at each turn.
pub(super) struct Dials {
    pub(super) max_tasks: watch::Sender<usize>,
    pub(super) images: watch::Sender<ImageRules>,
    pub(super) profiles: watch::Sender<Profiles>,
    pub(super) retention: watch::Sender<Retention>,
}

impl Reloader {
    pub(super) fn new(launch: &Launch, reread: Reread, built: &Built) -> Self {
        Self {
            reread,
            in_force: Mutex::new(launch.settings.clone()),
            dials: Arc::clone(&built.parts.dials),
            keys: Arc::clone(&built.doors.keys),
            audit: Arc::clone(&built.doors.audit),
        }
    }

    /// As an operator asks for it, and has the answer. Certificates and token are read again in any case.
    pub(super) fn reload(&self) -> Reload {
        let mut in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        self.keys.read_again();
        let launch = match (self.reread)() {
            Ok(launch) => launch,
            Err(faults) => {
                for fault in &faults {
                    error!("the configuration is wrong, and nothing of it was taken: {fault}");
                }
                return Reload {
                    faults,
                    ..Reload::default()
                };
            }
        };
        let mut reload = Reload::default();
        for setting in in_force.clone().changed(&launch.settings) {
            let name = setting.key.name.clone();
            if setting.key.is_reloaded() {
                in_force.take(setting);
                reload.taken.push(name);
            } else {
                reload.kept.push(name);
            }
        }
        if *self.dials.profiles.borrow() != launch.config.tasks.profiles {
            reload.taken.push(PROFILES.into());
        }
        self.dials.turn(&launch.config);
        tell(&reload);
        reload
    }

    /// As a signal asks for it: nobody knows whose.
    pub(super) fn hung_up(&self) {
        let Reload { taken, faults, .. } = self.reload();
        if faults.is_empty() {
            self.audit.record(&Caller::default(), Deed::Reloaded(taken));
        }
    }
}

fn tell(reload: &Reload) {
    let (taken, kept) = (reload.taken.join(", "), reload.kept.join(", "));
    match taken.as_str() {
        "" => info!("the configuration was read again: nothing of it is taken now"),
        _ => info!("the configuration was read again and is taken: {taken}"),
    }
    if !kept.is_empty() {
        warn!("changed but needs a restart: {kept}");
    }
}

impl Dials {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            max_tasks: watch::Sender::new(config.tasks.max_tasks),
            images: watch::Sender::new(config.tasks.images.clone()),
            profiles: watch::Sender::new(config.tasks.profiles.clone()),
            retention: watch::Sender::new(Retention {
                keep: config.state.retention,
                orphan_grace: config.state.orphan_grace,
                total: config.state.state_cap,
                disk_low: config.state.disk_low,
                images: config.state.image_upkeep,
            }),
        }
    }

    /// What else stands in the configuration is left as it is.
    fn turn(&self, config: &Config) {
        self.max_tasks.send_replace(config.tasks.max_tasks);
        self.images.send_replace(config.tasks.images.clone());
        self.profiles.send_replace(config.tasks.profiles.clone());
        self.retention.send_modify(|retention| {
            retention.keep = config.state.retention;
            retention.total = config.state.state_cap;
            retention.images = config.state.image_upkeep;
        });
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{RunArgs, Surroundings, keys::RELOADED};

    use super::*;

    /// Another value than the default for each key that is taken.
    const OTHERS: [&str; 8] = [
        "--max-tasks=1",
        "--allow-image=*/a",
        "--require-digest",
        "--retention=1m",
        "--state-cap=1GiB",
        "--image-max-age=1d",
        "--image-gc-high=90",
        "--image-gc-low=70",
    ];

    fn config(flags: &[&str]) -> Config {
        use clap::Parser as _;
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: RunArgs,
        }
        let line = Line::parse_from(std::iter::once(&"w").chain(flags));
        let surroundings = Surroundings {
            home: Some("/home/u".into()),
            ..Surroundings::default()
        };
        Config::try_from((line.args, surroundings)).unwrap()
    }

    fn shown(dials: &Dials) -> String {
        let (images, retention) = (dials.images.borrow(), dials.retention.borrow());
        format!("{} {images:?} {retention:?}", *dials.max_tasks.borrow())
    }

    #[test]
    fn every_key_that_is_said_to_be_taken_turns_something() {
        for flag in RELOADED {
            let other = OTHERS.iter().find(|other| other.starts_with(flag));
            let dials = Dials::of(&config(&[]));
            let before = shown(&dials);

            dials.turn(&config(&[other.expect(flag)]));

            assert_ne!(shown(&dials), before, "{flag}");
        }
    }

    #[test]
    fn profiles_are_taken() {
        let dials = Dials::of(&config(&[]));
        let mut changed = config(&[]);
        changed.tasks.profiles.defaults.network = Some("none".into());

        dials.turn(&changed);

        assert_eq!(*dials.profiles.borrow(), changed.tasks.profiles);
    }

    #[test]
    fn what_needs_a_restart_is_left_as_it_is() {
        let dials = Dials::of(&config(&[]));
        let before = shown(&dials);

        dials.turn(&config(&[
            "--orphan-grace=2m",
            "--disk-low=1GiB",
            "--pull=never",
        ]));

        assert_eq!(shown(&dials), before);
    }
}
