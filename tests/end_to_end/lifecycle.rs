//! The life of tasks, end to end: the real binary, the real engine, the recording master. Nearly every test ends with
//! `Cluster::finish`: a clean verdict, an orderly stop, and nothing left behind.

mod asked;
mod cancels;
mod containers;
mod crowd;
mod endings;
mod fidelity;
mod hostile;
mod images;
mod in_container;
mod logs;
mod other_user;
mod outputs;
mod profiles;
mod storage;
mod viewers;
