"""Answers about a model that do not depend on rows, as bytes: each is built once, however many callers wait for it."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from threading import Lock

KEPT_BYTES = 2**24  # of one version; beyond that the answers that were asked for the longest time ago are built anew


class PreparedAnswers:
    """The answers of one version of a model, by what was asked. Thread-safe."""

    def __init__(self, most_bytes: int = KEPT_BYTES) -> None:
        self._most = most_bytes
        self._lock = Lock()  # guards what follows
        self._kept: OrderedDict[Hashable, bytes] = OrderedDict()  # the latest asked for last
        self._building: dict[Hashable, Future[bytes]] = {}

    def get(self, asked: Hashable, build: Callable[[], bytes]) -> bytes:
        """The answer, built by the first caller while others wait for it; an error of `build` goes to all of them."""
        with self._lock:
            if (answer := self._kept.get(asked)) is not None:
                self._kept.move_to_end(asked)
                return answer
            building = self._building.get(asked)
            if building is None:
                mine: Future[bytes] = Future()
                self._building[asked] = mine
        if building is not None:
            return building.result()
        try:
            answer = build()
        except BaseException as error:
            self._end(asked, None)
            mine.set_exception(error)
            raise
        self._end(asked, answer)
        mine.set_result(answer)
        return answer

    def _end(self, asked: Hashable, answer: bytes | None) -> None:
        with self._lock:
            del self._building[asked]
            if answer is not None:
                self._kept[asked] = answer
                while sum(map(len, self._kept.values())) > self._most:
                    self._kept.popitem(last=False)
