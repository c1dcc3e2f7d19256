//! Named points at which a test makes this process panic, hang or die: the [`failpoint!`](crate::failpoint!) macro in the
//! code, their list, and their set-up from the variable `FAILPOINTS` at the start. Only with the cargo feature `failpoints`,
//! which `cargo test` turns on and nothing that ships does: without it a point is no code at all.
//!
//! `FAILPOINTS='registry.AssignTask=1*off->1*panic;outbox.report=1*return(abort)'`: the grammar is that of the crate `fail`.
//! Actions that `fail` does not have are written as `return(..)`:
//!
//! - `return(abort)`: the process dies here, as by a crash or a power cut.
//! - `return(hang FIFO)`: this thread blocks until somebody opens the named pipe for writing.
//! - `return(poison TEXT)`: a panic, but only over a message that mentions TEXT: one message that kills whoever handles it.
//!
//! A name is `ACTOR.Message`, `ACTOR.what_it_does` or `journal.Step.before|after`; the part before the dot is the child in
//! which the panic happens.

#[cfg(feature = "failpoints")]
pub use self::armed::{NAMES, pass, set_up, set_up_from_environment};

/// A named point; no code without the feature `failpoints`. The second argument is the value that `return(poison TEXT)` searches
/// for TEXT, such as the message.
#[macro_export]
macro_rules! failpoint {
    ($name:expr) => {
        $crate::failpoint!($name, ())
    };
    ($name:expr, $stake:expr) => {{
        #[cfg(feature = "failpoints")]
        $crate::failpoint::pass($name, &$stake);
    }};
}

#[cfg(all(test, feature = "failpoints"))]
pub(crate) use self::armed::watch_this_thread;

#[cfg(feature = "failpoints")]
mod armed {
    #[cfg(test)]
    use std::{cell::RefCell, rc::Rc};
    use std::{env, fmt, fs::File, process};

    /// The names of all points; a test compares this list with the sources.
    pub const NAMES: &[&str] = &[
        "engine_watch.connect",
        "engine_watch.listed",
        "engine_watch.started",
        "heartbeat.beat",
        "heartbeat.beaten",
        "heartbeat.register_again",
        "heartbeat.started",
        "images.GetImage",
        "janitor.disk",
        "janitor.images",
        "janitor.orphans",
        "janitor.retire",
        "janitor.round",
        "janitor.started",
        "journal.Accept.after",
        "journal.Accept.before",
        "journal.Answered.after",
        "journal.Answered.before",
        "journal.CancelRequested.after",
        "journal.CancelRequested.before",
        "journal.Commit",
        "journal.Delivered.after",
        "journal.Delivered.before",
        "journal.Done.after",
        "journal.Done.before",
        "journal.Ended.after",
        "journal.Ended.before",
        "journal.GetHousehold",
        "journal.GetTask",
        "journal.GetUnfinished",
        "journal.ImagePulled.after",
        "journal.ImagePulled.before",
        "journal.ImageRemoved.after",
        "journal.ImageRemoved.before",
        "journal.Parked.after",
        "journal.Parked.before",
        "journal.Redeliver.after",
        "journal.Redeliver.before",
        "journal.Redelivered.after",
        "journal.Redelivered.before",
        "journal.ReportFailed.after",
        "journal.ReportFailed.before",
        "journal.Retire.after",
        "journal.Retire.before",
        "journal.Running.after",
        "journal.Running.before",
        "journal.Sealed.after",
        "journal.Sealed.before",
        "journal.Set.after",
        "journal.Set.before",
        "journal.Starting.after",
        "journal.Starting.before",
        "journal.UploadFailed.after",
        "journal.UploadFailed.before",
        "journal.Uploaded.after",
        "journal.Uploaded.before",
        "journal.Withdraw.after",
        "journal.Withdraw.before",
        "journal.answer",
        "journal.started",
        "journal.tend",
        "log_router.FinishReading",
        "log_router.OpenLog",
        "log_router.OpenSpool",
        "log_router.ReadContainer",
        "log_router.attached",
        "log_router.finished",
        "outbox.Deliver",
        "outbox.DeliverAgain",
        "outbox.DropParked",
        "outbox.RetryParked",
        "outbox.again",
        "outbox.deliver",
        "outbox.delivered",
        "outbox.dropped",
        "outbox.finished",
        "outbox.park",
        "outbox.registration",
        "outbox.report",
        "outbox.reported",
        "outbox.seal",
        "outbox.sealed",
        "outbox.started",
        "outbox.take_up",
        "outbox.told_again",
        "outbox.upload",
        "outbox.uploaded",
        "registry.AssignTask",
        "registry.CancelTask",
        "registry.Drain",
        "registry.FailOffer",
        "registry.GetSealing",
        "registry.GetStanding",
        "registry.SetCordon",
        "registry.StopAll",
        "registry.TaskNews",
        "registry.accept",
        "registry.answer_again",
        "registry.answer_finished",
        "registry.close_without_actor",
        "registry.committed",
        "registry.compare",
        "registry.cordoned",
        "registry.deliver_again",
        "registry.deliver_without_actor",
        "registry.found_in_journal",
        "registry.gave_up",
        "registry.judge_after",
        "registry.load",
        "registry.reconcile",
        "registry.reconcile_again",
        "registry.record_answer",
        "registry.record_cancel",
        "registry.say_ready",
        "registry.settled",
        "registry.start_task",
        "registry.started",
        "registry.stop_at",
        "registry.stop_task",
        "registry.tell_delivered",
        "registry.tell_sealed",
        "registry.unrepeated_offer",
        "registry.wanted_again",
        "registry.withdrawn",
        "servers.serve",
        "servers.served",
        "servers.started",
        "session.MasterIsAt",
        "session.RegisterAgain",
        "session.register",
        "session.registered",
        "session.remember",
        "session.started",
        "task.ResultDelivered",
        "task.ResultSealed",
        "task.StopTask",
        "task.attached",
        "task.begin",
        "task.clean",
        "task.cleaned",
        "task.collect",
        "task.collected",
        "task.container_started",
        "task.create",
        "task.create_anew",
        "task.created",
        "task.deliver",
        "task.exited",
        "task.finish",
        "task.grace_elapsed",
        "task.grace_elapsed_again",
        "task.handed_over",
        "task.kill",
        "task.look",
        "task.prove_start",
        "task.pull",
        "task.pulled",
        "task.read_on",
        "task.record_end",
        "task.record_running",
        "task.recorded",
        "task.remove",
        "task.run_step",
        "task.signal",
        "task.signalled",
        "task.start",
        "task.started",
        "task.step",
        "task.tell_anew",
        "task.time_out",
        "task.wait",
        "task.wait_out",
        "task.watch_storage",
        "task.watch_usage",
    ];

    /// Does what is configured for the point `name`; returns at once if nothing is.
    ///
    /// # Panics
    /// When a panic is configured, or an action that has no meaning.
    #[track_caller]
    pub fn pass(name: &str, stake: &dyn fmt::Debug) {
        #[cfg(test)]
        if let Some(watch) = WATCH.with_borrow(Clone::clone) {
            watch(name);
        }
        // Panic here rather than within `eval`, whose panic would name a place in the crate `fail` instead of the point's own.
        let Some(argument) = fail::eval(name, Option::unwrap_or_default) else {
            return;
        };
        match argument.split_once(' ') {
            None if argument == "panic" => panic!("failpoint {name} panic"),
            None if argument == "abort" => {
                log::error!(name; "failpoint: abort");
                process::abort()
            }
            Some(("hang", pipe)) => {
                log::warn!(name; "failpoint: hang");
                // Opening a pipe for reading blocks until there is a writer. Once the test has removed the pipe, opening fails
                // and nobody hangs.
                drop(File::open(pipe));
                log::warn!(name; "failpoint: released");
            }
            Some(("poison", text)) => assert!(
                !format!("{stake:?}").contains(text),
                "failpoint {name} panic: {text} is poison"
            ),
            _ => panic!("failpoint {name}: return({argument}) has no meaning"),
        }
    }

    /// Called with the name of each point that is passed.
    #[cfg(test)]
    pub(crate) type Watch = Rc<dyn Fn(&str)>;

    #[cfg(test)]
    thread_local! {
        static WATCH: RefCell<Option<Watch>> = const { RefCell::new(None) };
    }

    /// From now on calls `watch` at every point that this thread passes; `watch` may panic there. For tests that run a whole
    /// worker in one thread.
    #[cfg(test)]
    pub(crate) fn watch_this_thread(watch: Option<Watch>) {
        WATCH.set(watch);
    }

    /// Turns `panic` into `return(panic)`, so that [`pass`] panics itself and the panic names the place of the point.
    fn with_place(actions: &str) -> String {
        let own = |action: &str| match action.strip_suffix("panic") {
            Some(times) => format!("{times}return(panic)"),
            None => action.to_owned(),
        };
        let actions: Vec<String> = actions.split("->").map(own).collect();
        actions.join("->")
    }

    /// As [`set_up`], with the text of the variable `FAILPOINTS`; a missing variable configures nothing.
    ///
    /// # Errors
    /// As [`set_up`].
    pub fn set_up_from_environment() -> Result<(), String> {
        set_up(&env::var("FAILPOINTS").unwrap_or_default())
    }

    /// Configures points: `name=actions;name=actions`.
    ///
    /// # Errors
    /// A name that no point has, or actions that cannot be read: a test must not pass because of a typo.
    pub fn set_up(text: &str) -> Result<(), String> {
        for one in text.split(';').filter(|one| !one.trim().is_empty()) {
            let (name, actions) = one
                .trim()
                .split_once('=')
                .ok_or_else(|| format!("FAILPOINTS: {one:?} is not name=actions"))?;
            if !NAMES.contains(&name) {
                return Err(format!("FAILPOINTS: there is no point {name:?}"));
            }
            fail::cfg(name, &with_place(actions))
                .map_err(|error| format!("FAILPOINTS: {name}: {error}"))?;
        }
        Ok(())
    }

    #[cfg(test)]
    mod tests {
        use std::panic::catch_unwind;

        use super::*;

        #[test]
        fn a_typo_is_refused() {
            assert!(set_up("registry.AsignTask=panic").is_err());
            assert!(set_up("registry.AssignTask").is_err());
            assert!(set_up("registry.AssignTask=1*jump").is_err());
            assert!(set_up(" ; ").is_ok());
        }

        #[test]
        fn poison_kills_over_its_own_message_alone() {
            fail::cfg("made up", "return(poison t-7)").unwrap();

            assert!(catch_unwind(|| pass("made up", &"task t-6")).is_ok());
            assert!(catch_unwind(|| pass("made up", &"task t-7")).is_err());
            assert!(catch_unwind(|| pass("another", &"task t-7")).is_ok());
        }

        #[test]
        fn what_has_no_meaning_is_no_silence() {
            fail::cfg("meaningless", "return(explode)").unwrap();

            assert!(catch_unwind(|| pass("meaningless", &())).is_err());
        }
    }
}
