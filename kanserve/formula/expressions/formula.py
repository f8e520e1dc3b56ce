"""A formula, and its constants."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from kanserve.displays import display
from kanserve.formula.expressions.tree import Table, Tree
from kanserve.network.encoding import is_encoded
from kanserve.network.kan import Variable


class FormulaList(tuple["Formula", ...]):
    """The formulas of a network, one per output; displayed as text, and typeset in notebooks."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "\n".join(f"{formula.name} = {formula.text}" for formula in self)

    def _repr_html_(self) -> str:
        return "".join(formula._repr_html_() for formula in self)


@dataclass(frozen=True, eq=True)
class Formula:
    """One output of a network as a formula in raw features; `kanserve.formulas` makes it.

    Parameters
    ----------
    name : str
        The name of the output.
    text, latex : str
        For reading and for typesetting; numbers have the digits that keep y within 1e-4 of its standard deviation over
        the training range.
    python, c : str
        A NumPy expression and a C99 one, with exact constants (shortest digits that give the same double). They take
        the variables by their `identifiers` and call splines as functions s_layer_subnode_input(u). Python calls erf,
        j0 and gamma by their names in scipy.special; C calls POSIX's j0.
    closed_form : bool
        Whether the formula has no splines.
    variables : tuple of Variable
        The inputs that occur, in the order of the columns of x, with their units and training ranges. The range of a
        categorical input is that of the categories' numbers.
    identifiers : tuple of str
        The names of the variables in `python` and `c`.
    tree : tuple of tuple
        The exact formula as an expression tree (`kanserve.formula.expressions.tree`), always complete. Where an
        artifact does not hold the formula of a large network, the tree, the variables and all texts are empty.
    tables : mapping of str to Table
        The splines of the tree, by name; empty for a closed form.
    shortened : bool
        Whether some renderings are incomplete: text and LaTeX then have "…" for what is left out, and Python and C are
        empty where they would be too long or too deep.
    domain : tuple of str
        Conditions under which the formula is real and finite, overflow aside, such as "log: 3*x + 1 > 0". Those that
        interval arithmetic proves over the variables' ranges are left out. So an empty domain means that the formula is
        defined on all of the ranges; a non-empty one may still hold there.

    Examples
    --------
    >>> import kanserve
    >>> formula = kanserve.from_formula("sqrt(2)*x^2", ranges={"x": (0, 1)}).formula()
    >>> formula.text, formula.python
    ('1.4142*x^2', '1.4142135623730951*x**2')
    >>> kanserve.formulas(kanserve.from_formula("log(3*x + 1)"), strict=False)[0].domain
    ('log: 3*x + 1 > 0',)
    >>> formula.columns, formula.definitions
    ((0,), ())
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

    def _repr_html_(self) -> str:
        shown: str = display("formula_page")(self)
        return shown

    def sympy(self) -> Any:
        """The formula as a sympy expression; the same as `kanserve.formula.expression(formula)`.

        Returns
        -------
        sympy.Expr
            In real symbols named by `identifiers`, with splines as undefined functions.

        Raises
        ------
        FormulaError
            The formula is too large for sympy: use the tree.
        MissingDependencyError
            sympy is not installed.

        Examples
        --------
        >>> import kanserve
        >>> kanserve.from_formula("2*x^2 + 1").formula().sympy()
        2*x**2 + 1
        """
        # By name, since the printing of formulas is built on this file.
        return import_module("kanserve.formula").expression(self)

    @property
    def columns(self) -> tuple[int, ...]:
        """The columns of x that the variables stand for."""
        return tuple(sorted({int(step[1]) for step in self.tree if step[0] == "var"}))

    @property
    def definitions(self) -> tuple[str, ...]:
        """For each categorical input and each that may be missing, a line that explains its numbers."""
        return tuple(map(definition, filter(is_encoded, self.variables)))


def definition(variable: Variable) -> str:
    """Describe an input in words: which number stands for each category and for a missing value."""
    parts = [
        f"{number:.6g} for {name!r}" for name, number in zip(variable.categories, variable.category_values, strict=True)
    ]
    if variable.fill_value is not None:
        parts.append(f"{variable.fill_value:.6g} where {'missing or unknown' if variable.categories else 'missing'}")
    return f"{variable.name} = {', '.join(parts)}"


@dataclass(frozen=True)
class Constant:
    """A constant of a formula: its value, its standard error, and its text.

    The standard error of a recognised constant is that of its estimate; it is 0 if the data are exact, or if the other
    constants make up for it.
    """

    value: float
    standard_error: float
    text: str
