"""What a formula is, and a number in it."""

from collections.abc import Mapping
from dataclasses import dataclass

from kanserve.formula.expressions.tree import Table, Tree
from kanserve.network.kan import Variable


@dataclass(frozen=True, eq=True)
class Formula:
    """One output of a network as a formula in raw features.

    `tree` is the formula, exactly; `tables` are its splines, empty when `closed_form`. The rest shows it:

    - `text` to read and `latex` to typeset have numbers rounded to 6 digits;
    - `python` is a NumPy expression and `c` a C99 one, with exact constants (shortest digits that give the same
      double). They take the variables by their `identifiers` and call splines as functions s_layer_subnode_input(u).
      Python calls erf, j0 and gamma by the names that scipy.special has them under; C calls POSIX's j0.

    `variables` are the inputs that occur, in the order of the columns of x, with the ranges they had in training.
    `shortened` says that not all of that is whole: then text and LaTeX have "…" for what is left out, and Python and
    C are empty where they would be too long or too deep. The tree is always whole.

    `domain` are the conditions under which the formula is real and finite, overflow aside, as "log: 3*x + 1 > 0"; those
    that interval arithmetic shows to hold everywhere in the variables' ranges are left out. An empty one says that the
    formula is defined in all of the ranges; one that is not may still hold there.
    """

    name: str
    text: str
    latex: str
    python: str
    c: str
    closed_form: bool
    variables: tuple[Variable, ...]
    identifiers: tuple[str, ...]
    tree: Tree
    tables: Mapping[str, Table]
    shortened: bool
    domain: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[int, ...]:
        """For each variable, its column in the rows x."""
        return tuple(sorted({int(step[1]) for step in self.tree if step[0] == "var"}))


@dataclass(frozen=True)
class Constant:
    """A number of a formula: its standard error, 0 when it is known by its name, and how it is written."""

    value: float
    standard_error: float
    text: str
