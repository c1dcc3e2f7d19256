//! Whether there is room for a task right now. An accepted task really has its share: cores and memory are held from the acceptance
//! until its process is dead, its place until its verdict is fixed. A task that is sealed, or that can never begin, holds nothing
//! but a turn among the results that wait for the master: these two kinds have a bound each, so that no number of impossible offers
//! keeps out one that can be carried out.

use thiserror::Error;

use super::spec::{GIB, MachineTotals, Wants};

/// How many results of tasks that ran may wait for the master, or as many as there may be tasks where that is more: from then on no
/// offer is taken that needs room. Tasks that can never begin have the same bound for themselves: from then on no more of those are
/// taken. A master that takes its results never comes near it; each result that waits costs some KiB of memory.
const RESULTS: usize = 1_000;

/// A temporary refusal: the same offer may be taken later. Its text goes to the master.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
pub enum NoRoom {
    /// The number of tasks has reached `--max-tasks`.
    #[error("no room: {0} tasks are here already (--max-tasks)")]
    Tasks(usize),
    /// The results of tasks that ran have reached their bound; this many wait for the master.
    #[error(
        "no room: {0} results wait for the master to take them; `worker-node state dump` shows them, `worker-node outbox drop TASK` lets go of one"
    )]
    Results(usize),
    /// The results of impossible tasks have reached their bound; this many wait for the master.
    #[error(
        "{0} tasks that can never begin here wait for the master to take their results; `worker-node outbox drop TASK` lets go of one"
    )]
    Impossible(usize),
    /// Of one of the amounts less is free than the task wants.
    #[error("no room: {what} {wanted} asked, {free} free")]
    Resource {
        /// The field's name in the contract.
        what: &'static str,
        /// The amount that the task wants, in the unit of its field.
        wanted: f64,
        /// The amount that no other task holds, in the same unit.
        free: f64,
    },
}

/// Amounts of the machine that tasks hold, as integers: their sums are exact, and an amount that was added can be taken away again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amounts {
    /// Thousandths of a core.
    pub milli_cpus: u64,
    /// Memory in bytes.
    pub memory: u64,
    /// Storage in bytes.
    pub storage: u64,
    /// Thousandths of a GPU.
    pub milli_gpus: u64,
}

impl Amounts {
    /// The amounts that a task wants, rounded to the nearest unit, so that ten tenths of a core are one. NaN and what is below zero
    /// are 0.
    #[must_use]
    pub fn of(wants: &Wants) -> Self {
        Self {
            milli_cpus: units(wants.cpu, THOUSAND),
            memory: units(wants.memory, GIB),
            storage: units(wants.storage, GIB),
            milli_gpus: units(wants.gpu, THOUSAND),
        }
    }

    /// The same amounts in the contract's units: finite, and never below zero.
    #[must_use]
    pub fn in_contract_units(&self) -> Wants {
        Wants {
            cpu: amount(self.milli_cpus, THOUSAND),
            memory: amount(self.memory, GIB),
            storage: amount(self.storage, GIB),
            gpu: amount(self.milli_gpus, THOUSAND),
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            milli_cpus: self.milli_cpus.saturating_add(other.milli_cpus),
            memory: self.memory.saturating_add(other.memory),
            storage: self.storage.saturating_add(other.storage),
            milli_gpus: self.milli_gpus.saturating_add(other.milli_gpus),
        }
    }
}

const THOUSAND: f64 = 1_000.0;

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast of a float stops at the integer's limits, and makes 0 of NaN"
)]
fn units(amount: f64, per: f64) -> u64 {
    (amount * per).round() as u64
}

#[expect(
    clippy::cast_precision_loss,
    reason = "shown to people, and exact up to 8 PiB"
)]
fn amount(units: u64, per: f64) -> f64 {
    units as f64 / per
}

/// The share of this worker's room that one task holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holding {
    /// The task has not ended: it holds a place, and all amounts that it asked for.
    Task(Amounts),
    /// The task's process is dead: it holds a place, and the storage that its outputs take until they are sent.
    Place {
        /// The storage that the task asked for, in bytes.
        storage: u64,
    },
    /// The task's verdict is fixed: it holds a turn among the results.
    Result,
    /// The task can never begin: it holds a turn among the results of impossible tasks.
    Impossible,
}

impl Holding {
    /// The amounts of the machine that the task holds.
    #[must_use]
    pub fn amounts(&self) -> Amounts {
        match self {
            Self::Task(amounts) => *amounts,
            Self::Place { storage } => Amounts {
                storage: *storage,
                ..Amounts::default()
            },
            Self::Result | Self::Impossible => Amounts::default(),
        }
    }
}

/// What the tasks of this worker hold at one moment: added up anew from the tasks that there are, so that it cannot drift.
#[derive(Debug, Clone)]
pub struct Ledger {
    totals: Amounts,
    max_tasks: usize,
    tasks: usize,
    results: usize,
    impossible: usize,
    held: Amounts,
}

impl Ledger {
    /// The ledger of a machine with these totals, and of the holdings of its tasks.
    #[must_use]
    pub fn of(
        totals: &MachineTotals,
        max_tasks: usize,
        holdings: impl Iterator<Item = Holding>,
    ) -> Self {
        let totals = Amounts::of(&Wants {
            cpu: totals.cpu,
            memory: totals.memory,
            storage: totals.storage,
            gpu: totals.gpu,
        });
        let empty = Self {
            totals,
            max_tasks,
            tasks: 0,
            results: 0,
            impossible: 0,
            held: Amounts::default(),
        };
        holdings.fold(empty, Self::with)
    }

    fn with(mut self, holding: Holding) -> Self {
        match holding {
            Holding::Task(_) | Holding::Place { .. } => self.tasks += 1,
            Holding::Result => self.results += 1,
            Holding::Impossible => self.impossible += 1,
        }
        self.held = self.held.plus(holding.amounts());
        self
    }

    /// Whether a task that wants that much may be taken.
    ///
    /// # Errors
    /// The amount or the bound that there is too little of.
    pub fn admit(&self, wants: &Wants) -> Result<(), NoRoom> {
        // Results first: where the master takes none, no room on the machine helps.
        if self.results >= self.results_at_most() {
            return Err(NoRoom::Results(self.results));
        }
        if self.tasks >= self.max_tasks {
            return Err(NoRoom::Tasks(self.tasks));
        }
        let (wants, held, totals) = (Amounts::of(wants), self.held, self.totals);
        for (what, wanted, free, per) in [
            (
                "cpu",
                wants.milli_cpus,
                totals.milli_cpus.saturating_sub(held.milli_cpus),
                THOUSAND,
            ),
            (
                "memory (GiB)",
                wants.memory,
                totals.memory.saturating_sub(held.memory),
                GIB,
            ),
            (
                "storage (GiB)",
                wants.storage,
                totals.storage.saturating_sub(held.storage),
                GIB,
            ),
            (
                "gpu",
                wants.milli_gpus,
                totals.milli_gpus.saturating_sub(held.milli_gpus),
                THOUSAND,
            ),
        ] {
            if wanted > free {
                return Err(NoRoom::Resource {
                    what,
                    wanted: shown(wanted, per),
                    free: shown(free, per),
                });
            }
        }
        Ok(())
    }

    /// Whether one more task may be taken that can never begin: all that it takes is a turn among the results of its like.
    ///
    /// # Errors
    /// As many impossible tasks wait for the master as may.
    pub fn admit_impossible(&self) -> Result<(), NoRoom> {
        if self.impossible >= self.results_at_most() {
            return Err(NoRoom::Impossible(self.impossible));
        }
        Ok(())
    }

    fn results_at_most(&self) -> usize {
        self.max_tasks.max(RESULTS)
    }
}

/// An amount with three decimals, rounded down, so that a task can get all that is said to be free.
fn shown(units: u64, per: f64) -> f64 {
    (amount(units, per) * THOUSAND).floor() / THOUSAND
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::spec::Reserve;

    const TOTALS: MachineTotals = MachineTotals {
        cpu: 2.0,
        memory: 4.0,
        storage: 10.0,
        gpu: 0.0,
    };

    fn ledger(holdings: &[Holding]) -> Ledger {
        Ledger::of(&TOTALS, 20, holdings.iter().copied())
    }

    fn cpu(cpu: f64) -> Wants {
        Wants {
            cpu,
            ..Wants::default()
        }
    }

    fn task(wants: &Wants) -> Holding {
        Holding::Task(Amounts::of(wants))
    }

    #[test]
    fn twenty_tenths_of_a_core_fit_two_cores_and_one_more_does_not() {
        let mut held = Vec::new();
        for n in 0..19 {
            assert_eq!(ledger(&held).admit(&cpu(0.1)), Ok(()), "task {n}");
            held.push(task(&cpu(0.1)));
        }
        held.push(task(&cpu(0.1)));
        held.remove(0);
        assert_eq!(ledger(&held).admit(&cpu(0.1)), Ok(()));
        held.push(task(&cpu(0.1)));

        let full = Ledger::of(&TOTALS, 100, held.into_iter());
        assert!(full.admit(&cpu(0.1)).is_err());
        assert_eq!(full.admit(&cpu(0.0)), Ok(()), "no limit asked, none held");
    }

    #[test]
    fn cores_are_free_when_the_process_is_dead_and_the_place_when_the_result_is_fixed() {
        let wants = Wants {
            cpu: 2.0,
            storage: 10.0,
            ..Wants::default()
        };
        let disk = Wants {
            storage: 1.0,
            ..Wants::default()
        };
        let storage = Amounts::of(&wants).storage;

        assert!(ledger(&[task(&wants)]).admit(&cpu(0.5)).is_err());
        let ended = ledger(&[Holding::Place { storage }]);
        assert_eq!(ended.admit(&cpu(2.0)), Ok(()));
        assert!(ended.admit(&disk).is_err(), "its outputs are still there");
        assert_eq!(ledger(&[Holding::Result]).admit(&disk), Ok(()));
        assert_eq!(ledger(&[Holding::Result; 20]).admit(&cpu(2.0)), Ok(()));
    }

    #[test]
    fn the_number_of_tasks_is_bounded_and_so_is_that_of_waiting_results() {
        let full = ledger(&[Holding::Task(Amounts::default()); 20]);
        assert_eq!(full.admit(&Wants::default()), Err(NoRoom::Tasks(20)));
        assert_eq!(full.admit_impossible(), Ok(()));

        let waiting = ledger(&[Holding::Result; RESULTS]);
        assert_eq!(waiting.admit_impossible(), Ok(()));
        assert_eq!(
            waiting.admit(&Wants::default()),
            Err(NoRoom::Results(RESULTS))
        );
    }

    #[test]
    fn results_of_impossible_tasks_have_a_bound_that_keeps_out_nobody_else() {
        let mut waiting = vec![Holding::Impossible; RESULTS - 1];
        assert_eq!(ledger(&waiting).admit_impossible(), Ok(()));

        waiting.push(Holding::Impossible);
        let full = ledger(&waiting);
        assert_eq!(full.admit_impossible(), Err(NoRoom::Impossible(RESULTS)));
        assert_eq!(full.admit(&cpu(2.0)), Ok(()), "it can be carried out");
    }

    /// One step in the life of a registry.
    #[derive(Debug, Clone)]
    enum Step {
        Offer(Wants),
        /// The next stage of one of the tasks held, by its number: it ends, or is sealed.
        Moves(usize),
        Withdrawn(usize),
        /// The worker is started again with another reserve; its tasks hold their amounts on.
        Restart(Reserve),
    }

    fn step() -> impl Strategy<Value = Step> {
        let amount = || prop_oneof![Just(0.0), 0.0..3.0, Just(f64::NAN), Just(-1.0), Just(1e308)];
        let wants = [amount(), amount(), amount(), amount()];
        prop_oneof![
            4 => wants.prop_map(|[cpu, memory, storage, gpu]| Step::Offer(Wants { cpu, memory, storage, gpu })),
            2 => any::<usize>().prop_map(Step::Moves),
            1 => any::<usize>().prop_map(Step::Withdrawn),
            1 => (0.0..2.0, 0_u64..4 << 30).prop_map(|(cpu, memory)| Step::Restart(Reserve { cpu, memory })),
        ]
    }

    fn moved(holding: Holding) -> Holding {
        match holding {
            Holding::Task(amounts) => Holding::Place {
                storage: amounts.storage,
            },
            Holding::Place { .. } | Holding::Result => Holding::Result,
            Holding::Impossible => Holding::Impossible,
        }
    }

    fn each(amounts: Amounts) -> [u64; 4] {
        let Amounts {
            milli_cpus,
            memory,
            storage,
            milli_gpus,
        } = amounts;
        [milli_cpus, memory, storage, milli_gpus]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_offer_brings_what_is_held_over_what_can_be_given(steps in prop::collection::vec(step(), 1..60)) {
            let (mut held, mut given) = (Vec::<Holding>::new(), TOTALS);
            for step in steps {
                match step {
                    Step::Offer(wants) => {
                        if Ledger::of(&given, 20, held.iter().copied()).admit(&wants).is_err() {
                            continue;
                        }
                        held.push(task(&wants));
                        let sum = held.iter().fold(Amounts::default(), |sum, held| sum.plus(held.amounts()));
                        let there = Ledger::of(&given, 20, std::iter::empty()).totals;
                        let all = each(sum).into_iter().zip(each(there)).zip(each(Amounts::of(&wants)));
                        for ((sum, there), wanted) in all {
                            prop_assert!(wanted == 0 || sum <= there, "{sum} of {there}: {held:?}");
                        }
                    }
                    Step::Moves(which) if !held.is_empty() => {
                        let at = which % held.len();
                        held[at] = moved(held[at]);
                    }
                    Step::Withdrawn(which) if !held.is_empty() => drop(held.swap_remove(which % held.len())),
                    Step::Moves(_) | Step::Withdrawn(_) => {}
                    Step::Restart(reserve) => given = TOTALS.less(&reserve).unwrap(),
                }
            }
        }
    }

    #[test]
    fn what_is_no_amount_is_none_and_no_figure_is_insane() {
        for wanted in [f64::NAN, -1.0, f64::NEG_INFINITY, -0.0, 5e-324] {
            assert_eq!(Amounts::of(&cpu(wanted)), Amounts::default(), "{wanted}");
        }
        for wanted in [f64::INFINITY, 1e308, f64::MAX] {
            let shown = Amounts::of(&cpu(wanted)).in_contract_units();
            assert!(shown.cpu.is_finite(), "{wanted}");
            // Two of them do not turn over into a small sum.
            let twice = ledger(&[task(&cpu(wanted)), task(&cpu(wanted))]);
            assert!(twice.admit(&cpu(0.1)).is_err(), "{wanted}");
        }
    }
}
