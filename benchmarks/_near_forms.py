"""Pairs of forms that rows do not decide between, made with random constants, ranges and noise.

Two forms of a family, such as a*x/(b + x) and a*(1 - exp(-x/b)): one is the law, the other is fitted to it, and the
noise is so large that rows tell them apart by less than the margin of the search. Of the rows drawn, a pair is kept if
the description lengths of both differ by less than that margin too. Every fourth law has a factor beside, of a second
input.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.special import erf

from benchmarks._equations import Law, law_of
from benchmarks._formula_report import SAME_FORM
from kanserve.data.dataset import Dataset
from kanserve.data.datasets import Equation
from kanserve.formula import Formula, evaluate_tree
from kanserve.formula.constants.nonlinear_fit import Constants
from kanserve.formula.expressions.complexity import complexity
from kanserve.formula.expressions.linear_forms import renumber
from kanserve.formula.expressions.tree import Step, Tree
from kanserve.formula.from_network.expression_trees import trees
from kanserve.network.powers import EXPONENTS, exponent_of
from kanserve.search.findings.results import DECIDED_MARGIN
from kanserve.search.fit.description_length import BY_SHAPE_COMPLEXITY_PENALTY

Array = NDArray[np.float64]

MOST_NATS = 4.0  # by which the rows tell the two forms apart, expected: drawn evenly up to this
NOISES = (0.001, 0.15)  # of the noise, relative to the spread of the answers: what people have
ROWS = (200, 500, 1000)
STARTS = 6  # of the fit of the other form
LEAST_APART = 1e-3  # difference of two forms, relative to the spread, below which they are one


@dataclass(frozen=True)
class NearForm:
    """A form of an input x: its text, its values, and the roles of its constants: a factor, a scale of the input, a
    width, a place, an exponent, a level."""

    text: str
    roles: str
    values: Callable[..., Array]


SATURATING = (
    NearForm("{0}*x/({1}+x)", "as", lambda x, a, s: a * x / (s + x)),
    NearForm("{0}*(1-exp(-x/{1}))", "as", lambda x, a, s: a * (1 - np.exp(-x / s))),
    NearForm("{0}*tanh(x/{1})", "as", lambda x, a, s: a * np.tanh(x / s)),
    NearForm("{0}*atan(x/{1})", "as", lambda x, a, s: a * np.arctan(x / s)),
    NearForm("{0}*log(1+x/{1})", "as", lambda x, a, s: a * np.log(1 + x / s)),
    NearForm("{0}*erf(x/{1})", "as", lambda x, a, s: a * erf(x / s)),
    NearForm("{0}*x^{1}", "ap", lambda x, a, p: a * x**p),
)
GROWING = (
    NearForm("{0}*x^{1}", "ap", lambda x, a, p: a * x**p),
    NearForm("{0}*exp(x/{1})", "as", lambda x, a, s: a * np.exp(x / s)),
    NearForm("{0}*x+{1}*x^2", "aa", lambda x, a, b: a * x + b * x**2),
    NearForm("{0}*sinh(x/{1})", "as", lambda x, a, s: a * np.sinh(x / s)),
)
FALLING = (
    NearForm("{0}*exp(-x/{1})", "as", lambda x, a, s: a * np.exp(-x / s)),
    NearForm("{0}/({1}+x)", "as", lambda x, a, s: a / (s + x)),
    NearForm("{0}*exp(-(x/{1})^2)", "as", lambda x, a, s: a * np.exp(-((x / s) ** 2))),
    NearForm("{0}/(1+(x/{1})^2)", "as", lambda x, a, s: a / (1 + (x / s) ** 2)),
    NearForm("{0}/cosh(x/{1})", "as", lambda x, a, s: a / np.cosh(x / s)),
)
DECAYS = (
    NearForm("{0}*exp(-x/{1})+{2}", "asc", lambda x, a, s, c: a * np.exp(-x / s) + c),
    NearForm("{0}/(x+{1})+{2}", "asc", lambda x, a, s, c: a / (x + s) + c),
    NearForm("{0}*exp(-(x/{1})^{2})", "asp", lambda x, a, s, p: a * np.exp(-((x / s) ** p))),
    NearForm("{0}*exp(-x/{1})+{2}*exp(-x/{3})", "asas", lambda x, a, s, b, t: a * np.exp(-x / s) + b * np.exp(-x / t)),
    NearForm("{0}*log(x+{1})+{2}", "asc", lambda x, a, s, c: a * np.log(x + s) + c),
)
SIGMOIDS = (
    NearForm("{0}*x^{2}/({1}^{2}+x^{2})", "asp", lambda x, a, s, p: a * x**p / (s**p + x**p)),
    NearForm("{0}*(1-exp(-(x/{1})^{2}))", "asp", lambda x, a, s, p: a * (1 - np.exp(-((x / s) ** p)))),
    NearForm("{0}*tanh((x/{1})^{2})", "asp", lambda x, a, s, p: a * np.tanh((x / s) ** p)),
    NearForm("{0}/(1+exp(-(x-{1})/{2}))", "amw", lambda x, a, m, w: a / (1 + np.exp(-(x - m) / w))),
)
BELLS = (
    NearForm("{0}*exp(-((x-{1})/{2})^2)", "amw", lambda x, a, m, w: a * np.exp(-(((x - m) / w) ** 2))),
    NearForm("{0}/(1+((x-{1})/{2})^2)", "amw", lambda x, a, m, w: a / (1 + ((x - m) / w) ** 2)),
    NearForm("{0}/cosh((x-{1})/{2})^2", "amw", lambda x, a, m, w: a / np.cosh((x - m) / w) ** 2),
)
STEPS = (
    NearForm("{0}*tanh((x-{1})/{2})+{3}", "amwc", lambda x, a, m, w, c: a * np.tanh((x - m) / w) + c),
    NearForm("{0}*erf((x-{1})/{2})+{3}", "amwc", lambda x, a, m, w, c: a * erf((x - m) / w) + c),
    NearForm("{0}*atan((x-{1})/{2})+{3}", "amwc", lambda x, a, m, w, c: a * np.arctan((x - m) / w) + c),
)
HUMPS = (
    NearForm("{0}*x^{2}*exp(-x/{1})", "asp", lambda x, a, s, p: a * x**p * np.exp(-x / s)),
    NearForm("{0}*exp(-(log(x/{1})/{2})^2)", "asp", lambda x, a, s, p: a * np.exp(-((np.log(x / s) / p) ** 2))),
    NearForm("{0}*x/(1+(x/{1})^2)", "as", lambda x, a, s: a * x / (1 + (x / s) ** 2)),
    NearForm("{0}*x*exp(-x/{1})", "as", lambda x, a, s: a * x * np.exp(-x / s)),
)
CONCAVE = (
    NearForm("{0}*sqrt(x+{1})", "as", lambda x, a, s: a * np.sqrt(x + s)),
    NearForm("{0}*log(x)+{1}", "ac", lambda x, a, c: a * np.log(x) + c),
    NearForm("{0}*x^{1}", "ap", lambda x, a, p: a * x**p),
    NearForm("{0}*sqrt(x)+{1}", "ac", lambda x, a, c: a * np.sqrt(x) + c),
)
WAVES = (
    NearForm("{0}*sin(x/{1})", "as", lambda x, a, s: a * np.sin(x / s)),
    NearForm("{0}*x+{1}*x^3", "aa", lambda x, a, b: a * x + b * x**3),
    NearForm("{0}*x*exp(-x/{1})", "as", lambda x, a, s: a * x * np.exp(-x / s)),
)
FAMILIES = {
    "saturating": SATURATING,
    "growing": GROWING,
    "falling": FALLING,
    "decays": DECAYS,
    "sigmoids": SIGMOIDS,
    "bells": BELLS,
    "steps": STEPS,
    "humps": HUMPS,
    "concave": CONCAVE,
    "arches": WAVES,
}


@dataclass(frozen=True, eq=False)
class Pair:
    """A law with its form and constants, the text of a form that is as good, the rows and their noise, and rows without
    noise."""

    family: str
    law: Law
    form: NearForm
    constants: Array
    rival: str
    rows: Dataset
    fresh: Dataset
    noise: float
    gap: float
    """The description length of the law less that of the other form, in nats."""

    def has_form(self, found: Formula) -> bool:
        """Whether a formula is the law once its constants and estimated exponents are fitted to rows without noise."""
        if not found.closed_form:
            return False
        constants, x, y = Constants(free_exponents(found.tree)), self.fresh.x, self.fresh.y[:, 0]

        def residuals(values: Array) -> Array:
            return np.nan_to_num(constants.value(values, x) - y, nan=1e6, posinf=1e6, neginf=-1e6)

        if not len(constants.values):
            return bool(np.sqrt(np.mean(residuals(constants.values) ** 2)) < SAME_FORM * y.std())
        fit = least_squares(
            residuals,
            constants.values,
            lambda values: np.nan_to_num(constants.derivatives(values, x)[1]),
            method="lm",
            x_scale="jac",
            xtol=1e-15,
            ftol=1e-15,
            gtol=1e-15,
            max_nfev=300,
        )
        return bool(np.sqrt(2 * fit.cost / len(x)) < SAME_FORM * y.std())

    def has_case(self, found: Formula) -> bool:
        """Whether a formula is the form of the law with other constants, simple exponents among them."""
        x = self.fresh.x
        with np.errstate(all="ignore"):
            values = evaluate_tree(found.tree, {}, x)
        if not (found.closed_form and np.isfinite(values).all()):
            return False
        scale = x[:, 1] if x.shape[1] > 1 else np.ones(len(x))
        squares = _fitted(self.form, x[:, 0], scale, values, [self.constants])[1]
        return bool(np.sqrt(squares / len(x)) < SAME_FORM * values.std())


def free_exponents(tree: Tree) -> Tree:
    """The tree with exp(p*log(u)) for each u^p whose exponent is an estimate, which a refit changes then too."""
    steps: list[Step] = []
    places: dict[int, int] = {}
    for n, step in enumerate(tree):
        moved = renumber(step, places)
        exponent = exponent_of(str(step[1])) if step[0] == "call" and step[1] not in EXPONENTS else None
        if exponent is None:
            steps.append(moved)
        else:
            at = len(steps)
            steps += [("call", "log", moved[2]), ("const", exponent), ("mul", at, at + 1), ("call", "exp", at + 2)]
        places[n] = len(steps) - 1
    return tuple(steps)


def near_pairs(numbers: Iterable[int]) -> Iterator[Pair]:
    """The pairs with these numbers, the families in turn."""
    names = list(FAMILIES)
    for n in numbers:
        generator = np.random.default_rng((39, n))
        while True:
            found = _pair(names[n % len(names)], f"pair{n}", n % 4 == 3, generator)
            if found is not None:
                yield found
                break


def _pair(family: str, name: str, factor: bool, generator: np.random.Generator) -> Pair | None:
    forms = FAMILIES[family]
    first, second = generator.choice(len(forms), 2, replace=False)
    form, other = forms[first], forms[second]
    high = float(np.exp(generator.uniform(np.log(0.5), np.log(20.0))))
    low = high * float(generator.choice([0.02, 0.1, 0.3, 0.5]))
    count = int(generator.choice(ROWS))
    constants = np.array([float(f"{value:.4g}") for value in _drawn(form, low, high, generator)])
    text = _text(form, constants)
    ranges = {"x": (low, high)} | ({"z": (0.5, 2.0)} if factor else {})

    def drawn() -> tuple[Array, Array]:
        x = np.column_stack([generator.uniform(*pair, count) for pair in ranges.values()])
        return x, x[:, 1] if factor else np.ones(count)

    x, scale = drawn()
    clean = scale * form.values(x[:, 0], *constants)
    starts = [_drawn(other, low, high, generator) for _ in range(STARTS)]
    near = _fitted(other, x[:, 0], scale, clean, starts)
    apart, spread = float(np.sqrt(near[1] / count)), float(clean.std())
    if not np.isfinite(apart) or apart < LEAST_APART * spread:
        return None
    noise = apart * float(np.sqrt(count / 2 / generator.uniform(0.2, MOST_NATS)))
    if not NOISES[0] <= noise / spread <= NOISES[1]:
        return None
    y = clean + noise * generator.normal(size=count)
    mine = _fitted(form, x[:, 0], scale, y, [constants])
    theirs = _fitted(other, x[:, 0], scale, y, [near[0]])
    rival = _text(other, theirs[0])
    try:
        law = law_of(Equation(name, f"z*({text})" if factor else text, ranges))
        gap = _length(law, form, mine[1], count) - _length(_law(rival, ranges, factor), other, theirs[1], count)
    except ArithmeticError:
        return None
    if not abs(gap) < DECIDED_MARGIN:
        return None
    new, scale = drawn()
    fresh = Dataset(new, scale * form.values(new[:, 0], *constants), law.inputs)
    return Pair(family, law, form, constants, rival, Dataset(x, y, law.inputs), fresh, noise, gap)


def _law(text: str, ranges: dict[str, tuple[float, float]], factor: bool) -> Law:
    return law_of(Equation("rival", f"z*({text})" if factor else text, ranges))


def _text(form: NearForm, constants: Array) -> str:
    return form.text.format(*(f"({value:.6g})" for value in constants))


def _drawn(form: NearForm, low: float, high: float, generator: np.random.Generator) -> Array:
    """Random constants of a form: scales, places and widths of the order of the range of x."""
    found = []
    for role in form.roles:
        u = float(generator.uniform())
        match role:
            case "a":
                found.append(float(generator.choice([-1.0, 1.0])) * 0.3 * 30**u)
            case "s":
                found.append(high * 0.15 * 15**u)
            case "w":
                found.append((high - low) * (0.1 + 0.6 * u))
            case "m":
                found.append(low + (high - low) * (0.2 + 0.6 * u))
            case "p":
                found.append(0.3 + 2.7 * u)
            case _:
                found.append(-3.0 + 6.0 * u)
    return np.array(found)


def _fitted(form: NearForm, x: Array, scale: Array, y: Array, starts: list[Array]) -> tuple[Array, float]:
    """The constants and the sum of squares of the best fit."""
    best = starts[0], np.inf

    def residuals(constants: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.nan_to_num(scale * form.values(x, *constants) - y, nan=1e6, posinf=1e6, neginf=-1e6)

    for start in starts:
        fit = least_squares(residuals, start, x_scale=np.maximum(np.abs(start), 1e-6), max_nfev=60)
        if 2 * fit.cost < best[1]:
            best = fit.x, 2 * float(fit.cost)
    return best


def _length(law: Law, form: NearForm, squares: float, count: int) -> float:
    (tree,) = trees(law.kan).trees
    price = 0.5 * np.log(count) * len(form.roles) + BY_SHAPE_COMPLEXITY_PENALTY * complexity(tree)
    return float(0.5 * count * np.log(squares / count) + price)
