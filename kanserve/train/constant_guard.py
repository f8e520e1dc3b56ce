"""Errors of a network row by row, beside the best constant; and a network that is no worse than that."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset
from kanserve.network.evaluate import evaluate
from kanserve.network.kan import Kan
from kanserve.train.losses import LEAST_SHARE, LossFunction
from kanserve.train.normalising import without_edges
from kanserve.train.scoring import cross_entropies

Array = NDArray[np.float64]


def scores(kan: Kan, x: Array) -> Array:
    """The normalised outputs (N, Q): (output - shift) / scale."""
    with np.errstate(all="ignore"):
        found: Array = (evaluate(kan, x) - kan.output_shift) / kan.output_scale
    return found


def errors(kan: Kan, data: Dataset, loss: LossFunction | None = None) -> Array:
    """The loss of each row (N,), infinite if not finite; by default the squared error relative to output scales."""
    with np.errstate(all="ignore"):
        return errors_of_outputs(kan, evaluate(kan, data.x), data, loss)


def errors_of_outputs(kan: Kan, outputs: Array, data: Dataset, loss: LossFunction | None = None) -> Array:
    """The losses (N,) of these outputs (N, Q), as in `errors`."""
    with np.errstate(all="ignore"):
        if loss is not None and loss.name != "squared":
            return loss.values((outputs - kan.output_shift) / kan.output_scale, loss.answers(kan, data.y))
        squares: Array = (((outputs - data.y) / kan.output_scale) ** 2).mean(axis=1)
    return np.where(np.isfinite(squares), squares, np.inf)


def errors_of_constant(kan: Kan, train: Dataset, judges: Dataset, loss: LossFunction) -> Array:
    """The losses (N,) of the constants that are best on the training rows, as in `errors`."""
    constant = loss.constant(loss.answers(kan, train.y), train.weights)
    u = np.broadcast_to(constant, judges.y.shape)
    t = loss.answers(kan, judges.y)
    if loss.name == "squared":
        result: Array = ((u - t) ** 2).mean(axis=1)
        return result
    return loss.values(u, t)


def no_worse_than_a_constant(kan: Kan, data: Dataset, loss: LossFunction) -> Kan:
    """The network, or a constant one if that has a lower loss. With squared loss, each output is judged alone."""
    if loss.name == "squared":
        return no_worse_than_the_mean(kan, data)
    if loss.name == "cross_entropy":
        return no_worse_than_the_shares(kan, data)
    own = data.mean(errors(kan, data, loss))
    if own <= data.mean(errors_of_constant(kan, data, data, loss)):
        return kan
    plain = without_edges(kan, np.ones(len(kan.outputs), bool))
    constant = loss.constant(loss.answers(kan, data.y), data.weights)
    return replace(plain, layers=(*plain.layers[:-1], replace(plain.layers[-1], node_bias=constant)))


def no_worse_than_the_mean(kan: Kan, data: Dataset) -> Kan:
    """Replace each output that predicts worse than its mean by that mean."""
    with np.errstate(all="ignore"):
        squares = data.mean(((evaluate(kan, data.x) - data.y) / kan.output_scale) ** 2)
        mean = data.mean(((data.y - kan.output_shift) / kan.output_scale) ** 2)
    return without_edges(kan, ~(squares <= mean))


def no_worse_than_the_shares(kan: Kan, data: Dataset) -> Kan:
    """The classifier, or a constant one that predicts the class frequencies if that has a lower cross-entropy."""
    scores = scores_of_shares(data)
    constant = data.mean(cross_entropies(np.broadcast_to(scores, data.y.shape), data.y))
    with np.errstate(all="ignore"):
        answers = evaluate(kan, data.x)
    if data.mean(cross_entropies(answers, data.y)) <= constant:
        return kan
    plain = without_edges(kan, np.ones(len(scores), bool))
    return replace(plain, layers=(*plain.layers[:-1], replace(plain.layers[-1], node_bias=scores)))


def scores_of_shares(data: Dataset) -> Array:
    """The scores (classes,) whose softmax gives the class frequencies."""
    result: Array = np.log(np.maximum(data.mean(data.y), LEAST_SHARE))
    return result


def shrunk_to_the_shares(kan: Kan, data: Dataset, share: float) -> Kan:
    """Shrink a classifier's scores towards those of the class frequencies: `share` of the old scores stays."""
    if share == 1:
        return kan
    rest = (1 - share) * scores_of_shares(data)
    members = tuple(shrunk_to_the_shares(one, data, share) for one in kan.members)
    return replace(
        kan, output_scale=share * kan.output_scale, output_shift=share * kan.output_shift + rest, members=members
    )
