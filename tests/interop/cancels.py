"""CancelTask in each state, and what the master hears after."""

import time

from expect import check, equal, holds, true, within
from node import task


def running(stage, command):
    """A task whose container has printed `up`."""
    offer = task(f"echo up; {command}")
    stage.node.assign(offer)
    with stage.node.log_stream(offer.task_id) as stream:
        for chunk in stream:
            if chunk.content == "up":
                break
    return offer.task_id


@check
def a_running_task_is_cancelled_and_keeps_its_log(stage):
    task_id = running(stage, "sleep 1000")

    ack, took = stage.node.cancel(task_id)
    acked_at = time.monotonic()
    chunks = stage.node.whole_log(task_id)
    report = stage.master.wait_report(task_id)

    true("success", ack.success, ack.message)
    within("CancelTask", took, 1)
    true("no report should come before the answer", report.at > acked_at)
    equal("the status", report.result.status, "cancelled")
    true("the logs should be there", report.result.logs.startswith("up\n"), report.result.logs)
    equal("the log's last word", (chunks[-1].is_complete, chunks[-1].status), (True, "cancelled"))


@check
def a_cancel_may_be_repeated_while_the_task_stops(stage):
    task_id = running(stage, "trap '' TERM; while true; do sleep 1; done")

    answers = [stage.node.cancel(task_id)[0] for _ in range(3)]
    report = stage.master.wait_report(task_id)

    for ack in answers:
        true("success", ack.success, ack.message)
    equal("the status", report.result.status, "cancelled")
    equal("the number of reports", len(stage.master.reports_of(task_id)), 1)


@check
def a_task_that_has_just_been_offered_can_be_cancelled(stage):
    offer = task("echo too late; sleep 1000")
    stage.node.assign(offer)

    ack, _ = stage.node.cancel(offer.task_id)

    true("success", ack.success, ack.message)
    equal("the status", stage.master.wait_report(offer.task_id).result.status, "cancelled")


@check
def a_task_that_nobody_knows_is_not_found(stage):
    ack, _ = stage.node.cancel("task-that-never-was")

    true("no success", not ack.success)
    true("the message should end as agreed", ack.message.endswith("not found"), ack.message)


@check
def a_finished_task_stays_as_it_is(stage):
    ends = {"success": "true", "failed": "exit 3"}
    for status, command in ends.items():
        offer = task(command)
        stage.node.assign(offer)
        stage.master.wait_report(offer.task_id)

        ack, _ = stage.node.cancel(offer.task_id)

        true("no success", not ack.success)
        holds("the message", ack.message, f"already finished: {status}")
        last = stage.node.whole_log(offer.task_id)[-1]
        word = "completed" if status == "success" else "failed"
        equal("the log's last word", last.status, word)
        equal("the number of reports", len(stage.master.reports_of(offer.task_id)), 1)
