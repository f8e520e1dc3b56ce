"""What tests ask of the curves of a tree."""

from kanserve.network.kan import Symbolic
from kanserve.search.trees.nodes import Curve


def name_of(curve: Curve) -> Symbolic:
    """The named function of a curve that is no spline."""
    assert curve.symbolic is not None
    return curve.symbolic
