"""The contributions of inputs to one prediction, as bars from its base value to the prediction."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kanserve.plot.palette import Role
from kanserve.plot.scene import Scene, number, short

WIDTH = 560.0
LINE = 22.0  # of a bar, with the room between two
VALUE = 112.0  # room beside a bar for its number and its error, 15 characters


@dataclass(frozen=True)
class Bar:
    """A contribution: its label, value and standard error."""

    label: str
    value: float
    error: float = 0.0

    @property
    def text(self) -> str:
        """The value with its sign, and its error if it has one."""
        sign = "+" if self.value > 0 else ""
        return f"{sign}{number(self.value)}" + (f" ± {self.error:.1g}" if self.error else "")


def contribution_bars(name: str, base: float, bars: Sequence[Bar], width: float | None = None) -> Scene:
    """Bars below each other, each starting where the one above ends; the last ends at the prediction."""
    wide = width or WIDTH
    ends = base + np.concatenate([[0.0], np.cumsum([bar.value for bar in bars])])
    scene = Scene(f"{short(name, 300)}: contributions of {len(bars)} inputs", wide, (len(bars) + 2) * LINE + 8)
    names = 0.4 * wide
    left, across = names + VALUE, wide - names - 2 * VALUE
    finite = ends[np.isfinite(ends)]
    low, extent = (finite.min(), np.ptp(finite) or 1.0) if len(finite) else (0.0, 1.0)

    def at(value: float) -> float:
        return left + across * (value - low) / extent

    for line, (text, value) in enumerate((("on average", ends[0]), (name, ends[-1]))):
        y = LINE / 2 + 4 + line * (len(bars) + 1) * LINE
        scene.label(names, y, short(text, names, 12), size=12.0, role="second", anchor="end", bold=line == 1)
        scene.label(names + 8, y, number(float(value)), size=12.0, bold=line == 1)
    if len(finite) != len(ends):
        return scene
    scene.line([(at(base), LINE), (at(base), scene.height - 6)], "line", 1.0)
    for line, bar in enumerate(bars, 1):
        y = line * LINE + LINE / 2 + 4
        start, stop = at(ends[line - 1]), at(ends[line])
        role: Role = "snapped" if bar.value >= 0 else "candidate"
        scene.box(min(start, stop), y - 7, max(abs(stop - start), 1.0), 14, role, 0.85)
        scene.label(names, y, short(bar.label, names, 12), size=12.0, anchor="end")
        beside = {"anchor": "start"} if bar.value >= 0 else {"anchor": "end"}
        scene.label(stop + (5 if bar.value >= 0 else -5), y, bar.text, size=11.0, role="second", **beside)
    return scene
