"""Progress of long calls: they call `progress(event)`, and every event has a stage and a loss."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from kanserve.displays import display

Callback = TypeVar("Callback", bound=Callable[[Any], None])


@dataclass(frozen=True)
class Event:
    """What a long call has just done, and how good the result is.

    `fit`, `refine`, `simplify` and its steps, `find_formulas` and `kanserve.pde` call `progress(event)`; their events
    are of this class or add to it. `str(event)` is one line, so `progress=print` shows the progress.

    Parameters
    ----------
    stage : str
        What was done, such as "grid 5" or "removed x3 -> h2".
    loss : float
        The loss after it, in the units of the call; NaN if unknown.

    Examples
    --------
    >>> print(Event("grid 5", 0.00123))
    grid 5: loss 0.00123
    """

    stage: str
    loss: float

    def __str__(self) -> str:
        return f"{self.stage}: loss {self.loss:.3g}"


Report = Callable[[Event], None]


@contextmanager
def reporting(progress: "bool | Callback") -> "Iterator[Callback | None]":
    """What a call with this `progress` reports its events to: for True, to a picture in a notebook or lines of text."""
    if not isinstance(progress, bool):
        yield progress
    elif progress:
        with display("live_report")() as live:
            yield live
    else:
        yield None
