"""The limits of editing sessions, with their meaning.

`EDITING` has them; they are the same for all calls.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class EditingLimits:
    """Limits and tolerances, named after the module that uses them."""

    # edge_constants
    edge_constants_most_exponent: float = 30.0
    """Largest exponent of a constant that is set by hand."""

    # edge_fits
    edge_fits_equal: float = 1e-4
    """Largest error of a spline that replaces a function, relative to the edge's range of values."""
    edge_fits_rounding: float = 1e-9
    """Error of such a spline that rounding explains, relative to the largest value."""
    edge_fits_most_intervals: int = 64
    """Of a spline that replaces a function, or that a user asks for."""
    edge_fits_points: int = 8
    """Per coefficient of such a spline."""
    edge_fits_most_numbers: float = 1e7
    """Edge values of a layer on the rows that an edge is sampled from."""
    edge_fits_fewest_rows: int = 200
    """Of such a sample, whatever MOST_NUMBERS says."""

    # html_page
    html_page_most_edges: int = 60
    """Edges in the page of a notebook, those with the largest share first."""
    html_page_width: int = 90
    """Pixels of a curve in the page."""
    html_page_height: int = 26
    """Pixels of a curve in the page."""
    html_page_most_steps: int = 20
    """Steps in the page of a notebook, the last ones."""
    html_page_row_bytes: int = 120
    """Of a row of its table, beside the texts in it."""
    html_page_table_bytes: int = 24_000
    """Of the table of edges, so that the page has less than 60,000."""
    html_page_picture_bytes: int = 20_000
    """Of the picture of the network in it."""

    # session
    session_top: int = 8
    """Suggestions for an edge."""

    # session_storage
    session_storage_most_seed: int = 2**63 - 1
    """Largest seed of a stored session."""
    session_storage_most_steps: int = 1000
    """Steps of a session, undone ones included."""
    session_storage_most_bytes: int = 4_000_000
    """Bytes of a stored session."""

    # snapshot
    snapshot_curve: int = 33
    """Points of an edge's curve."""
    snapshot_operations: int = 200
    """Longer formulas are shortened."""
    snapshot_formula_edges: int = 1000
    """Of a network with more edges no formula is written, which would take minutes."""

    # step_fields
    step_fields_longest: int = 30_000
    """Characters of a string, enough for an edge name made of two variables."""
    step_fields_most_texts: int = 100_000
    """Strings in one field of a step."""

    # steps
    steps_short: int = 12
    """Iterations of the refit after a function replaces an edge."""
    steps_most_steps: int = 10_000
    """Steps of a refit."""
    steps_most_edges: int = 10_000_000
    """Edges that a network can be asked to keep."""


EDITING = EditingLimits()
