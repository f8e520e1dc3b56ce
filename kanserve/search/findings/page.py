"""The HTML page of findings for notebooks: the best formula, a picture of the front, and a table of all."""

from typing import TYPE_CHECKING

from kanserve.plot.mathml import mathml
from kanserve.plot.page import Html, code, cut, formula, page, picture, table, text
from kanserve.plot.progress_layout import staircase

if TYPE_CHECKING:
    from kanserve.formula import Formula
    from kanserve.search.findings.results import Findings

_TYPESET = 250  # characters of LaTeX up to which a formula of the table is typeset
_MOST = 30  # formulas of the table


def findings_page(found: "Findings") -> str:
    """Render the recommended formula, the meaning of the status, the picture and the table."""
    best = found.best.formula
    place = [candidate is found.best for candidate in found.candidates].index(True)
    first = max(0, min(place, len(found.candidates) - _MOST))
    titles = ("", "formula", "complexity", "error", "validation", "score", "exact", "where")
    rows = [
        (
            "→" if candidate is found.best else "",
            _formula(candidate.formula),
            f"{candidate.complexity:g}",
            f"{candidate.error:.3g}",
            f"{candidate.validation:.3g}",
            f"{score:.3g}",
            "yes" if candidate.exact else "no",
            cut(", ".join(candidate.formula.domain), 120),
        )
        for candidate, score in zip(found.candidates, found.scores, strict=True)
    ][first : first + _MOST]
    rest = len(found.candidates) - len(rows)
    drawn = ""
    if len(found.candidates) > 1:
        errors = [candidate.validation for candidate in found.candidates]
        drawn = picture(staircase([candidate.complexity for candidate in found.candidates], errors, place))
    return page(
        formula(best.name, best.latex, best.text),
        text(found.meaning),
        drawn,
        table(titles, rows, numbers=(2, 3, 4, 5), best=place - first),
        text(f"and {rest} more formulas", second=True) if rest else "",
    )


def _formula(scored: "Formula") -> Html:
    """The formula as MathML, or as plain text if it is long."""
    if len(scored.latex) > _TYPESET:
        return code(cut(scored.text, 300))
    return Html(mathml(scored.latex))
