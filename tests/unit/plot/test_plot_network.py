"""Pictures of networks: what is in them, by the texts and the collections that are drawn."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text

from kanserve.errors import DataError, InputError
from kanserve.formula import from_formula
from kanserve.network.kan import Kan, Variable
from kanserve.plot import plot_edge, plot_network
from kanserve.plot.network_picture import FLOW_EDGES, MATRIX_EDGES
from kanserve.train import create
from tests.support.networks.kans import ZOO, classifier, domains, hostile_names, multiplication, pruned, rows, symbolic


def save(axes, path, **options):
    axes.figure.savefig(path, dpi=40, **options)


def texts(axes):
    return [text.get_text() for text in axes.texts]


def curves(axes, colour):
    """How many lines of this colour there are in all collections."""
    wanted = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    found = [one.get_colors() for one in axes.collections if isinstance(one, LineCollection)]
    return sum(int((np.abs(np.asarray(part)[:, :3] - wanted) < 1e-6).all(axis=1).sum()) for part in found)


def dashed(lines):
    return lines.get_linestyle()[0][1] is not None


def inches(axes):
    return axes.figure.get_size_inches()[0]


def points(axes):
    """The sizes of all texts."""
    return [float(text.get_fontsize()) for text in axes.findobj(Text) if text.get_text()]


def cells(axes):
    """How many cells each heat map has across."""
    return [image.get_array().shape[1] for image in axes.images]


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("name", sorted(set(ZOO) - {"wide"}))
@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_every_network_is_drawn_to_png_and_svg(name, suffix, tmp_path):
    path = tmp_path / f"network.{suffix}"
    save(plot_network(ZOO[name]()), path)
    assert path.stat().st_size > 1000


def test_a_png_is_compressed_fast_with_the_same_pixels_unless_told_otherwise(tmp_path):
    axes, levels = plot_network(symbolic()), {}
    for name, options in {"own": {}, "usual": {"compress_level": 6}}.items():
        save(axes, tmp_path / f"{name}.png", pil_kwargs=options or None)
        written = (tmp_path / f"{name}.png").read_bytes()
        levels[name] = written[written.index(b"IDAT") + 5] >> 6  # of zlib: 1 for levels 2 to 5, 2 for level 6
    assert levels == {"own": 1, "usual": 2}
    assert np.array_equal(imread(tmp_path / "own.png"), imread(tmp_path / "usual.png"))


def test_the_flow_names_inputs_outputs_functions_and_shares():
    assert {"x", "y", "sin", "x^2", "exp", "100%"} <= set(texts(plot_network(symbolic())))


def test_the_ends_of_an_axis_of_categories_are_named():
    colour = Variable("colour", categories=("red", "blue", "green"), category_values=(0.3, -1.2, 0.9))
    law = from_formula("colour + b", ranges={"colour": (-1.2, 0.9), "b": (0, 1)}, inputs=["colour", "b"])
    shown = texts(plot_network(replace(law, inputs=(colour, law.inputs[1]))))
    assert {"blue", "green"} <= set(shown) and "red" not in shown


def test_each_state_is_said_twice_by_its_colour_and_by_its_name():
    drawn = plot_network(symbolic(), theme="light")
    assert curves(drawn, "#0B63AD") and "s(x)" not in texts(drawn)
    drawn = plot_network(pruned(), theme="light")
    assert curves(drawn, "#2B323A") and texts(drawn).count("s(x)") == pruned().edges
    assert any(dashed(one) for one in drawn.collections if isinstance(one, LineCollection)) and "pruned" in texts(drawn)


def test_hidden_nodes_and_factors_of_products_are_called_as_sessions_call_them():
    assert {"h1", "h2", "h3", "h2:1", "h2:2", "h3:3"} <= set(texts(plot_network(multiplication())))
    assert {"h2.1", "h3.2"} <= set(texts(plot_network(ZOO["deep"]())))
    assert {"h1", "h16"} <= set(texts(plot_network(create([8, 16, 3], seed=1))))


def test_an_edge_that_is_gone_has_no_tile_and_an_unused_input_is_named():
    axes = plot_network(pruned())
    assert f"1 input is not used: {pruned().inputs[1].name}" in texts(axes)
    assert texts(axes).count("s(x)") == pruned().edges


def test_a_network_becomes_a_flow_then_a_matrix_then_heat_maps():
    few, many, most = create([3, 2], seed=1), create([8, 8], seed=1), create([30, 20], seed=1)
    assert few.edges <= FLOW_EDGES < many.edges <= MATRIX_EDGES < most.edges
    assert "Σ" in texts(plot_network(few)) and "Σ" not in texts(plot_network(many, rows(many)[:20]))
    assert not plot_network(many).images and len(plot_network(most).images) == 1
    assert plot_network(few, kind="heatmap").images


def test_heat_maps_say_how_much_of_the_network_they_show():
    drawn = texts(plot_network(create([30, 20, 2], seed=1)))
    said = [text for text in drawn if text.startswith("showing 200 of 640 edges, ")]
    assert len(said) == 1 and said[0].endswith("% of the signal")
    assert sum("→" in text for text in drawn) == 200


@pytest.mark.slow
@pytest.mark.extended
def test_fifty_thousand_edges_are_a_few_collections_and_as_many_texts_as_tiles():
    kan = create([784, 64, 10], seed=1)
    axes = plot_network(kan)
    assert kan.edges == 50_816 and len(axes.figure.axes) == 1
    assert len(axes.lines) == len(axes.patches) == 0 and len(axes.collections) < 30
    assert len(axes.texts) < 700 and cells(axes) == [320, 64]


@pytest.mark.extended
def test_two_thousand_tiles_are_a_few_collections():
    axes = plot_network(create([100, 20, 1], seed=1), kind="matrix")
    assert len(axes.collections) < 30 and len(axes.figure.axes) == 1
    frames = [one for one in axes.collections if isinstance(one, PolyCollection)]
    assert sum(len(one.get_paths()) for one in frames) > 2 * 2020


def test_data_with_rows_that_are_nan_are_drawn_without_them():
    plot_network(domains(), np.array([[0.25], [0.3], [-0.7], [np.nan]]))


def test_what_is_outside_the_training_range_is_hatched():
    kan = from_formula("sin(x) + y^2", ranges={"x": (0, 1), "y": (0, 1)})
    inside = np.random.default_rng(0).uniform(0, 1, (50, 2))
    drawn = [curves(plot_network(kan, data, theme="light"), "#E69F00") for data in (inside, 1.5 * inside)]
    assert drawn[0] == 0 < drawn[1]


def test_the_numbers_of_categories_are_inside_the_training_range():
    kan = ZOO["named_categories"]()
    low, high = min(kan.inputs[0].category_values), max(kan.inputs[0].category_values)
    data = np.array([[code, 0.0] for code in range(3)])
    assert curves(plot_network(kan, data, theme="light"), "#E69F00") == 0
    axes = plot_edge(kan, 0, 0, 0, data)
    drawn = [np.asarray(line.get_xdata()) for line in axes.lines]
    ends = [x[0] for x in drawn if np.ptp(x) == 0]
    assert ends == pytest.approx([low, high])


def test_hostile_names_are_printed_and_never_interpreted(tmp_path):
    save(plot_network(hostile_names()), tmp_path / "n.svg")
    assert "__import__" in (tmp_path / "n.svg").read_text()
    kan = Kan(symbolic().layers, inputs=(Variable("$\\frac{"), Variable("$x^$")))
    save(plot_network(kan), tmp_path / "n.png")


def test_a_picture_is_drawn_into_axes_that_are_given_and_in_the_colours_of_their_ground():
    for ground, colour in (("white", "#0B63AD"), ("black", "#6BB8F5")):
        axes = Figure(facecolor=ground).add_subplot(facecolor=ground)
        assert plot_network(symbolic(), ax=axes) is axes and curves(axes, colour)


def test_a_picture_for_a_journal_has_the_width_of_its_column():
    for width, wanted in (("column", 3.5), ("page", 7.2), (5.0, 5.0)):
        assert inches(plot_network(pruned(), width=width)) == pytest.approx(wanted)
    assert min(points(plot_network(pruned(), width="column"))) > 5.5


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(InputError, match="kind"):
        plot_network(classifier(), kind="tree")  # type: ignore[arg-type]  # on purpose
    with pytest.raises(InputError, match="theme"):
        plot_network(classifier(), theme="blue")  # type: ignore[arg-type]  # on purpose
    for width in ("wide", 0, True):
        with pytest.raises(InputError, match="width"):
            plot_network(classifier(), width=width)
    with pytest.raises(DataError):
        plot_network(symbolic(), [["a"], ["b"]])


@pytest.mark.parametrize("data", [[1e300] * 3, [0.3, 0.1 + 0.2], [-1e300, 1e300], [1.0, 1e20]])
def test_data_of_any_size_and_columns_that_are_constant_up_to_rounding_are_drawn(data, tmp_path):
    kan = ZOO["one_edge"]()
    rows_of_data = np.array(data)[:, None]
    save(plot_network(kan, rows_of_data), tmp_path / "network.png")
    save(plot_edge(kan, 0, 0, 0, rows_of_data), tmp_path / "edge.png")
