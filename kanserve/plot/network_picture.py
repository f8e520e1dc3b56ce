"""`plot_network`: draw a network as a graph, as tables of tiles, or as heat maps, depending on its size."""

from typing import TYPE_CHECKING, Literal, get_args

from kanserve.errors import InputError
from kanserve.network.evaluate import Rows
from kanserve.network.kan import Kan, require_kan
from kanserve.plot.flow_layout import flow
from kanserve.plot.heat_map_layout import heat_maps
from kanserve.plot.matplotlib_scene import Width, colours, draw, pixels
from kanserve.plot.matrix_layout import matrix
from kanserve.plot.network_view import NetworkView
from kanserve.plot.palette import Theme
from kanserve.plot.scene import Scene

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Kind = Literal["auto", "flow", "matrix", "heatmap"]

FLOW_EDGES, FLOW_LAYER_EDGES = 60, 24  # the most readable curves, in all and in one layer
MATRIX_EDGES = 500


def plot_network(
    kan: Kan,
    data: Rows | None = None,
    kind: Kind = "auto",
    ax: "Axes | None" = None,
    *,
    theme: Theme = "auto",
    width: Width = None,
) -> "Axes":
    """Draw a network: nodes and the curve on each edge, tables of curves, or heat maps with the largest edges.

    Width and tint show the edge's share of the signal, by its square root. A snapped edge is blue, with its function's
    name and a solid frame; a free spline is ink, with s(x) and ticks at its knots; a pruned edge is dotted. In each
    tile the grey area is the density of the samples along the axis; what is outside the training range is hatched.

    Parameters
    ----------
    kan : Kan
        The network.
    data : array_like of shape (n_samples, n_inputs), DataFrame, Dataset or pair (x, y), optional
        Samples in raw units, on which the shares are computed, of many 10,000 at even distances; by default up to 500
        of the training range.
    kind : {"auto", "flow", "matrix", "heatmap"}, default="auto"
        "flow" draws a graph, "matrix" a tile for each edge, "heatmap" the shares of each layer and the 200 largest
        edges. "auto" takes "flow" for up to 60 edges and 24 per layer, "matrix" up to 500.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure. Nothing is shown or written.
    theme : {"auto", "light", "dark"}, default="auto"
        "auto" has no ground, and colours that show on white and on dark; saved as SVG, it follows the reader's setting.
        On given Axes it takes the colours that their ground needs.
    width : {"column", "page"} or float, optional
        The width of a new figure: one or two columns of a journal, 3.5 or 7.2 inches, or inches.

    Returns
    -------
    matplotlib Axes
        `.figure.savefig("kan.svg")` saves the picture, with its text as text.

    Raises
    ------
    InputError
        Unknown kind, theme or width.
    DataError
        The samples have another number of columns, or the network is finite on none of them.
    MissingDependencyError
        matplotlib is not installed.

    Examples
    --------
    >>> import kanserve, tempfile
    >>> axes = kanserve.plot_network(kanserve.from_formula("sin(x) + y^2"), theme="light", width="column")
    >>> axes.figure.savefig(tempfile.mkdtemp() + "/kan.svg")
    """
    require_kan(kan)
    if kind not in get_args(Kind):
        raise InputError(f"kind is 'auto', 'flow', 'matrix' or 'heatmap', got {kind!r:.60}.")
    tones = colours(theme, ax)
    return draw(scene_of(NetworkView(kan, data), kind, pixels(width)), tones, ax, width)


def scene_of(view: NetworkView, kind: Kind = "auto", width: float | None = None) -> Scene:
    """The picture of a network as a scene, for a width in pixels."""
    if kind == "flow" or (kind == "auto" and flows(view.kan)):
        return flow(view, width)
    if kind == "matrix" or (kind == "auto" and view.kan.edges <= MATRIX_EDGES):
        return matrix(view, width)
    return heat_maps(view, width)


def flows(kan: Kan) -> bool:
    """Whether the network is small enough to be drawn as a readable graph (few enough edges)."""
    return kan.edges <= FLOW_EDGES and max(int(layer.alive.sum()) for layer in kan.layers) <= FLOW_LAYER_EDGES
