"""Words in which the checks say what they want to see, and the runner that counts them.

A check is a function with the decorator `check`; its name is its claim. What it finds wrong it raises as `Wrong`; anything
else that it raises fails it as well.
"""

import re
import time
import traceback
from datetime import datetime

# How long anything is waited for: far more than it takes on a busy machine.
PATIENCE = 60.0


class Wrong(Exception):
    """Something is not as the contract says."""


def check(function):
    """Makes a function a check."""
    function.is_check = True
    return function


def run(stage, rooms, names):
    """Runs the checks of these modules whose names hold one of `names`, or all; returns how many passed and failed."""
    passed = failed = 0
    found = [thing for room in rooms for thing in vars(room).values() if getattr(thing, "is_check", False)]
    for function in found:
        if names and not any(name in function.__name__ for name in names):
            continue
        began = time.monotonic()
        try:
            function(stage)
        except Exception as error:  # A check may fail in any way, and the next one runs all the same.
            failed += 1
            print(f"FAILED {function.__name__}: {error}", flush=True)
            if not isinstance(error, Wrong):
                traceback.print_exc()
        else:
            passed += 1
            print(f"ok     {function.__name__} ({time.monotonic() - began:.1f} s)", flush=True)
    return passed, failed


def equal(what, found, wanted):
    if found != wanted:
        raise Wrong(f"{what} is {shown(found)}, should be {shown(wanted)}")


def true(what, holds, found=""):
    if not holds:
        raise Wrong(f"{what}; found {shown(found)}" if found != "" else what)


def holds(what, text, part):
    true(f"{what} should hold {part!r}", part in text, text)


def within(what, seconds, limit):
    true(f"{what} took {seconds:.3f} s, more than {limit} s", seconds <= limit)


_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


def rfc_3339(what, text):
    true(f"{what} should be an RFC 3339 time", _RFC_3339.fullmatch(text), text)
    # At most microseconds are known to this language.
    datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text).replace("Z", "+00:00"))


def shown(value):
    text = repr(value)
    return text if len(text) <= 600 else f"{text[:300]} ... {text[-300:]}"
