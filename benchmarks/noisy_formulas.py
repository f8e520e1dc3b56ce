"""Laws found again from noisy rows: what the search says of them against the truth, and what a stage of it gains.

    OMP_NUM_THREADS=1 python benchmarks/noisy_formulas.py [--table field_suites] [--noise 0.01] [--seconds 10]
    OMP_NUM_THREADS=1 python benchmarks/noisy_formulas.py --without "forms of one input"
    OMP_NUM_THREADS=1 python benchmarks/noisy_formulas.py --table feynman field_suites --noise 0 0.01 --keep found.jsonl
    OMP_NUM_THREADS=1 python benchmarks/noisy_formulas.py --pairs 200

The third ends with a table of the statuses against the truth in all sets that are in the file; those outcomes are not
measured again.
The last takes pairs of forms that the rows do not decide between (`_near_forms.py`): the true one should be the answer
or one of its rivals.

The form of a formula is right as in `formulas.py`. Another one is equivalent if the rows cannot tell it from the law:
within the ranges it differs from it by less than its constants' own errors and 5 nats. A wrong one is believed if the
search calls it exact or within noise; "listed" are laws whose right form is among the rivals of another. Times are CPU
seconds; so is the limit of each search, so that a busy machine changes no result.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import chain, product
from pathlib import Path
from statistics import median
from typing import get_args
from unittest import mock

import numpy as np

from benchmarks._equations import EXACT, Law, Setting, Table, by_tree, laws, laws_of_file, relative_error, rows, wider
from benchmarks._near_forms import near_pairs
from benchmarks._timing import machine, table
from benchmarks.formulas import FRESH, same_form
from kanserve.data.dataset import Dataset
from kanserve.search import find_formulas
from kanserve.search.findings import decompose
from kanserve.search.findings.decision import count_estimates
from kanserve.search.findings.results import Status
from kanserve.search.findings.scored_formula import ScoredFormula

COLUMNS = ("", "right", "equivalent", "listed", "wrong, believed", "not decided", "CPU s, median of right")
TRUTHS = ("right", "equivalent", "wrong")
UNDECIDABLE = 5.0  # nats by which rows must tell a formula from the law, or it is equivalent: odds of 150 to 1


@dataclass(frozen=True)
class Outcome:
    """What a search says of a law: its status, whether its best formula is right, whether one of its rivals is, and
    whether the rows cannot tell the best from the law."""

    law: str
    status: str
    right: bool
    listed: bool
    seconds: float
    equivalent: bool = False

    @property
    def truth(self) -> str:
        return "right" if self.right else "equivalent" if self.equivalent else "wrong"

    @property
    def believed(self) -> bool:
        """Whether a wrong form counts as the law."""
        return self.truth == "wrong" and self.status in ("exact", "within noise")


@dataclass(frozen=True)
class LawSet:
    """Laws of one source with one noise: a row of the table of statuses."""

    source: str
    setting: Setting
    laws: Sequence[Law]

    @property
    def name(self) -> str:
        return f"{self.source}, noise {self.setting.noise:g}, {self.setting.rows} rows"


def main(arguments: Sequence[str]) -> None:
    chosen = _parser().parse_args(arguments)
    if chosen.pairs:
        with on_cpu_time():
            _print_pairs(chosen.pairs, chosen.first, chosen.every, chosen.seconds)
        return
    kept = Kept(chosen.keep, chosen.seconds)
    for one in _sets(chosen):
        _measure(one, chosen.without, chosen.seconds, kept)
    by_set = kept.by_set()
    if len(by_set) > 1:
        print("Status against truth: right + equivalent + wrong")
        print(table(("laws", "", *get_args(Status)), status_rows(by_set)))


def _sets(chosen: argparse.Namespace) -> Iterator[LawSet]:
    sources = chosen.file or chosen.table
    for source, noise in product(sources, chosen.noise):
        setting = Setting("one_input" if chosen.file else source, chosen.rows, noise)
        every = laws_of_file(source) if chosen.file else laws(setting, chosen.only)
        every = [law for law in every if not chosen.only or law.name in chosen.only]
        yield LawSet(source.stem if chosen.file else source, setting, every[:: chosen.every])


def _measure(one: LawSet, stages: Sequence[str], seconds: float, kept: "Kept") -> list[Outcome]:
    """Measure the laws of a set, with all stages and without some, and print what is found."""
    with on_cpu_time():
        found = {"all stages": [kept.measured(one, law) for law in one.laws]}
        for name in stages:
            with without(name):
                found[f"without {name}"] = [measured(law, one.setting, seconds) for law in one.laws]
    print(f"{len(one.laws)} laws of {one.source}, noise {one.setting.noise:g}, {seconds:g} CPU s for each")
    print(machine("kanserve", "numpy"))
    print(table(COLUMNS, [_row(name, outcomes) for name, outcomes in found.items()]))
    print(table(("status", *TRUTHS, "which are wrong"), words(found["all stages"])))
    print(_differences(found), flush=True)
    return found["all stages"]


class Kept:
    """Outcomes in a file, so that a run that was cut off goes on where it ended."""

    def __init__(self, path: Path | None, seconds: float) -> None:
        self.path, self.seconds = path, seconds
        lines = path.read_text(encoding="utf-8").splitlines() if path is not None and path.exists() else []
        outcomes = [json.loads(line) for line in lines]
        self.found = {(line.pop("set"), line["law"]): Outcome(**line) for line in outcomes}

    def measured(self, one: LawSet, law: Law) -> Outcome:
        """The outcome of a law with all stages, from the file if it is there."""
        name = f"{one.name}, {self.seconds:g} s"
        if (name, law.name) in self.found:
            return self.found[name, law.name]
        outcome = self.found[name, law.name] = measured(law, one.setting, self.seconds)
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                print(json.dumps({"set": name} | asdict(outcome)), file=file)
        return outcome

    def by_set(self) -> dict[str, list[Outcome]]:
        """The outcomes of each set, also of earlier runs."""
        sets: dict[str, list[Outcome]] = {}
        for (name, _), outcome in self.found.items():
            sets.setdefault(name, []).append(outcome)
        return sets


def status_rows(by_set: Mapping[str, Sequence[Outcome]]) -> list[list[str]]:
    """For each set and for all, the laws and, of each status, how many are right, equivalent and wrong."""
    lines = []
    for name, outcomes in [*by_set.items(), ("all", list(chain(*by_set.values())))]:
        cells = []
        for status in get_args(Status):
            truths = [one.truth for one in outcomes if one.status == status]
            cells.append(" + ".join(str(truths.count(truth)) for truth in TRUTHS) if truths else "-")
        lines.append([name, str(len(outcomes)), *cells])
    return lines


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    stages = [stage.name for stage in decompose.STAGES]
    parser.add_argument("--without", nargs="+", default=[], choices=stages, metavar="STAGE", help=", ".join(stages))
    parser.add_argument("--table", nargs="+", choices=get_args(Table), default=["one_input"])
    parser.add_argument(
        "--file", nargs="+", type=Path, help="laws of these files instead: columns id, formula, ranges as x:0:1 y:2:3"
    )
    parser.add_argument("--keep", type=Path, help="a file of outcomes, which are not measured again")
    parser.add_argument("--only", nargs="+", default=[], metavar="ID")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take every N-th law")
    parser.add_argument("--pairs", type=int, default=0, metavar="N", help="so many pairs of near forms instead of laws")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="begin with this pair")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--noise", nargs="+", type=float, default=[0.01], help="in deviations of the answers")
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
    noise = setting.noise * float(rows(law, replace(setting, noise=0.0), 0).y.std())

    def right(one: ScoredFormula) -> bool:
        exact = relative_error(law, by_tree(one.formula), wider(law)) < EXACT
        return exact or same_form(law, one.formula, fresh)

    begun = time.process_time()
    found = find_formulas(data, seconds=seconds)
    spent = time.process_time() - begun
    outcome = Outcome(
        law.name,
        found.status,
        right(found.best),
        any(map(right, found.rivals)),
        spent,
        equivalent(found.best, fresh, noise),
    )
    print(f"{outcome}: {found.best.formula.text}", file=sys.stderr, flush=True)
    return outcome


def equivalent(found: ScoredFormula, fresh: Dataset, noise: float) -> bool:
    """Whether as many rows with this noise, in deviations, cannot tell a formula from the law, whose rows are fresh."""
    with np.errstate(all="ignore"):
        apart = by_tree(found.formula)(fresh.x) - fresh.y[:, 0]
    nats = UNDECIDABLE + count_estimates(found) / 2  # each estimate misses by half a nat
    return bool(len(apart) * np.mean(apart**2) < 2 * nats * noise**2)


def words(found: Sequence[Outcome]) -> list[list[str]]:
    """For each status, how many formulas are right, equivalent and wrong."""
    lines = []
    for status in get_args(Status):
        truths = [one.truth for one in found if one.status == status]
        wrong = [one.law for one in found if one.status == status and one.truth == "wrong"]
        lines.append([status, *(str(truths.count(truth)) for truth in TRUTHS), ", ".join(wrong)])
    return lines


def _print_pairs(count: int, first: int, every: int, seconds: float) -> None:
    """Of each family, how often the true form is the answer, among its rivals, and neither; and how often it is there
    with simple exponents, as x^2 for x^2.003, that a refit of the constants does not change."""
    found: dict[str, list[Outcome]] = {}
    cases: dict[str, int] = {}
    for pair in near_pairs(range(first, count, every)):
        begun = time.process_time()
        got = find_formulas(pair.rows, seconds=seconds)
        spent = time.process_time() - begun
        listed = any(pair.has_form(rival.formula) for rival in got.rivals)
        outcome = Outcome(pair.law.name, got.status, pair.has_form(got.best.formula), listed, spent)
        found.setdefault(pair.family, []).append(outcome)
        case = outcome.right or listed or any(pair.has_case(one.formula) for one in (got.best, *got.rivals))
        cases[pair.family] = cases.get(pair.family, 0) + case
        rivals = "; ".join(rival.formula.text for rival in got.rivals)
        print(
            f"{outcome}, case {case}: {pair.law.text}: {got.best.formula.text} | {rivals}", file=sys.stderr, flush=True
        )
    lines = []
    cases["all"] = sum(cases.values())
    for name, outcomes in [*found.items(), ("all", list(chain(*found.values())))]:
        named = sum(one.right or one.listed for one in outcomes)
        wrong = [one.law for one in outcomes if not (one.right or one.listed)]
        right, believed = (sum(getattr(one, what) for one in outcomes) for what in ("right", "believed"))
        counts = (len(outcomes), right, named, cases[name], believed)
        lines.append([name, *map(str, counts), ", ".join(wrong) if name != "all" else f"{named / len(outcomes):.0%}"])
    print(f"Pairs of near forms, {seconds:g} CPU s for each")
    print(machine("kanserve", "numpy"))
    columns = ("family", "pairs", "right", "right or listed", "or with simple exponents", "wrong, believed", "neither")
    print(table(columns, lines))


def _row(name: str, found: Sequence[Outcome]) -> tuple[str, ...]:
    right = [one for one in found if one.right]
    counts = (
        len(right),
        sum(one.truth == "equivalent" for one in found),
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
