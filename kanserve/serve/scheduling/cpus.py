"""The cores that this process may use, by its CPU affinity and the quotas of its control groups (cgroups)."""

import math
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def available(root: Path = Path("/")) -> int:
    """How many cores the process can keep busy, at least one; a fraction counts as one. `root` is where the file
    systems with this information are mounted."""
    quota = _quota(root)
    count = len(cores())
    return max(1, count if quota is None else min(count, math.ceil(quota)))


def cores() -> tuple[int, ...]:
    """The numbers of the cores on which the process may run."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def lower_priority(nice: int) -> None:
    """Lower the priority of this thread. Only on Linux; elsewhere the whole process would be affected."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)


def pin(worker: int) -> None:
    """Pin the process to one core; its own, if there are at least as many cores as workers."""
    if hasattr(os, "sched_setaffinity"):
        allowed = cores()
        os.sched_setaffinity(0, {allowed[worker % len(allowed)]})


def read_queued_time() -> int:
    """Nanoseconds that this thread has spent in the kernel's run queue; 0 if the kernel does not report it. On a busy
    machine, a low-priority thread may wait ten times as long as it computes."""
    try:
        file = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        return int(os.read(file, 100).split()[1])
    finally:
        os.close(file)


def _quota(root: Path) -> float | None:
    """The lowest quota from the process's control group up to the root, in cores; None without one."""
    return min(_quotas(root), default=None)


def _quotas(root: Path) -> Iterator[float]:
    mounted = root / "sys/fs/cgroup"
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2
            for folder in _upwards(mounted, path):
                yield from _version_2(folder / "cpu.max")
        elif "cpu" in controllers.split(","):
            for folder in _upwards(mounted / "cpu", path):
                yield from _version_1(folder)


def _upwards(mounted: Path, path: str) -> Iterator[Path]:
    """A group's folder and those above it. In a container the path may be the host's; then only the root exists."""
    folder = mounted / path.strip("/")
    while folder != mounted:
        yield folder
        folder = folder.parent
    yield mounted


def _version_2(path: Path) -> Iterator[float]:
    for line in _lines(path):
        quota, _, period = line.partition(" ")
        if quota != "max":
            yield int(quota) / int(period)


def _version_1(folder: Path) -> Iterator[float]:
    quota, period = _lines(folder / "cpu.cfs_quota_us"), _lines(folder / "cpu.cfs_period_us")
    if quota and period and int(quota[0]) > 0:
        yield int(quota[0]) / int(period[0])


def _lines(path: Path) -> list[str]:
    with suppress(OSError):
        return path.read_text().splitlines()
    return []
