"""Choose the inputs of a regression that has many rows, or few per parameter; the edges of the others are pruned. An
input is kept if the mean target differs between eight groups of its values by more than chance. The same is tested on
the residuals of an additive fit to the kept inputs, and on their squares, and pairs of inputs are tested by whether
residuals follow their product. If polynomials of all inputs predict better than those of the kept ones, or no input
passes, all are kept."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kanserve.data.dataset import Dataset
from kanserve.data.row_weights import mean_difference
from kanserve.network.kan import Kan
from kanserve.network.splines import uniform_knots
from kanserve.train.constant_guard import scores
from kanserve.train.losses import LossFunction

Array = NDArray[np.float64]

INPUTS = 20  # with fewer inputs none is left out
GROUPS = 8  # of an input's values, of equal size
SCREENING_CERTAIN = 4.0  # standard deviations by which an input must tell more than chance does
# Standard deviations by which a product of two inputs must tell more than the largest of all does by chance.
PAIR_CERTAIN = 1.0
POLYNOMIAL_ROWS = 5000  # enough to compare polynomials of all inputs with those of some
POLYNOMIAL_RIDGES = (1e-3, 1e-2, 1e-1)  # of the polynomials' coefficients, of which the best counts
POLYNOMIAL_GAIN = 0.1  # of the squared error with the inputs kept: if those of all have so much less, all are kept
POLYNOMIAL_CERTAIN = 2.0  # standard errors by which they must be better
REACH = 4.0  # median deviations from the median up to which answers count
BATCHES_KEPT = 2**23  # numbers, 64 MiB: up to here all rows are kept as tensors


def screenable(kan: Kan) -> bool:
    """Whether inputs may be pruned: there are many, and none is pruned yet."""
    return kan.layers[0].inputs >= INPUTS and bool(kan.layers[0].alive.all())


def worth_of(x: Array, t: Array) -> Array:
    """How much each input (I,) explains of t (N, Q) beyond chance, in standard deviations."""
    found = np.zeros(x.shape[1])
    bins = GROUPS
    chance, spread = bins - 1, np.sqrt(2.0 * (bins - 1))
    centred = t - t.mean(axis=0)
    total = np.maximum(np.square(centred).mean(axis=0), np.finfo(np.float64).tiny)
    for i in range(x.shape[1]):
        edges = np.unique(np.quantile(x[:, i], np.linspace(0, 1, bins + 1)[1:-1]))
        group = np.searchsorted(edges, x[:, i], side="left")
        count = np.bincount(group, minlength=bins)
        for q in range(t.shape[1]):
            sums = np.bincount(group, centred[:, q], bins)
            explained = float((sums**2 / np.maximum(count, 1)).sum() / total[q])
            found[i] = max(found[i], (explained - chance) / spread)
    return found


def rate_pairs(x: Array, r: Array) -> Array:
    """How much each input (I,) explains of r (N, Q) through a product with another input, in the unit of `worth_of`.
    Above SCREENING_CERTAIN, the product explains more than the best of all pairs would by chance."""
    count, inputs = x.shape
    z = np.sqrt(3) * (2 * _ranks(x) / count - 1)
    spread = np.sqrt((z**2).T @ z**2 / count - (z.T @ z / count) ** 2)
    limit = np.sqrt(2 * np.log(max(inputs * (inputs - 1) / 2, 1))) + PAIR_CERTAIN
    found = np.zeros(inputs)
    for values in (r - r.mean(axis=0)).T:
        size = max(float(np.sqrt(np.square(values).mean())), np.finfo(np.float64).tiny)
        by_pair = np.abs((z * (values / size)[:, None]).T @ z) / np.sqrt(count) / np.maximum(spread, 1e-3)
        np.fill_diagonal(by_pair, 0.0)
        found = np.maximum(found, by_pair.max(axis=1))
    return np.asarray(SCREENING_CERTAIN * (found / limit) ** 2)


def all_predict_better(x: Array, t: Array, chosen: NDArray[np.bool_], seed: int) -> bool:
    """Whether cubic polynomials of all inputs (N, I), fitted to four fifths of the rows, predict t (N, Q) on the other
    rows clearly better than those of the chosen inputs (I,)."""
    order = np.random.default_rng(seed).permutation(len(x))[:POLYNOMIAL_ROWS]
    x, t = x[order], t[order]
    z = 2 * _ranks(x) / len(x) - 1
    every = np.stack([z, 1.5 * z**2 - 0.5, 2.5 * z**3 - 1.5 * z], axis=2)
    few, whole = (_errors_on_held_out(z.reshape(len(x), -1), t) for z in (every[:, chosen], every))
    gain, error = mean_difference(few, whole)
    return bool(gain > max(POLYNOMIAL_GAIN * few.mean(), POLYNOMIAL_CERTAIN * error))


def _errors_on_held_out(features: Array, t: Array) -> Array:
    """The squared errors on the first fifth of the rows of a ridge regression of the rest, at the best strength."""
    judged = len(t) // 5
    mean, middle = t[judged:].mean(axis=0), features[judged:].mean(axis=0)
    u, size, v = np.linalg.svd(features[judged:] - middle, full_matrices=False)
    weights = u.T @ (t[judged:] - mean)
    found: list[Array] = []
    for ridge in POLYNOMIAL_RIDGES:
        shrunk = (size / (size**2 + ridge * (len(t) - judged)))[:, None]
        predicted = mean + (features[:judged] - middle) @ (v.T @ (shrunk * weights))
        found.append(np.asarray(np.square(t[:judged] - predicted).sum(axis=1), np.float64))
    return min(found, key=lambda errors: float(errors.mean()))


def _ranks(x: Array) -> Array:
    """The ranks (N, I) of each input's values, from 0.5 to N - 0.5."""
    return np.asarray(np.argsort(np.argsort(x, axis=0, kind="stable"), axis=0) + 0.5, np.float64)


def narrow(kan: Kan, kept: NDArray[np.bool_]) -> Kan:
    """Restrict the network to the inputs in the mask `kept` (I,)."""
    first = kan.layers[0]
    layer = replace(
        first,
        knots=first.knots[kept],
        coefficients=first.coefficients[:, kept],
        base_weight=first.base_weight[:, kept],
        functions=first.functions[:, kept],
        affine=first.affine[:, kept],
    )
    return replace(
        kan,
        layers=(layer, *kan.layers[1:]),
        inputs=tuple(np.array(kan.inputs, dtype=object)[kept]),
        input_shift=kan.input_shift[kept],
        input_scale=kan.input_scale[kept],
    )


def narrow_data(data: Dataset, kept: NDArray[np.bool_]) -> Dataset:
    """Restrict the samples to the inputs in the mask `kept`."""
    names = tuple(name for name, keep in zip(data.inputs, kept, strict=True) if keep)
    return replace(data, x=data.x[:, kept], inputs=names)


def widen(kan: Kan, whole: Kan, kept: NDArray[np.bool_]) -> Kan:
    """Undo `narrow`: add the other inputs of `whole` back, with pruned edges."""
    first, old = kan.layers[0], whole.layers[0]
    count = len(kept)
    coefficients = np.zeros((first.subnodes, count, first.coefficients.shape[2]))
    coefficients[:, kept] = first.coefficients
    base_weight, functions = np.zeros((first.subnodes, count)), np.full((first.subnodes, count), "", dtype=object)
    base_weight[:, kept], functions[:, kept] = first.base_weight, first.functions
    affine = old.affine.copy()
    affine[:, kept] = first.affine
    knots = np.tile(uniform_knots(-1, 1, first.intervals, first.order), (count, 1))
    knots[kept] = first.knots
    layer = replace(
        first,
        knots=knots,
        coefficients=coefficients,
        base_weight=base_weight,
        functions=functions.astype(str),
        affine=affine,
    )
    return replace(
        kan,
        layers=(layer, *kan.layers[1:]),
        inputs=whole.inputs,
        input_shift=whole.input_shift,
        input_scale=whole.input_scale,
    )


def robust_answers(kan: Kan, data: Dataset, loss: LossFunction) -> Array:
    """The targets in the unit of the scores, clipped to a few robust standard deviations around their median."""
    t = loss.answers(kan, data.y)
    middle = np.median(t, axis=0)
    reach = REACH * np.maximum(np.median(np.abs(t - middle), axis=0), np.finfo(np.float64).tiny)
    return np.asarray(np.clip(t, middle - reach, middle + reach))


def residuals(kan: Kan, x: Array, t: Array) -> Array:
    """The residuals (N, Q): t minus the network's scores."""
    return t - scores(kan, x)
