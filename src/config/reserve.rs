//! Reads the reserve: the cores and memory that are kept for the system. Whether it leaves any for tasks is checked at the start,
//! when the machine's totals are known.

use super::{
    amount::{Range, read_cores, read_size},
    args::RunArgs,
    check::Check,
};
use crate::{config::TIB, domain::spec::Reserve};

/// The most cores that can be reserved: no machine has more.
const MOST_CORES: f64 = 100_000.0;

pub(super) fn reserve(args: &RunArgs, check: &mut Check) -> Option<Reserve> {
    let cpu = check.value("--reserve-cpu", &args.reserve_cpu, |text| {
        read_cores(text, Range::new(0.0, MOST_CORES))
    });
    let memory = check.value("--reserve-memory", &args.reserve_memory, |text| {
        read_size(text, Range::new(0, 1_024 * TIB))
    });
    Some(Reserve {
        cpu: cpu?,
        memory: memory?,
    })
}
