"""Who gets Python's lock and a core sooner: what answers, before what computes for long and what is being loaded."""

import re
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from kanserve import repository
from kanserve.client import Client
from kanserve.serve import switching
from kanserve.serve.calls.heavy import Cost, Heavy
from kanserve.serve.server import start
from tests import serving

SCHED = Path("/proc/thread-self/sched")


def slice_of(thread: int | str) -> int:
    """Nanoseconds, as the kernel has it of a thread of this process."""
    found = re.search(r"se\.slice\s*:\s*(\d+)", Path(f"/proc/self/task/{thread}/sched").read_text())
    assert found is not None
    return int(found[1])


def takes_slices() -> bool:
    """Whether this kernel lets a thread have slices of its own, and says so."""
    if not SCHED.exists() or "se.slice" not in SCHED.read_text():
        return False
    with switching.starting_what_answers():
        return slice_of(threading.get_native_id()) == switching.SLICE


pytestmark = pytest.mark.skipif(not takes_slices(), reason="the kernel gives all threads slices of one length")


def test_what_answers_takes_short_slices_and_what_loads_and_who_started_it_do_not(tmp_path):
    repository.publish(tmp_path, "iris", serving.artifact("iris"))
    usual, before = slice_of(threading.get_native_id()), set(threading.enumerate())
    with start(tmp_path, port=0) as server, Client(server.address) as client:
        client.predict("iris", np.zeros((1, 2)))
        found: dict[str, set[int]] = {}
        for one in set(threading.enumerate()) - before:
            with suppress(FileNotFoundError):  # it has just ended
                found.setdefault(one.name, set()).add(slice_of(one.native_id or 0))
        assert slice_of(threading.get_native_id()) == usual > switching.SLICE
    assert found["kanserve"] == {switching.SLICE}
    assert {switching.SLICE} in [taken for name, taken in found.items() if "_serve" in name]  # grpc's own
    assert found["kanserve-loading"] == {usual}


def test_what_computes_for_long_takes_usual_slices_though_who_asks_does_not():
    usual, heavy = slice_of(threading.get_native_id()), Heavy()
    try:
        with switching.starting_what_answers():
            assert heavy.run(Cost(), lambda: slice_of(threading.get_native_id())) == usual
    finally:
        heavy.close()
