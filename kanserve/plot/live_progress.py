"""Live progress of long calls: a picture in the cell of a notebook, lines of text elsewhere."""

import math
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from kanserve.plot.progress_layout import Trace, progress_page


def shell() -> Any:
    """IPython's shell if it has a kernel, as in notebooks, else None."""
    ipython = sys.modules.get("IPython")
    found = ipython.get_ipython() if ipython is not None else None
    return found if hasattr(found, "kernel") else None


def in_notebook() -> bool:
    """Whether output can be HTML."""
    return shell() is not None


class Shown:
    """HTML for notebooks, and a text for places that cannot show it."""

    def __init__(self, html: str, text: str = "") -> None:
        self.html, self.text = html, text

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text or "a picture"


def show_html(html: str, text: str = "") -> Any:
    """Display HTML in the running cell. The result's `update(Shown(...))` replaces it."""
    return display(Shown(html, text), display_id=True)


def display(shown: Any, **options: Any) -> Any:
    """IPython's display function, which notebooks have."""
    return sys.modules["IPython"].display.display(shown, **options)


EVERY = 0.25
"""Seconds between two updates, at least."""
LINE_EVERY = 5.0
"""Seconds between two lines of text of one stage."""
COST = 0.01
"""Of the time of a call, at most this share is spent on its picture."""


class Reported(Protocol):
    """The interface of an event, such as `kanserve.train.fit_progress.Event`."""

    @property
    def stage(self) -> str: ...

    @property
    def loss(self) -> float: ...


def live_in_notebook() -> "LiveProgress | None":
    """A live display in a notebook, else None: fits and searches print their own lines."""
    return LiveProgress() if in_notebook() else None


@contextmanager
def live_report() -> "Iterator[LiveProgress]":
    """Show the progress of a call until the context ends."""
    live = LiveProgress()
    try:
        yield live
    finally:
        live.close()


class LiveProgress:
    """A `progress` that shows how far a call is: `kanserve.simplify(kan, data, progress=kanserve.LiveProgress())`.

    In a notebook it is a picture in the cell: the loss of a fit or of a simplification over time, the Pareto front of
    a search as it grows. Elsewhere it is a line on the standard error for each stage. There are at most four updates a
    second, which take at most a hundredth of the time. `progress=True` shows the same.

    Examples
    --------
    >>> import kanserve, numpy as np
    >>> x = np.random.default_rng(0).uniform(-1, 1, (100, 1))
    >>> kan = kanserve.fit([1, 1], (x, np.sin(3 * x)), starts=1, progress=kanserve.LiveProgress())
    """

    def __init__(self) -> None:
        self._trace = Trace()
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._next = -math.inf
        self._waiting: threading.Timer | None = None
        self._handle: Any = None
        self._rich = in_notebook()
        self._said = ("", -math.inf)

    def __call__(self, event: Reported) -> None:
        now = time.monotonic()
        with self._lock:
            self._trace.add(event, now - self._began)
            if now >= self._next:
                self._show()
            elif self._waiting is None:  # the last event of a call must be seen too
                self._waiting = threading.Timer(self._next - now, self._later)
                self._waiting.daemon = True
                self._waiting.start()

    def close(self) -> None:
        """Show the last event now, rather than up to a quarter of a second later.

        Examples
        --------
        >>> import kanserve
        >>> shown = kanserve.LiveProgress()
        >>> shown.close()
        """
        with self._lock:
            if self._waiting is not None:
                self._show()

    def _later(self) -> None:
        with self._lock:
            if self._waiting is threading.current_thread():
                self._show()

    def _show(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        begun = time.monotonic()
        if self._rich:
            shown = Shown(progress_page(self._trace), str(self._trace.last))
            if self._handle is None:
                self._handle = display(shown, display_id=True)
            else:
                self._handle.update(shown)
        else:
            self._say(begun)
        now = time.monotonic()
        self._next = now + max(EVERY, (now - begun) / COST)

    def _say(self, now: float) -> None:
        """Print a line for a new stage, or for a stage that takes long."""
        event = self._trace.last
        about = getattr(event, "text", event.stage)
        if about != self._said[0] or now - self._said[1] >= LINE_EVERY:
            self._said = (about, now)
            print(event, file=sys.stderr, flush=True)
