"""What is learned from workers that end before their time: how soon another starts, and what it must not load."""

import signal
from collections import deque
from collections.abc import Iterable

DEATHS, WITHIN = 5, 10.0  # more deaths than that in so many seconds are a loop
LONGEST_PAUSE = 30.0
FATAL_LOADS = 2  # a version that was being loaded when so many workers ended is not loaded again

Version = tuple[str, int]


def how(status: int) -> str:
    """What ended a process, by its exit code as `os.waitstatus_to_exitcode` gives it."""
    if status >= 0:
        return f"ended with exit code {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


class Breaker:
    """How long one worker's place stays empty: not at all, or longer and longer while its workers end in a loop.

    A loop are workers that end before they are ready, one after the other, and those that end by themselves often. To
    be killed is no fault of a worker that was ready.
    """

    def __init__(self) -> None:
        self._unready = 0
        self._ended: deque[float] = deque()
        self._pause = 0.0

    def ready(self) -> None:
        """A worker has loaded its models."""
        self._unready = 0

    def ended(self, now: float, status: int, lived: float | None) -> float:
        """Seconds until the next may start; `lived` is how long the worker was ready, if it was."""
        if lived is not None and lived > WITHIN:
            self._pause = 0.0
        if lived is None:
            self._unready += 1
        elif status in (0, -signal.SIGKILL):
            return 0.0
        else:
            self._ended.append(now)
        while self._ended and self._ended[0] < now - WITHIN:
            self._ended.popleft()
        if self._pause or self._unready > DEATHS or len(self._ended) > DEATHS:
            self._pause = min(LONGEST_PAUSE, 2 * self._pause or 1.0)
        return self._pause

    @property
    def open(self) -> bool:
        """Whether a loop was noticed, and not seen to end."""
        return self._pause > 0


class Quarantine:
    """The versions that ended workers while they were loaded for the first time, each with the reason to refuse it.

    One that any worker has loaded is above suspicion, unless somebody replaced it since.
    """

    def __init__(self) -> None:
        self.reasons: dict[Version, str] = {}
        self._good: set[Version] = set()
        self._ended: dict[Version, int] = {}

    def loaded(self, versions: Iterable[Version]) -> None:
        self._good.update(versions)

    def replaced(self, version: Version) -> None:
        """A worker that has it loads it: what is there now nobody has loaded yet."""
        self._good.discard(version)

    def ended(self, version: Version, status: int) -> bool:
        """A worker ended while it loaded a version; whether that is now refused, and was not before."""
        if version in self._good or version in self.reasons:
            return False
        self._ended[version] = self._ended.get(version, 0) + 1
        if self._ended[version] < FATAL_LOADS:
            return False
        self.reasons[version] = (
            f"The process that loads it {how(status)}, {FATAL_LOADS} times. Publish a version that can be loaded."
        )
        return True
