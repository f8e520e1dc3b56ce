"""What gives way on the native transport, so that others are answered: a line of the log for each kind, at times."""

import logging
import threading
from collections.abc import Callable, Mapping

SECONDS = 10.0  # between two looks, so that an attack fills no disk with lines
# By the names of the metrics, which count the same.
MEANINGS = {
    "connections_crowded_out_total": "connections that waited for their clients were closed: others needed the room",
    "connections_flooding_total": "connections were closed, since what they sent cost much and carried nothing",
    "connections_slow_total": "connections were closed, since nothing was asked, or nothing taken of what was sent",
    "calls_without_memory_total": "calls were refused, since those under way take all the memory that they may",
}

_logger = logging.getLogger(__name__)


class GivingWay:
    """Looks at the counts of `gauges` on a thread of its own, from `start` to `end`."""

    def __init__(self, gauges: Callable[[], Mapping[str, float]], seconds: float = SECONDS) -> None:
        self._gauges, self._seconds = gauges, seconds
        self._before = dict.fromkeys(MEANINGS, 0.0)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="kanserve-giving-way", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Look once more, and end; the counts are not read afterwards."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        self.look()

    def look(self) -> None:
        """Say what has given way since the last look."""
        now = self._gauges()
        for name, meaning in MEANINGS.items():
            more = now[name] - self._before[name]
            self._before[name] = now[name]
            if more > 0:
                _logger.warning("%d %s (kanserve_%s)", more, meaning, name)

    def _watch(self) -> None:
        while not self._over.wait(self._seconds):
            self.look()
