"""Plays the master against a worker: starts both, runs every check, puts everything away.

    suite.py BINARY [NAME...]
"""

import signal
import sys
import time
from dataclasses import dataclass

import calls
import cancels
import logs
import offers
import results
import session
from expect import PATIENCE, Wrong, run
from master import Master
from node import Node, task

# In this order: the last one waits for heartbeats, of which there are enough by then.
ROOMS = (calls, offers, logs, cancels, results, session)


@dataclass
class Stage:
    """What every check works with."""

    master: Master
    node: Node


def main():
    binary, *names = sys.argv[1:]
    # So that what is put away below is put away after a polite kill too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    master = Master()
    node = Node(binary, master)
    try:
        make_ready(master, node)
        passed, failed = run(Stage(master, node), ROOMS, names)
        problem = end(node)
        if problem:
            print(f"FAILED the end: {problem}")
            failed += 1
        else:
            passed += 1
        if failed:
            print("the end of the worker's log:\n" + "\n".join(node.log().splitlines()[-60:]))
    except Wrong as error:
        print(f"FAILED the start: {error}\nthe worker's log:\n{node.log()}")
        passed, failed = 0, 1
    finally:
        node.clear()
        master.stop()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


def make_ready(master, node):
    """Waits until the worker takes offers: as long as it is starting, it refuses them."""
    first = master.wait("the worker's registration", lambda: master.registrations)[0]
    node.address = first.worker_ip
    offer = task("true")
    deadline = time.monotonic() + PATIENCE
    while not (ack := node.assign(offer)[0]).success:
        if time.monotonic() > deadline:
            raise Wrong(f"no offer is ever taken: {ack.message}")
        time.sleep(0.1)
    master.wait_report(offer.task_id)


def end(node):
    """No container of a finished task stays, and the worker ends with 0 when it is asked to."""
    deadline = time.monotonic() + PATIENCE
    while left := node.containers():
        if time.monotonic() > deadline:
            return f"containers are left: {left}"
        time.sleep(0.1)
    try:
        code = node.stop()
    except Wrong as error:
        return str(error)
    return None if code == 0 else f"the worker's exit code is {code}"


if __name__ == "__main__":
    sys.exit(main())
