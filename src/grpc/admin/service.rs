//! The methods of the operator's door, over `ports::admin::Admin`: each converts, asks, converts back.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::BoxStream};
use tonic::{Request, Response, Status};

use super::convert;
use crate::{
    domain::{callers::Caller, id::TaskId},
    grpc::listener::Connection,
    ports::{
        admin::{Admin, Reload},
        audit::{Audit, Deed},
    },
    proto::worker_admin::{
        self as wire, CancelTaskReply, CancelTaskRequest, CordonReply, CordonRequest,
        DropResultReply, DropResultRequest, ListActorsReply, ListActorsRequest, ListTasksReply,
        ListTasksRequest, RestartActorReply, RestartActorRequest, RetryOutboxReply,
        RetryOutboxRequest, UncordonReply, UncordonRequest, admin_server,
    },
};

/// Answers operators' calls.
pub(super) struct AdminService {
    admin: Arc<dyn Admin>,
    audit: Arc<dyn Audit>,
}

impl AdminService {
    pub(super) fn new(admin: Arc<dyn Admin>, audit: Arc<dyn Audit>) -> Self {
        Self { admin, audit }
    }

    /// Writes into the book that the request's caller had something done.
    fn record<T>(&self, request: &Request<T>, deed: Deed) {
        self.audit.record(&caller(request), deed);
    }
}

fn caller<T>(request: &Request<T>) -> Caller {
    let connection = request.extensions().get::<Connection>();
    connection.map(Connection::caller).unwrap_or_default()
}

#[tonic::async_trait]
impl admin_server::Admin for AdminService {
    async fn list_actors(
        &self,
        _: Request<ListActorsRequest>,
    ) -> Result<Response<ListActorsReply>, Status> {
        let tree = self.admin.actors().await?;
        Ok(Response::new(convert::tree_to_wire(tree)))
    }

    async fn get_actor(
        &self,
        request: Request<wire::GetActorRequest>,
    ) -> Result<Response<wire::Actor>, Status> {
        let actor = self.admin.actor(&request.get_ref().name).await?;
        Ok(Response::new(convert::actor_to_wire(actor)))
    }

    async fn list_tasks(
        &self,
        _: Request<ListTasksRequest>,
    ) -> Result<Response<ListTasksReply>, Status> {
        let tasks = self.admin.tasks().await?;
        Ok(Response::new(ListTasksReply {
            tasks: tasks.into_iter().map(convert::task_to_wire).collect(),
        }))
    }

    async fn get_status(
        &self,
        _: Request<wire::GetStatusRequest>,
    ) -> Result<Response<wire::Status>, Status> {
        let status = self.admin.status().await?;
        Ok(Response::new(convert::status_to_wire(status)))
    }

    async fn restart_actor(
        &self,
        request: Request<RestartActorRequest>,
    ) -> Result<Response<RestartActorReply>, Status> {
        let name = &request.get_ref().name;
        self.admin.restart(name).await?;
        self.record(&request, Deed::Restarted(name.clone()));
        Ok(Response::new(RestartActorReply {}))
    }

    async fn retry_outbox(
        &self,
        request: Request<RetryOutboxRequest>,
    ) -> Result<Response<RetryOutboxReply>, Status> {
        let results = self.admin.retry_outbox().await?;
        self.record(&request, Deed::Retried);
        Ok(Response::new(RetryOutboxReply { results }))
    }

    async fn drop_result(
        &self,
        request: Request<DropResultRequest>,
    ) -> Result<Response<DropResultReply>, Status> {
        let task = &request.get_ref().task;
        self.admin.drop_result(task).await?;
        self.record(&request, Deed::Dropped(task.clone()));
        Ok(Response::new(DropResultReply {}))
    }

    async fn cordon(
        &self,
        request: Request<CordonRequest>,
    ) -> Result<Response<CordonReply>, Status> {
        let stop_after = request.get_ref().stop_after_ms.map(Duration::from_millis);
        self.admin.cordon(&caller(&request), stop_after).await?;
        self.record(&request, Deed::Cordoned(stop_after));
        Ok(Response::new(CordonReply {}))
    }

    async fn uncordon(
        &self,
        request: Request<UncordonRequest>,
    ) -> Result<Response<UncordonReply>, Status> {
        self.admin.uncordon().await?;
        self.record(&request, Deed::Uncordoned);
        Ok(Response::new(UncordonReply {}))
    }

    async fn reload(
        &self,
        request: Request<wire::ReloadRequest>,
    ) -> Result<Response<wire::ReloadReply>, Status> {
        let Reload {
            taken,
            kept,
            faults,
        } = self.admin.reload().await?;
        if faults.is_empty() {
            self.record(&request, Deed::Reloaded(taken.clone()));
        }
        Ok(Response::new(wire::ReloadReply {
            taken,
            kept,
            faults,
        }))
    }

    async fn set_log_level(
        &self,
        request: Request<wire::SetLogLevelRequest>,
    ) -> Result<Response<wire::SetLogLevelReply>, Status> {
        let order = convert::log_order(request.get_ref());
        let level = self.admin.log_level(order.clone()).await?;
        if let (Some(told), true) = (convert::told(&order), level.faults.is_empty()) {
            self.record(&request, Deed::LogLevel(told));
        }
        Ok(Response::new(convert::log_level_to_wire(level)))
    }

    async fn cancel_task(
        &self,
        request: Request<CancelTaskRequest>,
    ) -> Result<Response<CancelTaskReply>, Status> {
        let task = &request.get_ref().task;
        self.admin.cancel(&caller(&request), task).await?;
        // The worker knows this task, so its id is a valid one.
        if let Ok(task) = TaskId::new(task.as_str()) {
            self.record(&request, Deed::Cancelled(task));
        }
        Ok(Response::new(CancelTaskReply {}))
    }

    async fn list_images(
        &self,
        _: Request<wire::ListImagesRequest>,
    ) -> Result<Response<wire::ListImagesReply>, Status> {
        let images = self.admin.images().await?.into_iter();
        Ok(Response::new(wire::ListImagesReply {
            images: images.map(convert::image_to_wire).collect(),
        }))
    }

    type PullImageStream = BoxStream<'static, Result<wire::PullImageReply, Status>>;

    async fn pull_image(
        &self,
        request: Request<wire::PullImageRequest>,
    ) -> Result<Response<Self::PullImageStream>, Status> {
        let image = &request.get_ref().image;
        let steps = self.admin.pull(&caller(&request), image).await?;
        self.record(&request, Deed::Pulled(image.clone()));
        let steps = steps.map(|step| Ok(convert::step_to_wire(step?)));
        Ok(Response::new(steps.boxed()))
    }
}
