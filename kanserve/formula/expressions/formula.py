"""A formula, and a constant of it."""

from collections.abc import Mapping
from dataclasses import dataclass

from kanserve.formula.expressions.tree import Table, Tree
from kanserve.network.kan import Variable


@dataclass(frozen=True, eq=True)
class Formula:
    """One output of a network as a formula in raw features.

    `tree` is the exact formula; `tables` are its splines, empty when `closed_form`. The rest are renderings of it:

    - `text` for reading and `latex` for typesetting have numbers rounded to 6 digits;
    - `python` is a NumPy expression and `c` a C99 one, with exact constants (shortest digits that give the same
      double). They take the variables by their `identifiers` and call splines as functions s_layer_subnode_input(u).
      Python calls erf, j0 and gamma by their names in scipy.special; C calls POSIX's j0.

    `variables` are the inputs that occur, in the order of the columns of x, with their training ranges.
    `shortened` says that some renderings are incomplete: text and LaTeX then have "…" for what is left out, and Python
    and C are empty where they would be too long or too deep. The tree is always complete.

    `domain` lists the conditions under which the formula is real and finite, overflow aside, as "log: 3*x + 1 > 0".
    Conditions that interval arithmetic proves over the variables' ranges are left out. An empty `domain` means that the
    formula is defined on all of the ranges; a non-empty one may still hold there.
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
        """The column of each variable in the rows x."""
        return tuple(sorted({int(step[1]) for step in self.tree if step[0] == "var"}))


@dataclass(frozen=True)
class Constant:
    """A constant of a formula: its value, its standard error (0 for a recognised constant), and its text."""

    value: float
    standard_error: float
    text: str
