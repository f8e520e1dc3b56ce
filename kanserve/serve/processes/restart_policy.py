"""What to do after a worker dies: the pause before the next starts, and the versions it must not load."""

import signal
from collections import deque
from collections.abc import Iterable

DEATHS, WITHIN = 5, 10.0  # more deaths than this within this many seconds are a crash loop
LONGEST_PAUSE = 30.0
FATAL_LOADS = 2  # a version that was loading when this many workers died is not loaded again

Version = tuple[str, int]


def how(status: int) -> str:
    """Describe how a process ended, by its exit code from `os.waitstatus_to_exitcode`."""
    if status >= 0:
        return f"ended with exit code {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


class Breaker:
    """The restart back-off of a worker slot: no pause, or a growing one in a crash loop, when workers repeatedly end
    before they are ready, or often end by themselves. Killing a ready worker does not count."""

    def __init__(self) -> None:
        self._unready = 0
        self._ended: deque[float] = deque()
        self._pause = 0.0

    def ready(self) -> None:
        """Record that a worker has loaded its models."""
        self._unready = 0

    def ended(self, now: float, status: int, lived: float | None) -> float:
        """Record a worker's end. Returns the seconds until the next may start; `lived`: how long it was ready."""
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
        """Whether a crash loop was detected and has not ended."""
        return self._pause > 0


class Quarantine:
    """The versions that crashed workers while loading, each with the reason to refuse it. A version that any worker has
    loaded is never refused, unless it was replaced since."""

    def __init__(self) -> None:
        self.reasons: dict[Version, str] = {}
        self._good: set[Version] = set()
        self._ended: dict[Version, int] = {}

    def loaded(self, versions: Iterable[Version]) -> None:
        self._good.update(versions)

    def replaced(self, version: Version) -> None:
        """Called when a worker reloads a version: its new content is unproven."""
        self._good.discard(version)

    def ended(self, version: Version, status: int) -> bool:
        """Record that a worker died while loading a version. Returns whether that version is refused from now on."""
        if version in self._good or version in self.reasons:
            return False
        self._ended[version] = self._ended.get(version, 0) + 1
        if self._ended[version] < FATAL_LOADS:
            return False
        self.reasons[version] = (
            f"The process that loads it {how(status)}, {FATAL_LOADS} times. Publish a version that can be loaded."
        )
        return True
