//! Logs and output folders that belong to no task: the journal that knew their tasks was lost, or their removal failed, such as
//! for want of a file descriptor. They are removed after a grace, counted within this process.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use log::warn;
use tokio::time::Instant;

use super::Tools;
use crate::{
    ports::holdings::{Holdings, Known},
    supervision::threads::blocking,
};

/// The strays, by the index of their store and their name, with when each was first seen.
#[derive(Debug, Clone, Default)]
pub(super) struct Strays(BTreeMap<(usize, String), Instant>);

impl Strays {
    /// Takes over which strays there are now.
    fn seen(&mut self, present: BTreeSet<(usize, String)>) {
        self.0.retain(|stray, _| present.contains(stray));
        for stray in present {
            self.0.entry(stray).or_insert_with(Instant::now);
        }
    }

    fn overdue(&self, grace: Duration) -> Vec<(usize, String)> {
        let old = self.0.iter().filter(|(_, since)| since.elapsed() >= grace);
        old.map(|(stray, _)| stray.clone()).collect()
    }
}

impl Tools {
    /// Removes files that belong to none of the known tasks and have been there for longer than the grace.
    pub(super) async fn remove_strays(&self, known: Known, mut strays: Strays) -> Strays {
        let (holdings, grace) = (self.holdings.clone(), self.retention().orphan_grace);
        let looked = blocking(move || {
            strays.seen(present(&holdings, &known));
            for (number, name) in strays.overdue(grace) {
                remove(&holdings[number], &name);
            }
            strays
        });
        looked.await.unwrap_or_default()
    }
}

fn present(holdings: &[Arc<dyn Holdings>], known: &Known) -> BTreeSet<(usize, String)> {
    let mut present = BTreeSet::new();
    for (number, held) in holdings.iter().enumerate() {
        match held.strangers(known) {
            Ok(names) => present.extend(names.into_iter().map(|name| (number, name))),
            Err(error) => warn!(error:%; "what lies in the state folder cannot be listed"),
        }
    }
    present
}

fn remove(held: &Arc<dyn Holdings>, name: &str) {
    match held.remove_stranger(name) {
        Ok(()) => warn!(name; "a log or an output folder that no task knows was removed"),
        Err(error) => {
            warn!(name, error:%; "a log or an output folder that no task knows could not be removed")
        }
    }
}
