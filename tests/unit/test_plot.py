import numpy as np
import pytest

from kanserve.errors import DataError, InputError
from kanserve.plot import FLOW_EDGES, plot_edge, plot_network
from kanserve.train import create
from tests.support.kans import ZOO, classifier, domains, hostile_names, mixed, pruned, rows, symbolic


def save(axes, path):
    axes.figure.savefig(path, dpi=40)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(ZOO) - {"wide"}))
@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_every_network_is_drawn_to_png_and_svg(name, suffix, tmp_path):
    path = tmp_path / f"network.{suffix}"
    save(plot_network(ZOO[name]()), path)
    assert path.stat().st_size > 1000


def _texts(axes):
    return [text.get_text() for text in axes.texts]


def test_the_flow_names_inputs_outputs_functions_and_shares():
    texts = _texts(plot_network(symbolic()))
    assert {"x", "y", "sin", "x^2", "exp", "100%"} <= set(texts)


def test_an_edge_that_is_gone_is_not_drawn_and_an_unused_input_is_named():
    axes = plot_network(pruned())
    assert "1 input is not used" in _texts(axes)
    # A line below and one above each tile, the curve in it; then the nodes, one line a layer of them.
    assert len(axes.lines) == 3 * pruned().edges + 3


def test_many_edges_become_a_matrix_with_a_dot_for_each_pruned_one():
    kan = create([8, 8], seed=1)
    assert kan.edges > FLOW_EDGES
    axes = plot_network(kan, rows(kan)[:20])
    assert len(axes.patches) == kan.edges
    dots = plot_network(pruned(), kind="matrix")
    assert sum(line.get_marker() == "." for line in dots.lines) == 12 - pruned().edges


def test_data_with_rows_that_are_nan_are_drawn_without_them():
    plot_network(domains(), np.array([[0.25], [0.3], [-0.7], [np.nan]]))


def test_hostile_names_are_printed_and_never_interpreted(tmp_path):
    save(plot_network(hostile_names()), tmp_path / "n.svg")
    assert "__import__" in (tmp_path / "n.svg").read_text()


def test_an_edge_is_drawn_over_the_range_of_its_data():
    axes = plot_edge(mixed(), 0, 0, 0, data=np.array([[-0.5, 0.0], [0.25, 0.5]]))
    x = np.asarray(axes.lines[0].get_xdata())
    assert (x[0], x[-1]) == (-0.5, 0.25)


def test_an_edge_that_does_not_exist_and_an_unknown_kind_are_refused():
    with pytest.raises(InputError, match="layers 0 to 1"):
        plot_edge(classifier(), 2, 0, 0)
    with pytest.raises(InputError, match="subnodes 0 to 3"):
        plot_edge(classifier(), 0, 4, 0)
    with pytest.raises(InputError, match="kind"):
        plot_network(classifier(), kind="tree")  # type: ignore[arg-type]  # on purpose


def test_samples_that_are_no_numbers_are_refused():
    for plot in (plot_network, lambda kan, data: plot_edge(kan, 0, 0, 0, data)):
        with pytest.raises(DataError):
            plot(symbolic(), [["a"], ["b"]])
