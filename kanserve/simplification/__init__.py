"""Simplify a network towards a formula: prune edges, then replace splines by named functions."""

from dataclasses import replace
from typing import Literal

from kanserve.data.dataset import Target, TrainingData
from kanserve.network.fitted_rows import hash_rows, record_rows
from kanserve.network.kan import Kan, require_kan
from kanserve.network.parameter_names import names_parameters
from kanserve.simplification.architecture_search import discover
from kanserve.simplification.distillation import distil
from kanserve.simplification.pruning import prune
from kanserve.simplification.symbolification import symbolify
from kanserve.simplification.validation import SimplifyReport, SimplifyStep, refit_on_all_rows, with_inputs
from kanserve.train.encoded_data import in_numbers, samples_for
from kanserve.train.fit_progress import reporting

# Error that pruning may add once all edges have names, in standard deviations of an output.
SIMPLIFY_NEGLIGIBLE_ERROR = 1e-6

__all__ = ["SimplifyReport", "SimplifyStep", "discover", "prune", "simplify", "symbolify"]


@names_parameters()
def simplify(
    kan: Kan,
    data: TrainingData,
    *,
    target: Target = None,
    tolerance: float | Literal["auto"] = "auto",
    all_edges: bool = False,
    seed: int = 0,
    progress: bool | SimplifyReport = False,
) -> Kan:
    """The whole pipeline: prune, replace splines by named functions, prune again, refit on all rows.

    A mean of networks (`Kan.members`) is first replaced by one narrow network that learns its outputs, if that
    predicts held-out rows as well. Each step is validated on a held-out fifth of the rows; only the last refit uses all
    rows. The options are those of `prune` and `symbolify`. Equal arguments give equal networks, bit for bit on one kind
    of processor.

    Parameters
    ----------
    kan : Kan
        The network.
    data : Dataset, tuple of array_like or DataFrame
        Samples: a Dataset, (x, y), or a pandas or polars table with `target`.
    target : str or sequence of str, optional
        The columns of a DataFrame to learn.
    tolerance : float or "auto", default="auto"
        The error that a simpler network may add, in standard deviations of each output.
    all_edges : bool
        Name every edge for which there is a function, regardless of the error.
    seed : int, default=0
        Equal seeds give equal networks.
    progress : bool or callable, default=False
        True shows the progress: in a notebook as a picture, elsewhere as lines on the standard error. A callable is
        called with each step that is kept, a `SimplifyStep`.

    Returns
    -------
    Kan
        The simpler network.

    Raises
    ------
    DataError
        The data do not fit the network, or are not numbers.

    Examples
    --------
    >>> import kanserve, numpy as np
    >>> x = np.random.default_rng(0).uniform(-1, 1, (100, 2))
    >>> data = x, x[:, 0] ** 2
    >>> kan = kanserve.fit([2, 1], data, starts=1)
    >>> kanserve.simplify(kan, data).formula().text
    'x1^2'
    """
    require_kan(kan)
    first, rows = kan, samples_for(kan, data, target)
    kan, data = in_numbers(kan, rows)
    with reporting(progress) as report:
        told = with_inputs(report, first.inputs) or False
        kan = distil(kan, data, tolerance, seed)
        kan = prune(kan, data, tolerance=tolerance, seed=seed, progress=told)
        kan = symbolify(kan, data, tolerance=tolerance, all_edges=all_edges, seed=seed, progress=told)
        if kan.symbolic:
            kan = prune(kan, data, tolerance=SIMPLIFY_NEGLIGIBLE_ERROR, seed=seed, progress=told)
    simple = replace(refit_on_all_rows(kan, data, seed), inputs=first.inputs)
    return record_rows(simple, first.fitted_rows, hash_rows(rows))
