//! The orderly end, each part within its bound: no more offers, then what `--on-stop` says about the tasks, then some time for
//! results to be delivered, then the children in reverse order. A second signal shortens it. What is not done by then lies on the
//! disk for the next start, and the log says so.

use std::{process, thread, time::Duration};

use log::{error, info, warn};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::{service_manager, signals::Signals, tree::Tree};
use crate::{
    config::{Config, OnStop},
    domain::id::TaskId,
    exit::Exit,
    supervision::StopReport,
};

/// Time for the children to stop: enough for the last commits and for answers in flight. Then the process ends all the same.
pub(super) const STOP: Duration = Duration::from_secs(10);

/// The same time after a second signal.
const HURRY: Duration = Duration::from_secs(2);

/// How long results may take to be delivered; then they wait for the next start. A master may be away for hours, and a machine
/// has to restart.
const DELIVERY: Duration = Duration::from_secs(10);

/// How long stopping all tasks may take beyond `--stop-grace`: for the engine to end containers, and for their outputs to be
/// listed.
const STOPPING: Duration = Duration::from_secs(30);

/// How often the log names the tasks that are waited for, and the service manager is asked for more time. Twice this is more than
/// the end takes after the tasks.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// Most tasks that one line names.
const NAMED: usize = 10;

/// Ends the worker as the module says. `name` is the signal's name.
pub(super) async fn stop(tree: &Tree, config: &Config, name: &str, signals: &mut Signals) -> Exit {
    let (worker, state) = (&config.cluster.worker, config.state.folder.display());
    info!(signal = name, worker:%, state:%; "stopping: no new tasks are taken");
    service_manager::stopping();
    let orderly = async {
        tree.drain().await;
        until_tasks_allow(tree, config).await;
        hurry_at(STOP + Duration::from_secs(2));
        tree.stop(Instant::now() + STOP).await
    };
    let report = tokio::select! {
        report = orderly => report,
        _ = signals.end() => hurried(tree).await,
    };
    if report.killed.is_empty() {
        info!("stopped");
        Exit::Clean
    } else {
        warn!(killed:? = report.killed; "stopped, but not everybody in time");
        Exit::StopOverdue
    }
}

async fn until_tasks_allow(tree: &Tree, config: &Config) {
    let rules = &config.process;
    match rules.on_stop {
        OnStop::Leave => {
            if let Some(named) = named(&tree.running()) {
                info!("{named} left running for the next start");
            }
            return;
        }
        OnStop::Drain => tell_while(tree, tree.tasks_over()).await,
        OnStop::Stop => {
            tree.stop_tasks().await;
            let patience = config.tasks.stop_grace + STOPPING;
            service_manager::stopping_takes(patience + 2 * TOLD_EVERY);
            if timeout(patience, tree.tasks_over()).await.is_err()
                && let Some(named) = named(&tree.running())
            {
                warn!("{named} could not be stopped within {patience:?}; left to the next start");
            }
        }
    }
    if timeout(DELIVERY, tree.nothing_left()).await.is_err() {
        match tree.undelivered() {
            0 => {}
            1 => warn!("1 result is not delivered; it is kept and sent at the next start"),
            more => {
                warn!("{more} results are not delivered; they are kept and sent at the next start")
            }
        }
    }
}

/// Waits until `over`, and logs now and then which tasks are waited for.
async fn tell_while(tree: &Tree, over: impl Future<Output = ()>) {
    let mut turns = interval(TOLD_EVERY);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::pin!(over);
    loop {
        tokio::select! {
            biased;
            () = &mut over => return,
            _ = turns.tick() => {
                service_manager::stopping_takes(2 * TOLD_EVERY);
                if let Some(named) = named(&tree.running()) {
                    info!("waiting for running tasks (--on-stop drain): {named}");
                }
            },
        }
    }
}

/// `2 tasks: a, b`; `None` for no tasks. Names at most [`NAMED`].
fn named(tasks: &[TaskId]) -> Option<String> {
    let names: Vec<String> = tasks.iter().take(NAMED).map(TaskId::to_string).collect();
    let more = tasks.len() - names.len();
    let names = names.join(", ");
    match (tasks.len(), more) {
        (0, _) => None,
        (1, _) => Some(format!("1 task: {names}")),
        (count, 0) => Some(format!("{count} tasks: {names}")),
        (count, more) => Some(format!("{count} tasks: {names}, and {more} more")),
    }
}

/// The end after a second signal: running tasks are left running, as with `--on-stop leave`.
async fn hurried(tree: &Tree) -> StopReport {
    warn!("hurrying: a second signal came; running tasks are left to the next start");
    hurry_at(HURRY + Duration::from_secs(1));
    tree.stop(Instant::now() + HURRY).await
}

/// Ends the process after `time`, whatever hangs: a last resort.
pub(super) fn hurry_at(time: Duration) {
    thread::spawn(move || {
        #[expect(
            clippy::disallowed_methods,
            reason = "a thread of its own, which waits for nothing else"
        )]
        thread::sleep(time);
        error!("the stop took longer than {time:?}; ending now");
        log::logger().flush();
        process::exit(i32::from(Exit::StopOverdue.code()));
    });
}

/// Ends the process from a thread that has no thread-locals. `exit(3)` destroys the caller's: on the main thread the runtime
/// would drop tasks during that, and those that use a thread-local would panic.
pub(super) fn leave(exit: Exit) -> ! {
    log::logger().flush();
    let code = i32::from(exit.code());
    let leaving = thread::Builder::new().spawn(move || process::exit(code));
    if let Ok(leaving) = leaving {
        // It never returns: the process ends.
        let _ = leaving.join();
    }
    process::exit(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_counted_and_named_and_many_are_cut() {
        let tasks = |count: usize| -> Vec<TaskId> {
            let id = |number| TaskId::new(format!("t{number}")).unwrap();
            (1..=count).map(id).collect()
        };

        assert_eq!(named(&tasks(0)), None);
        assert_eq!(named(&tasks(1)).unwrap(), "1 task: t1");
        assert_eq!(named(&tasks(2)).unwrap(), "2 tasks: t1, t2");
        let many = named(&tasks(12)).unwrap();
        assert!(many.starts_with("12 tasks: t1, "), "{many}");
        assert!(many.ends_with("t10, and 2 more"), "{many}");
    }
}
