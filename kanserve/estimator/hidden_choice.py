"""The hidden nodes of hidden="auto": the fewest that predict unseen rows not clearly worse than the best number does.

Each number is tried by short fits on three thirds of the rows in turn, or on a part of many rows. Few rows or much
noise are often predicted best without hidden nodes, by a curve for each input. The predictions also say whether there
is noise, against which the mean of several networks is better than one.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset
from kanserve.estimator.sample_weights import distinct
from kanserve.network.kan import Kan
from kanserve.train import create, fit
from kanserve.train.constant_guard import errors, errors_of_constant
from kanserve.train.encoded_data import is_encoded
from kanserve.train.encoding_search import in_numbers
from kanserve.train.fit_arguments import chosen_loss, held_out
from kanserve.train.fit_warnings import TrainingWarning
from kanserve.train.input_screening import narrowed_data
from kanserve.train.lm.telling_inputs import telling_inputs
from kanserve.train.normalising import normalised
from kanserve.train.target_means import check_inputs, first_encoding

Array = NDArray[np.float64]
Widths = tuple[int, ...]


# Hidden nodes that hidden="auto" tries: with fewer rows than MANY_ROWS, and with more, whose interactions can be
# learnt: of 30 inputs 10 nodes are fitted by LBFGS, in less time than 5 by Levenberg-Marquardt.
NODES: tuple[Widths, ...] = ((), (2,), (5,))
NODES_OF_MANY: tuple[Widths, ...] = ((), (10,))
MANY_ROWS = 10_000
# Up to so many all rows are predicted, each by networks that have not seen it; of more, a part.
FEW_ROWS = 5000
FOLDS = 3
CLEAR = 4.0  # standard errors from which on a number is too far behind the best to be tried on a further fold
CLEAR_ROWS = 200  # unseen rows that this takes, at least
MOST_INPUTS = 30  # with more inputs one fold and one network are enough: a fit takes long
GRID = (3, 5)
STARTS = 2
STEPS = 20
SHARE = 0.5  # of a standard error, by which fewer nodes may be worse
NETWORKS = 5  # of which the mean is taken: of fewer than MANY_ROWS with noise, and up to MOST_INPUTS
NOISE = 0.01  # of a constant's loss on unseen rows: with less, one network is enough

DEFAULTS = {"loss": "auto", "quantile": 0.5, "power": 1.5, "optimizer": "auto", "screen": True, "monotonic_cst": None}
"""Of the options of `fit` that the choice reads."""

# Of a classifier: many nodes classify better, or the mean of networks with few of few rows; formulas need few.
MANY_NODES, FEW_NODES, NODES_OF_FORMULAS = (32,), (8,), (5,)
FEW_ROWS = 1000


def automatic_nodes(
    data: Dataset, order: int, options: Mapping[str, Any], seed: int, *, formulas: bool = False
) -> tuple[Widths, int]:
    """The hidden nodes of hidden="auto", of estimators and of `kanserve fit`; and the number of networks to average.

    `options` are arguments of `fit`. With `formulas` a classifier has few nodes, since its scores become formulas.
    """
    if not data.classes:
        x, y, weights = distinct(data.x, data.y, data.weights)  # so that the order of the rows does not matter
        return chosen_nodes(replace(data, x=x, y=y, weights=weights), order, options, seed)
    if formulas or options.get("monotonic_cst") is not None:
        return NODES_OF_FORMULAS, 1
    if len(data) < FEW_ROWS and len(data.classes) <= FEW_NODES[0]:
        return FEW_NODES, MANY_NODES[0] // FEW_NODES[0]
    return MANY_NODES, 1


def chosen_nodes(data: Dataset, order: int, options: Mapping[str, Any], seed: int) -> tuple[Widths, int]:
    """The hidden nodes for these samples and options of `fit`, and of how many networks the mean is best taken."""
    options = {**DEFAULTS, **options}
    candidates = NODES_OF_MANY if len(data) >= MANY_ROWS else NODES
    if is_encoded(data):
        check_inputs(data)
        data = in_numbers(data, first_encoding(data, np.asarray(np.isnan(data.x).any(axis=0)), ranks=True))
    given = {**options, "steps": STEPS, "starts": STARTS}
    inputs, optimizer = data.x.shape[1], options["optimizer"]
    if candidates is NODES_OF_MANY and options["screen"] and options["monotonic_cst"] is None:
        data = _narrowed(data, options, seed)
        if data.x.shape[1] < inputs and optimizer == "auto":
            optimizer = "lbfgs"  # as of a network of all inputs
    folds = _folds(data, seed)
    left = {nodes: np.empty(0) for nodes in candidates}
    for count in range(1, len(folds) + 1):
        for nodes, before in left.items():
            own = {**given, "optimizer": optimizer} if nodes else given
            left[nodes] = np.concatenate([before, _errors(data, *folds[count - 1], nodes, order, own, seed)])
        left = _not_far_behind(left)
        if len(left) == 1:
            folds = folds[:count]
            break
    chosen = _simplest(left)
    losses = left[chosen]
    short = candidates is NODES and inputs <= MOST_INPUTS
    noisy = len(losses) > 0 and float(losses.mean()) > NOISE * float(_of_constants(data, folds, options).mean())
    return chosen, NETWORKS if short and noisy else 1


def _narrowed(data: Dataset, options: Mapping[str, Any], seed: int) -> Dataset:
    """The samples with the inputs alone that tell something about the answers of a part."""
    rows = data.sample(2 * FEW_ROWS, seed)
    of = chosen_loss(options["loss"], options["quantile"], options["power"], data)
    template = normalised(create([data.x.shape[1], data.y.shape[1]]), rows, of)
    return narrowed_data(data, telling_inputs(template, rows, of, seed))


def _folds(data: Dataset, seed: int) -> list[tuple[Dataset, Dataset]]:
    """Training rows, and rows to judge by."""
    if len(data) > 2 * FEW_ROWS:
        data = data.sample(2 * FEW_ROWS, seed)
    count = FOLDS if len(data) <= FEW_ROWS and data.x.shape[1] <= MOST_INPUTS else 1
    left = np.arange(len(data))
    folds: list[tuple[Dataset, Dataset]] = []
    for fold in range(count):
        part = 0.5 if len(data) > FEW_ROWS else 1 / (FOLDS - fold)
        out = None if part == 1 else held_out(data.take(left), part, len(left), seed)[0]
        if out is None:  # all that are left, or too few rows
            out = np.arange(len(left) if folds else 0)
        if len(out) == 0:
            break
        folds.append((data.without(left[out]), data.take(left[out])))
        left = np.delete(left, out)
    return folds


def _errors(
    data: Dataset, train: Dataset, judges: Dataset, nodes: Widths, order: int, options: Mapping[str, Any], seed: int
) -> Array:
    """The loss of each row of `judges` for a network of so many hidden nodes that has not seen it."""
    of = chosen_loss(options["loss"], options["quantile"], options["power"], data)
    begin = create([data.x.shape[1], *nodes, data.y.shape[1]], grid=GRID[0], order=order, seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrainingWarning)
        kan: Kan = fit(begin, train, grid=GRID, seed=seed, **options)
    return errors(kan, judges, of) * len(judges) * judges.shares


def _of_constants(data: Dataset, folds: Sequence[tuple[Dataset, Dataset]], options: Mapping[str, Any]) -> Array:
    """The loss of each row if a constant were predicted."""
    of = chosen_loss(options["loss"], options["quantile"], options["power"], data)
    shape = [data.x.shape[1], data.y.shape[1]]
    found = []
    for train, judges in folds:
        plain = normalised(create(shape), train, of)
        found.append(errors_of_constant(plain, train, judges, of) * len(judges) * judges.shares)
    return np.concatenate(found)


def _not_far_behind(found: Mapping[Widths, Array]) -> dict[Widths, Array]:
    """Those numbers of nodes that further folds may still choose."""
    best = found[_best(found)]
    if len(best) < CLEAR_ROWS or not np.isfinite(best).all():
        return {**found}
    return {nodes: losses for nodes, losses in found.items() if not _is_worse(losses, best, CLEAR)}


def _best(found: Mapping[Widths, Array]) -> Widths:
    return min(found, key=lambda nodes: float(np.where(np.isfinite(found[nodes]), found[nodes], np.inf).mean()))


def _is_worse(losses: Array, best: Array, times: float) -> bool:
    """Whether losses are not finite, or on average above the best by so many standard errors of the difference."""
    if not np.isfinite(losses).all():
        return True
    worse = losses - best
    return bool(worse.mean() > times * worse.std() / np.sqrt(len(worse)))


def _simplest(found: Mapping[Widths, Array]) -> Widths:
    """The first whose losses are not clearly worse, row by row, than those of the best."""
    first, *_ = found
    best = found[_best(found)] if len(found[first]) else found[first]
    good = (nodes for nodes, losses in found.items() if len(best) and not _is_worse(losses, best, SHARE))
    return next(good, first)
