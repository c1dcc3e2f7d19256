//! `worker-node actors`: the tree of a running worker's actors, one of them, or an order to restart one. Asks through
//! `ports::admin` and reads the history's files; what is shown is made by pure functions (`tree`, `one`, `json`).

mod json;
mod one;
mod restart;
mod tree;

use std::{collections::VecDeque, io, path::PathBuf, time::Duration};

use thiserror::Error;

use super::{
    args::{ActorsArgs, ActorsOrder},
    ask, columns,
    page::{self, Paper},
    words,
};
use crate::{
    exit::Exit,
    ports::admin::{Admin, AdminError},
    telemetry::history::{self, Book, HistoryEvent},
};

/// Time between two pages of `--watch`.
const PERIOD: Duration = Duration::from_secs(1);

/// How many of one actor's newest events are shown.
const LAST_EVENTS: usize = 20;

/// The arguments of `worker-node actors`, checked.
#[derive(Debug, PartialEq)]
pub struct ActorsCommand {
    /// The worker's state folder.
    pub folder: PathBuf,
    request: Request,
}

#[derive(Debug, PartialEq)]
enum Request {
    Restart(String),
    Show(Show),
}

#[derive(Debug, PartialEq)]
struct Show {
    /// The actor to show; `None`: the whole tree.
    name: Option<String>,
    crowd: Crowd,
    repeat: Repeat,
    format: Format,
}

/// How the tree shows tasks when there are many (`tree::CROWD`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Crowd {
    /// As one line that counts them by state.
    Counted,
    /// Each in a line of its own.
    Shown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeat {
    Once,
    UntilInterrupted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Json,
}

/// Why the command failed.
#[derive(Debug, Error)]
enum Trouble {
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error("the history cannot be read: {0}")]
    History(io::Error),
    #[error("{0} is not back: {1}")]
    NotBack(String, String),
    #[error("the output cannot be written: {0}")]
    Output(io::Error),
}

impl ActorsCommand {
    pub(super) fn new(args: ActorsArgs, folder: PathBuf) -> Self {
        let request = match args.order {
            Some(ActorsOrder::Restart { name }) => Request::Restart(name),
            None => Request::Show(Show {
                name: args.name,
                crowd: match args.all {
                    true => Crowd::Shown,
                    false => Crowd::Counted,
                },
                repeat: match args.watch {
                    true => Repeat::UntilInterrupted,
                    false => Repeat::Once,
                },
                format: match args.json {
                    true => Format::Json,
                    false => Format::Text,
                },
            }),
        };
        Self { folder, request }
    }
}

/// Asks the worker behind `admin`, and prints what it says.
pub fn perform(command: &ActorsCommand, admin: &dyn Admin) -> Exit {
    let runtime = match ask::runtime() {
        Ok(runtime) => runtime,
        Err(exit) => return exit,
    };
    match runtime.block_on(command.perform(admin)) {
        Ok(()) => Exit::Clean,
        Err(Trouble::Output(error)) => page::unwritten(&error),
        Err(trouble) => {
            ask::complain(&trouble.to_string());
            trouble.exit()
        }
    }
}

impl Trouble {
    fn exit(&self) -> Exit {
        match self {
            Self::Admin(error) => ask::exit_of(error),
            Self::History(_) | Self::NotBack(..) | Self::Output(_) => Exit::Unexpected,
        }
    }
}

impl ActorsCommand {
    async fn perform(&self, admin: &dyn Admin) -> Result<(), Trouble> {
        let mut paper = Paper::standard();
        let show = match &self.request {
            Request::Restart(name) => {
                let told = restart::restart(admin, name).await?;
                return paper.put(&told).map_err(Trouble::Output);
            }
            Request::Show(show) => show,
        };
        loop {
            let page = self.page(show, admin).await?;
            if show.repeat == Repeat::Once {
                return paper.put(&page).map_err(Trouble::Output);
            }
            paper.turn(&page).map_err(Trouble::Output)?;
            tokio::time::sleep(PERIOD).await;
        }
    }

    async fn page(&self, show: &Show, admin: &dyn Admin) -> Result<String, Trouble> {
        let Some(name) = &show.name else {
            let tree = admin.actors().await?;
            return Ok(match show.format {
                Format::Json => json::tree(&tree),
                Format::Text => tree::page(&tree, show.crowd),
            });
        };
        let actor = admin.actor(name).await?;
        let events = self.last_events(&actor.name).map_err(Trouble::History)?;
        Ok(match show.format {
            Format::Json => json::one(&actor, &events),
            Format::Text => one::page(&actor, &events),
        })
    }

    fn last_events(&self, actor: &str) -> io::Result<Vec<HistoryEvent>> {
        let mut last = VecDeque::new();
        for event in
            history::read(&self.folder, Book::Lifecycle)?.filter(|event| event.actor == actor)
        {
            if last.len() == LAST_EVENTS {
                last.pop_front();
            }
            last.push_back(event);
        }
        Ok(last.into())
    }
}

#[cfg(test)]
pub(in crate::cli) mod specimen;
