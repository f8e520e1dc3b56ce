"""Convert formulas to JSON and back. Reading validates everything and executes nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

from kanserve.errors import FormatError, FormulaError
from kanserve.formula.expressions.formula import Formula
from kanserve.formula.expressions.tree import SPLINE_NAME, TREE_MAX_STEPS, Table, Tree, check_tree
from kanserve.network.serialization import variable_in, variable_out

LONGEST_TEXT = 16_000_000  # characters of a stored formula

VERSION = 1


def to_json(formulas: Sequence[Formula]) -> dict[str, Any]:
    """Data for `json.dumps`; spline tables that several outputs share are written once.

    Parameters
    ----------
    formulas : sequence of Formula
        Those of one network.

    Returns
    -------
    dict
        The data, which `from_json` reads.

    Raises
    ------
    FormulaError
        The formulas are of different networks.

    Examples
    --------
    >>> import json, kanserve
    >>> law = kanserve.from_formula("2*x + 1").formula()
    >>> json.dumps(kanserve.formula.to_json([law])).startswith("{")
    True
    """
    tables: dict[str, Table] = {}
    for formula in formulas:
        for name, table in formula.tables.items():
            if tables.setdefault(name, table) != table:
                raise FormulaError(f"Formulas must be of the same network; two have different splines {name}.")
    return {
        "version": VERSION,
        "tables": {name: _table_out(table) for name, table in tables.items()},
        "formulas": [_formula_out(formula) for formula in formulas],
    }


def from_json(data: Any) -> tuple[Formula, ...]:
    """The formulas in parsed JSON; unknown entries are ignored.

    Parameters
    ----------
    data : dict
        What `to_json` gave, as `json.loads` reads it.

    Returns
    -------
    tuple of Formula
        One for each output.

    Raises
    ------
    FormatError
        They are invalid.

    Examples
    --------
    >>> import kanserve
    >>> law = kanserve.from_formula("2*x + 1").formula()
    >>> kanserve.formula.from_json(kanserve.formula.to_json([law]))[0].text
    '2*x + 1'
    """
    try:
        if data["version"] != VERSION:
            raise FormatError(f"The formulas have format version {data['version']!r:.40}, expected {VERSION}.")
        tables = {_spline_name(name): _table_in(table) for name, table in dict(data["tables"]).items()}
        return tuple(formula_from_json(formula, tables) for formula in list(data["formulas"]))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise FormatError(f"These are not kanserve formulas: {type(error).__name__}.") from None


def _formula_out(formula: Formula) -> dict[str, Any]:
    return {
        "name": formula.name,
        "text": formula.text,
        "latex": formula.latex,
        "python": formula.python,
        "c": formula.c,
        "closed_form": formula.closed_form,
        "shortened": formula.shortened,
        "variables": [variable_out(variable) for variable in formula.variables],
        "identifiers": list(formula.identifiers),
        "tree": [list(step) for step in formula.tree],
        "domain": list(formula.domain),
    }


def formula_from_json(entry: Any, tables: Mapping[str, Table]) -> Formula:
    """Read one formula. Raises FormatError, or the KeyError or TypeError of a missing or mistyped entry."""
    variables = tuple(variable_in(variable) for variable in list(entry["variables"]))
    identifiers = tuple(_text(identifier) for identifier in list(entry["identifiers"]))
    if not isinstance(entry["shortened"], bool) or not isinstance(entry["closed_form"], bool):
        raise FormatError("shortened and closed_form must be true or false.")
    tree = _tree_in(entry, tables)
    used = {step[1] for step in tree if step[0] == "spline"}
    columns = len({step[1] for step in tree if step[0] == "var"})
    if tree and entry["closed_form"] is not (not used):
        raise FormatError("A formula is in closed form when its tree has no spline, and only then.")
    if not len(variables) == len(identifiers) == columns:
        raise FormatError(f"A formula in {columns} variables has {len(variables)} described.")
    return Formula(
        name=_text(entry["name"]),
        text=_text(entry["text"]),
        latex=_text(entry["latex"]),
        python=_text(entry["python"]),
        c=_text(entry["c"]),
        closed_form=entry["closed_form"],
        variables=variables,
        identifiers=identifiers,
        tree=tree,
        tables={name: table for name, table in tables.items() if name in used},
        shortened=entry["shortened"],
        domain=tuple(_text(condition) for condition in list(entry.get("domain", []))),  # version 0.1 did not write it
    )


def _tree_in(entry: Any, tables: Mapping[str, Table]) -> Tree:
    if entry["tree"] != []:
        return check_tree(entry["tree"], tables)
    # Of a large network.
    if not entry["shortened"] or any(entry[text] for text in ("text", "latex", "python", "c")):
        raise FormatError("A formula without a tree has no text and is shortened.")
    return ()


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > LONGEST_TEXT:
        raise FormatError(f"Expected a text of at most {LONGEST_TEXT} characters.")
    return value


def _spline_name(name: Any) -> str:
    if not isinstance(name, str) or not SPLINE_NAME.fullmatch(name):
        raise FormatError("A spline is named s_<layer>_<subnode>_<input>.")
    return name


def _table_out(table: Table) -> dict[str, Any]:
    return {
        "breaks": table.breaks.tolist(),
        "origins": table.origins.tolist(),
        "coefficients": table.coefficients.tolist(),
    }


def _table_in(entry: Any) -> Table:
    return Table(_numbers(entry["breaks"]), _numbers(entry["origins"]), _rows(entry["coefficients"]))


def _rows(entry: Any) -> Any:
    if not isinstance(entry, list | tuple):
        raise FormatError("Expected a list of rows of numbers.")
    return [_numbers(row) for row in entry]


def _numbers(entry: Any) -> Any:
    # NumPy would silently convert bool and text to numbers.
    if not isinstance(entry, list | tuple) or not all(type(number) in (int, float) for number in entry):
        raise FormatError("Expected a list of numbers.")
    if len(entry) > TREE_MAX_STEPS:
        raise FormatError(f"Expected a list of at most {TREE_MAX_STEPS} numbers.")
    return list(entry)
