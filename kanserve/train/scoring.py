"""How good a network is on rows with answers."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import DataError
from kanserve.ir import Kan
from kanserve.reference import evaluate, softmax
from kanserve.table import Dataset, dataset

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """Of each output the R² (1 is perfect, 0 as good as the mean) and the root mean squared error in its unit.

    `accuracy` is the share of rows whose highest score is their class, None for a regression. `loss` is the mean
    cross-entropy of a classifier (nats), else the mean squared error. All are NaN where a row has no finite answer.
    """

    r2: tuple[float, ...]
    rmse: tuple[float, ...]
    accuracy: float | None
    loss: float


def score(kan: Kan, data: Dataset | tuple[object, object]) -> Score:
    """Compare a network with the answers of `data`; a classifier's R² and error are those of its probabilities."""
    data = dataset(data)
    if data.y.shape[1] != len(kan.outputs):
        raise DataError(f"The network has {len(kan.outputs)} outputs, the data have {data.y.shape[1]}.")
    answers = evaluate(kan, data.x)
    accuracy = None
    if kan.classes:
        loss = cross_entropy(answers, data.y)
        accuracy = float((answers.argmax(axis=1) == data.y.argmax(axis=1)).mean()) if np.isfinite(loss) else np.nan
        answers = softmax(answers)
    with np.errstate(all="ignore"):
        # In units of the greatest answer, so that squares of large ones do not overflow.
        unit = np.maximum(np.abs(data.y).max(axis=0), np.finfo(np.float64).tiny)
        squares = (((answers - data.y) / unit) ** 2).mean(axis=0)
        rmse = np.sqrt(squares) * unit
        return Score(
            r2=tuple(_r2(float(error), column) for error, column in zip(squares, (data.y / unit).T, strict=True)),
            rmse=tuple(float(value) for value in rmse),
            accuracy=accuracy,
            loss=loss if kan.classes else float((rmse**2).mean()),
        )


def cross_entropy(scores: Array, y: Array) -> float:
    """The mean of -Σ y·log softmax(scores) over rows (N, classes)."""
    with np.errstate(all="ignore"):
        shifted = scores - scores.max(axis=1, keepdims=True)
        chances = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        return float(-(y * chances).sum(axis=1).mean())


def _r2(error: float, column: Array) -> float:
    """R² of a column of answers in units of the greatest of them."""
    variance = float(column.var())
    if np.ptp(column) > 1e-12:
        return 1.0 - error / variance
    # A constant answer: nothing to explain, so it is met or it is not.
    return float(error <= 1e-18) if np.isfinite(error) else np.nan
