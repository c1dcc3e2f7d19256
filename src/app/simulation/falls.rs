//! When the worker dies, and which of its actors falls: at one of its next calls, commits and failpoints, or at one that is named.

use std::panic::resume_unwind;

use super::world::{Due, State, World};

/// See the module.
#[derive(Default)]
pub(super) struct Falls {
    /// The worker stops in so many calls, commits and failpoints.
    pub(super) dies_in: Option<u32>,
    /// Or at this failpoint.
    pub(super) dies_at: Option<&'static str>,
    /// Whoever passes this many failpoints more panics.
    pub(super) panics_in: Option<u32>,
    /// Or who comes to this one.
    pub(super) panics_at: Option<&'static str>,
    /// Panics on purpose whose ends the supervisor has not told yet.
    pub(super) planned: u32,
    /// All panics on purpose of this seed.
    pub(super) panics: u32,
}

impl Falls {
    /// What is named may come in the next life.
    pub(super) fn is_born(&mut self) {
        *self = Self {
            dies_at: self.dies_at,
            panics_at: self.panics_at,
            panics: self.panics,
            ..Self::default()
        };
    }

    /// Nobody dies or falls any more.
    pub(super) fn heal(&mut self) {
        *self = Self {
            planned: self.planned,
            panics: self.panics,
            ..Self::default()
        };
    }

    fn panics_here(&mut self, point: &str) -> bool {
        let is_named = self.panics_at.take_if(|at| *at == point).is_some();
        count_down(&mut self.panics_in) || is_named
    }
}

fn count_down(steps: &mut Option<u32>) -> bool {
    let Some(left) = steps else {
        return false;
    };
    *left = left.saturating_sub(1);
    steps.take_if(|left| *left == 0).is_some()
}

impl World {
    /// The worker has come to a failpoint: it may die there, or whoever came to it falls.
    pub(super) fn pass_point(&self, point: &str) {
        if self.change(|state| state.falls_at(point)) {
            // Without a word to the panic hook: it is no news.
            resume_unwind(Box::new(format!("on purpose, at {point}")));
        }
    }
}

impl State {
    fn falls_at(&mut self, point: &str) -> bool {
        if self.dead {
            return false;
        }
        let is_named = self.falls.dies_at.take_if(|at| *at == point).is_some();
        if self.dies_here() || is_named {
            self.note(format!("at {point}:"));
            self.die();
            return false;
        }
        let falls = self.falls.panics_here(point);
        if falls {
            self.falls.planned += 1;
            self.falls.panics += 1;
            self.note(format!("somebody panics at {point}"));
        }
        falls
    }

    /// Whether the worker stops at this very step; half of the calls and commits are carried out all the same.
    pub(super) fn dies_here(&mut self) -> bool {
        count_down(&mut self.falls.dies_in)
    }

    /// The worker stops where it stands.
    pub(super) fn die(&mut self) {
        if self.dead {
            return;
        }
        self.note("the worker dies");
        self.dead = true;
        self.disk.is_cut_off();
        self.due.retain(|_, due| !matches!(due, Due::Commits));
        self.cluster.worker_died(&self.disk.journal);
    }
}
