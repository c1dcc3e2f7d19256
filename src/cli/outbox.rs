//! `worker-node outbox retry` and `drop`: an order to the outbox of a running worker, for an operator who knows why the master
//! refused a result. `worker-node state dump` shows which results are parked.

use std::path::PathBuf;

use super::{args::OutboxOrder, ask::ask, words};
use crate::{
    exit::Exit,
    ports::admin::{Admin, AdminError},
};

/// The arguments of `worker-node outbox`, checked.
#[derive(Debug, PartialEq)]
pub struct OutboxCommand {
    /// The worker's state folder.
    pub folder: PathBuf,
    order: OutboxOrder,
}

impl OutboxCommand {
    pub(super) fn new(order: OutboxOrder, folder: PathBuf) -> Self {
        Self { folder, order }
    }
}

/// Gives the order to the worker behind `admin`, and prints what it says.
pub fn perform(command: &OutboxCommand, admin: &dyn Admin) -> Exit {
    ask(give(&command.order, admin))
}

async fn give(order: &OutboxOrder, admin: &dyn Admin) -> Result<String, AdminError> {
    match order {
        OutboxOrder::Retry => admin.retry_outbox().await.map(told),
        OutboxOrder::Drop { task } => {
            admin.drop_result(task).await?;
            let task = words::foreign(task, 256);
            Ok(format!("the result of {task} is let go of\n"))
        }
    }
}

fn told(results: u64) -> String {
    match results {
        0 => "no result is parked: what is due is tried by itself\n".to_owned(),
        1 => "1 parked result is sent again now\n".to_owned(),
        more => format!("{more} parked results are sent again now\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_counted_in_words() {
        assert!(told(0).starts_with("no result is parked"));
        assert_eq!(told(1), "1 parked result is sent again now\n");
        assert_eq!(told(2), "2 parked results are sent again now\n");
    }
}
