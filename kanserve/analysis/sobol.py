"""Sobol indices: how much of an output's variance is due to one input, and how much to two of them together.

Sobol's analysis of variance for independent inputs writes the output as a sum of functions of one input, of two, and so
on, whose variances add up to its own. With two independent draws a and b of the inputs,

    first[i] = the part of x_i alone                              (Saltelli et al., 2010)
    total[i] = all parts in which x_i is                          = E[(f(a) - f(a, x_i of b))²]/2      (Jansen)
    pairs[i, j] = all parts with both x_i and x_j                 = E[(difference by both)²]/4   (Liu and Owen, 2006)

as shares of the variance. Each input is drawn independently from its own column of the data. This removes dependence
between inputs, so an interaction is a property of the network and not of the data.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kanserve.analysis.samples import Data, names_of, output_of, rows_of
from kanserve.errors import DataError
from kanserve.network.evaluate import evaluate
from kanserve.network.kan import Kan
from kanserve.plot.result_charts import draw_matrix

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from kanserve.plot.matplotlib_scene import Width
    from kanserve.plot.palette import Theme

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Interactions:
    """Sobol indices, shares of an output's variance: of each input, and of two inputs together.

    They are means over draws, with standard errors; the error of `first` is about 1/sqrt(draws).

    Parameters
    ----------
    output : str
        The output's name.
    inputs : tuple of str
        The names of the I inputs.
    first : ndarray of shape (I,)
        The share of each input alone.
    total : ndarray of shape (I,)
        The share of each input with all its interactions.
    pairs : ndarray of shape (I, I)
        The shares of two inputs together, exactly 0 for inputs without interaction. The diagonal is NaN.
    errors, pair_errors : ndarray of shape (I,) and (I, I)
        The standard errors of `total` and `pairs`.

    Examples
    --------
    >>> import kanserve
    >>> found = kanserve.interactions(kanserve.from_formula("x*y + z"))
    >>> print(found)
    y: shares of its variance (alone, and with all others)
      z: 0.720, 0.720 ± 0.02
      y: 0.000, 0.264 ± 0.01
      x: 0.000, 0.256 ± 0.01
      x with y: 0.283 ± 0.01
    """

    output: str
    inputs: tuple[str, ...]
    first: Array
    total: Array
    pairs: Array
    errors: Array
    pair_errors: Array

    def __str__(self) -> str:
        order = np.argsort(-self.total, kind="stable")
        lines = [f"{self.output}: shares of its variance (alone, and with all others)"]
        lines += [f"  {self.inputs[i]}: {self.first[i]:.3f}, {self.total[i]:.3f} ± {self.errors[i]:.1g}" for i in order]
        rows, columns = np.triu_indices(len(self.inputs), 1)
        pairs = sorted(zip(rows.tolist(), columns.tolist(), strict=True), key=lambda pair: -self.pairs[pair])
        lines += [
            f"  {self.inputs[i]} with {self.inputs[j]}: {self.pairs[i, j]:.3f} ± {self.pair_errors[i, j]:.1g}"
            for i, j in pairs
            if self.pairs[i, j] >= 0.0005
        ]
        return "\n".join(lines)

    def plot(self, ax: "Axes | None" = None, *, theme: "Theme" = "auto", width: "Width" = None) -> "Axes":
        """A matrix with each input's first-order share on the diagonal, and the pairs' shares elsewhere.

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
        >>> axes = kanserve.interactions(kanserve.from_formula("x*y + z")).plot()
        >>> axes.get_title()
        'y: shares of the variance\\ndiagonal: one input alone'
        """
        values = self.pairs.copy()
        np.fill_diagonal(values, self.first)
        title = f"{self.output}: shares of the variance\ndiagonal: one input alone"
        return draw_matrix(values, self.inputs, self.inputs, title, ax, theme=theme, width=width)


def interactions(
    kan: Kan, data: Data = None, *, output: int | str = 0, draws: int = 2000, seed: int = 0
) -> Interactions:
    """How much of an output's variance is due to one input, and how much to two together: Sobol indices.

    Each input is drawn independently, from its column of `data` or from its training range. Draws on which the network
    is not finite are ignored. It takes draws·(2 + I + I·(I-1)/2) evaluations for I inputs. The estimators are those of
    Saltelli et al. (2010), Jansen, and Liu and Owen (2006).

    Parameters
    ----------
    kan : Kan
        The network.
    data : Dataset or array_like of shape (n_samples, n_inputs), optional
        Samples in raw units; by default samples of the training range.
    output : str or int, default=0
        The name or the index of the output.
    draws : int, default=2000
        How many pairs of samples are drawn; the error of a share is about 1/sqrt(draws).
    seed : int, default=0
        Equal seeds give equal shares.

    Returns
    -------
    Interactions
        `first` and `total`, of shape (n_inputs,), and `pairs`, of shape (n_inputs, n_inputs), as shares of the output's
        variance, with their standard errors. It prints as a few lines and has `.plot()`.

    Raises
    ------
    InputError
        Unknown output.
    DataError
        The samples have another number of columns, or the network is finite on fewer than ten draws.

    Examples
    --------
    >>> import kanserve
    >>> found = kanserve.interactions(kanserve.from_formula("x*y + z"))
    >>> found.pairs.round(1).tolist()
    [[nan, 0.3, 0.0], [0.3, nan, 0.0], [0.0, 0.0, nan]]
    """
    q, count = output_of(kan, output), len(kan.inputs)
    finite = rows_of(kan, data, draws)
    if not len(finite):
        raise DataError("The network is finite on none of the rows.")
    a, b = _draws(finite, draws, seed)
    rows, columns = np.triu_indices(count, 1)

    def evaluate_moved(*moved: int) -> Array:
        x = a.copy()
        x[:, moved] = b[:, moved]
        return evaluate(kan, x)[:, q]

    base, other = evaluate(kan, a)[:, q], evaluate(kan, b)[:, q]
    single = np.stack([evaluate_moved(i) for i in range(count)])
    both = (
        np.stack([evaluate_moved(i, j) for i, j in zip(rows.tolist(), columns.tolist(), strict=True)])
        if count > 1
        else single[:0]
    )
    fine = np.isfinite(np.concatenate([base[None], other[None], single, both])).all(axis=0)
    if fine.sum() < 10:
        raise DataError(f"Ten draws are needed on which the network is finite, got {fine.sum()} of {draws}.")
    base, other, single, both = base[fine], other[fine], single[:, fine], both[:, fine]
    variance = np.concatenate([base, other]).var()
    scale = 1 / variance if variance > 0 else 0.0
    mean = np.concatenate([base, other]).mean()
    first, _ = _mean((other - mean) * (single - base) * scale)
    total, errors = _mean((single - base) ** 2 * (scale / 2))
    pairs, pair_errors = _mean((base - single[rows] - single[columns] + both) ** 2 * (scale / 4))
    return Interactions(
        kan.outputs[q].name,
        names_of(kan),
        np.clip(first, 0, total),
        total,
        _square(pairs, count),
        errors,
        _square(pair_errors, count),
    )


def _draws(x: Array, draws: int, seed: int) -> tuple[Array, Array]:
    """Two sets of rows (draws, I), with each column drawn independently from that of x."""
    random = np.random.default_rng(seed)
    picked = random.integers(0, len(x), (2, draws, x.shape[1]))
    return x[picked[0], np.arange(x.shape[1])], x[picked[1], np.arange(x.shape[1])]


def _mean(values: Array) -> tuple[Array, Array]:
    """The mean of each row, and its standard error."""
    return values.mean(axis=1), values.std(axis=1) / np.sqrt(values.shape[1])


def _square(pairs: Array, count: int) -> Array:
    result = np.full((count, count), np.nan)
    rows, columns = np.triu_indices(count, 1)
    result[rows, columns] = result[columns, rows] = pairs
    return result
