from dataclasses import replace

import numpy as np
import pytest

from kanserve.artifact import manifest
from kanserve.artifact_compiler import compile
from kanserve.errors import FormatError, NetworkError
from kanserve.formula import formulas
from kanserve.formula.expressions.tree import evaluate_tree
from kanserve.network import serialization
from kanserve.network.derivatives import derivatives
from kanserve.network.encoding import encode, without_encoding
from kanserve.network.evaluate import evaluate, jacobian
from kanserve.network.kan import Kan, Variable, make_layer
from kanserve.network.training_range import outside, sample
from tests.support.networks.kans import categories, missing_values, mixed, named_categories, rows

COLOUR = Variable("colour", categories=("red", "green"), category_values=(3.0, -5.0), fill_value=7.0)


def _sum(*inputs: Variable) -> Kan:
    """The sum of what the network sees of each input."""
    return Kan((make_layer(functions=[["x"] * len(inputs)]),), inputs)


def test_a_category_is_its_number_and_whatever_is_none_or_missing_is_the_fill_value():
    raw = np.array([[0.0], [1.0], [-0.0], [2.0], [-1.0], [0.5], [1e30], [np.nan]])
    assert evaluate(_sum(COLOUR), raw)[:, 0].tolist() == [3, -5, 3, 7, 7, 7, 7, 7]


def test_a_missing_number_is_the_fill_value():
    kan = _sum(Variable("a", fill_value=2.5), Variable("b"))
    y = evaluate(kan, [[np.nan, 1.0], [4.0, 1.0], [4.0, np.nan]])
    assert y[:2, 0].tolist() == [3.5, 5.0] and np.isnan(y[2, 0])


def test_without_a_fill_value_what_is_unknown_or_missing_makes_the_outputs_nan():
    kan = _sum(replace(COLOUR, fill_value=None))
    y = evaluate(kan, [[0.0], [2.0], [0.5], [np.nan]])
    assert y[0, 0] == 3 and np.isnan(y[1:]).all()


@pytest.mark.parametrize("one", [COLOUR, Variable("a", fill_value=2.5)])
def test_an_infinity_is_never_missing(one):
    assert np.isnan(evaluate(_sum(one), [[np.inf], [-np.inf]])).all()


def test_derivatives_by_what_is_missing_or_categorical_are_0_and_the_others_those_of_the_numbers():
    kan, x = missing_values(), rows(missing_values())[:40]
    plain, seen = without_encoding(kan), encode(kan, x)
    missing = np.isnan(x)
    assert missing[:, [0, 2]].any(axis=0).all()
    want = jacobian(plain, seen) * ~missing[:, None]
    np.testing.assert_array_equal(jacobian(kan, x), want)
    want = derivatives(plain, seen, 2) * ~missing[:, None, None] * ~missing[:, None, :, None]
    np.testing.assert_allclose(derivatives(kan, x, 2), want, rtol=1e-13)
    assert not np.nan_to_num(jacobian(categories(), rows(categories())))[:, :, [0, 2, 3]].any()


def test_what_the_network_knows_of_categories_and_missing_values_is_inside_the_range():
    kan = _sum(COLOUR, Variable("a", low=0.0, high=1.0, fill_value=9.0), Variable("b", low=0.0, high=1.0))
    known = [[0, 0.5, 0.5], [1, 0, 1], [np.nan, 0.5, 0.5], [0, np.nan, 0.5]]
    unknown = [[2, 0.5, 0.5], [-1, 0.5, 0.5], [0.5, 0.5, 0.5], [np.inf, 0.5, 0.5], [0, 2, 0.5], [0, 0.5, np.nan]]
    assert outside(kan, np.array(known + unknown)).tolist() == [False] * len(known) + [True] * len(unknown)


def test_rows_of_the_training_range_have_each_category_equally_often():
    kan = categories()
    x = sample(kan, 3000)
    for i, one in enumerate(kan.inputs):
        if one.categories:
            codes, counts = np.unique(x[:, i], return_counts=True)
            assert codes.tolist() == list(range(len(one.categories)))
            assert counts.min() > 0.9 * len(x) / len(codes)


@pytest.mark.parametrize(
    ("one", "match"),
    [
        (Variable("a", categories=("p", "q"), category_values=(1.0,)), "as many numbers as categories"),
        (Variable("a", category_values=(1.0,)), "as many numbers as categories"),
        (Variable("a", categories=("p", "p"), category_values=(1.0, 2.0)), "must differ"),
        (Variable("a", categories=("p", "q"), category_values=(1.0, np.nan)), "finite numbers"),
        (Variable("a", categories=("p", 3), category_values=(1.0, 2.0)), "must be text"),  # type: ignore[arg-type]
        (Variable("a", fill_value=np.inf), "finite numbers"),
        (Variable("a", "", 0.0, 5.0, None, ("p", "q"), (1.0, 2.0)), "range is 0 to 1"),
    ],
)
def test_an_encoding_that_does_not_fit_is_refused(one, match):
    with pytest.raises(NetworkError, match=match):
        _sum(one)


def test_an_output_has_no_encoding():
    with pytest.raises(NetworkError, match="only inputs"):
        replace(mixed(), outputs=(Variable("y", fill_value=1.0),))


def test_only_networks_with_an_encoding_are_written_in_the_new_versions():
    old, new = mixed(), categories()
    assert b'\\"version\\": 1' in serialization.dumps(old) and b'\\"version\\": 2' in serialization.dumps(
        old, compact=True
    )
    assert all(b'\\"version\\": 3' in serialization.dumps(new, compact=compact) for compact in (False, True))
    assert b"fill_value" not in serialization.dumps(old)
    written = [manifest.dumps(compile(kan, ["numpy_source"]).manifest) for kan in (old, new)]
    assert b'"format": 1' in written[0] and b"fill_value" not in written[0]
    assert b'"format": 2' in written[1]
    assert manifest.loads(written[1]).inputs == new.inputs


def test_a_manifest_of_a_newer_format_is_refused_with_the_ones_that_are_read():
    import hashlib

    data = manifest.dumps(compile(mixed(), ["numpy_source"]).manifest)
    body = data.split(b"\n", 2)[2].replace(b'"format": 1', b'"format": 4')
    changed = b'{\n "checksum": "%s",\n' % hashlib.sha256(body).hexdigest().encode() + body
    with pytest.raises(FormatError, match="has format 4; this kanserve reads formats 1 to 3"):
        manifest.loads(changed)


def test_a_formula_is_in_the_numbers_that_its_definitions_give():
    kan = named_categories()
    (formula,) = formulas(kan)
    assert formula.definitions == (
        "kind = 0.5 for 'p', 1.5 for 'q', -0.25 for 'r', 0.75 where missing or unknown",
        "y = 0.5 where missing",
    )
    x = rows(kan)
    x = x[np.isfinite(evaluate(kan, x)).all(axis=1)]
    got = evaluate_tree(formula.tree, formula.tables, encode(kan, x))
    np.testing.assert_allclose(got, evaluate(kan, x)[:, 0], rtol=1e-9)
