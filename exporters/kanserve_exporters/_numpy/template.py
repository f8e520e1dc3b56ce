"""The fixed text of the NumPy exporter, assembled by numpy_source.py."""

BEGIN = '''\
"""A Kolmogorov-Arnold network of shape {shape}, written by kanserve. Needs {needs}.

    predict(x)           {what} (N, {outputs}) at raw features x (N, {inputs}), computed in {dtype}{probabilities}

A row in which an input, a value on the way or an output is not finite is NaN in all of its outputs.

{formula}
"""

{imports}import numpy
{foreign}
INPUTS = {input_names}
INPUT_UNITS = {input_units}
INPUT_RANGES = {input_ranges}  # of the training data
OUTPUTS = {output_names}
OUTPUT_UNITS = {output_units}
CLASSES = {classes}
DTYPE = numpy.{dtype}

_ROWS = {rows}  # at a time, so that memory stays small


def predict(x):
{one_row}    with numpy.errstate(all="ignore"):
        rows = numpy.asarray(x).astype(DTYPE)
        if rows.ndim != 2 or rows.shape[1] != {inputs}:
            raise ValueError(f"x must have shape (N, {inputs}), got {{rows.shape}}")
        result = numpy.empty((len(rows), {outputs}), DTYPE)
        for start in range(0, len(rows), _ROWS):
            result[start : start + _ROWS] = _predict(rows[start : start + _ROWS].T).T
    return result

'''

ONE_ROW = """    x = numpy.asarray(x)
    if x.shape == (1, {inputs}) and x.dtype.kind == "f":
        try:
            row = _predict_row(x[0].tolist())
        except (ArithmeticError, ValueError):
            row = None
        if row is not None:
            return numpy.array([row], DTYPE)
"""

LARGEST = """
_LARGEST = float(numpy.finfo(DTYPE).max)

"""

# For all inputs of a spline layer: the breaks, and for each piece its origin and polynomials, as Python floats.
PIECES = """
def _pieces(breaks, per_step, origins, widest, table):
    rows = numpy.concatenate([origins.reshape(-1, 1), table.reshape(origins.size, -1)], axis=1)
    return list(zip(breaks.tolist(), rows.reshape(*origins.shape, -1).tolist()))

"""

PREDICT_PROBA = """
def predict_proba(x):
    scores = predict(x)
    with numpy.errstate(all="ignore"):
        powers = numpy.exp(scores - scores.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

"""

INTERVALS = """
INTERVALS = {intervals}


def predict_interval(x, level=0.9):
    if level not in INTERVALS:
        raise ValueError(f"there are intervals of {{sorted(INTERVALS)}}, not of {{level}}")
    y, half = predict(x), numpy.array(INTERVALS[level], DTYPE)
    return y - half, y + half

"""

SCALED_INTERVALS = """
INTERVALS = {intervals}
# Of each output, the factor of the half width at some outputs: linear between, constant beyond.
SCALES = {scales}


def predict_interval(x, level=0.9):
    if level not in INTERVALS:
        raise ValueError(f"there are intervals of {{sorted(INTERVALS)}}, not of {{level}}")
    y = predict(x)
    half = numpy.tile(numpy.array(INTERVALS[level], DTYPE), (len(y), 1))
    for q, scale in enumerate(SCALES.get(level, ())):
        if scale:
            half[:, q] *= numpy.interp(y[:, q], *numpy.array(scale).T)
    return y - half, y + half

"""

INTERVALS_HELP = """
    predict_interval(x, level=0.9)
                         (low, high): a new value is between them with at least this probability, of those in INTERVALS,
                         if its row is drawn as those were on which this was measured"""

PROBABILITIES = """
    predict_proba(x)     probabilities (N, {outputs}) of the classes"""

# Equal intervals: the basis functions at each value, scattered into a row of zeros, times the coefficients.
EVEN = '''
def _even_splines(x, low, per_step, knots, last, basis, table, straight):
    """Splines on equal intervals at x (I, N): (O, N)."""
    x = numpy.ascontiguousarray(x.T)
    rows, inputs = x.shape
    piece = numpy.fmin(numpy.fmax((x - low) * per_step, 0), last).astype(numpy.int64)  # NaN goes to the first
    t = (x - knots.take(piece + numpy.arange(0, knots.size, last + 1))) * per_step
    near = numpy.minimum(numpy.maximum(t, 0), 1)
    # Beyond the ends a spline is straight, with the slope there, or has run out.
    far = t - near if straight else 0
    powers = numpy.empty((len(basis), *x.shape), DTYPE)
    powers[0] = 1
    powers[1] = near + far
    power = near
    for r in range(2, len(basis)):
        powers[r] = power * (near + r * far)
        power = power * near
    weights = basis @ powers.reshape(len(basis), -1)
    width = len(table)
    stride = (width - (0 if straight else len(basis) - 1)) // inputs
    start = piece + numpy.arange(rows)[:, None] * width + numpy.arange(inputs) * stride
    start = start.ravel()
    spread = numpy.zeros(rows * width, DTYPE)
    for m in range(len(basis)):
        spread[start + m] = weights[m]
    return (spread.reshape(rows, width) @ table).T

'''

# For a spline layer: which local polynomials apply, and the powers by which they are multiplied.
POWERS = '''
def _powers(x, breaks, per_step, origins, widest, degree):
    """The piece of each value of x (I, N), as a row of the table, and 1, t, .. t**degree (N, I, degree + 1)."""
    piece = numpy.zeros(x.shape, numpy.int64)  # how many breaks are at or below x; any number will do for NaN
    if per_step is not None:
        place = (x - breaks[:, :1]) * per_step + 1
        piece = numpy.fmin(numpy.fmax(place, 0), breaks.shape[1]).astype(numpy.int64)
    elif len(x) < breaks.shape[1]:
        for i in range(len(x)):
            piece[i] = breaks[i].searchsorted(x[i], side="right")
    else:
        for m in range(breaks.shape[1]):
            piece += x >= breaks[:, m : m + 1]
    piece += numpy.arange(0, origins.size, origins.shape[1])[:, None]
    t = x - origins.take(piece)
    # Beyond the widest piece splines are straight: there the higher powers meet zeros, and must not overflow.
    near = numpy.minimum(numpy.maximum(t, 0), widest)
    powers = numpy.empty((x.shape[1], x.shape[0], degree + 1), DTYPE)
    powers[:, :, 0] = 1
    powers[:, :, 1] = t.T
    power = near
    for r in range(2, degree + 1):
        power = power * near
        powers[:, :, r] = power.T
    return piece, powers

'''

# Many outputs: one matrix product, with many zeros, is faster than gathering polynomials.
DENSE = """
def _dense_splines(x, breaks, per_step, origins, widest, table):
    rows, powers = _powers(x, breaks, per_step, origins, widest, table.shape[1] - 1)
    spread = numpy.zeros((x.shape[1], *table.shape[:2]), DTYPE)
    spread[numpy.arange(x.shape[1])[:, None], rows.T] = powers
    return (spread.reshape(len(spread), -1) @ table.reshape(-1, table.shape[2])).T

"""

SPARSE = """
def _sparse_splines(x, breaks, per_step, origins, widest, table):
    rows, powers = _powers(x, breaks, per_step, origins, widest, table.shape[1] - 1)
    chosen = table.take(rows.T, axis=0)
    if table.shape[2] == 1:
        return numpy.einsum("nk,nk->n", powers.reshape(len(powers), -1), chosen.reshape(len(powers), -1))[None]
    return (powers.reshape(x.shape[1], 1, -1) @ chosen.reshape(x.shape[1], -1, table.shape[2]))[:, 0].T

"""

SPLINES = {"even": EVEN, "dense": DENSE, "sparse": SPARSE}
