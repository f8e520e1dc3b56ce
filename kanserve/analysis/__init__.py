"""What a network says about its inputs: KAN 2.0's questions (arXiv:2408.10205), each a number and a picture.

    separability(kan)             is it f(x, y) + g(z), is it f(x, y)·g(z)
    symmetry(kan)                 is it a function of x - y, x·y, x² + y², or of some h(x, y)
    interactions(kan, data)       how much of its variance is due to one input, and how much to two together
    meaning(kan, layer, node)     what a hidden unit computes

They look at the network, not at the data: what a network has not learned, they do not see. Every answer prints as a few
lines and has `.plot(ax=None)`, which returns matplotlib's Axes.
"""

from kanserve.analysis.hidden_units import Meaning, meaning
from kanserve.analysis.separable import Separability, separability
from kanserve.analysis.sobol import Interactions, interactions
from kanserve.analysis.symmetries import Symmetry, symmetry

__all__ = [
    "Interactions",
    "Meaning",
    "Separability",
    "Symmetry",
    "interactions",
    "meaning",
    "separability",
    "symmetry",
]
