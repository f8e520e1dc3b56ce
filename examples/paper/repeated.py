"""The studies that exist already as examples and benchmarks: Poisson, continual learning, robustness, recovery."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import _random_fits as random_fits
from benchmarks._equations import EXACT, Law, Setting, by_tree, laws, relative_error, rows, wider
from examples import continual, poisson
from examples.paper._claims import Claim, Study, listed, median, spread
from kanserve import find_formulas

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POISSON_SEEDS = (100, 101, 102)
CONTINUAL = (continual.BEST, continual.TWO_LAYERS, continual.PERCEPTRON)
FITS: dict[random_fits.Method, int] = {"lm": 200, "lbfgs": 100, "adam": 100}
MOST_SECONDS = 30.0  # by the clock, which other work may hold up: a law takes 7 CPU seconds at most
"""Fits of a search for a formula, so that its result does not depend on the machine's speed."""

SHARES = {"feynman": 1.0, "feynman_dimensional": 60 / 62}
"""The share of the laws of each table that must be found."""


def poisson_study(small: bool = False) -> Study:
    equation = poisson.equations(small)[0]
    results = poisson.compare(equation, POISSON_SEEDS[:1] if small else POISSON_SEEDS)
    return Study(poisson_claims(results), partial(_bars, results))


def poisson_claims(results: poisson.Table) -> list[Claim]:
    own = next(runs for who, runs in results.items() if who.startswith("KAN"))
    peers = {who: runs for who, runs in results.items() if who.startswith("MLP")}
    errors = [run.error for run in own]
    size, slowest = own[0].parameters, max(run.seconds for run in own)
    theirs = {who: median([run.error for run in runs]) for who, runs in peers.items()}
    paper = next(iter(theirs.values()))  # the first peer is the paper's
    return [
        Claim(
            "mean squared error ≤ 1e-6 with ≤ 700 parameters in ≤ 120 CPU s",
            f"{spread(errors)}, {size} parameters, {slowest:.1f} s",
            max(errors) <= 1e-6 and size <= 700 and slowest <= 120,
            paper="1e-7 with 1e2",
            pykan="1.4e-3 in 100 s, an easier equation",
        ),
        Claim(
            "the paper's MLP, of four layers of 100, ≥ 10x worse in the same seconds",
            spread(errors),
            paper >= 10 * median(errors),
            paper="1e-5 with 1e4 parameters",
            mlp="; ".join(f"{who.removeprefix('MLP ')} {error:.1e}" for who, error in theirs.items()),
        ),
    ]


def continual_study(small: bool = False) -> Study:
    names = CONTINUAL[:1] + CONTINUAL[2:] if small else CONTINUAL
    found = {name: continual.LEARNERS[name](continual.PHASES, 0.1 if small else 0.5) for name in names}
    errors = {
        name: [continual.error(run, np.concatenate(continual.PHASES[: n + 1])) for n, run in enumerate(runs)]
        for name, runs in found.items()
    }
    return Study(continual_claims(errors), partial(_peaks, found))


def continual_claims(errors: Mapping[str, Sequence[float]]) -> list[Claim]:
    own, perceptron = max(errors[continual.BEST]), errors[continual.PERCEPTRON][-1]
    deep = errors.get(continual.TWO_LAYERS)
    held = "" if deep is None else f"; it stops with two layers: [1,5,1] {deep[1]:.1e} after the second peak"
    return [
        Claim(
            "[1,1], 200 intervals: error on all peaks so far ≤ 1e-4 after each of five, an MLP's ≥ 0.1",
            f"{own:.1e}{held}",
            own <= 1e-4 and perceptron >= 0.1,
            paper="no forgetting",
            pykan="4.3e-6; [1,5,1] 0.041; default flags 0.23",
            mlp=f"LM {perceptron:.1e}",
        )
    ]


def robustness_study(small: bool = False) -> Study:
    tallies = random_fits.measure(random_fits.SMALL if small else FITS)
    return Study(robustness_claims(tallies), partial(_fits, tallies))


def robustness_claims(tallies: Mapping[random_fits.Method, random_fits.Tally]) -> list[Claim]:
    fits = sum(tally.fits for tally in tallies.values())
    exceptions = sum(len(tally.exceptions) for tally in tallies.values())
    infinite = sum(len(tally.not_finite) for tally in tallies.values())
    unequal = sum(len(tally.not_equal) for tally in tallies.values())
    said = sum(tally.printed + len(tally.written) for tally in tallies.values())
    first = next((error for tally in tallies.values() for error in tally.exceptions), "none")
    return [
        Claim(
            f"{fits} fits of nasty data: no exception or warning, no NaN, equal reruns bit for bit, nothing written",
            f"{exceptions}, {infinite}, {unequal}, {said}",
            not exceptions + infinite + unequal + said,
            pykan="NaN and lost checkpoints reported by its users",
            why=f"Exceptions {exceptions}, not finite {infinite}, not equal {unequal}; the first exception: {first}.",
        )
    ]


def recovery_study(small: bool = False) -> Study:
    """Formulas of the 30 dimensionless laws, and of every third of the 62 in physical quantities."""
    tables = {"feynman": laws(Setting("feynman")), "feynman_dimensional": laws(Setting("feynman_dimensional"))[::3]}
    if small:
        tables = {"feynman": [law for law in tables["feynman"] if law.name in ("I.12.1", "II.38.3")]}
    found = {table: {law.name: _recovered(law, table) for law in chosen} for table, chosen in tables.items()}
    return Study(recovery_claims(found), partial(_recoveries, found))


def _recovered(law: Law, table: Any) -> float:
    formula = find_formulas(rows(law, Setting(table), 0), seed=0, seconds=MOST_SECONDS).best.formula
    return relative_error(law, by_tree(formula), wider(law))


def recovery_claims(found: Mapping[str, Mapping[str, float]]) -> list[Claim]:
    claims = []
    for table, errors in found.items():
        missed = [name for name, error in errors.items() if error >= EXACT]
        wanted = int(SHARES[table] * len(errors))
        claims.append(
            Claim(
                f"{table}.csv: ≥ {wanted} of {len(errors)} laws exactly, on rows of a wider box",
                str(len(errors) - len(missed)),
                len(errors) - len(missed) >= wanted,
                pykan="3 of 4 tried" if table == "feynman" else "",
                why=f"Not exact after {MOST_SECONDS:g} s: {listed(missed)}.",
            )
        )
    return claims


def _bars(results: poisson.Table) -> "Figure":
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    for n, (who, runs) in enumerate(results.items()):
        axes.semilogy([n] * len(runs), [run.error for run in runs], "o", label=f"{who}, {runs[0].parameters}")
    axes.set_xticks([])
    axes.set_ylabel("mean squared error of u")
    axes.legend(title="network, parameters", fontsize=8)
    return figure


def _peaks(found: Mapping[str, Sequence[continual.Predict]]) -> "Figure":
    from matplotlib import pyplot as plt

    figure, grid = plt.subplots(len(found), 5, figsize=(11, 1.7 * len(found)), layout="constrained", sharey=True)
    for row, (name, runs) in zip(grid, found.items(), strict=True):
        row[0].set_ylabel(name.split(",")[0])
        for axes, run in zip(row, runs, strict=True):
            axes.plot(continual.BETWEEN, continual.peaks(continual.BETWEEN), color="0.75", linewidth=3)
            axes.plot(continual.BETWEEN, run(continual.BETWEEN), color="#1f5fbf", linewidth=1)
            axes.set_ylim(-0.5, 1.5)
    return figure


def _fits(tallies: Mapping[random_fits.Method, random_fits.Tally]) -> "Figure":
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    for method, tally in tallies.items():
        axes.semilogy(sorted(tally.seconds), label=f"{method}: {tally.fits} fits, {len(tally.exceptions)} exceptions")
    axes.set_xlabel("fits, from the fastest to the slowest")
    axes.set_ylabel("CPU s")
    axes.legend()
    return figure


def _recoveries(found: Mapping[str, Mapping[str, float]]) -> "Figure":
    from matplotlib import pyplot as plt

    figure, grid = plt.subplots(len(found), figsize=(9, 3 * len(found)), layout="constrained", squeeze=False)
    for axes, (table, errors) in zip(grid.flat, found.items(), strict=True):
        axes.semilogy(list(errors), np.clip(list(errors.values()), 1e-17, 10), "o")
        axes.axhline(EXACT, color="0.6", linestyle="--")
        axes.tick_params(axis="x", labelrotation=90, labelsize=8)
        axes.set_title(table)
        axes.set_ylabel("relative error")
    return figure
