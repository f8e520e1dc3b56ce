"""What a fit tells while it runs: to a callback, and to a person when asked."""

import sys
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """Where a fit is: what was just done, and the error of the best network of that stage.

    The error is the root mean squared error on held-out rows in units of the answers' standard deviations (in [0, 1]
    from perfect to the mean); LBFGS and Adam give their loss instead.
    """

    stage: str
    error: float


Report = Callable[[Progress], None]
Tell = Callable[[str, float], None]


def teller(show: bool, report: Report | None) -> Tell:
    """A function (stage, error) that tells `report`, and with `show` a line of its own on the standard error."""
    rewrite = show and sys.stderr.isatty()

    def tell(stage: str, error: float) -> None:
        if show:
            line = f"{stage:<24} error {error:.3g}"
            sys.stderr.write(f"\r\x1b[K{line}" if rewrite else f"{line}\n")
            sys.stderr.flush()
        if report is not None:
            report(Progress(stage, float(error)))

    return tell


def finish(show: bool) -> None:
    """End the line that a teller has rewritten."""
    if show and sys.stderr.isatty():
        sys.stderr.write("\n")
