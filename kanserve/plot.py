"""Plots of a network: nodes and the curve on each edge, or a matrix of tiles if there are too many edges."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kanserve.errors import InputError, MissingDependencyError
from kanserve.network.edge_names import node_name, subnode_names
from kanserve.network.evaluate import activations, as_rows, edge
from kanserve.network.functions import FUNCTIONS
from kanserve.network.importance import Importance, importance
from kanserve.network.kan import Kan, Layer, Sum, Symbolic
from kanserve.network.training_range import finite_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]
Kind = Literal["auto", "flow", "matrix"]

MARKS = 60  # along the axis of an edge
FLOW_EDGES, FLOW_LAYER_EDGES = 60, 24  # the most readable curves, in all and in one layer
INK, BLUE, PALE = "#20242c", "#1f5fbf", "#dfe3ea"
COLOURS = ("#c2410c", "#0f766e", "#7e22ce", "#a16207", "#be123c")
DASHES = ("--", ":", "-.", (0, (5, 1)), (0, (1, 1)), (0, (7, 2, 1, 2, 1, 2)))
TILE, HEIGHT = 0.62, 2.6  # a tile's side and the distance of two layers of nodes, in data units


def plot_network(kan: Kan, data: ArrayLike | None = None, kind: Kind = "auto", ax: "Axes | None" = None) -> "Axes":
    """Draw a network: nodes and the curve on each edge, or a table of curves.

    Width and tint of a line show the edge's share of the signal; a named function is blue, a free spline dark.

    Parameters
    ----------
    kan : Kan
        The network.
    data : array_like of shape (n_samples, n_inputs), optional
        Samples in raw units, on which the shares are computed; by default 500 of the training range.
    kind : {"auto", "flow", "matrix"}, default="auto"
        "flow" draws a graph, "matrix" a tile for each edge; "auto" takes "flow" for up to 60 edges and 24 per layer.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure. Nothing is shown or written.

    Returns
    -------
    matplotlib Axes
        `.figure.savefig("kan.png")` saves the picture.

    Raises
    ------
    InputError
        There is no such kind.
    DataError
        The samples have another number of columns, or the network is finite on none of them.
    MissingDependencyError
        matplotlib is not installed.

    Examples
    --------
    >>> import kanserve, tempfile
    >>> axes = kanserve.plot_network(kanserve.from_formula("sin(x) + y^2"))
    >>> axes.figure.savefig(tempfile.mkdtemp() + "/kan.png")
    """
    if kind not in ("auto", "flow", "matrix"):
        raise InputError(f"kind is 'auto', 'flow' or 'matrix', got {kind!r}.")
    rows = finite_rows(kan, 500) if data is None else as_rows(kan, data)
    shares, values = importance(kan, rows), activations(kan, rows)
    readable = kan.edges <= FLOW_EDGES and max(int(layer.alive.sum()) for layer in kan.layers) <= FLOW_LAYER_EDGES
    if kind == "flow" or (kind == "auto" and readable):
        return _flow(kan, shares, values, ax)
    return _matrix(kan, shares, values, ax)


def plot_edge(
    kan: Kan,
    layer: int,
    j: int,
    i: int,
    data: ArrayLike | None = None,
    ax: "Axes | None" = None,
    fits: Mapping[str, Symbolic] = MappingProxyType({}),
) -> "Axes":
    """Draw the curve of one edge, over the range that its input has on the data.

    The marks along the axis are the samples, or quantiles if there are many: where they are dense, the curve is known
    best. The curve and the functions in `fits` continue a little beyond the data, on a grey background.

    Parameters
    ----------
    kan : Kan
        The network.
    layer, j, i : int
        The edge goes from input i of this layer to subnode j, all counted from 0.
    data, ax
        As in `plot_network`.
    fits : mapping of str to Symbolic, optional
        Functions to draw beside the curve, by their labels in the legend.

    Returns
    -------
    matplotlib Axes
        The axes. For an edge of the first layer, the horizontal axis is in raw units.

    Raises
    ------
    InputError
        There is no such edge.
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
    if not 0 <= layer < len(kan.layers):
        raise InputError(f"The network has layers 0 to {len(kan.layers) - 1}, got {layer}.")
    one = kan.layers[layer]
    if not (0 <= j < one.subnodes and 0 <= i < one.inputs):
        raise InputError(f"Layer {layer} has subnodes 0 to {one.subnodes - 1} and inputs 0 to {one.inputs - 1}.")
    rows = finite_rows(kan, 500) if data is None else as_rows(kan, data)
    v = activations(kan, rows)[layer][:, i]
    v = v[np.isfinite(v)]
    shift, scale = (float(kan.input_shift[i]), float(kan.input_scale[i])) if layer == 0 else (0.0, 1.0)
    axes = new_axes(ax, (4.2, 3.2) if not fits else (6.4, 3.4 + 0.2 * len(fits)))
    x, y = _curve(one, j, i, v)
    axes.plot(x * scale + shift, y, color=_colour(one, j, i), linewidth=2.4, label=f"{_label(one, j, i) or 'spline'}")
    low, high = _heights(y)
    marks = v if len(v) <= MARKS else np.quantile(v, np.linspace(0, 1, MARKS))
    axes.plot(marks * scale + shift, np.full(len(marks), low), "|", color=INK, alpha=0.5)
    _beyond(axes, one, j, i, x, (low, high), (shift, scale), fits)
    axes.set_ylim(low - 0.06 * (high - low), high)
    if fits:
        axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.2), frameon=False)
    axes.set_title(_label(one, j, i) or "free spline", fontsize=10)
    source, target = _plain(node_name(kan, layer, i)), _plain(subnode_names(kan, layer)[j])
    axes.set_xlabel(source)
    axes.set_ylabel(f"{source} → {target}")
    return axes


def _heights(y: Array) -> tuple[float, float]:
    """The limits of the y axis: the edge's range with a margin, since a fitted function may have a pole."""
    y = y[np.isfinite(y)]
    low, high = (float(y.min()), float(y.max())) if len(y) else (-1.0, 1.0)
    margin = 0.15 * (high - low) or max(0.5 * abs(high), 1e-3)
    return low - margin, high + margin


def _beyond(
    axes: "Axes",
    layer: Layer,
    j: int,
    i: int,
    x: Array,
    shown: tuple[float, float],
    units: tuple[float, float],
    fits: Mapping[str, Symbolic],
) -> None:
    """Draw the edge beyond the data, on grey, and the fitted functions there and in the data's range."""
    shift, scale = units
    reach = 0.12 * (x[-1] - x[0])
    for u in (np.linspace(x[0] - reach, x[0], 20), np.linspace(x[-1], x[-1] + reach, 20)):
        axes.axvspan(*sorted((u[0] * scale + shift, u[-1] * scale + shift)), color=PALE, alpha=0.6, linewidth=0)
        y = _near(edge(layer, j, i, u), shown)
        axes.plot(u * scale + shift, y, color=_colour(layer, j, i), linewidth=1, alpha=0.6)
    wide = np.linspace(x[0] - reach, x[-1] + reach, 400)
    for n, (label, fit) in enumerate(fits.items()):
        with np.errstate(all="ignore"):
            y = fit.c * FUNCTIONS[fit.function].numpy(fit.a * wide + fit.b) + fit.d
        style: dict[str, Any] = {"color": COLOURS[n % len(COLOURS)], "linestyle": DASHES[n % len(DASHES)]}
        axes.plot(wide * scale + shift, _near(y, shown), linewidth=1.5, label=label, **style)


def _near(y: Array, shown: tuple[float, float]) -> Array:
    """NaN where a curve is far outside the axis limits, so that no line joins the two sides of a pole."""
    far = 3 * (shown[1] - shown[0])
    with np.errstate(invalid="ignore"):
        return np.where((y > shown[0] - far) & (y < shown[1] + far), y, np.nan)


def new_axes(ax: "Axes | None", size: tuple[float, float]) -> "Axes":
    if ax is not None:
        return ax
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingDependencyError("matplotlib", "plot") from None
    # Not pyplot: it keeps figures globally, and they must be closed.
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure.add_subplot()


def _curve(layer: Layer, j: int, i: int, v: Array) -> tuple[Array, Array]:
    """The edge (j, i) over the range of its input values v."""
    low, high = (float(v.min()), float(v.max())) if len(v) else (-1.0, 1.0)
    x = np.linspace(low, high if high > low else low + 1, 80)
    return x, edge(layer, j, i, x)


def _unit_curve(layer: Layer, j: int, i: int, v: Array) -> tuple[Array, Array]:
    """The curve scaled to the unit square for tiles, which show its shape and not its size."""
    x, y = _curve(layer, j, i, v)
    y = np.where(np.isfinite(y), y, np.nan)
    height = float(np.nanmax(y) - np.nanmin(y)) if np.isfinite(y).any() else 0.0
    unit = (y - np.nanmin(y)) / height if height > 0 else np.full(len(y), 0.5)
    return (x - x[0]) / (x[-1] - x[0]), unit


def _colour(layer: Layer, j: int, i: int) -> str:
    return BLUE if isinstance(layer.edge(j, i), Symbolic | Sum) else INK


def _label(layer: Layer, j: int, i: int) -> str:
    match layer.edge(j, i):
        case Symbolic() as edge:
            return edge.function
        case Sum() as edge:
            return f"{edge.symbolic.function}+…"
        case _:
            return ""


def _plain(name: str, width: int = 28) -> str:
    """A name for matplotlib: on one line, with $ escaped, not too long."""
    text = " ".join("".join(c if c.isprintable() else " " for c in name).split()).replace("$", r"\$")
    return text if len(text) <= width else text[: width - 1] + "…"


def _spread(count: int, width: float) -> Array:
    """`count` positions, evenly spread and centred over a width."""
    return (np.arange(count) + 0.5) / max(count, 1) * width


def _flow(kan: Kan, shares: Importance, values: tuple[Array, ...], ax: "Axes | None") -> "Axes":
    """Draw inputs at the bottom, outputs on top, and edges from their node through a tile to their subnode."""
    kept = [np.argwhere(layer.alive) for layer in kan.layers]
    places = _places(kan, kept)
    width = places.width
    top = len(kan.layers) * HEIGHT
    names = [_plain(kan.inputs[i].name) for i in np.flatnonzero(np.isfinite(places.nodes[0]))]
    slanted = any(len(name) > 9 for name in names)
    starts = places.nodes[0][np.isfinite(places.nodes[0])]
    below = 0.6 + (0.065 * max(map(len, names)) if slanted else 0.0)
    left = max(0.3, *(0.1 * len(name) - start for name, start in zip(names, starts, strict=True))) if slanted else 0.3
    axes = new_axes(ax, (min(0.8 * (width + 0.6 + left), 22), min(0.8 * (top + 1.2 + below), 22)))
    axes.set_axis_off()
    axes.set_aspect("equal")
    for n, (layer, pairs) in enumerate(zip(kan.layers, kept, strict=True)):
        middle, ends = n * HEIGHT + HEIGHT / 2, (n + 1) * HEIGHT - places.drop(layer)
        for place, (j, i) in zip(places.tiles[n], pairs.tolist(), strict=True):
            share, end = float(shares.edges[n][j, i]), places.subnodes[n][j]
            _tile(axes, layer, j, i, values[n][:, i], (float(place), middle), share)
            style = _line(layer, j, i, share)
            axes.plot([places.nodes[n][i], place], [n * HEIGHT, middle - TILE / 2], **style)
            if np.isfinite(end):
                axes.plot([place, end], [middle + TILE / 2, ends[j]], **style)
        _products(axes, layer, places.subnodes[n], places.nodes[n + 1], (n + 1) * HEIGHT, ends)
    for n, nodes in enumerate(places.nodes):
        axes.plot(nodes, np.full(len(nodes), n * HEIGHT), "o", color=INK, markersize=6, zorder=3)
    label: dict[str, Any] = {"fontsize": 9, "color": INK}
    for name, place in zip(names, starts, strict=True):
        slant: dict[str, Any] = (
            {"rotation": 38, "ha": "right", "rotation_mode": "anchor"} if slanted else {"ha": "center"}
        )
        axes.text(place + (0.08 if slanted else 0), -0.22, name, va="top", **slant, **label)
    for q, place in enumerate(places.nodes[-1]):
        axes.text(place, top + 0.25, _plain(kan.outputs[q].name), ha="center", va="bottom", **label)
    unused = int((~np.isfinite(places.nodes[0])).sum())
    if unused:
        tail = "1 input is" if unused == 1 else f"{unused} inputs are"
        axes.text(width, -below - 0.1, f"{tail} not used", ha="right", va="top", fontsize=8, color=INK, alpha=0.6)
    axes.set_xlim(-left, width + 0.6)
    axes.set_ylim(-below - 0.4, top + 0.9)
    return axes


@dataclass(frozen=True, eq=False)
class _Places:
    """Horizontal positions of the nodes (inputs first), subnodes and tiles of each layer; NaN if not drawn."""

    width: float
    nodes: list[Array]
    subnodes: list[Array]
    tiles: list[Array]

    @staticmethod
    def drop(layer: Layer) -> Array:
        """How far below its node each subnode is drawn: more than 0 only in products."""
        return np.where(np.repeat(layer.arity, layer.arity) > 1, 0.45, 0.0)


def _places(kan: Kan, kept: list[NDArray[np.int64]]) -> _Places:
    used = [np.unique(pairs[:, 1]) for pairs in kept]
    most = max([len(pairs) for pairs in kept] + [len(layer_used) for layer_used in used] + [2])
    width = 1.4 * most  # a tile, its label and a gap
    nodes = [np.full(layer.inputs, np.nan) for layer in kan.layers]
    for n, used_here in enumerate(used):
        nodes[n][used_here] = _spread(len(used_here), width)
    nodes.append(_spread(kan.layers[-1].nodes, width))
    subnodes, tiles = [], []
    for n, (layer, pairs) in enumerate(zip(kan.layers, kept, strict=True)):
        # The subnodes of a product spread under it, as far as its neighbours leave room. Their order does not matter:
        # they are sorted by the mean position of their inputs.
        alive = layer.alive & np.isfinite(nodes[n])
        centres = (alive @ np.nan_to_num(nodes[n])) / np.maximum(alive.sum(axis=1), 1)
        ranks = np.concatenate([np.argsort(np.argsort(centres[list(group)])) for group in layer.groups])
        offsets = (ranks - (np.repeat(layer.arity, layer.arity) - 1) / 2) * 1.2
        room = width / layer.nodes / max(int(layer.arity.max()), 1)
        subnodes.append(nodes[n + 1][np.repeat(np.arange(layer.nodes), layer.arity)] + offsets * min(1.0, room))
        # Tiles are sorted by the positions of their two ends, so that few lines cross.
        order = np.lexsort((nodes[n][pairs[:, 1]], np.nan_to_num(subnodes[n][pairs[:, 0]]) + nodes[n][pairs[:, 1]]))
        place = np.empty(len(pairs))
        place[order] = _spread(len(pairs), width)
        tiles.append(place)
    return _Places(width, nodes, subnodes, tiles)


def _line(layer: Layer, j: int, i: int, share: float) -> dict[str, Any]:
    style: dict[str, Any] = {"color": _colour(layer, j, i), "solid_capstyle": "round", "zorder": 1}
    return style | {"linewidth": 0.6 + 5 * share, "alpha": 0.3 + 0.7 * share}


def _products(axes: "Axes", layer: Layer, subnodes: Array, nodes: Array, top: float, ends: Array) -> None:
    """Draw multiplication nodes: their sums below them, joined to them, and a × sign."""
    for q, group in enumerate(layer.groups):
        if len(group) == 1 or not np.isfinite(nodes[q]):
            continue
        for j in group:
            axes.plot([subnodes[j], nodes[q]], [ends[j], top], color=INK, linewidth=1, linestyle=":", zorder=1)
            axes.plot(subnodes[j], ends[j], "o", color=INK, markersize=4, zorder=3)
        axes.text(nodes[q] + 0.14, top, "×", fontsize=12, color=INK, va="center")


def _tile(axes: "Axes", layer: Layer, j: int, i: int, v: Array, centre: tuple[float, float], share: float) -> None:
    """The small picture of an edge's curve, with its function's name and its share of the signal."""
    from matplotlib.patches import Rectangle

    across, unit = _unit_curve(layer, j, i, v[np.isfinite(v)])
    left, low = centre[0] - TILE / 2, centre[1] - TILE / 2
    axes.add_patch(Rectangle((left, low), TILE, TILE, facecolor="white", edgecolor=PALE, linewidth=1, zorder=2))
    inside = 0.86 * TILE
    colour = _colour(layer, j, i)
    axes.plot(left + 0.07 * TILE + inside * across, low + 0.07 * TILE + inside * unit, color=colour, lw=1.4, zorder=3)
    label = _label(layer, j, i)
    axes.text(left + TILE + 0.04, centre[1] + 0.12, label, fontsize=7.5, color=colour, va="center", zorder=4)
    axes.text(left + TILE + 0.04, centre[1] - 0.12, f"{share:.0%}", fontsize=7, color=INK, va="center", zorder=4)


def _matrix(kan: Kan, shares: Importance, values: tuple[Array, ...], ax: "Axes | None") -> "Axes":
    """Draw a block of tiles for each layer: a row per input, sorted by share of the signal, a column per subnode."""
    from matplotlib.patches import Rectangle

    columns = sum(layer.subnodes for layer in kan.layers) + 3 * len(kan.layers)
    most = max(min(layer.inputs, 40) for layer in kan.layers)
    axes = new_axes(ax, (min(0.42 * columns + 1.2, 30), min(0.42 * most + 1.4, 24)))
    axes.set_axis_off()
    axes.set_aspect("equal")
    x0 = 0.0
    for n, layer in enumerate(kan.layers):
        strongest = np.argsort(-shares.nodes[n], kind="stable")
        shown = strongest[:40]
        x0 += 3
        peak = max(float(shares.edges[n].max()), 1e-12)
        for row, i in enumerate(shown.tolist()):
            y0 = -float(row)
            axes.text(x0 - 0.15, y0 + 0.5, _plain(node_name(kan, n, i)), ha="right", va="center", fontsize=7, color=INK)
            axes.text(x0 - 0.15, y0 + 0.18, f"{shares.nodes[n][i]:.0%}", ha="right", va="center", fontsize=5, color=INK)
            for j in range(layer.subnodes):
                if not layer.alive[j, i]:
                    axes.plot(x0 + j + 0.5, y0 + 0.5, ".", color=PALE, markersize=2)
                    continue
                tint = 0.55 * float(shares.edges[n][j, i]) / peak
                box = Rectangle((x0 + j + 0.04, y0 + 0.04), 0.92, 0.92, facecolor=(0.12, 0.37, 0.75, tint), lw=0)
                axes.add_patch(box)
                across, unit = _unit_curve(layer, j, i, values[n][np.isfinite(values[n][:, i]), i])
                colour = _colour(layer, j, int(i))
                axes.plot(x0 + j + 0.1 + 0.8 * across, y0 + 0.12 + 0.76 * unit, color=colour, linewidth=0.8)
        hidden = strongest[40:]
        if len(hidden):
            rest = f"{len(hidden)} more inputs: {shares.nodes[n][hidden].sum():.0%} of the signal"
            axes.text(x0, -40.4, rest, fontsize=7, color=INK, va="top")
        for j, name in enumerate(subnode_names(kan, n)):
            axes.text(x0 + j + 0.5, 1.15, _plain(name), rotation=90, ha="center", va="bottom", fontsize=6, color=INK)
        x0 += layer.subnodes
    axes.set_xlim(-0.2, x0 + 0.3)
    axes.set_ylim(-float(most) - 0.8, 3.2)
    return axes
