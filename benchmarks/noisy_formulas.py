"""What a stage of `find_formulas` gains: laws found again with it and without it, and what the search says of them.

    OMP_NUM_THREADS=1 python benchmarks/noisy_formulas.py --without "forms of one input" [--noise 0.01] [--seconds 10]

The form of a formula is right as in `formulas.py`. A wrong one is believed if the search calls it exact or within
noise; "listed" are laws whose right form is among the rivals of another. Times are CPU seconds; so is the limit of each
search, so that a busy machine changes no result.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import get_args
from unittest import mock

from benchmarks._equations import EXACT, Law, Setting, Table, by_tree, laws, relative_error, rows, wider
from benchmarks._timing import machine, table
from benchmarks.formulas import FRESH, same_form
from kanserve.search import find_formulas
from kanserve.search.findings import decompose
from kanserve.search.findings.scored_formula import ScoredFormula

COLUMNS = ("", "right", "listed", "wrong, believed", "not decided", "CPU s, median of right")


@dataclass(frozen=True)
class Outcome:
    """What a search says of a law: its status, whether its best formula is right, whether one of its rivals is."""

    law: str
    status: str
    right: bool
    listed: bool
    seconds: float

    @property
    def believed(self) -> bool:
        """Whether a wrong form counts as the law."""
        return not self.right and self.status in ("exact", "within noise")


def main(arguments: Sequence[str]) -> None:
    chosen = _parser().parse_args(arguments)
    setting = Setting(chosen.table, chosen.rows, chosen.noise)
    every = laws(setting, chosen.only)[:: chosen.every]
    with on_cpu_time():
        found = {"all stages": [measured(law, setting, chosen.seconds) for law in every]}
        for name in chosen.without:
            with without(name):
                found[f"without {name}"] = [measured(law, setting, chosen.seconds) for law in every]
    print(f"{len(every)} laws of {chosen.table}, noise {chosen.noise:g}, {chosen.seconds:g} CPU s for each")
    print(machine("kanserve", "numpy"))
    print(table(COLUMNS, [_row(name, outcomes) for name, outcomes in found.items()]))
    print(_differences(found))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    stages = [stage.name for stage in decompose.STAGES]
    parser.add_argument("--without", nargs="+", default=[], choices=stages, metavar="STAGE", help=", ".join(stages))
    parser.add_argument("--table", choices=get_args(Table), default="one_input")
    parser.add_argument("--only", nargs="+", default=[], metavar="ID")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take every N-th law")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--noise", type=float, default=0.01, help="in deviations of the answers")
    parser.add_argument("--seconds", type=float, default=10.0, help="the limit of each search")
    return parser


@contextmanager
def without(name: str) -> Iterator[None]:
    """Leave a stage of the search out."""
    kept = tuple(stage for stage in decompose.STAGES if stage.name != name)
    if len(kept) == len(decompose.STAGES):
        raise ValueError(f"The search has no stage {name!r}.")
    with mock.patch.object(decompose, "STAGES", kept):
        yield


@contextmanager
def on_cpu_time() -> Iterator[None]:
    """Let limits of time count the CPU time of this process."""
    with mock.patch.object(time, "perf_counter", time.process_time):
        yield


def measured(law: Law, setting: Setting, seconds: float) -> Outcome:
    """Search for a law by its first samples."""
    data, fresh = rows(law, setting, 0), rows(law, Setting(setting.table, setting.rows), FRESH)

    def right(one: ScoredFormula) -> bool:
        exact = relative_error(law, by_tree(one.formula), wider(law)) < EXACT
        return exact or same_form(law, one.formula, fresh)

    begun = time.process_time()
    found = find_formulas(data, seconds=seconds)
    spent = time.process_time() - begun
    outcome = Outcome(law.name, found.status, right(found.best), any(map(right, found.rivals)), spent)
    print(f"{outcome}: {found.best.formula.text}", file=sys.stderr, flush=True)
    return outcome


def _row(name: str, found: Sequence[Outcome]) -> tuple[str, ...]:
    right = [one for one in found if one.right]
    counts = (
        len(right),
        sum(one.listed and not one.right for one in found),
        sum(one.believed for one in found),
        sum(one.status == "not decided" for one in found),
    )
    return name, *map(str, counts), f"{median(one.seconds for one in right):.1f}" if right else "-"


def _differences(found: dict[str, list[Outcome]]) -> str:
    """The laws that are right only with, or only without, each stage."""
    (_, whole), *others = found.items()
    lines = []
    for name, outcomes in others:
        pairs = list(zip(whole, outcomes, strict=True))
        gained = [one.law for one, other in pairs if one.right > other.right]
        lost = [one.law for one, other in pairs if one.right < other.right]
        lines.append(f"{name}: lost {', '.join(gained) or 'none'}; gained {', '.join(lost) or 'none'}")
    return "\n".join(lines)


if __name__ == "__main__":
    main(sys.argv[1:])
