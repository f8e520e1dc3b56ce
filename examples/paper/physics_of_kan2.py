"""Five studies of KAN 2.0 (arXiv:2408.10205), on its simplest systems.

- A conserved quantity of the oscillator q' = p, p' = -q: a function u with u_q·p - u_p·q = 0 that is q² on the axis.
- The Lagrangian of the pendulum a = -sin q: u_vv·a + u_vq·v - u_q = 0, where u_vv = 1 at v = 0 fixes the mass.
- A constitutive law: the stress of a neo-Hookean bar, μ(s² - 1/s) for the stretch s, from noisy measurements.
- A known law as a network, extended by what the data show: -x + 0.2·x³ for a spring that was taken for linear.
- Modules: which inputs belong together, told from the network's derivatives. (pykan swaps nodes to show them.)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from examples.paper._claims import Claim, Study
from kanserve import (
    Dataset,
    Kan,
    Session,
    evaluate,
    find_formulas,
    fit,
    from_formula,
    separability,
    symbolify,
)
from kanserve.pde import Residual, solve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """What was learned and what is true, along one line, for the picture."""

    name: str
    x: Array
    learned: Array
    true: Array


Found = tuple[Claim, Curve]


def conserved() -> Found:
    generator = np.random.default_rng(0)
    inside = generator.uniform(-1, 1, (1000, 2))
    axis = np.column_stack([np.linspace(-1, 1, 100), np.zeros(100)])

    def constant(x: Array, u: Any) -> Any:
        return u.d("q") * x[:, 1] - u.d("p") * x[:, 0]

    kan = solve(
        [2, 1],
        [Residual(constant, inside), Residual(lambda x, u: u.value - x[:, 0] ** 2, axis)],
        grid=(5, 10),
        inputs=["q", "p"],
    )
    simple = symbolify(kan, Dataset(inside, evaluate(kan, inside), ("q", "p"), ("u",)))
    text = simple.formula().text
    time = np.linspace(0, 2 * np.pi, 100)
    orbit = 0.9 * np.column_stack([np.cos(time), -np.sin(time)])
    drift = float(np.ptp(evaluate(kan, orbit)))
    claim = Claim(
        "conserved quantity of an oscillator: constant along an orbit within 1e-4, and told as a formula",
        f"{drift:.1e}; {text}",
        drift <= 1e-4 and simple.symbolic,
        paper="found",
        why=f"Drift {drift:.1e}, formula {text}.",
    )
    line = np.linspace(-1, 1, 100)
    return claim, Curve(
        "conserved quantity at q = 0", line, evaluate(kan, np.column_stack([0 * line, line]))[:, 0], line**2
    )


def lagrangian() -> Found:
    generator = np.random.default_rng(0)
    states = generator.uniform((-2, -1), (2, 1), (1000, 2))
    still = np.column_stack([np.linspace(-2, 2, 50), np.zeros(50)])

    def motion(x: Array, u: Any) -> Any:
        return u.dd("v", "v") * -np.sin(x[:, 0]) + u.dd("v", "q") * x[:, 1] - u.d("q")

    mass = Residual(lambda _, u: u.dd("v", "v") - 1, still)
    origin = Residual(lambda _, u: u.value, np.zeros((1, 2)))
    calm = Residual(lambda _, u: u.d("v"), np.zeros((1, 2)))  # a multiple of v exerts no force
    kan = solve([2, 1], [Residual(motion, states), mass, origin, calm], grid=(5, 10, 20), inputs=["q", "v"])
    true = states[:, 1] ** 2 / 2 + np.cos(states[:, 0]) - 1
    error = float(np.sqrt(np.mean((evaluate(kan, states)[:, 0] - true) ** 2)))
    simple = symbolify(kan, Dataset(states, evaluate(kan, states), ("q", "v"), ("L",)), functions=["x", "x^2", "sin"])
    claim = Claim(
        "Lagrangian of a pendulum from its accelerations: v²/2 + cos q, RMSE ≤ 1e-3",
        f"{error:.1e}; {simple.formula().text}",
        error <= 1e-3,
        paper="found",
    )
    q = np.linspace(-2, 2, 100)
    return claim, Curve("Lagrangian at v = 0", q, evaluate(kan, np.column_stack([q, 0 * q]))[:, 0], np.cos(q) - 1)


def constitutive() -> Found:
    generator = np.random.default_rng(0)
    stretch = generator.uniform(0.5, 2.5, 300)
    stress = 0.8 * (stretch**2 - 1 / stretch)
    data = Dataset(stretch[:, None], stress + 0.005 * generator.normal(size=300), ("s",), ("stress",))
    best = find_formulas(data, max_fits=600, seed=0).best
    new = np.linspace(0.4, 3, 100)
    true = 0.8 * (new**2 - 1 / new)
    learned = _values(best.kan, new)
    error = float(np.abs(learned - true).max() / np.abs(true).max())
    claim = Claim(
        "stress of a neo-Hookean bar with noise: the law within 1 % on stretches beyond the data",
        f"{error:.2%}; {best.formula.text}",
        error <= 0.01,
        paper="found",
        why=f"{error:.1%} off: {best.formula.text}.",
    )
    return claim, Curve("stress over stretch", new, learned, true)


def extended() -> Found:
    x = np.random.default_rng(0).uniform(-2, 2, (400, 1))
    data = Dataset(x, -x + 0.2 * x**3, ("x",), ("force",))
    known = from_formula("-k*x", k=1.0, ranges={"x": (-2, 2)})
    before = float(np.sqrt(np.mean((evaluate(known, x) - data.y) ** 2)))
    session = Session(known, data).free("x->y").refit()
    after = float(np.sqrt(np.mean((evaluate(session.kan, x) - data.y) ** 2)))
    claim = Claim(
        "a compiled law, extended and trained: the error falls ≥ 1000x",
        f"{before:.1e} to {after:.1e}",
        after <= before / 1000,
        paper="kanpiler, then expand and train",
    )
    new = np.linspace(-2, 2, 100)
    return claim, Curve("a spring's force", new, _values(session.kan, new), -new + 0.2 * new**3)


def modules() -> Found:
    x = np.random.default_rng(0).uniform(-1, 1, (1500, 4))
    data = Dataset(x, x[:, 0] * x[:, 1] + np.exp(x[:, 2]) * x[:, 3], ("a", "b", "c", "d"), ("y",))
    kan = fit([4, (1, 2), 1], data, grid=(3, 5), noise_free=True, seed=0)
    terms = separability(kan, data, tolerance=0.01).terms
    found = {frozenset(term) for term in terms}
    claim = Claim(
        "modules of ab + exp(c)·d: {a, b} and {c, d}",
        " and ".join("{" + ", ".join(sorted(term)) + "}" for term in terms),
        found == {frozenset("ab"), frozenset("cd")},
        paper="shown by swapping neurons",
    )
    line = np.linspace(-1, 1, 100)
    rows = np.column_stack([0 * line + 0.5, line, 0 * line, 0 * line])
    return claim, Curve("ab + exp(c)·d over b, d = 0", line, evaluate(kan, rows)[:, 0], 0.5 * line)


def _values(kan: Kan, x: Array) -> Array:
    return np.asarray(evaluate(kan, x[:, None])[:, 0])


STUDIES = (conserved, lagrangian, constitutive, extended, modules)


def study(small: bool = False) -> Study:
    found = [one() for one in (STUDIES[:2] if small else STUDIES)]
    return Study([claim for claim, _ in found], partial(_draw, [curve for _, curve in found]))


def _draw(curves: Sequence[Curve]) -> "Figure":
    from matplotlib import pyplot as plt

    figure, grid = plt.subplots(1, len(curves), figsize=(3.2 * len(curves), 3), layout="constrained", squeeze=False)
    for axes, curve in zip(grid.flat, curves, strict=True):
        axes.plot(curve.x, curve.true, color="0.75", linewidth=4, label="true")
        axes.plot(curve.x, curve.learned, color="#1f5fbf", label="learned")
        axes.set_title(curve.name, fontsize=9)
    grid.flat[0].legend()
    return figure
