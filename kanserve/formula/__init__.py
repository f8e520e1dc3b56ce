"""Formulas of a network: one per output, in raw features, built from the edges that are evaluated.

    from_formula("a*exp(-b*x^2)", ...)  text -> expression -> linear forms -> Kan
    formulas(kan)                       Kan -> trees -> text, LaTeX, Python, C; each compared with the network
    source(kan, "fortran")              Kan -> one function of a language
    evaluate_tree(tree, tables, x)      the values of a formula, with NumPy only
    to_json(formulas), from_json(data)  to save and to load, validated
    expression(formula)                 a sympy expression; nothing else here needs sympy

A spline edge is a named function s_layer_subnode_input(u), counted from 1, with a table of its polynomials. A formula
that has one is exact but not in closed form, and says so.

As in `kanserve`, names are imported lazily, on first use: a server that reads formulas does not load what writes them.
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
    from kanserve.formula.function_registration import register_function as register_function
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
    "register_function": "function_registration",
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
