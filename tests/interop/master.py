"""A small master: the four methods that a worker calls. It records everything, and lets the checks wait for facts.

Every answer carries fields that the worker does not know, as those of a newer master would.
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import cluster_pb2 as pb
import cluster_pb2_grpc as rpc
import grpc

from expect import PATIENCE, Wrong

# Field 900 as a number, field 901 as text: nobody knows them.
UNKNOWN_FIELDS = b"\xa0\x38\x07" + b"\xaa\x38\x05later"

# No proxy stands between here and loopback, whatever the environment says.
CHANNEL = [("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", 4 << 20)]


@dataclass
class Report:
    """One ReportTaskCompletion."""

    at: float
    result: pb.TaskResult


@dataclass
class Upload:
    """One UploadTaskFiles, from its first chunk to its end."""

    chunks: list = field(default_factory=list)
    ended_at: float | None = None

    def files(self):
        """The bytes of each path."""
        files = {}
        for chunk in self.chunks:
            files[chunk.file_path] = files.get(chunk.file_path, b"") + chunk.data
        return files


class Master(rpc.MasterWorkerServicer):
    """Serves on a free port of loopback until `stop`."""

    def __init__(self):
        self._changed = threading.Condition()
        self.registrations = []
        self.heartbeats = []
        self.reports = []
        self.uploads = []
        self._report_errors = []
        self._server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((_Handlers(self),))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def stop(self):
        self._server.stop(grace=None).wait(PATIENCE)

    def refuse_next_report(self, code):
        """The next report meets this status, and is not recorded."""
        with self._changed:
            self._report_errors.append(code)

    def wait(self, what, look):
        """Waits until `look` finds something, and returns it."""
        with self._changed:
            found = self._changed.wait_for(look, PATIENCE)
            if not found:
                raise Wrong(f"not seen within {PATIENCE:.0f} s: {what}")
            return found

    def reports_of(self, task_id):
        return [report for report in self.reports if report.result.task_id == task_id]

    def uploads_of(self, task_id):
        return [upload for upload in self.uploads if upload.chunks[0].task_id == task_id]

    def wait_report(self, task_id, count=1):
        """The report number `count` of a task."""
        reports = self.wait(
            f"report {count} of {task_id}",
            lambda: len(self.reports_of(task_id)) >= count and self.reports_of(task_id),
        )
        return reports[count - 1]

    def _record(self, records, record):
        with self._changed:
            records.append(record)
            self._changed.notify_all()

    def RegisterWorker(self, request, context):
        self._record(self.registrations, request)
        return pb.RegisterAck(success=True, message="registered")

    def SendHeartbeat(self, request, context):
        self._record(self.heartbeats, (time.monotonic(), request))
        return pb.HeartbeatAck(success=True)

    def ReportTaskCompletion(self, request, context):
        with self._changed:
            error = self._report_errors.pop() if self._report_errors else None
        if error is not None:
            context.abort(error, "the database is away")
        self._record(self.reports, Report(time.monotonic(), request))
        return pb.Ack(success=True, message="recorded")

    def UploadTaskFiles(self, request_iterator, context):
        upload = Upload()
        for chunk in request_iterator:
            upload.chunks.append(chunk)
        upload.ended_at = time.monotonic()
        if upload.chunks:
            self._record(self.uploads, upload)
        paths = {chunk.file_path for chunk in upload.chunks}
        return pb.FileUploadAck(success=True, message="stored", files_received=len(paths))


class _Handlers(grpc.GenericRpcHandler):
    """The generated table of methods, with answers that say more than they should."""

    _METHODS = {
        "RegisterWorker": pb.WorkerInfo,
        "SendHeartbeat": pb.Heartbeat,
        "ReportTaskCompletion": pb.TaskResult,
        "UploadTaskFiles": pb.FileChunk,
    }

    def __init__(self, master):
        self._master = master

    def service(self, handler_call_details):
        service, _, name = handler_call_details.method.strip("/").partition("/")
        request = self._METHODS.get(name)
        if service != "cluster.MasterWorker" or request is None:
            return None
        make = (
            grpc.stream_unary_rpc_method_handler
            if name == "UploadTaskFiles"
            else grpc.unary_unary_rpc_method_handler
        )
        return make(
            getattr(self._master, name),
            request_deserializer=request.FromString,
            response_serializer=lambda answer: answer.SerializeToString() + UNKNOWN_FIELDS,
        )
