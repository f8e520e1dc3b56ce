"""Interpret a network: separability, symmetries, interactions and hidden units, after KAN 2.0 (arXiv:2408.10205).

    separability(kan)             is it f(x, y) + g(z), is it f(x, y)·g(z)
    symmetry(kan)                 is it a function of x - y, x·y, x² + y², or of some h(x, y)
    interactions(kan, data)       how much of its variance is due to one input, and how much to two together
    meaning(kan, layer, node)     what a hidden unit computes
    explain(kan, x, data)         how much each input contributes to a prediction
    report(kan, data)             a page with scores, effects, pairs and contributions

They analyse the network, not the data: they do not see what a network has not learned. Every result prints as a few
lines and has `.plot(ax=None)`, which returns matplotlib's Axes.
"""

from kanserve.analysis.contributions import Contributions, explain
from kanserve.analysis.hidden_units import Meaning, meaning
from kanserve.analysis.report_page import report
from kanserve.analysis.separable import Separability, separability
from kanserve.analysis.sobol import Interactions, interactions
from kanserve.analysis.symmetries import Symmetry, symmetry

__all__ = [
    "Contributions",
    "Interactions",
    "Meaning",
    "Separability",
    "Symmetry",
    "explain",
    "interactions",
    "meaning",
    "report",
    "separability",
    "symmetry",
]
