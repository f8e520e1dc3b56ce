"""The exact second derivatives of all outputs by all inputs, as a part of P.c behind the gradient.

No node carries a Hessian of its own: that of output q is the sum of the curvatures on the way to it,

    Σ over edges φ from node v to subnode z   (∂y/∂z)·φ''(v) · ∇v ∇vᵀ
    Σ over pairs z, w of a product node u     (∂y/∂u)·∂²u/∂z∂w · (∇z ∇wᵀ + ∇w ∇zᵀ)

with ∂y/∂z from one pass back through the layers and ∇v from one pass forward. So the edges cost as much as in two
gradients, and each node, not each edge, the square of the number of inputs. The Hessian is summed where the caller
wants it. On the stack are:

    d   the slopes φ' of all edges, by layer [inputs × subnodes];  e   φ'' of one layer
    w   by layer, for each output and node v, the factor of ∇v ∇vᵀ;  p   likewise for the pairs of products
    f   the slopes of product nodes by their subnodes;  c   by two of their subnodes
    a b   what each node counts for each output, going back;  g h   its derivatives by the inputs, going forward
"""

from collections.abc import Iterable
from itertools import combinations

import numpy as np

from kanserve.errors import ExportError
from kanserve.network.kan import Kan, Layer, Symbolic
from kanserve_exporters._c import derivatives
from kanserve_exporters._c import hessian_template as template
from kanserve_exporters._c.forward import flatten_derivatives
from kanserve_exporters._c.gradient import (
    at,
    derivative_helpers,
    indent,
    is_shaped,
    node_values,
    raw_units,
    slope_of,
    subnode,
    subnode_sums,
)
from kanserve_exporters._c.gradient_splines import spline_derivatives
from kanserve_exporters._c.grids import Uneven, rows
from kanserve_exporters._c.layers import chunks, has_domain, is_affine, table
from kanserve_exporters._c.splines import integers
from kanserve_exporters._c.template import select_called
from kanserve_exporters._shared.expressions import Dialect, when
from kanserve_exporters._shared.layer_tables import Parts

_MOST_ON_STACK = 2**15  # numbers, which are 256 KiB in double


def hessian(kan: Kan, layers: list[Parts], dialect: Dialect) -> str:
    """The definitions of `@hessian`, `@hessian_batch` and helpers. Raises ExportError if they need too much stack."""
    numbers = sum(_rooms(kan).values())
    if numbers > _MOST_ON_STACK:
        raise ExportError(
            f"The second derivatives of a network of shape {list(kan.shape)} need {numbers} numbers on the stack, and "
            f"C source has them up to {_MOST_ON_STACK}. Export without hessian; kanserve.derivatives has them too."
        )
    blocks = derivative_helpers(layers, dialect, 2)
    for number, (layer, part) in enumerate(zip(kan.layers, layers, strict=True)):
        blocks += _edges(number, layer, part, dialect)
        blocks += _crosses(number, layer, part, dialect)
    row = _row(kan, layers, dialect)
    helpers = {"turn": template.TURN, "onward": template.ONWARD, "curve": template.CURVE, "mix": template.MIX}
    blocks += [template.FAIL, template.BACK, *select_called(helpers, row), _mirror(kan), row, template.HESSIAN]
    return f"\n#ifndef @NO_GRADIENT\n{''.join(blocks)}\n#endif\n"


def _mirror(kan: Kan) -> str:
    value = raw = "to[a*@N_IN + b]"
    if is_affine(kan.input_shift, kan.input_scale) and (kan.input_scale != 1).any():
        value += "/@input_scale[a]/@input_scale[b]"
    if is_affine(kan.output_shift, kan.output_scale) and (kan.output_scale != 1).any():
        value = f"@output_scale[q]*({value})"
    units = "" if value == raw else f"            for (b = 0; b <= a; b++) {raw} = {value};\n"
    return template.MIRROR.format(units=units)


def _edges(number: int, layer: Layer, part: Parts, dialect: Dialect) -> list[str]:
    """`@edges_<number>(v, first, second)`: φ' and φ'' of all edges, [inputs × subnodes]."""
    functions = [_symbolic(f"@edges_{number}_{n}", layer, chunk, dialect) for n, chunk in enumerate(chunks(part))]
    lines = ["int n;", f"for (n = 0; n < {layer.inputs * layer.subnodes}; n++) {{ first[n] = 0; second[n] = 0; }}"]
    tables = []
    if part.splines:
        found = rows(layer, part.splines, dialect.precision)
        if isinstance(found.grid, Uneven) and found.order > 1:
            tables = ["\n", integers(f"ends_{number}", found.grid.ends)]
        lines += spline_derivatives(number, layer, part.splines, dialect)
    lines += [f"@edges_{number}_{n}(v, first, second);" for n in range(len(functions))]
    lines += when(not (part.splines or functions), "(void)v;")
    head = f"\nstatic @HOT void @edges_{number}(const @real *v, @real *first, @real *second)\n"
    return [*tables, *functions, head, "{\n", indent(lines), "}\n"]


def _symbolic(name: str, layer: Layer, edges: Iterable[tuple[int, int, Symbolic]], dialect: Dialect) -> str:
    """A function that adds φ' and φ'' of these edges."""
    lines = []
    for j, i, edge in edges:
        for order, target in ((1, "first"), (2, "second")):
            if not derivatives.is_flat(edge.function, order):
                text = slope_of(edge, f"v[{i}]", dialect, order)
                lines.append(f"{target}[{i * layer.subnodes + j}] += {text};")
    text = "".join(lines)
    lines += [f"(void){word};" for word in ("v", "first", "second") if f"{word}[" not in text]
    return f"\nstatic void {name}(const @real *v, @real *first, @real *second)\n{{\n{indent(lines)}}}\n"


def _pairs(layer: Layer) -> list[tuple[int, int, int]]:
    """The pairs of subnodes that are multiplied: their node, and both."""
    return [(q, j, k) for q, group in enumerate(layer.groups) for j, k in combinations(group, 2)]


def _crosses(number: int, layer: Layer, part: Parts, dialect: Dialect) -> list[str]:
    """The pairs, and the second derivatives of nodes by them: a table, or a function for more than two factors."""
    pairs = _pairs(layer)
    if not pairs:
        return []
    blocks = ["\n", integers(f"pairs_{number}", [place for pair in pairs for place in pair])]
    constants = np.array([layer.node_scale[q] * layer.subnode_scale[j] * layer.subnode_scale[k] for q, j, k in pairs])
    if _are_constant(layer):
        return [*blocks, table(f"crosses_{number}", constants, dialect)]
    lines = subnode_sums(number, layer, part, dialect)
    for n, (q, *pair) in enumerate(pairs):
        others = [subnode(k, layer, dialect) for k in layer.groups[q] if k not in pair]
        lines.append(f"crosses[{n}] = {'*'.join([dialect.literal(constants[n]), *others])};")
    head = f"\nstatic void @crosses_{number}(const @real *v, @real *crosses)\n"
    return [*blocks, head, "{\n", indent(lines), "}\n"]


def _are_constant(layer: Layer) -> bool:
    """Whether the second derivatives of the nodes with respect to their subnodes are constants."""
    return bool((layer.arity <= 2).all())


class _Part:
    """A layer, and the sizes of its parts of the arrays of `@hessian_row`."""

    def __init__(self, layer: Layer, last: bool) -> None:
        self.layer = layer
        self.pairs = len(_pairs(layer))
        self.edges = layer.inputs * layer.subnodes
        self.factors = layer.subnodes if self.pairs else 0
        self.crosses = 0 if _are_constant(layer) else self.pairs
        self.onward = not last or self.pairs > 0  # whether the derivatives of its subnodes by the inputs are needed
        self.turned = is_shaped(layer) and not last  # and those of its nodes are others


def _parts(kan: Kan) -> list[_Part]:
    return [_Part(layer, last=n == len(kan.layers) - 1) for n, layer in enumerate(kan.layers)]


def _rooms(kan: Kan) -> dict[str, int]:
    """The stack arrays of `@hessian_row` and their sizes."""
    parts, inputs, outputs = _parts(kan), kan.shape[0], kan.shape[-1]
    widest = max(max(layer.inputs, layer.subnodes, layer.nodes) for layer in kan.layers)
    onward = [part.layer.subnodes for part in parts if part.onward]
    forward = inputs * max(onward, default=0)
    rooms = {
        "v": sum(kan.shape),
        "d": sum(part.edges for part in parts),
        "e": max(part.edges for part in parts),
        "w": outputs * sum(layer.inputs for layer in kan.layers),
        "a": outputs * widest,
        "b": outputs * widest,
        "g": forward,
        "h": forward if len(onward) > 1 or any(part.turned for part in parts) else 0,
        "f": sum(part.factors for part in parts),
        "c": max(part.crosses for part in parts),
        "p": outputs * sum(part.pairs for part in parts),
    }
    return {name: room for name, room in rooms.items() if room}


def _row(kan: Kan, layers: list[Parts], dialect: Dialect) -> str:
    """`@hessian_row(x, y, dy_dx, d2y_dx2)`: the second derivatives of a row, and other results unless null."""
    starts = np.cumsum([0, *kan.shape]).tolist()
    outside = any(has_domain(part, dialect) for part in layers)
    back, source = _back(kan, starts)
    lines = [
        *(f"@real {name}[{room}];" for name, room in _rooms(kan).items()),
        *when(outside, "int outside = 0;"),
        "int i;",
        *node_values(kan, layers, starts, dialect, "@fail_hessian(y, dy_dx, d2y_dx2, {})"),
        f"if (y) for (i = 0; i < @N_OUT; i++) y[i] = v[{starts[-2]} + i];",
        *back,
        *raw_units(kan, source),
        f"if (!@finite({source}, @N_OUT*@N_IN)) return @fail_hessian(0, dy_dx, d2y_dx2, @ERROR_RESULT);",
        *flatten_derivatives(kan, source, 1),
        f"if (dy_dx) for (i = 0; i < @N_OUT*@N_IN; i++) dy_dx[i] = {source}[i];",
        *_forward(kan),
        "@mirror(d2y_dx2);",
        "if (!@finite(d2y_dx2, @N_OUT*@N_IN*@N_IN)) return @fail_hessian(0, 0, d2y_dx2, @ERROR_RESULT);",
        *flatten_derivatives(kan, "d2y_dx2", 2),
        "return @OK;",
    ]
    head = "\nstatic int @hessian_row(const @real *x, @real *y, @real *dy_dx, @real *d2y_dx2)\n"
    return f"{head}{{\n{indent(lines)}}}\n"


class _Offsets:
    """Where each layer's part of the arrays starts."""

    def __init__(self, kan: Kan) -> None:
        parts, outputs = _parts(kan), kan.shape[-1]
        self.d = _starts([part.edges for part in parts])
        self.w = _starts([outputs * part.layer.inputs for part in parts])
        self.f = _starts([part.factors for part in parts])
        self.p = _starts([outputs * part.pairs for part in parts])


def _starts(sizes: list[int]) -> list[int]:
    return [0, *np.cumsum(sizes).tolist()]


def _factors(number: int, layer: Layer, offsets: _Offsets) -> str:
    """The arguments of `@join` and `@part` for the slopes of the nodes with respect to their subnodes."""
    factors = at("f", offsets.f[number]) if _pairs(layer) else f"@factors_{number}"
    return f"{factors}, @node_{number}, {layer.subnodes}"


def _back(kan: Kan, starts: list[int]) -> tuple[list[str], str]:
    """Statements that go back through the layers to the Jacobian, and the array that contains it."""
    offsets = _Offsets(kan)
    outputs = kan.shape[-1]
    lines = [f"for (i = 0; i < @N_OUT*@N_OUT; i++) a[i] = i % {outputs + 1} ? 0 : 1;"]
    source, to = "a", "b"
    for number in reversed(range(len(kan.layers))):
        layer, here = kan.layers[number], at("v", starts[number])
        if pairs := _pairs(layer):
            lines.append(f"@factors_{number}({here}, {at('f', offsets.f[number])});")
            crosses = f"@crosses_{number}"
            if not _are_constant(layer):
                lines.append(f"@crosses_{number}({here}, c);")
                crosses = "c"
            to_pairs, count = at("p", offsets.p[number]), len(pairs)
            lines.append(f"@weigh({to_pairs}, {source}, {crosses}, @pairs_{number}, {count}, {layer.nodes});")
        if is_shaped(layer):
            lines.append(f"@part({to}, {source}, {_factors(number, layer, offsets)}, {layer.nodes});")
            source, to = to, source
        slopes, size = at("d", offsets.d[number]), f"{layer.inputs}, {layer.subnodes}"
        lines += [
            f"@edges_{number}({here}, {slopes}, e);",
            f"@back({at('w', offsets.w[number])}, {source}, e, {size});",
            f"@back({to}, {source}, {slopes}, {size});",
        ]
        source, to = to, source
    return lines, source


def _forward(kan: Kan) -> list[str]:
    """Statements that sum the second derivatives, in normalized inputs and for a >= b."""
    offsets = _Offsets(kan)
    last = len(kan.layers) - 1
    diagonal = "i*@N_IN + i % @N_IN" if kan.shape[0] > 1 else "i"
    lines = [
        "for (i = 0; i < @N_OUT*@N_IN*@N_IN; i++) d2y_dx2[i] = 0;",
        f"for (i = 0; i < @N_OUT*@N_IN; i++) d2y_dx2[{diagonal}] = w[i];",
    ]
    source, to = "h", "g"
    for number, layer in enumerate(kan.layers):
        pairs = _pairs(layer)
        if number:
            lines.append(f"@curve(d2y_dx2, {at('w', offsets.w[number])}, {source}, {layer.inputs});")
        if number == last and not pairs:
            break
        slopes = at("d", offsets.d[number])
        if number:
            lines.append(f"@onward({to}, {source}, {slopes}, {layer.inputs}, {layer.subnodes});")
        else:
            lines.append(f"@turn({to}, {slopes}, {layer.subnodes});")
        source, to = to, source
        if pairs:
            weights = at("p", offsets.p[number])
            lines.append(f"@mix(d2y_dx2, {weights}, {source}, @pairs_{number}, {len(pairs)});")
        if is_shaped(layer) and number < last:
            lines.append(f"@join({to}, {source}, {_factors(number, layer, offsets)}, @N_IN);")
            source, to = to, source
    return lines
