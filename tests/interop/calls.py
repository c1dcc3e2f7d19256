"""Methods that a worker does not serve, and messages that are not as usual."""

import cluster_pb2 as pb
import cluster_pb2_grpc as rpc
import grpc

from expect import Wrong, check, equal, holds, true
from master import UNKNOWN_FIELDS
from node import task

LARGEST_MESSAGE = 1 << 20


def refused(call):
    """The error that a call ends with."""
    try:
        answer = call()
    except grpc.RpcError as error:
        return error
    raise Wrong(f"the call was answered: {answer}")


@check
def what_the_master_serves_is_unimplemented_here(stage):
    requests = {
        "RegisterWorker": pb.WorkerInfo(worker_id="x", worker_ip="127.0.0.1:1"),
        "SendHeartbeat": pb.Heartbeat(worker_id="x"),
        "ReportTaskCompletion": pb.TaskResult(task_id="x"),
        "UploadTaskFiles": iter([pb.FileChunk(task_id="x", file_path="a", data=b"a")]),
    }
    for name, request in requests.items():
        with stage.node.connection() as channel:
            method = getattr(rpc.MasterWorkerStub(channel), name)
            error = refused(lambda method=method, request=request: method(request, timeout=10))

        equal(f"the code of {name}", error.code(), grpc.StatusCode.UNIMPLEMENTED)
        holds(f"the message of {name}", error.details(), "master")


@check
def a_method_that_nobody_knows_is_unimplemented(stage):
    with stage.node.connection() as channel:
        method = channel.unary_unary("/cluster.MasterWorker/StealTask")
        error = refused(lambda: method(b"", timeout=10))

    equal("the code", error.code(), grpc.StatusCode.UNIMPLEMENTED)


def sized(size):
    """A task whose message has exactly that many bytes."""
    offer = task("")
    offer.command = "#" * (size - offer.ByteSize() - 4)
    equal("the size of the message", offer.ByteSize(), size)
    return offer


@check
def a_message_over_1_mib_is_refused_and_harms_nothing(stage):
    error = refused(lambda: stage.node.assign(sized(LARGEST_MESSAGE + 1)))

    # grpc-go says the one, tonic the other.
    codes = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.OUT_OF_RANGE)
    true("the code should say that it is too large", error.code() in codes, error.code())
    ack, _ = stage.node.assign(task("true"))
    true("the next offer should be taken", ack.success, ack.message)


@check
def a_message_of_1_mib_arrives_and_fails_for_what_it_asks(stage):
    offer = sized(LARGEST_MESSAGE)

    ack, _ = stage.node.assign(offer)

    true("the offer should be taken", ack.success, ack.message)
    report = stage.master.wait_report(offer.task_id)
    equal("the status", report.result.status, "failed")
    holds("the reason", report.result.logs, "[worker-node] failed")


@check
def fields_of_a_newer_master_are_tolerated(stage):
    offer = task("echo newer")

    ack = stage.node.assign_bytes(offer.SerializeToString() + UNKNOWN_FIELDS)

    true("the offer should be taken", ack.success, ack.message)
    report = stage.master.wait_report(offer.task_id)
    equal("the status", report.result.status, "success")
    # The answers of this suite's master had such fields too, from the registration on.


@check
def a_message_that_is_none_is_refused_and_harms_nothing(stage):
    error = refused(lambda: stage.node.assign_bytes(b"\xff\xff\xff"))

    codes = (grpc.StatusCode.INTERNAL, grpc.StatusCode.INVALID_ARGUMENT)
    true("the code should say that it cannot be read", error.code() in codes, error.code())
    ack, _ = stage.node.cancel("task-that-never-was")
    true("the next call should be answered", not ack.success, ack)
