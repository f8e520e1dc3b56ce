"""`find_formulas`: laws from rows, honest about what is exact, within its limits, and quiet unless asked."""

import io
import signal
import time
from contextlib import redirect_stderr, redirect_stdout
from itertools import count, pairwise

import numpy as np
import pytest

import kanserve
from kanserve import find_formulas
from kanserve.artifact_compiler import compile as compile_kan
from kanserve.data.dataset import Dataset
from kanserve.errors import DataError, InputError, KanserveError
from kanserve.network.evaluate import evaluate
from kanserve.network.kan import Symbolic
from kanserve.search import Improvement
from kanserve.search.findings import find_formulas as driver
from kanserve.search.findings.pareto_front import pareto_front
from kanserve.search.findings.postprocess import Finisher
from kanserve.search.regression.budget import Budget
from kanserve.search.trees.nodes import Curve, Sum

GENERATOR = np.random.default_rng(0)
X = GENERATOR.uniform(0.4, 1.8, (400, 3))
A, B, C = X.T
NORMAL = GENERATOR.normal(size=400)
MANY = 2000
"""Fits, ten times as many as the laws here take."""
HARD = np.exp(A * np.sin(5 * B + C)) / (1 + C + A**2) + 0.2 * NORMAL


def data(*columns, y, names="abcdef"):
    return Dataset(np.stack(columns, axis=1), y, tuple(names[: len(columns)]), ("y",))


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize(
    ("columns", "y", "law"),
    [
        ((A, B), 0.5 * A * B**2, "0.5*a*b^2"),
        ((A, B), A / np.sqrt(4 - B**2), "a/sqrt(4 - b^2)"),
        ((A, B, C), A * np.exp(-B / C), "a*exp(-b/c)"),
        ((A, B, C), np.sqrt(A**2 + B**2) * C / (4 * np.pi), "c*sqrt(a^2 + b^2)/(4*pi)"),
        ((A,), np.sin(3 * A) + 1, "sin(3*a) + 1"),
        ((A, B, C), A + B * C, "a + b*c"),
        ((A, B), 3 * A - 2 * B + 0.5, "3*a - 2*b + 0.5"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_an_exact_law_is_found_exactly_and_written_as_it_is(columns, y, law):
    found = find_formulas(data(*columns, y=y), max_fits=MANY)
    assert found.best.exact and found.best.formula.text == law
    assert max(found.best.error, found.best.validation) < 1e-12
    assert found.candidates[-1] is found.best


@pytest.mark.slow
def test_the_network_of_a_formula_gives_the_answers():
    y = 0.5 * A**2 * np.exp(-B)
    found = find_formulas((X[:, :2], y), max_fits=MANY).best
    assert np.allclose(evaluate(found.kan, X[:, :2])[:, 0], y, rtol=1e-12)
    assert [variable.name for variable in found.kan.inputs] == ["x1", "x2"] and found.formula.name == "y"
    assert found.kan.inputs[0].low == A.min() and found.kan.inputs[0].high == A.max()


@pytest.mark.slow
@pytest.mark.extended
def test_noise_hides_neither_the_law_nor_its_constants_and_is_never_exact():
    y = 2.5 * A * np.exp(-0.5 * B)
    found = find_formulas(data(A, B, C, y=y + 0.01 * NORMAL), max_fits=MANY)
    assert found.best.formula.text == "2.5*a*exp(-0.5*b)" and not found.best.exact
    assert found.best.validation == pytest.approx(0.01, rel=0.2)


@pytest.mark.slow
def test_inputs_that_do_nothing_change_nothing():
    others = np.random.default_rng(2).uniform(0.5, 1.5, (400, 4))
    rows = Dataset(np.column_stack([X[:, :2], others]), A / (1 + B))
    assert find_formulas(rows, max_fits=MANY).best.formula.text == "x1/(x2 + 1)"


def test_equal_arguments_give_equal_findings():
    rows = data(A, B, y=1.37 * A * B**2 + 0.02 * NORMAL)
    first, second = (find_formulas(rows, max_fits=MANY, seed=3) for _ in range(2))
    assert str(first) == str(second) and [candidate.error for candidate in first.candidates] == [
        candidate.error for candidate in second.candidates
    ]
    assert all(kanserve.equal(a.kan, b.kan) for a, b in zip(first.candidates, second.candidates, strict=True))


@pytest.mark.slow
@pytest.mark.extended
def test_the_list_goes_from_simple_to_exact_and_every_step_is_worth_it():
    found = find_formulas(data(A, B, C, y=A * B**2 * (1 + C) + 0.01 * NORMAL), max_fits=MANY)
    listed = found.candidates
    assert 3 <= len(listed) <= 12 and found.best in listed
    assert listed[0].complexity == 1 and "a" not in listed[0].formula.text  # the mean
    for before, after in pairwise(listed):
        assert after.complexity > before.complexity
        assert after.validation < 0.95 * before.validation or after is found.best
    assert str(found).startswith("within noise: ") and found.status == "within noise"
    assert str(found).count("\n") == len(listed) and str(found).count("*  ") <= 1
    html = found._repr_html_()
    assert html.count("<tr") == len(listed) + 1 and html.index("<math") < html.index("within noise")


def test_an_interval_holds_as_many_new_answers_as_it_says():
    generator = np.random.default_rng(5)
    x = generator.uniform(0.5, 2, (300, 2))
    law = 1.2345 * x[:, 0] / x[:, 1]
    found = find_formulas((x, law + 0.05 * generator.normal(size=300)), max_fits=MANY).best
    new = generator.uniform(0.5, 2, (5000, 2))
    answers = 1.2345 * new[:, 0] / new[:, 1] + 0.05 * generator.normal(size=5000)
    for level in (0.5, 0.95):
        low, high = found.interval(new, level)
        assert np.mean((low < answers) & (answers < high)) == pytest.approx(level, abs=0.04)
    (constant,) = found.constants
    assert 0 < constant.standard_error < 0.01 and abs(constant.value - 1.2345) < 4 * constant.standard_error


# Units.


@pytest.mark.slow
def test_units_lead_to_the_law_and_stay_with_its_variables():
    speed, light = GENERATOR.uniform(1e7, 2.5e8, 400), np.full(400, 3e8)
    rows = data(A, speed, light, y=A / np.sqrt(1 - speed**2 / light**2), names=("m", "v", "c"))
    found = find_formulas(rows, units={"m": "kg", "v": "m/s", "c": "m/s", "y": "kg"}, max_fits=MANY).best
    assert found.exact and found.formula.text == "m/sqrt(1 - v^2/c^2)"
    assert [variable.unit for variable in found.kan.inputs] == ["kg", "m/s", "m/s"] and found.kan.outputs[
        0
    ].unit == "kg"
    assert [variable.unit for variable in found.formula.variables] == ["kg", "m/s", "m/s"]


@pytest.mark.slow
def test_a_law_that_does_not_keep_to_the_units_is_found_all_the_same():
    rows = data(A, B, y=A + np.sin(3 * B))
    found = find_formulas(rows, units={"a": "m", "b": "s", "y": "m"}, max_fits=MANY).best
    assert found.exact and found.formula.text == "a + sin(3*b)"


@pytest.mark.parametrize(
    ("units", "message"),
    [
        ({"a": "kg", "b": "m", "y": "J"}, "no law can relate them"),
        ({"a": "kg", "b": "m/s", "q": "1", "y": "J"}, "q, which is not a column"),
        ({"a": "kg", "y": "J"}, "lacks b"),
        ({"a": "kg", "b": "m//s", "y": "J"}, "cannot be read"),
        ({"a": "kg", "b": 3, "y": "J"}, "map names to texts"),
        ("m", "map names to texts"),
    ],
)
def test_units_that_cannot_be_meant_are_refused_in_words(units, message):
    with pytest.raises(InputError, match=message):
        find_formulas(data(A, B, y=A * B), units=units)


# Odd data.


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize(
    ("x", "y", "law"),
    [
        (X[:, :2], np.full(400, 2.5), "2.5"),
        (X[:, :2], np.zeros(400), "0"),
        (X[:, :2], 1e-12 * A**2 * np.exp(-B), "1e-12*x1^2*exp(-x2)"),
        (X[:, :2], 1e12 * A**2 * np.exp(-B), "1e12*x1^2*exp(-x2)"),
        (X[:, :2] * [1e-20, 1e9], A**2 * np.exp(-B), "1e40*x1^2*exp(-1e-9*x2)"),
        (np.column_stack([A, np.full(400, 7.0), B]), A**2 * np.exp(-B), "x1^2*exp(-x3)"),
        (np.column_stack([A, B, A]), A**2 * np.exp(-B), "x1^2*exp(-x2)"),
        (X[:20, :2], (A + np.exp(-B))[:20], "x1 + exp(-x2)"),
        (X[:10, :2], (2 * A + B)[:10], "2*x1 + x2"),
    ],
    ids=["constant", "zero", "tiny", "huge", "far inputs", "a constant input", "an input twice", "20 rows", "10 rows"],
)
def test_odd_data_give_the_law_too(x, y, law):
    found = find_formulas((x, y), max_fits=MANY)
    assert found.best.exact and found.best.formula.text == law


def test_inputs_that_say_nothing_leave_the_mean():
    found = find_formulas((np.ones((400, 2)), A), max_fits=MANY)
    assert [candidate.complexity for candidate in found.candidates] == [1] and not found.best.exact


@pytest.mark.slow
@pytest.mark.parametrize("rows", [10, 25])
def test_noise_on_few_rows_is_never_an_exact_law_nor_one_of_many_constants(rows):
    y = np.random.default_rng(7).normal(size=rows)
    found = find_formulas((X[:rows], y), max_fits=200)
    assert not any(candidate.exact for candidate in found.candidates)
    assert all(2 * len(candidate.constants) <= rows for candidate in found.candidates)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((X[:4], A[:4]), "At least 5 rows"),
        ((X, np.where(A > 1, np.nan, A)), "finite"),
        (Dataset(X, np.stack([A > 1, A <= 1], axis=1), classes=("no", "yes")), "classes"),
        ("a file", "Dataset, a pair .x, y., or a DataFrame"),
        ((X, 1e300 * A), "other units"),
        ((X, 1e-200 * A), "other units"),
    ],
    ids=["few rows", "nan", "classes", "text", "too large", "too small"],
)
def test_data_that_cannot_be_searched_are_refused_in_words(given, message):
    with pytest.raises(DataError, match=message):
        find_formulas(given)


@pytest.mark.parametrize(
    "options",
    [{"seconds": 0}, {"seconds": -1}, {"functions": ()}, {"functions": "sin"}]
    + [{"seed": seed} for seed in (-1, 1.5, None, "0")]
    + [{"max_fits": fits} for fits in (0, -1, True, 10.0, "10")],
)
def test_options_that_cannot_be_meant_are_refused(options):
    with pytest.raises(InputError, match=next(iter(options))):
        find_formulas((X, A), **options)
    with pytest.raises(KanserveError):
        find_formulas((X, A), functions=("no such function",))


# Limits.


def clock_of(monkeypatch, tick):
    """Let each look at the clock find it so many seconds on."""
    monkeypatch.setattr(time, "perf_counter", (tick * n for n in count()).__next__)


@pytest.mark.slow
@pytest.mark.extended
def test_the_result_of_a_limit_of_fits_does_not_depend_on_the_clock(monkeypatch):
    found = []
    for tick in (0.0, 1e6):
        clock_of(monkeypatch, tick)
        found.append(find_formulas(data(A, B, C, y=HARD), max_fits=500))
    one, other = found
    assert one.ended == other.ended == "max_fits" and str(one) == str(other)
    assert all(kanserve.equal(a.kan, b.kan) for a, b in zip(one.candidates, other.candidates, strict=True))


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("limit", [1, 40, 500])
def test_no_more_fits_are_made_than_the_limit_allows(limit, monkeypatch):
    budget = Budget(max_fits=limit)
    monkeypatch.setattr(driver, "Budget", lambda deadline, max_fits=1: budget)
    assert find_formulas(data(A, B, C, y=HARD), max_fits=limit).ended == "max_fits"
    assert budget.fits == limit


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize(
    ("limits", "tick", "ended"),
    [
        ({"seconds": 5.0}, 0.05, "seconds"),
        ({"seconds": 5.0, "max_fits": 10}, 1e-4, "max_fits"),
        ({"seconds": 5.0, "max_fits": 10**6}, 0.05, "seconds"),
        ({}, 1.0, "seconds"),
    ],
    ids=["seconds", "fits first", "seconds first", "a minute where nothing is said"],
)
def test_the_limit_that_is_reached_first_ends_the_search_and_is_named(limits, tick, ended, monkeypatch):
    clock_of(monkeypatch, tick)
    assert find_formulas(data(A, B, C, y=HARD), **limits).ended == ended


def test_a_search_that_a_law_or_the_last_shape_ends_says_so():
    assert find_formulas(data(A, B, y=A * B), max_fits=MANY).ended == "settled"
    assert find_formulas((np.ones((400, 2)), A), max_fits=MANY).ended == "exhausted"


@pytest.mark.slow
@pytest.mark.extended
def test_all_rows_decide_on_the_constants():
    generator = np.random.default_rng(4)
    x = generator.uniform(0.5, 1.5, (20_000, 2))
    y = 1.2345 * x[:, 0] ** 2 * x[:, 1] + 0.02 * generator.normal(size=20_000)
    best = find_formulas((x, y), max_fits=MANY).best
    free = [constant for constant in best.constants if constant.standard_error > 0]
    assert len(best.data) == 20_000 and len(free) == 1
    assert abs(free[0].value - 1.2345) < 4 * free[0].standard_error < 0.002


def test_a_formula_that_is_not_finite_everywhere_is_shown_with_its_domain_and_is_not_exact():
    node = Sum((Curve(0, Symbolic("log", 1.0, -0.41, 1.0, 0.0)),))
    with np.errstate(invalid="ignore"):
        y = np.nan_to_num(np.log(A - 0.41), nan=-4.0)
    learn, held = data(A, B, y=y).split(0.2, 0)
    made = Finisher(learn, held, learn, None, np.inf).finish(node)
    assert made is not None and 0.98 < made.defined < 1 and made.error < 1e-12 and not made.exact
    assert made.formula.domain == ("log: a - 0.41 > 0",)
    assert "where log: a - 0.41 > 0" in str(made) and "of the rows" in str(made)


def test_a_list_of_nothing_is_refused_in_words():
    with pytest.raises(DataError, match="other units"):
        pareto_front([], None)


def test_an_interval_is_asked_of_rows_of_the_width_of_the_inputs():
    found = find_formulas(data(A, B, y=2 * A + B), max_fits=MANY)
    with pytest.raises(DataError, match=r"\(N, 2\), got \(1, 1\)"):
        found.best.interval([[1.0]])


def test_what_was_found_is_compiled_with_its_network():
    found = find_formulas(data(A, B, y=2 * A + B), max_fits=MANY)
    (entry,) = compile_kan(found.best.kan, ("numpy_source",), candidates=found).evidence
    assert len(entry["alternatives"]) == len(found.candidates)
    assert compile_kan(found.best.kan, ("numpy_source",), candidates=found.candidates).evidence == [entry]


# What it tells.


@pytest.mark.extended
def test_nothing_is_printed_unless_asked_and_then_a_line_on_the_standard_error():
    rows = data(A, B, C, y=A * np.exp(-B / C))
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        find_formulas(rows, max_fits=MANY)
        assert err.getvalue() == ""
        find_formulas(rows, max_fits=MANY, progress=True)
    assert out.getvalue() == ""
    assert "exp(" in err.getvalue() and "s left" in err.getvalue() and "nan" not in err.getvalue()


@pytest.mark.slow
@pytest.mark.extended
def test_each_better_formula_is_reported_with_its_error_in_units_of_the_answers():
    told: list[Improvement] = []
    found = find_formulas(data(A, B, C, y=1e6 * A * np.exp(-B / C)), max_fits=MANY, progress=told.append)
    assert told and all(isinstance(improvement, Improvement) for improvement in told)
    errors = [improvement.loss for improvement in told]
    assert errors == sorted(errors, reverse=True)
    assert [improvement.tried for improvement in told] == sorted(improvement.tried for improvement in told)
    assert told[-1].loss < 1e-3 and 0 <= told[0].seconds <= told[-1].seconds and "exp(" in told[-1].text
    assert found.best.exact


@pytest.mark.slow
def test_an_interrupted_search_gives_what_it_has():
    told = []

    def interrupt(one):
        told.append(one)
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # the command line, if it ran here, has its own
    try:
        found = find_formulas(data(A, B, C, y=A * np.exp(-B / C)), max_fits=MANY, progress=interrupt)
    finally:
        signal.signal(signal.SIGINT, before)
    assert found.ended == "interrupted" and len(told) == 1 and found.candidates[0].complexity == 1


def test_values_that_overflow_or_divide_by_zero_are_no_warning_of_the_caller():
    generator = np.random.default_rng(0)
    rating, flag = generator.integers(1, 6, 400), generator.integers(0, 2, 400)
    age, hundreds = generator.choice([17.5, 22, 27, 32, 37, 42], 400), generator.integers(0, 3, 400) * 100.0
    y = np.exp(generator.normal(0, 1.5, 400)) * (6 - rating) * (generator.random(400) < 0.4)
    assert len(find_formulas((np.column_stack([rating, flag, age, hundreds]), y), max_fits=1000)) > 0
