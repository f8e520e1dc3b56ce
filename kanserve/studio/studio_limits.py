"""The limits of the studio, with their meaning. `STUDIO` has them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class StudioLimits:
    """Sizes and times."""

    curve_points: int = 97
    """Of each edge's curve: about 1 KB."""
    all_tiles: int = 500
    """A network with at most so many edges is sent whole."""
    most_tiles: int = 200
    """Edges of a larger one that are sent, those with the largest share; of the others there is a map of shares."""
    most_small_tiles: int = 10_000
    """A network with at most so many edges is drawn whole, as small tiles."""
    small_tile_points: int = 17
    """Of the curve of such a tile."""
    map_cells: int = 64
    """Rows and columns of such a map, each cell the largest share of its edges."""
    density_bins: int = 32
    """Of the histogram of a variable."""
    most_rows: int = 2000
    """Rows that are sent, sampled by `rows_seed`."""
    rows_seed: int = 0
    drawn_rows: int = 1000
    """Rows drawn from the training range where there are no data."""
    fewest_drawn_rows: int = 64
    drawn_values: int = 5_000_000
    """Edge values of a layer on these rows: fewer rows are drawn for a large network."""
    beyond: float = 0.15
    """How far an edge is drawn beyond its range on either side, as a share of the range."""
    coverage: float = 0.95
    """Of the interval around a prediction: this share of the held-out rows is within it."""
    most_constants: int = 40
    """In the table of constants; more are not listed."""
    nice_within: float = 0.05
    """How far a simple number may be from a constant to be offered for it, relative to the constant."""
    largest_denominator: int = 8
    """Of a fraction that is offered for a constant."""
    ruler_points: int = 60
    """Numbers of edges whose loss is measured for the prune ruler."""
    least_loss: float = 1e-20
    """A loss below it is rounding: what changes it by a factor says nothing."""
    candidates: int = 8
    """Functions that are tried for an edge."""
    most_own_functions: int = 50
    """That a user may write in one run."""
    body_bytes: int = 8 * 2**20
    """The largest body of a request."""
    step_seconds: float = 120.0
    """For a step, with its refit."""
    look_seconds: float = 60.0
    """For what a look computes: candidates, the ruler, an export."""
    publish_seconds: float = 300.0
    """For compiling, checking and writing a version."""
    search_seconds: float = 60.0
    """For a search for simpler formulas, unless the page asks for another limit."""
    longest_search_seconds: float = 3600.0
    fit_seconds: float = 24 * 3600.0
    """For the first fit of a table, which can be cancelled."""
    simplify_seconds: float = 24 * 3600.0
    """For simplifying the network, which can be cancelled."""
    grace_seconds: float = 30.0
    """Between an interrupt, after which a fit or a search gives its best so far, and the end of its process."""
    widget_height: int = 720
    """Of the studio in a cell of a notebook, in pixels."""
    widget_threads: int = 4
    """That answer the calls of such a widget."""
    text_operations: int = 200
    """Of the formulas that `kan.show()` prints outside of notebooks."""
    events_kept: int = 100
    """That a slow listener may have waiting before older ones are dropped."""


STUDIO = StudioLimits()
TOO_LARGE = f"A request has at most {STUDIO.body_bytes} bytes."
