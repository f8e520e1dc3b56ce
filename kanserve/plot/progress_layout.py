"""The progress of a long call as a small page: the curve of its loss, or a search's formulas as they improve."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.plot.page import Html, code, cut, page, picture, text
from kanserve.plot.palette import Role
from kanserve.plot.scene import Circle, Scene, number

WIDTH, HEIGHT = 340.0, 150.0
LEFT, BOTTOM = 46.0, 34.0


def staircase(complexity: Sequence[float], errors: Sequence[float], best: int) -> Scene:
    """The errors of formulas by complexity, on a logarithmic scale; the recommended point is filled."""
    scene = Scene(f"Errors of {len(errors)} formulas by their complexity", WIDTH, HEIGHT)
    given = np.asarray(errors, np.float64)
    least = float(given[given > 0].min(initial=1.0))
    logs = np.log10(np.maximum(given, least * 0.5))
    low, high = float(logs.min()), max(float(logs.max()), float(logs.min()) + 0.1)
    last = 1.1 * max(complexity) + 1

    def place(x: float, log: float) -> tuple[float, float]:
        across, up = x / last, (log - low) / (high - low)
        return LEFT + across * (WIDTH - LEFT - 10), HEIGHT - BOTTOM - 4 - up * (HEIGHT - BOTTOM - 18)

    corners = [place(complexity[0], float(logs[0]))]
    for x, log in zip([*complexity[1:], last], [*logs[1:].tolist(), float(logs[-1])], strict=True):
        corners += [(place(x, 0.0)[0], corners[-1][1]), place(x, log)]
    floor = HEIGHT - BOTTOM + 4
    scene.line([(LEFT, 6), (LEFT, floor), (WIDTH - 8, floor)], "line")
    scene.line(corners, "snapped", 1.6)
    for n, (x, log) in enumerate(zip(complexity, logs.tolist(), strict=True)):
        scene.circles.append(
            Circle(*place(x, log), 4.0 if n == best else 3.0, "snapped" if n == best else "", "snapped")
        )
    for log in (low, high):
        scene.label(LEFT - 5, place(0, log)[1], number(10**log), size=11.0, role="third", anchor="end")
    for x in sorted({min(complexity), max(complexity)}):
        scene.label(place(x, low)[0], floor + 9, number(x), size=11.0, role="third", anchor="middle")
    scene.label((LEFT + WIDTH) / 2, HEIGHT - 7, "complexity", size=11.0, role="second", anchor="middle")
    scene.label(WIDTH - 8, 9, "validation error", size=11.0, role="second", anchor="end")
    return scene


Array = NDArray[np.float64]

WIDTH, HEIGHT = 420.0, 150.0
LEFT, RIGHT, TOP, BOTTOM = 56.0, 78.0, 10.0, 30.0
LINE = 13.0
POINTS = 400
"""Of a curve; with more, every second one is dropped."""
STAGES = 4
"""The last ones, which are named."""
SHOWN = 200
"""Characters of a formula."""


@dataclass
class Trace:
    """What a call has reported: times in seconds, losses, errors on held-out rows; for a search, its Pareto front."""

    every: int = 1
    count: int = 0
    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    stages: list[str] = field(default_factory=list)
    front: list[tuple[float, float, str]] = field(default_factory=list)
    """Complexity, error and text of formulas, each more complex and more exact than the one before."""
    tried: int = 0
    """Formulas of a search."""
    last: Any = None

    def add(self, event: Any, seconds: float) -> None:
        """Add an event, which needs a stage and a loss."""
        self.last = event
        if not self.stages or self.stages[-1] != event.stage:
            self.stages = [*self.stages[1 - STAGES :], event.stage]
        complexity = getattr(event, "complexity", math.nan)
        if math.isfinite(complexity) and math.isfinite(event.loss):
            self.front = _better([*self.front, (complexity, event.loss, event.text)])
            self.tried = event.tried
        self.count += 1
        if self.count % self.every == 0:
            self.seconds.append(seconds)
            self.losses.append(event.loss)
            self.errors.append(getattr(event, "error", math.nan) if hasattr(event, "share") else math.nan)
        if len(self.seconds) > POINTS:
            self.every *= 2
            self.seconds, self.losses, self.errors = self.seconds[::2], self.losses[::2], self.errors[::2]


def _better(found: list[tuple[float, float, str]]) -> list[tuple[float, float, str]]:
    """The Pareto front of formulas, as (size, error, text)."""
    front: list[tuple[float, float, str]] = []
    for formula in sorted(found):
        if not front or formula[1] < front[-1][1]:
            front.append(formula)
    return front


def progress_page(trace: Trace) -> str:
    """The progress page; "" before the first event."""
    last = trace.last
    if last is None:
        return ""
    if trace.front:
        complexity, errors, texts = zip(*trace.front, strict=True)
        said = f"{trace.seconds[-1]:.0f} s, {trace.tried:,} formulas, least error {errors[-1]:.3g}"
        drawn = picture(staircase(complexity, errors, len(errors) - 1))
        return page(text(said), drawn, code(cut(texts[-1], SHOWN)))
    drawn = picture(curves(trace)) if len(trace.seconds) > 1 else Html("")
    return page(_bar(last) if hasattr(last, "share") else text(str(last)), drawn, text(_path(trace), second=True))


def _path(trace: Trace) -> str:
    return " → ".join(("…" if trace.count > STAGES else "", *(cut(stage, 60) for stage in trace.stages))[-STAGES:])


def _bar(event: Any) -> Html:
    """The finished share, as a bar and in words."""
    share = min(max(float(event.share), 0.0), 1.0)
    left = event.seconds_left
    words = [f"{share:.0%}"] + ([f"{left:.0f} s left"] if math.isfinite(left) and share < 1 else [])
    words += [f"loss {event.loss:.3g}"] if math.isfinite(event.loss) else []
    words += [f"validation {event.error:.3g}"] if math.isfinite(event.error) else []
    scene = Scene(words[0], WIDTH, 8)
    scene.box(0, 1, WIDTH, 6, "density", radius=3)
    scene.box(0, 1, max(share * WIDTH, 1.0), 6, "snapped", radius=3)
    return Html(picture(scene) + text(", ".join(words)))


def curves(trace: Trace) -> Scene:
    """The loss over time, and the error on held-out rows if known; on logarithmic scales if positive."""
    scene = Scene(f"The loss of {trace.count} steps, now {number(trace.losses[-1])}", WIDTH, HEIGHT)
    x = np.array(trace.seconds)
    lines: list[tuple[str, Role, Array]] = [
        ("loss", "third", np.array(trace.losses)),
        ("validation", "spline", np.array(trace.errors)),
    ]
    known = np.concatenate([y[np.isfinite(y)] for *_, y in lines])
    if not len(known):
        return scene
    logarithmic = bool((known > 0).all()) and known.max() > 3 * known.min()
    low, high = (float(_scale(end, logarithmic)) for end in (known.min(), known.max()))
    extent = (high - low) or 1.0
    wide, tall = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    across = LEFT + (x - x[0]) / (float(x[-1] - x[0]) or 1.0) * wide
    floor = HEIGHT - BOTTOM + 4
    scene.line([(LEFT, TOP - 4), (LEFT, floor), (WIDTH - RIGHT, floor)], "line")
    ends: list[tuple[float, str]] = []
    for name, role, y in lines:
        fine = np.isfinite(y)
        if not fine.any():
            continue
        up = TOP + (high - _scale(y[fine], logarithmic)) / extent * tall
        scene.line(np.stack([across[fine], up], axis=1), role, 1.6)
        ends.append((float(up[-1]), name))
    below = -math.inf
    for at, name in sorted(ends):
        below = max(at, below + LINE)  # one below the other
        scene.label(WIDTH - RIGHT + 6, below, name, size=11.0, role="second")
    for value in dict.fromkeys((float(known.min()), float(known.max()))):
        height = TOP + (high - float(_scale(value, logarithmic))) / extent * tall
        scene.label(LEFT - 5, height, number(value), size=11.0, role="third", anchor="end")
    scene.label(LEFT, floor + 10, "0", size=11.0, role="third", anchor="middle")
    scene.label(WIDTH - RIGHT, floor + 10, f"{x[-1] - x[0]:.3g} s", size=11.0, role="third", anchor="middle")
    return scene


def _scale(value: Any, logarithmic: bool) -> Any:
    return np.log10(value) if logarithmic else value
