"""How many threads linear algebra has, while it may have two."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pkgutil import resolve_name
from typing import Any

import pytest
from threadpoolctl import ThreadpoolController, threadpool_limits

from kanserve.train.lm.blas_threads import _controller


@contextmanager
def two_threads() -> Iterator[Callable[[], set[int]]]:
    """Allow two threads; gives a function for the numbers that the libraries of linear algebra have now."""
    _controller.cache_clear()  # another test may have loaded a library of linear algebra since
    blas = ThreadpoolController().select(user_api="blas")
    with threadpool_limits(2, user_api="blas"):
        yield lambda: {library.num_threads for library in blas.lib_controllers}


@contextmanager
def threads_at(monkeypatch: pytest.MonkeyPatch, function: str) -> Iterator[set[int]]:
    """Allow two threads; gives the numbers at the calls of a function, named by its module."""
    found: set[int] = set()
    called = resolve_name(function)
    with two_threads() as threads:

        def seen(*given: Any) -> Any:
            found.update(threads())
            return called(*given)

        monkeypatch.setattr(function, seen)
        yield found
