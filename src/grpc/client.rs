//! The worker's calls to its master: [`GrpcMaster`] implements `ports::master::Master`. Repeats nothing, remembers nothing:
//! when to try again is the callers' business.
//!
//! Every call has a connection of its own. So a heartbeat never waits behind an upload, a new address takes effect with the
//! next call, and there is no stale connection to find out about. What it costs (well under a millisecond within a network)
//! buys exactness too: a connection that was never made is told from a request that may have left.

mod connection;
mod lookup;
mod upload;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::time::{Instant, timeout};
use tonic::{Code, Request, Response, Status, client::Grpc, codegen::http::uri::PathAndQuery};
use tonic_prost::ProstCodec;

use self::connection::Connection;
pub(super) use self::connection::Requests;
use super::{MESSAGE_LIMIT, convert, keys::Keys, status};
use crate::{
    ports::master::{
        Beat, Master, MasterAddress, MasterError, Registration, Report, Upload, Uploaded,
    },
    proto::master_worker_client::MasterWorkerClient,
};

/// How long a heartbeat may take: a later answer is worth less than the next heartbeat.
const HEARTBEAT_WITHIN: Duration = Duration::from_secs(4);

/// How long a registration may take: the master's handler waits for a lock that a cancel may hold for long.
const REGISTER_WITHIN: Duration = Duration::from_secs(10);

/// How long a master may take to connect, and to say that it is there.
const KNOCK_WITHIN: Duration = Duration::from_secs(5);

/// The generated client over a connection of ours.
type Client = MasterWorkerClient<Requests>;

/// Calls a master over gRPC.
#[derive(Clone, Default)]
pub struct GrpcMaster {
    keys: Arc<Keys>,
}

impl GrpcMaster {
    /// A client that calls with these keys; the default has none.
    #[must_use]
    pub fn with_keys(keys: Arc<Keys>) -> Self {
        Self { keys }
    }
}

#[async_trait]
impl Master for GrpcMaster {
    async fn register(
        &self,
        master: &MasterAddress,
        registration: Registration,
    ) -> Result<(), MasterError> {
        let info = convert::worker_info(registration);
        let ack = self
            .call(master, REGISTER_WITHIN, |mut client| async move {
                client.register_worker(info).await
            })
            .await?;
        accepted(ack.success, ack.message)
    }

    async fn heartbeat(&self, master: &MasterAddress, beat: Beat) -> Result<(), MasterError> {
        let beat = convert::heartbeat(beat);
        let ack = self
            .call(master, HEARTBEAT_WITHIN, |mut client| async move {
                client.send_heartbeat(beat).await
            })
            .await?;
        accepted(ack.success, "success=false".to_owned())
    }

    async fn upload(
        &self,
        master: &MasterAddress,
        upload: Upload,
    ) -> Result<Uploaded, MasterError> {
        upload::send(master, &self.keys, upload).await
    }

    async fn report(&self, master: &MasterAddress, report: Report) -> Result<(), MasterError> {
        let timeout = report.timeout;
        let result = convert::task_result(report);
        let ack = self
            .call(master, timeout, |mut client| async move {
                client.report_task_completion(result).await
            })
            .await?;
        accepted(ack.success, ack.message)
    }
}

impl GrpcMaster {
    /// Connects, and asks by gRPC's health check how the master's server is, which changes nothing. Whatever answers by gRPC is
    /// there; the existing master says that it does not know the question.
    ///
    /// # Errors
    /// The master is not there, does not speak gRPC, or does not let this worker in.
    pub async fn knock(&self, master: &MasterAddress) -> Result<(), MasterError> {
        let connection = Connection::open(master, &self.keys, KNOCK_WITHIN).await?;
        let mut client = Grpc::with_origin(connection.requests(), connection.origin());
        let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
        let asked = async {
            client.ready().await.map_err(Status::from_error)?;
            let codec = ProstCodec::<(), ()>::default();
            client.unary(Request::new(()), path, codec).await
        };
        match timeout(KNOCK_WITHIN, asked).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(status)) if status.code() == Code::Unimplemented => Ok(()),
            Ok(Err(status)) => Err(status::master_error(&status, KNOCK_WITHIN)),
            Err(_) => Err(MasterError::Deadline(KNOCK_WITHIN)),
        }
    }

    /// Connects and makes one call, both within `timeout`. No deadline goes along on the wire: the master's handler would break
    /// off at it, with half its writes done.
    async fn call<R, F>(
        &self,
        master: &MasterAddress,
        timeout: Duration,
        send: impl FnOnce(Client) -> F,
    ) -> Result<R, MasterError>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let deadline = Instant::now() + timeout;
        let connection = Connection::open(master, &self.keys, timeout).await?;
        match tokio::time::timeout_at(deadline, send(client(&connection))).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(status::master_error(&status, timeout)),
            Err(_) => Err(MasterError::Deadline(timeout)),
        }
    }
}

fn client(connection: &Connection) -> Client {
    MasterWorkerClient::with_origin(connection.requests(), connection.origin())
        .max_decoding_message_size(MESSAGE_LIMIT)
        .max_encoding_message_size(MESSAGE_LIMIT)
}

/// Reads an answer: a refusal comes with gRPC's OK, so both must be looked at.
fn accepted(success: bool, message: String) -> Result<(), MasterError> {
    if success {
        Ok(())
    } else {
        Err(status::refusal(message))
    }
}
