"""An executor for calls that need no thread."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec

P = ParamSpec("P")


class InlineExecutor(ThreadPoolExecutor):
    """Runs calls at once on the transport's own thread: for calls that do not block and cost less than a thread switch.
    It never starts a thread; it is a ThreadPoolExecutor only because grpc ignores anything else."""

    # Of a future, grpc only uses `add_done_callback`.
    def submit(self, call: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> "_Done":  # type: ignore[override]
        call(*args, **kwargs)
        return _DONE


class _Done:
    """The future of a call that is done."""

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        callback(self)


_DONE = _Done()
