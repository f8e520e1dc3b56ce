"""Progress of a running fit: callbacks, a progress line, and the best network so far for an interrupt."""

import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from math import isfinite, nan
from typing import TYPE_CHECKING

from kanserve.displays import display
from kanserve.network.kan import Kan

if TYPE_CHECKING:
    from kanserve.plot.live_progress import LiveProgress
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

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
    """The callback for a call's `progress` argument: True means a picture in a notebook, or lines of text."""
    if not isinstance(progress, bool):
        yield progress
    elif progress:
        with display("live_report")() as live:
            yield live
    else:
        yield None


BAR = 20  # characters
REWRITTEN_EVERY = 0.1  # seconds between lines about one stage: in a terminal, and in a log
ADDED_EVERY = 5.0  # seconds between lines about one stage where they are not rewritten


@dataclass(frozen=True)
class Progress(Event):
    """Where a fit is: the stage it has just finished, its error, and how much is left.

    A least-squares fit gives root mean squared errors in units of the answers' standard deviations (0 is perfect, 1 as
    good as the mean): `error` on the held-out rows, `loss` on the training rows. LBFGS and Adam give the loss that they
    minimise, on either. Without held-out rows both are on the training rows. Unknown values are NaN.

    Parameters
    ----------
    stage : str
        What was done, such as "grid 5".
    loss : float
        On the training rows.
    error : float
        On the held-out rows.
    share : float
        How much of the work is done, from 0 to 1: an estimate, since a fit may end early.
    seconds_left : float
        An estimate, too.

    Examples
    --------
    >>> import kanserve, numpy as np
    >>> x = np.linspace(0, 1, 100)[:, None]
    >>> seen = []
    >>> kan = kanserve.fit([1, 1], (x, np.sin(5 * x)), progress=seen.append)
    >>> type(seen[-1]).__name__, seen[-1].share
    ('Progress', 1.0)
    """

    error: float = nan
    share: float = 0.0
    seconds_left: float = nan

    def __str__(self) -> str:
        return line(self)


FitReport = Callable[[Progress], None]
Best = tuple[float, Callable[[], Kan]]


@dataclass
class Watch:
    """Reports the progress of a fit to the callback `report` and, with `show`, as a picture or a line of text."""

    show: bool = False
    report: FitReport | None = None
    began: float = field(default_factory=time.monotonic)
    recalled: float = 0.0
    """The share of the work that came from a checkpoint and took no time."""
    before: float = 0.0
    """The share of the work of the starts of LBFGS and Adam, which is done when the descent begins from 0."""
    stage: str = ""
    shown: float = 0.0
    best: "Best | None" = None
    """The best network so far and its error: the result of an interrupted fit."""
    live: "LiveProgress | None" = None

    def __post_init__(self) -> None:
        if self.show:
            self.live = display("live_in_notebook")()
            self.show = self.live is None

    def tell(self, stage: str, error: float, loss: float, share: float) -> None:
        """Call `report`, and show a line at each new stage and from time to time during a long one."""
        if not self.show and self.report is None and self.live is None:
            return
        clock = time.monotonic()
        share = self.before + (1 - self.before) * share
        done = share - self.recalled
        left = (clock - self.began) * (1 - share) / done if done > 0 else nan
        now = Progress(stage, float(loss), float(error), share, left)
        if self.show:
            rewrites = _rewrites()
            if (
                stage != self.stage
                or share == 1
                or clock - self.shown >= (REWRITTEN_EVERY if rewrites else ADDED_EVERY)
            ):
                self.stage, self.shown = stage, clock
                width = shutil.get_terminal_size().columns - 1  # a line that wraps cannot be rewritten
                sys.stderr.write(f"\r\x1b[K{line(now)[:width]}" if rewrites else f"{line(now)}\n")
                sys.stderr.flush()
        if self.live is not None:
            self.live(now)
        if self.report is not None:
            self.report(now)

    def finish(self) -> None:
        """End the progress line, or show the final picture in a notebook."""
        if self.live is not None:
            self.live.close()
        if self.stage and _rewrites():
            sys.stderr.write("\n")


def _rewrites() -> bool:
    """Whether standard error is a terminal in which a line can be rewritten."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def line(now: Progress) -> str:
    """Progress as one line of text."""
    full = round(BAR * min(max(now.share, 0.0), 1.0))
    words = [f"{now.stage:<20}", f"[{'#' * full}{'.' * (BAR - full)}]"]
    words += [f"loss {now.loss:.3g}"] if isfinite(now.loss) else []
    words += [f"validation {now.error:.3g}"] if isfinite(now.error) else []
    words += [f"{_duration(now.seconds_left)} left"] if isfinite(now.seconds_left) and now.share < 1 else []
    return "  ".join(words)


def _duration(seconds: float) -> str:
    for size, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
