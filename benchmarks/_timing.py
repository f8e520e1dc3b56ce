"""What the three tables share: interleaved timing, the machine, and how a table is printed.

Times are seconds of CPU of this process, not of the clock: other work on the machine then matters less, and what runs
on one thread costs the same by both.
"""

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

import numpy as np


def interleaved(calls: Mapping[str, Callable[[], object]], rounds: int, seconds: float) -> dict[str, float]:
    """The median CPU seconds of each call. In every round each runs for about `seconds`, one after the other, so that
    a slow moment of the machine falls on all of them."""
    repeats = {}
    for name, call in calls.items():
        call()  # what is prepared at the first call does not count
        repeats[name] = max(1, round(seconds / max(_seconds(call, 1), 1e-6)))
    taken = [{name: _seconds(call, repeats[name]) for name, call in calls.items()} for _ in range(rounds)]
    return {name: float(np.median([seconds[name] for seconds in taken])) for name in calls}


def _seconds(call: Callable[[], object], repeats: int) -> float:
    begun = time.process_time()
    for _ in range(repeats):
        call()
    return (time.process_time() - begun) / repeats


def machine(*packages: str) -> str:
    """The processor, how busy it is, and the versions of what is compared: the head of every table."""
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
    """Columns as wide as they must be, their texts to the right."""
    widths = [max(len(row[n]) for row in (head, *rows)) for n in range(len(head))]
    lines = ["  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)) for row in (head, *rows)]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def goal(met: bool, what: str, misses: Sequence[str] = ()) -> str:
    """The line that says whether a goal is met, and where it is not."""
    return f"{'met' if met else 'MISSED'}: {what}" + (f" ({', '.join(misses)})" if misses else "")


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8") as file:
            return file.readlines()
    except OSError:  # not Linux
        return []
