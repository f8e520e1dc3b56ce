"""A Kolmogorov-Arnold network of shape [2, 1], written by kanserve. Needs NumPy only.

    predict(x)           outputs (N, 1) at raw features x (N, 2), computed in float64
    predict_interval(x, level=0.9)
                         (low, high): a new value is between them with at least this probability, of those in INTERVALS,
                         if its row is drawn as those were on which this was measured

A row in which an input, a value on the way or an output is not finite is NaN in all of its outputs.

    y = 2*x + sin(z)
"""

import math

import numpy

INPUTS = ('x', 'z',)
INPUT_UNITS = ('', '',)
INPUT_RANGES = ((0.0, 1.0), (0.0, 3.0),)  # of the training data
OUTPUTS = ('y',)
OUTPUT_UNITS = ('',)
CLASSES = ()
DTYPE = numpy.float64

_ROWS = 65536  # at a time, so that memory stays small


def predict(x):
    x = numpy.asarray(x)
    if x.shape == (1, 2) and x.dtype.kind == "f":
        try:
            row = _predict_row(x[0].tolist())
        except (ArithmeticError, ValueError):
            row = None
        if row is not None:
            return numpy.array([row], DTYPE)
    with numpy.errstate(all="ignore"):
        rows = numpy.asarray(x).astype(DTYPE)
        if rows.ndim != 2 or rows.shape[1] != 2:
            raise ValueError(f"x must have shape (N, 2), got {rows.shape}")
        result = numpy.empty((len(rows), 1), DTYPE)
        for start in range(0, len(rows), _ROWS):
            result[start : start + _ROWS] = _predict(rows[start : start + _ROWS].T).T
    return result


INTERVALS = {0.8: (0.10000000000000009,), 0.9: (0.10000000000000009,), 0.95: (0.10000000000000009,)}


def predict_interval(x, level=0.9):
    if level not in INTERVALS:
        raise ValueError(f"there are intervals of {sorted(INTERVALS)}, not of {level}")
    y, half = predict(x), numpy.array(INTERVALS[level], DTYPE)
    return y - half, y + half


def _predict(v):
    bad = ~numpy.isfinite(v).all(axis=0)
    v = _layer_0(v)
    bad |= ~numpy.isfinite(v).all(axis=0)
    v[:, bad] = numpy.nan
    return v


def _layer_0(v):
    z = numpy.zeros((1, v.shape[1]), DTYPE)
    z[0] += 2.0*v[0] + numpy.sin(v[1])
    return z


_LARGEST = float(numpy.finfo(DTYPE).max)


def _predict_row(v):
    x0, x1, = v
    if not abs(x0) + abs(x1) <= _LARGEST:
        return None
    z0 = 0.0
    z0 += 2.0*x0 + math.sin(x1)
    x0 = z0
    if not abs(x0) <= _LARGEST:
        return None
    return [x0]
