"""The encoding of raw inputs with NumPy: fill values for what is missing, and numbers of categories."""

import numpy as np

from kanserve.network.encoding import is_encoded
from kanserve.network.kan import Kan, Variable
from kanserve_exporters._numpy.splines import array
from kanserve_exporters._shared.expressions import Dialect

_CATEGORY = '''
def _category(x, values, fill):
    """The number of each category whose code is in x; `fill` where x is missing or no category."""
    known = (x >= 0) & (x < len(values)) & (x == numpy.floor(x))
    numbers = values[numpy.where(known, x, 0).astype(int)]
    return numpy.where(known, numbers, numpy.where(numpy.isinf(x), x, fill))
'''


def encoding(kan: Kan, dialect: Dialect) -> str:
    """The function `_encoded(v)` of raw values (inputs, N), and its tables."""
    tables, lines = [], ["def _encoded(v):", "    v = v.copy()"]
    for i, variable in enumerate(kan.inputs):
        fill = _fill(variable, dialect)
        if variable.categories:
            tables.append(f"_CATEGORY_VALUES_{i} = {array(np.array(variable.category_values), dialect)}\n")
            lines.append(f"    v[{i}] = _category(v[{i}], _CATEGORY_VALUES_{i}, {fill})")
        elif is_encoded(variable):
            lines.append(f"    v[{i}][numpy.isnan(v[{i}])] = {fill}")
    text = "\n".join([*lines, "    return v"])
    return "\n\n".join([*(["".join(tables), _CATEGORY.strip("\n") + "\n"] if tables else []), text])


def _fill(variable: Variable, dialect: Dialect) -> str:
    return "numpy.nan" if variable.fill_value is None else dialect.literal(variable.fill_value)


def row_encoding(kan: Kan, dialect: Dialect) -> list[str]:
    """Statements that encode the values x0, x1, .. of one row, Python floats; None where no number stands in."""
    lines = []
    for i, variable in enumerate(kan.inputs):
        x = f"x{i}"
        given_up = "return None" if variable.fill_value is None else f"{x} = {dialect.literal(variable.fill_value)}"
        if variable.categories:
            lines += [
                f"if 0 <= {x} < {len(variable.categories)} and {x} == int({x}):",
                f"    {x} = float(_CATEGORY_VALUES_{i}[int({x})])",
                f"elif abs({x}) != math.inf:",
                f"    {given_up}",
            ]
        elif variable.fill_value is not None:
            lines += [f"if {x} != {x}:", f"    {given_up}"]
    return lines
