//! Which of many like points a test tries: some of them in the gate, others each time, and all in a full run.

/// Every `stride`-th, beginning with any of the first `stride`; with `WORKER_NODE_FULL` all of them, `times` times each. What
/// was chosen is told, so that a failure can be had again.
pub(crate) fn chosen(
    of: &str,
    all: Vec<&'static str>,
    stride: usize,
    times: usize,
) -> Vec<&'static str> {
    if std::env::var_os("WORKER_NODE_FULL").is_some() {
        return all.repeat(times);
    }
    let first = fastrand::usize(..stride.min(all.len()));
    let some: Vec<_> = all.into_iter().skip(first).step_by(stride).collect();
    eprintln!("of {of} these points are tried: {some:?}");
    some
}
