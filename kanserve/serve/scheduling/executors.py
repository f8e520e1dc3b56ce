"""What grpc runs a call on, where that is not the threads of the server."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def on_threads_of_its_own(stream: Callable[P, T], threads: int | ThreadPoolExecutor) -> Callable[P, T]:
    """A call that grpc runs on `threads` of its own, and not on those of the server.

    A stream holds its thread while its client is silent: a few idle ones would keep everybody else waiting.
    """
    pool = ThreadPoolExecutor(threads) if isinstance(threads, int) else threads
    marked = partial(stream)
    marked.experimental_thread_pool = pool  # type: ignore[attr-defined]  # grpc looks for it
    return marked


class InlineExecutor(ThreadPoolExecutor):
    """Runs what it is given at once, on grpc's own thread: for what waits for nothing and costs less than to hand it
    over. A pool by name alone, for grpc passes over anything else; it never starts a thread."""

    # grpc asks no more of a future than `add_done_callback`.
    def submit(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "_Done":  # type: ignore[override]
        call(*args, **kwargs)
        return _DONE


class _Done:
    """Of what is done."""

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        callback(self)


_DONE = _Done()
