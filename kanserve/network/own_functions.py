"""Functions that a user has added to the table of functions, in this process."""

from kanserve.network.functions import FUNCTIONS, Function
from kanserve.network.kan import Kan

OWN: dict[str, str] = {}
"""The formula of each, by name."""


def added(row: Function, formula: str) -> None:
    """Adds a row to the table."""
    FUNCTIONS[row.name] = row
    OWN[row.name] = formula


def own_functions(kan: Kan) -> list[str]:
    """The names of such functions on edges of a network: compiled kernels and other libraries do not have them."""
    if not OWN:
        return []
    return sorted({name for layer in kan.layers for name in layer.functions.ravel().tolist() if name in OWN})
