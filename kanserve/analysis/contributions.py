"""How much each input contributes to a prediction: Shapley values (`network.shapley_values`), to print and to draw."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kanserve.analysis.samples import Data
from kanserve.errors import InputError
from kanserve.network.evaluate import Rows, as_rows
from kanserve.network.kan import Kan, Variable
from kanserve.network.shapley_values import Explainer, output_names
from kanserve.plot.contribution_bars import Bar, contribution_bars
from kanserve.plot.matplotlib_scene import colours, draw, pixels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from kanserve.plot.matplotlib_scene import Width
    from kanserve.plot.palette import Theme

Array = NDArray[np.float64]
SHOWN_ROWS, SHOWN_INPUTS = 3, 12  # in a text


@dataclass(frozen=True, eq=False)
class Contributions:
    """How much each input contributes to predictions, and what they are without: `base` plus `values` is a prediction.

    Parameters
    ----------
    inputs : tuple of Variable
        The I inputs of the network.
    outputs : tuple of str
        What is explained: the Q outputs; of two classes the log-odds of the second; of more each class's score minus
        the mean score of all classes.
    x : ndarray of shape (N, I)
        The rows, of categorical inputs the codes.
    base : ndarray of shape (Q,)
        The mean prediction of the background rows.
    values : ndarray of shape (N, Q, I)
        The contributions, in the units of the outputs. NaN where the network is not finite on a row, or on one that has
        some of its values and others of a background row.
    errors : ndarray of shape (N, Q, I)
        Standard errors; 0 where nothing is sampled.

    Examples
    --------
    >>> import kanserve
    >>> kan = kanserve.from_formula("x*y + 2*z", ranges={"x": (0, 1), "y": (0, 1), "z": (0, 1)})
    >>> print(kan.explain([[1.0, 1.0, 0.5]], [[0.0, 0.0, 0.0], [1.0, 0.0, 1.0]]))
    y = 2: 1 on average, and
      +0.75  y = 1
      +0.25  x = 1
      0      z = 0.5
    """

    inputs: tuple[Variable, ...]
    outputs: tuple[str, ...]
    x: Array
    base: Array
    values: Array
    errors: Array

    @property
    def predictions(self) -> Array:
        """What is explained, (N, Q): the base plus all contributions.

        Examples
        --------
        >>> import kanserve
        >>> kan = kanserve.from_formula("2*x", ranges={"x": (0, 1)})
        >>> kan.explain([[1.0]], [[0.0], [0.5]]).predictions.tolist()
        [[2.0]]
        """
        result: Array = self.base + self.values.sum(axis=2)
        return result

    def __str__(self) -> str:
        lines = []
        for row in range(min(len(self.x), SHOWN_ROWS)):
            for output, name in enumerate(self.outputs):
                first = f"{name} = {self.predictions[row, output]:.6g}: {self.base[output]:.6g} on average, and"
                written = [(bar.text, bar.label) for bar in bars(self, row, output)]
                wide = max(len(text) for text, _ in written)
                lines += [first, *(f"  {text:{wide}}  {label}" for text, label in written)]
        rest = len(self.x) - SHOWN_ROWS
        return "\n".join([*lines, *([f"and {rest} more rows"] if rest > 0 else [])])

    def plot(
        self,
        row: int = 0,
        output: int | str = 0,
        ax: "Axes | None" = None,
        *,
        theme: "Theme" = "auto",
        width: "Width" = None,
    ) -> "Axes":
        """Draw the contributions to one prediction as bars, from the base to the prediction.

        Parameters
        ----------
        row : int, default=0
            The row's number.
        output : str or int, default=0
            The name or the index of one of `outputs`.
        ax, theme, width : optional
            As in `kanserve.plot_network`.

        Returns
        -------
        Axes
            Matplotlib's.

        Raises
        ------
        InputError
            The row or output does not exist.
        MissingDependencyError
            Matplotlib is not installed.

        Examples
        --------
        >>> import kanserve
        >>> kan = kanserve.from_formula("x*y + z")
        >>> axes = kan.explain([[1.0, 0.5, 0.0]]).plot()
        """
        if not 0 <= row < len(self.x):
            raise InputError(f"There are rows 0 to {len(self.x) - 1}, got {row}.")
        q = self.outputs.index(output) if output in self.outputs else output
        if not isinstance(q, int) or not 0 <= q < len(self.outputs):
            raise InputError(f"What is explained is {', '.join(self.outputs)}; got {output!r:.80}.")
        scene = contribution_bars(self.outputs[q], float(self.base[q]), bars(self, row, q), pixels(width))
        return draw(scene, colours(theme, ax), ax, width)


def explain(kan: Kan, x: Rows, data: Data = None) -> Contributions:
    """How much each input contributes to each prediction: Shapley values, which add up to it.

    A contribution says how much the output changes from its mean over background rows since the input has the value it
    has. Of inputs that act together each has its part, the mean over all orders in which they may come. In an additive
    network it is the input's curve minus its mean. The network is explained, not the world: an input that only goes
    along with a cause has the contribution that the network gives it.

    Parameters
    ----------
    kan : Kan
        The network.
    x : array_like of shape (n_samples, n_inputs), DataFrame or Dataset
        The rows to explain, in raw units.
    data : Dataset or array_like of shape (n_rows, n_inputs), optional
        Background rows, such as the training rows: contributions are differences from their mean prediction. By default
        1000 samples in which each input is spread as in the training rows, which a fitted network knows in ten bins, or
        evenly over its range; that inputs go along with each other is lost. Up to 4000 rows count, by their weights:
        100 to 500 where many inputs interact.

    Returns
    -------
    Contributions
        `base` of shape (n_outputs,), and `values` and their standard `errors` of shape (n_samples, n_outputs,
        n_inputs). The errors are 0 in networks where no more than six inputs meet in one function. The values of a row
        are NaN if the network, or a sum of its outputs for the background rows, is not finite. It prints as a few lines
        and has `.plot()`.

    Raises
    ------
    DataError
        The data are of another shape, or the network is finite on none of the background rows.

    Examples
    --------
    >>> import kanserve
    >>> kan = kanserve.from_formula("x*y + 2*z", ranges={"x": (0, 1), "y": (0, 1), "z": (0, 1)})
    >>> found = kanserve.explain(kan, [[1.0, 1.0, 0.5]], [[0.0, 0.0, 0.0], [1.0, 0.0, 1.0]])
    >>> found.base.tolist(), found.values.tolist()
    ([1.0], [[[0.25, 0.75, 0.0]]])
    """
    rows, explainer = as_rows(kan, x), Explainer(kan, data)
    values, errors = explainer.explain(rows)
    return Contributions(kan.inputs, output_names(kan), rows, explainer.base, values, errors)


def bars(found: Contributions, row: int, output: int) -> list[Bar]:
    """The contributions to one prediction, largest first; those after the first SHOWN_INPUTS are summed in one bar."""
    values, errors = found.values[row, output], found.errors[row, output]
    order = np.argsort(-np.abs(values), kind="stable").tolist()
    names = [f"{v.name} = {format_value(v, float(value))}" for v, value in zip(found.inputs, found.x[row], strict=True)]
    made = [Bar(names[i], float(values[i]), float(errors[i])) for i in order[:SHOWN_INPUTS]]
    if rest := order[SHOWN_INPUTS:]:
        made.append(Bar(f"{len(rest)} more inputs", float(values[rest].sum()), float(np.hypot.reduce(errors[rest]))))
    return made


def format_value(variable: Variable, value: float) -> str:
    """A raw value of an input as text; a category by its name."""
    if np.isnan(value):
        return "missing"
    if variable.categories:
        return variable.categories[int(value)] if value in range(len(variable.categories)) else "unknown"
    return f"{value:.6g}" if abs(value) >= 1000 else f"{value:.4g}"
