//! Reads the configuration again while the worker runs, on SIGHUP or an operator's order. Settings that can change at run time
//! are handed to those who use them, other changed ones are named, and a configuration with a fault changes nothing.

use std::sync::{Arc, Mutex, PoisonError};

use log::{error, info, warn};
use tokio::sync::watch;

use super::build::Built;
use crate::{
    actors::janitor::Retention,
    config::{Config, Launch, Settings},
    domain::{callers::Caller, image_rules::ImageRules, policy::Policy, profile::Profiles},
    grpc::keys::Keys,
    ports::{
        admin::Reload,
        audit::{Audit, Deed},
    },
};

/// The name for changes of the profiles or of the defaults for all tasks.
const PROFILES: &str = "profiles";

/// The same of the policy.
const POLICY: &str = "policy";

/// Reads the configuration of this process again; the error lists all that is wrong with it.
pub type Reread = fn() -> Result<Launch, Vec<String>>;

/// Carries out reloads. See the module.
pub(super) struct Reloader {
    reread: Reread,
    /// The settings in force. Locked during a reload, so that there is one at a time.
    in_force: Mutex<Settings>,
    dials: Arc<Dials>,
    keys: Arc<Keys>,
    audit: Arc<dyn Audit>,
}

/// The settings that can change while the worker runs (`config::keys::RELOADED`). Their users look at them at each use.
pub(super) struct Dials {
    pub(super) max_tasks: watch::Sender<usize>,
    pub(super) images: watch::Sender<ImageRules>,
    pub(super) profiles: watch::Sender<Profiles>,
    pub(super) policy: watch::Sender<Policy>,
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

    /// A reload on an operator's order, whose answer is the result. Certificates and token are read again even if the
    /// configuration is wrong.
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
        let policy = self.dials.next_policy(&launch.config);
        if *self.dials.policy.borrow() != policy {
            reload.taken.push(POLICY.into());
        }
        self.dials.turn(&launch.config);
        tell(&reload);
        reload
    }

    /// A reload on SIGHUP. Who sent the signal is unknown, so the audit book names no caller.
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
            policy: watch::Sender::new(config.tasks.policy.clone()),
            retention: watch::Sender::new(Retention {
                keep: config.state.retention,
                orphan_grace: config.state.orphan_grace,
                total: config.state.state_cap,
                disk_low: config.state.disk_low,
                images: config.state.image_upkeep,
            }),
        }
    }

    fn next_policy(&self, config: &Config) -> Policy {
        let policy = config.tasks.policy.clone();
        policy.in_place_of(&self.policy.borrow())
    }

    /// Hands the reloadable settings of `config` to their users; the other ones are left as they are.
    fn turn(&self, config: &Config) {
        self.max_tasks.send_replace(config.tasks.max_tasks);
        self.images.send_replace(config.tasks.images.clone());
        self.profiles.send_replace(config.tasks.profiles.clone());
        self.policy.send_replace(self.next_policy(config));
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

    /// For each key that a reload takes, a value other than the default.
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
    fn profiles_and_policy_are_taken() {
        let dials = Dials::of(&config(&[]));
        let mut changed = config(&[]);
        changed.tasks.profiles.defaults.network = Some("none".into());
        changed.tasks.policy.environment = false;

        dials.turn(&changed);

        assert_eq!(*dials.profiles.borrow(), changed.tasks.profiles);
        assert_eq!(*dials.policy.borrow(), changed.tasks.policy);
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
