"""Trade accuracy for a formula: fewer edges, then named functions."""

from typing import Literal

from kanserve.data.dataset import Target, TrainingData, dataset
from kanserve.network.kan import Kan
from kanserve.simplification.architecture_search import discover
from kanserve.simplification.pruning import prune
from kanserve.simplification.symbolification import symbolify
from kanserve.simplification.validation import SimplifyReport, SimplifyStep, refitted_on_all_rows

__all__ = ["SimplifyReport", "SimplifyStep", "discover", "prune", "simplify", "symbolify"]

NEGLIGIBLE = 1e-6
"""Of an output's standard deviation: what named functions may lose to become fewer."""


def simplify(
    kan: Kan,
    data: TrainingData,
    *,
    target: Target = None,
    tolerance: float | Literal["auto"] = "auto",
    all_edges: bool = False,
    seed: int = 0,
    report: SimplifyReport | None = None,
) -> Kan:
    """The pipeline: take out what the data do not ask for, name the functions that are left, refit on all rows.

    A fifth of the rows judges each step (`report` is told), or a fifth after the other of few that are classified;
    only the last refit sees them all. The options are those of
    `prune` and `symbolify`. Equal arguments give equal networks, bit for bit.

    Parameters
    ----------
    kan : Kan
        The network.
    data : Dataset, tuple of array_like or DataFrame
        Samples: a Dataset, (x, y), or a table of pandas or polars with `target`.
    target : str or sequence of str, optional
        Of a DataFrame, the columns to learn.
    tolerance : float or "auto", default="auto"
        What a simpler network may lose, in standard deviations of each output.
    all_edges : bool
        Name every edge that a function can stand for, whatever it costs.
    seed : int, default=0
        Equal seeds give equal networks, bit for bit.
    report : callable, optional
        Called with each step that is kept.

    Returns
    -------
    Kan
        The simpler network.

    Raises
    ------
    DataError
        The data are of another shape, or not numbers.

    Examples
    --------
    >>> import kanserve, numpy as np
    >>> x = np.random.default_rng(0).uniform(-1, 1, (100, 2))
    >>> data = x, x[:, 0] ** 2
    >>> kan = kanserve.fit([2, 1], data, starts=1)
    >>> kanserve.simplify(kan, data).formula().text
    'x1^2'
    """
    data = dataset(data, target, classes=kan.classes)
    kan = prune(kan, data, tolerance=tolerance, seed=seed, report=report)
    kan = symbolify(kan, data, tolerance=tolerance, all_edges=all_edges, seed=seed, report=report)
    if kan.symbolic:
        kan = prune(kan, data, tolerance=NEGLIGIBLE, seed=seed, report=report)
    return refitted_on_all_rows(kan, data, seed)
