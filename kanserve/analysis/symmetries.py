"""Symmetries: does an output depend on two inputs only through one quantity?

If it is g(h(x_i, x_j), others), its slopes have the same ratio as those of h: y_i·h_j - y_j·h_i is 0. The score is
1 - mean((y_i·h_j - y_j·h_i)²)/mean((y_i·h_j)² + (y_j·h_i)²), clipped at 0: 1 for an exact symmetry, 0 if the slopes are
unrelated. For an unknown h, the ratio of the slopes must not depend on the other inputs; `_independent` gives the
score.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kanserve.analysis.samples import Asked, Data, ask, check_tolerance, names_of
from kanserve.data.near_names import first_names
from kanserve.network.kan import Kan
from kanserve.plot.result_charts import draw_matrix

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from kanserve.plot.matplotlib_scene import Width
    from kanserve.plot.palette import Theme

Array = NDArray[np.float64]

# The slopes by u and v of each h(u, v).
_KNOWN: dict[str, Callable[[Array, Array], tuple[Array | float, Array | float]]] = {
    "{u} - {v}": lambda _u, _v: (1.0, -1.0),
    "{u} + {v}": lambda _u, _v: (1.0, 1.0),
    "{u}*{v}": lambda u, v: (v, u),
    "{u}/{v}": lambda u, v: (v, -u),  # times v²
    "{u}^2 + {v}^2": lambda u, v: (u, v),
}
LINEAR, POWER, ANY = "{u} + b*{v}", "{u}*{v}^p", "h({u}, {v})"
KINDS = (*_KNOWN, LINEAR, POWER, ANY)
"""The kinds of h, simplest first."""


@dataclass(frozen=True, eq=False)
class Symmetry:
    """How well an output is a function of h(x_i, x_j) and the other inputs, for several kinds of h.

    Parameters
    ----------
    output : str
        The output's name.
    inputs : tuple of str
        The names of the I inputs.
    scores : mapping of str to ndarray of shape (I, I)
        For each kind of h, such as "{u} - {v}", the scores of all pairs from 0 to 1. NaN where the output does not
        depend on both inputs; `scores["h({u}, {v})"]`, any h, also without a third input.
    constants : mapping of str to ndarray of shape (I, I)
        b of "{u} + b*{v}" and p of "{u}*{v}^p".
    tolerance : float
        Scores of at least this count.

    Examples
    --------
    >>> import kanserve
    >>> found = kanserve.symmetry(kanserve.from_formula("(x - 2*y)^2 + sin(z)"))
    >>> [(form, round(score, 6)) for form, score in found.found]
    [('x - 2*y', 1.0)]
    >>> found.scores["{u} + b*{v}"][0].round(2).tolist()
    [nan, 1.0, 0.82]
    """

    output: str
    inputs: tuple[str, ...]
    scores: Mapping[str, Array]
    constants: Mapping[str, Array]
    tolerance: float

    @property
    def found(self) -> tuple[tuple[str, float], ...]:
        """The simplest symmetry of each pair that has one, and its score, such as ("x - y", 0.9999)."""
        pairs = [(i, j) for i in range(len(self.inputs)) for j in range(i + 1, len(self.inputs))]
        best = [(i, j, self._simplest(i, j)) for i, j in pairs]
        return tuple((self.text(kind, i, j), float(self.scores[kind][i, j])) for i, j, kind in best if kind)

    def text(self, kind: str, i: int, j: int) -> str:
        """h of the inputs i and j as text: "x + 2*y".

        Parameters
        ----------
        kind : str
            A kind of h, one of the keys of `scores`.
        i, j : int
            The inputs, from 0.

        Returns
        -------
        str
            The kind with the names of the inputs, and with its constant to four digits.

        Examples
        --------
        >>> import kanserve
        >>> found = kanserve.symmetry(kanserve.from_formula("(x - 2*y)^2 + sin(z)"))
        >>> found.text("{u} + b*{v}", 0, 1)
        'x - 2*y'
        """
        text = kind.format(u=self.inputs[i], v=self.inputs[j])
        if kind not in self.constants:
            return text
        number = f"{self.constants[kind][i, j]:.4g}"
        if kind == LINEAR:
            return f"{self.inputs[i]} {'-' if number[0] == '-' else '+'} {number.lstrip('-')}*{self.inputs[j]}"
        return f"{self.inputs[i]}*{self.inputs[j]}^{number}"

    def __str__(self) -> str:
        lines = [f"{self.output} depends on {text} (score {score:.5g})" for text, score in self.found]
        return "\n".join(lines or [f"{self.output} has none of these symmetries"])

    def plot(self, ax: "Axes | None" = None, *, theme: "Theme" = "auto", width: "Width" = None) -> "Axes":
        """A matrix of scores: a row per pair of inputs that the output depends on, a column per kind of h.

        Framed cells reach the tolerance. Scores of different kinds have different scales, so the tints of a column are
        relative to its own scores.

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
        >>> axes = kanserve.symmetry(kanserve.from_formula("(x - 2*y)^2 + sin(z)")).plot()
        >>> axes.get_title().splitlines()[0]
        'y depends on two inputs through x - 2*y'
        """
        pairs = [(i, j) for i in range(len(self.inputs)) for j in range(i + 1, len(self.inputs))]
        pairs = [pair for pair in pairs if np.isfinite(self.scores[KINDS[0]][pair])]
        values = np.array([[self.scores[kind][pair] for kind in KINDS] for pair in pairs]).reshape(-1, len(KINDS))
        rows = [f"{self.inputs[i]}, {self.inputs[j]}" for i, j in pairs]
        columns = [kind.format(u="u", v="v") for kind in KINDS]
        title = f"{self.output} depends on two inputs through {self._name_found()}\neach column has its own scale"
        framed = np.nan_to_num(values) >= self.tolerance
        tints = np.where(framed, 0.75, 0.35 * _by_column(values))
        return draw_matrix(values, rows, columns, title, ax, theme=theme, width=width, tints=tints, framed=framed)

    def _name_found(self) -> str:
        return first_names([text for text, _ in self.found], 2, ", …") or "none of these"

    def _simplest(self, i: int, j: int) -> str:
        return next((kind for kind in KINDS if self.scores[kind][i, j] >= self.tolerance), "")


def _by_column(values: Array) -> Array:
    """Scale each column to 0 at its smallest score and 1 at its largest; 0 if all are equal."""
    low = np.fmin.reduce(values, initial=1.0)
    extent = np.fmax.reduce(values, initial=0.0) - low
    result: Array = np.divide(values - low, extent, out=np.zeros_like(values), where=extent > 1e-9)
    return result


def symmetry(kan: Kan, data: Data = None, *, output: int | str = 0, tolerance: float = 0.999) -> Symmetry:
    """The combinations of two inputs through which an output depends on them, evaluated on the rows of `data`.

    It follows KAN 2.0 (arXiv:2408.10205), with exact derivatives of the network. Scores of different h have different
    scales: compare them with the tolerance, not with one another.

    Parameters
    ----------
    kan : Kan
        The network.
    data : Dataset or array_like of shape (n_samples, n_inputs), optional
        Samples in raw units; by default 1000 of the training range.
    output : str or int, default=0
        The name or the index of the output.
    tolerance : float, default=0.999
        The score, between 0 and 1, from which a symmetry counts; for a noisy network use less, 0.99 or 0.95.

    Returns
    -------
    Symmetry
        `found` has the simplest combination of each pair of inputs that has one, with its score; `scores` has all of
        them. It prints as a few lines and has `.plot()`.

    Raises
    ------
    InputError
        Unknown output, or the tolerance is not between 0 and 1.
    DataError
        The samples have another number of columns, or the network is finite on fewer than ten of them.

    Examples
    --------
    >>> import kanserve
    >>> print(kanserve.symmetry(kanserve.from_formula("(x - y)^2 + sin(z)")))
    y depends on x - y (score 1)
    """
    tolerance = check_tolerance(tolerance)
    question = ask(kan, data, output)
    count = len(kan.inputs)
    scores = {kind: np.full((count, count), np.nan) for kind in KINDS}
    constants = {kind: np.full((count, count), np.nan) for kind in (LINEAR, POWER)}
    raw = question.slopes / np.where(question.spreads > 0, question.spreads, 1.0)
    for i, j in np.argwhere(question.used[:, None] & question.used & ~np.eye(count, dtype=bool)).tolist():
        u, v, slopes = question.x[:, i], question.x[:, j], (raw[:, i], raw[:, j])
        for kind, of in _KNOWN.items():
            by_u, by_v = of(u, v)
            scores[kind][i, j] = _agreement(slopes[0] * by_v, slopes[1] * by_u)
        scores[LINEAR][i, j], ratio = _constant_ratio(question.slopes[:, i], question.slopes[:, j])
        constants[LINEAR][i, j] = ratio * question.spreads[i] / question.spreads[j]
        scores[POWER][i, j], constants[POWER][i, j] = _constant_ratio(slopes[0] * u, slopes[1] * v)
        scores[ANY][i, j] = _independent(question, i, j)
    return Symmetry(kan.outputs[question.q].name, names_of(kan), scores, constants, tolerance)


def _agreement(a: Array, b: Array) -> float:
    """1 if a = b, 0 if they are unrelated or opposite."""
    return float(np.clip(1 - ((a - b) ** 2).mean() / (a**2 + b**2).mean(), 0, 1))


def _constant_ratio(a: Array, b: Array) -> tuple[float, float]:
    """How constant the ratio b/a is, from 0 to 1, and the ratio."""
    sizes, directions = np.linalg.eigh(
        np.cov(np.stack([a, b]), bias=True) + np.outer([a.mean(), b.mean()], [a.mean(), b.mean()])
    )
    with np.errstate(all="ignore"):
        ratio = directions[1, 1] / directions[0, 1]
    return float(np.clip(1 - 2 * sizes[0] / sizes.sum(), 0, 1)), float(ratio)


def _independent(question: Asked, i: int, j: int) -> float:
    """1 if the ratio of the slopes by i and j does not depend on the other inputs: 1/(1 + the mean squared change of
    the ratio's logarithm per standard deviation of the others); NaN if there are no others."""
    others = [k for k in np.flatnonzero(question.used).tolist() if k not in (i, j)]
    if not others:
        return float("nan")
    a, b = question.slopes[:, i], question.slopes[:, j]
    change = [((a * question.bends[:, j, k] - b * question.bends[:, i, k]) ** 2).mean() for k in others]
    return float(1 / (1 + sum(change) / (a**2 * b**2).mean()))
