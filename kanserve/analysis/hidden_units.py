"""What a hidden unit computes: its formula, the inputs and rows that drive it, and simple approximate expressions.
Expressions are compared up to a scale and a shift, which the next layer can undo."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kanserve.analysis.samples import Asked, Data, ask, names_of, rows_of
from kanserve.errors import FormulaError, InputError
from kanserve.formula import Formula, formulas
from kanserve.network.edge_names import node_name
from kanserve.network.kan import Kan, Variable
from kanserve.plot.result_charts import draw_against

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from kanserve.plot.matplotlib_scene import Width
    from kanserve.plot.palette import Theme

Array = NDArray[np.float64]

DRIVING = 0.01  # least share of an input to be tried in expressions
_ROWS = 5  # rows with the highest values, and with the lowest
_SHOWN = 5  # expressions
_SAME = 1e-3  # of R²: of expressions that differ by less, the simpler one comes first


@dataclass(frozen=True, eq=False)
class Expression:
    """A simple expression as text, the R² of the fit a·expression + b to the unit, and the fitted values (N,)."""

    text: str
    r2: float
    values: Array


@dataclass(frozen=True, eq=False)
class Meaning:
    """A unit on N rows: its values, its formula, the inputs that drive it, and similar expressions.

    Parameters
    ----------
    unit : str
        The unit's name, such as "h1".
    inputs : tuple of str
        The names of the I inputs.
    x : ndarray of shape (N, I)
        The rows, in raw units.
    values : ndarray of shape (N,)
        The unit's values on them.
    formula : Formula or None
        The unit's formula, None without one.
    shares : ndarray of shape (I,)
        The inputs' shares of its squared slopes, relative to the inputs' standard deviations; they add up to 1.
    highest, lowest : tuple of int
        The numbers of the rows with its largest and its smallest values.
    expressions : tuple of Expression
        Simple approximations, best first, each with `text`, `r2` and its fitted `values` of shape (N,).

    Examples
    --------
    >>> import kanserve
    >>> found = kanserve.meaning(kanserve.from_formula("sin(x + 2*y)"), 1, 0)
    >>> found.formula.text, found.shares.round(1).tolist()
    ('x + 2*y', [0.2, 0.8])
    >>> found.expressions[0].text
    '0.5*x + y'
    """

    unit: str
    inputs: tuple[str, ...]
    x: Array
    values: Array
    formula: Formula | None
    shares: Array
    highest: tuple[int, ...]
    lowest: tuple[int, ...]
    expressions: tuple[Expression, ...]

    def __str__(self) -> str:
        lines = []
        if self.formula is not None and self.formula.closed_form:
            lines.append(f"{self.unit} = {self.formula.text}")
        driving = [i for i in np.argsort(-self.shares, kind="stable") if self.shares[i] >= DRIVING]
        shares = ", ".join(f"{self.inputs[i]} {self.shares[i]:.0%}" for i in driving)
        lines.append(f"{self.unit} is driven by {shares or 'nothing: it is constant'}")
        lines += [f"  it is like {expression.text} (R² {expression.r2:.4f})" for expression in self.expressions]
        return "\n".join(lines)

    def plot(self, ax: "Axes | None" = None, *, theme: "Theme" = "auto", width: "Width" = None) -> "Axes":
        """The unit plotted against the best expression.

        Parameters
        ----------
        ax : Axes, optional
            Where to draw; by default on a new figure.
        theme, width : optional
            As in `kanserve.plot_network`.

        Returns
        -------
        Axes
            Matplotlib's.

        Raises
        ------
        MissingDependencyError
            Matplotlib is not installed.

        Examples
        --------
        >>> import kanserve
        >>> axes = kanserve.meaning(kanserve.from_formula("sin(x + 2*y)"), 1, 0).plot()
        >>> axes.get_title()
        'h1: R² 1.0000'
        """
        if not self.expressions:
            guess, label, title = self.values, self.unit, f"{self.unit} is constant"
        else:
            best = self.expressions[0]
            guess, label, title = best.values, f"{best.text}, scaled", f"{self.unit}: R² {best.r2:.4f}"
        return draw_against(guess, self.values, (label, self.unit), title, ax, theme=theme, width=width)


def meaning(kan: Kan, layer: int, node: int, data: Data = None) -> Meaning:
    """What a node computes: its formula, the inputs and samples that drive it, and simple expressions that are like it.

    It follows KAN 2.0 (arXiv:2408.10205). Expressions are compared up to a scale and a shift, which the next layer can
    undo.

    Parameters
    ----------
    kan : Kan
        The network.
    layer : int
        The layer that the node ends, from 1.
    node : int
        The node, from 0.
    data : Dataset or array_like of shape (n_samples, n_inputs), optional
        Samples in raw units; by default 1000 of the training range.

    Returns
    -------
    Meaning
        `formula`, the inputs' `shares` of shape (n_inputs,), and `expressions`, each with its R². It prints as a few
        lines and has `.plot()`.

    Raises
    ------
    InputError
        Unknown layer or node.
    DataError
        The samples have another number of columns, or the node is finite on fewer than ten of them.

    Examples
    --------
    >>> import kanserve
    >>> kan = kanserve.from_formula("sin(x*y)", ranges={"x": (1, 2), "y": (1, 2)})
    >>> found = kanserve.meaning(kan, 1, 0)
    >>> found.formula.text, found.expressions[0].text
    ('x*y', 'x*y')
    """
    if not 1 <= layer <= len(kan.layers) or not 0 <= node < kan.layers[layer - 1].nodes:
        counts = ", ".join(str(layer.nodes) for layer in kan.layers)
        raise InputError(f"The layers 1 to {len(kan.layers)} have {counts} nodes; got layer {layer}, node {node}.")
    name = node_name(kan, layer, node)
    part = _up_to(kan, layer, node, name)
    question = ask(part, rows_of(kan, data), name)
    order = np.argsort(question.y, kind="stable")
    return Meaning(
        name,
        names_of(kan),
        question.x,
        question.y,
        _formula(part, question.q),
        question.shares,
        tuple(order[::-1][:_ROWS].tolist()),
        tuple(order[:_ROWS].tolist()),
        _expressions(question, names_of(kan)),
    )


def _up_to(kan: Kan, layer: int, node: int, name: str) -> Kan:
    """The network whose outputs are the nodes after a layer."""
    last = layer == len(kan.layers)
    nodes = kan.layers[layer - 1].nodes
    named = tuple(Variable(name if q == node else f"other {q + 1}") for q in range(nodes))
    shift, scale = (kan.output_shift, kan.output_scale) if last else (np.zeros(nodes), np.ones(nodes))
    return Kan(kan.layers[:layer], kan.inputs, named, kan.input_shift, kan.input_scale, shift, scale)


def _formula(part: Kan, q: int) -> Formula | None:
    try:
        return formulas(part, strict=False)[q]
    except FormulaError:
        return None


def _expressions(question: Asked, names: tuple[str, ...]) -> tuple[Expression, ...]:
    """The best simple expressions in the inputs that drive the unit; among similar ones, the simpler first."""
    driving = np.flatnonzero(question.shares >= DRIVING).tolist()
    if not driving or question.y.std() == 0:
        return ()
    tried = [_fit(question, text, columns) for text, columns in _candidates(question.x, names, driving)]
    tried += [
        found
        for found in (
            _linear(question, names, driving),
            _squares(question, names, driving),
            _powers(question, names, driving),
        )
        if found
    ]
    tried.sort(key=lambda found: (-round(found.r2 / _SAME), len(found.text)))
    distinct = {found.text: found for found in reversed(tried)}  # x*y may come from `_powers` too
    return tuple(sorted(distinct.values(), key=tried.index))[:_SHOWN]


def _candidates(x: Array, names: tuple[str, ...], driving: list[int]) -> list[tuple[str, Array]]:
    """Expressions without constants: x, x², x·y, x/y, x + y, x - y, x² + y²."""
    found = [(names[i], x[:, i]) for i in driving] + [(f"{names[i]}^2", x[:, i] ** 2) for i in driving]
    pairs: dict[str, Callable[[Array, Array], Array]] = {
        "{u}*{v}": lambda u, v: u * v,
        "{u} + {v}": lambda u, v: u + v,
        "{u} - {v}": lambda u, v: u - v,
        "{u}^2 + {v}^2": lambda u, v: u**2 + v**2,
    }
    for i, j in itertools.combinations(driving, 2):
        found += [(text.format(u=names[i], v=names[j]), of(x[:, i], x[:, j])) for text, of in pairs.items()]
    with np.errstate(all="ignore"):
        found += [(f"{names[i]}/{names[j]}", x[:, i] / x[:, j]) for i, j in itertools.permutations(driving, 2)]
    return [(text, values) for text, values in found if np.isfinite(values).all()]


def _fit(question: Asked, text: str, columns: Array) -> Expression:
    """Fit the expression by least squares: a scale and a shift, or coefficients of columns (N, K)."""
    design = np.column_stack([columns, np.ones(len(question.y))])
    sizes = np.abs(design).max(axis=0)
    design = design / np.where(sizes > 0, sizes, 1.0)
    values = design @ np.linalg.lstsq(design, question.y, rcond=None)[0]
    return Expression(text, float(1 - ((question.y - values) ** 2).mean() / question.y.var()), values)


def _linear(question: Asked, names: tuple[str, ...], driving: list[int]) -> Expression | None:
    return _weigh(question, question.x[:, driving], [names[i] for i in driving])


def _squares(question: Asked, names: tuple[str, ...], driving: list[int]) -> Expression | None:
    return _weigh(question, question.x[:, driving] ** 2, [f"{names[i]}^2" for i in driving])


def _weigh(question: Asked, columns: Array, texts: list[str]) -> Expression | None:
    """The best weighted sum of the columns, normalised so that the largest weight is 1."""
    if len(texts) < 2:
        return None
    design = np.column_stack([columns - columns.mean(axis=0), np.ones(len(question.y))])
    weights = np.linalg.lstsq(design, question.y, rcond=None)[0][:-1]
    weights = weights / weights[np.abs(weights).argmax()]
    text = " + ".join(name if abs(w - 1) < 5e-4 else f"{w:.3g}*{name}" for w, name in zip(weights, texts, strict=True))
    return _fit(question, text.replace("+ -", "- "), columns)


def _powers(question: Asked, names: tuple[str, ...], driving: list[int]) -> Expression | None:
    """The product of powers of the driving inputs that best fits the hidden unit. None if an input or the unit
    changes sign or is 0, or if there are fewer than two such inputs."""
    x = question.x[:, driving]
    signed = np.concatenate([x, question.y[:, None]], axis=1)
    if not ((signed > 0).all(axis=0) | (signed < 0).all(axis=0)).all() or len(driving) < 2:
        return None
    design = np.column_stack([np.log(np.abs(x)), np.ones(len(x))])
    powers = np.linalg.lstsq(design, np.log(np.abs(question.y)), rcond=None)[0][:-1]
    halves = np.round(2 * powers) / 2
    powers = np.where(np.abs(powers - halves) < 0.01, halves, powers)
    values = np.prod(np.abs(x) ** powers, axis=1)
    parts = [
        f"{names[i]}^{p:.3g}" if p != 1 else names[i] for i, p in zip(driving, powers.tolist(), strict=True) if p != 0
    ]
    return _fit(question, "*".join(parts), values) if parts else None
