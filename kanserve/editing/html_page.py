"""A snapshot as HTML for a notebook: formulas, losses, and a table with a small curve for each edge. A session adds
typeset formulas and the picture, which need its network."""

from typing import TYPE_CHECKING

import numpy as np

from kanserve.plot.page import Html, cut, fold, formula_list, page, picture, table, text
from kanserve.plot.scene import Scene, number, percent
from kanserve.plot.tiles import curve, state_of

if TYPE_CHECKING:
    from kanserve.editing.snapshot import EdgeView, Snapshot

MOST_EDGES = 60  # edges in the page of a notebook, those with the largest share first
WIDTH = 90  # pixels of a curve in the page
HEIGHT = 26  # pixels of a curve in the page
MOST_STEPS = 20  # steps in the page of a notebook, the last ones
ROW_BYTES = 120  # of a row of its table, beside the texts in it
TABLE_BYTES = 24_000  # of the table of edges, so that the page has less than 60,000


def html(snapshot: "Snapshot", formulas: str = "", network: str = "") -> str:
    """The page of a snapshot, with at most 60 edges, those with the largest share first."""
    written = formulas or formula_list((view.name, "", view.text or view.trouble) for view in snapshot.formulas)
    shown = sorted(snapshot.edges, key=lambda edge: -edge.share)[:MOST_EDGES]
    r2 = ", ".join(f"{value:.6g}" for value in snapshot.r2[:12])
    facts = f"held-out loss {snapshot.loss:.4g}, R² {r2}, {len(snapshot.history)} steps done, {snapshot.undone} undone"
    titles = ("edge", "share", "", "function", "a", "b", "c", "d")
    rows = [_row(edge) for edge in shown]
    sizes = np.cumsum([sum(map(len, row)) + ROW_BYTES for row in rows])
    rows = rows[: int((sizes <= TABLE_BYTES).sum())]
    rest = len(snapshot.edges) - len(rows)
    edges = table(titles, rows, numbers=(1, 4, 5, 6, 7))
    if rest:
        edges = Html(edges + text(f"and {rest} more edges", second=True))
    if network:
        edges = fold("edges", edges)
    return page(written, text(facts), network, edges, _steps(snapshot) if snapshot.history else "")


def _steps(snapshot: "Snapshot") -> Html:
    last = snapshot.history[-MOST_STEPS:]
    rows = [(cut(done.step, 60), str(done.edges), f"{done.loss:.4g}") for done in last]
    said = "steps" if len(last) == len(snapshot.history) else f"the last {len(last)} of {len(snapshot.history)} steps"
    return fold(said, table(("step", "edges", "loss"), rows, numbers=(1, 2)))


def _row(edge: "EdgeView") -> tuple[str, ...]:
    function = edge.function + (" + spline" if edge.spline and edge.function else "") or "s(x)"
    numbers = [f"{value:.5g}" for value in edge.constants] or [""] * 4
    return cut(edge.name, 40), percent(edge.share), _curve(edge), function, *numbers


def _curve(edge: "EdgeView") -> str:
    """The edge's curve; blue if it has a named function, as the next column says too."""
    y = np.array([np.nan if value is None else value for value in edge.curve])
    if not np.isfinite(y).any():
        return ""
    low, extent = np.nanmin(y), np.nanmax(y) - np.nanmin(y)
    unit = (y - low) / extent if extent else np.where(np.isnan(y), y, 0.5)
    width, height = WIDTH, HEIGHT
    scene = Scene(f"{cut(edge.name, 40)} from {number(edge.low)} to {number(edge.high)}", width, height)
    points = np.stack([np.linspace(0, 1, len(unit)), unit])
    curve(scene, points, 2, 3, width - 4, height - 6, state_of(edge.function), 1.5)
    return picture(scene)
