"""Importances of inputs: ours beside scikit-learn's permutation importance, on twenty laws and five tables.

Ours are the `feature_importances_` of the estimators with their defaults. The others are scikit-learn's
`permutation_importance` of the same estimator on its training rows, by R² (of a classifier by the R² of its
probabilities): means of ten shuffles, none below 0, divided by their sum. The gap is the largest difference.

    OMP_NUM_THREADS=1 python benchmarks/importances.py [--small]
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn import datasets
from sklearn.inspection import permutation_importance

from benchmarks._equations import Law, Setting, law_of, laws, rows
from benchmarks._timing import goal, machine, table
from kanserve.data.datasets import Equation, load_knots
from kanserve.estimator import KANClassifier, KANRegressor
from kanserve.network.importances import input_importances

Array = NDArray[np.float64]
Data = tuple[Array, NDArray[np.generic], tuple[str, ...]]

ROWS = 500
SHUFFLES = 10  # of each input, for the reference: its own error is then below .02 on these rows
NEAR = 0.05
SMALL = ("a*b", "area", "I.6.2", "diabetes")
NAMED = (
    # A network adds logarithms here, and the size of a logarithm says nothing about that of its effect.
    Equation("a*b", "a*b", {"a": (-1.0, 1.0), "b": (0.9, 1.1)}),
    Equation(
        "area", "area^0.75*rooms^0.12*year^4.5", {"area": (40.0, 200.0), "rooms": (1.0, 7.0), "year": (1900.0, 2020.0)}
    ),
)
FEYNMAN = 18
"""The first laws of two inputs or more, of the table `feynman`."""


@dataclass(frozen=True)
class Result:
    """The importances of one fit by both methods, and what both took."""

    name: str
    inputs: tuple[str, ...]
    ours: Array
    permutation: Array
    seconds: tuple[float, float]

    @property
    def gap(self) -> float:
        return float(np.abs(self.ours - self.permutation).max())


def chosen_laws() -> list[Law]:
    several = [law for law in laws(Setting()) if len(law.inputs) > 1]
    return [*map(law_of, NAMED), *several[:FEYNMAN]]


def _packed(load: Callable[..., object]) -> Callable[[], Data]:
    def read() -> Data:
        found = load()
        return found.data, found.target, tuple(found.feature_names)  # type: ignore[attr-defined]  # a Bunch

    return read


def _knots() -> Data:
    data = load_knots()
    return data.x, data.y[:, 0], data.inputs


TABLES: dict[str, Callable[[], Data]] = {
    "knots": _knots,
    "diabetes": _packed(datasets.load_diabetes),
    "wine": _packed(datasets.load_wine),
    "iris": _packed(datasets.load_iris),
    "breast cancer": _packed(datasets.load_breast_cancer),
}
CLASSIFIES = ("wine", "iris", "breast cancer")


def measure(name: str, data: Data, seed: int = 0) -> Result:
    """Fit the estimator for these samples, and ask for both importances."""
    x, y, inputs = data
    model = (KANClassifier if name in CLASSIFIES else KANRegressor)(random_state=seed).fit(x, y)
    begun = time.process_time()
    ours = input_importances(model.kan_, x)
    middle = time.process_time()
    scorer = _r2_of_probabilities if name in CLASSIFIES else None
    found = permutation_importance(model, x, y, scoring=scorer, n_repeats=SHUFFLES, random_state=seed)
    shares = np.maximum(found.importances_mean, 0.0)
    return Result(
        name,
        inputs,
        ours,
        shares / max(float(shares.sum()), np.finfo(np.float64).tiny),
        (middle - begun, time.process_time() - middle),
    )


def _r2_of_probabilities(model: KANClassifier, x: Array, y: NDArray[np.generic]) -> float:
    """One less the squared error of the probabilities, relative to that of the class frequencies."""
    wanted = (y[:, None] == model.classes_).astype(np.float64)
    errors = ((model.predict_proba(x) - wanted) ** 2).sum()
    return float(1 - errors / ((wanted - wanted.mean(axis=0)) ** 2).sum())


def report(kind: str, results: Sequence[Result]) -> str:
    lines = []
    for one in results:
        order = np.argsort(-one.permutation, kind="stable")[:4]
        shown = ", ".join(f"{one.inputs[i]} {one.ours[i]:.2f} ({one.permutation[i]:.2f})" for i in order)
        lines.append([one.name, f"{one.gap:.3f}", f"{one.seconds[0]:.2f}", f"{one.seconds[1]:.2f}", shown])
    far = [f"{one.name} {one.gap:.3f}" for one in results if one.gap > NEAR]
    head = (kind, "largest gap", "ours CPU s", "permutation CPU s", "the most important, ours (permutation)")
    return "\n".join([table(head, lines), "", goal(not far, f"largest gap of {len(results)} ≤ {NEAR}", far)])


def main(arguments: Sequence[str]) -> int:
    small = "--small" in arguments
    print(machine("kanserve", "numpy", "scikit-learn"))
    fits = [
        measure(law.name, (data.x, data.y[:, 0], law.inputs))
        for law in chosen_laws()
        if not small or law.name in SMALL
        for data in [rows(law, Setting(rows=ROWS), 0)]
    ]
    print("\n" + report("law", fits), flush=True)
    of_tables = [measure(name, read()) for name, read in TABLES.items() if not small or name in SMALL]
    print("\n" + report("table", of_tables))
    return int(any(one.gap > NEAR for one in fits))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
