"""Random networks of a given shape, for tests of what size costs."""

import itertools
from itertools import pairwise

import numpy as np

from kanserve.network.functions import FUNCTIONS
from kanserve.network.kan import Kan, Layer, make_layer
from kanserve.network.splines import uniform_knots


def all_symbolic(*shape: int) -> Kan:
    """Random elementary functions and constants of 17 digits on every edge: as long as the source of a law may be.

    The tables of J0 stand in a source once, however many edges have it, and would hide how long the edges are.
    """
    rng = np.random.default_rng(0)
    rare = ("x^4", "1/x^2", "1/sqrt", "tan", "arcsinh", "erf", "j0", "gamma", "x^5", "1/x^3", "1/x^4", "1/x^5", "x^1.5")
    names = [name for name in FUNCTIONS if name not in rare]
    return Kan(
        tuple(
            make_layer(functions=rng.choice(names, (o, i)), affine=rng.normal(0, 0.5, (o, i, 4)))
            for i, o in pairwise(shape)
        )
    )


def splines(*shape: int) -> Kan:
    """Random cubic splines of five intervals on every edge."""
    rng = np.random.default_rng(0)

    def one(i: int, o: int) -> Layer:
        numbers = rng.normal(0, 0.1, (o, i, 8))
        return make_layer(numbers, knots=uniform_knots(-1, 1, 5, 3), base_weight=rng.normal(0, 0.1, (o, i)))

    return Kan(tuple(one(i, o) for i, o in pairwise(shape)))


def large(*, deep: bool) -> Kan:
    """20-20-10 in which every input reaches every output, or 600 edges in seven layers, far too long to write out."""
    kan = network((10,) * 7 if deep else (20, 20, 10))
    assert kan.edges == 600 and kan.symbolic
    return kan


def network(shape: tuple[int, ...]) -> Kan:
    rng = np.random.default_rng(0)
    layers = []
    for i, o in itertools.pairwise(shape):
        affine = np.stack([rng.uniform(-1, 1, (o, i)), *rng.normal(0, 0.3, (3, o, i))], axis=-1)
        functions = rng.choice(["sin", "x^2", "exp", "tanh", "x", "gaussian"], (o, i))
        layers.append(make_layer(functions=functions, affine=affine / [1, 1, i**0.5, i]))
    return Kan(tuple(layers))
