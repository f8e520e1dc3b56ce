"""Separability: is an output a sum, or a product, of functions of fewer inputs?

For f(x_i, ..) + g(x_j, ..) the mixed derivative y_ij is 0; for f(x_i, ..)·g(x_j, ..) that of log|y| is 0, which is
(y·y_ij - y_i·y_j)/y². Both are exact derivatives of the network, reported as shares of the output's variance:

    additive[i, j] = mean(y_ij²)·var(x_i)·var(x_j) / var(y)
    multiplicative[i, j] = mean((y·y_ij - y_i·y_j)²)/mean(y²)·var(x_i)·var(x_j) / var(y)

For y = a·x_i·x_j the first is the variance of the interaction; in general it has that order of magnitude.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kanserve.analysis.samples import Data, ask, check_tolerance, names_of
from kanserve.network.kan import Kan
from kanserve.plot.page import page, text, tint_table
from kanserve.plot.result_charts import draw_matrix

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from kanserve.plot.matplotlib_scene import Width
    from kanserve.plot.palette import Theme

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Separability:
    """How far each pair of inputs is from separating as a sum and as a product, as shares of the output's variance.

    Parameters
    ----------
    output : str
        The output's name.
    inputs : tuple of str
        The names of the I inputs.
    used : ndarray of bool, shape (I,)
        The inputs on which the output depends by its derivatives.
    piecewise : ndarray of bool, shape (I,)
        The inputs on which it depends although the derivatives are 0, like y in abs(x)*sign(y); they are in no part.
    additive, multiplicative : ndarray of shape (I, I)
        The shares for sums and for products: symmetric, 0 where a pair separates exactly, NaN on the diagonal.
    tolerance : float
        A pair separates if its share is at most this.

    Examples
    --------
    >>> import kanserve
    >>> found = kanserve.separability(kanserve.from_formula("x*y + z"))
    >>> found.terms, found.factors
    ((('x', 'y'), ('z',)), (('x', 'y', 'z'),))
    """

    output: str
    inputs: tuple[str, ...]
    used: NDArray[np.bool_]
    piecewise: NDArray[np.bool_]
    additive: Array
    multiplicative: Array
    tolerance: float

    @property
    def terms(self) -> tuple[tuple[str, ...], ...]:
        """The finest partition of the inputs for which the output is a sum of one function per part."""
        return self._parts(self.additive)

    @property
    def factors(self) -> tuple[tuple[str, ...], ...]:
        """The finest partition of the inputs for which the output is a product of one function per part."""
        return self._parts(self.multiplicative)

    def __str__(self) -> str:
        lines = []
        pieces = [name for name, jumps in zip(self.inputs, self.piecewise, strict=True) if jumps]
        given = f" for each {', '.join(pieces)}" if pieces else ""
        for parts, shares, sign, kind in (
            (self.terms, self.additive, " + ", "sum"),
            (self.factors, self.multiplicative, "·", "product"),
        ):
            if len(parts) > 1:
                text = sign.join(f"f{n}({', '.join(part)})" for n, part in enumerate(parts, start=1))
                lines.append(
                    f"{self.output} = {text}{given}, but for {self._across(parts, shares):.2g} of its variance"
                )
            elif not pieces:
                lines.append(f"{self.output} is no {kind} of functions of fewer inputs")
        if pieces:
            lines.append(f"{self.output} is piecewise in {', '.join(pieces)}: derivatives cannot tell how it separates")
        neither = ~(self.used | self.piecewise)
        unused = [name for name, out in zip(self.inputs, neither, strict=True) if out]
        return "\n".join([*lines, *([f"it does not depend on {', '.join(unused)}"] if unused else [])])

    def plot(self, ax: "Axes | None" = None, *, theme: "Theme" = "auto", width: "Width" = None) -> "Axes":
        """The shares of all pairs: of the sum above the diagonal, of the product below; framed if they do not separate.

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
        >>> axes = kanserve.separability(kanserve.from_formula("x*y + z")).plot()
        >>> axes.get_title().splitlines()[0]
        'y = f1(x, y) + f2(z)'
        """
        values = np.triu(self.additive, 1) + np.tril(self.multiplicative, -1)
        np.fill_diagonal(values, np.nan)
        title = f"{self._form()}\nabove: deviation from a sum, below: from a product"
        framed = np.nan_to_num(values) > self.tolerance
        return draw_matrix(values, self.inputs, self.inputs, title, ax, theme=theme, width=width, framed=framed)

    def _repr_html_(self) -> str:
        values = np.triu(self.additive, 1) + np.tril(self.multiplicative, -1)
        np.fill_diagonal(values, np.nan)
        framed = np.nan_to_num(values) > self.tolerance
        what = "above the diagonal: deviation from a sum, below: from a product; framed pairs do not separate"
        lines = text(str(self)) if len(str(self)) < 5000 else text(f"{str(self)[:5000]}…")
        return page(lines, tint_table(values, self.inputs, self.inputs, framed), text(what, second=True))

    def _form(self) -> str:
        """The sum or product that was found, as an equation; or a sentence that there is neither."""
        for parts, sign in ((self.terms, " + "), (self.factors, "·")):
            if len(parts) > 1:
                return f"{self.output} = " + sign.join(
                    f"f{n}({', '.join(part)})" for n, part in enumerate(parts, start=1)
                )
        return f"{self.output} is neither a sum nor a product"

    def _parts(self, shares: Array) -> tuple[tuple[str, ...], ...]:
        """The connected components of the used inputs, in the graph of pairs that do not separate."""
        left = [i for i, used in enumerate(self.used) if used]
        parts = []
        while left:
            part = [left.pop(0)]
            for i in part:  # grows during the loop
                near = [j for j in left if shares[i, j] > self.tolerance]
                part += near
                left = [j for j in left if j not in near]
            parts.append(tuple(self.inputs[i] for i in sorted(part)))
        return tuple(parts)

    def _across(self, parts: tuple[tuple[str, ...], ...], shares: Array) -> float:
        """The total share of all pairs in different parts of a partition."""
        number = {name: n for n, part in enumerate(parts) for name in part}
        own = np.array([number.get(name, -1) for name in self.inputs])
        parted = (own[:, None] != own) & (own[:, None] >= 0) & (own >= 0)
        return float(np.triu(np.where(parted, shares, 0.0), 1).sum())


def separability(kan: Kan, data: Data = None, *, output: int | str = 0, tolerance: float = 1e-3) -> Separability:
    """Whether an output is a sum or a product of functions of fewer inputs, evaluated on the rows of `data`.

    It follows KAN 2.0 (arXiv:2408.10205), with exact derivatives of the network. A trained network never separates
    exactly: if it is noisy, use a larger `tolerance`. Splines of order 1 have no second derivative, so a network of
    them looks separable.

    Parameters
    ----------
    kan : Kan
        The network.
    data : Dataset or array_like of shape (n_samples, n_inputs), optional
        Samples in raw units; by default 1000 of the training range.
    output : str or int, default=0
        The name or the index of the output.
    tolerance : float, default=1e-3
        The share of the output's variance up to which two inputs count as separate, between 0 and 1.

    Returns
    -------
    Separability
        `terms` and `factors` are the parts of the sum and of the product; `additive` and `multiplicative`, of shape
        (n_inputs, n_inputs), are shares of the output's variance. It prints as a few lines and has `.plot()`.

    Raises
    ------
    InputError
        Unknown output, or the tolerance is not between 0 and 1.
    DataError
        The samples have another number of columns, or the network is finite on fewer than ten of them.

    Examples
    --------
    >>> import kanserve
    >>> kanserve.separability(kanserve.from_formula("x*y + z")).terms
    (('x', 'y'), ('z',))
    """
    tolerance = check_tolerance(tolerance)
    question = ask(kan, data, output)
    variance = float(question.y.var())
    product = question.slopes[:, :, None] * question.slopes[:, None, :]
    ratio = question.y[:, None, None] * question.bends - product
    with np.errstate(all="ignore"):
        additive = (question.bends**2).mean(axis=0) / variance
        multiplicative = (ratio**2).mean(axis=0) / (question.y**2).mean() / variance
    if variance == 0:
        additive, multiplicative = np.zeros_like(additive), np.zeros_like(additive)
    for shares in (additive, multiplicative):
        np.fill_diagonal(shares, np.nan)
    name, names = kan.outputs[question.q].name, names_of(kan)
    return Separability(name, names, question.used, question.piecewise, additive, multiplicative, tolerance)
