//! The `worker-node` program.
fn main() {}
