"""What tests of formulas say in a word: the formulas of the zoo, made once, one edge, the text of a formula."""

import functools
from dataclasses import dataclass

from kanserve.formula import Formula, formulas
from kanserve.network.kan import Kan, Layer, make_layer
from tests.support.networks.kans import ZOO


@functools.cache
def of(name: str) -> tuple[Formula, ...]:
    """The formulas of one of the zoo's networks."""
    return formulas(ZOO[name]())


def edge(name: str, a: float = 1.0, b: float = 0.0, c: float = 1.0, d: float = 0.0) -> Layer:
    return make_layer(functions=[[name]], affine=[[[a, b, c, d]]])


def text(kan: Kan, q: int = 0) -> str:
    return formulas(kan)[q].text


@dataclass(frozen=True)
class Found:
    """What a search gives of each formula."""

    formula: Formula
    complexity: float
    error: float
    validation: float
