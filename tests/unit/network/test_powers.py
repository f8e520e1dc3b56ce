"""The names of powers with a real exponent: one for each exponent, and nothing else is a name."""

import math

import numpy as np
import pytest

from kanserve.errors import FormatError, NetworkError, NotFoundError
from kanserve.network import serialization
from kanserve.network.functions import FUNCTIONS, function
from kanserve.network.kan import Kan, make_layer
from kanserve.network.powers import EXPONENTS, NAMES, exponent_of, is_odd, power_name, real_power, takes_negative


@pytest.mark.parametrize(
    ("exponent", "name"),
    [
        *((5 / 3, "x^(5/3)"), (-5 / 3, "1/x^(5/3)"), (1 - 1 / 3, "x^(2/3)"), (0.4, "x^(2/5)"), (0.25, "x^(1/4)")),
        *((1.37, "x^1.37"), (-1.37, "1/x^1.37"), (2.5, "x^(5/2)"), (1 / 7, "x^(1/7)"), (63.9, "x^(639/10)")),
        *((0.5, "sqrt"), (-0.5, "1/sqrt"), (1.5, "x^1.5"), (-1.5, "1/x^(3/2)"), (3.0, "x^3"), (-5.0, "1/x^5")),
        *((1 / 13, f"x^{1 / 13!r}"), (math.pi, f"x^{math.pi!r}")),
    ],
)
def test_each_exponent_has_one_name(exponent: float, name: str) -> None:
    assert power_name(exponent) == name and name in FUNCTIONS and len(name) <= NAMES.itemsize // 4
    assert exponent_of(name) == pytest.approx(exponent, rel=1e-15)
    assert power_name(float(exponent_of(name) or 0)) == name


@pytest.mark.parametrize("exponent", [6.0, -7.0, 65.5, 1e-4, 0.0, math.nan, math.inf, -math.inf])
def test_other_exponents_have_none(exponent: float) -> None:
    assert power_name(exponent) is None


@pytest.mark.parametrize(
    "name",
    [
        *("x^(10/6)", "x^(-5/3)", "x^0.25", "x^1.370", "x^(1/0)", "x^(0/3)", "x^(6/3)", "x^1e2", "x^nan", "x^inf"),
        *("x^", "x^()", "y^(1/3)", "x^(1/3) ", "x^(1/3)\n", "x^(٣/5)", f"x^({'9' * 400}/7)", f"x^1.{'3' * 400}"),
        *("1/1/x^(1/3)", "x^65.5", "x^0.0001", "x**(1/3)"),
    ],
)
def test_a_malformed_name_is_no_function(name: str) -> None:
    assert name not in FUNCTIONS and FUNCTIONS.get(name) is None
    with pytest.raises(NotFoundError, match="No function is called"):
        function(name)
    with pytest.raises(NetworkError, match="No function is called"):
        make_layer(functions=[[name]])


def test_another_spelling_is_answered_with_the_name() -> None:
    with pytest.raises(NotFoundError, match=r"Nearest: x\^\(5/3\)\. .*powers such as x\^\(5/3\)"):
        function("x^(10/6)")


def test_a_file_keeps_a_power_and_one_with_a_malformed_power_is_refused() -> None:
    kan = Kan((make_layer(functions=[["x^(5/3)", "1/x^1.3712345678901234"]]),))
    data = serialization.dumps(kan)
    assert serialization.loads(data).layers[0].functions.tolist() == [["x^(5/3)", "1/x^1.3712345678901234"]]
    text = data.replace(b"x^(5/3)", b"x^(5/0)")
    with pytest.raises(FormatError, match="checksum"):
        serialization.loads(text)
    digest = data.split(b'"kan":"')[1].split(b" ")[0].decode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serialization, "checksum", lambda text, tensors: digest)
        with pytest.raises(FormatError, match=r"No function is called 'x\^\(5/0\)'"):
            serialization.loads(text)


def test_the_table_lists_no_power_of_a_real_exponent_and_makes_each_once() -> None:
    assert "x^(5/3)" not in list(FUNCTIONS) and FUNCTIONS["x^(5/3)"] is FUNCTIONS["x^(5/3)"]
    assert set(EXPONENTS) <= set(FUNCTIONS)
    with pytest.raises(KeyError):
        FUNCTIONS["x^(10/6)"]


def test_roots_of_negative_numbers_are_real_where_the_denominator_is_odd() -> None:
    odd = [takes_negative(exponent) for exponent in (1 / 3, 2 / 3, 0.4, 3.0, 0.25, 1.37, 0.5)]
    assert odd == [True, True, True, True, False, False, False]
    assert [is_odd(exponent) for exponent in (1 / 3, 5 / 3, 2 / 3, 0.4, 3.0, 2.0)] == [
        *(True, True, False, False, True, False)
    ]
    with np.errstate(all="ignore"):
        got = [real_power(np.array([-8.0]), exponent)[0] for exponent in (1 / 3, 2 / 3, -1 / 3, 0.25, 2.0, 3.0)]
    np.testing.assert_allclose(got, [-2, 4, -0.5, np.nan, 64, -512], rtol=1e-14)
