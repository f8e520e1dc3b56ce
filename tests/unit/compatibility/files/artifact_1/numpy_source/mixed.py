"""A Kolmogorov-Arnold network of shape [2, 2, 1], written by kanserve. Needs NumPy only.

    predict(x)           outputs (N, 1) at raw features x (N, 2), computed in float64

A row in which an input, a value on the way or an output is not finite is NaN in all of its outputs.

    y = s_2_1_1(s_1_1_1(x1) - 0.315367*silu(x1) + 0.7*sin(2*x1 + 0.3) - 0.6*(1.2*x2 - 0.4)^2 + 0.1) - 0.170029*silu(s_1_1_1(x1) - 0.315367*silu(x1) + 0.7*sin(2*x1 + 0.3) - 0.6*(1.2*x2 - 0.4)^2 + 0.1) - 0.316972*silu(0.243488*silu(x1) + s_1_2_1(x1)) + s_2_1_2(0.243488*silu(x1) + s_1_2_1(x1))
    (s_l_j_i is the spline from input i to sum j of layer l)
"""

import math
from bisect import bisect_right

import numpy

INPUTS = ('x1', 'x2',)
INPUT_UNITS = ('', '',)
INPUT_RANGES = ((-numpy.inf, numpy.inf), (-numpy.inf, numpy.inf),)  # of the training data
OUTPUTS = ('y',)
OUTPUT_UNITS = ('',)
CLASSES = ()
DTYPE = numpy.float64

_ROWS = 24576  # at a time, so that memory stays small


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


def _predict(v):
    bad = ~numpy.isfinite(v).all(axis=0)
    v = _layer_0(v)
    bad |= ~numpy.isfinite(v).all(axis=0)
    v = _layer_1(v)
    bad |= ~numpy.isfinite(v).all(axis=0)
    v[:, bad] = numpy.nan
    return v


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


def _sparse_splines(x, breaks, per_step, origins, widest, table):
    rows, powers = _powers(x, breaks, per_step, origins, widest, table.shape[1] - 1)
    chosen = table.take(rows.T, axis=0)
    if table.shape[2] == 1:
        return numpy.einsum("nk,nk->n", powers.reshape(len(powers), -1), chosen.reshape(len(powers), -1))[None]
    return (powers.reshape(x.shape[1], 1, -1) @ chosen.reshape(x.shape[1], -1, table.shape[2]))[:, 0].T


def _f_silu(x):
    return x/(1.0 + numpy.exp(-x))


def _f_x2(x):
    return (x*x)


_CONSTANTS_0 = numpy.array([0.1, 0.0], DTYPE).reshape((2, 1))
_SPLINES_0 = (
    numpy.array([-1.0, -0.6, -0.19999999999999996, 0.20000000000000018, 0.6000000000000001, 1.0], DTYPE).reshape((1, 6)),
    numpy.array([2.5], DTYPE).reshape((1, 1)),
    numpy.array([-1.0, -1.0, -0.6, -0.19999999999999996, 0.20000000000000018, 0.6000000000000001, 1.0], DTYPE).reshape((1, 7)),
    .40000000000000013,
    numpy.array([0.34994884916983426, 0.023065607274782955, 1.5350392147068315, -0.2050595228922716, 0.0, 0.0, 0.0, 0.0, 0.34994884916983426, 0.023065607274782955, 1.5350392147068315, -0.2050595228922716, -3.5051412791828076, 0.5713344610176985, 3.515864416892283, -1.9655741814327472, 0.6281572530644236, -0.09334143573098976, 0.4185411114688804, -0.6914675611658315, 0.7138960210879304, -1.787354556701598, -3.8287634349931152, 2.78179606781126, 0.6647562011864853, -0.47787024092965746, -0.8481485204574706, -0.7860890939777053, -3.880620100903808, 1.5508007246719138, 7.198620820049656, 2.220053530711889, 0.16530930934206578, -0.40209433660767235, -0.49730660755668005, 1.520177180501533, 4.757724883155783, 4.21486496152618, -5.96575018703778, -6.699203286094116, 0.345814635653901, 0.45160591912710596, 0.44531320918981215, 1.6764515723973012, -2.4011753412895516, -3.824178981786758, 2.1498085013708383, 3.1833322427130497, 0.2773396088112314, 0.7140511745337803, -0.44371898318382663, 0.14510786347015858, 0.0, 0.0, 0.0, 0.0], DTYPE).reshape((7, 4, 2)),
)
_BASE_0 = numpy.array([-0.31536730605716506, 0.24348777590292078], DTYPE).reshape((2, 1))

def _layer_0(v):
    z = numpy.repeat(_CONSTANTS_0, v.shape[1], axis=1)
    x = v[[0]]
    z += _sparse_splines(x, *_SPLINES_0)
    z += _BASE_0 @ _f_silu(x)
    z[0] += .7*numpy.sin(2.0*v[0]+.3) - .6*_f_x2(1.2*v[1]-.4)
    return z


_SPLINES_1 = (
    numpy.array([-1.0, -0.6, -0.19999999999999996, 0.20000000000000018, 0.6000000000000001, 1.0, -1.0, -0.6, -0.19999999999999996, 0.20000000000000018, 0.6000000000000001, 1.0], DTYPE).reshape((2, 6)),
    numpy.array([2.5, 2.5], DTYPE).reshape((2, 1)),
    numpy.array([-1.0, -1.0, -0.6, -0.19999999999999996, 0.20000000000000018, 0.6000000000000001, 1.0, -1.0, -1.0, -0.6, -0.19999999999999996, 0.20000000000000018, 0.6000000000000001, 1.0], DTYPE).reshape((2, 7)),
    .40000000000000013,
    numpy.array([-0.4362278365814303, -1.7759282719134397, 0.0, 0.0, -0.4362278365814303, -1.7759282719134397, 2.408404605928761, 2.0091611175651165, -0.6326680968740369, 1.1151927492608258, 4.819397947006903, -6.943334961575857, 0.14013923681054313, 1.637910325309937, -3.512604006884125, 0.3533986665000093, 0.2559042404890584, -1.002541520277359, -3.0885256070841125, 5.404684465726892, -0.2933766589488221, -0.8791134623957414, 3.3970957517881564, 1.0249172571031995, -0.03589201916640911, 2.3305234224443185, 0.0, 0.0, -0.15515321955816844, 1.3726216034098413, 0.0, 0.0, -0.15515321955816844, 1.3726216034098413, 1.832650164951587, -4.284884848442701, 0.4128868178976891, 0.7819970081186143, -3.3092116531796556, 4.450056437601105, 0.48101536864286054, 0.27065477562341955, 2.0308560719416695, -3.8544188461103315, 0.6675314442518343, 0.045218587043795666, -2.5944465433907293, 1.600337210137153, 0.3729290135756136, -1.2621767868029548, -0.6740418912261464, 2.842370702370032, -0.057876678790069615, -0.43707236264625704, 0.0, 0.0], DTYPE).reshape((14, 4, 1)),
)
_BASE_1 = numpy.array([-0.170029130838838, -0.3169722544097187], DTYPE).reshape((1, 2))

def _layer_1(v):
    x = v
    z = _sparse_splines(x, *_SPLINES_1)
    z += _BASE_1 @ _f_silu(x)
    return z


_LARGEST = float(numpy.finfo(DTYPE).max)


def _pieces(breaks, per_step, origins, widest, table):
    rows = numpy.concatenate([origins.reshape(-1, 1), table.reshape(origins.size, -1)], axis=1)
    return list(zip(breaks.tolist(), rows.reshape(*origins.shape, -1).tolist()))


def _r_f_silu(x):
    return x/(1.0 + math.exp(-x))


def _r_f_x2(x):
    return (x*x)


_PIECES_0 = _pieces(*_SPLINES_0)
_PIECES_1 = _pieces(*_SPLINES_1)

def _predict_row(v):
    x0, x1, = v
    if not abs(x0) + abs(x1) <= _LARGEST:
        return None
    z0 = .1
    z1 = 0.0
    breaks, pieces = _PIECES_0[0]
    origin, c0_0, c0_1, c1_0, c1_1, c2_0, c2_1, c3_0, c3_1 = pieces[bisect_right(breaks, x0)]
    t = x0 - origin
    b = _r_f_silu(x0)
    z0 += ((c3_0*t + c2_0)*t + c1_0)*t + c0_0 - .31536730605716506*b
    z1 += ((c3_1*t + c2_1)*t + c1_1)*t + c0_1 + .24348777590292078*b
    z0 += .7*math.sin(2.0*x0+.3) - .6*_r_f_x2(1.2*x1-.4)
    x0 = z0
    x1 = z1
    if not abs(x0) + abs(x1) <= _LARGEST:
        return None
    z0 = 0.0
    breaks, pieces = _PIECES_1[0]
    origin, c0_0, c1_0, c2_0, c3_0 = pieces[bisect_right(breaks, x0)]
    t = x0 - origin
    b = _r_f_silu(x0)
    z0 += ((c3_0*t + c2_0)*t + c1_0)*t + c0_0 - .170029130838838*b
    breaks, pieces = _PIECES_1[1]
    origin, c0_0, c1_0, c2_0, c3_0 = pieces[bisect_right(breaks, x1)]
    t = x1 - origin
    b = _r_f_silu(x1)
    z0 += ((c3_0*t + c2_0)*t + c1_0)*t + c0_0 - .3169722544097187*b
    x0 = z0
    if not abs(x0) <= _LARGEST:
        return None
    return [x0]
