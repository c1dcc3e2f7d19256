//! Code generated from `proto/`. Only the gRPC adapters and the development master look inside.
#![allow(missing_docs, clippy::all, clippy::too_many_lines, unreachable_pub)]

tonic::include_proto!("cluster");
