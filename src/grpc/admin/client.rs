//! The way from a command to the worker of a state folder: [`RemoteAdmin`] implements `ports::admin::Admin` over its socket.
//! Every call has a connection of its own, so a worker that was restarted in between is simply the next one to answer.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::StreamExt;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::timeout;
use tonic::{Response, Status, codegen::http::Uri};

use super::{convert, door};
use crate::{
    domain::callers::Caller,
    grpc::{client::Requests, status},
    ports::{
        admin::{
            ActorTree, ActorView, Admin, AdminError, ImageView, LogLevel, LogOrder, PullSteps,
            Reload, TaskView,
        },
        status::WorkerStatus,
    },
    proto::worker_admin::{
        CancelTaskRequest, CordonRequest, DropResultRequest, GetActorRequest, GetStatusRequest,
        ListActorsRequest, ListImagesRequest, ListTasksRequest, PullImageRequest, ReloadReply,
        ReloadRequest, RestartActorRequest, RetryOutboxRequest, UncordonRequest,
        admin_client::AdminClient,
    },
};

/// How long an answer may take. The worker itself answers within two seconds; a busy machine may need more.
const ANSWER: Duration = Duration::from_secs(5);

/// Bytes of the largest answer that is read: ten thousand tasks, each with a reason, are more than gRPC's default.
const ANSWER_LIMIT: usize = 64 * 1024 * 1024;

type Client = AdminClient<Requests>;

/// The worker that runs on a state folder, if one does, which is found out anew at every call.
#[derive(Debug, Clone)]
pub struct RemoteAdmin {
    folder: PathBuf,
}

impl RemoteAdmin {
    /// The worker of this state folder.
    #[must_use]
    pub fn of(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    async fn call<T, F>(&self, ask: impl FnOnce(Client) -> F) -> Result<T, AdminError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let call = async {
            let client = self.connect().await?;
            ask(client).await.map_err(|status| self.failed(&status))
        };
        match timeout(ANSWER, call).await {
            Ok(answer) => answer.map(Response::into_inner),
            Err(_) => Err(AdminError::Unavailable),
        }
    }

    async fn connect(&self) -> Result<Client, AdminError> {
        let stream = door::knock(&self.folder).map_err(|error| refused(&self.folder, &error))?;
        let (requests, driver) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(|error| self.lost(error.to_string()))?;
        // The driver ends with the connection; the request sees why.
        tokio::spawn(driver);
        let client =
            AdminClient::with_origin(Requests::over(requests), Uri::from_static("http://worker"));
        Ok(client.max_decoding_message_size(ANSWER_LIMIT))
    }

    fn failed(&self, status: &Status) -> AdminError {
        match status::admin_error(status) {
            AdminError::Lost(words) => self.lost(words),
            told => told,
        }
    }

    /// The error for a lost connection. A worker that turns us away closes it too: then its socket is not ours.
    fn lost(&self, words: String) -> AdminError {
        match door::is_ours(&self.folder) {
            true => AdminError::Lost(words),
            false => AdminError::Denied(self.folder.clone()),
        }
    }
}

/// The error for a socket that cannot be connected to.
fn refused(folder: &Path, error: &io::Error) -> AdminError {
    match error.kind() {
        io::ErrorKind::NotFound
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::ConnectionRefused => AdminError::NoWorker(folder.to_owned()),
        io::ErrorKind::PermissionDenied => AdminError::Denied(folder.to_owned()),
        _ => AdminError::Lost(error.to_string()),
    }
}

#[async_trait]
impl Admin for RemoteAdmin {
    async fn actors(&self) -> Result<ActorTree, AdminError> {
        let reply = self
            .call(|mut client| async move { client.list_actors(ListActorsRequest {}).await })
            .await?;
        convert::tree(reply)
    }

    async fn actor(&self, name: &str) -> Result<ActorView, AdminError> {
        let name = name.to_owned();
        let request = GetActorRequest { name: name.clone() };
        let asked = self.call(|mut client| async move { client.get_actor(request).await });
        convert::actor(asked.await.map_err(|error| named(error, name))?)
    }

    async fn tasks(&self) -> Result<Vec<TaskView>, AdminError> {
        let asked =
            self.call(|mut client| async move { client.list_tasks(ListTasksRequest {}).await });
        Ok(asked.await?.tasks.into_iter().map(convert::task).collect())
    }

    async fn status(&self) -> Result<WorkerStatus, AdminError> {
        let asked =
            self.call(|mut client| async move { client.get_status(GetStatusRequest {}).await });
        convert::status(asked.await?)
    }

    async fn restart(&self, name: &str) -> Result<(), AdminError> {
        let name = name.to_owned();
        let request = RestartActorRequest { name: name.clone() };
        let asked = self.call(|mut client| async move { client.restart_actor(request).await });
        asked.await.map_err(|error| named(error, name))?;
        Ok(())
    }

    async fn retry_outbox(&self) -> Result<u64, AdminError> {
        let asked =
            self.call(|mut client| async move { client.retry_outbox(RetryOutboxRequest {}).await });
        Ok(asked.await?.results)
    }

    async fn drop_result(&self, task: &str) -> Result<(), AdminError> {
        let task = task.to_owned();
        let request = DropResultRequest { task: task.clone() };
        let asked = self.call(|mut client| async move { client.drop_result(request).await });
        asked.await.map_err(|error| match error {
            AdminError::UnknownActor(_) => AdminError::NotParked(task),
            other => other,
        })?;
        Ok(())
    }

    async fn cordon(&self, _: &Caller, stop_after: Option<Duration>) -> Result<(), AdminError> {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let request = CordonRequest {
            stop_after_ms: stop_after.map(millis),
        };
        self.call(|mut client| async move { client.cordon(request).await })
            .await?;
        Ok(())
    }

    async fn uncordon(&self) -> Result<(), AdminError> {
        self.call(|mut client| async move { client.uncordon(UncordonRequest {}).await })
            .await?;
        Ok(())
    }

    async fn reload(&self) -> Result<Reload, AdminError> {
        let asked = self.call(|mut client| async move { client.reload(ReloadRequest {}).await });
        let ReloadReply {
            taken,
            kept,
            faults,
        } = asked.await?;
        Ok(Reload {
            taken,
            kept,
            faults,
        })
    }

    async fn log_level(&self, order: LogOrder) -> Result<LogLevel, AdminError> {
        let request = convert::log_order_to_wire(order);
        let asked = self.call(|mut client| async move { client.set_log_level(request).await });
        Ok(convert::log_level(asked.await?))
    }

    async fn cancel(&self, _: &Caller, task: &str) -> Result<(), AdminError> {
        let task = task.to_owned();
        let request = CancelTaskRequest { task: task.clone() };
        let asked = self.call(|mut client| async move { client.cancel_task(request).await });
        asked.await.map_err(|error| match error {
            AdminError::UnknownActor(_) => AdminError::UnknownTask(task),
            other => other,
        })?;
        Ok(())
    }

    async fn images(&self) -> Result<Vec<ImageView>, AdminError> {
        let asked =
            self.call(|mut client| async move { client.list_images(ListImagesRequest {}).await });
        let images = asked.await?.images.into_iter();
        Ok(images.map(convert::image).collect())
    }

    /// The steps have no deadline here: the worker itself bounds how long a pull may take.
    async fn pull(&self, _: &Caller, image: &str) -> Result<PullSteps, AdminError> {
        let request = PullImageRequest {
            image: image.to_owned(),
        };
        let asked = self.call(|mut client| async move { client.pull_image(request).await });
        let (steps, worker) = (asked.await?, self.clone());
        let steps = steps.map(move |step| match step {
            Ok(step) => convert::step(step),
            Err(status) => Err(worker.failed(&status)),
        });
        Ok(steps.boxed())
    }
}

/// Puts the name that was asked for into an error, which a status code does not carry.
fn named(error: AdminError, name: String) -> AdminError {
    match error {
        AdminError::UnknownActor(_) => AdminError::UnknownActor(name),
        AdminError::Task(_) => AdminError::Task(name),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_home_is_told_from_somebody_elses() {
        let folder = Path::new("/state");
        let of = |kind: io::ErrorKind| refused(folder, &kind.into());

        for kind in [
            io::ErrorKind::NotFound,
            io::ErrorKind::ConnectionRefused,
            io::ErrorKind::NotADirectory,
        ] {
            assert_eq!(of(kind), AdminError::NoWorker("/state".into()));
        }
        assert_eq!(
            of(io::ErrorKind::PermissionDenied),
            AdminError::Denied("/state".into())
        );
    }

    #[tokio::test]
    async fn a_folder_without_a_socket_has_no_worker() {
        let folder = tempfile::tempdir().unwrap();

        let told = RemoteAdmin::of(folder.path()).actors().await;

        assert_eq!(told, Err(AdminError::NoWorker(folder.path().to_owned())));
    }
}
