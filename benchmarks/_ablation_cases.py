"""What `ablate.py` measures a rule by: fits and simplifications of data of which each asks for some of the rules.

A seed draws its own rows. The loss is the mean squared error on new rows, without noise, relative to the variance; of
classes the cross-entropy; of real tables that on rows left out.
"""

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

import kanserve as ks
from benchmarks._real_tables import SETS
from kanserve.network.kan import Kan
from kanserve.train.scoring import cross_entropies

Array = NDArray[np.float64]
Law = Callable[[Array], Array]

TEST = 2000
LEAST = 1e-10  # of the variance: errors below it are all exact


@dataclass(frozen=True)
class Result:
    """The loss on new rows, CPU seconds, and how large the network is: its edges, those without a name twice."""

    loss: float
    seconds: float
    size: int


@dataclass(frozen=True)
class Case:
    """Data and what is made of them: `run` makes the network of a seed and measures it."""

    name: str
    kinds: frozenset[str]
    """What it is about, by which a rule chooses its cases."""
    run: Callable[[int], Result]


@dataclass(frozen=True)
class Rows:
    """Rows of a law: inputs drawn by `draw` (rng, count), and noise in standard deviations of the answers."""

    law: Law
    inputs: int
    count: int
    noise: float = 0.0
    low: float = -1.0
    high: float = 1.0
    draw: Callable[[np.random.Generator, int], Array] | None = None
    answers: Callable[[np.random.Generator, Array], Array] | None = None
    """The answers at these values of the law, in place of the noise."""

    def drawn(self, rng: np.random.Generator, count: int) -> Array:
        return self.draw(rng, count) if self.draw else rng.uniform(self.low, self.high, (count, self.inputs))

    def of(self, seed: int) -> tuple[Array, Array]:
        rng = np.random.default_rng([seed, 0])
        x = self.drawn(rng, self.count)
        y = self.law(x)
        return x, self.answers(rng, y) if self.answers else y + self.noise * y.std() * rng.standard_normal(len(x))

    def error(self, kan: Kan, seed: int) -> float:
        """Relative to the variance, on new rows without noise."""
        x = self.drawn(np.random.default_rng([seed, 1]), TEST)
        y = self.law(x)
        wrong = np.square(np.asarray(kan(x)).reshape(len(x)) - y)
        return float(wrong.mean() / y.var())


def _made(make: Callable[[int], tuple[Kan, Callable[[Kan], float]]]) -> Callable[[int], Result]:
    def run(seed: int) -> Result:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            begun = time.process_time()
            kan, loss = make(seed)
            seconds = time.process_time() - begun
            lost = loss(kan)
        named = sum(int(layer.symbolic_mask.sum()) for layer in kan.layers)
        return Result(max(lost, LEAST) if np.isfinite(lost) else 10.0, seconds, 2 * kan.edges - named)

    return run


def _fit(name: str, kinds: str, rows: Rows, hidden: Sequence[int] = (), **options: Any) -> Case:
    def make(seed: int) -> tuple[Kan, Callable[[Kan], float]]:
        x, y = rows.of(seed)
        kan = ks.fit([x.shape[1], *hidden, 1], (x, y), seed=seed, **options)
        return kan, lambda made: rows.error(made, seed)

    return Case(name, frozenset(kinds.split()), _made(make))


def _classes(
    name: str, kinds: str, shape: Sequence[int], rows: Callable[[int], tuple[Any, Any]], **options: Any
) -> Case:
    """A classifier of the first three fifths of the rows of a seed, judged by the others."""

    def make(seed: int) -> tuple[Kan, Callable[[Kan], float]]:
        x, labels = rows(seed)
        size = 3 * len(x) // 5

        kan = ks.fit(list(shape), (x[:size], labels[:size]), seed=seed, **options)
        places = [kan.classes.index(str(label)) for label in labels[size:]]
        return kan, lambda made: float(cross_entropies(np.asarray(made(x[size:])), np.eye(shape[-1])[places]).mean())

    return Case(name, frozenset(kinds.split()), _made(make))


def _rings(seed: int) -> tuple[Array, NDArray[Any]]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(900, 2))
    return x, np.where(np.hypot(*x.T) + 0.15 * rng.standard_normal(900) > 1.2, "out", "in")


def _shuffled(table: str, seed: int) -> tuple[Any, Any]:
    data = SETS[table]()
    order = np.random.default_rng(seed).permutation(len(data.y))
    return data.x[order], data.y[order]


def _labels(table: str) -> Callable[[int], tuple[Any, Any]]:
    def rows(seed: int) -> tuple[Any, Any]:
        x, y = _shuffled(table, seed)
        return x, y.astype(str)

    return rows


def _real(name: str, kinds: str, table: str, hidden: Sequence[int], **options: Any) -> Case:
    def make(seed: int) -> tuple[Kan, Callable[[Kan], float]]:
        x, y = _shuffled(table, seed)
        size = 3 * len(x) // 4
        kan = ks.fit([x.shape[1], *hidden, 1], (x[:size], y[:size]), seed=seed, **options)
        return kan, lambda made: 1 - ks.score(made, (x[size:], y[size:])).r2[0]

    return Case(name, frozenset(kinds.split()), _made(make))


def _town(seed: int) -> tuple[Kan, Callable[[Kan], float]]:
    import pandas as pd

    rng = np.random.default_rng([seed, 2])
    size, age, town = rng.uniform(0, 1, 600), rng.uniform(0, 1, 600), rng.integers(0, 12, 600)
    level = np.random.default_rng(5).normal(size=12)
    price = np.exp(size) * (1 + 0.5 * level[town]) + np.sin(4 * age) + 0.2 * rng.standard_normal(600)
    size[rng.random(600) < 0.15] = np.nan
    table = pd.DataFrame({"size": size, "age": age, "town": np.array(list("ABCDEFGHIJKL"))[town], "price": price})
    kan = ks.fit([3, 3, 1], table[:300], target="price", seed=seed, starts=2)
    return kan, lambda made: 1 - ks.score(made, table[300:], target="price").r2[0]


def _simplified(name: str, rows: Rows, hidden: Sequence[Any], kind: str = "") -> tuple[Case, ...]:
    """Pruning of a fit, and named functions for what is left; the fit and its pruning are made once for each seed."""

    @cache
    def fitted(seed: int) -> Kan:
        x, y = rows.of(seed)
        return ks.fit([x.shape[1], *hidden, 1], (x, y), seed=seed, starts=2)

    @cache
    def pruned(seed: int) -> Kan:
        return ks.prune(fitted(seed), rows.of(seed), seed=seed)

    def prune(seed: int) -> Kan:
        return ks.prune(fitted(seed), rows.of(seed), seed=seed)

    def symbolify(seed: int) -> Kan:
        return ks.symbolify(pruned(seed), rows.of(seed), seed=seed)

    def made(act: Callable[[int], Kan]) -> Callable[[int], Result]:
        return _made(lambda seed: (act(seed), lambda kan: rows.error(kan, seed)))

    return (
        Case(f"prune {name}", frozenset((kind or "prune",)), made(prune)),
        Case(f"name {name}", frozenset((kind or "name",)), made(symbolify)),
    )


def _smaller_classes(seed: int) -> tuple[Kan, Callable[[Kan], float]]:
    x, labels = _rings(seed)
    x = np.column_stack([x, np.random.default_rng([seed, 3]).normal(size=len(x))])
    some = x[:300], labels[:300]
    kan = ks.prune(ks.fit([3, 2, 2], some, seed=seed, starts=3), some, seed=seed)
    y = np.eye(2)[[kan.classes.index(label) for label in labels[300:]]]
    return kan, lambda made: float(cross_entropies(np.asarray(made(x[300:])), y).mean())


def _discovered(name: str, rows: Rows) -> Case:
    def make(seed: int) -> tuple[Kan, Callable[[Kan], float]]:
        return ks.discover(rows.of(seed), seed=seed), lambda made: rows.error(made, seed)

    return Case(name, frozenset(("discover",)), _made(make))


def _counts(rng: np.random.Generator, y: Array) -> Array:
    return rng.poisson(y).astype(np.float64)


def _tails(rng: np.random.Generator, y: Array) -> Array:
    return np.asarray(y + 0.2 * y.std() * rng.standard_t(1.5, len(y)))


def _skewed(rng: np.random.Generator, count: int) -> Array:
    return rng.lognormal(0, 1.2, (count, 1))


def _repeated(rng: np.random.Generator, count: int) -> Array:
    return np.asarray(rng.uniform(-1, 1, (max(count // 6, 1), 3))[rng.integers(0, max(count // 6, 1), count)])


def _hello(x: Array) -> Array:
    return np.exp(np.sin(np.pi * x[:, 0]) + x[:, 1] ** 2)


def _sum(x: Array) -> Array:
    return np.asarray(np.sin(3 * x[:, 0]) + x[:, 1] ** 2 + 0.3 * x[:, 2])


def _step(x: Array) -> Array:
    return np.asarray(2.0 * (x[:, 0] > 0.2) + np.sin(2 * x[:, 1]))


def _mixed(x: Array) -> Array:
    return np.asarray(x[:, 0] * x[:, 1] + np.sin(3 * x[:, 2]))


def _nested(x: Array) -> Array:
    return np.exp(0.5 * (np.sin(np.pi * (x[:, 0] ** 2 + x[:, 1] ** 2)) + np.sin(np.pi * x[:, 2] ** 2)))


def _many(x: Array) -> Array:
    return np.asarray(np.sin(2 * x[:, :7]).sum(axis=1) + np.square(x[:, 7:]).sum(axis=1))


CASES: tuple[Case, ...] = (
    _fit("additive, noise", "lm noise", Rows(_sum, 3, 200, 0.2)),
    _fit("hidden nodes, noise", "lm noise", Rows(_mixed, 3, 300, 0.3), (4,)),
    _fit("wide, noise", "wide noise", Rows(_mixed, 5, 600, 0.3), (8,)),
    _fit("exact", "lm", Rows(_hello, 2, 500), (2,)),
    _fit("deep, exact", "deep", Rows(_nested, 3, 1000), (2, 1), starts=4),
    _fit("deep, noise", "deep", Rows(_nested, 3, 500, 0.1), (2, 1), starts=4),
    _fit("7000 rows", "many", Rows(_mixed, 3, 7000, 0.3), (4,), starts=2),
    _fit("a step", "lm jumps", Rows(_step, 2, 2000, 0.05), starts=2),
    _fit("fast waves", "lm fine", Rows(lambda x: np.sin(60 * x[:, 0]) + x[:, 1], 2, 2000, 0.1), starts=2),
    _fit("skewed inputs", "lm noise", Rows(lambda x: np.sin(4 * np.log1p(x[:, 0])), 1, 400, 0.1, draw=_skewed)),
    _fit("heavy tails", "lm robust", Rows(_mixed, 3, 400, answers=_tails), (3,), loss="huber", starts=4),
    _fit("counts", "lm", Rows(lambda x: np.exp(_sum(x)), 3, 400, answers=_counts), loss="poisson", starts=4),
    _fit("40 inputs", "screen", Rows(_sum, 40, 300, 0.3), (2,), starts=2),
    _fit("40 inputs, a product", "screen", Rows(lambda x: x[:, 0] * x[:, 1], 40, 400, 0.2), (2,), starts=2),
    _fit("40 inputs, all needed", "screen", Rows(lambda x: x.sum(axis=1), 40, 300, 0.3), (2,), starts=2),
    _fit("9 rows", "few", Rows(lambda x: np.sin(2 * x[:, 0]), 1, 9, 0.1)),
    _fit("repeated rows", "repeats", Rows(_mixed, 3, 600, 0.5, draw=_repeated), (4,), starts=4),
    _real("diabetes", "lm noise", "diabetes", (2,), starts=3),
    _classes("rings", "classes", (2, 2, 2), _rings),
    _classes("wine", "classes", (13, 3), _labels("wine"), starts=4),
    Case("categories and gaps", frozenset(("table",)), _made(_town)),
    _fit("by LBFGS", "descent lbfgs", Rows(_mixed, 3, 400, 0.3), (3,), optimizer="lbfgs", steps=120),
    _fit("by LBFGS, exact", "descent lbfgs", Rows(_hello, 2, 500), (2,), optimizer="lbfgs", steps=150),
    _fit("by Adam", "descent adam", Rows(_mixed, 3, 400, 0.3), (3,), optimizer="adam", steps=300),
    _fit("by LBFGS, a step", "descent", Rows(_step, 2, 2000, 0.05), optimizer="lbfgs", steps=120),
    _classes("breast cancer by LBFGS", "classes-descent", (30, 5, 2), _labels("breast cancer"), steps=80),
    *_simplified("sum of waves", Rows(_sum, 3, 400), (1,)),
    *_simplified("product", Rows(lambda x: x[:, 0] * x[:, 1], 2, 400, low=0.5, high=2), (2,)),
    *_simplified("exp of a sum", Rows(_hello, 2, 500), (3,)),
    *_simplified("noise", Rows(_sum, 3, 300, 0.2), (3,)),
    *_simplified("quotient", Rows(lambda x: x[:, 0] / (1 + x[:, 1]), 2, 400, low=0.2, high=3), (1,)),
    *_simplified("root", Rows(lambda x: np.hypot(x[:, 0], x[:, 1]), 2, 400, low=0.5, high=2), (1,)),
    *_simplified("useless inputs", Rows(_mixed, 5, 300, 0.1), (3,)),
    *_simplified("curve", Rows(lambda x: x[:, 0] * np.exp(-x[:, 0]), 1, 200, low=0.5, high=4), ()),
    *_simplified("root of a square", Rows(lambda x: 1 / np.sqrt(1 + 3 * x[:, 0] ** 2), 1, 200, low=0.2, high=3), ()),
    *_simplified("factors", Rows(lambda x: x[:, 0] ** 2 * np.sin(x[:, 1]), 2, 400, low=0.5, high=2), ((0, 1),)),
    *_simplified("14 edges", Rows(_many, 14, 200, 0.05), (), "many-edges"),
    Case("prune classes", frozenset(("prune", "prune-classes")), _made(_smaller_classes)),
    _discovered("discover, exact", Rows(_hello, 2, 300)),
    _discovered("discover, noise", Rows(_sum, 3, 200, 0.3)),
    _discovered("discover, useless inputs", Rows(_mixed, 5, 400, 0.1)),
)


def chosen(kinds: str) -> tuple[Case, ...]:
    """The cases about one of these kinds, separated by spaces."""
    return tuple(case for case in CASES if case.kinds & set(kinds.split()))


def measured(cases: Sequence[Case], seeds: Sequence[int]) -> Mapping[tuple[str, int], Result]:
    """The result of each case and seed."""
    return {(case.name, seed): case.run(seed) for case in cases for seed in seeds}
