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

from itertools import combinations

import numpy as np

from kanserve.errors import ExportError
from kanserve.network.kan import Kan, Layer
from kanserve_exporters._c import derivatives
from kanserve_exporters._c import hessian_template as template
from kanserve_exporters._c.encoding import flattened
from kanserve_exporters._c.gradient import (
    at,
    derivative_helpers,
    indented,
    is_shaped,
    node_values,
    raw_units,
    slope_of,
    subnode,
    subnode_sums,
)
from kanserve_exporters._c.gradient_splines import spline_derivatives
from kanserve_exporters._c.grids import Uneven, rows
from kanserve_exporters._c.layers import EDGES_OF_A_FUNCTION, has_domain, is_affine, table
from kanserve_exporters._c.splines import integers
from kanserve_exporters._shared.expressions import Dialect
from kanserve_exporters._shared.layer_tables import Parts

_MOST_ON_STACK = 2**15  # numbers, which are 256 KiB in double


def hessian(kan: Kan, layers: list[Parts], dialect: Dialect) -> str:
    """The definitions of `@hessian`, `@hessian_batch` and of what only they call; ExportError if they would need too
    much of the stack."""
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
    blocks += _fixed(kan)
    blocks += [_row(kan, layers, dialect), template.HESSIAN]
    return f"\n#ifndef @NO_GRADIENT\n{''.join(blocks)}\n#endif\n"


def _fixed(kan: Kan) -> list[str]:
    """The functions that are the same for all networks, as far as they are used."""
    last = len(kan.layers) - 1
    onward = [n for n, layer in enumerate(kan.layers) if n < last or _pairs(layer)]
    blocks = [template.FAIL, template.BACK]
    blocks += [template.TURN] if 0 in onward else []
    blocks += [template.ONWARD] if any(n > 0 for n in onward) else []
    blocks += [template.CURVE] if last else []
    blocks += [template.MIX] if any(_pairs(layer) for layer in kan.layers) else []
    value = raw = "to[a*@N_IN + b]"
    if is_affine(kan.input_shift, kan.input_scale) and (kan.input_scale != 1).any():
        value += "/@input_scale[a]/@input_scale[b]"
    if is_affine(kan.output_shift, kan.output_scale) and (kan.output_scale != 1).any():
        value = f"@output_scale[q]*({value})"
    units = "" if value == raw else f"            for (b = 0; b <= a; b++) {raw} = {value};\n"
    return [*blocks, template.MIRROR.format(units=units)]


def _edges(number: int, layer: Layer, part: Parts, dialect: Dialect) -> list[str]:
    """`@edges_<number>(v, first, second)`: φ' and φ'' of all edges, [inputs × subnodes]."""
    chunks = [
        part.terms[start : start + EDGES_OF_A_FUNCTION] for start in range(0, len(part.terms), EDGES_OF_A_FUNCTION)
    ]
    functions = []
    for n, chunk in enumerate(chunks):
        lines = []
        for j, i, edge in chunk:
            for order, target in ((1, "first"), (2, "second")):
                if not derivatives.is_flat(edge.function, order):
                    text = slope_of(edge, f"v[{i}]", dialect, order)
                    lines.append(f"{target}[{i * layer.subnodes + j}] += {text};")
        unused = [word for word in ("v", "first", "second") if not any(f"{word}[" in line for line in lines)]
        lines += [f"(void){word};" for word in unused]
        head = f"\nstatic void @edges_{number}_{n}(const @real *v, @real *first, @real *second)\n"
        functions.append(f"{head}{{\n{indented(lines)}}}\n")
    lines = ["int n;", f"for (n = 0; n < {layer.inputs * layer.subnodes}; n++) {{ first[n] = 0; second[n] = 0; }}"]
    tables = []
    if part.splines:
        found = rows(layer, part.splines, dialect.precision)
        if isinstance(found.grid, Uneven) and found.order > 1:
            tables = ["\n", integers(f"ends_{number}", found.grid.ends)]
        lines += spline_derivatives(number, layer, part.splines, dialect)
    lines += [f"@edges_{number}_{n}(v, first, second);" for n in range(len(functions))]
    lines += [] if part.splines or functions else ["(void)v;"]
    head = f"\nstatic @HOT void @edges_{number}(const @real *v, @real *first, @real *second)\n"
    return [*tables, *functions, head, "{\n", indented(lines), "}\n"]


def _pairs(layer: Layer) -> list[tuple[int, int, int]]:
    """The pairs of subnodes that are multiplied: their node, and both."""
    return [(q, j, k) for q, group in enumerate(layer.groups) for j, k in combinations(group, 2)]


def _crosses(number: int, layer: Layer, part: Parts, dialect: Dialect) -> list[str]:
    """The pairs, and the second derivatives of the nodes by them: a table or, for more than two factors, a function."""
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
    return [*blocks, head, "{\n", indented(lines), "}\n"]


def _are_constant(layer: Layer) -> bool:
    """Whether the second derivatives of the nodes by their subnodes are constants."""
    return bool((layer.arity <= 2).all())


def _rooms(kan: Kan) -> dict[str, int]:
    """The arrays on the stack of `@hessian_row` and how many numbers each has."""
    inputs, outputs = kan.shape[0], kan.shape[-1]
    widest = max(max(layer.inputs, layer.subnodes, layer.nodes) for layer in kan.layers)
    edges = [layer.inputs * layer.subnodes for layer in kan.layers]
    pairs = [len(_pairs(layer)) for layer in kan.layers]
    onward = [layer for n, layer in enumerate(kan.layers) if n < len(kan.layers) - 1 or pairs[n]]
    forward = inputs * max((layer.subnodes for layer in onward), default=0)
    rooms = {
        "v": sum(kan.shape),
        "d": sum(edges),
        "e": max(edges),
        "w": outputs * sum(layer.inputs for layer in kan.layers),
        "a": outputs * widest,
        "b": outputs * widest,
        "g": forward,
        "h": forward if len(onward) > 1 or any(is_shaped(layer) for layer in kan.layers[:-1]) else 0,
        "f": sum(layer.subnodes for layer in kan.layers if _pairs(layer)),
        "c": max(
            (count for layer, count in zip(kan.layers, pairs, strict=True) if not _are_constant(layer)), default=0
        ),
        "p": outputs * sum(pairs),
    }
    return {name: room for name, room in rooms.items() if room}


def _row(kan: Kan, layers: list[Parts], dialect: Dialect) -> str:
    """`@hessian_row(x, y, dy_dx, d2y_dx2)`: the second derivatives of one row, and the rest unless it is null."""
    starts = np.cumsum([0, *kan.shape]).tolist()
    outside = any(has_domain(part, dialect) for part in layers)
    back, source = _back(kan, starts)
    lines = [
        *(f"@real {name}[{room}];" for name, room in _rooms(kan).items()),
        *(["int outside = 0;"] if outside else []),
        "int i;",
        *node_values(kan, layers, starts, dialect, "@fail_hessian(y, dy_dx, d2y_dx2, {})"),
        f"if (y) for (i = 0; i < @N_OUT; i++) y[i] = v[{starts[-2]} + i];",
        *back,
        *raw_units(kan, source),
        f"if (!@finite({source}, @N_OUT*@N_IN)) return @fail_hessian(0, dy_dx, d2y_dx2, @ERROR_RESULT);",
        *flattened(kan, source, 1),
        f"if (dy_dx) for (i = 0; i < @N_OUT*@N_IN; i++) dy_dx[i] = {source}[i];",
        *_forward(kan),
        "@mirror(d2y_dx2);",
        "if (!@finite(d2y_dx2, @N_OUT*@N_IN*@N_IN)) return @fail_hessian(0, 0, d2y_dx2, @ERROR_RESULT);",
        *flattened(kan, "d2y_dx2", 2),
        "return @OK;",
    ]
    head = "\nstatic int @hessian_row(const @real *x, @real *y, @real *dy_dx, @real *d2y_dx2)\n"
    return f"{head}{{\n{indented(lines)}}}\n"


class _Offsets:
    """Where each layer's part of the arrays begins."""

    def __init__(self, kan: Kan) -> None:
        outputs = kan.shape[-1]
        pairs = [len(_pairs(layer)) for layer in kan.layers]
        self.d = _starts([layer.inputs * layer.subnodes for layer in kan.layers])
        self.w = _starts([outputs * layer.inputs for layer in kan.layers])
        self.f = _starts([layer.subnodes if count else 0 for layer, count in zip(kan.layers, pairs, strict=True)])
        self.p = _starts([outputs * count for count in pairs])


def _starts(sizes: list[int]) -> list[int]:
    return [0, *np.cumsum(sizes).tolist()]


def _factors(number: int, layer: Layer, offsets: _Offsets) -> str:
    """The arguments of `@join` and `@part` for the slopes of the nodes by their subnodes."""
    factors = at("f", offsets.f[number]) if _pairs(layer) else f"@factors_{number}"
    return f"{factors}, @node_{number}, {layer.subnodes}"


def _back(kan: Kan, starts: list[int]) -> tuple[list[str], str]:
    """Statements that go back through the layers to the Jacobian, and the array that has it."""
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
