"""pykan 0.2.8: functions by name, beside splines or in their place, and masks; each recipe for one reason."""

from dataclasses import replace
from pathlib import Path

import torch

from tests.checkpoints.pykan_models import fitted, kan, made, seen
from tests.checkpoints.recipe import Made

# All of its table, the two spellings that some have included.
NAMES = (
    *("x", "x^2", "x^3", "x^4", "x^5", "1/x", "1/x^2", "1/x^3", "1/x^4", "1/x^5", "sqrt", "x^0.5", "x^1.5"),
    *("1/sqrt(x)", "1/x^0.5", "exp", "log", "abs", "sin", "cos", "tan", "tanh", "sgn", "arcsin", "arccos", "arctan"),
    *("arctanh", "0", "gaussian"),
)
FEW = ["x", "x^2", "sin", "exp", "tanh"]


def named_by_hand() -> Made:
    """exp(sin(x) + y²): every edge has a function, as it is."""
    model = kan([2, 1, 1])
    for place, name in (((0, 0, 0), "sin"), ((0, 1, 0), "x^2"), ((1, 0, 0), "exp")):
        model.fix_symbolic(*place, name, fit_params_bool=False)
    return made(model)


def named_by_hand_double() -> Made:
    """The same in double."""
    return named_by_hand()


def every_function() -> Made:
    """Each name of its table once, where it is finite inside the grid; outside some are not."""
    model = kan([1, len(NAMES)])
    for j, name in enumerate(NAMES):
        model.fix_symbolic(0, 0, j, name, fit_params_bool=False)
        model.symbolic_fun[0].affine.data[j, 0] = torch.tensor([0.15, 0.5, 1 - 0.05 * j, 0.1 + 0.01 * j])
    return made(model)


def every_function_double() -> Made:
    """The same in double."""
    return every_function()


def named_by_fit() -> Made:
    """Functions whose constants were fitted to the splines that they replace."""
    model = seen(fitted(kan([2, 2, 1])))
    for place, name in (((0, 0, 0), "sin"), ((0, 1, 1), "x^2"), ((1, 0, 0), "exp"), ((1, 1, 0), "x")):
        model.fix_symbolic(*place, name)
    return made(model)


def named_by_fit_double() -> Made:
    """The same in double, then trained on: the constants moved."""
    model = seen(fitted(kan([2, 2, 1])))
    model.fix_symbolic(0, 0, 0, "sin")
    model.fix_symbolic(1, 1, 0, "tanh")
    return made(fitted(model, steps=2, update_grid=False))


def many_by_fit_double() -> Made:
    """Twelve functions fitted to twelve splines, well or badly."""
    model = kan([1, 12], noise_scale=1.0)
    seen(model)
    for j, name in enumerate(NAMES[1:25:2]):
        model.fix_symbolic(0, 0, j, name)
    return made(model)


def named_by_itself() -> Made:
    """What auto_symbolic makes of a trained network."""
    model = seen(fitted(kan([2, 2, 1])))
    model.auto_symbolic(lib=FEW)
    return made(model)


def named_by_itself_double() -> Made:
    """The same in double, of a pruned network: the edges that are gone get the name 0."""
    model = seen(fitted(kan([2, 3, 1]), steps=6, lamb=0.02).prune(node_th=0.03, edge_th=0.1))
    model.auto_symbolic(lib=FEW)
    return made(model)


def named_in_part_double() -> Made:
    """One edge has a function, the others splines."""
    model = fitted(kan([2, 2, 1]))
    model.fix_symbolic(0, 1, 0, "gaussian", fit_params_bool=False)
    return made(model)


def named_under_products_double() -> Made:
    """Functions that lead to products of two and of three."""
    model = kan([2, [1, 2], 1], mult_arity=[[], [3, 2], []], noise_scale=1.0)
    for j, name in enumerate(("sin", "x", "tanh", "x^2")):
        model.fix_symbolic(0, j % 2, j, name, fit_params_bool=False)
    return made(model)


def named_and_nodes_pruned_double() -> Made:
    """Functions of a node that was pruned away: those of the others moved up in the lists of names."""
    model = fitted(kan([2, 3, 1]))
    for j, name in enumerate(("sin", "exp", "x^3")):
        model.fix_symbolic(0, 0, j, name, fit_params_bool=False)
    return made(seen(model).prune_node(active_neurons_id=[[0, 2]]))


def spline_and_function() -> Made:
    """An edge that is a spline and a function at once."""
    model = fitted(kan([2, 2, 1]))
    model.fix_symbolic(0, 0, 1, "sin", fit_params_bool=False)
    model.set_mode(0, 0, 1, "ns")
    return made(model)


def spline_and_function_double() -> Made:
    """The same in double, of which the spline counts for three tenths."""
    model = fitted(kan([2, 2, 1]))
    for place, name in (((0, 0, 1), "sin"), ((1, 1, 0), "x^2")):
        model.fix_symbolic(*place, name, fit_params_bool=False)
        model.symbolic_fun[place[0]].affine.data[place[2], place[1]] = torch.tensor([1.2, 0.3, -0.7, 0.2])
        model.set_mode(*place, "ns", mask_n=0.3)
    return made(model)


def masks_between_double() -> Made:
    """Masks that are neither 0 nor 1, of splines and of functions: they multiply, the constant of a function too."""
    model = fitted(kan([2, 2, 1]))
    model.fix_symbolic(0, 0, 0, "exp", fit_params_bool=False)
    model.fix_symbolic(1, 0, 0, "cos", fit_params_bool=False)
    model.symbolic_fun[0].affine.data[0, 0] = torch.tensor([0.8, 0.1, 1.5, 0.6])
    model.act_fun[0].mask.data = torch.tensor([[0.0, 0.25], [1.7, -0.5]])
    model.symbolic_fun[0].mask.data[0, 0] = 0.4
    model.symbolic_fun[1].mask.data[0, 0] = 2.0
    return made(model)


def masks_not_square_double() -> Made:
    """Three inputs, two nodes: the masks of splines are (inputs, nodes), those of functions the other way round."""
    model = kan([3, 2], noise_scale=1.0)
    model.act_fun[0].mask.data = torch.tensor([[1.0, 0.2], [0.0, 1.0], [0.5, 0.0]])
    for i, j, name in ((1, 0, "sin"), (2, 1, "tanh"), (0, 1, "x^2")):
        model.symbolic_fun[0].fix_symbolic(i, j, name, verbose=False)
        model.symbolic_fun[0].mask.data[j, i] = 1.0
    return made(model)


def unfixed() -> Made:
    """A function that was taken back: its constants are still there, and its spline counts again."""
    model = fitted(kan([2, 2, 1]))
    model.fix_symbolic(0, 0, 0, "exp", fit_params_bool=False)
    model.unfix_symbolic(0, 0, 0)
    return made(model)


def switched_off_in_its_file_double() -> Made:
    """Named functions, and a file that says that they are switched off: what it saves unasked says so wrongly."""
    model = fitted(kan([2, 2, 1]))
    model.fix_symbolic(0, 0, 0, "sin", fit_params_bool=False)
    answer = made(model).answer
    wrong = made(model)

    def write(path: Path) -> Path:
        model.symbolic_enabled = False
        written = wrong.write(path)
        model.symbolic_enabled = True
        return written

    return replace(wrong, write=write, answer=answer)


def outside_domains_double() -> Made:
    """A logarithm, a root and a reciprocal that leave their domains on some rows."""
    model = kan([2, 2, 1])
    for place, name in (((0, 0, 0), "log"), ((0, 1, 0), "sqrt"), ((0, 1, 1), "1/x"), ((1, 0, 0), "arctan")):
        model.fix_symbolic(*place, name, fit_params_bool=False)
    return made(model)


def affine_and_names_double() -> Made:
    """Functions, and trained scales and biases around them."""
    model = kan([2, [1, 1], 1], affine_trainable=True)
    model.fix_symbolic(0, 0, 0, "sin", fit_params_bool=False)
    model.fix_symbolic(0, 1, 2, "x", fit_params_bool=False)
    return made(fitted(model, steps=4, update_grid=False))


RECIPES = (
    named_by_hand,
    named_by_hand_double,
    every_function,
    every_function_double,
    named_by_fit,
    named_by_fit_double,
    many_by_fit_double,
    named_by_itself,
    named_by_itself_double,
    named_in_part_double,
    named_under_products_double,
    named_and_nodes_pruned_double,
    spline_and_function,
    spline_and_function_double,
    masks_between_double,
    masks_not_square_double,
    unfixed,
    switched_off_in_its_file_double,
    outside_domains_double,
    affine_and_names_double,
)
