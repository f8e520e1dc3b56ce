"""Where a formula is real and finite: stated, and strict in the training range unless asked otherwise."""

import json

import numpy as np
import pytest
from hypothesis import assume, given, settings

from kanserve.artifact_compiler import compile
from kanserve.errors import FormatError, FormulaError
from kanserve.formula import evaluate_tree, formulas, from_formula, from_json, to_json
from kanserve.formula.expressions.intervals import intervals
from kanserve.formula.from_network.expression_trees import trees
from kanserve.network.evaluate import evaluate
from kanserve.network.training_range import ranges, sample
from tests.support.networks.generated_networks import networks
from tests.support.networks.kans import ZOO, every_function


def domain(text, **spans):
    (found,) = formulas(from_formula(text, ranges=spans), strict=False)
    return found.domain


@pytest.mark.parametrize(
    ("text", "spans", "wanted"),
    [
        ("log(3*x + 1)", {"x": (-1, 1)}, ("log: 3*x + 1 > 0",)),
        ("log(3*x + 1)", {"x": (0, 1)}, ()),
        ("log(x)", {"x": (0, 1)}, ("log: x > 0",)),
        ("sqrt(x)", {"x": (0, 1)}, ()),
        ("sqrt(x - y)", {"x": (1, 2), "y": (0, 1)}, ()),
        ("sqrt(x - y)", {"x": (0, 2), "y": (0, 1)}, ("sqrt: x - y >= 0",)),
        ("1/(x - 1)", {"x": (-2, 2)}, ("division: x - 1 != 0",)),
        ("1/(x^2 + 1)^2", {"x": (-2, 2)}, ()),
        ("1/sqrt(x^4 + 1)", {"x": (-2, 2)}, ()),
        ("arcsin(x*y)", {"x": (-1, 1), "y": (0, 2)}, ("arcsin: -1 <= x*y <= 1",)),
        ("arcsin(sin(x)/2)", {"x": (-9, 9)}, ()),
        ("arctanh(tanh(x)/2)", {"x": (-9, 9)}, ()),
        ("tan(x)", {"x": (-1.5, 1.5)}, ()),
        ("tan(x)", {"x": (0, 2)}, ("tan: x != pi/2 + n*pi",)),
        ("log(x)*y + 1/x + log(x)", {"x": (-1, 1), "y": (0, 1)}, ("log: x > 0", "division: x != 0")),
        ("log(exp(x) + 1)", {}, ()),
        ("log(x)", {}, ("log: x > 0",)),
    ],
)  # fmt: skip
def test_the_conditions_are_those_that_the_ranges_do_not_imply(text, spans, wanted):
    assert set(domain(text, **spans)) == set(wanted)


def test_a_formula_that_is_undefined_in_its_training_range_is_refused_with_the_place_and_the_part():
    kan = from_formula({"u": "a + b", "v": "b + log(a - 0.1)"}, ranges={"a": (0, 1), "b": (0, 1)})
    with pytest.raises(FormulaError, match=r"output 'v'.*'a': 0\.0.*no finite log\(a - 0\.1\).*log: a - 0\.1 > 0"):
        formulas(kan)
    fine, partial = formulas(kan, strict=False)
    assert (fine.domain, partial.domain) == ((), ("log: a - 0.1 > 0",))


@pytest.mark.parametrize("text", ["1/x", "log(x)", "1/(x - 2)", "1/(x*y)"])
def test_a_pole_at_a_corner_of_the_range_is_found(text):
    with pytest.raises(FormulaError, match="not finite everywhere"):
        formulas(from_formula(text, inputs=["x", "y"], ranges={"x": (0, 2), "y": (0, 1)}))


def test_a_corner_of_many_inputs_is_found():
    names = [f"x{i}" for i in range(20)]
    with pytest.raises(FormulaError, match="no finite"):
        formulas(from_formula(f"1/({' + '.join(names)} + z)", ranges={name: (0, 1) for name in names} | {"z": (0, 0)}))


def test_overflow_is_refused_and_no_condition():
    kan = from_formula("exp(x)", ranges={"x": (0, 1000)})
    with pytest.raises(FormulaError, match=r"no finite exp\(x\).*none but overflow"):
        formulas(kan)
    assert formulas(kan, strict=False)[0].domain == ()


def test_where_no_range_is_known_nothing_is_refused_and_every_condition_is_stated():
    assert formulas(from_formula("log(x)"))[0].domain == ("log: x > 0",)
    assert formulas(from_formula("sqrt(x) + y", ranges={"y": (0, 1)}))[0].domain == ("sqrt: x >= 0",)
    assert {formula.domain != () for formula in formulas(ZOO["domains"]())} == {True}


def test_a_splines_range_is_a_training_range():
    kan = ZOO["one_edge"]()
    assert formulas(kan)[0].domain == ()
    with_log = type(kan)((*kan.layers, from_formula("log(x)").layers[0]))
    with pytest.raises(FormulaError, match="no finite log"):
        formulas(with_log)


def test_a_network_that_is_undefined_in_part_of_its_range_compiles_and_its_artifact_has_the_domain():
    kan = from_formula("log(x)", ranges={"x": (-1, 1)})
    (stored,) = from_json(compile(kan, ("numpy_source",)).formulas)
    assert stored.domain == ("log: x > 0",)


def test_a_domain_survives_json_and_may_be_missing_there():
    found = formulas(every_function(), strict=False)
    data = json.loads(json.dumps(to_json(found)))
    assert from_json(data) == found
    for entry in data["formulas"]:
        del entry["domain"]
    assert {formula.domain for formula in from_json(data)} == {()}
    data["formulas"][0]["domain"] = [1]
    with pytest.raises(FormatError):
        from_json(data)


def test_conditions_are_bounded_in_length_and_number():
    found = domain(" + ".join(f"log(x{i} + {i + 2})" for i in range(150)))
    assert len(found) == 101 and found[-1] == "… and 50 more"
    long = domain("log(" + " + ".join(f"sin({i}*x)" for i in range(1, 200)) + ")")
    assert len(long) == 1 and len(long[0]) < 1000 and "…" in long[0]


@pytest.mark.slow
@pytest.mark.extended
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(networks())
def test_no_step_of_a_tree_leaves_its_interval(kan):
    x = sample(kan, 100)
    built = trees(kan)
    for tree in built.trees:
        spans = [(low, high) for low, high in ranges(kan).tolist()]
        bounds = intervals(tree, built.tables, spans)
        positions = np.random.default_rng(0).permutation(len(tree))[:20].tolist()
        for position in positions:
            low, high = bounds[position]
            values = evaluate_tree(tree[: position + 1], built.tables, x)
            values = values[np.isfinite(values)]
            room = 1e-9 * max(1.0, *np.abs(values)) if len(values) else 0.0
            assert (values >= low - room).all() and (values <= high + room).all(), (tree[position], low, high)


@pytest.mark.slow
@pytest.mark.extended
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(networks())
def test_a_formula_with_no_condition_is_finite_in_all_of_its_range(kan):
    try:
        found = formulas(kan, limit=100, strict=False)
    except FormulaError:
        assume(False)
    x = sample(kan, 2000, seed=2)
    with np.errstate(all="ignore"):
        moderate = np.abs(np.nan_to_num(evaluate(kan, x), nan=0.0)).max() < 1e30
    for formula in found:
        if not formula.domain and moderate:
            assert np.isfinite(evaluate_tree(formula.tree, formula.tables, x)).all()
