"""Shared by the benchmarks: interleaved timing, the description of the machine, and printing of tables.

Times are CPU seconds of this process, not wall-clock time: other work on the machine then matters less, and for a
single thread the two are the same.
"""

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

import numpy as np


def interleaved(calls: Mapping[str, Callable[[], object]], rounds: int, seconds: float) -> dict[str, float]:
    """The median CPU seconds of each call. In every round each runs for about `seconds`, in turn, so that a slow moment
    of the machine affects all of them."""
    repeats = {}
    for name, call in calls.items():
        call()  # warm-up
        repeats[name] = max(1, round(seconds / max(_seconds(call, 1), 1e-6)))
    taken = [{name: _seconds(call, repeats[name]) for name, call in calls.items()} for _ in range(rounds)]
    return {name: float(np.median([seconds[name] for seconds in taken])) for name in calls}


def _seconds(call: Callable[[], object], repeats: int) -> float:
    begun = time.process_time()
    for _ in range(repeats):
        call()
    return (time.process_time() - begun) / repeats


def machine(*packages: str) -> str:
    """The processor, its load, and the versions of the compared packages: the head of every table."""
    names = [line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    threads = os.environ.get("OMP_NUM_THREADS", "not set")
    versions = ", ".join(f"{package} {installed(package) or 'not installed'}" for package in packages)
    return (
        f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"OMP_NUM_THREADS {threads}\nPython {platform.python_version()}, {versions}"
    )


def installed(package: str) -> str | None:
    """The version of an installed package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A text table with right-aligned columns."""
    widths = [max(len(row[n]) for row in (head, *rows)) for n in range(len(head))]
    lines = ["  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)) for row in (head, *rows)]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def goal(met: bool, what: str, misses: Sequence[str] = ()) -> str:
    """A line that says whether a goal is met, and where it is missed."""
    return f"{'met' if met else 'MISSED'}: {what}" + (f" ({', '.join(misses)})" if misses else "")


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8") as file:
            return file.readlines()
    except OSError:  # not Linux
        return []
