"""Sessions: steps that can be undone, kept as JSON and replayed to the equal network; and every edit by itself."""

import inspect
from dataclasses import fields
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kanserve.data.dataset import Dataset
from kanserve.editing import KINDS, Session
from kanserve.editing.steps import STEPS_SHORT, Zero, take
from kanserve.editing.suggestions import FEWEST_ANSWERS
from kanserve.errors import DataError, InputError, KanserveError, NotFoundError
from kanserve.formula import from_formula
from kanserve.network.edge_names import place_of
from kanserve.network.encoding import encode
from kanserve.network.evaluate import edges, evaluate, subnodes
from kanserve.network.kan import Kan, Variable, equal, make_layer
from kanserve.simplification.validation import count_free_parameters, refit
from kanserve.train import create, fit, score
from tests.support.blas_threads import threads_at
from tests.support.networks import kans
from tests.support.sessions import law, replayed, rows_of

FUNCTIONS = ("sin", "x^2", "exp", "log", "1/x", "tanh", "sign", "no such function")
CONSTANTS = st.sampled_from([0.0, 1.0, -2.5, 0.1, 1e-300, 1e300, float("nan")])


@lru_cache
def start(name: str) -> tuple[Kan, Dataset]:
    """A network to edit, and data for it."""
    if name == "law":
        return law()
    if name == "formula":
        kan = from_formula("2*exp(-x^2)*(y + 3) + sqrt(y)", ranges={"x": (-1, 1), "y": (0.1, 2)})
        x = np.random.default_rng(2).uniform([-1, 0.1], [1, 2], (90, 2))
        return kan, Dataset(x, evaluate(kan, x))
    kan = {"multiplication": kans.multiplication, "mixed": kans.mixed, "raw": kans.raw_features}[name]()
    return kan, rows_of(kan)


STARTS = ("law", "formula", "multiplication", "mixed", "raw")


def random_edit(session: Session, draw: Any) -> None:
    edge = draw(st.sampled_from([*session.edges, "nothing->nowhere"]))
    match draw(st.sampled_from(("snap", "snap", "free", "zero", "set", "round", "rename", "refit", "undo", "redo"))):
        case "snap":
            session.snap(edge, draw(st.sampled_from(FUNCTIONS)), refit=draw(st.integers(-1, 6)))
        case "free":
            session.free(edge, draw(st.sampled_from([None, 5])))
        case "zero":
            session.zero(edge)
        case "set":
            session.set(edge, **draw(st.dictionaries(st.sampled_from("abcd"), CONSTANTS, max_size=4)))
        case "round":
            session.round(draw(st.integers(0, 5)), draw(st.sampled_from([(), (edge,)])))
        case "rename":
            new = draw(st.text(max_size=8))
            session.rename(
                draw(st.sampled_from([variable.name for variable in (*session.kan.inputs, *session.kan.outputs)])), new
            )
        case "refit":
            session.refit(draw(st.integers(1, 8)), smooth=draw(st.sampled_from([0.0, 1e-3])))
        case "undo":
            session.undo()
        case "redo":
            session.redo()


@pytest.mark.slow
@pytest.mark.extended
@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.data(), st.sampled_from(STARTS))
def test_a_replayed_session_gives_the_equal_network_bit_for_bit(data, name):
    kan, rows = start(name)
    session = Session(kan, rows)
    for _ in range(data.draw(st.integers(1, 8))):
        before, done = session.kan, len(session.history)
        try:
            random_edit(session, data.draw)
        except KanserveError:
            assert session.kan is before and len(session.history) == done
    assert equal(replayed(session, kan, rows), session.kan)
    again = Session.from_json(session.to_json(), kan, rows)
    assert equal(again.kan, session.kan) and again.history == session.history
    assert again.to_json() == session.to_json()
    ends = []
    for edited in (session, again):  # what was undone is kept too, in its order
        with pytest.raises(InputError, match="No step is left to redo"):
            while True:
                edited.redo()
        ends.append(edited.kan)
    assert equal(*ends)
    for _ in session.history:
        session.undo()
    assert session.kan is kan


@pytest.mark.slow
@pytest.mark.extended
def test_a_session_with_every_kind_of_step_is_replayed(monkeypatch):
    kan, data = law()
    session = Session(kan, data, seed=3)
    session.snap("x->h1", "sin").zero("L/D->h1").undo().refit(5).free("x->h1").prune().symbolify()
    session.set("x->h1", a=3.14).round(3).rename("L/D", "lift over drag").rename("z", 'quo"te\n')
    assert {record.step.split("(")[0] for record in session.history} == set(KINDS) - {"zero", "keep", "take"}
    assert equal(replayed(session, kan, data), session.kan)
    assert equal(Session.from_json(session.to_json(), kan, data).kan, session.kan)


def test_without_held_out_rows_all_are_learned_from_and_that_is_replayed():
    kan, data = law()
    session = Session(kan, data, held_out=False).snap("x->h1", "sin")
    other = Session(kan, data).snap("x->h1", "sin")
    assert not equal(session.kan, other.kan)
    assert equal(replayed(session, kan, data), session.kan)
    assert equal(Session.from_json(session.to_json(), kan, data).kan, session.kan)


def test_methods_take_what_their_steps_have():
    for kind, step in KINDS.items():
        _, *names = inspect.signature(getattr(Session, kind)).parameters
        names = [{"grid": "intervals"}.get(name, name) for name in names]
        assert names == [field.name for field in fields(step)]  # type: ignore[arg-type]  # steps are dataclasses


# Suggestions


def test_the_right_function_is_suggested_first_with_what_snapping_it_does():
    kan, data = law()
    session = Session(kan, data)
    for edge, wanted in (("x->h1", "sin"), ("L/D->h1", "x^2"), ("h1->z", "exp")):
        found = session.suggest(edge, top=5)
        assert found[0].function == wanted and found[0].r2 > 0.999 and len(found) == 5
        for suggestion in found[:3]:
            assert suggestion.change == suggestion.loss - session.loss
            assert session.snap(edge, suggestion.function).loss == suggestion.loss
            session.undo()


@pytest.mark.filterwarnings("ignore:Too few rows:kanserve.train.TrainingWarning")
def test_a_good_fit_of_an_edge_may_cost_more_than_a_poor_one():
    # In few rows a spline wiggles: 1/x is no closer to it than arctan is, and yet it is the law.
    x = np.sort(1000 + 5000 * np.random.default_rng(0).beta(1, 4, (14, 1)), axis=0)
    data = Dataset(x, 1e3 / (x - 980), ("pressure",))
    session = Session(fit([1, 1], data), data)
    found = {suggestion.function: suggestion for suggestion in session.suggest("pressure->y")}
    assert found["arctan"].r2 > found["1/x"].r2 - 1e-3 and found["arctan"].loss > 1e6 * found["1/x"].loss
    assert session.snap("pressure->y", "1/x").snapshot().edges[0].constants[:2] == pytest.approx((1.0, -980.0))


def test_r2_is_weighted_by_what_the_edge_does_to_the_outputs():
    # Beyond 0 the exponential amplifies the edge a thousandfold: a function must be close there.
    kan = Kan((make_layer(functions=[["x"]]), make_layer(functions=[["exp"]], affine=[[[8.0, 0, 1, 0]]])))
    session = Session(kan, rows_of(kan, 300, 0.0))
    found = {suggestion.function: suggestion for suggestion in session.suggest("x1->h1", functions=["x", "exp"])}
    assert found["x"].r2 == pytest.approx(1) and found["exp"].r2 > 0.98


@pytest.mark.slow
@pytest.mark.extended
def test_a_named_edge_is_suggested_other_functions_and_its_own():
    kan, data = start("formula")
    session = Session(kan, data)
    for edge in session.edges:
        depth, j, i = place_of(kan, edge)
        own = str(kan.layers[depth].functions[j, i])
        assert session.suggest(edge)[0].function == own


@pytest.mark.slow
def test_suggestions_refit_the_network_for_the_closest_functions_only(monkeypatch):
    x = np.random.default_rng(0).uniform(-1, 1, (1000, 4))
    data = Dataset(x, np.exp(np.sin(np.pi * x[:, 0]) + x[:, 1] ** 2) + x[:, 2] * x[:, 3])
    session = Session(create([4, 5, 1], grid=10), data).refit(10)
    iterations: list[int] = []

    def counted(kan, rows, count):
        iterations.append(count)
        return refit(kan, rows, count)

    monkeypatch.setattr("kanserve.editing.steps.refit", counted)
    assert len(session.suggest("x1->h1", top=8)) == 8
    assert iterations == [STEPS_SHORT] * 8


def test_suggestions_for_many_outputs_refit_to_fewer_rows_in_fewer_steps(monkeypatch):
    x = np.random.default_rng(0).uniform(-1, 1, (1000, 2))
    labels = np.digitize(x[:, 0] + x[:, 1] ** 2, [-0.5, 0.0, 0.5, 1.0]).astype(str)
    data = Dataset(x, labels)
    session = Session(fit([2, 1, 5], data, starts=1, steps=20, grid=5), data)
    exact = {one.function: one.loss for one in session.suggest("x1->h1", top=4)}
    sizes: list[tuple[int, int]] = []

    def counted(kan, judge, count):
        sizes.append((len(judge.learn), count))
        return refit(kan, judge, count)

    monkeypatch.setattr("kanserve.editing.steps.refit", counted)
    monkeypatch.setattr("kanserve.editing.suggestions.MOST_WORK", 5e6)
    quick = {one.function: one.loss for one in session.suggest("x1->h1", top=4)}
    assert quick.keys() == exact.keys()
    assert set(sizes) == {(FEWEST_ANSWERS * count_free_parameters(session.kan) // 5, 5)}
    assert max(abs(quick[name] - exact[name]) for name in exact) < 0.1 * session.loss


def test_suggestions_keep_linear_algebra_on_one_thread(monkeypatch):
    # On busy cores, threads that wait for one another made the candidates of an edge take three times as long.
    kan, data = law()
    with threads_at(monkeypatch, "kanserve.editing.suggestions.put_in") as threads:
        Session(kan, data).suggest("x->h1", top=1)
    assert threads == {1}


def test_an_edge_that_gives_nothing_on_the_data_is_said_so():
    kan, data = start("formula")
    session = Session(kan, data)
    edge = session.edges[0]
    session.set(edge, c=0.0, d=0.0)
    with pytest.raises(InputError, match="gives 0 on all of the rows"):
        session.suggest(edge)


# Edits


def test_a_freed_function_is_a_spline_that_equals_it_and_can_be_snapped_back():
    kan, data = start("formula")
    session = Session(kan, data)
    for edge in session.edges:
        depth, j, i = place_of(kan, edge)
        session.free(edge)
        assert session.kan.layers[depth].spline_mask[j, i] and not session.kan.layers[depth].symbolic_mask[j, i]
        session.snap(edge, str(kan.layers[depth].functions[j, i]))
    assert np.abs(evaluate(session.kan, data.x) - evaluate(kan, data.x)).max() < 1e-3
    session.undo()
    for _ in session.history:
        session.undo()
    for edge in session.edges:
        session.free(edge)
    assert np.abs(evaluate(session.kan, data.x) - evaluate(kan, data.x)).max() < 2e-3


def test_freeing_one_edge_leaves_the_splines_beside_it_as_they_are():
    kan = kans.mixed()
    data = rows_of(kan)
    freed = Session(kan, data).free("x2->h1", grid=20).kan
    x = np.random.default_rng(0).uniform(-1, 1, (50, 2))
    assert freed.layers[0].intervals == 20 and evaluate(freed, x) == pytest.approx(evaluate(kan, x), abs=1e-4)


def test_a_law_is_refined_by_a_spline_where_it_is_wrong():
    law_of_books = from_formula("2*x + sin(y)", ranges={"x": (-1, 1), "y": (-1, 1)})
    x = np.random.default_rng(0).uniform(-1, 1, (300, 2))
    data = Dataset(x, np.abs(x[:, 0]) ** 1.5 + np.sin(x[:, 1]), ("x", "y"))
    session = Session(law_of_books, data)
    before = session.loss
    assert session.free(session.edges[0], grid=8).refit().loss < 1e-4 * before


def test_a_zeroed_edge_leaves_its_mean_and_the_names_of_the_others():
    kan, data = start("multiplication")
    session = Session(kan, data)
    names = session.edges
    session.zero("x1->h2:1")
    assert session.edges == tuple(name for name in names if name != "x1->h2:1")
    learned, _ = data.split(0.2)
    layers = (kan.layers[0], session.kan.layers[0])
    sums = [subnodes(layer, edges(layer, learned.x)).mean(axis=0) for layer in layers]  # inputs are not scaled here
    assert sums[0] == pytest.approx(sums[1], rel=1e-12)


def test_constants_are_in_the_units_of_the_data():
    kan = Kan(
        (make_layer(functions=[["sin"]], affine=[[[2.0, 0.5, 3.0, 1.0]]]),),
        inputs=(Variable("pressure"),),
        input_shift=np.array([1000.0]),
        input_scale=np.array([200.0]),
        output_shift=np.array([7.0]),
        output_scale=np.array([4.0]),
    )
    x = np.linspace(800, 1200, 40)[:, None]
    session = Session(kan, Dataset(x, evaluate(kan, x), ("pressure",)))
    a, b, c, d = session.snapshot().edges[0].constants
    assert evaluate(kan, x)[:, 0] == pytest.approx(c * np.sin(a * x[:, 0] + b) + d + 7, rel=1e-12)
    assert (a, c, d) == (0.01, 12.0, 4.0)
    session.set("pressure->y", a=0.02, d=-1)
    assert evaluate(session.kan, x)[:, 0] == pytest.approx(12 * np.sin(0.02 * x[:, 0] + b) - 1 + 7, rel=1e-12)
    rounded = session.round(2).snapshot().edges[0].constants
    assert rounded == pytest.approx((0.02, float(f"{b:.2g}"), 12.0, -1.0), rel=1e-12)


def test_redundant_constants_are_shown_once():
    kan = Kan((make_layer(functions=[["x^2", "x", "exp"]], affine=[[[3, 6, 2, 1], [2, 1, 3, 4], [2, 1, 1, 0]]]),))
    data = rows_of(kan)
    session = Session(kan, data)
    shown = [edge.constants for edge in session.snapshot().edges]
    assert shown == [(1, 2, 18, 1), (1, 0, 6, 7), (2, 0, pytest.approx(np.e), 0)]
    session.set("x1->y", c=18.0)
    assert evaluate(session.kan, data.x) == pytest.approx(evaluate(kan, data.x), rel=1e-12)


def test_renaming_changes_what_edges_are_called():
    kan, data = law()
    session = Session(kan, data).rename("x", "time").rename("z", "h1")
    assert session.edges == ("time->h1", "L/D->h1", "h1->h1")
    clash = Session(kan, data).rename("z", "x")
    with pytest.raises(InputError, match="say of='input' or of='output'"):
        clash.rename("x", "w")
    assert clash.rename("x", "w", of="output").kan.outputs[0].name == "w"


def test_constant_inputs_and_a_classifier_are_edited_too():
    x = np.column_stack([np.linspace(-1, 1, 60), np.full(60, 2.0)])
    data = Dataset(x, np.sin(3 * x[:, 0]), ("x", "c"))
    session = Session(create([2, 1, 1], grid=3, seed=1), data).refit(30)
    with pytest.raises(InputError, match="can stand for x2->h1: on all that reaches the edge, 2 to 2"):
        session.snap("x2->h1", "sin")
    assert np.isfinite(session.snap("x1->h1", "sin").loss)
    kan = kans.classifier()
    y = np.eye(3)[np.random.default_rng(0).integers(0, 3, 60)]
    rows = Dataset(np.random.default_rng(1).uniform(-1, 1, (60, 2)), y, classes=kan.classes)
    one = Session(kan, rows)
    edited = one.snap(one.edges[0], "x").refit(3)
    assert equal(replayed(edited, kan, rows), edited.kan) and len(one.snapshot().r2) == 3
    with pytest.raises(NotFoundError, match="Nothing to rename"):
        one.rename("setosa", "other")


# Names


# Views


def test_a_renamed_input_keeps_its_categories_and_fill_value():
    kan = kans.named_categories()
    x = np.array([[code, number] for code in (0.0, 1.0, 2.0) for number in (-1.5, -0.5, 0.5, 1.5)])
    named = Session(kan, (x, kan(x))).rename("kind", "sort").rename("y", "z", of="input").kan
    assert [one.name for one in named.inputs] == ["sort", "z"]
    raw = [[2.0, np.nan], [np.nan, 1.0], [7.0, 1.0]]
    assert np.array_equal(named(raw), kan(raw)) and np.isfinite(named(raw)).all()


def test_a_step_that_was_computed_elsewhere_is_taken_as_if_it_was_computed_here():
    session, here = Session(*law()), Session(*law())
    for edge in ("x->h1", "L/D->h1"):
        step = Zero(edge)
        session.accept(step, take(step, session.kan, session.rows))
        here.zero(edge)
    assert equal(session.kan, here.kan) and session.as_python() == here.as_python()
    session.undo().undo()
    assert list(session.undone) == [Zero("L/D->h1"), Zero("x->h1")]
    session.accept(session.undone[-1], here.undo().kan, redone=True)
    assert list(session.undone) == [Zero("L/D->h1")] and equal(session.kan, here.kan)
    assert equal(session.redo().kan, here.redo().kan)
    assert equal(session.first, law()[0])


def test_who_watches_a_session_is_told_of_every_change_until_it_leaves():
    session, told = Session(*law()), []
    leave = session.watch(lambda: told.append(len(session.history)))
    session.zero("x->h1").undo().redo()
    with pytest.raises(NotFoundError):
        session.zero("x->h9")
    leave()
    session.undo()
    assert told == [1, 0, 1]


def table_of_categories() -> tuple[Kan, Dataset]:
    """A fitted network with a category and missing values, and its rows."""
    generator = np.random.default_rng(0)
    town, area = generator.integers(0, 3, 200), generator.uniform(-1, 1, 200)
    y = area**2 + np.array([0.0, 1.0, 3.0])[town]
    x = np.column_stack([town, np.where(np.arange(200) % 9 == 0, np.nan, area)])
    data = Dataset(x, y, ("town", "area"), ("price",), categories={"town": ("Bonn", "Köln", "Ulm")})
    return fit([2, 1], data, starts=1), data


def test_a_network_of_categories_and_missing_values_is_edited_in_the_numbers_that_it_sees():
    kan, data = table_of_categories()
    session = Session(kan, data)
    assert session.loss < 0.1 and session.suggest("area->price")[0].function == "x^2"
    edited = session.snap("area->price", "x^2").rename("town", "place").prune().kan
    assert [one.categories for one in edited.inputs] == [one.categories for one in kan.inputs]
    assert [one.fill_value for one in edited.inputs] == [one.fill_value for one in kan.inputs]
    assert edited.inputs[0].name == "place" and score(edited, data).r2[0] > 0.9
    assert session.snapshot().r2[0] > 0.9 and "x^2" in edited.layers[0].functions
    again = Session.from_json(session.to_json(), kan, data)
    assert equal(again.kan, edited) and equal(replayed(session, kan, data), edited)


def test_the_held_out_rows_of_a_session_are_had_as_they_were_given():
    kan, data = table_of_categories()
    rows = Session(kan, data).rows
    np.testing.assert_array_equal(encode(kan, rows.held_as_given.x), rows.held.x)
    np.testing.assert_array_equal(rows.held_as_given.y, rows.held.y)
    assert np.isnan(rows.held_as_given.x).any() and rows.held_as_given.categories == data.categories


def test_another_category_than_the_network_has_is_refused_with_its_input():
    kan, data = law()
    named = Dataset(np.zeros((20, 2)), np.zeros(20), data.inputs, ("z",), categories={"x": ("a",)})
    with pytest.raises(DataError, match="Input 'x' has categories in the data, and is a number in the network"):
        Session(kan, named)
