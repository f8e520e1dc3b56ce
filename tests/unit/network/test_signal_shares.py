import numpy as np
import pytest

from kanserve.errors import DataError
from kanserve.network.kan import Kan, make_layer
from kanserve.network.signal_shares import signal_shares
from tests.support.networks.kans import ZOO, domains, multiplication, pruned, rows


# In these two a node is constant on the data, and its share goes nowhere.
@pytest.mark.parametrize("name", sorted(set(ZOO) - {"constant", "every_function"}))
def test_the_shares_of_inputs_and_of_each_layers_edges_add_up_to_one(name):
    kan = ZOO[name]()
    shares = signal_shares(kan, rows(kan))
    assert shares.nodes[0].sum() == pytest.approx(1, abs=1e-12)
    for edges in shares.edges:
        assert edges.sum() == pytest.approx(1, abs=1e-12)


def test_shares_go_by_the_spread_that_edges_have_on_the_data():
    kan = Kan(
        (
            make_layer(
                functions=[["x", "x", "x"]], affine=[[[1.0, 0.0, 3.0, 0.0], [1.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 5.0]]]
            ),
        )
    )
    x = np.random.default_rng(0).permuted(np.tile(np.linspace(-1, 1, 101)[:, None], (1, 3)), axis=0)
    assert signal_shares(kan, x).nodes[0] == pytest.approx([0.75, 0.25, 0.0])


def test_a_pruned_edge_and_an_unused_input_have_no_share():
    shares = signal_shares(pruned(), rows(pruned()))
    assert shares.nodes[0][1] == 0
    assert (shares.edges[0][~pruned().layers[0].alive] == 0).all()


def test_the_subnodes_of_a_multiplication_node_share_alike():
    shares = signal_shares(multiplication(), rows(multiplication()))
    assert shares.subnodes[0][3:] == pytest.approx(np.full(3, shares.nodes[1][2] / 3))


def test_rows_on_which_nothing_is_finite_are_refused():
    with pytest.raises(DataError, match="not finite on any"):
        signal_shares(domains(), [[np.nan], [-3.0]])


def test_values_whose_squares_overflow_have_shares():
    kan = Kan((make_layer(functions=[["x", "x"]], affine=[[[1.0, 0.0, 3.0, 0.0], [1.0, 0.0, 1.0, 0.0]]]),))
    x = np.array([[1e300, -1e300], [-1e300, 1e300]])
    assert signal_shares(kan, x).nodes[0] == pytest.approx([0.75, 0.25])
