"""A single row of a small network with Python floats: each NumPy call takes a microsecond, however small its arrays.

    def _predict_row(v):
        x0, x1 = v
        z0 = math.sin(3.141592653589793*x0)
        z0 += _r_x2(x1)
        if not abs(z0) <= _LARGEST:
            return None
        ...

The tables of splines are those for NumPy, as lists. A row with a non-finite value, or for which Python raises, is
computed with arrays instead, so that it follows NumPy's rules.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from kanserve.network.encoding import is_encoded
from kanserve.network.kan import Kan, Layer, Variable
from kanserve.network.own_functions import by_values
from kanserve_exporters._numpy.splines import Plan, array
from kanserve_exporters._shared.expressions import Dialect, call, python_helpers, term, total
from kanserve_exporters._shared.layer_tables import Parts, Splines, functions_of

_CATEGORY = '''
def _category(x, values, fill):
    """The number of each category whose code is in x; `fill` where x is missing or no category."""
    known = (x >= 0) & (x < len(values)) & (x == numpy.floor(x))
    numbers = values[numpy.where(known, x, 0).astype(int)]
    return numpy.where(known, numbers, numpy.where(numpy.isinf(x), x, fill))
'''


def encoding(kan: Kan, dialect: Dialect) -> str:
    """The function `_encoded(v)` for raw values (inputs, N), and its tables."""
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
    """Statements that encode the values x0, x1, .. of one row; they return None where no number is defined."""
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


# Measured microseconds: an edge and a node with Python floats, a layer with arrays.
_AN_EDGE, _A_NODE, _A_LAYER = 0.09, 0.2, 25.0
_LACKING = "j0"  # not in Python's standard library


def is_small(kan: Kan) -> bool:
    """Whether a single row is faster with Python floats than with arrays."""
    names = {str(name) for layer in kan.layers for name in layer.functions[layer.symbolic_mask]}
    cost = sum(layer.alive.sum() * _AN_EDGE + (layer.inputs + layer.nodes) * _A_NODE for layer in kan.layers)
    lacking = _LACKING in names or any(own and "python" not in own.spellings for own in map(by_values, names))
    return not lacking and bool(cost < _A_LAYER * len(kan.layers))


def row_code(kan: Kan, layers: Sequence[Parts], plans: Sequence[Plan | None], precision: Dialect) -> str:
    """The single-row function, which returns a list of outputs, or None if arrays must be used."""
    dialect = Dialect("python", precision.precision, "_r_")
    blocks = [f"{text}\n\n\n" for text in python_helpers(functions_of(layers), dialect)]
    blocks += [f"_PIECES_{n} = _pieces(*_SPLINES_{n})\n" for n, part in enumerate(layers) if part.splines]
    lines = [f"{', '.join(f'x{i}' for i in range(kan.shape[0]))}, = v"]
    lines += row_encoding(kan, dialect)
    affines = enumerate(zip(kan.input_shift.tolist(), kan.input_scale.tolist(), strict=True))
    lines += [
        f"x{i} = (x{i} - ({dialect.literal(shift)}))/({dialect.literal(scale)})"
        for i, (shift, scale) in affines
        if (shift, scale) != (0, 1)
    ]
    lines += _return_none_unless_finite(f"x{i}" for i in range(kan.shape[0]))
    for number, (layer, part, chosen) in enumerate(zip(kan.layers, layers, plans, strict=True)):
        lines += _layer(number, layer, part, chosen, dialect)
    outputs = [f"x{q}" for q in range(kan.shape[-1])]
    scaled = zip(outputs, kan.output_scale.tolist(), kan.output_shift.tolist(), strict=True)
    last = [f"{x} = {_affine(x, scale, shift, dialect)}" for x, scale, shift in scaled if (scale, shift) != (1, 0)]
    lines += [*last, *_return_none_unless_finite(outputs)] if last else []
    lines.append(f"return [{', '.join(outputs)}]")
    blocks.append("\ndef _predict_row(v):\n" + "".join(f"    {line}\n" for line in lines))
    return "".join(blocks)


def _layer(number: int, layer: Layer, part: Parts, chosen: Plan | None, dialect: Dialect) -> list[str]:
    """Statements that compute a layer's nodes x0, x1, ... from its inputs, which have the same names."""
    lines = [f"z{j} = {dialect.literal(value)}" for j, value in enumerate(part.constants.tolist())]
    if part.splines and chosen:
        for place in range(len(part.splines.inputs)):
            lines += _spline(number, place, part.splines, chosen, dialect)
    sums: dict[int, list[str]] = {}
    for j, i, edge in part.terms:
        sums.setdefault(j, []).append(term(edge, f"x{i}", dialect))
    for j, terms in sums.items():
        lines += [f"z{j} += {line.strip().removeprefix('+ ')}" for line in total(terms).split("\n")]
    for j, (scale, bias) in enumerate(zip(layer.subnode_scale.tolist(), layer.subnode_bias.tolist(), strict=True)):
        if scale != 1 or bias != 0:
            lines.append(f"z{j} = {_affine(f'z{j}', scale, bias, dialect)}")
    for q, group in enumerate(layer.groups):
        product = "*".join(f"z{j}" for j in group)
        lines.append(f"x{q} = {_affine(product, float(layer.node_scale[q]), float(layer.node_bias[q]), dialect)}")
    return lines + _return_none_unless_finite(f"x{q}" for q in range(layer.nodes))


def _spline(number: int, place: int, splines: Splines, chosen: Plan, dialect: Dialect) -> list[str]:
    """Statements that add the splines of one input to the subnodes, by Horner's rule on the polynomials of a piece."""
    _, _, width, outputs = splines.coefficients.shape
    x = f"x{splines.inputs[place]}"
    names = [[f"c{r}_{j}" for j in range(outputs)] for r in range(width)]
    lines = [] if chosen.units is None else [f"u = {dialect.literal(float(chosen.units[place]))}*{x}"]
    v = "u" if lines else x
    lines += [
        f"breaks, pieces = _PIECES_{number}[{place}]",
        f"origin, {', '.join(name for row in names for name in row)} = pieces[bisect_right(breaks, {v})]",
        f"t = {v} - origin",
    ]
    if splines.base != "zero":
        lines.append(f"b = {call('silu', x, dialect) if splines.base == 'silu' else x}")
    for j, subnode in enumerate(splines.subnodes):
        horner = names[-1][j]
        for r in range(width - 2, -1, -1):
            horner = f"{horner if r == width - 2 else f'({horner})'}*t + {names[r][j]}"
        base = [f"{dialect.literal(splines.base_weight[place, j])}*b"] if splines.base != "zero" else []
        lines.append(f"z{subnode} += {total([horner, *base])}")
    return lines


def _affine(value: str, scale: float, shift: float, dialect: Dialect) -> str:
    text = value if scale == 1 else f"{dialect.literal(scale)}*{value}"
    return total([text] if shift == 0 else [text, dialect.literal(shift)])


def _return_none_unless_finite(names: Iterable[str]) -> list[str]:
    """Statements that return None if a value is not finite in the module's type."""
    sizes = " + ".join(f"abs({name})" for name in names)
    return [f"if not {sizes} <= _LARGEST:", "    return None"]
