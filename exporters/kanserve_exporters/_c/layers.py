"""A layer in C: its tables, functions for its symbolic edges, and a function that calls them; `@` is the prefix."""

import numpy as np
from numpy.typing import NDArray

from kanserve.network.kan import Layer, Symbolic
from kanserve_exporters._c.grids import Even, Rows, factorial
from kanserve_exporters._c.splines import integers, locate
from kanserve_exporters._c.template import where_plain
from kanserve_exporters._shared.expressions import Dialect, call, decimals, inner, term, total, when, wrap
from kanserve_exporters._shared.layer_tables import Parts, Splines

Array = NDArray[np.float64]

_EDGES_OF_A_FUNCTION = 200  # compilers take more than linear time: 12 s for 3,000 edges in one function


def layer_code(
    number: int, layer: Layer, part: Parts, found: Rows | None, dialect: Dialect, fast: str, gradient: bool
) -> list[str]:
    """The tables and functions of one layer: `@layer_<number>(v, u[, bad])`. The fast form has it only if the layer has
    no tile function, or if the gradient needs it."""
    subnodes = layer.subnodes
    title = f"\n/* Layer {number + 1}: {layer.inputs} inputs, {layer.nodes} nodes. */\n"
    functions = _symbolic(number, part, dialect)
    tables = [table(f"constants_{number}", part.constants, dialect)] if part.constants.any() else []
    lines = [f"@real z[{subnodes}];", "int j;"]
    plain_tables: list[str] = []
    lines.append(f"for (j = 0; j < {subnodes}; j++) z[j] = {f'@constants_{number}[j]' if tables else '0'};")
    if part.splines and found:
        tables += _spline_tables(number, layer, part.splines, found, dialect)
        plain_tables = _there(number, found, dialect)
        lines += spline_loop(number, layer, part.splines, found, dialect)
    outside = has_domain(part, dialect)
    lines += [f"@layer_{number}_{n}(v, z{', bad' if outside else ''});" for n in range(len(functions))]
    if not (part.splines or functions):
        lines.insert(2, "(void)v;")
    lines += nodes(layer, dialect) or [f"for (j = 0; j < {layer.nodes}; j++) u[j] = z[j];"]
    head = f"\nstatic @HOT void @layer_{number}(const @real *v, @real *u{', int *bad' if outside else ''})\n"
    plain = [*plain_tables, head, "{\n", *(f"    {line}\n" for line in lines), "}\n"]
    either = [where_plain(gradient), *plain, "#endif\n", "\n#ifdef @FAST", fast, "#endif\n"] if fast else plain
    return [title, *tables, *functions, *either]


def chunks(part: Parts) -> list[tuple[tuple[int, int, Symbolic], ...]]:
    """The symbolic edges in chunks, one for each function written for them."""
    return [part.terms[at : at + _EDGES_OF_A_FUNCTION] for at in range(0, len(part.terms), _EDGES_OF_A_FUNCTION)]


def _symbolic(number: int, part: Parts, dialect: Dialect) -> list[str]:
    """Functions that add the symbolic edges to z, with a sum per subnode."""
    outside = has_domain(part, dialect)
    functions: list[str] = []
    for chunk in chunks(part):
        sums: dict[int, list[str]] = {}
        for j, i, edge in chunk:
            sums.setdefault(j, []).append(term(edge, f"v[{i}]", dialect))
        head = f"static void @layer_{number}_{len(functions)}"
        lines = [f"    z[{j}] += {total(terms, tight=True)};\n" for j, terms in sums.items()]
        if outside and not any(dialect.reports_domain(edge.function) for _, _, edge in chunk):
            lines.append("    (void)e;\n")
        functions.append(f"\n{head}(const @real *v, @real *z{', int *e' if outside else ''})\n{{\n{''.join(lines)}}}\n")
    return functions


def _spline_tables(number: int, layer: Layer, splines: Splines, rows: Rows, dialect: Dialect) -> list[str]:
    grid = rows.grid
    # Slack, since a vector of outputs that begins in the last row may end behind it.
    tables = [table(f"splines_{number}", rows.table, dialect, "@SLACK")]
    if isinstance(grid, Even):
        tables.append(table(f"grid_{number}", grid.steps, dialect, "@SLACK"))
    else:
        tables += [
            table(f"breaks_{number}", grid.breaks, dialect, "@SLACK"),
            table(f"origins_{number}", grid.origins, dialect),
            integers(f"first_{number}", grid.first.ravel()),
            table(f"polynomials_{number}", grid.polynomials, dialect),
        ]
    for name, chosen, count in (("in", splines.inputs, layer.inputs), ("out", splines.subnodes, layer.subnodes)):
        if len(chosen) < count:
            tables.append(integers(f"{name}_{number}", chosen))
    return tables


def _there(number: int, rows: Rows, dialect: Dialect) -> list[str]:
    """The factors of the `whole` weights: 1 / k!, or 0 for functions before the first and after the last."""
    if not rows.runs_out:
        return []
    factor = np.full(rows.functions, float(factorial(rows.order)))
    return ["\n", table(f"there_{number}", np.pad(factor, (rows.order, rows.order + 1)), dialect)]


def spline_loop(number: int, layer: Layer, splines: Splines, rows: Rows, dialect: Dialect) -> list[str]:
    """Statements that add the splines to z; j must be declared. `Rows` describes the tables."""
    inputs, outputs = len(splines.inputs), len(splines.subnodes)
    every_output = outputs == layer.subnodes
    each, silu = "for (n = 0; n < count; n++)", splines.base == "silu"
    declared = ", ".join([f"w[{rows.order + 1}*@BLOCK]", *when(silu, "b[@BLOCK]")])
    if inputs < layer.inputs:
        begin = [f"@real x[@BLOCK] = {{0}}, {declared};", f"{each} x[n] = v[@in_{number}[i + n]];"]
    else:
        begin = ["const @real *x = &v[i];", f"@real {declared};"]
    lines = [
        f"const int count = {inputs} - i < @BLOCK ? {inputs} - i : @BLOCK;",
        "int row[@BLOCK];",
        *begin,
        *when(silu, f"{each} b[n] = {call('silu', 'x[n]', dialect)};"),
        *locate(number, rows),
        f"{each} {{",
        *inner(add_input_splines(number, splines, rows, "z" if every_output else "s")),
        "}",
    ]
    block = [f"for (i = 0; i < {inputs}; i += @BLOCK) {{", *inner(lines), "}"]
    if not every_output:
        loop = f"for (j = 0; j < {outputs}; j++)"
        block = [f"@real s[{outputs}];", f"{loop} s[j] = 0;", *block, f"{loop} z[@out_{number}[j]] += s[j];"]
    return ["{", "    int i, n;", *inner(block), "}"]


def add_input_splines(number: int, splines: Splines, rows: Rows, target: str) -> list[str]:
    """Statements that add the splines of input i + n, given its weights w and the first row in `row`."""
    outputs, active = len(splines.subnodes), rows.order + 1
    own = {"silu": "b[n]", "identity": "x[n]"}.get(splines.base)
    rows_of_input = f"@splines_{number} + (size_t)((i + n)*{rows.each} + "
    if isinstance(rows.grid, Even):
        weights = [f"w[{f'{m}*@BLOCK + ' if m else ''}n]" for m in range(active)]
    else:
        weights = [f"w[{active}*n{f' + {m}' if m else ''}]" for m in range(active)]
    if rows.runs_out:
        weights = [f"there[{m}]*{weight}" for m, weight in enumerate(weights)]
    factors = [*(f"w{m} = {weight}" for m, weight in enumerate(weights)), *when(own, f"own = {own}")]
    terms = [f"w{m}*c[{f'{m * outputs} + ' if m else ''}j]" for m in range(active)]
    return [
        f"const @real *c = {rows_of_input}row[n])*{outputs};",
        *when(own, f"const @real *d = {rows_of_input}{rows.base})*{outputs};"),
        *when(rows.runs_out, f"const @real *there = @there_{number} + row[n];"),
        f"const @real {', '.join(factors)};",
        f"for (j = 0; j < {outputs}; j++) {target}[j] += {_in_pairs([*terms, *when(own, 'own*d[j]')])};",
    ]


def _in_pairs(terms: list[str]) -> str:
    """The sum of the terms, grouped in independent pairs."""
    pairs = [f"({' + '.join(terms[n : n + 2])})" if n + 1 < len(terms) else terms[n] for n in range(0, len(terms), 2)]
    return " + ".join(pairs)


def nodes(layer: Layer, dialect: Dialect) -> list[str]:
    """Statements that compute the nodes u from the subnodes z, in order; empty if they are equal."""
    lines = []
    for j, (scale, bias) in enumerate(zip(layer.subnode_scale.tolist(), layer.subnode_bias.tolist(), strict=True)):
        if scale != 1 or bias != 0:
            lines.append(f"z[{j}] = {scale_and_shift(f'z[{j}]', scale, bias, dialect)};")
    sums = [layer.arity == 1, layer.node_scale == 1, layer.node_bias == 0]
    if np.logical_and.reduce(sums).all():
        return [*lines, f"for (j = 0; j < {layer.nodes}; j++) u[j] = z[j];"] if lines else []
    for q, group in enumerate(layer.groups):
        product = "*".join(f"z[{j}]" for j in group)
        lines.append(f"u[{q}] = {scale_and_shift(product, layer.node_scale[q], layer.node_bias[q], dialect)};")
    return lines


def scale_and_shift(value: str, scale: float, bias: float, dialect: Dialect) -> str:
    text = value if scale == 1 else f"{dialect.literal(scale)}*({value})"
    return total([text] if bias == 0 else [text, dialect.literal(bias)])


def has_domain(part: Parts, dialect: Dialect) -> bool:
    """Whether a function of the layer can be called outside its domain."""
    return any(dialect.reports_domain(edge.function) for _, _, edge in part.terms)


def is_affine(shift: Array, scale: Array) -> bool:
    """Whether the inputs or outputs are shifted or scaled, and so have tables of both."""
    return bool((shift != 0).any() or (scale != 1).any())


def _short(decimal: str) -> str:
    """The number without a zero before the point; a large network has half a million."""
    return decimal.replace("0.", ".", 1) if decimal.lstrip("-").startswith("0.") else decimal


def table(name: str, values: Array, dialect: Dialect, slack: str = "") -> str:
    """A constant table, with room for `slack` more numbers at its end."""
    size = f"{values.size}{slack and ' + ' + slack}"
    return f"static @TABLE const @real @{name}[{size}] = {{{decimal_list(values, dialect)}}};\n"


def decimal_list(values: Array, dialect: Dialect) -> str:
    """The numbers, separated by commas."""
    texts = [_short(text) + dialect.suffix for text in decimals(values, dialect.precision)]
    return wrap(texts).replace(", ", ",")
