//! When the worker dies, and which of its actors panics: at one of its next calls, commits and failpoints, or at a named
//! failpoint.

use std::panic::resume_unwind;

use super::world::{Due, State, World};

/// The deaths and panics that are to come.
#[derive(Default)]
pub(super) struct Falls {
    /// The worker dies after this many more calls, commits and failpoints.
    pub(super) dies_in: Option<u32>,
    /// The worker dies at this failpoint.
    pub(super) dies_at: Option<&'static str>,
    /// The actor that passes this many more failpoints panics.
    pub(super) panics_in: Option<u32>,
    /// The actor that passes this failpoint panics.
    pub(super) panics_at: Option<&'static str>,
    /// Planned panics whose exits the supervisor has not reported yet.
    pub(super) planned: u32,
    /// All planned panics of this run.
    pub(super) panics: u32,
}

impl Falls {
    /// A worker starts: named points stay in force, counts do not.
    pub(super) fn is_born(&mut self) {
        *self = Self {
            dies_at: self.dies_at,
            panics_at: self.panics_at,
            panics: self.panics,
            ..Self::default()
        };
    }

    /// No more deaths and panics from now on.
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
    /// The worker passes a failpoint: it may die there, or the passing actor may panic.
    pub(super) fn pass_point(&self, point: &str) {
        if self.change(|state| state.falls_at(point)) {
            // Not `panic!`: the panic hook would log it, and it is planned.
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

    /// Whether the worker dies at this step; half of the calls and commits are carried out all the same.
    pub(super) fn dies_here(&mut self) -> bool {
        count_down(&mut self.falls.dies_in)
    }

    /// The worker dies as it is, in the middle of its work.
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
