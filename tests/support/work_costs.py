"""What a piece of work costs, said so that it means the same on every machine: calls counted, or CPU time beside other
work of the same run."""

import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

ROUNDS = 5


def calls(work: Callable[[], object]) -> int:
    """How many functions of Python and of C the work calls in this thread."""
    count = 0

    def counted(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(counted)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def ratio(
    work: Callable[[], object],
    other: Callable[[], object],
    clock: Callable[[], float] = time.thread_time,
    rounds: int = ROUNDS,
) -> float:
    """CPU time of the work over that of the other, each the least of interleaved rounds."""
    least = [float("inf"), float("inf")]
    for _ in range(rounds):
        for place, job in enumerate((work, other)):
            begun = clock()
            job()
            least[place] = min(least[place], clock() - begun)
    return least[0] / least[1]
