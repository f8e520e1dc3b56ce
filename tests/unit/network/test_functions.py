import numpy as np
import pytest
import sympy
import torch

from kanserve.errors import NotFoundError
from kanserve.formula.printing.symbolic import as_sympy
from kanserve.network.functions import FUNCTIONS, function
from kanserve.train.torch import network
from tests.support.networks.powers import POWERS

NAMES = [*FUNCTIONS, *POWERS]
POINTS = np.concatenate([np.linspace(-0.95, 0.95, 38), [0.5]])
WIDE = np.concatenate([POINTS, [-5.0, -2.0, 2.0, 5.0]])


def _finite(name):
    with np.errstate(all="ignore"):
        values = FUNCTIONS[name].numpy(WIDE)
    return WIDE[np.isfinite(values)], values[np.isfinite(values)]


@pytest.mark.parametrize("name", NAMES)
def test_the_torch_spelling_is_the_function(name):
    x, want = _finite(name)
    got = network.function(name)(torch.from_numpy(x)).numpy()
    assert np.allclose(got, want, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("name", NAMES)
def test_the_sympy_spelling_is_the_function(name):
    x, want = _finite(name)
    symbol = sympy.Symbol("x", real=True)
    expression = as_sympy(sympy, FUNCTIONS[name].expression, symbol)
    got = [float(sympy.N(expression.subs(symbol, sympy.Float(float(v), 30)), 25)) for v in x]
    assert np.allclose(got, want, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("name", NAMES)
def test_the_derivative_is_the_derivative(name):
    row = FUNCTIONS[name]
    x = _finite(name)[0]
    x = x[np.abs(x) > 1e-3]
    with np.errstate(all="ignore"):
        want = (row.numpy(x + 1e-6) - row.numpy(x - 1e-6)) / 2e-6
    ok = np.isfinite(want)
    assert np.allclose(row.derivative(x)[ok], want[ok], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_the_domain_says_where_the_function_is_real(name):
    row = FUNCTIONS[name]
    with np.errstate(all="ignore"):
        finite = np.isfinite(row.numpy(np.append(WIDE, 0.0)))
    assert finite.all() == (row.domain in ("", "x != pi/2 + n*pi"))


def test_an_unknown_name_is_answered_with_those_there_are():
    with pytest.raises(NotFoundError, match="arctanh"):
        function("sine")
