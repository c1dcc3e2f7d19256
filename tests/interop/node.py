"""The worker under test: the real binary as a process, and the calls that a master makes to it.

As the real master does, every call opens a connection of its own and closes it after.
"""

import os
import random
import shutil
import signal
import string
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import cluster_pb2 as pb
import cluster_pb2_grpc as rpc
import grpc

from expect import PATIENCE, Wrong
from master import CHANNEL

IMAGE = "busybox:latest"


def unique(prefix):
    """A name that nobody else has."""
    return f"{prefix}-{''.join(random.choices(string.ascii_lowercase, k=10))}"


class Node:
    """A started worker."""

    def __init__(self, binary, master):
        self.id = unique("interop")
        self._folder = Path(tempfile.mkdtemp(prefix="worker-node-interop-"))
        self._log = open(self._folder / "log", "wb")
        arguments = ["run", "-id", self.id, "-ip", "127.0.0.1", "-master", master.address]
        arguments += ["-port", "127.0.0.1:0", "--supervise", "--stop-grace", "2s"]
        # No registry is in reach: asked for a newer image, it would say so in each log.
        arguments += ["--pull", "missing"]
        arguments += ["--state-dir", str(self._folder / "state")]
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("WORKER_NODE_")
        }
        self._process = subprocess.Popen(
            [binary, *arguments], stdin=subprocess.DEVNULL, stderr=self._log, env=environment
        )
        # The address that the worker gives itself is the one that it is called at, verbatim.
        self.address = None

    def runs(self):
        return self._process.poll() is None

    def stop(self):
        """Asks it to end, and returns its exit code."""
        if self.runs():
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise Wrong("the worker does not end after SIGTERM") from None

    def log(self):
        return (self._folder / "log").read_text(errors="replace")

    def clear(self):
        """Removes everything that it left, whatever its state."""
        if self.runs():
            self._process.kill()
            self._process.wait()
        self._log.close()
        for container in self.containers():
            subprocess.run(["docker", "rm", "-f", "-v", container], stdout=subprocess.DEVNULL, check=False)
        shutil.rmtree(self._folder, ignore_errors=True)
        for lock in Path("/run/lock").glob(f"worker-node-{self.id}-*"):
            lock.unlink(missing_ok=True)

    def containers(self):
        """Ids of its containers, ended ones included."""
        label = f"label=worker-node.worker={self.id}"
        listing = subprocess.run(
            ["docker", "ps", "-aq", "--filter", label], capture_output=True, text=True, check=True
        )
        return listing.stdout.split()

    @contextmanager
    def connection(self):
        with grpc.insecure_channel(self.address, options=CHANNEL) as channel:
            yield channel

    def assign(self, task):
        """AssignTask, and how long it took."""
        with self.connection() as channel:
            return timed(rpc.MasterWorkerStub(channel).AssignTask, task, 10)

    def assign_bytes(self, task):
        """AssignTask with a message that is given as bytes."""
        with self.connection() as channel:
            method = channel.unary_unary(
                "/cluster.MasterWorker/AssignTask",
                request_serializer=lambda message: message,
                response_deserializer=pb.TaskAck.FromString,
            )
            return method(task, timeout=10)

    def cancel(self, task_id):
        """CancelTask, and how long it took."""
        with self.connection() as channel:
            return timed(rpc.MasterWorkerStub(channel).CancelTask, pb.TaskID(task_id=task_id), 30)

    def master_register(self, address):
        """MasterRegister, and how long it took."""
        info = pb.MasterInfo(master_id="interop", master_address=address)
        with self.connection() as channel:
            return timed(rpc.MasterWorkerStub(channel).MasterRegister, info, 5)

    @contextmanager
    def log_stream(self, task_id, follow=True, **asked):
        """StreamTaskLogs: the chunks as they come. `asked`: the fields that only this worker knows."""
        request = pb.TaskLogRequest(task_id=task_id, user_id="ann", follow=follow, **asked)
        with self.connection() as channel:
            stream = rpc.MasterWorkerStub(channel).StreamTaskLogs(request, timeout=PATIENCE)
            try:
                yield stream
            finally:
                stream.cancel()

    def whole_log(self, task_id, follow=True, **asked):
        """All chunks of a log."""
        with self.log_stream(task_id, follow, **asked) as stream:
            return list(stream)


def timed(call, request, limit):
    began = time.monotonic()
    answer = call(request, timeout=limit)
    return answer, time.monotonic() - began


def task(command, **fields):
    """A new task; every field that a master sets is set."""
    defaults = {
        "task_id": unique("task"),
        "docker_image": IMAGE,
        "command": command,
        "user_id": "ann",
        "sla_multiplier": 1.5,
        "task_type": "batch",
        "task_name": "job",
        "submitted_at": int(time.time()),
    }
    return pb.Task(**(defaults | fields))
