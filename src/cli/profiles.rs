//! `worker-node profiles test`: which settings a task would get from the profiles in the configuration, and which profile sets
//! each. Asks no worker and no engine.

use serde_json::{Map, json};

use super::{
    Answer,
    args::{ProfilesArgs, ProfilesOrder, TaskArgs},
    ask, columns,
    reading::Reading,
    words,
};
use crate::{
    config::profiles::{Told, told},
    domain::{
        id::TaskId,
        policy::BindRules,
        profile::{Profile, Profiles},
        spec::{TaskSpec, Wants},
    },
    exit::Exit,
};

/// Bytes of a value that are shown.
const SHOWN: usize = 1_024;

/// The arguments of `worker-node profiles`, checked.
#[derive(Debug, PartialEq)]
pub struct ProfilesCommand {
    profiles: Profiles,
    task: TaskSpec,
    json: bool,
}

/// One setting: its key, its value, and whether the profile sets it, and not the defaults.
struct Row {
    key: String,
    value: Told,
    of_profile: bool,
}

impl ProfilesCommand {
    pub(super) fn new(args: ProfilesArgs, reading: &Reading) -> Result<Self, Answer> {
        let ProfilesOrder::Test(test) = args.order;
        let config = reading.launch(&test.run.flags)?.config;
        Ok(Self {
            profiles: config.tasks.profiles,
            task: task(test.task),
            json: test.json,
        })
    }
}

fn task(given: TaskArgs) -> TaskSpec {
    TaskSpec {
        id: TaskId::new("test").expect("a plain word is an id"),
        image: given.image,
        command: String::new(),
        wants: Wants::default(),
        user_id: given.user.unwrap_or_default(),
        task_name: given.name.unwrap_or_default(),
        task_type: given.task_type.unwrap_or_default(),
        sla_multiplier: 0.0,
        submitted_at: 0,
        asked: None,
    }
}

/// Prints what the task would get. `normal` brings an image's name to its full form, or says what is wrong with it.
pub fn perform(
    command: &ProfilesCommand,
    normal: impl FnOnce(&str) -> Result<String, String>,
) -> Exit {
    let image = match normal(&command.task.image) {
        Ok(image) => image,
        Err(reason) => {
            let image = words::foreign(&command.task.image, SHOWN);
            eprintln!("error: --image '{image}' is no image's name: {reason}");
            return Exit::Usage;
        }
    };
    let profile = command.profiles.first(&image, &command.task);
    let rows = rows(command, &image, profile);
    ask::put(&match command.json {
        true => json(&image, profile, rows),
        false => page(&image, profile, &rows),
    })
}

fn rows(command: &ProfilesCommand, image: &str, profile: Option<&Profile>) -> Vec<Row> {
    let own = profile.map(|profile| told(&profile.settings));
    let own = own.unwrap_or_default();
    let given = command
        .profiles
        .given(image, &command.task, BindRules::default());
    let all = told(&given.settings).into_iter();
    all.map(|(key, value)| Row {
        of_profile: own.iter().any(|(own, _)| *own == key),
        key,
        value,
    })
    .collect()
}

fn page(image: &str, profile: Option<&Profile>, rows: &[Row]) -> String {
    let image = words::foreign(image, SHOWN);
    let first = match profile {
        Some(profile) => format!(
            "A task of {image} gets the profile '{}', the first that fits.\n",
            profile.name
        ),
        None => format!("No profile fits a task of {image}.\n"),
    };
    if rows.is_empty() {
        return first + "Nothing is given to it beside what the flags say.\n";
    }
    let head = ["SETTING", "VALUE", "FROM"].map(str::to_owned);
    let lines = rows.iter().map(|row| {
        let value = words::foreign(&row.value.to_string(), SHOWN);
        [row.key.clone(), value, from(row, profile)]
    });
    let lines: Vec<_> = std::iter::once(head).chain(lines).collect();
    first + "\n" + &columns::aligned(&lines)
}

fn from(row: &Row, profile: Option<&Profile>) -> String {
    match profile.filter(|_| row.of_profile) {
        Some(profile) => format!("profile {}", profile.name),
        None => "task_defaults".into(),
    }
}

fn json(image: &str, profile: Option<&Profile>, rows: Vec<Row>) -> String {
    let settings = rows.into_iter().map(|row| {
        let told = json!({ "value": words::told(&row.value), "from": from(&row, profile) });
        (row.key, told)
    });
    let page = json!({
        "version": words::JSON_VERSION,
        "image": image,
        "profile": profile.map(|profile| &profile.name),
        "settings": settings.collect::<Map<_, _>>(),
    });
    format!("{page}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        profile::{Matching, TextPattern},
        task_settings::{TaskSettings, Variable},
    };

    fn command(user: &str) -> ProfilesCommand {
        let variable = |value: &str| Variable::Text(value.into());
        let defaults = TaskSettings {
            environment: [("TZ".into(), variable("UTC")), ("A".into(), variable("0"))].into(),
            network: Some("none".into()),
            ..TaskSettings::default()
        };
        let settings = TaskSettings {
            environment: [("A".into(), variable("1"))].into(),
            user: Some("7".into()),
            ..TaskSettings::default()
        };
        let matching = Matching {
            user: Some(TextPattern::new("alice")),
            ..Matching::default()
        };
        let task = TaskArgs {
            image: "a".into(),
            task_type: None,
            user: Some(user.into()),
            name: None,
        };
        ProfilesCommand {
            profiles: Profiles {
                defaults,
                profiles: vec![Profile {
                    name: "alices".into(),
                    matching,
                    settings,
                }],
            },
            task: super::task(task),
            json: false,
        }
    }

    #[test]
    fn each_setting_is_told_with_its_value_and_the_place_that_says_so() {
        let command = command("alice");
        let profile = command.profiles.first("r/a:1", &command.task);

        let page = page("r/a:1", profile, &rows(&command, "r/a:1", profile));

        assert_eq!(
            page,
            "A task of r/a:1 gets the profile 'alices', the first that fits.\n\n\
             SETTING         VALUE   FROM\n\
             environment.A   \"1\"     profile alices\n\
             environment.TZ  \"UTC\"   task_defaults\n\
             network         \"none\"  task_defaults\n\
             user            \"7\"     profile alices\n"
        );
    }

    #[test]
    fn programs_are_told_the_same() {
        let command = command("bob");

        let told = json("r/a:1", None, rows(&command, "r/a:1", None));

        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told["version"], words::JSON_VERSION);
        assert_eq!(told["profile"], serde_json::Value::Null);
        assert_eq!(told["settings"]["network"]["value"], "none");
        assert_eq!(told["settings"]["environment.A"]["from"], "task_defaults");
    }
}
