//! `worker-node outbox retry` and `drop`: an order to the outbox of a running worker, for an operator who has seen to what the master
//! refused. What is put aside is shown by `worker-node state dump`.

use std::path::PathBuf;

use tokio::runtime::Builder;

use super::{
    args::OutboxOrder,
    page::{self, Paper},
    words,
};
use crate::{exit::Exit, ports::admin::Admin};

/// What was asked for, checked.
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
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: this process cannot begin: {error}");
            return Exit::Unexpected;
        }
    };
    let answer = match &command.order {
        OutboxOrder::Retry => runtime.block_on(admin.retry_outbox()).map(told),
        OutboxOrder::Drop { task } => {
            let dropped = runtime.block_on(admin.drop_result(task));
            dropped.map(|()| format!("the result of {} is let go of\n", words::foreign(task, 256)))
        }
    };
    match answer {
        Ok(said) => match Paper::standard().put(&said) {
            Ok(()) => Exit::Clean,
            Err(error) => page::unwritten(&error),
        },
        Err(error) => {
            eprintln!("error: {}", words::foreign(&error.to_string(), 1_024));
            super::exit_of(&error)
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
