"""A snapshot as HTML for a notebook: a table with a small curve for each edge, without scripts or external files."""

from html import escape
from typing import TYPE_CHECKING

from kanserve.editing.editing_limits import EDITING

if TYPE_CHECKING:
    from kanserve.editing.snapshot import EdgeView, Snapshot

BLUE, INK = "#1f5fbf", "#20242c"


def html(one: "Snapshot") -> str:
    """The formulas, the losses and at most 60 edges, those with the largest share first."""
    shown = sorted(one.edges, key=lambda edge: -edge.share)[: EDITING.html_page_most_edges]
    rest = len(one.edges) - len(shown)
    written = "".join(
        f"<p><code>{escape(formula.name)} = {escape(formula.text or formula.trouble)}</code></p>"
        for formula in one.formulas
    )
    r2 = ", ".join(f"{value:.6g}" for value in one.r2)
    facts = f"<p>held-out loss {one.loss:.4g}, R² {r2}, {len(one.history)} steps done, {one.undone} undone</p>"
    head = "<tr><th>edge</th><th>share</th><th></th><th>function</th><th>a</th><th>b</th><th>c</th><th>d</th></tr>"
    more = f"<p>and {rest} more edges</p>" if rest else ""
    return f"{written}{facts}<table>{head}{''.join(map(_row, shown))}</table>{more}"


def _row(edge: "EdgeView") -> str:
    function = edge.function + (" + spline" if edge.spline and edge.function else "") or "spline"
    numbers = edge.constants or ("",) * 4
    cells = [escape(edge.name), f"{edge.share:.1%}", _curve(edge), escape(function)]
    cells += [f"{value:.5g}" if isinstance(value, float) else "" for value in numbers]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _curve(edge: "EdgeView") -> str:
    """The edge's curve; blue if it has a named function, as the next column says too."""
    finite = [value for value in edge.curve if value is not None]
    if not finite:
        return ""
    width, height = EDITING.html_page_width, EDITING.html_page_height
    low, extent = min(finite), max(finite) - min(finite)
    across = width / (len(edge.curve) - 1)
    places = [
        f"{n * across:.1f},{2 + (height - 4) * (1 - ((value - low) / extent if extent else 0.5)):.1f}"
        for n, value in enumerate(edge.curve)
        if value is not None
    ]
    colour = BLUE if edge.function else INK
    line = f'<polyline points="{" ".join(places)}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
    return f'<svg width="{width}" height="{height}" role="img" aria-label="{escape(edge.name)}">{line}</svg>'
