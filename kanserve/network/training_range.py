"""The training range of a network: the range of each raw input, rows drawn from it, and rows outside it."""

import numpy as np
from numpy.typing import NDArray

from kanserve.data.near_names import first_names
from kanserve.network.encoding import is_outside
from kanserve.network.evaluate import activations, edges, evaluate
from kanserve.network.kan import Kan, Variable
from kanserve.network.signal_shares import find_used_inputs
from kanserve.network.splines import span

Array = NDArray[np.float64]
SHOWN = 5  # inputs in a message: more are not read


def ranges(kan: Kan) -> Array:
    """The training range (inputs, 2) of each input; if unknown, the range of the first layer's splines."""
    first = kan.layers[0]
    known = np.array([(variable.low, variable.high) for variable in kan.inputs])
    spans = np.array([span(first.knots[i], first.order) for i in range(first.inputs)])
    grid = np.sort(spans * kan.input_scale[:, None] + kan.input_shift[:, None], axis=1)
    return np.where(np.isfinite(known).all(axis=1, keepdims=True), known, grid)


def has_range(kan: Kan) -> NDArray[np.bool_]:
    """Mask (inputs,) of the inputs with a known range, from the variable or from its splines."""
    told = np.array([np.isfinite((variable.low, variable.high)).all() for variable in kan.inputs])
    result: NDArray[np.bool_] = told | kan.layers[0].spline_mask.any(axis=0)
    return result


def find_unused_inputs(kan: Kan) -> dict[str, float]:
    """The inputs that no output depends on, each with a value in the training range."""
    columns = zip(kan.inputs, ranges(kan).tolist(), kan.input_shift.tolist(), find_used_inputs(kan), strict=True)
    return {
        variable.name: middle_of(variable, low, high, shift)
        for variable, (low, high), shift, used in columns
        if not used
    }


def middle_of(variable: Variable, low: float, high: float, otherwise: float) -> float:
    """The middle of a range if it is finite, else `otherwise`; for a categorical input, a code."""
    middle = low / 2 + high / 2
    middle = float(np.floor(middle)) if variable.categories else middle
    return middle if np.isfinite(middle) else otherwise


def fill_unused(kan: Kan, x: Array) -> Array:
    """Rows x (N, inputs) with a value in the training range for each missing value of an input that no output depends
    on; x itself if there is none. Inputs with a fill value keep NaN: the network fills them itself."""
    empty = np.isnan(x)
    if not empty.any():  # first: for a single row, what follows takes seven times as long
        return x
    empty &= ~find_used_inputs(kan) & np.array([variable.fill_value is None for variable in kan.inputs])
    if not empty.any():
        return x
    unused = find_unused_inputs(kan)
    return np.where(empty, [unused.get(variable.name, np.nan) for variable in kan.inputs], x)


def corners(kan: Kan, most: int = 256) -> Array:
    """Rows at the corners of the ranges: all 2^inputs, or if that exceeds `most`, the two extremes and random ones."""
    spans = ranges(kan)
    count = len(spans)
    if 2**count <= most:
        ends = np.arange(2**count)[:, None] >> np.arange(count) & 1
    else:
        ends = np.random.default_rng(0).integers(0, 2, (most, count))
        ends[:2] = [[0], [1]]
    rows: Array = spans[np.arange(count), ends]
    return rows


def sample(kan: Kan, count: int, seed: int = 0) -> Array:
    """`count` random raw rows, uniform in the ranges and among the categories."""
    low, high = ranges(kan).T
    rows = np.random.default_rng(seed).uniform(low, high, (count, len(low)))
    for i, variable in enumerate(kan.inputs):
        if variable.categories:
            codes = np.floor(rows[:, i] * len(variable.categories) / max(len(variable.categories) - 1, 1))
            rows[:, i] = np.minimum(codes, len(variable.categories) - 1)
    return rows


def finite_rows(kan: Kan, count: int, seed: int = 0) -> Array:
    """Up to `count` random rows in the ranges on which the network is finite, for golden rows and self-tests."""
    rows = sample(kan, 4 * count, seed)
    return rows[np.isfinite(evaluate(kan, rows)).all(axis=1)][:count]


def breaking_point(kan: Kan) -> str:
    """An error text for a network that is finite nowhere in its training range: where it breaks, and what to do."""
    advice = "Give the inputs the ranges they were trained on (low, high), or another function or constants there."
    values = activations(kan, sample(kan, 100))
    if not np.isfinite(values[0]).all(axis=1).any():
        return f"The inputs, shifted and scaled, overflow. {advice}"
    for number, (layer, v, after) in enumerate(zip(kan.layers, values, values[1:], strict=False), start=1):
        if np.isfinite(after).all(axis=1).any():
            continue
        v = v[np.isfinite(v).all(axis=1)]
        broken = ~np.isfinite(edges(layer, v))
        if not broken.any():
            break
        j, i = np.unravel_index(int(broken.sum(axis=0).argmax()), broken.shape[1:])
        name = layer.functions[j, i] or "the spline"
        a, b = layer.affine[j, i, :2] if layer.functions[j, i] else (1.0, 0.0)
        low, high = sorted((float(a * v[:, i].min() + b), float(a * v[:, i].max() + b)))
        return (
            f"In layer {number}, the edge from input {i + 1} to sum {j + 1} is at fault: {name} "
            f"on arguments from {low:.6g} to {high:.6g}. {advice}"
        )
    return f"In layer {number}, the sum or product of finite edges overflows. {advice}"


def outside(kan: Kan, x: Array) -> NDArray[np.bool_]:
    """Mask (N,) of the rows with an input outside the training range; see `encoding.is_outside`."""
    return np.asarray(_outside_values(kan, x).any(axis=1))


def describe_outside(kan: Kan, x: Array) -> str:
    """Describe how many rows are outside the training range, and the inputs concerned most; "" if none is. Numbers of
    pruned inputs are left out: they change no prediction, unlike unknown values, which make it NaN."""
    counts = find_used_inputs(kan) | np.array([bool(variable.categories) for variable in kan.inputs])
    values = _outside_values(kan, x) & (counts | np.isnan(x))
    count = int(values.any(axis=1).sum())
    if count == 0:
        return ""
    often = [i for i in np.argsort(-values.sum(axis=0), kind="stable").tolist() if values[:, i].any()]
    named = first_names([_describe_column(kan, i, x[values[:, i], i]) for i in often], SHOWN, ", and {} more inputs")
    share = f"{count} of {len(x)} rows {'is' if len(x) == 1 else 'are'} outside the range of the training data"
    return f"{share}: {named}"


def _outside_values(kan: Kan, x: Array) -> NDArray[np.bool_]:
    """Mask (N, inputs) of the values that are outside the range of their input."""
    columns = zip(kan.inputs, x.T, *ranges(kan).T, strict=True)
    return np.column_stack([is_outside(variable, column, low, high) for variable, column, low, high in columns])


def _describe_column(kan: Kan, i: int, values: Array) -> str:
    """Describe an input: how far its values are outside, and its training range."""
    variable, (low, high) = kan.inputs[i], ranges(kan)[i]
    numbers = values[~np.isnan(values)]
    if variable.categories or len(numbers) == 0:
        return f"{variable.name} unknown"
    ends = [f"down to {numbers.min():.6g}"] * bool(numbers.min() < low)
    ends += [f"up to {numbers.max():.6g}"] * bool(numbers.max() > high)
    return f"{variable.name} {' and '.join(ends)} (trained on {low:.6g} to {high:.6g})"
