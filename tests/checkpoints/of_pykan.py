"""pykan 0.2.8: grids, pruning and products, each recipe for one way in which its checkpoints differ."""

import numpy as np
import torch

from tests.checkpoints.pykan_models import fitted, kan, made, rows, seen
from tests.checkpoints.recipe import Made


def fresh() -> Made:
    """Nothing is trained: uniform grids, no function by name."""
    return made(kan([2, 3, 1]))


def fresh_double() -> Made:
    """The same in double, where 1e-10 is asked for."""
    return made(kan([2, 3, 1]))


def one_edge() -> Made:
    """The smallest network there is."""
    return made(kan([1, 1]))


def trained() -> Made:
    """A few steps of its LBFGS, which moves the knots: each input has its own, unevenly spaced."""
    return made(fitted(kan([2, 3, 1])))


def trained_double() -> Made:
    """The same in double."""
    return made(fitted(kan([2, 3, 1])))


def deep_double() -> Made:
    """Five layers: values leave the grids of the later ones, where its splines are zero."""
    return made(fitted(kan([2, 2, 3, 2, 2, 1], noise_scale=1.0)))


def several_outputs() -> Made:
    """Four inputs, three outputs."""
    return made(fitted(kan([4, 2, 3])))


def wide_range() -> Made:
    """A grid on [-3, 5]."""
    return made(fitted(kan([2, 2, 1], grid_range=[-3, 5]), update_grid=False))


def range_as_tuple_double() -> Made:
    """The ends of the grid as a tuple, which its file marks as a Python object and the library cannot read again."""
    return made(fitted(kan([2, 2, 1], grid_range=(-2.0, 1.5)), update_grid=False))


def sizes_of_numpy() -> Made:
    """Sizes that are numbers of NumPy, which its file holds as pickled bytes."""
    return made(fitted(kan([np.int64(2), np.int64(3), 1], grid=np.int64(5))))


def grid_updated() -> Made:
    """The knots follow rows, and nothing is trained."""
    model = kan([2, 3, 1], noise_scale=1.0)
    model.update_grid_from_samples(rows(2))
    return made(model)


def coinciding_knots_double() -> Made:
    """Knots that follow rows of few values and coincide: its recursion meets 0/0."""
    model = kan([2, 2, 1], grid_eps=0.0, noise_scale=1.0)
    coefficients = [edge.coef.detach().clone() for edge in model.act_fun]
    x = rows(2)
    x[:, 0] = torch.where(torch.arange(len(x)) % 3 == 0, x[:, 0], torch.tensor(0.25))
    model.act_fun[0].update_grid_from_samples(x)
    for edge, before in zip(model.act_fun, coefficients, strict=True):  # on such knots its fit has no solution
        edge.coef.data = before
    # It may leave a knot any number of times; three are continuous.
    model.act_fun[0].grid.data[0, 5:8] = torch.tensor([0.25, 0.25, 0.25])
    model.act_fun[0].grid.data[0].copy_(model.act_fun[0].grid.data[0].sort()[0])
    return made(model)


def refined() -> Made:
    """A finer grid after training."""
    return made(seen(fitted(kan([2, 3, 1], grid=3))).refine(9))


def refined_double() -> Made:
    """The same in double, then trained on."""
    model = seen(fitted(kan([2, 2, 1], grid=3))).refine(8)
    return made(fitted(model, steps=2))


def sparse() -> Made:
    """Begun with most edges masked."""
    return made(fitted(kan([3, 4, 1], sparse_init=True)))


def pruned() -> Made:
    """Nodes and edges that it pruned after training with a penalty."""
    return made(fitted(kan([2, 5, 1]), steps=6, lamb=0.02).prune(node_th=0.05, edge_th=0.1))


def pruned_double() -> Made:
    """The same in double, of three layers, then trained on."""
    model = fitted(kan([3, 3, 3, 1]), steps=6, lamb=0.02).prune(node_th=0.03, edge_th=0.05)
    return made(fitted(model, steps=2))


def pruned_edges() -> Made:
    """Edges alone: masks of 0, all nodes are there."""
    model = seen(fitted(kan([2, 3, 1])))
    model.attribute()
    model.prune_edge(threshold=0.2)
    return made(model)


def removed_node() -> Made:
    """A node whose edges were all removed, the named one too, and which is there nevertheless."""
    model = seen(fitted(kan([2, 3, 1])))
    model.fix_symbolic(0, 0, 1, "sin")
    model.fix_symbolic(1, 1, 0, "x^2")
    model.remove_node(1, 1)
    return made(model)


def pruned_input() -> Made:
    """The second of three inputs is gone, and the file does not say which; its settings name a Python object."""
    return made(seen(fitted(kan([3, 3, 1]))).prune_input(active_inputs=[0, 2]))


def pruned_input_alone() -> Made:
    """The same from the arrays alone."""
    return made(seen(fitted(kan([3, 3, 1]))).prune_input(active_inputs=[0, 2]), state_only=True)


def products_of_two() -> Made:
    """Two sum nodes and one that multiplies two."""
    return made(fitted(kan([2, [2, 1], 1])))


def products_of_three_double() -> Made:
    """Each multiplication node multiplies three."""
    return made(fitted(kan([2, [1, 2], 1], mult_arity=3)))


def products_of_two_and_three() -> Made:
    """A list of arities: one node multiplies two, the other three."""
    return made(fitted(kan([3, [1, 2], 1], mult_arity=[[], [2, 3], []], noise_scale=1.0), update_grid=False))


def products_of_four_and_two_double() -> Made:
    """Lists of arities, in two layers, and one layer with products alone."""
    return made(kan([2, [0, 2], [1, 1], 1], mult_arity=[[], [4, 2], [3], []], noise_scale=1.0))


def products_in_layers() -> Made:
    """Products of products: one arity in two layers."""
    return made(fitted(kan([2, [1, 1], [2, 2], 1]), steps=2))


def products_last_double() -> Made:
    """An output that is a product."""
    return made(kan([2, 2, [1, 1]], noise_scale=1.0))


def products_pruned_double() -> Made:
    """Lists of arities after pruning: the library rewrites them."""
    model = fitted(kan([2, [2, 3], 1], mult_arity=[[], [2, 3, 2], []]))
    return made(seen(model).prune_node(active_neurons_id=[[0, 3, 4]]))


def grids_by_layer() -> Made:
    """Another number of intervals in each layer."""
    return made(fitted(kan([2, 2, 1], grid=[3, 7])))


def orders_by_layer_double() -> Made:
    """Another grid and another order in each layer."""
    return made(fitted(kan([2, 2, 2, 1], grid=[2, 5, 8], k=[1, 2, 5])))


def order_1() -> Made:
    """Piecewise linear: the slope jumps at a knot."""
    return made(fitted(kan([2, 2, 1], k=1)))


def order_2() -> Made:
    """Quadratic."""
    return made(fitted(kan([2, 2, 1], k=2)))


def order_5_double() -> Made:
    """Quintic."""
    return made(fitted(kan([2, 2, 1], k=5)))


def identity() -> Made:
    """x itself beside the splines."""
    return made(fitted(kan([2, 2, 1], base_fun="identity")))


def identity_alone_double() -> Made:
    """The same from the arrays alone, which do not say it."""
    return made(fitted(kan([2, 2, 1], base_fun="identity")), state_only=True, base="identity")


def nothing_beside_splines_double() -> Made:
    """Zero as base function, while the weights of it are there."""
    return made(fitted(kan([2, 2, 1], base_fun="zero")))


def affine_trained() -> Made:
    """Scales and biases of nodes and subnodes, trained; products among the nodes."""
    return made(fitted(kan([2, [1, 1], 1], affine_trainable=True), steps=5))


def affine_set_double() -> Made:
    """Each scale and each bias has a value of its own, before and after products of three, the last layer too."""
    model = kan([2, [2, 1], [1, 1], 2], mult_arity=[[], [3], [2], []], noise_scale=1.0)
    for n, parameter in enumerate([*model.subnode_scale, *model.subnode_bias, *model.node_scale, *model.node_bias]):
        parameter.data = torch.linspace(-1.3, 0.9, len(parameter)) + 0.07 * n
    return made(model)


def state_alone() -> Made:
    """The arrays alone: the sizes are read from them."""
    return made(fitted(kan([3, 2, 2, 1])), state_only=True)


def swapped_nodes_double() -> Made:
    """Two nodes changed places."""
    model = fitted(kan([2, 3, 1]))
    model.swap(1, 0, 2)
    return made(model)


def saved_by_itself() -> Made:
    """What it saves unasked in the midst of a fit, where it says that its functions are switched off."""
    model = fitted(kan([2, 2, 1]))
    model.symbolic_enabled = False
    return made(model)


def loaded_again_double() -> Made:
    """Saved, loaded by the library, trained further and saved again."""
    model = fitted(kan([2, 2, 1]))
    model.saveckpt("before")
    return made(fitted(type(model).loadckpt("before"), steps=2))


RECIPES = (
    fresh,
    fresh_double,
    one_edge,
    trained,
    trained_double,
    deep_double,
    several_outputs,
    wide_range,
    range_as_tuple_double,
    sizes_of_numpy,
    grid_updated,
    coinciding_knots_double,
    refined,
    refined_double,
    sparse,
    pruned,
    pruned_double,
    pruned_edges,
    removed_node,
    pruned_input,
    pruned_input_alone,
    products_of_two,
    products_of_three_double,
    products_of_two_and_three,
    products_of_four_and_two_double,
    products_in_layers,
    products_last_double,
    products_pruned_double,
    grids_by_layer,
    orders_by_layer_double,
    order_1,
    order_2,
    order_5_double,
    identity,
    identity_alone_double,
    nothing_beside_splines_double,
    affine_trained,
    affine_set_double,
    state_alone,
    swapped_nodes_double,
    saved_by_itself,
    loaded_again_double,
)
