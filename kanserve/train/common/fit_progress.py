"""What a fit tells while it runs, to a callback and to a person when asked, and what it can give when interrupted."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from math import isfinite, nan

from kanserve.network.kan import Kan

BAR = 20  # characters
REWRITTEN_EVERY, ADDED_EVERY = 0.1, 5.0  # seconds, of lines about one stage


@dataclass(frozen=True)
class Progress:
    """Where a fit is: what it has just done, how good that is, and how much is left.

    A least-squares fit gives root mean squared errors in units of the answers' standard deviations (in [0, 1] from
    perfect to the mean): `error` on the held-out rows, `loss` on the training rows. LBFGS and Adam give what they
    minimise, on either. Without held-out rows both are on the training rows. What is not known is NaN.
    """

    stage: str
    error: float
    loss: float = nan
    share: float = 0.0
    """How much of the work is done, from 0 to 1: an estimate, since a fit may end early."""
    seconds_left: float = nan


FitReport = Callable[[Progress], None]
Best = tuple[float, Callable[[], Kan]]


@dataclass
class Watch:
    """Tells `report` of a fit's progress, and with `show` a person, by a line of its own on the standard error."""

    show: bool = False
    report: FitReport | None = None
    began: float = field(default_factory=time.monotonic)
    recalled: float = 0.0
    """The share of the work that a checkpoint held and that therefore took no time."""
    stage: str = ""
    shown: float = 0.0
    best: "Best | None" = None
    """The best network so far, with its error: what an interrupted fit gives."""

    def tell(self, stage: str, error: float, loss: float, share: float) -> None:
        """Tell `report` always, and a person about each stage, and now and then about one that takes longer."""
        if not self.show and self.report is None:
            return
        clock = time.monotonic()
        done = share - self.recalled
        left = (clock - self.began) * (1 - share) / done if done > 0 else nan
        now = Progress(stage, float(error), float(loss), share, left)
        if self.show:
            rewrites = sys.stderr.isatty()
            if (
                stage != self.stage
                or share == 1
                or clock - self.shown >= (REWRITTEN_EVERY if rewrites else ADDED_EVERY)
            ):
                self.stage, self.shown = stage, clock
                sys.stderr.write(f"\r\x1b[K{line(now)}" if rewrites else f"{line(now)}\n")
                sys.stderr.flush()
        if self.report is not None:
            self.report(now)

    def finish(self) -> None:
        """End the line that has been rewritten."""
        if self.stage and sys.stderr.isatty():
            sys.stderr.write("\n")


def line(now: Progress) -> str:
    """Progress as one line for a person."""
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
