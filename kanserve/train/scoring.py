"""Scores of a network on data: R², RMSE, accuracy and loss."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kanserve.data.dataset import Target, TrainingData
from kanserve.displays import display
from kanserve.errors import DataError
from kanserve.network.evaluate import evaluate, softmax
from kanserve.network.kan import Kan, require_kan
from kanserve.train.encoded_data import samples_for

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """How well a network answers samples; all are NaN if it is not finite on a row.

    Parameters
    ----------
    r2 : tuple of float
        R² of each output: 1 is perfect, 0 as good as the mean.
    rmse : tuple of float
        Root mean squared error of each output, in its unit.
    accuracy : float or None
        The share of rows whose class has the highest score; None for a regression.
    loss : float
        The mean cross-entropy of a classifier (nats), else the mean squared error.

    Examples
    --------
    >>> import kanserve
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> score = kanserve.score(kan, ([[0.0], [1.0]], [1.5, 3.0]))
    >>> round(score.r2[0], 3), round(score.rmse[0], 3), score.accuracy, round(score.loss, 3)
    (0.778, 0.354, None, 0.125)
    """

    r2: tuple[float, ...]
    rmse: tuple[float, ...]
    accuracy: float | None
    loss: float

    def _repr_html_(self) -> str:
        shown: str = display("score_page")(self)
        return shown


def score(kan: Kan, data: TrainingData, *, target: Target = None) -> Score:
    """Compare a network with the answers of `data`; a classifier's R² and error are those of its probabilities.

    Rows count by their weights, where the data have some.

    Parameters
    ----------
    kan : Kan
        The network.
    data : Dataset, tuple of array_like or DataFrame
        Samples: a Dataset, (x, y), or a table of pandas or polars with `target`.
    target : str or sequence of str, optional
        Of a DataFrame, the columns to learn.

    Returns
    -------
    Score
        `r2` and `rmse` per output, `accuracy` of a classifier, and the `loss` that a fit minimises.

    Raises
    ------
    DataError
        The data have other outputs or classes than the network.

    Examples
    --------
    >>> import kanserve
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> kanserve.score(kan, ([[0.0], [1.0]], [1.0, 3.0])).r2
    (1.0,)
    """
    require_kan(kan)
    data = samples_for(kan, data, target).counted()
    if data.y.shape[1] != len(kan.outputs):
        raise DataError(f"The network has {len(kan.outputs)} outputs, the data have {data.y.shape[1]}.")
    if kan.classes and data.classes and kan.classes != data.classes:
        raise DataError(
            f"The network's classes are {', '.join(kan.classes)}, those of the data {', '.join(data.classes)}."
        )
    answers = evaluate(kan, data.x)
    accuracy = None
    if kan.classes:
        loss = float(data.mean(cross_entropies(answers, data.y)))
        right = (answers.argmax(axis=1) == data.y.argmax(axis=1)).astype(np.float64)
        accuracy = float(data.mean(right)) if np.isfinite(loss) else np.nan
        answers = softmax(answers)
    with np.errstate(all="ignore"):
        # In units of the largest answer, so that squares do not overflow.
        unit = np.maximum(np.abs(data.y).max(axis=0), np.finfo(np.float64).tiny)
        squares = data.mean(((answers - data.y) / unit) ** 2)
        rmse = np.sqrt(squares) * unit
        y = data.y / unit
        variances = data.mean((y - data.mean(y)) ** 2)
        return Score(
            r2=tuple(map(_r2, squares.tolist(), variances.tolist(), np.ptp(y, axis=0).tolist())),
            rmse=tuple(float(value) for value in rmse),
            accuracy=accuracy,
            loss=loss if kan.classes else float((rmse**2).mean()),
        )


def cross_entropies(scores: Array, y: Array) -> Array:
    """The cross-entropy -Σ y·log softmax(scores) of each row, for scores and y (N, classes)."""
    with np.errstate(all="ignore"):
        shifted = scores - scores.max(axis=1, keepdims=True)
        chances = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        result: Array = -(y * chances).sum(axis=1)
    return result


def _r2(error: float, variance: float, spread: float) -> float:
    """R² of an output, from its squared error and its targets' variance and range, relative to the largest target."""
    if spread > 1e-12 and variance > 0:
        return 1.0 - error / variance
    # A constant answer has no variance: 1 if it is predicted, else 0.
    return float(error <= 1e-18) if np.isfinite(error) else np.nan
