"""One layer in C: its tables, the functions of its symbolic edges and the one that calls them; `@` is the prefix."""

import numpy as np
from numpy.typing import NDArray

from kanserve.ir import Layer
from kanserve_exporters._c_template import wrap
from kanserve_exporters._expressions import Dialect, call, decimals, term, total
from kanserve_exporters._layers import Parts, Splines

Array = NDArray[np.float64]

EDGES_OF_A_FUNCTION = 200  # compilers take more than linear time: 12 s for 3,000 edges in one function


def layer_code(number: int, layer: Layer, part: Parts, dialect: Dialect) -> list[str]:
    """The tables and functions of one layer, the last of which is `@layer_<number>(v, u[, bad])`."""
    subnodes = layer.subnodes
    title = f"\n/* Layer {number + 1}: {layer.inputs} inputs, {layer.nodes} nodes. */\n"
    functions = _symbolic(number, part, dialect)
    tables = [table(f"constants_{number}", part.constants, dialect)] if part.constants.any() else []
    lines = [f"@real z[{subnodes}];", "int j;"]
    lines.append(f"for (j = 0; j < {subnodes}; j++) z[j] = {f'@constants_{number}[j]' if tables else '0'};")
    if part.splines:
        tables += _spline_tables(number, layer, part.splines, dialect)
        lines += _spline_loop(number, layer, part.splines, dialect)
    outside = has_domain(part, dialect)
    lines += [f"@layer_{number}_{n}(v, z{', bad' if outside else ''});" for n in range(len(functions))]
    if not (part.splines or functions):
        lines.insert(2, "(void)v;")
    lines += _nodes(layer, dialect)
    head = f"\nstatic @HOT void @layer_{number}(const @real *v, @real *u{', int *bad' if outside else ''})\n"
    return [title, *tables, *functions, head, "{\n", *(f"    {line}\n" for line in lines), "}\n"]


def _symbolic(number: int, part: Parts, dialect: Dialect) -> list[str]:
    """Functions that add the symbolic edges to z, each a sum per subnode."""
    outside = has_domain(part, dialect)
    functions: list[str] = []
    for start in range(0, len(part.terms), EDGES_OF_A_FUNCTION):
        sums: dict[int, list[str]] = {}
        chunk = part.terms[start : start + EDGES_OF_A_FUNCTION]
        for j, i, edge in chunk:
            sums.setdefault(j, []).append(term(edge, f"v[{i}]", dialect))
        head = f"static void @layer_{number}_{len(functions)}"
        lines = [f"    z[{j}] += {total(terms)};\n" for j, terms in sums.items()]
        if outside and not any(dialect.guarded(edge.function) for _, _, edge in chunk):
            lines.append("    (void)bad;\n")
        functions.append(
            f"\n{head}(const @real *v, @real *z{', int *bad' if outside else ''})\n{{\n{''.join(lines)}}}\n"
        )
    return functions


def _spline_tables(number: int, layer: Layer, splines: Splines, dialect: Dialect) -> list[str]:
    tables = [
        table(f"breaks_{number}", splines.breaks, dialect),
        table(f"origins_{number}", splines.origins, dialect),
        table(f"splines_{number}", splines.coefficients, dialect),
    ]
    if splines.base != "zero":
        tables.append(table(f"base_{number}", splines.base_weight, dialect))
    if splines.steps is not None:
        tables.append(table(f"per_step_{number}", splines.steps, dialect))
    for name, chosen, count in (("in", splines.inputs, layer.inputs), ("out", splines.subnodes, layer.subnodes)):
        if len(chosen) < count:
            numbers = wrap([str(one) for one in chosen])
            tables.append(f"static @TABLE const int @{name}_{number}[{len(chosen)}] = {{{numbers}}};\n")
    return tables


def _spline_loop(number: int, layer: Layer, splines: Splines, dialect: Dialect) -> list[str]:
    """Statements that add the splines to z; see Splines for what the tables hold."""
    inputs, breaks = splines.breaks.shape
    _, count, width, outputs = splines.coefficients.shape
    every_output = len(splines.subnodes) == layer.subnodes
    target = "z" if every_output else "s"
    horner = f"c[{(width - 1) * outputs} + j]"
    for degree in range(width - 2, -1, -1):
        factor = horner if degree == width - 2 else f"({horner})"
        horner = f"{factor}*t + c[{degree * outputs} + j]"
    piece = "piece" if splines.steps is None else "even_piece"
    step = "" if splines.steps is None else f"@per_step_{number}[i], "
    base = call("silu", "x", dialect) if splines.base == "silu" else "x"
    loop = f"for (j = 0; j < {outputs}; j++)"
    lines = [
        f"const @real x = v[{'i' if len(splines.inputs) == layer.inputs else f'@in_{number}[i]'}];",
        f"const int p = i*{count} + @{piece}(@breaks_{number} + i*{breaks}, {breaks}, {step}x);",
        f"const @real t = x - @origins_{number}[p];",
        f"const @real *c = @splines_{number} + (size_t)p*{width * outputs};",
    ]
    if splines.base != "zero":
        lines += [f"const @real *w = @base_{number} + i*{outputs};", f"const @real b = {base};"]
    lines.append(f"{loop} {target}[j] += {horner}{' + b*w[j]' if splines.base != 'zero' else ''};")
    block = [f"for (i = 0; i < {inputs}; i++) {{", *(f"    {line}" for line in lines), "}"]
    if not every_output:
        block = [f"@real s[{outputs}];", f"{loop} s[j] = 0;", *block, f"{loop} z[@out_{number}[j]] += s[j];"]
    return ["{", "    int i;", *(f"    {line}" for line in block), "}"]


def _nodes(layer: Layer, dialect: Dialect) -> list[str]:
    """Statements that make the nodes u of the subnodes z."""
    lines = []
    for j, (scale, bias) in enumerate(zip(layer.subnode_scale.tolist(), layer.subnode_bias.tolist(), strict=True)):
        if scale != 1 or bias != 0:
            lines.append(f"z[{j}] = {_scaled(f'z[{j}]', scale, bias, dialect)};")
    sums = [layer.arity == 1, layer.node_scale == 1, layer.node_bias == 0]
    if np.logical_and.reduce(sums).all():
        return [*lines, f"for (j = 0; j < {layer.nodes}; j++) u[j] = z[j];"]
    for q, group in enumerate(layer.groups):
        product = "*".join(f"z[{j}]" for j in group)
        lines.append(f"u[{q}] = {_scaled(product, layer.node_scale[q], layer.node_bias[q], dialect)};")
    return lines


def _scaled(value: str, scale: float, bias: float, dialect: Dialect) -> str:
    text = value if scale == 1 else f"{dialect.literal(scale)}*({value})"
    return total([text] if bias == 0 else [text, dialect.literal(bias)])


def has_domain(part: Parts, dialect: Dialect) -> bool:
    """Whether a function of the layer can be asked outside its domain."""
    return any(dialect.guarded(edge.function) for _, _, edge in part.terms)


def table(name: str, values: Array, dialect: Dialect) -> str:
    """A constant table."""
    numbers = wrap([text + dialect.suffix for text in decimals(values, dialect.precision)])
    return f"static @TABLE const @real @{name}[{values.size}] = {{{numbers}}};\n"
