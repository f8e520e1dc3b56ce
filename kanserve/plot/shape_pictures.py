"""Panels of the effect of one input, or of two together, on an output, all with one scale so that sizes compare."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kanserve.plot.scene import Area, Grid, Scene, number, percent, short
from kanserve.plot.tiles import curve

Array = NDArray[np.float64]

COLUMNS = 3
GAP = 22.0
HEAD, FOOT = 20.0, 30.0  # of a panel: its name; the density and the ends of its axis
TALL = 130.0  # of a panel of numbers, between these
LINE = 16.0  # of a category
SCALE = 42.0  # the width of the numbers of a panel's scale
SPREAD, MEMBERS = 0.18, 0.4  # opacities of bands: of eight in ten rows, and of the networks whose mean it is


@dataclass(frozen=True, eq=False)
class Shape:
    """The effect (P,) of an input on one output at values (P,), averaged over the rows (codes if it has `categories`).
    `spread` (2, P): its 10 % and 90 % quantiles over rows. `seen` (3, B): places on the axis, mean targets there as
    effects, and standard errors. `density`: of the rows, at most 1. `members` (2, P): the smallest and largest effect
    among averaged networks, or None."""

    name: str
    share: float
    values: Array
    effect: Array
    spread: Array
    seen: Array
    density: Array
    categories: tuple[str, ...] = ()
    members: Array | None = None

    @property
    def height(self) -> float:
        return HEAD + (LINE * len(self.categories) + 8 if self.categories else TALL + FOOT)


@dataclass(frozen=True, eq=False)
class Pair:
    """The joint effects (H, W) of two inputs, less their separate ones, on a grid over `names`; both axes ascend."""

    names: tuple[str, str]
    share: float
    effects: Array
    ends: tuple[tuple[str, str], tuple[str, str]]


def common_scale(shapes: Sequence[Shape]) -> tuple[float, float]:
    """The smallest and the largest effect of all panels, and of the answers known better than to this difference."""
    parts = [part for shape in shapes for part in (shape.effect, shape.spread, shape.members) if part is not None]
    values = np.concatenate([[0.0], *(part.ravel() for part in parts)])
    values = values[np.isfinite(values)]
    answers = np.concatenate([shape.seen for shape in shapes], axis=1)
    values = np.concatenate([values, answers[1, 2 * answers[2] < np.ptp(values)]])
    low, high = float(values.min()), float(values.max())
    margin = 0.06 * (high - low) or 1.0
    return low - margin, high + margin


def _told(shape: Shape, scale: tuple[float, float]) -> list[list[float]]:
    """The answers to draw: place, mean and standard error. A bar longer than the scale says nothing."""
    low, high = scale
    _, means, errors = shape.seen
    told: list[list[float]] = shape.seen[:, (low <= means) & (means <= high) & (2 * errors < high - low)].T.tolist()
    return told


def shape_panels(shapes: Sequence[Shape], width: float) -> Scene:
    """A panel for each input, in order from the top."""
    scale = common_scale(shapes)
    scene = Scene(f"Effects of {len(shapes)} inputs", width)
    wide = (width - GAP * (COLUMNS - 1)) / COLUMNS
    y = 4.0
    for start in range(0, len(shapes), COLUMNS):
        line = shapes[start : start + COLUMNS]
        for column, shape in enumerate(line):
            x = column * (wide + GAP)
            scene.label(x, y + 8, short(shape.name, wide - 40, 12), size=12.0, bold=True)
            scene.label(x + wide, y + 8, percent(shape.share), size=11.0, role="third", anchor="end")
            draw = _categories if shape.categories else _numbers
            draw(scene, shape, x, y + HEAD, wide, scale)
        y += max(shape.height for shape in line) + GAP
    scene.height = y - GAP + 8
    return scene


def _numbers(scene: Scene, shape: Shape, x: float, y: float, wide: float, scale: tuple[float, float]) -> None:
    low, high = scale
    left, across = x + SCALE, wide - SCALE

    def up(values: Array) -> Array:
        return y + TALL * (1 - np.clip((values - low) / (high - low), 0, 1))

    at = left + across * np.linspace(0, 1, len(shape.values))
    for value, line in ((low, "line"), (0.0, "third"), (high, "line")):
        height = float(up(np.array(value)))
        scene.line([(left, height), (left + across, height)], line, 0.8)  # type: ignore[arg-type]  # a role
        if not (value == 0.0 and min(height - y, y + TALL - height) < 10):
            scene.label(left - 5, height, number(value) if value else "0", size=10.0, role="third", anchor="end")
    bins = len(shape.density)
    bars = y + TALL + 14 - 12 * shape.density
    middles = left + across * (np.arange(bins) + 0.5) / bins
    outline = [
        (left, y + TALL + 14),
        *zip(middles.tolist(), bars.tolist(), strict=True),
        (left + across, y + TALL + 14),
    ]
    scene.area(outline, "density")
    for ends, opacity in ((shape.spread, SPREAD), (shape.members, MEMBERS)):
        if ends is None:
            continue
        below, above = np.where(np.isfinite(ends), ends, shape.effect)
        band = np.concatenate([np.stack([at, up(below)], 1), np.stack([at, up(above)], 1)[::-1]])
        if np.isfinite(band).all() and (above - below).max() > 1e-9 * (high - low):
            scene.areas.append(Area(band, "snapped", opacity))
    curve(scene, np.stack([np.linspace(0, 1, len(at)), (shape.effect - low) / (high - low)]), left, y, across, TALL,
          "snapped", 2.0)  # fmt: skip
    first, last = float(shape.values[0]), float(shape.values[-1])
    for place, mean, error in _told(shape, scale):
        spot = left + across * (place - first) / ((last - first) or 1.0)
        ends = up(np.array([mean - error, mean + error])).tolist()
        scene.line([(spot, ends[0]), (spot, ends[1])], "ink", 1.0)
        middle = float(up(np.array(mean)))
        scene.line([(spot - 2, middle), (spot + 2, middle)], "ink", 1.2)
    scene.label(left, y + TALL + 23, _axis_end(first), size=10.0, role="third")
    scene.label(left + across, y + TALL + 23, _axis_end(last), size=10.0, role="third", anchor="end")


def _axis_end(value: float) -> str:
    return f"{value:.0f}" if 1e4 <= abs(value) < 1e7 else f"{value:.4g}"


def _categories(scene: Scene, shape: Shape, x: float, y: float, wide: float, scale: tuple[float, float]) -> None:
    low, high = scale
    names = 0.42 * wide
    left, across = x + names + 6, wide - names - 6

    def along(value: float) -> float:
        return left + across * float(np.clip((value - low) / (high - low), 0, 1))

    bottom = y + LINE * len(shape.categories)
    scene.line([(along(0.0), y - 2), (along(0.0), bottom + 2)], "third", 0.8)
    for line, name in enumerate(shape.categories):
        middle = y + LINE * (line + 0.5)
        scene.label(x + names, middle, short(name, names, 11), size=11.0, anchor="end")
        share = float(shape.density[line])
        scene.box(left, middle + 5, across * share, 1.5, "density")
        value = float(shape.effect[line])
        if np.isfinite(value):
            start, stop = sorted((along(0.0), along(value)))
            scene.box(start, middle - 4, max(stop - start, 1.0), 8, "snapped", 0.85)
        if shape.members is not None and np.isfinite(shape.members[:, line]).all():
            start, stop = map(along, shape.members[:, line].tolist())
            scene.box(start, middle - 6, max(stop - start, 1.0), 12, "snapped", MEMBERS)
    for place, mean, error in _told(shape, scale):
        middle = y + LINE * (place + 0.5)
        scene.line([(along(mean - error), middle), (along(mean + error), middle)], "ink", 1.2)


def pair_maps(pairs: Sequence[Pair], width: float) -> Scene:
    """A map for each pair: blue where both together raise the output, orange where they lower it."""
    wide = (width - GAP * (COLUMNS - 1)) / COLUMNS
    side = wide - SCALE
    scene = Scene(f"Joint effects of {len(pairs)} pairs of inputs", width)
    most = max((float(np.nanmax(np.abs(pair.effects))) for pair in pairs), default=1.0) or 1.0
    y = 4.0
    for start in range(0, len(pairs), COLUMNS):
        for column, pair in enumerate(pairs[start : start + COLUMNS]):
            x = column * (wide + GAP)
            scene.label(x, y + 8, short(f"{pair.names[1]} by {pair.names[0]}", wide - 70, 12), size=12.0, bold=True)
            scene.label(x + wide, y + 8, percent(pair.share), size=11.0, role="third", anchor="end")
            shown = np.nan_to_num(pair.effects[::-1] / most)
            box = (x + SCALE, y + HEAD, side, 0.7 * side)
            scene.grids.append(Grid(*box, np.maximum(shown, 0), "snapped"))
            scene.grids.append(Grid(*box, np.maximum(-shown, 0), "candidate"))
            scene.box(*box, "", 1.0, "line")
            bottom = y + HEAD + 0.7 * side
            (left, right), (low, high) = pair.ends
            scene.label(x + SCALE, bottom + 9, short(left, side / 2, 10), size=10.0, role="third")
            scene.label(x + wide, bottom + 9, short(right, side / 2, 10), size=10.0, role="third", anchor="end")
            scene.label(x + SCALE - 4, bottom - 5, short(low, SCALE, 10), size=10.0, role="third", anchor="end")
            scene.label(x + SCALE - 4, y + HEAD + 5, short(high, SCALE, 10), size=10.0, role="third", anchor="end")
        y += HEAD + 0.7 * side + 16 + GAP
    scene.height = y - GAP + 4
    return scene


def answers_beside_predictions(guess: Array, answers: Array, title: str, bins: int) -> Scene:
    """The mean targets of rows against their predictions, with standard errors, and the line where both are equal."""
    wide, tall, left, top = 420.0, 240.0, 60.0, 24.0
    scene = Scene(f"{title} by prediction", left + wide + 10, top + tall + 34)
    order = np.argsort(guess, kind="stable")
    found = [(guess[part].mean(), answers[part].mean(), answers[part].std() / np.sqrt(len(part)))
             for part in np.array_split(order, min(bins, len(order)))]  # fmt: skip
    places, means, errors = np.array(found).T
    low = float(min(places.min(), (means - errors).min()))
    high = float(max(places.max(), (means + errors).max()))
    extent = high - low or 1.0

    def spot(across: float, up: float) -> tuple[float, float]:
        return left + wide * (across - low) / extent, top + tall * (1 - (up - low) / extent)

    scene.box(left, top, wide, tall, "", 1.0, "line")
    scene.line([spot(low, low), spot(high, high)], "third", 1.0, dash="dashed")
    for place, mean, error in found:
        x, y = spot(place, mean)
        scene.line([spot(place, mean - error), spot(place, mean + error)], "snapped", 1.6)
        scene.line([(x - 4, y), (x + 4, y)], "snapped", 1.6)
    scene.label(left, 10, short(title, wide, 12), size=12.0, bold=True)
    for value in (low, high):
        x, y = spot(value, value)
        scene.label(left - 6, y, number(value), size=10.0, role="third", anchor="end")
        scene.label(x, top + tall + 11, number(value), size=10.0, role="third", anchor="start" if x == left else "end")
    scene.label(left + wide / 2, top + tall + 26, "predicted", size=11.0, role="second", anchor="middle")
    return scene
