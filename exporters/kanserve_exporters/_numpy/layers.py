"""A layer as a NumPy function: its subnodes z from its inputs v (I, N), then its nodes."""

from dataclasses import dataclass

import numpy as np

from kanserve.network.kan import Layer, Symbolic
from kanserve_exporters._numpy import splines as numpy_splines
from kanserve_exporters._numpy.splines import Plan, array
from kanserve_exporters._shared.expressions import Dialect, call, term, total
from kanserve_exporters._shared.layer_tables import Parts, Splines

_MOST_TERMS = 12  # written as formulas; if there are more, the edges of each function are computed at once
_FULL = 0.25  # the density of a matrix from which its product is faster than sums


@dataclass(frozen=True, eq=False)
class Group:
    """The edges that share a function, in the order of their subnodes."""

    function: str
    subnodes: list[int]
    inputs: list[int]
    edges: list[Symbolic]


def layer_code(number: int, layer: Layer, part: Parts, chosen: Plan | None, dialect: Dialect) -> str:
    """The tables of a layer and its function."""
    tables, lines = [], []
    whole = part.splines is not None and len(part.splines.subnodes) == layer.subnodes
    if part.constants.any():
        tables.append(f"_CONSTANTS_{number} = {array(part.constants[:, None], dialect)}")
        lines.append(f"z = numpy.repeat(_CONSTANTS_{number}, v.shape[1], axis=1)")
    elif not whole:
        lines.append(f"z = numpy.zeros(({layer.subnodes}, v.shape[1]), DTYPE)")
    if part.splines and chosen:
        tables.append(numpy_splines.write_tables(number, chosen, dialect))
        lines += _spline_lines(number, layer, part.splines, chosen, tables, dialect, begun=bool(lines))
    if len(part.terms) <= _MOST_TERMS:
        lines += _formulas(part, dialect)
    else:
        for place, group in enumerate(groups(part)):
            lines += _group_lines(f"{number}_{place}", layer, group, tables, dialect)
    lines += _nodes(number, layer, tables, dialect)
    text = "\n".join(["", "", f"def _layer_{number}(v):", *(f"    {line}" for line in lines)])
    return ("\n".join(tables) + text).strip("\n")


def row_size(part: Parts) -> int:
    """The most intermediate numbers per row that the symbolic edges of a layer need."""
    return max((len(group.edges) for group in groups(part)), default=0) if len(part.terms) > _MOST_TERMS else 0


def groups(part: Parts) -> list[Group]:
    """Group the symbolic edges by function."""
    found: dict[str, Group] = {}
    for j, i, edge in part.terms:
        group = found.setdefault(edge.function, Group(edge.function, [], [], []))
        group.subnodes.append(j)
        group.inputs.append(i)
        group.edges.append(edge)
    return list(found.values())


def _spline_lines(
    number: int, layer: Layer, splines: Splines, chosen: Plan, tables: list[str], dialect: Dialect, *, begun: bool
) -> list[str]:
    """Statements that add the splines to z, or create it if it does not exist yet."""
    some_inputs, some_subnodes = len(splines.inputs) < layer.inputs, len(splines.subnodes) < layer.subnodes
    target = f"z[{splines.subnodes.tolist()}]" if some_subnodes else "z"
    lines = [f"x = v[{splines.inputs.tolist()}]" if some_inputs else "x = v"]
    place = "x"
    if chosen.units is not None:
        tables.append(f"_UNITS_{number} = {array(chosen.units[:, None], dialect)}")
        place = f"x * _UNITS_{number}"
    lines.append(f"{target} {'+=' if begun else '='} _{chosen.form}_splines({place}, *_SPLINES_{number})")
    if splines.base != "zero":
        tables.append(f"_BASE_{number} = {array(splines.base_weight.T, dialect)}")
        base = call("silu", "x", dialect) if splines.base == "silu" else "x"
        lines.append(f"{target} += _BASE_{number} @ {base}")
    return lines


def _formulas(part: Parts, dialect: Dialect) -> list[str]:
    sums: dict[int, list[str]] = {}
    for j, i, edge in part.terms:
        sums.setdefault(j, []).append(term(edge, f"v[{i}]", dialect))
    lines = []
    for j, terms in sums.items():
        one_line = total(terms).replace("\n", "\n       ")
        lines.append(f"z[{j}] += {one_line}" if "\n" not in one_line else f"z[{j}] += (\n        {one_line}\n    )")
    return lines


def _group_lines(place: str, layer: Layer, group: Group, tables: list[str], dialect: Dialect) -> list[str]:
    """Statements that add all edges of one function to z."""
    affine = np.array([(edge.a, edge.b, edge.c) for edge in group.edges]).T
    plain = (affine[0] == 1).all() and (affine[1] == 0).all()
    if plain and len(group.edges) >= _FULL * layer.inputs * layer.subnodes:
        matrix = np.zeros((layer.subnodes, layer.inputs))
        matrix[group.subnodes, group.inputs] = affine[2]
        tables.append(f"_EDGES_{place} = {array(matrix, dialect)}")
        return [f"z += _EDGES_{place} @ {_call(group.function, 'v', dialect)}"]
    starts = [n for n, j in enumerate(group.subnodes) if n == 0 or group.subnodes[n - 1] != j]
    numbers = ", ".join(array(values[:, None], dialect) for values in affine)
    tables.append(f"_EDGES_{place} = ({group.inputs}, {numbers})")
    targets = [group.subnodes[n] for n in starts]
    return [
        f"i, a, b, c = _EDGES_{place}",
        f"values = c * {_call(group.function, 'a * v[i] + b', dialect)}",
        f"z[{targets}] += numpy.add.reduceat(values, {starts}, axis=0)",
    ]


def _call(function: str, argument: str, dialect: Dialect) -> str:
    return f"({argument})" if function == "x" else call(function, argument, dialect)


def _nodes(number: int, layer: Layer, tables: list[str], dialect: Dialect) -> list[str]:
    """Statements that return the nodes from the subnodes z; constants are appended to `tables`."""
    lines = []
    starts = (np.cumsum(layer.arity) - layer.arity).tolist()
    for name, values, line in (
        ("SUBNODE_SCALE", layer.subnode_scale - 1, "z *= "),
        ("SUBNODE_BIAS", layer.subnode_bias, "z += "),
        ("", layer.arity - 1, f"z = numpy.multiply.reduceat(z, {starts}, axis=0)"),
        ("NODE_SCALE", layer.node_scale - 1, "z *= "),
        ("NODE_BIAS", layer.node_bias, "z += "),
    ):
        if values.any():
            if name:
                tables.append(f"_{name}_{number} = {array(getattr(layer, name.lower())[:, None], dialect)}")
            lines.append(f"{line}_{name}_{number}" if name else line)
    return [*lines, "return z"]
