//! `worker-node cordon`, `uncordon`, `drain` and `cancel`: orders to a running worker about the tasks that it takes and has.

use std::{path::PathBuf, time::Duration};

use super::{ask::ask, words};
use crate::{
    domain::callers::Caller,
    exit::Exit,
    ports::admin::{Admin, AdminError, TaskView},
};

/// Time between two looks at the tasks that are left.
const PERIOD: Duration = Duration::from_secs(1);

/// How many tasks are named; the others are counted.
const NAMED: usize = 5;

/// The arguments of these commands, checked.
#[derive(Debug, PartialEq)]
pub struct OrderCommand {
    /// The worker's state folder.
    pub folder: PathBuf,
    pub(super) order: Order,
}

/// The order that the worker gets.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// To take no new tasks.
    Cordon,
    /// To take new tasks again.
    Uncordon,
    /// To take none, and to bring those that it has to their end.
    Drain {
        /// Tasks that still run after this time are stopped; `None`: they may run on.
        deadline: Option<Duration>,
        /// Whether the command waits until no task is left.
        wait: bool,
    },
    /// To cancel one task.
    Cancel {
        /// Its id.
        task: String,
    },
}

/// Gives the order to the worker behind `admin`, and prints what it says.
pub fn perform(command: &OrderCommand, admin: &dyn Admin) -> Exit {
    ask(give(&command.order, admin))
}

async fn give(order: &Order, admin: &dyn Admin) -> Result<String, AdminError> {
    // Empty: the worker sees by the socket who asks.
    let me = Caller::default();
    match order {
        Order::Cordon => {
            admin.cordon(&me, None).await?;
            let tasks = admin.tasks().await?;
            Ok(format!(
                "cordoned: new tasks are refused; {}\n",
                left(&tasks)
            ))
        }
        Order::Uncordon => {
            admin.uncordon().await?;
            Ok("uncordoned: new tasks are taken again\n".to_owned())
        }
        Order::Drain { deadline, wait } => {
            admin.cordon(&me, *deadline).await?;
            match wait {
                true => until_none_is_left(admin).await,
                false => {
                    let tasks = admin.tasks().await?;
                    Ok(format!(
                        "draining: new tasks are refused; {}\n",
                        left(&tasks)
                    ))
                }
            }
        }
        Order::Cancel { task } => {
            admin.cancel(&me, task).await?;
            Ok(format!(
                "{} is being cancelled\n",
                words::foreign(task, 256)
            ))
        }
    }
}

/// Waits until every task's result is delivered; says what is left whenever that changes.
async fn until_none_is_left(admin: &dyn Admin) -> Result<String, AdminError> {
    let mut told = String::new();
    loop {
        let tasks = admin.tasks().await?;
        if tasks.is_empty() {
            return Ok("drained: no task is left, and every result is delivered\n".to_owned());
        }
        let tell = left(&tasks);
        if tell != told {
            eprintln!("draining: {tell}");
            told = tell;
        }
        tokio::time::sleep(PERIOD).await;
    }
}

/// `2 tasks are left: a (running), b (reporting)`.
fn left(tasks: &[TaskView]) -> String {
    let names: Vec<_> = tasks
        .iter()
        .take(NAMED)
        .map(|task| format!("{} ({})", words::foreign(&task.task, 64), task.stage))
        .collect();
    let names = names.join(", ");
    match (tasks.len(), tasks.len().saturating_sub(NAMED)) {
        (0, _) => "no task is left".to_owned(),
        (1, _) => format!("1 task is left: {names}"),
        (count, 0) => format!("{count} tasks are left: {names}"),
        (count, more) => format!("{count} tasks are left: {names}, and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tasks(count: usize) -> Vec<TaskView> {
        let task = |number| TaskView {
            used: None,
            task: format!("t{number}"),
            stage: "running".into(),
            cpu: 1.0,
            memory: 1.0,
            gpu: 0.0,
        };
        (1..=count).map(task).collect()
    }

    #[test]
    fn tasks_that_are_left_are_counted_and_named() {
        assert_eq!(left(&tasks(0)), "no task is left");
        assert_eq!(left(&tasks(1)), "1 task is left: t1 (running)");
        assert_eq!(
            left(&tasks(2)),
            "2 tasks are left: t1 (running), t2 (running)"
        );
        assert!(left(&tasks(7)).ends_with("t5 (running), and 2 more"));
    }
}
