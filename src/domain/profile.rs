//! Profiles: the settings that the operator gives to tasks, for a master that cannot ask for them. Setting by setting, what a task
//! asks for itself wins over the first profile that matches it, and that profile over the defaults of all tasks. Pure.

use wildmatch::WildMatch;

use super::{image_rules::Pattern, policy::BindRules, spec::TaskSpec, task_settings::TaskSettings};

/// The operator's defaults and profiles. The first profile that matches a task counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Profiles {
    /// The settings that every task gets.
    pub defaults: TaskSettings,
    /// The profiles in the file's order; no two of one name.
    pub profiles: Vec<Profile>,
}

impl Profiles {
    /// The same profiles without the text of variables, which may be secret.
    #[must_use]
    pub fn redacted(mut self) -> Self {
        self.defaults = self.defaults.redacted();
        for profile in &mut self.profiles {
            profile.settings = profile.settings.clone().redacted();
        }
        self
    }
}

/// Settings for the tasks that it matches.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// The name, by which people and the log call the profile.
    pub name: String,
    /// The tasks that the profile is for.
    pub matching: Matching,
    /// The settings that those tasks get.
    pub settings: TaskSettings,
}

/// The tasks that a profile is for: those that fit every pattern given here. `None` fits every task.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Matching {
    /// A pattern of the image's name in its normal form, such as `docker.io/library/busybox:latest`.
    pub image: Option<Pattern>,
    /// A pattern of the master's class of task (`task_type`).
    pub task_type: Option<TextPattern>,
    /// A pattern of the user who submitted the task (`user_id`).
    pub user: Option<TextPattern>,
    /// A pattern of the user's name for the task (`task_name`).
    pub task_name: Option<TextPattern>,
}

/// A pattern of a text: `*` stands for any text, `?` for one character; upper and lower case differ.
#[derive(Debug, Clone, PartialEq)]
pub struct TextPattern {
    text: String,
    matcher: WildMatch,
}

/// The settings that one task gets, and the profile that they come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Given {
    /// The name of the profile that matched; `None`: no profile did.
    pub profile: Option<String>,
    /// The settings of task, profile and defaults together.
    pub settings: TaskSettings,
    /// The rules for the binds in `settings`; `None`: the operator gives them, or there are none, and no rules hold.
    pub asked_binds: Option<BindRules>,
}

impl TextPattern {
    /// A pattern from the operator's text; every text is a pattern.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            matcher: WildMatch::new(text),
        }
    }

    /// The pattern as the operator wrote it.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn fits(&self, text: &str) -> bool {
        self.matcher.matches(text)
    }
}

impl Matching {
    /// Whether no pattern is given, so that every task fits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn fits(&self, image: &str, spec: &TaskSpec) -> bool {
        let fits = |pattern: &Option<TextPattern>, text: &str| {
            let pattern = pattern.as_ref();
            pattern.is_none_or(|pattern| pattern.fits(text))
        };
        let image_fits = self.image.as_ref().is_none_or(|own| own.fits(image));
        image_fits
            && fits(&self.task_type, &spec.task_type)
            && fits(&self.user, &spec.user_id)
            && fits(&self.task_name, &spec.task_name)
    }
}

impl Profiles {
    /// The first profile that matches this task. `image` is the normal form of the task's image.
    #[must_use]
    pub fn first(&self, image: &str, spec: &TaskSpec) -> Option<&Profile> {
        let mut profiles = self.profiles.iter();
        profiles.find(|profile| profile.matching.fits(image, spec))
    }

    /// The settings that this task gets, whose own wishes the policy has allowed. `binds` are the rules for the binds that it asks
    /// for.
    #[must_use]
    pub fn given(&self, image: &str, spec: &TaskSpec, binds: BindRules) -> Given {
        let first = self.first(image, spec);
        let of_operator = match first {
            Some(profile) => profile.settings.over(&self.defaults),
            None => self.defaults.clone(),
        };
        let asked = spec.asked.as_deref();
        Given {
            profile: first.map(|profile| profile.name.clone()),
            settings: match asked {
                Some(asked) => asked.asked_over(&of_operator),
                None => of_operator,
            },
            asked_binds: asked
                .is_some_and(|asked| asked.volumes.is_some())
                .then_some(binds),
        }
    }

    /// Whether the operator gives no settings at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{id::TaskId, privileges::Capability, spec::Wants, task_settings::Variable};

    const IMAGE: &str = "docker.io/team/trainer:1";

    fn spec() -> TaskSpec {
        TaskSpec {
            id: TaskId::new("a").unwrap(),
            image: "team/trainer:1".into(),
            command: String::new(),
            wants: Wants::default(),
            user_id: "alice".into(),
            task_name: "nightly-7".into(),
            task_type: "train".into(),
            sla_multiplier: 1.0,
            submitted_at: 0,
            asked: None,
        }
    }

    fn matching(image: Option<&str>, rest: [Option<&str>; 3]) -> Matching {
        let [task_type, user, task_name] = rest.map(|text| text.map(TextPattern::new));
        Matching {
            image: image.map(|text| Pattern::read(text).unwrap()),
            task_type,
            user,
            task_name,
        }
    }

    #[test]
    fn all_that_is_given_must_match() {
        for (image, rest, fits) in [
            (Some("*/train*"), [None; 3], true),
            (
                Some("*/train*"),
                [Some("train"), Some("alice"), Some("nightly-*")],
                true,
            ),
            (Some("*/other"), [Some("train"), None, None], false),
            (None, [None, Some("bob"), None], false),
            (None, [None, Some("Alice"), None], false),
            (None, [None, Some("a?ice"), None], true),
            (Some("*/train*"), [None, None, Some("daily-*")], false),
        ] {
            let fit = matching(image, rest).fits(IMAGE, &spec());
            assert_eq!(fit, fits, "{image:?} {rest:?}");
        }
    }

    fn profile(name: &str, user: &str, settings: TaskSettings) -> Profile {
        Profile {
            name: name.into(),
            matching: matching(None, [None, Some(user), None]),
            settings,
        }
    }

    fn variables(pairs: &[(&str, &str)]) -> TaskSettings {
        let one = |(name, value): &(&str, &str)| {
            ((*name).to_owned(), Variable::Text((*value).to_owned()))
        };
        TaskSettings {
            environment: pairs.iter().map(one).collect(),
            ..TaskSettings::default()
        }
    }

    #[test]
    fn the_first_that_matches_wins_over_what_every_task_gets() {
        let profiles = Profiles {
            defaults: TaskSettings {
                network: Some("none".into()),
                user: Some("1000".into()),
                ..variables(&[("A", "0"), ("B", "0")])
            },
            profiles: vec![
                profile("bobs", "bob", variables(&[("A", "bob")])),
                profile(
                    "alices",
                    "al*",
                    TaskSettings {
                        network: Some("bridge".into()),
                        ..variables(&[("A", "1"), ("C", "1")])
                    },
                ),
                profile("everybodys", "*", variables(&[("A", "2")])),
            ],
        };

        let given = profiles.given(IMAGE, &spec(), BindRules::default());

        assert_eq!(given.profile.as_deref(), Some("alices"));
        assert_eq!(given.settings.network.as_deref(), Some("bridge"));
        assert_eq!(given.settings.user.as_deref(), Some("1000"));
        let merged = variables(&[("A", "1"), ("B", "0"), ("C", "1")]);
        assert_eq!(given.settings.environment, merged.environment);
    }

    #[test]
    fn what_a_task_asks_for_wins_and_what_was_to_be_dropped_is_dropped() {
        let capability = |name: &str| Capability::read(name).unwrap();
        let profiles = Profiles {
            defaults: TaskSettings {
                network: Some("jobs".into()),
                cap_drop: Some(vec![capability("CHOWN"), capability("KILL")]),
                ..variables(&[("A", "0"), ("B", "0")])
            },
            profiles: Vec::new(),
        };
        let rules = BindRules {
            roots: vec!["/data".into()],
            never: Vec::new(),
        };
        let given = |asked: TaskSettings| {
            let asked = Some(Box::new(asked));
            profiles.given(IMAGE, &TaskSpec { asked, ..spec() }, rules.clone())
        };

        let own = given(TaskSettings {
            network: Some("none".into()),
            cap_drop: Some(vec![capability("KILL"), capability("FOWNER")]),
            volumes: Some(Vec::new()),
            ..variables(&[("A", "1")])
        });
        let other = given(variables(&[]));

        assert_eq!(own.settings.network.as_deref(), Some("none"));
        let merged = variables(&[("A", "1"), ("B", "0")]);
        assert_eq!(own.settings.environment, merged.environment);
        let dropped = own.settings.cap_drop.unwrap();
        let dropped: Vec<_> = dropped.iter().map(Capability::name).collect();
        assert_eq!(dropped, ["KILL", "FOWNER", "CHOWN"]);
        assert_eq!(own.asked_binds, Some(rules.clone()));
        assert_eq!(other.settings, profiles.defaults);
        assert_eq!(other.asked_binds, None, "its binds are the operator's");
    }

    fn settings() -> impl Strategy<Value = TaskSettings> {
        let word = || prop::option::of("[a-c]");
        let environment = prop::collection::btree_map("[A-C]", "[0-9]", 0..3);
        (environment, word(), word(), word(), any::<Option<bool>>()).prop_map(
            |(environment, network, user, hostname, read_only_root)| TaskSettings {
                environment: environment
                    .into_iter()
                    .map(|(name, value)| (name, Variable::Text(value)))
                    .collect(),
                network,
                user,
                hostname,
                read_only_root,
                ..TaskSettings::default()
            },
        )
    }

    proptest! {
        #[test]
        fn what_a_task_gets_is_the_first_match_else_the_default_setting_by_setting(
            defaults in settings(),
            rows in prop::collection::vec(("[ab]", settings()), 0..5),
            user in "[ab]",
        ) {
            let made = rows.iter().enumerate();
            let made = made.map(|(at, (user, own))| profile(&at.to_string(), user, own.clone()));
            let profiles = Profiles { defaults: defaults.clone(), profiles: made.collect() };
            let task = TaskSpec { user_id: user.clone(), ..spec() };

            let given = profiles.given(IMAGE, &task, BindRules::default());

            let first = rows.iter().position(|(own, _)| *own == user);
            prop_assert_eq!(&given.profile, &first.map(|at| at.to_string()));
            let own = first.map(|at| rows[at].1.clone()).unwrap_or_default();
            prop_assert_eq!(&given.settings.network, &own.network.clone().or(defaults.network.clone()));
            prop_assert_eq!(&given.settings.user, &own.user.clone().or(defaults.user.clone()));
            prop_assert_eq!(given.settings.read_only_root, own.read_only_root.or(defaults.read_only_root));
            for name in ["A", "B", "C"] {
                let expected = own.environment.get(name).or(defaults.environment.get(name));
                prop_assert_eq!(given.settings.environment.get(name), expected);
            }
        }
    }
}
