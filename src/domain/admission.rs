//! Whether there is room for a task right now. An accepted task really has its share: what is held is counted from the
//! acceptance to the removal of its container.

use thiserror::Error;

use super::spec::{MachineTotals, Wants};

/// A temporary refusal: the same offer may be taken later. Its text goes to the master.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
pub enum NoRoom {
    /// As many tasks as `--max-tasks` allows.
    #[error("no room: {0} tasks are here already (--max-tasks)")]
    Tasks(usize),
    /// Not enough of something is free.
    #[error("no room: {what} {wanted} asked, {free} free")]
    Resource {
        /// The field's name in the contract.
        what: &'static str,
        /// What was asked for.
        wanted: f64,
        /// What is not held by others.
        free: f64,
    },
}

/// What the tasks of this worker hold.
#[derive(Debug, Clone)]
pub struct Ledger {
    totals: MachineTotals,
    max_tasks: usize,
    tasks: usize,
    held: Wants,
}

impl Ledger {
    /// An empty ledger over what can be given out.
    #[must_use]
    pub fn new(totals: MachineTotals, max_tasks: usize) -> Self {
        Self {
            totals,
            max_tasks,
            tasks: 0,
            held: Wants::default(),
        }
    }

    /// Whether a task that wants that much may be taken.
    ///
    /// # Errors
    /// What there is too little of.
    pub fn admit(&self, wants: &Wants) -> Result<(), NoRoom> {
        if self.tasks >= self.max_tasks {
            return Err(NoRoom::Tasks(self.tasks));
        }
        fits("cpu", wants.cpu, self.totals.cpu - self.held.cpu)?;
        fits(
            "memory (GiB)",
            wants.memory,
            self.totals.memory - self.held.memory,
        )?;
        fits(
            "storage (GiB)",
            wants.storage,
            self.totals.storage - self.held.storage,
        )?;
        fits("gpu", wants.gpu, self.totals.gpu - self.held.gpu)
    }

    /// Takes a share. Never refuses: a task that is here is here, whatever the ledger says.
    pub fn hold(&mut self, wants: &Wants) {
        self.tasks += 1;
        self.add(wants, 1.0);
    }

    /// Gives a share back.
    pub fn release(&mut self, wants: &Wants) {
        self.tasks = self.tasks.saturating_sub(1);
        self.add(wants, -1.0);
        if self.tasks == 0 {
            // Sums of fractions drift; an empty house holds nothing.
            self.held = Wants::default();
        }
    }

    /// How many tasks hold something.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.tasks
    }

    fn add(&mut self, wants: &Wants, sign: f64) {
        // A task with impossible wishes is accepted too, and fails at once: it holds nothing.
        let amount = |wanted: f64| {
            if wanted.is_finite() && wanted > 0.0 {
                wanted * sign
            } else {
                0.0
            }
        };
        self.held.cpu += amount(wants.cpu);
        self.held.memory += amount(wants.memory);
        self.held.storage += amount(wants.storage);
        self.held.gpu += amount(wants.gpu);
    }
}

fn fits(what: &'static str, wanted: f64, free: f64) -> Result<(), NoRoom> {
    // Ten shares of 0.1 make one core, whatever their sum says.
    const ROUNDING: f64 = 1e-9;
    if wanted > 0.0 && wanted > free + ROUNDING {
        let free = (free.max(0.0) * 100.0).floor() / 100.0;
        return Err(NoRoom::Resource { what, wanted, free });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Ledger {
        Ledger::new(
            MachineTotals {
                cpu: 1.0,
                memory: 4.0,
                storage: 10.0,
                gpu: 0.0,
            },
            20,
        )
    }

    fn cpu(cpu: f64) -> Wants {
        Wants {
            cpu,
            ..Wants::default()
        }
    }

    #[test]
    fn ten_tenths_of_a_core_fit_one_core_and_an_eleventh_does_not() {
        let mut ledger = ledger();
        for n in 0..10 {
            assert_eq!(ledger.admit(&cpu(0.1)), Ok(()), "task {n}");
            ledger.hold(&cpu(0.1));
        }

        assert!(ledger.admit(&cpu(0.1)).is_err());
        assert_eq!(ledger.admit(&cpu(0.0)), Ok(()), "no limit asked, none held");
    }

    #[test]
    fn what_is_released_can_be_held_again() {
        let mut ledger = ledger();
        ledger.hold(&cpu(1.0));
        assert!(ledger.admit(&cpu(0.5)).is_err());

        ledger.release(&cpu(1.0));

        assert_eq!(ledger.admit(&cpu(1.0)), Ok(()));
        assert_eq!(ledger.tasks(), 0);
    }

    #[test]
    fn the_number_of_tasks_is_bounded() {
        let mut ledger = ledger();
        for _ in 0..20 {
            ledger.hold(&Wants::default());
        }

        assert_eq!(ledger.admit(&Wants::default()), Err(NoRoom::Tasks(20)));
    }

    #[test]
    fn impossible_wishes_hold_nothing() {
        let mut ledger = ledger();
        ledger.hold(&cpu(f64::NAN));
        ledger.hold(&cpu(-5.0));

        assert_eq!(ledger.admit(&cpu(1.0)), Ok(()));
    }
}
