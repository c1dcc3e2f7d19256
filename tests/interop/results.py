"""Reports and uploads, field by field."""

import hashlib
import time

import grpc

from expect import check, equal, holds, true
from node import task

# More than one chunk takes.
LARGE = 5_000_000


@check
def a_report_tells_all_that_its_fields_can(stage):
    offer = task("echo one; echo two")
    _, took = stage.node.assign(offer)

    report = stage.master.wait_report(offer.task_id).result

    true("the answer should be quick", took < 1, took)
    equal("worker_id", report.worker_id, stage.node.id)
    equal("status", report.status, "success")
    equal("output_files", list(report.output_files), [])
    true("there should be a result_id", report.result_id)
    *lines, trailer = report.logs.rstrip("\n").split("\n")
    equal("the logs", lines, ["one", "two"])
    holds("the trailer", trailer, "[worker-node] succeeded; exit code 0")
    equal("uploads without files", stage.master.uploads_of(offer.task_id), [])
    equal("the log's trailer", stage.node.whole_log(offer.task_id)[-1].content, trailer)


@check
def no_report_overtakes_the_masters_own_writes(stage):
    offer = task("true")
    stage.node.assign(offer)
    acked_at = time.monotonic()

    report = stage.master.wait_report(offer.task_id)

    # The settle time runs from the answer, and the answer has a way to come.
    true("at least 250 ms should lie between", report.at - acked_at > 0.2, report.at - acked_at)


@check
def a_failure_is_reported_with_its_exit_code(stage):
    offer = task("echo before; exit 42")
    stage.node.assign(offer)

    report = stage.master.wait_report(offer.task_id).result

    equal("status", report.status, "failed")
    holds("the logs", report.logs, "before\n")
    holds("the trailer", report.logs, "exit code 42")


@check
def a_report_that_met_an_error_comes_again_under_the_same_id(stage):
    stage.master.refuse_next_report(grpc.StatusCode.UNAVAILABLE)
    offer = task("echo persistent")
    stage.node.assign(offer)

    report = stage.master.wait_report(offer.task_id).result

    equal("status", report.status, "success")
    equal("the number of reports", len(stage.master.reports_of(offer.task_id)), 1)


@check
def output_files_come_one_after_another_and_before_the_report(stage):
    offer = task(
        f"cd /output; mkdir -p deep/er; : > empty; echo small > deep/er/small.txt; "
        f"head -c {LARGE} /dev/zero > large.bin; ln -s /etc/passwd link",
        task_name="team/job: 1",
        submitted_at=1_700_000_000,
    )
    stage.node.assign(offer)

    report = stage.master.wait_report(offer.task_id)

    equal("status", report.result.status, "success")
    uploads = stage.master.uploads_of(offer.task_id)
    equal("the number of uploads", len(uploads), 1)
    upload = uploads[0]
    true("the upload should end before the report", upload.ended_at < report.at)
    wanted = {"deep/er/small.txt": b"small\n", "empty": b"", "large.bin": bytes(LARGE)}
    files = upload.files()
    equal("the files", sorted(files), sorted(wanted))
    for path, content in wanted.items():
        true(f"the bytes of {path} should be whole", files[path] == content, len(files[path]))
    equal("output_files", sorted(report.result.output_files), sorted(wanted))
    equal_names(upload, offer)
    equal_order(upload, wanted)


def equal_names(upload, offer):
    first = upload.chunks[0]
    equal("task_id", first.task_id, offer.task_id)
    equal("user_id", first.user_id, "ann")
    equal("task_name", first.task_name, "team_job: 1")
    equal("timestamp", first.timestamp, 1_700_000_000)


def equal_order(upload, wanted):
    """One file after another, each ended once, the last one marked, and each with its digest."""
    order = [chunk.file_path for chunk in upload.chunks]
    changes = [path for path, before in zip(order, [None, *order], strict=False) if path != before]
    equal("the order of the files", sorted(changes), sorted(wanted))
    ends = [chunk for chunk in upload.chunks if chunk.is_last_chunk]
    equal("the ends of the files", [chunk.file_path for chunk in ends], changes)
    equal(
        "is_last_file",
        [chunk.is_last_file for chunk in upload.chunks],
        [False] * (len(upload.chunks) - 1) + [True],
    )
    for chunk in ends:
        digest = hashlib.sha256(wanted[chunk.file_path]).hexdigest()
        equal(f"the digest of {chunk.file_path}", chunk.sha256, digest)
    true("each chunk should fit a message", max(len(chunk.data) for chunk in upload.chunks) < 3_670_016)
    equal("the chunks of the empty file", order.count("empty"), 1)
    true("a large file should come in chunks", order.count("large.bin") > 1)
