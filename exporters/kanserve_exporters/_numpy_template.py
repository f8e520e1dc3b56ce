"""The fixed text of the NumPy exporter, put together by numpy_source.py."""

BEGIN = '''\
"""A Kolmogorov-Arnold network of shape {shape}, written by kanserve. Needs NumPy only.

    predict(x)           {what} (N, {outputs}) at raw features x (N, {inputs}), computed in {dtype}{probabilities}

A row in which an input, a value on the way or an output is not finite is NaN in all of its outputs.

{formula}
"""

import numpy

INPUTS = {input_names}
INPUT_UNITS = {input_units}
INPUT_RANGES = {input_ranges}  # of the training data
OUTPUTS = {output_names}
OUTPUT_UNITS = {output_units}
CLASSES = {classes}
DTYPE = numpy.{dtype}

_ROWS = {rows}  # at a time, so that memory stays small


def predict(x):
    with numpy.errstate(all="ignore"):
        rows = numpy.asarray(x).astype(DTYPE)
        if rows.ndim != 2 or rows.shape[1] != {inputs}:
            raise ValueError(f"x must have shape (N, {inputs}), got {{rows.shape}}")
        result = numpy.empty((len(rows), {outputs}), DTYPE)
        for start in range(0, len(rows), _ROWS):
            result[start : start + _ROWS] = _predict(rows[start : start + _ROWS].T).T
    return result

'''

PREDICT_PROBA = """
def predict_proba(x):
    scores = predict(x)
    with numpy.errstate(all="ignore"):
        powers = numpy.exp(scores - scores.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

"""

PROBABILITIES = """
    predict_proba(x)     probabilities (N, {outputs}) of the classes"""

# Of a spline layer: which local polynomials apply, and the powers that they are multiplied with.
POWERS = '''
def _powers(x, breaks, origins, widest, degree):
    """The piece of each value of x (I, N), as a row of the table, and 1, t, .. t**degree (N, I, degree + 1)."""
    piece = numpy.zeros(x.shape, numpy.int64)  # how many breaks are at or below x; any number will do for NaN
    if len(x) < breaks.shape[1]:
        for i in range(len(x)):
            piece[i] = breaks[i].searchsorted(x[i], side="right")
    else:
        for m in range(breaks.shape[1]):
            piece += x >= breaks[:, m : m + 1]
    t = x - numpy.take_along_axis(origins, piece, axis=1)
    # Beyond the widest piece splines are straight: there the higher powers meet zeros, and must not overflow.
    near = numpy.clip(t, 0, widest)
    powers = numpy.empty((x.shape[1], x.shape[0], degree + 1), DTYPE)
    powers[:, :, 0] = 1
    powers[:, :, 1] = t.T
    power = near
    for r in range(2, degree + 1):
        power = power * near
        powers[:, :, r] = power.T
    return piece + numpy.arange(len(x))[:, None] * origins.shape[1], powers

'''

# Many outputs: one product of matrices, mostly with zeros, is faster than collecting polynomials.
DENSE = """
def _dense_splines(x, breaks, origins, widest, table):
    rows, powers = _powers(x, breaks, origins, widest, table.shape[1] - 1)
    spread = numpy.zeros((x.shape[1], *table.shape[:2]), DTYPE)
    spread[numpy.arange(x.shape[1])[:, None], rows.T] = powers
    return (spread.reshape(len(spread), -1) @ table.reshape(-1, table.shape[2])).T

"""

SPARSE = """
def _sparse_splines(x, breaks, origins, widest, table):
    rows, powers = _powers(x, breaks, origins, widest, table.shape[1] - 1)
    chosen = table[rows.T].reshape(x.shape[1], -1, table.shape[2])
    return (powers.reshape(x.shape[1], 1, -1) @ chosen)[:, 0].T

"""
