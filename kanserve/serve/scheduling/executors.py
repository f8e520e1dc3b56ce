"""Executors for calls that grpc does not run on the server's thread pool."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def on_threads_of_its_own(stream: Callable[P, T], threads: int | ThreadPoolExecutor) -> Callable[P, T]:
    """A handler that grpc runs on separate `threads`, not on the server's thread pool.

    A stream holds its thread while its client is silent: a few idle streams would block everybody else.
    """
    pool = ThreadPoolExecutor(threads) if isinstance(threads, int) else threads
    marked = partial(stream)
    marked.experimental_thread_pool = pool  # type: ignore[attr-defined]  # grpc looks for it
    return marked


class InlineExecutor(ThreadPoolExecutor):
    """Runs calls at once on grpc's own thread: for calls that do not block and cost less than a thread switch. It never
    starts a thread; it is a ThreadPoolExecutor only because grpc ignores anything else."""

    # Of a future, grpc only uses `add_done_callback`.
    def submit(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "_Done":  # type: ignore[override]
        call(*args, **kwargs)
        return _DONE


class _Done:
    """The future of a call that is done."""

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        callback(self)


_DONE = _Done()
