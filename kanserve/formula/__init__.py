"""Formulas of a network: one per output, in raw features, made from the same edges that are evaluated.

    from_formula("a*exp(-b*x^2)", ...)  text -> expression -> linear forms -> Kan
    formulas(kan)                       Kan -> trees -> text, LaTeX, Python, C; each compared with the network
    source(kan, "fortran")              Kan -> one function of a language
    evaluate_tree(tree, tables, x)      what a formula gives, with NumPy only
    to_json(formulas), from_json(data)  to keep and to read, checked
    expression(formula)                 a view in sympy, which nothing else here needs

A spline edge is a named function s_layer_subnode_input(u), counted from 1, with a table of its polynomials; a formula
that has one is exact but not in closed form, and says so.
"""

from kanserve.formula.checking import verify
from kanserve.formula.composing import from_formula
from kanserve.formula.formula import Formula
from kanserve.formula.sources import source
from kanserve.formula.storage import from_json, to_json
from kanserve.formula.symbolic import expression
from kanserve.formula.tree import Table, evaluate_tree
from kanserve.formula.writing import formulas

__all__ = [
    "Formula",
    "Table",
    "evaluate_tree",
    "expression",
    "formulas",
    "from_formula",
    "from_json",
    "source",
    "to_json",
    "verify",
]
