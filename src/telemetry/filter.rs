//! Which log lines are shown: parses `RUST_LOG`, in which modules have the short names that log lines show, and adds it to the
//! default. Pure: what cannot be understood comes back as a complaint.

use std::str::FromStr;

use log::LevelFilter;

/// What is shown unless `RUST_LOG` says otherwise: this program's info, and of the libraries only warnings and errors.
pub(super) const DEFAULT: &str = "warn,worker_node=info,lifecycle=info";

/// The engine's client shows whole requests and answers from debug on: what the variables of tasks are set to, too.
const TELLTALE: &str = "bollard";

/// As much of it as may be shown.
const OF_TELLTALE: LevelFilter = LevelFilter::Info;

/// The target of the events in the actors' lives; it is not the name of a module.
const LIFECYCLE: &str = "lifecycle";

/// All modules of this program by their whole paths, and the libraries that are built in.
mod names {
    include!(concat!(env!("OUT_DIR"), "/log_names.rs"));
}

/// A parsed filter.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Filter {
    /// The filter in env_logger's own words.
    pub(super) directives: String,
    /// The parts that could not be understood, as text for the operator.
    pub(super) complaints: Vec<String>,
    /// Whether any part was understood.
    pub(super) says: bool,
}

impl Filter {
    /// Parses `RUST_LOG`. A level alone is for everything, and replaces the default; a name with a level is added to it.
    pub(super) fn read(said: &str) -> Self {
        // As in env_logger: a slash begins a pattern that all shown lines must match.
        let (said, pattern) = match said.split_once('/') {
            Some((said, pattern)) => (said, Some(pattern)),
            None => (said, None),
        };
        let mut says = false;
        let mut base = DEFAULT.to_owned();
        let mut base_level = LevelFilter::Warn;
        let mut added = Vec::new();
        let mut complaints = Vec::new();
        for part in said
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            let part = read_part(part);
            says |= part.is_ok();
            match part {
                Ok(Part::Everything(level)) => {
                    base_level = level;
                    base = level.to_string().to_lowercase();
                }
                Ok(Part::Named(names, level)) => {
                    let level = level.to_string().to_lowercase();
                    added.extend(names.into_iter().map(|name| format!("{name}={level}")));
                }
                Err(complaint) => complaints.push(complaint),
            }
        }
        let mut directives = base;
        if base_level > OF_TELLTALE {
            added.insert(0, format!("{TELLTALE}=info"));
        }
        for directive in added {
            directives = format!("{directives},{directive}");
        }
        if let Some(pattern) = pattern {
            directives = format!("{directives}/{pattern}");
        }
        Self {
            directives,
            complaints,
            says,
        }
    }
}

enum Part {
    Everything(LevelFilter),
    Named(Vec<String>, LevelFilter),
}

fn read_part(part: &str) -> Result<Part, String> {
    let (name, level) = match part.split_once('=') {
        Some((name, level)) => (name.trim(), level.trim()),
        None => match LevelFilter::from_str(part) {
            Ok(level) => return Ok(Part::Everything(level)),
            Err(_) => (part, "trace"),
        },
    };
    let level = LevelFilter::from_str(level).map_err(|_| {
        format!("'{part}' has no level; write {name}=error, warn, info, debug, trace or off")
    })?;
    if name.split("::").next() == Some(TELLTALE) && level > OF_TELLTALE {
        return Err(format!(
            "'{part}' would show what the variables of tasks are set to; write {name}=info, or engine=debug"
        ));
    }
    match targets(name) {
        targets if targets.is_empty() => Err(format!(
            "nothing here is called '{name}'; write a name as the log lines show it (operator=debug), or a level alone (error, warn, info, \
             debug, trace or off)"
        )),
        targets => Ok(Part::Named(targets, level)),
    }
}

/// The targets that env_logger knows for `name`: a target, a library's path, or the modules of this program whose path contains
/// it.
fn targets(name: &str) -> Vec<String> {
    let first = name.split("::").next().unwrap_or(name);
    if name == LIFECYCLE || names::LIBRARIES.contains(&first) {
        return vec![name.to_owned()];
    }
    let inner = format!("::{name}");
    let mut found: Vec<String> = Vec::new();
    for module in names::MODULES {
        let whole = module.starts_with(name) && is_end(&module[name.len()..]);
        let end = if whole {
            Some(name.len())
        } else {
            let at = module.match_indices(&inner).map(|(at, _)| at + inner.len());
            at.into_iter().find(|end| is_end(&module[*end..]))
        };
        if let Some(end) = end
            && !found.iter().any(|target| target == &module[..end])
        {
            found.push(module[..end].to_owned());
        }
    }
    found
}

fn is_end(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with("::")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn directives(said: &str) -> String {
        let filter = Filter::read(said);
        assert_eq!(filter.complaints, [""; 0], "{said}");
        filter.directives
    }

    #[test]
    fn a_name_as_the_lines_show_it_is_added_to_the_default() {
        assert_eq!(
            directives("operator=debug"),
            format!("{DEFAULT},worker_node::telemetry::operator=debug")
        );
        assert_eq!(
            directives("lifecycle=off"),
            format!("{DEFAULT},lifecycle=off")
        );
        assert_eq!(
            directives(" reporting = trace , h2=info"),
            format!("{DEFAULT},worker_node::actors::outbox::reporting=trace,h2=info")
        );
    }

    #[test]
    fn a_name_alone_shows_all_of_it_and_a_part_of_a_path_all_below_it() {
        assert_eq!(
            directives("operator"),
            format!("{DEFAULT},worker_node::telemetry::operator=trace")
        );
        assert_eq!(
            directives("actors=debug"),
            format!("{DEFAULT},worker_node::actors=debug,worker_node::cli::actors=debug")
        );
        assert_eq!(
            directives("worker_node=debug,worker_node::engine=off"),
            format!("{DEFAULT},worker_node=debug,worker_node::engine=off")
        );
    }

    #[test]
    fn a_level_alone_is_for_everything_and_takes_the_place_of_the_default() {
        assert_eq!(directives("debug"), "debug,bollard=info");
        assert_eq!(
            directives("warn,operator=info"),
            "warn,worker_node::telemetry::operator=info"
        );
        assert_eq!(directives("off"), "off");
        assert_eq!(directives(""), DEFAULT);
    }

    #[test]
    fn no_level_has_the_engines_client_tell_what_variables_are_set_to() {
        assert_eq!(directives("trace"), "trace,bollard=info");
        assert_eq!(
            directives("trace,bollard=error"),
            "trace,bollard=info,bollard=error"
        );
        assert_eq!(directives("info"), "info");
    }

    #[test]
    fn what_nothing_is_called_is_complained_of_and_changes_nothing() {
        for said in [
            "garbage",
            "h2=trace=x",
            "bollard",
            "bollard::docker=debug",
            "operatr=debug",
            "operator=loud",
            "=debug",
        ] {
            let filter = Filter::read(said);

            assert_eq!(filter.directives, DEFAULT, "{said}");
            assert_eq!(filter.complaints.len(), 1, "{said}");
            assert!(filter.complaints[0].contains("write "), "{said}");
        }
    }
}
