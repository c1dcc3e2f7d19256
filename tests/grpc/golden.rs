//! The contract to the byte: path and messages of its eight methods. The bytes (`golden/bytes.rs`) are not ours: Google's protobuf
//! for Python (7.36) wrote them, from a description made of the contract's table of names, numbers and types, without the one in
//! `proto/`. Fields from 100 up are this worker's additions; `golden/made_before.rs` is a peer that knows none of them.

mod bytes;
mod made_before;
mod values;
mod wire;

use std::{fmt::Debug, iter};

use prost::{
    Message,
    encoding::{DecodeContext, decode_key, skip_field},
};
use tokio_stream::{Iter, StreamExt as _, iter as stream};
use tonic::{Code, Request, Response, Status, Streaming, async_trait};
use worker_node::grpc::listener::Limits;
use worker_node::proto::{
    self,
    master_worker_client::MasterWorkerClient,
    master_worker_server::{MasterWorker, MasterWorkerServer},
    task_log_request::Start,
};

use crate::fakes::Node;
use bytes::*;
use values::*;
use wire::{Seen, Tap};

/// Fields of no message, one of each kind: a number, 8 bytes, bytes, a group with a number in it, 4 bytes.
const UNKNOWN: &str = "c03e07c93e0102030405060708d23e03616263db3e080adc3ee53e01020304";

fn bytes_of(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    let bytes = digits.map(|two| u8::from_str_radix(str::from_utf8(two).unwrap(), 16));
    bytes.collect::<Result<_, _>>().unwrap()
}

/// As messages go over a connection: not compressed, the length, the message.
fn framed(messages: &[&str]) -> Vec<u8> {
    let frames = messages.iter().flat_map(|hex| {
        let message = bytes_of(hex);
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        iter::once(0).chain(length).chain(message)
    });
    frames.collect()
}

#[track_caller]
fn is_the_same<M: Message + Default + PartialEq + Debug>(hex: &str, value: &M) {
    let golden = bytes_of(hex);

    assert_eq!(M::decode(&*golden).unwrap(), *value, "what is read");
    assert_eq!(value.encode_to_vec(), golden, "what is written");
}

#[track_caller]
fn passes_over_unknown<M: Message + Default + PartialEq + Debug>(hex: &str) {
    let known = M::decode(&*bytes_of(hex)).unwrap();

    for with_more in [format!("{hex}{UNKNOWN}"), format!("{UNKNOWN}{hex}")] {
        assert_eq!(M::decode(&*bytes_of(&with_more)).unwrap(), known);
    }
}

/// The fields of a message as they stand in it.
fn fields_of(message: &[u8]) -> Vec<&[u8]> {
    let (mut fields, mut rest) = (Vec::new(), message);
    while !rest.is_empty() {
        let before = rest;
        let (tag, kind) = decode_key(&mut rest).unwrap();
        skip_field(kind, tag, &mut rest, DecodeContext::default()).unwrap();
        fields.push(&before[..before.len() - rest.len()]);
    }
    fields
}

/// A message as often as it has fields, each time without another one.
fn without_a_field(hex: &str) -> Vec<Vec<u8>> {
    let message = bytes_of(hex);
    let fields = fields_of(&message);
    let without = |missing: usize| {
        let kept = fields
            .iter()
            .enumerate()
            .filter(|(number, _)| *number != missing);
        kept.flat_map(|(_, field)| field.iter().copied()).collect()
    };
    (0..fields.len()).map(without).collect()
}

#[track_caller]
fn each_field_may_be_missing<M: Message + Default + PartialEq + Debug>(hex: &str) {
    let whole = M::decode(&*bytes_of(hex)).unwrap();

    for rest in without_a_field(hex) {
        let read = M::decode(&*rest).unwrap();
        assert_ne!(read, whole);
        assert_eq!(read.encode_to_vec(), rest, "nothing stands in its place");
    }
    assert_eq!(M::decode(&[][..]).unwrap(), M::default());
}

/// Reads and writes the additions behind what was there before, of which a peer of before reads the same with and without.
#[track_caller]
fn is_added<Before, M>(before: &str, more: &str, value: &M)
where
    Before: Message + Default + PartialEq + Debug,
    M: Message + Default + PartialEq + Debug,
{
    let whole = format!("{before}{more}");

    is_the_same(&whole, value);
    let reads = |hex: &str| Before::decode(&*bytes_of(hex)).unwrap();
    assert_eq!(reads(&whole), reads(before));
    assert_eq!(reads(&whole).encode_to_vec(), bytes_of(before));
}

/// Has one answer to each call: the golden one.
struct Golden;

type Answer<T> = Result<Response<T>, Status>;

#[async_trait]
impl MasterWorker for Golden {
    type StreamTaskLogsStream = Iter<std::array::IntoIter<Result<proto::LogChunk, Status>, 2>>;

    async fn register_worker(&self, _: Request<proto::WorkerInfo>) -> Answer<proto::RegisterAck> {
        Ok(Response::new(registered()))
    }

    async fn send_heartbeat(&self, _: Request<proto::Heartbeat>) -> Answer<proto::HeartbeatAck> {
        Ok(Response::new(heartbeat_ack()))
    }

    async fn report_task_completion(&self, _: Request<proto::TaskResult>) -> Answer<proto::Ack> {
        Ok(Response::new(ack()))
    }

    async fn upload_task_files(
        &self,
        request: Request<Streaming<proto::FileChunk>>,
    ) -> Answer<proto::FileUploadAck> {
        let mut chunks = request.into_inner();
        while chunks.message().await?.is_some() {}
        Ok(Response::new(files_ack()))
    }

    async fn master_register(&self, _: Request<proto::MasterInfo>) -> Answer<proto::RegisterAck> {
        Ok(Response::new(registered()))
    }

    async fn assign_task(&self, _: Request<proto::Task>) -> Answer<proto::TaskAck> {
        Ok(Response::new(task_ack()))
    }

    async fn cancel_task(&self, _: Request<proto::TaskId>) -> Answer<proto::TaskAck> {
        Ok(Response::new(task_ack()))
    }

    async fn stream_task_logs(
        &self,
        _: Request<proto::TaskLogRequest>,
    ) -> Answer<Self::StreamTaskLogsStream> {
        Ok(Response::new(stream([Ok(log_chunk()), Ok(log_chunk())])))
    }
}

type Client = MasterWorkerClient<Tap<MasterWorkerServer<Golden>>>;

fn client() -> (Client, Seen) {
    let tap = Tap::before(MasterWorkerServer::new(Golden));
    let seen = tap.seen.clone();
    (MasterWorkerClient::new(tap), seen)
}

impl Seen {
    #[track_caller]
    fn is(&self, path: &str, requests: &[&str], answers: &[&str]) {
        assert_eq!(*self.paths.lock().unwrap(), [path]);
        let (asked, answered) = (framed(requests), framed(answers));
        assert_eq!(
            *self.requests.lock().unwrap(),
            asked,
            "{path}: what is asked"
        );
        assert_eq!(
            *self.answers.lock().unwrap(),
            answered,
            "{path}: the answer"
        );
    }
}

#[test]
fn each_message_of_the_contract_is_read_and_written_as_its_golden_bytes() {
    is_the_same(WORKER_INFO, &info());
    is_the_same(REGISTER_ACK, &registered());
    is_the_same(HEARTBEAT, &heartbeat());
    is_the_same(HEARTBEAT_ACK, &heartbeat_ack());
    is_the_same(TASK_RESULT, &result());
    is_the_same(ACK, &ack());
    is_the_same(FILE_CHUNK, &chunk());
    is_the_same(FILE_UPLOAD_ACK, &files_ack());
    is_the_same(MASTER_INFO, &master());
    is_the_same(TASK, &task());
    is_the_same(TASK_ACK, &task_ack());
    is_the_same(TASK_ID, &task_id());
    is_the_same(TASK_LOG_REQUEST, &log_request());
    is_the_same(LOG_CHUNK, &log_chunk());
}

#[test]
fn unknown_fields_of_every_kind_are_passed_over_in_each_message() {
    passes_over_unknown::<proto::WorkerInfo>(WORKER_INFO);
    passes_over_unknown::<proto::RegisterAck>(REGISTER_ACK);
    passes_over_unknown::<proto::Heartbeat>(HEARTBEAT);
    passes_over_unknown::<proto::HeartbeatAck>(HEARTBEAT_ACK);
    passes_over_unknown::<proto::TaskResult>(TASK_RESULT);
    passes_over_unknown::<proto::Ack>(ACK);
    passes_over_unknown::<proto::FileChunk>(FILE_CHUNK);
    passes_over_unknown::<proto::FileUploadAck>(FILE_UPLOAD_ACK);
    passes_over_unknown::<proto::MasterInfo>(MASTER_INFO);
    passes_over_unknown::<proto::Task>(TASK);
    passes_over_unknown::<proto::TaskAck>(TASK_ACK);
    passes_over_unknown::<proto::TaskId>(TASK_ID);
    passes_over_unknown::<proto::TaskLogRequest>(TASK_LOG_REQUEST);
    passes_over_unknown::<proto::LogChunk>(LOG_CHUNK);
}

#[test]
fn each_field_of_each_message_may_be_missing() {
    each_field_may_be_missing::<proto::WorkerInfo>(WORKER_INFO);
    each_field_may_be_missing::<proto::RegisterAck>(REGISTER_ACK);
    each_field_may_be_missing::<proto::Heartbeat>(HEARTBEAT);
    each_field_may_be_missing::<proto::HeartbeatAck>(HEARTBEAT_ACK);
    each_field_may_be_missing::<proto::TaskResult>(TASK_RESULT);
    each_field_may_be_missing::<proto::Ack>(ACK);
    each_field_may_be_missing::<proto::FileChunk>(FILE_CHUNK);
    each_field_may_be_missing::<proto::FileUploadAck>(FILE_UPLOAD_ACK);
    each_field_may_be_missing::<proto::MasterInfo>(MASTER_INFO);
    each_field_may_be_missing::<proto::Task>(TASK);
    each_field_may_be_missing::<proto::TaskAck>(TASK_ACK);
    each_field_may_be_missing::<proto::TaskId>(TASK_ID);
    each_field_may_be_missing::<proto::TaskLogRequest>(TASK_LOG_REQUEST);
    each_field_may_be_missing::<proto::LogChunk>(LOG_CHUNK);
}

/// By the worker itself, with one that says yes to everything behind it.
#[tokio::test]
async fn a_call_that_lacks_a_field_is_answered_in_the_contracts_words() {
    let node = Node::start(Limits::default()).await;
    let mut client = node.client();

    for bytes in without_a_field(TASK) {
        let task = proto::Task::decode(&*bytes).unwrap();
        let has_id = !task.task_id.is_empty();
        let ack = client.assign_task(task).await.unwrap().into_inner();
        assert_eq!(ack.success, has_id, "{}", ack.message);
        assert!(!ack.message.is_empty());
    }
    let ack = client.cancel_task(proto::TaskId::default()).await.unwrap();
    assert!(!ack.into_inner().success, "no id, no task");
    for bytes in without_a_field(MASTER_INFO) {
        let master = proto::MasterInfo::decode(&*bytes).unwrap();
        // Whoever names no address is where he was.
        let ack = client.master_register(master).await.unwrap().into_inner();
        assert!(ack.success, "{}", ack.message);
    }
    for bytes in without_a_field(TASK_LOG_REQUEST) {
        let request = proto::TaskLogRequest::decode(&*bytes).unwrap();
        let code = client
            .stream_task_logs(request)
            .await
            .err()
            .map(|status| status.code());
        assert!(
            matches!(code, Some(Code::NotFound | Code::InvalidArgument)),
            "{code:?}"
        );
    }
}

#[test]
fn the_additions_to_results_and_files_are_golden_and_unseen_by_a_peer_of_before() {
    let with_id = proto::TaskResult {
        result_id: "r-1".to_owned(),
        image: "a@sha256:0".to_owned(),
        ..result()
    };
    let with_usage = proto::TaskResult {
        usage: Some(proto::ResourceUsage {
            cpu_seconds: 1.5,
            peak_memory_bytes: 7,
            network_receive_bytes: Some(0),
            network_transmit_bytes: Some(300),
            ..proto::ResourceUsage::default()
        }),
        ..result()
    };
    let with_sum = proto::FileChunk {
        sha256: "e3b0".to_owned(),
        ..chunk()
    };

    is_added::<made_before::TaskResult, _>(TASK_RESULT, RESULT_ID, &with_id);
    is_added::<made_before::TaskResult, _>(TASK_RESULT, USAGE, &with_usage);
    is_added::<made_before::FileChunk, _>(FILE_CHUNK, SHA256, &with_sum);
}

#[test]
fn the_additions_to_tasks_are_golden_and_unseen_by_a_peer_of_before() {
    let with_settings = proto::Task {
        settings: Some(settings()),
        ..task()
    };

    is_added::<made_before::Task, _>(TASK, SETTINGS, &with_settings);
    each_field_may_be_missing::<proto::Task>(&format!("{TASK}{SETTINGS}"));
    // Its own fields stand behind a tag of two bytes, and a length of two.
    each_field_may_be_missing::<proto::TaskSettings>(&SETTINGS[8..]);
    passes_over_unknown::<proto::TaskSettings>(&SETTINGS[8..]);
}

#[test]
fn the_additions_to_logs_are_golden_and_unseen_by_a_peer_of_before() {
    let asked = |batches, start, only: proto::LogSource| proto::TaskLogRequest {
        batches,
        start: Some(start),
        only: only.into(),
        ..log_request()
    };
    let (both, stderr, own) = (
        proto::LogSource::Unspecified,
        proto::LogSource::Stderr,
        proto::LogSource::Worker,
    );
    for (more, value) in [
        (
            BATCHES_FROM_OFFSET,
            asked(true, Start::Offset(70_000), stderr),
        ),
        (LAST_LINES, asked(false, Start::LastLines(10), both)),
        (
            SINCE,
            asked(false, Start::Since(1_764_000_000_000_001), both),
        ),
        (SINCE_BEFORE_1970, asked(false, Start::Since(-1), own)),
    ] {
        is_added::<made_before::TaskLogRequest, _>(TASK_LOG_REQUEST, more, &value);
    }
    let piece = |length, source: proto::LogSource, offset, time| proto::LogPiece {
        length,
        source: source.into(),
        offset,
        time,
    };
    let batch = proto::LogChunk {
        continued: true,
        data: vec![0, 255, b'\n'].into(),
        pieces: vec![
            piece(2, proto::LogSource::Stdout, 70_000, 1_764_000_000_000_001),
            piece(1, own, 0, 5),
        ],
        ..log_chunk()
    };
    is_added::<made_before::LogChunk, _>(LOG_CHUNK, PIECES, &batch);
}

#[tokio::test]
async fn the_four_methods_that_the_master_serves_have_their_paths_and_golden_bytes() {
    let (mut client, seen) = client();
    let ack_of = client.register_worker(info()).await.unwrap().into_inner();
    assert_eq!(ack_of, registered());
    seen.is(
        "/cluster.MasterWorker/RegisterWorker",
        &[WORKER_INFO],
        &[REGISTER_ACK],
    );

    let (mut client, seen) = self::client();
    let ack_of = client.send_heartbeat(heartbeat()).await.unwrap();
    assert_eq!(ack_of.into_inner(), heartbeat_ack());
    seen.is(
        "/cluster.MasterWorker/SendHeartbeat",
        &[HEARTBEAT],
        &[HEARTBEAT_ACK],
    );

    let (mut client, seen) = self::client();
    let ack_of = client.report_task_completion(result()).await.unwrap();
    assert_eq!(ack_of.into_inner(), ack());
    seen.is(
        "/cluster.MasterWorker/ReportTaskCompletion",
        &[TASK_RESULT],
        &[ACK],
    );

    let (mut client, seen) = self::client();
    let chunks = stream([chunk(), chunk()]);
    let ack_of = client.upload_task_files(chunks).await.unwrap();
    assert_eq!(ack_of.into_inner(), files_ack());
    seen.is(
        "/cluster.MasterWorker/UploadTaskFiles",
        &[FILE_CHUNK, FILE_CHUNK],
        &[FILE_UPLOAD_ACK],
    );
}

#[tokio::test]
async fn the_four_methods_that_the_worker_serves_have_their_paths_and_golden_bytes() {
    let (mut client, seen) = client();
    let ack_of = client.master_register(master()).await.unwrap();
    assert_eq!(ack_of.into_inner(), registered());
    seen.is(
        "/cluster.MasterWorker/MasterRegister",
        &[MASTER_INFO],
        &[REGISTER_ACK],
    );

    let (mut client, seen) = self::client();
    let ack_of = client.assign_task(task()).await.unwrap();
    assert_eq!(ack_of.into_inner(), task_ack());
    seen.is("/cluster.MasterWorker/AssignTask", &[TASK], &[TASK_ACK]);

    let (mut client, seen) = self::client();
    let ack_of = client.cancel_task(task_id()).await.unwrap();
    assert_eq!(ack_of.into_inner(), task_ack());
    seen.is("/cluster.MasterWorker/CancelTask", &[TASK_ID], &[TASK_ACK]);

    let (mut client, seen) = self::client();
    let log = client.stream_task_logs(log_request()).await.unwrap();
    let chunks: Vec<_> = log.into_inner().collect::<Result<_, _>>().await.unwrap();
    assert_eq!(chunks, [log_chunk(), log_chunk()]);
    seen.is(
        "/cluster.MasterWorker/StreamTaskLogs",
        &[TASK_LOG_REQUEST],
        &[LOG_CHUNK, LOG_CHUNK],
    );
}
