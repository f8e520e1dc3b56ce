"""Formulas of a network: one per output, in raw features, made from the same edges that are evaluated.

    from_formula("a*exp(-b*x^2)", ...)  text -> expression -> linear forms -> Kan
    formulas(kan)                       Kan -> trees -> text, LaTeX, Python, C; each compared with the network
    source(kan, "fortran")              Kan -> one function of a language
    evaluate_tree(tree, tables, x)      what a formula gives, with NumPy only
    to_json(formulas), from_json(data)  to keep and to read, checked
    expression(formula)                 a view in sympy, which nothing else here needs

A spline edge is a named function s_layer_subnode_input(u), counted from 1, with a table of its polynomials; a formula
that has one is exact but not in closed form, and says so.

As in `kanserve`, each name is looked up where it lives when it is first used: a server that reads formulas holds what
reads them, and nothing that writes them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kanserve.formula.expressions.checking import verify as verify
    from kanserve.formula.expressions.formula import Formula as Formula
    from kanserve.formula.expressions.storage import from_json as from_json
    from kanserve.formula.expressions.storage import to_json as to_json
    from kanserve.formula.expressions.tree import Table as Table
    from kanserve.formula.expressions.tree import evaluate_tree as evaluate_tree
    from kanserve.formula.from_network.formulas import formulas as formulas
    from kanserve.formula.from_network.sources import source as source
    from kanserve.formula.printing.symbolic import expression as expression
    from kanserve.formula.to_network.from_formula import from_formula as from_formula

_HOMES = {
    "Formula": "expressions.formula",
    "Table": "expressions.tree",
    "evaluate_tree": "expressions.tree",
    "expression": "printing.symbolic",
    "formulas": "from_network.formulas",
    "from_formula": "to_network.from_formula",
    "from_json": "expressions.storage",
    "source": "from_network.sources",
    "to_json": "expressions.storage",
    "verify": "expressions.checking",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
