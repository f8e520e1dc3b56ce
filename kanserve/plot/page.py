"""Parts of the HTML that notebooks show: a style sheet, formulas, tables and small pictures, without scripts or further
files. Colours follow the notebook's light or dark theme; without the style sheet a page is still readable. Callers give
plain text, which is escaped here."""

from collections.abc import Iterable, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from kanserve.plot.mathml import mathml
from kanserve.plot.palette import AUTO, DARK, FORCED_DARK, FORCED_LIGHT, LIGHT, Palette
from kanserve.plot.scene import Scene
from kanserve.plot.svg import svg

Array = NDArray[np.float64]

FOLDED = 300  # characters of LaTeX from which a formula is folded
TYPESET = 1200  # characters of LaTeX up to which it is typeset
SHOWN = 1500  # characters of a text
FORMULAS = 12
FORMULA_BYTES = 9_000
BARS = 24
TINTED = 20  # rows and columns of a table with tinted cells, at most

_ROLES = [role for role, colour in AUTO.roles.items() if colour]
_ON_LIGHT, _ON_DARK = (",".join(f"{theme} .kanserve" for theme in forced) for forced in (FORCED_LIGHT, FORCED_DARK))


class Html(str):
    """A text that is HTML already."""


def _variables(palette: Palette) -> str:
    return "".join(f"--{role}:{palette.of(role)};" for role in _ROLES)


def _style() -> str:
    rules = [
        f".kanserve{{{_variables(LIGHT)}}}",
        f"@media (prefers-color-scheme:dark){{.kanserve{{{_variables(DARK)}}}}}",
        f"{_ON_LIGHT}{{{_variables(LIGHT)}}}",
        f"{_ON_DARK}{{{_variables(DARK)}}}",
        ".kanserve{color:var(--ink);font:13px/1.45 Inter,system-ui,sans-serif;font-variant-numeric:tabular-nums}",
        ".kanserve svg{display:block;max-width:100%;height:auto;font-family:Inter,system-ui,sans-serif}",
        ".kanserve p{margin:.4em 0}.kanserve .second{color:var(--second)}",
        ".kanserve math{font-size:1.15em}.kanserve .formula{overflow-x:auto}",
        ".kanserve summary{cursor:pointer;color:var(--second);padding:.2em 0}",
        ".kanserve code{font:12px/1.5 'JetBrains Mono',ui-monospace,monospace;overflow-wrap:anywhere;color:var(--ink);"
        "background:none}",
        ".kanserve table{border-collapse:collapse;margin:.5em 0;font-size:12px}",
        ".kanserve th,.kanserve td{padding:3px 10px 3px 0;text-align:left;border:0;background:none;color:var(--ink);"
        "vertical-align:middle}",
        ".kanserve th{font-weight:400;color:var(--third)}",
        ".kanserve td{border-top:1px solid var(--line)}",
        ".kanserve .number{text-align:right}.kanserve .best td{font-weight:600}",
        ".kanserve .framed{outline:1.5px solid var(--snapped);outline-offset:-2px;font-weight:600}",
        *(f".kanserve .s-{role}{{stroke:var(--{role})}}.kanserve .f-{role}{{fill:var(--{role})}}" for role in _ROLES),
        ".kanserve .f-density{fill-opacity:1}",
    ]
    return f"<style>{''.join(rules)}</style>"


STYLE = _style()


def page(*parts: str) -> str:
    """A whole page of HTML parts."""
    return f'<div class="kanserve">{STYLE}{"".join(parts)}</div>'


def document(title: str, *parts: str) -> str:
    """A whole HTML file, with the background of the reader's theme."""
    ground = (
        f"<style>body{{margin:0;background:{LIGHT.paper}}}"
        f"@media (prefers-color-scheme:dark){{body{{background:{DARK.paper}}}}}"
        "body>.kanserve{max-width:820px;margin:0 auto;padding:1.5em}.kanserve h1{font-size:22px}"
        ".kanserve h2{font-size:17px;margin:2em 0 .3em}.kanserve h3{font-size:13px;margin:1.2em 0 .4em}</style>"
    )
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
    title = f"<title>{escape(title)}</title>"
    return f'<!doctype html><html lang="en"><head>{head}{title}{ground}</head><body>{page(*parts)}</body></html>\n'


def text(said: str, *, second: bool = False) -> Html:
    """A paragraph for each line."""
    kind = ' class="second"' if second else ""
    return Html("".join(f"<p{kind}>{escape(line)}</p>" for line in said.splitlines()))


def fold(summary: str, inside: str) -> Html:
    """A section that a click opens."""
    return Html(f"<details><summary>{escape(summary)}</summary>{inside}</details>")


def code(said: str) -> Html:
    """Text in a code font, shortened if it is long."""
    shown = said if len(said) <= SHOWN else said[:SHOWN] + "…"
    return Html(f"<code>{escape(shown)}</code>")


def formula(name: str, latex: str, said: str) -> Html:
    """A formula, typeset if it is short; else as text, which wraps, with the typeset form folded."""
    typeset = latex and len(latex) <= TYPESET
    written = Html(f'<p class="formula">{mathml(latex, name)}</p>') if typeset else code(f"{name} = {said}")
    if len(latex or said) <= FOLDED:
        return written
    return Html(code(f"{name} = {said}") + (fold("typeset", written) if typeset else ""))


def formula_list(found: Iterable[tuple[str, str, str]]) -> Html:
    """Formulas from (name, LaTeX, text); only the first ones if there are many."""
    every = list(found)
    shown = ""
    for name, latex, said in every[:FORMULAS]:
        written = formula(name, latex, said)
        if len(shown) + len(written) > FORMULA_BYTES:
            written = code(f"{name} = {cut(said, FOLDED)}")
        shown += written
    rest = len(every) - FORMULAS
    return Html(shown + (text(f"and {rest} more formulas", second=True) if rest > 0 else ""))


def table(
    titles: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[int] = (), best: int | None = None
) -> Html:
    """A table. Cells of class `Html` are HTML, columns in `numbers` are right-aligned, and row `best` is marked."""

    def cell(tag: str, column: int, value: str) -> str:
        kind = ' class="number"' if column in numbers else ""
        return f"<{tag}{kind}>{value if isinstance(value, Html) else escape(value)}</{tag}>"

    lines = ["<tr>" + "".join(cell("th", n, title) for n, title in enumerate(titles)) + "</tr>"] if any(titles) else []
    for number, row in enumerate(rows):
        kind = ' class="best"' if number == best else ""
        lines.append(f"<tr{kind}>" + "".join(cell("td", n, value) for n, value in enumerate(row)) + "</tr>")
    return Html(f"<table>{''.join(lines)}</table>")


def tint_table(values: Array, rows: Sequence[str], columns: Sequence[str], framed: NDArray[np.bool_]) -> Html:
    """A table with cells tinted by values from 0 to 1, empty for NaN; of many rows and columns only the first."""
    red, green, blue = (int(AUTO.snapped[at : at + 2], 16) for at in (1, 3, 5))
    lines = ["<tr><th></th>" + "".join(f"<th>{escape(cut(name, 24))}</th>" for name in columns[:TINTED]) + "</tr>"]
    for name, given, kept in zip(rows[:TINTED], values, framed, strict=False):
        cells = []
        for value, frame in zip(given[:TINTED].tolist(), kept[:TINTED].tolist(), strict=True):
            if value != value:
                cells.append("<td></td>")
                continue
            tint = 0.35 * max(min(value, 1.0), 0.0) ** 0.5
            kind = ' class="framed"' if frame else ""
            cells.append(f'<td{kind} style="background:rgba({red},{green},{blue},{tint:.2f})">{value:.3f}</td>')
        lines.append(f"<tr><th>{escape(cut(name, 24))}</th>{''.join(cells)}</tr>")
    rest = f"and {len(rows) - TINTED} more rows" if len(rows) > TINTED else ""
    return Html(f"<table>{''.join(lines)}</table>{text(rest, second=True) if rest else ''}")


def picture(scene: Scene) -> Html:
    return Html(svg(scene))


def histogram(values: Array, name: str, width: float = 90.0) -> Html:
    """The distribution of finite values, as a small picture."""
    height = 22.0
    scene = Scene(f"distribution of {cut(name, 60)}", width, height)
    counts, _ = np.histogram(values, BARS)
    at = np.linspace(1, width - 1, BARS + 1)
    up = height - 2 - (height - 4) * counts / max(int(counts.max(initial=0)), 1)
    outline = [(at[0], height - 2.0)]
    for left, right, top in zip(at, at[1:], up, strict=False):
        outline += [(left, top), (right, top)]
    scene.area([*outline, (at[-1], height - 2.0)], "density")
    scene.line([(1, height - 1.5), (width - 1, height - 1.5)], "third", 1.0)
    return picture(scene)


def cut(said: str, longest: int) -> str:
    """Shorten text to at most `longest` characters."""
    return said if len(said) <= longest else said[: longest - 1] + "…"
