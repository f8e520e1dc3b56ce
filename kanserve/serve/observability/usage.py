"""The resource usage of this process, as in Prometheus' standard process metrics."""

import functools
import os
import threading
from typing import Any

_DESCRIPTORS = "/proc/self/fd"


def usage() -> dict[str, Any]:
    """CPU and start time in seconds, memory in bytes, threads, descriptors; off Linux only what Python knows."""
    times = os.times()
    known: dict[str, Any] = {"pid": os.getpid(), "cpu_seconds": times.user + times.system, "threads": threads()}
    try:
        with open("/proc/self/stat", "rb") as file:
            # The process name may contain spaces and parentheses; after the last parenthesis come numbers.
            numbers = file.read().rpartition(b")")[2].split()
        known["virtual_memory_bytes"] = int(numbers[20])
        known["resident_memory_bytes"] = int(numbers[21]) * os.sysconf("SC_PAGE_SIZE")
        known["start_time_seconds"] = _booted() + int(numbers[19]) / os.sysconf("SC_CLK_TCK")
        known["open_fds"] = len(os.listdir(_DESCRIPTORS)) - 1  # one was open to list them
    except OSError:
        pass  # another system
    return known


def threads() -> int:
    """The number of threads, those of C libraries included where the system reports them."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return threading.active_count()


@functools.cache
def _booted() -> int:
    with open("/proc/stat", "rb") as file:
        return next((int(line.split()[1]) for line in file if line.startswith(b"btime ")), 0)
