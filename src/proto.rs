//! Code generated from `proto/`. Only the gRPC adapters and the development master look inside.
#![allow(missing_docs, clippy::all, clippy::too_many_lines, unreachable_pub)]

tonic::include_proto!("cluster");

/// The operator's door: `proto/worker_admin.proto`.
pub mod worker_admin {
    tonic::include_proto!("worker.v1");
}
