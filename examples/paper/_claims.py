"""A claim of the KAN papers with what was measured, and how claims are printed."""

import re
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks._timing import machine

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEAD = ("", "claim", "the papers", "pykan", "MLP", "ours", "")
PACKAGES = ("kanserve", "numpy", "scipy", "torch")
WIDTHS = (2, 42, 20, 18, 32, 34, 6)
PAGE = 110  # the width of a page's lines


@dataclass(frozen=True)
class Claim:
    """One claim, with numbers as text, "" where there are none.

    `pykan` is what its version 0.2.8 gave when it was measured for this project; it does not run here. `why` says what
    fell short of `wanted`, and is printed if the claim is missed.
    """

    wanted: str
    ours: str
    met: bool
    paper: str = ""
    pykan: str = ""
    mlp: str = ""
    why: str = ""


@dataclass(frozen=True)
class Study:
    """What a study found: its claims and, drawn only when asked, its picture."""

    claims: Sequence[Claim]
    draw: Callable[[], "Figure"]


@dataclass(frozen=True)
class Row:
    """The claims of one study, its number and title, and the CPU seconds that it took."""

    number: str
    title: str
    claims: Sequence[Claim]
    seconds: float

    @property
    def met(self) -> bool:
        return all(claim.met for claim in self.claims)


def run(number: str, title: str, study: Callable[[], Study], pictures: Path | None) -> Row:
    """Run a study; save its picture in the folder `pictures`."""
    begun = time.process_time()
    found = study()
    seconds = time.process_time() - begun
    if pictures is not None:
        import matplotlib

        matplotlib.use("agg")
        from matplotlib import pyplot as plt

        pictures.mkdir(parents=True, exist_ok=True)
        figure = found.draw()
        figure.savefig(pictures / f"{number}_{re.sub('[^a-z0-9]+', '_', title.lower())}.png", dpi=80)
        plt.close(figure)
    return Row(number, title, found.claims, seconds)


def report(rows: Sequence[Row]) -> str:
    """The table as text, then a line for each miss, then the totals."""
    body: list[tuple[str, ...]] = []
    for row in rows:
        body += [(row.number, row.title, "", "", "", f"{row.seconds:.0f} CPU s", "")]
        for claim in row.claims:
            verdict = "met" if claim.met else "MISSED"
            body += [*_wrapped(("", claim.wanted, claim.paper, claim.pykan, claim.mlp, claim.ours, verdict)), ("",) * 7]
    return "\n".join([machine(*PACKAGES), "", _columns([HEAD, *body]), *misses(rows), *totals(rows)])


def _wrapped(cells: Sequence[str]) -> list[tuple[str, ...]]:
    """The lines of one row of cells, each cell wrapped at the width of its column."""
    wrapped = [textwrap.wrap(cell, width) for cell, width in zip(cells, WIDTHS, strict=True)]
    return list(zip_longest(*wrapped, fillvalue=""))


def _columns(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join("  ".join(map(str.ljust, line, WIDTHS)).rstrip() for line in lines)


def misses(rows: Sequence[Row]) -> list[str]:
    return [
        f"{row.number} {row.title} MISSED: {claim.wanted}. {claim.why or f'Measured: {claim.ours}.'}"
        for row in rows
        for claim in row.claims
        if not claim.met
    ]


def totals(rows: Sequence[Row]) -> list[str]:
    """How many studies met all of their claims, and what all took."""
    met = sum(row.met for row in rows)
    seconds = sum(row.seconds for row in rows)
    slowest = ", ".join(f"{row.title} {row.seconds:.0f}" for row in rows)
    return [
        f"{met} of {len(rows)} studies met all their claims, in {seconds / 60:.1f} CPU minutes.",
        f"CPU s: {slowest}",
    ]


def markdown(rows: Sequence[Row], head: str) -> str:
    """The same as a page of documentation, below the text `head`."""
    lines = [head.rstrip(), "", "Measured on: " + machine(*PACKAGES).replace("\n", "; ") + ".", ""]
    lines += ["| | claim | the papers | pykan | MLP | ours | |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        lines += [f"| {row.number} | **{row.title}** | | | | {row.seconds:.0f} CPU s | |"]
        for claim in row.claims:
            verdict = "met" if claim.met else "**MISSED**"
            cells = ("", claim.wanted, claim.paper, claim.pykan, claim.mlp, claim.ours, verdict)
            lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"]
    lines += ["", totals(rows)[0], ""]
    for miss in misses(rows):
        lines += textwrap.wrap(f"- {miss}", PAGE, subsequent_indent="  ", break_long_words=False)
    return "\n".join(lines).rstrip() + "\n"


def median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def spread(values: Sequence[float]) -> str:
    """Median and worst of errors, as text."""
    return f"{median(values):.1e} ({max(values):.1e})"


def shape(widths: Sequence[object]) -> str:
    return "[" + ",".join(map(str, widths)) + "]"


def listed(names: Sequence[object] | Mapping[str, object]) -> str:
    return ", ".join(map(str, names))
