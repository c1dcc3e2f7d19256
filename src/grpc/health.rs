//! gRPC's own health checks (`grpc.health.v1`) on the master's port, for what probes a port by gRPC: Kubernetes, Envoy,
//! `grpc_health_probe`. Without a service's name the process is asked for, as `/healthz` does: it answers, so it serves. Asked for
//! `cluster.MasterWorker`, the answer is `/readyz`'s.
//!
//! Only `Check` is served. A watcher would be one more kind of stream to bound, and every client asks `Check` where there is no
//! `Watch`.

use std::sync::Arc;

use futures_util::{future::BoxFuture, stream::Empty};
use tonic::{Request, Response, Status, server::NamedService};

use super::server::WorkerService;
use crate::proto::{
    health::{
        HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
        health_server::Health,
    },
    master_worker_server::MasterWorkerServer,
};

/// Whether the worker takes tasks at this moment: its readiness, as `/readyz` tells it.
pub type IsReady = Arc<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>;

/// Answers health checks.
pub(super) struct HealthService {
    is_ready: IsReady,
}

impl HealthService {
    pub(super) fn new(is_ready: IsReady) -> Self {
        Self { is_ready }
    }

    /// `None`: a service of that name is not served here.
    async fn status_of(&self, service: &str) -> Option<ServingStatus> {
        let is_serving = match service {
            "" => true,
            <MasterWorkerServer<WorkerService> as NamedService>::NAME => (self.is_ready)().await,
            _ => return None,
        };
        Some(match is_serving {
            true => ServingStatus::Serving,
            false => ServingStatus::NotServing,
        })
    }
}

#[tonic::async_trait]
impl Health for HealthService {
    type WatchStream = Empty<Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match self.status_of(&request.get_ref().service).await {
            Some(status) => Ok(Response::new(HealthCheckResponse {
                status: status.into(),
            })),
            None => Err(Status::not_found(
                "no service of that name is served here: there is cluster.MasterWorker, and the empty name for the process",
            )),
        }
    }

    async fn watch(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("ask Check instead, again and again"))
    }
}
