"""Symbolic regression: `find_formulas` on laws of physics and other fields, beside pyoperon, gplearn and pykan.

All laws use the same settings. A formula is exact if its relative error is below 1e-6 on 1000 new rows, from a box 1.5
times as wide as that of the training rows. Two forms are tested: the formula with all digits of its constants, as in
its tree, Python and C; and its text read back, whose constants have the digits that people need. With noise the
form is right if its constants, refitted to rows without noise, reach 1e-7.

The peers have the same rows and at least our CPU seconds for that law; in the first seed also ten seconds. pykan has no
time limit and runs on five laws. All run in turn, law by law and seed by seed.

    OMP_NUM_THREADS=1 python benchmarks/formulas.py [--table feynman_dimensional] [--noise 0.01] [--no-peers] ..
    OMP_NUM_THREADS=1 python benchmarks/formulas.py --keep results.jsonl --part 0/2  # and 1/2 beside it

At the end it says which laws share a skeleton, a tree without constants and names, with another text of this
repository.

Results in the file are not measured again, and the table shows all of them: use one file per setting.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import kanserve
from benchmarks import _formula_peers as peers
from benchmarks._equations import Law, Setting, Table, by_text, by_tree, laws, relative_error, rows, wider
from benchmarks._formula_report import LONG, OURS, SAME_FORM, Key, Result, report
from benchmarks._skeletons import seen
from kanserve.data.dataset import Dataset
from kanserve.errors import KanserveError
from kanserve.formula import Formula, evaluate_tree
from kanserve.formula.constants.nonlinear_fit import refit
from kanserve.search import find_formulas

FRESH = 20_000  # the seed of rows within the ranges and without noise
PEERS: dict[str, Callable[[Dataset, float, int], peers.Found]] = {
    "pyoperon": peers.pyoperon,
    "gplearn": peers.gplearn,
}


@dataclass(frozen=True)
class Plan:
    """What to measure: laws and seeds, the time limit of our searches, the CPU seconds of the peers' longer run in the
    first seed (0 for none), and the number of laws for pykan."""

    setting: Setting
    laws: Sequence[Law]
    seeds: Sequence[int] = (0, 1, 2)
    seconds: float = 60.0
    peers: bool = True
    long: float = 10.0
    pykan: int = 5


def main(arguments: Sequence[str]) -> None:
    chosen = _parser().parse_args(arguments)
    plan = _plan(chosen)
    results = {result.key: result for result in _kept(chosen.keep)}
    part, parts = (int(word) for word in chosen.part.split("/"))
    for result in measure(plan, part, parts, results):
        print(result, file=sys.stderr, flush=True)
        results[result.key] = result
        if chosen.keep:
            with chosen.keep.open("a") as file:
                file.write(json.dumps(asdict(result)) + "\n")
    results |= {result.key: result for result in _kept(chosen.keep)}  # including other parts' results
    print(report(plan.setting, plan.laws, plan.seeds, list(results.values())))
    print(f"\n{seen(plan.setting, plan.laws)}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", choices=get_args(Table), default="feynman")
    parser.add_argument("--toys", action="store_true", help="five toys, ten seeds: --table toys --seeds 0 1 .. 9")
    parser.add_argument("--only", nargs="+", default=[], metavar="ID")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="SEED")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--noise", type=float, default=0.0, help="in deviations of the answers")
    parser.add_argument("--extra", type=int, default=0, metavar="COUNT", help="inputs that do nothing")
    parser.add_argument("--outliers", type=float, default=0.0, metavar="SHARE", help="of the rows")
    parser.add_argument("--tails", type=float, default=0.0, metavar="NU", help="noise of Student's t, not normal")
    parser.add_argument("--correlated", dest="spread", action="store_const", const="correlated", default="uniform")
    parser.add_argument("--nonuniform", dest="spread", action="store_const", const="nonuniform")
    parser.add_argument("--seconds", type=float, default=60.0, help="the limit of each of our searches")
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--keep", type=Path, metavar="FILE", help="to go on from, and to share between parts")
    parser.add_argument("--part", default="0/1", metavar="I/N", help="measure every N-th law and seed")
    parser.add_argument("--small", action="store_true", help="one law, to show that it works")
    return parser


def _plan(chosen: Any) -> Plan:
    table: Table = "toys" if chosen.toys else chosen.table
    setting = Setting(table, chosen.rows, chosen.noise, chosen.extra, chosen.outliers, chosen.spread, chosen.tails)
    seeds = chosen.seeds or list(range(10 if chosen.toys else 3))
    every = laws(setting, chosen.only)
    if chosen.small:
        simplest = min(every, key=lambda result: len(result.text))
        return Plan(setting, [simplest], seeds[:1], chosen.seconds, chosen.peers, long=0.0, pykan=0)
    return Plan(setting, every, seeds, chosen.seconds, chosen.peers)


def _kept(path: Path | None) -> list[Result]:
    if path is None or not path.exists():
        return []
    return [Result(**json.loads(line)) for line in path.read_text().splitlines()]


def measure(plan: Plan, part: int = 0, parts: int = 1, known: Mapping[Key, Result] | None = None) -> Iterator[Result]:
    """Yield the results of every `parts`-th law and seed, except known ones."""
    known, prepared = known or {}, False
    for law, seed in tasks(plan, part, parts):
        ours = known.get((law.name, seed, OURS))
        if ours is None:
            if not prepared:  # warm-up
                find_formulas(rows(law, plan.setting, FRESH), max_fits=100)
                prepared = True
            ours = _ours(plan, law, seed)
            yield ours
        for method, find, seconds in _peers(plan, law, seed, ours.seconds) if plan.peers else ():
            if (law.name, seed, method) not in known:
                yield _peer(plan, law, seed, method, find, seconds)


def tasks(plan: Plan, part: int, parts: int) -> list[tuple[Law, int]]:
    return [(law, seed) for seed in plan.seeds for law in plan.laws][part::parts]


def _peers(
    plan: Plan, law: Law, seed: int, seconds: float
) -> Iterator[tuple[str, Callable[[Dataset, float, int], peers.Found], float]]:
    """The peers' runs: name, function and CPU seconds."""
    for name, find in PEERS.items():
        yield name, find, seconds
        if plan.long and seed == plan.seeds[0]:
            yield name + LONG, find, plan.long
    spread_out = list(plan.laws)[:: max(1, len(plan.laws) // max(1, plan.pykan))][: plan.pykan]
    if seed == plan.seeds[0] and law in spread_out:
        yield "pykan", lambda data, _, seed: peers.pykan(data, seed), 0.0


def _ours(plan: Plan, law: Law, seed: int) -> Result:
    data = rows(law, plan.setting, seed)
    begun = time.process_time()
    try:
        found = find_formulas(data, seed=seed, seconds=plan.seconds)
    except Exception as error:  # any failure of a search is a miss, and the others go on
        return Result(law.name, seed, OURS, time.process_time() - begun, f"{type(error).__name__}: {error}")
    seconds = time.process_time() - begun
    formula, fresh, wide = found.best.formula, _fresh(plan, law), wider(law)
    return Result(
        law.name,
        seed,
        OURS,
        seconds,
        formula.text,
        error=relative_error(law, by_tree(formula), wide),
        inside=relative_error(law, by_tree(formula), fresh.x),
        read=relative_error(law, by_text(formula, law.inputs), wide),
        form=same_form(law, formula, fresh) if plan.setting.noisy else None,
        status=found.status,
    )


def _peer(
    plan: Plan,
    law: Law,
    seed: int,
    method: str,
    find: Callable[[Dataset, float, int], peers.Found],
    seconds: float,
) -> Result:
    begun = time.process_time()
    try:
        found = find(rows(law, plan.setting, seed), seconds, seed)
    except Exception as failure:  # any failure is a miss, as for ours
        return Result(law.name, seed, method, time.process_time() - begun, f"{type(failure).__name__}: {failure}")
    fresh = _fresh(plan, law)
    error, inside = (relative_error(law, found.run, x) for x in (wider(law), fresh.x))
    form = right_form(law, found.text, fresh) if plan.setting.noisy else None
    return Result(law.name, seed, method, found.seconds, found.text, error=error, inside=inside, form=form)


def _fresh(plan: Plan, law: Law) -> Dataset:
    return rows(law, Setting(plan.setting.table, plan.setting.rows), FRESH)


def same_form(law: Law, formula: Formula, fresh: Dataset) -> bool:
    """Whether the formula equals the law after its constants are refitted to rows without noise."""
    if not formula.closed_form:
        return False
    fitted = refit(formula.tree, fresh.x, fresh.y[:, 0])
    return relative_error(law, lambda x: evaluate_tree(fitted, {}, x), fresh.x) < SAME_FORM


def right_form(law: Law, text: str, fresh: Dataset) -> bool:
    """Whether the formula of a text is right except for its constants, as `same_form` has it."""
    try:
        (formula,) = kanserve.formulas(kanserve.from_formula(text, inputs=law.inputs))
    except KanserveError:  # too long, or a function that we do not have
        return False
    return same_form(law, formula, fresh)


if __name__ == "__main__":
    main(sys.argv[1:])
