"""Steps on a whole network: keeping its largest edges, and taking a formula in its place; own functions in scripts."""

import numpy as np
import pytest

import kanserve
from kanserve.editing import Session
from kanserve.editing.steps import exact_text
from kanserve.errors import InputError
from kanserve.formula import formulas
from kanserve.network.kan import equal
from kanserve.network.signal_shares import signal_shares
from tests.support.sessions import law, replayed


def test_kept_edges_have_the_largest_share_and_their_names():
    kan, data = law()
    session = Session(kan, data).keep(2, refit=0)
    shares = signal_shares(kan, session.rows.judge.learn.x)
    smallest = "x->h1" if shares.edges[0][0, 0] < shares.edges[0][0, 1] else "L/D->h1"
    assert kan.edges == 3 and set(session.edges) == {"x->h1", "L/D->h1", "h1->z"} - {smallest}
    assert session.loss > Session(kan, data).loss


def test_edges_that_nothing_reads_go_first():
    kan = kanserve.create([3, 2, 1])
    data = np.random.default_rng(0).uniform(-1, 1, (60, 3))
    session = Session(kan, (data, kan(data))).zero("h2->y").keep(4, refit=0)
    assert set(session.edges) == {"x1->h1", "x2->h1", "x3->h1", "h1->y"}


def test_kept_edges_are_refitted():
    kan, data = law()
    fitted, not_fitted = (Session(kan, data).keep(2, refit=steps).snapshot() for steps in (12, 0))
    assert fitted.fit_loss < not_fitted.fit_loss
    assert equal(Session(kan, data).keep(9).kan, kan)


def test_a_taken_formula_is_exact_in_the_names_of_the_network():
    kan, data = law()
    session = Session(kan, data).snap("x->h1", "sin").snap("L/D->h1", "x^2").snap("h1->z", "exp")
    text = exact_text(formulas(session.kan, strict=False)[0], data.inputs)
    taken = Session(kan, data).take(text)
    np.testing.assert_allclose(taken.kan(data.x), session.kan(data.x), rtol=1e-9)
    assert taken.kan.inputs == kan.inputs and taken.kan.outputs == kan.outputs
    assert equal(replayed(taken, kan, data), taken.kan)


def test_what_is_no_formula_is_refused_and_changes_nothing():
    kan, data = law()
    session = Session(kan, data)
    with pytest.raises(InputError):
        session.take("__import__('os').getcwd()")
    assert session.kan is kan


def test_a_script_registers_the_own_functions_that_it_uses():
    kan, data = law()
    kanserve.register_function("bell", "1/(1 + x^2)")
    session = Session(kan, data).snap("L/D->h1", "bell")
    assert "kanserve.register_function('bell', '1/(1 + x^2)')" in session.as_python()
    assert equal(replayed(session, kan, data), session.kan)


@pytest.mark.extended
def test_a_snapshot_has_the_edges_of_the_largest_share_and_curves_as_fine_as_asked_for():
    kan = kanserve.create([30, 20, 2])
    x = np.random.default_rng(0).uniform(-1, 1, (40, 30))
    session = Session(kan, (x, kan(x)))
    every, some = session.snapshot(), session.snapshot(97, 10)
    largest = sorted(every.edges, key=lambda edge: -edge.share)[:10]
    assert {edge.name for edge in some.edges} == {edge.name for edge in largest}
    assert {len(edge.curve) for edge in some.edges} == {97}
    by_name = {edge.name: edge for edge in every.edges}
    for edge in some.edges:
        fine, coarse = (np.array(curve, float) for curve in (edge.curve, by_name[edge.name].curve))
        np.testing.assert_allclose(fine[::3], coarse, atol=1e-12)
        assert edge.place == by_name[edge.name].place
