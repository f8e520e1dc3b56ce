"""Laws to rediscover from rows: how rows are drawn, and when a formula counts as the law.

A formula is exact if its relative error is below 1e-6 on 1000 new rows where the law is finite, from a box with the
same centre and 1.5 times the width, and if it is finite on all of them.
"""

import csv
import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

import kanserve
from kanserve.data.dataset import Dataset
from kanserve.data.datasets import Equation, load_equations
from kanserve.errors import KanserveError
from kanserve.formula import evaluate_tree
from kanserve.network.evaluate import evaluate
from kanserve.network.kan import Kan

Array = NDArray[np.float64]
Run = Callable[[Array], Array]
Table = Literal[
    "feynman", "feynman_dimensional", "sciences", "field_suites", "one_input", "additive", "toys", "powers", "terms"
]
Spread = Literal["uniform", "correlated", "nonuniform"]

EXACT = 1e-6
WIDER = 1.5
CHECKED = 1000  # rows of the wider box on which the law is finite
MOST_DRAWS = 200  # draws before fewer rows are accepted
CORRELATION = 0.7  # of any two inputs, before each is mapped to its range
JUMP = 10.0  # error of an outlier, in standard deviations of the answers

# The five of the first study of such networks (arXiv:2404.19756, §4.1 and its notebooks).
_CENTRED = (-1.0, 1.0)
TOYS = (
    Equation("hello", "exp(sin(pi*x)+y^2)", dict.fromkeys("xy", _CENTRED)),
    Equation("product", "x*y", dict.fromkeys("xy", _CENTRED)),
    Equation("quotient", "x/y", {"x": _CENTRED, "y": (0.5, 2.0)}),
    Equation("sphere", "tanh(5*(x^4+y^4+z^4-1))", dict.fromkeys("xyz", _CENTRED)),
    Equation("distance", "sqrt((x-y)^2+(z-w)^2)", dict.fromkeys("xyzw", _CENTRED)),
)
# Laws with fractional powers. In one row the first input is 0, where logarithms are infinite.
POWERS = (
    Equation("kleiber", "3.4*m^(3/4)", {"m": (0.0, 5.0)}),
    Equation("manning", "R^(2/3)*sqrt(S)/n", {"R": (0.0, 3.0), "S": (0.01, 0.1), "n": (0.01, 0.05)}),
    Equation("kepler", "T^(2/3)*M^(1/3)", {"T": (0.0, 5.0), "M": (0.5, 2.0)}),
    Equation("adiabatic", "k*rho^1.4", {"rho": (0.0, 3.0), "k": (0.5, 2.0)}),
    Equation("species", "c*A^0.25", {"A": (0.0, 100.0), "c": (1.0, 5.0)}),
    Equation("dittus_boelter", "0.023*R^0.8*P^0.4", {"R": (0.0, 50.0), "P": (0.7, 10.0)}),
    Equation("wind_profile", "u*(z/10)^(1/7)", {"z": (0.0, 50.0), "u": (1.0, 10.0)}),
    Equation("body_surface", "0.2*w^0.425*h^0.725", {"w": (0.0, 100.0), "h": (0.5, 2.0)}),
    Equation("cube_root", "1.5*x^(1/3)", {"x": (-2.0, 2.0)}),
    Equation("decaying", "x^(2/3)*exp(-x)", {"x": (0.0, 4.0)}),
)

# Laws of one or two terms with constants that are not round, for noisy samples.
TERMS = (
    Equation("decay_and_square", "2.5*a*exp(-0.7*t)+0.3*c^2", {"a": (0.5, 3.0), "t": (0.0, 4.0), "c": (0.0, 3.0)}),
    Equation("hill", "2.137*x^4/(1.43^4+x^4)", {"x": (0.1, 4.0)}),
    Equation("saturation", "t/(0.19132*t+0.26195)", {"t": (0.1, 10.0)}),
    Equation("tanh", "1.713*tanh(0.41*t)", {"t": (0.0, 6.0)}),
    Equation("rectified_power", "1.913*max(I-1.37,0)^0.67", {"I": (0.0, 5.0)}),
    Equation("damped_wave", "3.1*exp(-0.31*t)*sin(2.3*t+0.4)", {"t": (0.0, 9.0)}),
)


@dataclass(frozen=True)
class Setting:
    """How rows are drawn. `noise` is in standard deviations of the answers, `extra` is the number of added inputs that
    the law does not depend on, `outliers` the share of rows with a wrong answer. `tails` are the degrees of freedom of
    Student's t, from which the noise comes; 0 for normal noise."""

    table: Table = "feynman"
    rows: int = 1000
    noise: float = 0.0
    extra: int = 0
    outliers: float = 0.0
    spread: Spread = "uniform"
    tails: float = 0.0

    def __post_init__(self) -> None:
        if self.table not in get_args(Table) or self.spread not in get_args(Spread):
            raise ValueError(f"No such table or spread: {self.table}, {self.spread}.")

    @property
    def noisy(self) -> bool:
        """Whether some answers are not those of the law."""
        return bool(self.noise or self.outliers)


@dataclass(frozen=True, eq=False)
class Law:
    """A law, the names and ranges (inputs, 2) of its inputs; the last `extra` of them have no effect."""

    name: str
    text: str
    inputs: tuple[str, ...]
    ranges: Array
    kan: Kan

    def __call__(self, x: Array) -> Array:
        """The law (N,) at rows (N, inputs); NaN where it is not finite."""
        return evaluate(self.kan, x)[:, 0]


def laws(setting: Setting, only: Sequence[str] = ()) -> list[Law]:
    equations: Sequence[Equation]
    match setting.table:
        case "toys":
            equations = TOYS
        case "powers":
            equations = POWERS
        case "terms":
            equations = TERMS
        case table:
            equations = load_equations(table)
    unknown = set(only) - {equation.name for equation in equations}
    if unknown:
        raise ValueError(f"{setting.table} has no {sorted(unknown)[0]}.")
    return [law_of(equation, setting.extra) for equation in equations if not only or equation.name in only]


def laws_of_file(path: Path) -> list[Law]:
    """The laws of a file with the columns id, formula and ranges, as the tables of the library have them."""
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    found = []
    for line in lines:
        bounds = [word.split(":") for word in line["ranges"].split()]
        ranges = {name: (float(low), float(high)) for name, low, high in bounds}
        found.append(law_of(Equation(line["id"], line["formula"], ranges)))
    return found


def law_of(equation: Equation, extra: int = 0) -> Law:
    """The law of an equation, with inputs that have no effect added."""
    ranges = dict(equation.ranges) | {f"unused{i + 1}": (-1.0, 1.0) for i in range(extra)}
    kan = kanserve.from_formula(equation.formula, inputs=list(ranges), ranges=ranges)
    return Law(equation.name, equation.formula, tuple(ranges), np.array(list(ranges.values())), kan)


def rows(law: Law, setting: Setting, seed: int) -> Dataset:
    """The training rows, the same for the same law, setting and seed."""
    generator = _generator(law, seed)
    x = _finite(law, lambda count: _spread(law.ranges, setting.spread, count, generator), setting.rows)
    if setting.table == "powers":
        x[0, 0] = 0.0
    y = law(x)
    scale = float(y.std())
    errors = generator.standard_t(setting.tails, len(y)) if setting.tails else generator.normal(size=len(y))
    y = y + setting.noise * scale * errors
    wrong = generator.permutation(len(y))[: round(setting.outliers * len(y))]
    y[wrong] += JUMP * scale * generator.choice([-1.0, 1.0], len(wrong))
    return Dataset(x, y, law.inputs)


def wider(law: Law) -> Array:
    """The test rows, from the wider box."""
    generator = _generator(law, 10_000)
    middle, half = law.ranges.mean(axis=1), WIDER * np.ptp(law.ranges, axis=1) / 2
    return _finite(law, lambda count: middle + half * generator.uniform(-1, 1, (count, len(middle))), CHECKED)


def relative_error(law: Law, run: Run, x: Array) -> float:
    """The RMS of the error relative to that of the law; infinite if `run` is not finite on a row."""
    wanted = law(x)
    with np.errstate(all="ignore"):
        error = float(np.sqrt(np.mean((run(x) - wanted) ** 2)) / np.sqrt(np.mean(wanted**2)))
    return error if math.isfinite(error) else math.inf


def by_tree(formula: kanserve.Formula) -> Run:
    """A formula with all digits of its constants, as in its Python code."""
    return lambda x: evaluate_tree(formula.tree, formula.tables, x)


def by_text(formula: kanserve.Formula, inputs: Sequence[str]) -> Run:
    """A formula parsed from its printed text, in which constants that were not recognised have six digits."""

    def run(x: Array) -> Array:
        try:
            return evaluate(kanserve.from_formula(formula.text, inputs=inputs), x)[:, 0]
        except KanserveError:  # a constant, a spline, or shortened
            return np.full(len(x), np.nan)

    return run


def _generator(law: Law, seed: int) -> np.random.Generator:
    return np.random.default_rng((seed, zlib.crc32(law.name.encode())))


def _finite(law: Law, draw: Callable[[int], Array], count: int) -> Array:
    """`count` rows on which the law is finite, or fewer after MOST_DRAWS draws."""
    kept, found = [], 0
    for _ in range(MOST_DRAWS):
        x = draw(count)
        kept.append(x[np.isfinite(law(x))])
        found += len(kept[-1])
        if found >= count:
            break
    return np.concatenate(kept)[:count]


def _spread(ranges: Array, spread: Spread, count: int, generator: np.random.Generator) -> Array:
    """Rows (count, inputs) within the ranges.

    Uniform; uniform in each input but pairwise correlated; or concentrated at the lower ends: log-uniform if a range is
    positive, else Beta(2, 5).
    """
    low, high = ranges.T
    shares = generator.uniform(size=(count, len(ranges)))
    if spread == "correlated":
        common = generator.normal(size=(count, 1))
        own = generator.normal(size=(count, len(ranges)))
        shares = norm.cdf(math.sqrt(CORRELATION) * common + math.sqrt(1 - CORRELATION) * own)
    if spread == "nonuniform":
        crowded = low + (high - low) * generator.beta(2, 5, (count, len(ranges)))
        positive = low > 0
        bottom, top = np.where(positive, low, 1.0), np.where(positive, high, 2.0)
        return np.where(positive, bottom * (top / bottom) ** shares, crowded)
    return np.asarray(low + (high - low) * shares)
