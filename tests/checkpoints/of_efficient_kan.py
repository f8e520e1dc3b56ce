"""efficient-kan: recipes, each for one way in which its state_dicts differ."""

from torch import nn

from tests.checkpoints.efficient_kan_models import fitted, made, network, updated
from tests.checkpoints.recipe import Made


def scaler() -> Made:
    """A factor for each spline beside its coefficients, as it is by default."""
    return made(fitted(network([2, 3, 1])))


def scaler_double() -> Made:
    """The same in double."""
    return made(fitted(network([2, 3, 1])))


def no_scaler() -> Made:
    """Coefficients alone."""
    return made(fitted(network([2, 3, 1], enable_standalone_scale_spline=False)))


def untouched() -> Made:
    """Nothing is trained; saved by safetensors."""
    return made(network([2, 3, 2]), safetensors=True)


def grid_updated() -> Made:
    """Knots that follow rows."""
    return made(updated(fitted(network([2, 3, 1]))))


def grid_updated_no_scaler_double() -> Made:
    """The same in double and without factors, then trained on."""
    return made(fitted(updated(network([2, 3, 1], enable_standalone_scale_spline=False))))


def order_1() -> Made:
    """Piecewise linear, eight intervals."""
    return made(fitted(network([2, 2, 1], grid_size=8, spline_order=1)), order=1)


def order_2_double() -> Made:
    """Quadratic, on [-2, 3]."""
    return made(fitted(network([2, 2, 1], spline_order=2, grid_range=[-2, 3])), order=2)


def order_5_double() -> Made:
    """Quintic, in three layers."""
    return made(fitted(network([2, 2, 2, 1], grid_size=3, spline_order=5)), order=5)


def identity() -> Made:
    """x itself beside the splines, which the file does not say."""
    return made(fitted(network([2, 3, 1], base_activation=nn.Identity)), base="identity")


RECIPES = (
    scaler,
    scaler_double,
    no_scaler,
    untouched,
    grid_updated,
    grid_updated_no_scaler_double,
    order_1,
    order_2_double,
    order_5_double,
    identity,
)
