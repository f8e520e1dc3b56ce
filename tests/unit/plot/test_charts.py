"""Edges, Pareto fronts, residuals, losses and matrices: what their scales, titles and points say."""

import re

import numpy as np
import pandas
import pytest
from matplotlib.figure import Figure

import kanserve
from kanserve.errors import DataError, InputError
from kanserve.network.kan import Symbolic
from kanserve.plot import plot_edge, plot_losses, plot_pareto, plot_residuals
from kanserve.plot.palette import AUTO, DARK, LIGHT
from kanserve.plot.picture import PictureAxes
from kanserve.train.fit_progress import Event
from tests.support.networks.kans import classifier, mixed, symbolic

UNIT = (0.5, 2.0)
X = np.random.default_rng(0).uniform(0.5, 2, (200, 2))


@pytest.fixture(scope="module")
def found():
    return kanserve.find_formulas((X, X[:, 0] ** 2 + X[:, 1] + 0.05 * np.sin(40 * X[:, 0])), max_fits=400)


def test_an_edge_is_drawn_over_the_range_of_its_data():
    axes = plot_edge(mixed(), 0, 0, 0, data=np.array([[-0.5, 0.0], [0.25, 0.5]]))
    x = np.asarray(axes.lines[0].get_xdata())
    assert (x[0], x[-1]) == (-0.5, 0.25)


def test_a_spline_has_a_ring_at_each_knot_within_its_data():
    kan = kanserve.create([1, 1], grid=7, seed=1)
    axes = plot_edge(kan, 0, 0, 0, theme="light")
    rings = [line for line in axes.lines if line.get_marker() == "o"]
    inner = kan.layers[0].knots[0][3:-3] * kan.input_scale[0] + kan.input_shift[0]
    drawn = np.asarray(axes.lines[0].get_xdata())
    assert len(np.asarray(rings[0].get_xdata())) == ((inner >= drawn[0]) & (inner <= drawn[-1])).sum() > 2
    assert axes.get_title() == "free spline" and axes.title.get_color() == LIGHT.spline


def test_candidates_are_dashed_and_the_first_is_vermilion():
    fits = {"one": Symbolic("sin", 1, 0, 1, 0), "two": Symbolic("x", 1, 0, 1, 0)}
    axes = plot_edge(kanserve.create([1, 1], seed=1), 0, 0, 0, fits=fits, theme="light")
    one, two = (line for line in axes.lines if line.get_label() in fits)
    assert one.get_color() == LIGHT.candidate != two.get_color()
    assert one.is_dashed() and two.is_dashed()


def test_an_edge_that_does_not_exist_is_refused():
    with pytest.raises(InputError, match="layers 0 to 1"):
        plot_edge(classifier(), 2, 0, 0)
    with pytest.raises(InputError, match="subnodes 0 to 3"):
        plot_edge(classifier(), 0, 4, 0)
    with pytest.raises(DataError):
        plot_edge(symbolic(), 0, 0, 0, [["a"], ["b"]])


@pytest.mark.slow
@pytest.mark.extended
def test_the_front_is_a_staircase_that_falls_with_the_recommended_formula_filled(found):
    axes = plot_pareto(found, theme="light")
    errors = np.asarray(axes.lines[1].get_ydata(), float)
    assert len(errors) == len(found) and (np.diff(errors) < 0).all() and axes.get_yscale() == "log"
    assert np.asarray(axes.lines[2].get_xdata())[0] == found.best.complexity
    assert axes.get_title() == f"y: {len(found)} formulas"
    assert found.candidates[0].formula.text[:20] in axes.texts[0].get_text()


@pytest.mark.slow
def test_a_front_with_an_exact_law_has_a_logarithmic_scale_all_the_same():
    exact = kanserve.find_formulas((X, 3 * X[:, 0] / X[:, 1]), max_fits=500)
    low, high = plot_pareto(exact).get_ylim()
    assert 0 < low < high


def test_residuals_are_what_the_network_lacks_with_triangles_outside_its_range():
    kan = kanserve.from_formula("2*x", ranges={"x": (0, 1)})
    x = np.array([[0.1], [0.5], [0.9], [3.0]])
    axes = plot_residuals(kan, (x, 2 * x[:, 0] + [0.1, 0.0, -0.1, 0.2]))
    dots, triangles = (line for line in axes.lines if line.get_marker() in (".", "^"))
    assert np.allclose(np.asarray(dots.get_ydata(), float), [0.1, 0.0, -0.1])
    assert np.asarray(triangles.get_xdata(), float).tolist() == [6.0]
    assert axes.get_title() == "4 samples, 1 outside the training range"
    with pytest.raises(InputError, match="outputs are y"):
        plot_residuals(kan, (x, x), output="z")


def test_residuals_of_a_table_with_categories_and_missing_values_are_those_of_its_predictions():
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame({"size": rng.uniform(0, 1, 60), "colour": rng.choice(["red", "green", "blue"], 60)})
    frame["price"] = frame["size"] + frame["colour"].map({"red": 0.0, "green": 1.0, "blue": 2.0})
    frame.loc[::7, "size"] = np.nan
    kan = kanserve.fit([2, 1], frame, target="price", starts=1, steps=5)
    axes = plot_residuals(kan, frame, target="price")
    dots = next(line for line in axes.lines if line.get_marker() == ".")
    wanted = frame["price"].to_numpy() - kanserve.evaluate(kan, frame)[:, 0]
    np.testing.assert_allclose(np.asarray(dots.get_ydata(), float), wanted, rtol=1e-9, atol=1e-12)
    assert axes.get_title() == "60 samples"
    codes = np.array([[0.2, 0.0], [0.4, 1.0]])
    other = kanserve.Dataset(
        codes, np.array([0.5, 0.6]), ("size", "colour"), ("price",), categories={"colour": ("red", "violet")}
    )
    with pytest.raises(DataError, match="violet"):
        plot_residuals(kan, other)
    plain = kanserve.from_formula("2*x", ranges={"x": (0, 1)})
    with pytest.raises(DataError, match="nan"):
        plot_residuals(plain, ([[0.1], [np.nan]], [0.2, 0.4]))


def test_losses_have_their_lowest_marked_and_those_that_are_not_finite_left_out():
    events = [Event("a", float("nan")), Event("b", 1.0), Event("c", 0.5), Event("d", 0.75)]
    axes = plot_losses(events)
    diamond = next(line for line in axes.lines if line.get_marker() == "D")
    assert (float(np.asarray(diamond.get_xdata())[0]), float(np.asarray(diamond.get_ydata())[0])) == (3, 0.5)
    with pytest.raises(InputError, match="finite"):
        plot_losses(events[:1])


def test_every_picture_is_drawn_into_given_axes(found):
    kan = kanserve.from_formula({"s": "x + y", "p": "x*y"}, ranges={"x": UNIT, "y": UNIT})
    for draw in (
        lambda ax: plot_pareto(found, ax),
        lambda ax: plot_losses([Event("a", 1.0)], ax),
        lambda ax: plot_residuals(kan, (X, X), ax),
        lambda ax: plot_edge(kan, 0, 0, 0, ax=ax),
        lambda ax: kanserve.separability(kan).plot(ax),
        lambda ax: kanserve.symmetry(kan).plot(ax),
        lambda ax: kanserve.interactions(kan).plot(ax),
        lambda ax: kanserve.meaning(kan, 1, 0).plot(ax),
    ):
        axes = Figure().add_subplot()
        assert draw(axes) is axes


def test_the_title_of_a_matrix_says_what_was_found():
    kan = kanserve.from_formula({"s": "x + y", "p": "x*y", "n": "sin(x*y) + x"}, ranges={"x": UNIT, "y": UNIT})
    titles = [kanserve.separability(kan, output=name).plot().get_title() for name in ("s", "p", "n")]
    assert titles[0].startswith("s = f1(x) + f2(y)\n") and titles[1].startswith("p = f1(x)·f2(y)\n")
    assert titles[2].startswith("n is neither a sum nor a product\n")
    assert "through x*y" in kanserve.symmetry(kan, output="p").plot().get_title()


def test_scores_of_different_symmetries_share_no_scale_and_those_that_count_are_framed():
    kan = kanserve.from_formula("(x + y)*z", ranges={name: UNIT for name in "xyz"})
    found = kanserve.symmetry(kan)
    axes = found.plot(theme="light")
    cells, scores = np.asarray(axes.images[0].get_array()), [float(text.get_text()) for text in axes.texts]
    assert "each column has its own scale" in axes.get_title()
    counted = sum(score >= 0.9995 for score in scores)
    assert len(axes.patches) == counted > 0
    for column in cells.transpose(1, 0, 2):  # in each column the least score that is not framed has no tint
        assert column.max() == 1.0


@pytest.mark.extended
def test_axes_as_the_last_line_of_a_cell_are_the_picture_in_the_theme_of_the_notebook():
    kan = symbolic()
    for axes in (kan.plot(), plot_edge(kan, 0, 0, 0), plot_residuals(kan, (X[:, :2], X[:, :1]))):
        assert isinstance(axes, PictureAxes)
        page = axes._repr_html_()
        assert page.startswith('<div class="kanserve-picture"><svg') and page.count("<text") > 2
        for theme, palette in (('[data-jp-theme-light="true"]', LIGHT), ('[data-jp-theme-light="false"]', DARK)):
            assert f'{theme} .kanserve-picture [style*="fill: {AUTO.ink.lower()}"]' in page
            assert f"fill:{palette.ink} !important" in page
        outside = [one for one in re.findall(r"([^{},]*)\[style", page) if ".kanserve-picture" not in one]
        assert outside == []  # the rules are for this picture alone
    dark = kan.plot(theme="dark")
    assert isinstance(dark, PictureAxes) and "[style" not in dark._repr_html_()


def test_axes_of_the_callers_are_given_back_as_they_are():
    axes = Figure().add_subplot()
    assert symbolic().plot(ax=axes) is axes and not hasattr(axes, "_repr_html_")
