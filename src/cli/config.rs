//! `worker-node config`: what a start would take and from where (`show`), everything that is wrong with a file (`check`), and a file to
//! begin with (`init`). Asks no worker, opens nothing but the file, and changes nothing.

use std::ffi::OsString;

use serde_json::{Map, json};

use super::{
    Answer,
    args::{ConfigArgs, ConfigOrder},
    ask,
    reading::Reading,
    words,
};
use crate::{
    config::{self, ConfigFile, Mistakes, Settings, Surroundings, policy, profiles},
    domain::{
        policy::Policy,
        profile::{Profile, Profiles},
    },
    exit::Exit,
};

/// The arguments of `worker-node config`, checked.
#[derive(Debug, PartialEq)]
pub enum ConfigCommand {
    /// Prints this text: the settings in force.
    Show(String),
    /// Looks for mistakes in a file.
    Check {
        /// The file; `None`: the machine's own.
        file: Option<OsString>,
        /// The process's environment, which also says where the machine's file is.
        surroundings: Surroundings,
    },
    /// Prints the sample file, which has every key.
    Init,
}

impl ConfigCommand {
    pub(super) fn new(args: ConfigArgs, reading: Reading) -> Result<Self, Answer> {
        Ok(match args.order {
            ConfigOrder::Show(show) => {
                let launch = reading.launch(&show.run.flags)?;
                let tasks = launch.config.tasks;
                let (profiles, policy) = (tasks.profiles, tasks.policy);
                let profiles = match show.redact {
                    true => profiles.redacted(),
                    false => profiles,
                };
                Self::Show(match show.json {
                    true => json(&launch.settings, &policy, &profiles),
                    false => {
                        let keys = launch.settings.written(show.origin);
                        keys + &policy::written(&policy) + &profiles::written(&profiles)
                    }
                })
            }
            ConfigOrder::Check { file } => Self::Check {
                file,
                surroundings: reading.surroundings,
            },
            ConfigOrder::Init => Self::Init,
        })
    }
}

/// Prints what was asked for.
pub fn perform(command: &ConfigCommand) -> Exit {
    match command {
        ConfigCommand::Show(text) => ask::put(text),
        ConfigCommand::Check { file, surroundings } => check(file.as_ref(), surroundings),
        ConfigCommand::Init => ask::put(&config::commented()),
    }
}

fn check(file: Option<&OsString>, surroundings: &Surroundings) -> Exit {
    let found = ConfigFile::find(file.map(OsString::as_os_str), surroundings);
    let found = match found {
        Ok(found) => found,
        Err(mistakes) => return wrong(&mistakes),
    };
    let Some(path) = &found.path else {
        eprintln!(
            "error: there is no configuration file here; name one, or print one by `worker-node config init`"
        );
        return Exit::Configuration;
    };
    let mistakes = found.mistakes(surroundings);
    if !mistakes.0.is_empty() {
        return wrong(&mistakes);
    }
    let path = words::foreign(&path.to_string_lossy(), 1_024);
    let counted = |count: usize, what: &str| match count {
        1 => format!("1 {what}"),
        many => format!("{many} {what}s"),
    };
    let keys = counted(found.len(), "key");
    let profiles = found.profiles().profiles.len();
    let profiles = (profiles > 0).then(|| counted(profiles, "profile"));
    let policy = found.policy().map(|_| "a policy".to_owned());
    let beside: Vec<_> = policy.into_iter().chain(profiles).collect();
    let beside = match beside.is_empty() {
        true => String::new(),
        false => format!(", and has {}", beside.join(" and ")),
    };
    ask::put(&format!("{path} is sound: it sets {keys}{beside}\n"))
}

fn wrong(mistakes: &Mistakes) -> Exit {
    eprint!("{mistakes}");
    Exit::Configuration
}

fn of_profile(profile: &Profile) -> serde_json::Value {
    json!({
        "name": profile.name,
        "match": words::told(&profiles::matching(&profile.matching)),
        "settings": words::settings(&profile.settings),
    })
}

fn of_policy(policy: &Policy) -> serde_json::Value {
    let pairs = policy::told(policy).into_iter();
    let pairs = pairs.map(|(key, value)| (key.to_owned(), words::value(&value)));
    serde_json::Value::Object(pairs.collect::<Map<_, _>>())
}

/// For programs: one object on one line.
fn json(settings: &Settings, policy: &Policy, profiles: &Profiles) -> String {
    let mut sections = Map::new();
    for setting in &settings.all {
        let value = setting.value().as_ref().map(words::value);
        let section = sections
            .entry(setting.key.section.clone())
            .or_insert_with(|| json!({}));
        section[&setting.key.name] = json!({
            "value": value,
            "origin": setting.set_by(),
            "reload": setting.key.is_reloaded(),
        });
    }
    let file = settings.file.as_ref().map(|file| file.to_string_lossy());
    let page = json!({
        "version": words::JSON_VERSION,
        "file": file,
        "settings": sections,
        "policy": of_policy(policy),
        "task_defaults": words::settings(&profiles.defaults),
        "profiles": profiles.profiles.iter().map(of_profile).collect::<Vec<_>>(),
    });
    format!("{page}\n")
}
