import warnings

import numpy as np
import pytest

from kanserve.errors import DataError, FormatError
from kanserve.formula import Table, evaluate_tree, from_json
from kanserve.formula.expressions.tree import MAX_DEPTH, TREE_MAX_STEPS

STEP = Table(np.array([0.0, 1.0]), np.array([0.0, 0.0, 1.0]), np.array([[0.0, 0.0], [0.0, 2.0], [2.0, 0.0]]))


def test_each_operation_is_what_it_says():
    x = np.array([[0.5, -3.0], [2.0, 0.25]])
    cases = {
        2.5: [["const", 2.5]],
        "x0": [["var", 0]],
        "x0 + x1 + 1": [["var", 0], ["var", 1], ["const", 1], ["add", 0, 1, 2]],
        "x0*x1*x1": [["var", 0], ["var", 1], ["mul", 0, 1, 1]],
        "x0**5": [["var", 0], ["pow", 0, 5]],
        "x1**-3": [["var", 1], ["pow", 0, -3]],
        "np.sin(x1)": [["var", 1], ["call", "sin", 0]],
        "2*np.clip(x0, 0, 1)": [["var", 0], ["spline", "s_1_1_1", 0]],
    }
    for meaning, tree in cases.items():
        wanted = eval(str(meaning), {"np": np, "x0": x[:, 0], "x1": x[:, 1]})
        assert np.allclose(evaluate_tree(tree, {"s_1_1_1": STEP}, x), wanted, rtol=1e-15)


def test_a_point_on_a_break_belongs_to_the_piece_that_begins_there():
    jump = Table(np.array([0.0]), np.array([0.0, 0.0]), np.array([[1.0], [2.0]]))
    got = evaluate_tree([["var", 0], ["spline", "s_1_1_1", 0]], {"s_1_1_1": jump}, [[-1e-300], [0.0], [1.0]])
    assert got.tolist() == [1, 2, 2]


def test_a_row_in_which_anything_is_not_finite_is_nan_and_nothing_warns():
    # 1/exp(x) is finite where exp(x) is infinite, tanh(1/x) where 1/x is: the rows are NaN all the same.
    tree = [
        ["var", 0],
        ["call", "exp", 0],
        ["pow", 1, -1],
        ["pow", 0, -1],
        ["call", "tanh", 3],
        ["add", 2, 4],
    ]
    x = np.array([[1.0, 0], [1000.0, 0], [0.0, 0], [np.nan, 0], [np.inf, 0], [1.0, np.nan]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = evaluate_tree(tree, {}, x)
    assert np.isnan(got).tolist() == [False, True, True, True, True, True]


def test_a_chain_of_thousands_of_steps_needs_no_recursion():
    tree = [["var", 0], *(["call", "sin", n] for n in range(MAX_DEPTH - 1))]
    got = evaluate_tree(tree, {}, [[1.0]])
    assert 0 < got[0] < 0.1
    with pytest.raises(FormatError, match="levels"):
        evaluate_tree([*tree, ["call", "sin", MAX_DEPTH - 1]], {}, [[1.0]])


def test_shared_steps_are_computed_once():
    # x·2^300 by doubling: written out it would have 2^300 leaves.
    tree = [["var", 0], *(["add", n, n] for n in range(300))]
    assert evaluate_tree(tree, {}, [[1.0]]).tolist() == [2.0**300]


@pytest.mark.parametrize(
    "tree",
    [
        [],
        {},
        "var",
        None,
        [["var", 0]] * (TREE_MAX_STEPS + 1),
        [[]],
        ["const"],
        [["const"]],
        [["const", "1"]],
        [["const", True]],
        [["const", None]],
        [["const", float("nan")]],
        [["const", float("inf")]],
        [["const", 10**400]],
        [["var", -1]],
        [["var", True]],
        [["var", 0.0]],
        [["var", 10**30]],
        [["var", 0, 0]],
        [["add", 0, 0]],
        [["var", 0], ["add", 0]],
        [["var", 0], ["add", 0, 1]],
        [["var", 0], ["add", 0, -1]],
        [["var", 0], ["add", 0, True]],
        [["var", 0], ["add", 0, [0]]],
        [["var", 0], ["pow", 0, 9**9]],
        [["var", 0], ["pow", 0, 0]],
        [["var", 0], ["pow", 0, 0.5]],
        [["var", 0], ["pow", 0, True]],
        [["var", 0], ["call", "eval", 0]],
        [["var", 0], ["call", ["sin"], 0]],
        [["var", 0], ["call", "sin", 5]],
        [["var", 0], ["call", "sin", 0, 0]],
        [["var", 0], ["spline", "s_9_9_9", 0]],
        [["var", 0], ["spline", "__class__", 0]],
        [["var", 0], ["import", "os"]],
        [["var", 0], [["add"], 0, 0]],
    ],
    ids=lambda tree: str(tree)[:40],
)
def test_a_hostile_tree_is_refused(tree):
    with pytest.raises(FormatError):
        evaluate_tree(tree, {"s_1_1_1": STEP, "__class__": STEP}, [[1.0]])


@pytest.mark.parametrize(
    ("breaks", "origins", "coefficients"),
    [
        ([0.0], [0.0], [[1.0]]),
        ([1.0, 0.0], [0.0, 0.0, 0.0], [[1.0]] * 3),
        ([], [0.0], [[]]),
        ([], [], []),
        ([], [0.0], [[np.nan]]),
        ([np.inf], [0.0, 0.0], [[1.0], [1.0]]),
        ([], [0.0], [[1.0] * 100]),
        ([], [0.0], [["a"]]),
        ([0.0], [0.0, 0.0], [[1.0], [1.0, 2.0]]),
        ([], [0.0], [[10**400]]),
    ],
)
def test_a_hostile_table_is_refused(breaks, origins, coefficients):
    with pytest.raises(FormatError):
        Table(breaks, origins, coefficients)


@pytest.mark.parametrize("x", [[1.0, 2.0], [["a", "b"]], [[1.0]], np.ones((1, 2, 2))])
def test_rows_that_do_not_fit_the_tree_are_refused(x):
    with pytest.raises(DataError):
        evaluate_tree([["var", 1]], {}, x)


@pytest.mark.parametrize("data", [None, [], {}, "x", {"version": 2}, {"version": 1, "tables": {}, "formulas": 3}])
def test_json_that_is_no_formulas_is_refused(data):
    with pytest.raises(FormatError):
        from_json(data)
