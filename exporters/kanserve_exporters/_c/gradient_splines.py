"""The derivatives of a layer's splines in C, from the tables that `@predict` uses; `@` is the prefix."""

from kanserve.network.kan import Layer
from kanserve_exporters._c.derivatives import derivative_call
from kanserve_exporters._c.grids import rows
from kanserve_exporters._c.layers import spline_loop
from kanserve_exporters._c.splines import locate_slopes
from kanserve_exporters._shared.expressions import Dialect, inner
from kanserve_exporters._shared.layer_tables import Splines


def spline_slopes(number: int, layer: Layer, splines: Splines, added: str, dialect: Dialect) -> list[str]:
    """Statements that compute for each input i the slopes s[j] of its edges, and run `added`; n must be declared."""
    found = rows(layer, splines, dialect.precision)
    outputs = len(splines.subnodes)
    every_output = outputs == layer.subnodes
    chosen = "n" if len(splines.inputs) == layer.inputs else f"@in_{number}[n]"
    where, own = locate_slopes(number, found), f"@splines_{number} + (size_t)(n*{found.each} + "
    terms = [f"w[{m}]*c[{f'{m * outputs} + ' if m else ''}j]" for m in range(found.order + 1)]
    lines = [
        f"const int i = {chosen};",
        "const @real x = v[i];",
        f"@real w[{found.order + 1}];",
        f"const @real *c = {own}{where})*{outputs};",
    ]
    if splines.base != "zero":
        base = derivative_call("silu", "x", dialect) if splines.base == "silu" else dialect.literal(1.0)
        lines += [f"const @real *d = {own}{found.base})*{outputs};", f"const @real b = {base};"]
        terms.append("b*d[j]")
    place = "j" if every_output else f"@out_{number}[j]"
    lines += [f"for (j = 0; j < {outputs}; j++) s[{place}] = {' + '.join(terms)};", added]
    zeros = [] if every_output else [f"for (j = 0; j < {layer.subnodes}; j++) s[j] = 0;"]
    return ["{", f"    @real s[{layer.subnodes}];", "    int j;", *inner([*zeros, *_every_input(splines, lines)]), "}"]


def spline_derivatives(number: int, layer: Layer, splines: Splines, dialect: Dialect) -> list[str]:
    """Statements that write the first and second derivatives of all spline edges; that from input i to subnode j is at
    [i*O + j]. n must be declared."""
    found = rows(layer, splines, dialect.precision)
    outputs = len(splines.subnodes)
    chosen = "n" if len(splines.inputs) == layer.inputs else f"@in_{number}[n]"
    place = "j" if outputs == layer.subnodes else f"@out_{number}[j]"
    own = f"@splines_{number} + (size_t)(n*{found.each} + "
    lines = [
        f"const int i = {chosen}*{layer.subnodes};",
        f"const @real x = v[{chosen}];",
        f"@real w[{found.order + 1}];",
        f"const @real *c = {own}{locate_slopes(number, found)})*{outputs};",
    ]
    if splines.base != "zero":
        lines.append(f"const @real *d = {own}{found.base})*{outputs};")
    for derivative, target in ((1, "first"), (2, "second")):
        terms = []
        if found.order >= derivative:
            terms = [f"w[{m}]*c[{f'{m * outputs} + ' if m else ''}j]" for m in range(found.order + 1)]
            lines += [f"c = {own}{locate_slopes(number, found, 2)})*{outputs};"] if derivative == 2 else []
        if splines.base == "silu":
            declared = "@real b" if derivative == 1 else "b"
            lines.append(f"{declared} = {derivative_call('silu', 'x', dialect, derivative)};")
            terms.append("b*d[j]")
        terms += ["d[j]"] if splines.base == "identity" and derivative == 1 else []
        if terms:
            lines.append(f"for (j = 0; j < {outputs}; j++) {target}[i + {place}] = {' + '.join(terms)};")
    return ["{", "    int j;", *inner(_every_input(splines, lines)), "}"]


def spline_sums(number: int, layer: Layer, splines: Splines, dialect: Dialect) -> list[str]:
    """Statements that add the splines to z, as product nodes need; j must be declared."""
    return spline_loop(number, layer, splines, rows(layer, splines, dialect.precision), dialect)


def _every_input(splines: Splines, lines: list[str]) -> list[str]:
    return [f"for (n = 0; n < {len(splines.inputs)}; n++) {{", *inner(lines), "}"]
