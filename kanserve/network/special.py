"""erf, the Bessel functions J0 and J1, and the gamma function, in NumPy's arithmetic alone.

Chebyshev series of what is left when the growth or the wave of a function is taken off, computed in 40 digits; each is
cut where its terms are below 4e-18. Absolute errors are a few 1e-16 (gamma: relative ones, below 3e-15). Arrays of
float32 give float32, and dual numbers their derivatives. Exporters copy this file into what they write or read its
tables, so that all of them compute the same: it imports NumPy and nothing else.
"""

from typing import Any

import numpy as np

# erf(x)/x on |x| <= 1, in 2x^2 - 1; erfc(x)*exp(x^2) on [1, 6], in u = 2/(2 + x) moved to [-1, 1].
ERF_NEAR = (
    0.9754769393826541,
    -0.14226120510371365,
    0.010035582187599796,
    -0.0005768764699767485,
    2.741993125219606e-05,
    -1.1043175507344507e-06,
    3.8488755420345036e-08,
    -1.1808582533875466e-09,
    3.2334215826050907e-11,
    -7.991015947004549e-13,
    1.7990725113961456e-14,
    -3.718635487818693e-16,
    7.103599003714253e-18,
)
ERF_FAR = (
    0.24078150322816144,
    0.1660357343713446,
    0.01937548512710411,
    0.0013725838866457216,
    2.3301617872657463e-05,
    -4.842439456015362e-06,
    -2.1925049177302584e-07,
    2.8603646284729237e-08,
    1.258114961136046e-09,
    -2.4685801467325007e-10,
    -2.494144837888475e-12,
    2.3295004504759956e-12,
    -9.680201775604102e-14,
    -1.779692405045016e-14,
    2.244625861005935e-15,
    2.9106217488718164e-17,
    -2.84441837713067e-17,
)
# J0(x) and J1(x)/x on |x| <= 8, in x^2/32 - 1.
J0_NEAR = (
    0.15772797147489012,
    -0.008723442352852221,
    0.2651786132033368,
    -0.37009499387264977,
    0.15806710233209725,
    -0.034893769411408884,
    0.004819180069467605,
    -0.00046062616620627504,
    3.246032882100508e-05,
    -1.7619469077621507e-06,
    7.608163592418782e-08,
    -2.679253530557673e-09,
    7.848696314479465e-11,
    -1.9438346867370164e-12,
    4.125320595634374e-14,
    -7.588508125447546e-16,
    1.2218515873961411e-17,
)
J1_NEAR = (
    0.08104484632565812,
    -0.1489751450676521,
    0.1609992623572097,
    -0.08268049176681791,
    0.022213639654966037,
    -0.003646940600769276,
    0.0004050337728354822,
    -3.255554866857259e-05,
    1.9858774049915165e-06,
    -9.521984756750436e-08,
    3.687133759097148e-09,
    -1.178026622695885e-10,
    3.160154580348003e-12,
    -7.221755239651773e-14,
    1.4232144003513942e-15,
    -2.4441972916190464e-17,
)
# J(x) = sqrt(2/(pi x))*(P cos(w) - Q/x sin(w)), w = x - pi/4 or x - 3pi/4: P and Q in 2(8/x)^2 - 1.
J0_P = (
    0.9994603493475187,
    -0.0005365220468132117,
    3.0751847875194745e-06,
    -5.1705945376060975e-08,
    1.6306464635151382e-09,
    -7.86409137723707e-11,
    5.168262387349193e-12,
    -4.3045788699253914e-13,
    4.3265957431549404e-14,
    -5.069034095935236e-15,
    6.748072215733873e-16,
    -1.0011513723467786e-16,
    1.6305919233744186e-17,
)
J0_Q = (
    -0.12444683684269607,
    0.0005470815954089319,
    -5.9315987288485175e-06,
    1.4377965798375193e-07,
    -5.817532749493056e-09,
    3.376097523734991e-10,
    -2.565397936797308e-11,
    2.404916100281365e-12,
    -2.6690625482579414e-13,
    3.4041800321963686e-14,
    -4.87994410531204e-15,
    7.729703176242605e-16,
    -1.3348852171502517e-16,
    2.4865952389390515e-17,
    -4.952892629886516e-18,
)
J1_P = (
    1.0009030408600137,
    0.0008989898330859408,
    -3.987284300488908e-06,
    6.177633960644299e-08,
    -1.8718907491063067e-09,
    8.816898659582339e-11,
    -5.704863640395645e-12,
    4.699195515230542e-13,
    -4.6842237839904895e-14,
    5.452674896044717e-15,
    -7.221180842274018e-16,
    1.0667689114335412e-16,
    -1.7312313216116335e-17,
)
J1_Q = (
    0.3742222965562826,
    -0.0007702178839325664,
    7.3108922063643636e-06,
    -1.676782510726674e-07,
    6.583354662120443e-09,
    -3.749090950541556e-10,
    2.8121750359748866e-11,
    -2.61145253946232e-12,
    2.8774212663332235e-13,
    -3.649001916061838e-14,
    5.206626366226707e-15,
    -8.215318025458595e-16,
    1.4141084390211833e-16,
    -2.626761589838529e-17,
    5.2192649196714085e-18,
)
# Stirling's series: B_2k/(2k(2k - 1)), to y^-(2k - 1), and B_2k/(2k), to y^-2k.
STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156, -3617 / 122400)
DIGAMMA = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12, -3617 / 8160)
STEPS = 10  # below this number, gamma(x) = gamma(x + 10)/(x*(x + 1)*..*(x + 9))
LARGEST = 171.7  # gamma overflows beyond


def _series(coefficients: tuple[float, ...], t: Any) -> Any:
    """The sum of coefficients[n]*T_n(t), by Clenshaw's rule."""
    after = last = 0 * t
    for coefficient in coefficients[:0:-1]:
        last, after = 2 * t * last - after + coefficient, last
    return t * last - after + coefficients[0]


def _polynomial(coefficients: tuple[float, ...], t: Any) -> Any:
    total = 0 * t + coefficients[-1]
    for coefficient in coefficients[-2::-1]:
        total = total * t + coefficient
    return total


def erf(x: Any) -> Any:
    """The error function."""
    size = np.abs(x)
    near, far = np.minimum(size, 1.0), np.minimum(np.maximum(size, 1.0), 6.0)
    tail = np.exp(-far * far) * _series(ERF_FAR, 9.6 / (2 + far) - 2.2)
    return np.where(size < 1, x * _series(ERF_NEAR, 2 * near * near - 1), np.sign(x) * (1 - tail))


def j0(x: Any) -> Any:
    """The Bessel function of the first kind, of order 0."""
    size = np.abs(x)
    near, far = np.minimum(size, 8.0), np.maximum(size, 8.0)
    t = 128 / (far * far) - 1
    p, q = _series(J0_P, t), _series(J0_Q, t) / far
    sine, cosine = np.sin(far), np.cos(far)
    # cos(w) = (cos x + sin x)/sqrt(2), sin(w) = (sin x - cos x)/sqrt(2): no digit of x is lost.
    wave = (p * (cosine + sine) - q * (sine - cosine)) / np.sqrt(3.141592653589793 * far)
    return np.where(size < 8, _series(J0_NEAR, near * near / 32 - 1), wave)


def j1(x: Any) -> Any:
    """The Bessel function of order 1, which is minus the derivative of `j0`."""
    size = np.abs(x)
    near, far = np.minimum(size, 8.0), np.maximum(size, 8.0)
    t = 128 / (far * far) - 1
    p, q = _series(J1_P, t), _series(J1_Q, t) / far
    sine, cosine = np.sin(far), np.cos(far)
    # cos(w) = (sin x - cos x)/sqrt(2), sin(w) = -(sin x + cos x)/sqrt(2).
    wave = (p * (sine - cosine) + q * (sine + cosine)) / np.sqrt(3.141592653589793 * far)
    return np.where(size < 8, x * _series(J1_NEAR, near * near / 32 - 1), np.sign(x) * wave)


def gamma(x: Any) -> Any:
    """The gamma function of x > 0; NaN elsewhere, where it has a pole at each whole number."""
    low = np.minimum(np.maximum(x, 0.0), 10.0)
    product = low
    for n in range(1, STEPS):
        product = product * (low + n)
    y = np.minimum(np.where(x < STEPS, x + STEPS, x), LARGEST + 1)
    y = np.maximum(y, 10.0)
    root = y ** (y / 2 - 0.25)  # its square would overflow before gamma does
    scale = np.exp(_polynomial(STIRLING, 1 / (y * y)) / y) * 2.5066282746310002
    whole = root * np.exp(-y) * root * scale
    inside = np.where(x > LARGEST, np.inf, np.where(x < STEPS, whole / product, whole))
    return np.where(x > 0, inside, np.nan)


def digamma(x: Any) -> Any:
    """The derivative of log(gamma(x)), of x > 0, and NaN elsewhere."""
    low = np.minimum(np.maximum(x, 0.0), 10.0)
    sums = 1 / low
    for n in range(1, STEPS):
        sums = sums + 1 / (low + n)
    y = np.maximum(np.where(x < STEPS, x + STEPS, x), 10.0)
    square = 1 / (y * y)
    whole = np.log(y) - 0.5 / y - square * _polynomial(DIGAMMA, square)
    return np.where(x > 0, np.where(x < STEPS, whole - sums, whole), np.nan)
