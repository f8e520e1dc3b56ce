"""Random fits of nasty data, for `robustness.py`: 200 by Levenberg-Marquardt and 100 each by LBFGS and Adam.

3 to 200 rows, 1 to 5 columns, zero to two hidden layers, grids of 3 to 50 intervals: constant and duplicate columns,
duplicate rows, units of 1e6 and 1e-6, outliers of 1e6, poles, logarithms and jumps at 0, constants (such as 5e21), more
knots than rows, noise, weights with many zeros, several outputs, and classes with a single row.

Every fit must end without an exception or a warning. The network must be finite on its rows and far outside them, and
on its rows no worse than the mean (for a classifier, than the class frequencies). The fit must print and write nothing,
and must give the same network, bit for bit, when repeated.
"""

import contextlib
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks._timing import goal, table
from kanserve.data.dataset import Dataset
from kanserve.network.evaluate import evaluate
from kanserve.network.kan import Kan, equal
from kanserve.train import TrainingWarning, fit, score

Array = NDArray[np.float64]
Method = Literal["lm", "lbfgs", "adam"]

FITS: dict[Method, int] = {"lm": 200, "lbfgs": 100, "adam": 100}
SMALL: dict[Method, int] = {"lm": 10, "lbfgs": 5, "adam": 5}
GRIDS = ((3,), (3, 5), (3, 5, 10), (5, 20), (10,), (30,), (50,))
TARGETS: dict[str, Callable[[Array, np.random.Generator], Array]] = {
    "log|x|": lambda a, _: np.log(np.abs(a)),
    "1/|x|": lambda a, _: 1 / np.abs(a),
    "sign": lambda a, _: np.sign(a),
    "sqrt": lambda a, _: np.sqrt(np.abs(a)),
    "square": lambda a, _: a**2,
    "noise": lambda a, generator: generator.normal(size=len(a)),
    "constant": lambda a, _: np.zeros(len(a)),
    "5e21": lambda a, _: np.full(len(a), 5e21),
    "outlier": lambda a, _: np.where(np.arange(len(a)) == 0, 1e6, a),
}


@dataclass(frozen=True, eq=False)
class Case:
    """The arguments of one fit."""

    method: Method
    seed: int
    shape: list[int | tuple[int, int]]
    data: Dataset
    options: dict[str, Any]


@dataclass
class Tally:
    """The failures of one optimizer's fits, by the seeds of their cases."""

    fits: int = 0
    seconds: list[float] = field(default_factory=list)
    exceptions: list[str] = field(default_factory=list)
    not_finite: list[int] = field(default_factory=list)
    worse: list[int] = field(default_factory=list)
    not_equal: list[int] = field(default_factory=list)
    printed: int = 0
    """Characters on standard output and error, of all fits together."""
    written: list[str] = field(default_factory=list)
    """Files left in the working directory, which was empty."""

    @property
    def counts(self) -> tuple[int, ...]:
        """Of each kind of failure."""
        lists: Sequence[Sequence[object]] = (self.exceptions, self.not_finite, self.worse, self.not_equal)
        return (*map(len, lists), self.printed, len(self.written))


def measure(counts: dict[Method, int]) -> dict[Method, Tally]:
    return {method: _measured(method, count) for method, count in counts.items()}


def _measured(method: Method, count: int) -> Tally:
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        with tempfile.TemporaryFile() as said:
            with _silenced(said.fileno()), warnings.catch_warnings():
                warnings.simplefilter("error")
                warnings.simplefilter("ignore", TrainingWarning)  # these data are nasty: a word about them is right
                for seed in range(count):
                    _try(case(method, seed), tally)
            tally.printed = said.seek(0, os.SEEK_END)
        tally.written = [path.name for path in Path(folder).iterdir()]
    return tally


def _try(one: Case, tally: Tally) -> None:
    tally.fits += 1
    begun = time.process_time()
    try:
        kan = fit(one.shape, one.data, **one.options)
        tally.seconds.append(time.process_time() - begun)
        if not _finite(kan, one.data.x):
            tally.not_finite.append(one.seed)
        if not _no_worse(kan, one.data):
            tally.worse.append(one.seed)
        if not equal(kan, fit(one.shape, one.data, **one.options)):
            tally.not_equal.append(one.seed)
    except Exception as error:  # any exception is a failure and is counted
        tally.exceptions.append(f"{one.seed}: {error!r}")


def _finite(kan: Kan, x: Array) -> bool:
    """Whether outputs are finite on the rows and a thousand of their widths away. (A network's weights always are.)"""
    away = 1e3 * np.ptp(x, axis=0)
    return bool(np.isfinite(evaluate(kan, np.concatenate([x, x + away, x - away]))).all())


def _no_worse(kan: Kan, data: Dataset) -> bool:
    found = score(kan, data)
    if not kan.classes:
        return min(found.r2) >= -1e-9
    shares = data.mean(data.y)
    entropy = -float((shares * np.log(np.where(shares > 0, shares, 1.0))).sum())
    return found.loss <= entropy + 1e-9


def case(method: Method, seed: int) -> Case:
    """A random case; the same for the same method and seed."""
    generator = np.random.default_rng((list(FITS).index(method), seed))

    def happens(share: float) -> bool:
        return bool(generator.random() < share)

    rows, columns = int(generator.integers(3, 201)), int(generator.integers(1, 6))
    if happens(0.3):
        rows = int(generator.integers(3, 12))
    x = generator.normal(size=(rows, columns))
    if happens(0.2):
        x[:, 0] = 3.0
    if happens(0.2):
        x[:, -1] = x[:, 0]
    if happens(0.2):
        x[rows // 2 :] = x[: rows - rows // 2]
    if happens(0.2):
        x[0] *= 1e6
    if happens(0.2):
        x = np.round(x)
    a = np.where(x[:, -1] == 0, 1e-9, x[:, -1])
    if happens(0.3):
        x *= 10.0 ** generator.choice([-6, 6], columns)
    classifies = method != "lm" and happens(0.3)
    if classifies:
        classes = int(generator.integers(2, 5))
        labels = generator.integers(0, classes - 1, rows) if happens(0.5) else (a > 0).astype(int)
        labels[0] = classes - 1  # the single row of its class
        y = np.eye(classes)[labels]
    else:
        targets = generator.choice(list(TARGETS), int(generator.integers(1, 4)) if happens(0.3) else 1)
        y = np.stack([TARGETS[name](a, generator) for name in targets], axis=1)
        if happens(0.2):
            y = y * 10.0 ** generator.choice([-100, -6, 6, 100])
    weights = None
    if happens(0.25):
        weights = generator.integers(0, 4, rows) * 10.0 ** generator.choice([-6, 0, 6])
        weights[:3] = weights.max() + 1.0
    names = tuple(f"class {q}" for q in range(y.shape[1])) if classifies else ()
    hidden: list[int | tuple[int, int]] = []
    for _ in range(int(generator.integers(0, 3))):
        sums = int(generator.integers(1, 4))
        hidden.append((sums, 1) if happens(0.15) else sums)
    options: dict[str, Any] = {
        "optimizer": method,
        "grid": GRIDS[int(generator.integers(len(GRIDS)))],
        "noise_free": happens(0.3),
        "validation": 0.0 if happens(0.2) else 0.2,
        "starts": 3,
        "seed": seed,
    }
    if method == "adam" and happens(0.3):
        options |= {"l1": 1e-2, "entropy": 1e-2}
    if method != "lm":
        options |= {"steps": 100, "batch": 16 if method == "adam" and happens(0.5) else None}
        options |= {"learning_rate": 10.0 if happens(0.2) else None}
    data = Dataset(x, y, outputs=names, classes=names, weights=weights)
    return Case(method, seed, [columns, *hidden, y.shape[1]], data, options)


@contextlib.contextmanager
def _silenced(file: int) -> Iterator[None]:
    """Redirect all output, including that of C libraries, to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    before = [os.dup(value) for value in (1, 2)]
    try:
        for value in (1, 2):
            os.dup2(file, value)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for value, old in zip((1, 2), before, strict=True):
            os.dup2(old, value)
            os.close(old)


def report(tallies: dict[Method, Tally]) -> str:
    head = ["optimizer", "fits", "exceptions", "not finite", "worse than the mean", "not equal", "characters", "files"]
    body = [
        [method, *(str(count) for count in (tally.fits, *tally.counts)), f"{sum(tally.seconds):.0f}", _slowest(tally)]
        for method, tally in tallies.items()
    ]
    clean = all(not any(tally.counts) for tally in tallies.values())
    wrong = [f"{method} {what}" for method, tally in tallies.items() for what in _wrong(tally)]
    total = sum(tally.fits for tally in tallies.values())
    return "\n".join(
        [
            "Random fits of nasty data; warnings count as exceptions",
            table([*head, "CPU s", "slowest"], body),
            "",
            goal(clean, f"{total} fits, nothing wrong with any", wrong),
        ]
    )


def _slowest(tally: Tally) -> str:
    return f"{max(tally.seconds, default=0.0):.1f}"


def _wrong(tally: Tally) -> list[str]:
    found = [f"exception in {error}" for error in tally.exceptions]
    for what, seeds in (("not finite", tally.not_finite), ("worse", tally.worse), ("not equal", tally.not_equal)):
        found += [f"{what} in {seed}" for seed in seeds]
    return (
        found + [f"file {name}" for name in tally.written] + ([f"{tally.printed} characters"] if tally.printed else [])
    )
