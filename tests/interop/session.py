"""Registration, heartbeats, and a master that moves."""

import time

from expect import check, equal, true, within
from master import Master
from node import task


@check
def a_worker_registers_with_what_it_has(stage):
    info = stage.master.registrations[0]

    equal("worker_id", info.worker_id, stage.node.id)
    host, _, port = info.worker_ip.rpartition(":")
    equal("the host in worker_ip", host, "127.0.0.1")
    true("the port in worker_ip should be the bound one", 0 < int(port) < 65536, info.worker_ip)
    for name in ("total_cpu", "total_memory", "total_storage"):
        true(f"{name} should be positive", getattr(info, name) > 0, getattr(info, name))
    true("total_memory should be GiB", info.total_memory < 100_000, info.total_memory)
    true("total_gpu should not be negative", info.total_gpu >= 0, info.total_gpu)


@check
def heartbeats_tell_percentages_and_running_tasks(stage):
    long = task("sleep 30", req_cpu=0.5, req_memory=0.25)
    ack, _ = stage.node.assign(long)
    true("the offer should be taken", ack.success, ack.message)

    def named():
        beats = [beat for _, beat in stage.master.heartbeats]
        running = [running for beat in beats for running in beat.running_tasks]
        return [running for running in running if running.task_id == long.task_id]

    running = stage.master.wait("a heartbeat that names the task", named)[0]
    stage.node.cancel(long.task_id)

    equal("cpu_allocated", running.cpu_allocated, 0.5)
    equal("memory_allocated", running.memory_allocated, 0.25)
    true("the status should be shown to people", running.status)
    for _, beat in stage.master.heartbeats:
        equal("worker_id", beat.worker_id, stage.node.id)
        for name in ("cpu_usage", "memory_usage", "storage_usage", "gpu_usage"):
            true(f"{name} should be a percentage", 0 <= getattr(beat, name) <= 100, getattr(beat, name))


@check
def heartbeats_come_every_five_seconds(stage):
    beats = stage.master.wait(
        "three heartbeats",
        lambda: len(stage.master.heartbeats) >= 3 and list(stage.master.heartbeats),
    )

    times = [at for at, _ in beats]
    gaps = [later - earlier for earlier, later in zip(times, times[1:], strict=False)]
    within("the longest silence", max(gaps), 7)
    true("there should be seconds between heartbeats", max(gaps) > 3, gaps)


@check
def a_call_to_register_is_answered_at_once_and_followed_by_a_registration(stage):
    before = len(stage.master.registrations)

    ack, took = stage.node.master_register(stage.master.address)

    true("success", ack.success, ack.message)
    within("MasterRegister", took, 1)
    stage.master.wait("one more registration", lambda: len(stage.master.registrations) > before)


@check
def a_master_that_moves_is_followed_at_once(stage):
    other = Master()
    try:
        began = time.monotonic()
        ack, _ = stage.node.master_register(other.address)
        true("success", ack.success, ack.message)
        other.wait("a registration at the new address", lambda: other.registrations)
        within("the way to the new master", time.monotonic() - began, 2)
        other.wait("a heartbeat at the new address", lambda: other.heartbeats)

        quick = task("echo there")
        stage.node.assign(quick)
        report = other.wait_report(quick.task_id)
        equal("the status", report.result.status, "success")
        equal("reports at the old address", stage.master.reports_of(quick.task_id), [])
    finally:
        before = len(stage.master.registrations)
        stage.node.master_register(stage.master.address)
        stage.master.wait("the way back", lambda: len(stage.master.registrations) > before)
        other.stop()
