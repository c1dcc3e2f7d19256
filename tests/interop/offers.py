"""AssignTask: what is taken, what is a repetition, what is refused."""

import cluster_pb2 as pb

from expect import check, equal, holds, true, within
from node import task


@check
def an_offer_is_taken_within_milliseconds(stage):
    ack, took = stage.node.assign(task("true"))

    true("success", ack.success, ack.message)
    within("AssignTask", took, 1)


@check
def the_same_offer_again_runs_nothing_twice(stage):
    offer = task("echo ran; sleep 1")
    stage.node.assign(offer)

    again = pb.Task()
    again.CopyFrom(offer)
    # What a master changes between two offers of one task.
    again.target_worker_id = stage.node.id
    again.sla_multiplier = 2
    while_it_runs, _ = stage.node.assign(again)
    first = stage.master.wait_report(offer.task_id).result
    after_its_end, _ = stage.node.assign(offer)
    second = stage.master.wait_report(offer.task_id, 2).result

    true("success while it runs", while_it_runs.success, while_it_runs.message)
    true("success after its end", after_its_end.success, after_its_end.message)
    equal("how often it ran", first.logs.count("ran\n"), 1)
    true("there should be a result_id", first.result_id)
    equal("the result that is sent again", second, first)


@check
def another_task_under_the_same_id_is_refused(stage):
    offer = task("echo first; sleep 1")
    stage.node.assign(offer)

    other = pb.Task()
    other.CopyFrom(offer)
    other.command = "echo second"
    while_it_runs, _ = stage.node.assign(other)
    report = stage.master.wait_report(offer.task_id).result
    after_its_end, _ = stage.node.assign(other)

    true("no success while it runs", not while_it_runs.success)
    true("the refusal should have a reason", while_it_runs.message)
    true("no success after its end", not after_its_end.success)
    true("the first one should have run", report.logs.startswith("first\n"), report.logs)


@check
def what_can_never_work_is_taken_and_fails_with_its_reason(stage):
    for offer in (task("true", docker_image="No Image!"), task("true", req_cpu=100_000)):
        ack, _ = stage.node.assign(offer)
        true("success", ack.success, ack.message)

        report = stage.master.wait_report(offer.task_id).result

        equal("the status", report.status, "failed")
        holds("the reason", report.logs, "[worker-node] failed: ")


@check
def an_id_that_is_no_safe_name_starts_nothing(stage):
    before = len(stage.node.containers())

    ack, _ = stage.node.assign(task("true", task_id="../../etc"))

    equal("containers", len(stage.node.containers()), before)
    true("a refusal should have a reason", ack.success or ack.message)
