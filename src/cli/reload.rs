//! `worker-node reload`: has a running worker read its configuration again, and says which keys were taken. Mistakes are told in
//! the same words as at a start, and the worker goes on as before.

use std::path::PathBuf;

use super::{ask, words};
use crate::{
    exit::Exit,
    ports::admin::{Admin, Reload},
};

/// The arguments of `worker-node reload`, checked.
#[derive(Debug, PartialEq, Eq)]
pub struct ReloadCommand {
    /// The worker's state folder.
    pub folder: PathBuf,
}

/// Gives the order to the worker behind `admin`, and prints what it says.
pub fn perform(admin: &dyn Admin) -> Exit {
    let runtime = match ask::runtime() {
        Ok(runtime) => runtime,
        Err(exit) => return exit,
    };
    match runtime.block_on(admin.reload()) {
        Ok(reload) if reload.faults.is_empty() => ask::put(&told(&reload)),
        Ok(reload) => {
            reload.faults.iter().for_each(|fault| ask::complain(fault));
            eprintln!("nothing was taken: the worker goes on as before");
            Exit::Configuration
        }
        Err(error) => ask::unanswered(&error),
    }
}

fn told(reload: &Reload) -> String {
    let names = |keys: &[String]| words::foreign(&keys.join(", "), 4_096);
    let mut told = match reload.taken.is_empty() {
        true => "nothing to take: what can change while the worker runs is as it was\n".to_owned(),
        false => format!("taken: {}\n", names(&reload.taken)),
    };
    if !reload.kept.is_empty() {
        told.push_str(&format!(
            "changed but needs a restart: {}\n",
            names(&reload.kept)
        ));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_and_what_needs_a_restart_is_told_by_name() {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let mut reload = Reload::default();
        assert!(told(&reload).starts_with("nothing to take"));

        reload.taken = names(&["max_tasks", "retention"]);
        reload.kept = names(&["port", "state_dir"]);

        assert_eq!(
            told(&reload),
            "taken: max_tasks, retention\nchanged but needs a restart: port, state_dir\n"
        );
    }
}
