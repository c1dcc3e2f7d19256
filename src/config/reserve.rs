//! What of the machine is kept for the system. Whether it leaves anything for tasks shows at the start, where the machine is known.

use super::{
    amount::{Range, read_cores, read_size},
    args::RunArgs,
    check::Check,
};
use crate::{config::TIB, domain::spec::Reserve};

/// No machine has more cores.
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
