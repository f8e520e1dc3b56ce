"""Settings that a call puts in force for all that it calls."""

from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from typing import ParamSpec, TypeVar

from kanserve.errors import InputError

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


def scoped(variable: ContextVar[T]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Put the keyword argument `settings` of a function in force while the function runs, unless it is None."""
    kind = type(variable.get())

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            settings = kwargs.get("settings")
            if settings is None:
                return function(*args, **kwargs)
            if not isinstance(settings, kind):
                raise InputError(f"settings must be {kind.__name__}(...), got {type(settings).__name__}.")
            token = variable.set(settings)
            try:
                return function(*args, **kwargs)
            finally:
                variable.reset(token)

        return call

    return decorate
