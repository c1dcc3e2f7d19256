//! Code generated from `proto/`. Only the gRPC adapters and the development master look inside.
#![allow(missing_docs, clippy::all, clippy::too_many_lines, unreachable_pub)]

tonic::include_proto!("cluster");

/// gRPC's health checks: `proto/health.proto`.
pub mod health {
    tonic::include_proto!("grpc.health.v1");
}

/// The services of the master's port and their messages, as a serialised `FileDescriptorSet`.
pub(crate) const SERVED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/served.bin"));

/// The operator's door: `proto/worker_admin.proto`.
pub mod worker_admin {
    tonic::include_proto!("worker.v1");
}
