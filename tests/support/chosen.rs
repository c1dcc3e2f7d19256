//! Which of many like points a test tries: some of them in the gate, others each time, and all in a full run.

/// Whether this is a full run: what the simulation of the whole worker shows as well is tried there alone, but for one of each kind.
pub(crate) fn is_full() -> bool {
    std::env::var_os("WORKER_NODE_FULL").is_some()
}

/// How often something is tried: a few times in the gate, as often as it takes to be sure in a full run.
pub(crate) fn times(few: usize, full: usize) -> usize {
    if is_full() { full } else { few }
}

/// Every `stride`-th, beginning with any of the first `stride`; with `WORKER_NODE_FULL` all of them, `times` times each. What
/// was chosen is told, so that a failure can be had again.
pub(crate) fn chosen(
    of: &str,
    all: Vec<&'static str>,
    stride: usize,
    times: usize,
) -> Vec<&'static str> {
    if is_full() {
        return all.repeat(times);
    }
    let first = fastrand::usize(..stride.min(all.len()));
    let some: Vec<_> = all.into_iter().skip(first).step_by(stride).collect();
    eprintln!("of {of} these points are tried: {some:?}");
    some
}
