"""What a session shows: the names of edges, snapshots, the page of a notebook, and pictures."""

import json

import numpy as np
import pytest

from kanserve.data.dataset import Dataset
from kanserve.editing import Session
from kanserve.errors import InputError
from kanserve.network.edge_names import edge_names, place_of
from kanserve.network.kan import Kan, Variable, make_layer
from kanserve.train import fit
from tests.support.networks import kans
from tests.support.sessions import law, rows_of


def test_every_edge_of_the_zoo_has_a_name_of_its_own_that_finds_it():
    for make in (*kans.ZOO.values(), arrows):
        kan = make()
        names = edge_names(kan)
        assert len(set(names.values())) == len(names)
        for place in list(names)[:: max(1, len(names) // 20)]:
            assert place_of(kan, names[place]) == place


def arrows() -> Kan:
    """Names with arrows in them, one like a hidden node's, one like a position."""
    names = ("a->b", "a", "h1", "s_1_1_1")
    first = make_layer(functions=[["x"] * 4] * 2)
    last = make_layer(functions=[["x"] * 2] * 2)
    return Kan((first, last), inputs=tuple(map(Variable, names)), outputs=(Variable("b->h1"), Variable("h1")))


def test_names_that_fit_several_edges_are_said_and_positions_always_work():
    kan = arrows()
    with pytest.raises(InputError, match="may be s_1_1_3 or s_2_2_1"):
        place_of(kan, "h1->h1")
    assert place_of(kan, "s_2_2_1") == (1, 1, 0) and place_of(kan, "a->b->h1") == (0, 0, 0)
    assert place_of(kan, "a → h2") == place_of(kan, "a  ->h2") == (0, 1, 1)


def test_layers_products_and_outputs_have_their_names():
    names = edge_names(kans.multiplication())
    assert names[0, 0, 0] == "x1->h1" and names[0, 2, 1] == "x2->h2:2" and names[1, 1, 2] == "h3->y2"
    assert edge_names(kans.deep())[2, 1, 0] == "h2.1->h3.2"


def test_a_snapshot_has_all_that_a_view_needs_as_plain_data():
    kan, data = law()
    session = Session(kan, data).snap("x->h1", "sin").snap("L/D->h1", "x^2").refit().undo()
    one = session.snapshot()
    assert [edge.name for edge in one.edges] == ["x->h1", "L/D->h1", "h1->z"]
    assert [(edge.function, edge.spline) for edge in one.edges] == [("sin", False), ("x^2", False), ("", True)]
    assert sum(edge.share for edge in one.edges[:2]) == pytest.approx(1)
    assert one.edges[1].low == pytest.approx(data.x[:, 1].min()) and len(one.edges[0].curve) == 33
    assert one.loss == session.loss and one.r2[0] > 0.99 and one.undone == 1
    assert one.formulas[0].name == "z" and "s_2_1_1" in one.formulas[0].text and not one.formulas[0].closed_form
    assert [done.step for done in one.history] == ["snap('x->h1', 'sin')", "snap('L/D->h1', 'x^2')"]
    json.dumps(one.as_dict(), allow_nan=False)


@pytest.mark.slow
@pytest.mark.extended
def test_the_page_of_a_notebook_has_a_curve_for_each_edge_and_names_stay_text():
    session = Session(*law()).rename("x", "<script>").snap("L/D->h1", "x^2")
    page = session._repr_html_()
    assert page.count("<svg") == 4 and "<script" not in page and "&lt;script&gt;-&gt;h1" in page and "x^2" in page
    wide = kans.wide()
    page = Session(wide, rows_of(wide, 30))._repr_html_()
    assert page.count("<svg") > 40 and "more edges" in page and len(page) < 60_000


def test_an_edge_is_drawn_with_functions_their_r2_and_what_they_do_to_the_loss():
    session = Session(*law())
    axes = session.plot_edge("x->h1", ["sin", "tanh"])
    legend = axes.get_legend()
    assert legend is not None
    texts = [get_text.get_text() for get_text in legend.get_texts()]
    assert texts[0] == "spline" and texts[1].startswith("sin: R² 0.99") and "→" in texts[1] and len(texts) == 3
    assert axes.get_xlabel() == "x" and axes.get_ylabel() == "x → h1"
    assert session.plot_edge("h1->z", 0).get_legend() is None


def test_a_pole_beside_the_data_does_not_flatten_the_picture():
    x = np.linspace(0.05, 1, 80)[:, None]
    data = Dataset(x, 1 / x, ("x",))
    session = Session(fit([1, 1], data), data)
    for axes in (session.plot_edge("x->y", ["1/x"]), session.snap("x->y", "1/x").plot_edge("x->y", 0)):
        low, high = axes.get_ylim()
        assert high - low < 1.5 * np.ptp(np.asarray(axes.lines[0].get_ydata(), float))
        for line in axes.lines:  # no line from one side of the pole to the other
            y = np.asarray(line.get_ydata(), float)
            assert not (np.abs(np.diff(y)) > 3 * (high - low)).any()
