"""`plot_edge`: the curve of one edge with its knots, its data, its training range, and functions fitted to it."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import InputError
from kanserve.network.edge_names import node_name, subnode_names
from kanserve.network.encoding import without_encoding
from kanserve.network.evaluate import Rows, activations, as_rows, edge
from kanserve.network.functions import FUNCTIONS
from kanserve.network.kan import Kan, Layer, Sum, Symbolic, require_kan
from kanserve.network.training_range import finite_rows, has_range, ranges
from kanserve.plot.matplotlib_scene import DASHES, Width, colours, inches, new_axes, plain_axes, shade, word
from kanserve.plot.network_view import limits_of, sample_size
from kanserve.plot.palette import Palette, Role, Theme
from kanserve.plot.tiles import state_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]

CURVE_POINTS = 201
BINS = 40
BEYOND = 0.12  # of the data's range, on each side
PATTERNS: tuple[Any, ...] = (
    DASHES["dashed"],
    (0, (1.5, 1.5)),
    (0, (6, 2, 1.5, 2)),
    (0, (8, 2)),
    (0, (3, 1, 1, 1, 1, 1)),
)


def plot_edge(
    kan: Kan,
    layer: int,
    j: int,
    i: int,
    data: Rows | None = None,
    ax: "Axes | None" = None,
    fits: Mapping[str, Symbolic] = MappingProxyType({}),
    *,
    theme: Theme = "auto",
    width: Width = None,
) -> "Axes":
    """Draw the curve of one edge, over the range that its input has on the data.

    Rings are the knots of a spline. The grey area is the density of the samples: where they are dense, the curve is
    known best. The curve and the functions in `fits` continue a little beyond the data, where the ground is hatched.

    Parameters
    ----------
    kan : Kan
        The network.
    layer, j, i : int
        The edge goes from input i of this layer to subnode j, all counted from 0.
    data, ax, theme, width
        As in `plot_network`.
    fits : mapping of str to Symbolic, optional
        Functions to draw dashed beside the curve, by their labels in the legend.

    Returns
    -------
    matplotlib Axes
        The axes. For an edge of the first layer, the horizontal axis is in raw units.

    Raises
    ------
    InputError
        Unknown edge, theme or width.
    DataError
        The samples have another number of columns.
    MissingDependencyError
        matplotlib is not installed.

    Examples
    --------
    >>> import kanserve
    >>> axes = kanserve.plot_edge(kanserve.from_formula("sin(x)"), 0, 0, 0)
    >>> axes.get_title(), axes.get_xlabel()
    ('sin', 'x')
    """
    require_kan(kan)
    if not 0 <= layer < len(kan.layers):
        raise InputError(f"The network has layers 0 to {len(kan.layers) - 1}, got {layer}.")
    own = kan.layers[layer]
    if not (0 <= j < own.subnodes and 0 <= i < own.inputs):
        raise InputError(f"Layer {layer} has subnodes 0 to {own.subnodes - 1} and inputs 0 to {own.inputs - 1}.")
    rows = finite_rows(kan, sample_size(kan)) if data is None else as_rows(kan, data)
    v = activations(kan, rows)[layer][:, i]
    v = v[np.isfinite(v)]
    units = (float(kan.input_shift[i]), float(kan.input_scale[i])) if layer == 0 else (0.0, 1.0)
    tones = colours(theme, ax)
    wide = inches(width) or (4.4 if not fits else 6.0)
    axes = new_axes(ax, (wide, max(0.56 * wide, 2.2) + 0.2 * len(fits)), tones)
    plain_axes(axes, tones)
    drawn = _Edge(axes, tones, own, j, i, v, units)
    drawn.curve()
    drawn.beyond(fits)
    drawn.density()
    if layer == 0 and has_range(kan)[i]:
        drawn.training_range(ranges(without_encoding(kan))[i])
    if fits:
        axes.legend(
            fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.2), frameon=False, labelcolor=tones.of("second")
        )
    name = drawn.name
    axes.set_title(name or "free spline", fontsize=10, color=tones.of(state_of(name)))
    source, target = word(node_name(kan, layer, i)), word(subnode_names(kan, layer)[j])
    unit = word(kan.inputs[i].unit) if layer == 0 else ""
    axes.set_xlabel(f"{source} ({unit})" if unit else source, parse_math=False)
    axes.set_ylabel(f"{source} → {target}", parse_math=False)
    return axes


class _Edge:
    """Draws one edge on Axes; `units` are the shift and scale from its input to the horizontal axis."""

    def __init__(
        self, axes: "Axes", palette: Palette, layer: Layer, j: int, i: int, v: Array, units: tuple[float, float]
    ) -> None:
        self.axes, self.one, self.layer, self.place, self.v = axes, palette, layer, (j, i), v
        self.shift, self.scale = units
        found = layer.edge(j, i)
        self.name = (
            found.function
            if isinstance(found, Symbolic)
            else f"{found.symbolic.function}+s(x)"
            if isinstance(found, Sum)
            else ""
        )
        self.role: Role = state_of(self.name)
        low, high = limits_of(v[:, None])[:, 0].tolist()
        self.x = np.linspace(low, high, CURVE_POINTS)
        self.y = edge(layer, j, i, self.x)
        finite = self.y[np.isfinite(self.y)]
        low, high = (float(finite.min()), float(finite.max())) if len(finite) else (-1.0, 1.0)
        margin = 0.15 * (high - low) or max(0.5 * abs(high), 1e-3)
        self.low, self.high = low - margin, high + margin

    def raw(self, u: Array) -> Array:
        """Convert values of the edge's input to the units of the axis."""
        return u * self.scale + self.shift

    def curve(self) -> None:
        colour = self.one.of(self.role)
        label = self.name or "spline"
        self.axes.plot(self.raw(self.x), self.y, color=colour, linewidth=2.2, label=label, solid_capstyle="round")
        j, i = self.place
        if self.layer.spline_mask[j, i]:
            order = self.layer.order
            knots = np.unique(self.layer.knots[i][order : len(self.layer.knots[i]) - order])
            knots = knots[(knots >= self.x[0]) & (knots <= self.x[-1])]
            self.axes.plot(
                self.raw(knots),
                edge(self.layer, j, i, knots),
                "o",
                markersize=4.5,
                markerfacecolor=self.one.paper or "none",
                markeredgecolor=colour,
                markeredgewidth=1.2,
                zorder=4,
            )

    def beyond(self, fits: Mapping[str, Symbolic]) -> None:
        """Draw the edge on hatched ground outside the data, and the fitted functions there and in the data's range."""
        j, i = self.place
        reach = BEYOND * (self.x[-1] - self.x[0])
        for u in (np.linspace(self.x[0] - reach, self.x[0], 20), np.linspace(self.x[-1], self.x[-1] + reach, 20)):
            hatch(self.axes, self.raw(u[[0, -1]]), self.one)
            y = self._near(edge(self.layer, j, i, u))
            self.axes.plot(self.raw(u), y, color=self.one.of(self.role), linewidth=1.0, alpha=0.7)
        wide = np.linspace(self.x[0] - reach, self.x[-1] + reach, 2 * CURVE_POINTS)
        for n, (label, fit) in enumerate(fits.items()):
            with np.errstate(all="ignore"):
                y = fit.c * FUNCTIONS[fit.function].numpy(fit.a * wide + fit.b) + fit.d
            # The first is the candidate; the others are told apart by their dashes.
            style: dict[str, Any] = {"color": self.one.of("candidate" if n == 0 else "third")}
            style["linestyle"] = PATTERNS[n % len(PATTERNS)]
            self.axes.plot(self.raw(wide), self._near(y), linewidth=1.6, label=label, zorder=3, **style)

    def density(self) -> None:
        """Draw the density of the samples at the bottom."""
        floor = self.low - 0.06 * (self.high - self.low)
        if len(self.v):
            counts, ends = np.histogram(self.v, BINS, (self.x[0], self.x[-1]))
            height = 0.16 * (self.high - self.low) * counts / max(int(counts.max()), 1)
            at = self.raw((ends[:-1] + ends[1:]) / 2)
            at[[0, -1]] = self.raw(ends[[0, -1]])
            self.axes.fill_between(at, floor, floor + height, color=shade(self.one, "density"), linewidth=0, zorder=0)
        self.axes.set_ylim(floor, self.high)

    def training_range(self, span: Array) -> None:
        """Draw vertical lines at the ends of the training range, if they are within the visible x-axis."""
        left, right = self.axes.get_xlim()
        inside = [float(end) for end in span if left < end < right]
        for end in inside:
            self.axes.axvline(end, color=self.one.of("outside"), linewidth=1.0, zorder=1)

    def _near(self, y: Array) -> Array:
        """Replace values far outside the axis limits by NaN, so that no line joins the two sides of a pole."""
        far = 3 * (self.high - self.low)
        with np.errstate(invalid="ignore"):
            return np.where((y > self.low - far) & (y < self.high + far), y, np.nan)


def hatch(axes: "Axes", span: Array, palette: Palette) -> None:
    """Hatch a part of the horizontal axis, where there are no samples."""
    start, stop = sorted(span.tolist())
    axes.axvspan(
        start, stop, facecolor="none", edgecolor=shade(palette, "outside", 0.55), hatch="////", linewidth=0.0, zorder=0
    )
