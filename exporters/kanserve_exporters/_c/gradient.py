"""The exact derivatives of all outputs with respect to all inputs, as a part of P.c that shares its tables: of one row,
or with the outputs of many.

First the values of all nodes are computed, with their codes, by the layers of `@predict`. Then the Jacobians of the
layers are multiplied in the cheaper direction: forward mode (one column per input goes through the layers) or reverse
mode (one row per output goes back). The first layer in that order writes its slopes directly:

    @slopes_0(v, to)          to[O×I]   = ∂z/∂v                                 the first layer in that order
    @slopes_1(v, to, from)    to[O×N_IN] = ∂z/∂v · from[I×N_IN]                forward mode
                              to[N_OUT×I] = from[N_OUT×O] · ∂z/∂v              reverse mode

and between layers `@join` maps subnodes to nodes, or `@part` nodes to subnodes; most layers need neither.
"""

import math
from dataclasses import dataclass

import numpy as np

from kanserve.network.encoding import encodes
from kanserve.network.kan import Kan, Layer, Symbolic
from kanserve_exporters._c import derivatives
from kanserve_exporters._c import gradient_template as template
from kanserve_exporters._c.encoding import encoded, flattened
from kanserve_exporters._c.gradient_splines import spline_slopes, spline_sums
from kanserve_exporters._c.layers import EDGES_OF_A_FUNCTION, has_domain, is_affine, table
from kanserve_exporters._shared.expressions import Dialect, total, wrap
from kanserve_exporters._shared.layer_tables import Parts

_INLINED = 100  # symbolic edges; with more, compilers would copy a loop so often that they take ten times as long


@dataclass(frozen=True)
class _Way:
    """Forward or reverse mode: the layers in order, and how many derivatives go through each."""

    layers: tuple[int, ...]
    forward: bool
    count: int

    def steps(self, layer: Layer) -> tuple[int, int]:
        """The strides of the derivatives of one node, in what the layer writes and in what it reads."""
        return (1, 1) if self.forward else (layer.inputs, layer.subnodes)


def gradient(kan: Kan, layers: list[Parts], dialect: Dialect, *, hessian: bool = False) -> str:
    """The definitions of `@gradient`, `@gradient_batch` and of what they call; with `hessian` also of what only the
    second derivatives call."""
    way = _way(kan)
    blocks = _helpers(kan, layers, way, dialect, hessian)
    for number, (layer, part) in enumerate(zip(kan.layers, layers, strict=True)):
        blocks += _slopes(number, layer, part, way, dialect)
        blocks += _factors(number, layer, part, dialect)
    blocks += [_row(kan, layers, way, dialect), template.GRADIENT, template.GRADIENT_BATCH]
    return f"\n#ifndef @NO_GRADIENT\n{''.join(blocks)}\n#endif\n"


def stack_numbers(kan: Kan) -> int:
    """How many numbers `@gradient` holds on the stack, those of a single layer aside."""
    starts = np.cumsum([0, *kan.shape]).tolist()
    return int(starts[-1]) + sum(_products(kan, _way(kan), starts)[1].values())


def _way(kan: Kan) -> _Way:
    inputs, outputs = kan.shape[0], kan.shape[-1]
    work = [layer.subnodes * layer.inputs for layer in kan.layers]
    forward = inputs * sum(work[1:]) < outputs * sum(work[:-1])
    numbers = range(len(kan.layers))
    return _Way(tuple(numbers if forward else reversed(numbers)), forward, inputs if forward else outputs)


def derivative_helpers(layers: list[Parts], dialect: Dialect, order: int) -> list[str]:
    """The definitions of the derivatives of this order of all functions of the network."""
    used = {edge.function for part in layers for _, _, edge in part.terms} - {"x"}
    used |= {"silu"} if any(part.splines and part.splines.base == "silu" for part in layers) else set()
    sloped = [name for name in sorted(used) if not derivatives.is_flat(name, order)]
    return [derivatives.derivative_helper(name, dialect, order) for name in sloped]


def _helpers(kan: Kan, layers: list[Parts], way: _Way, dialect: Dialect, hessian: bool) -> list[str]:
    blocks = derivative_helpers(layers, dialect, 1)
    rest = [(kan.layers[n], layers[n]) for n in way.layers[1:]]
    splines = any(part.splines for _, part in rest)
    if (way.forward and splines) or (way.count > 1 and any(part.terms for _, part in rest)):
        many = sum(len(part.terms) for _, part in rest) > _INLINED
        blocks.append(template.ALONG.format(count=way.count, apart=template.APART if many else ""))
    if hessian or (splines and not way.forward):
        blocks.append(template.DOT)
    shaped = [n for n in way.layers if is_shaped(kan.layers[n])]
    if any(way.forward or n == way.layers[0] or (hessian and n < len(layers) - 1) for n in shaped):
        blocks.append(template.JOIN)
    if any((not way.forward and n != way.layers[0]) or hessian for n in shaped):
        blocks.append(template.PART)
    return [*blocks, template.FAIL]


def is_shaped(layer: Layer) -> bool:
    """Whether the layer's nodes are not just its sums: they are products, or scaled."""
    return bool((layer.arity > 1).any() or (layer.subnode_scale != 1).any() or (layer.node_scale != 1).any())


def _slopes(number: int, layer: Layer, part: Parts, way: _Way, dialect: Dialect) -> list[str]:
    """`@slopes_<number>(v, to[, from])`, and the functions for the symbolic edges that it calls."""
    first = number == way.layers[0]
    source = "" if first else ", const @real *from"
    given = "" if first else ", from"
    chunks = [part.terms[at : at + EDGES_OF_A_FUNCTION] for at in range(0, len(part.terms), EDGES_OF_A_FUNCTION)]
    bodies = [body for chunk in chunks if (body := _edges(layer, chunk, way, first, dialect))]
    functions = [
        f"\nstatic void @slopes_{number}_{n}(const @real *v, @real *to{source})\n{{\n{indented(body)}}}\n"
        for n, body in enumerate(bodies)
    ]
    rows, columns = layer.subnodes, layer.inputs
    if not first:
        rows, columns = (layer.subnodes, way.count) if way.forward else (way.count, layer.inputs)
    lines = ["int n;", f"for (n = 0; n < {rows * columns}; n++) to[n] = 0;"]
    if part.splines:
        lines += spline_slopes(number, layer, part.splines, _added(layer, way, first), dialect)
    lines += [f"@slopes_{number}_{n}(v, to{given});" for n in range(len(bodies))]
    if not (part.splines or bodies):
        lines.append("(void)v;")
        lines += [] if first else ["(void)from;"]
    head = f"\nstatic @HOT void @slopes_{number}(const @real *v, @real *to{source})\n"
    return [*functions, head, "{\n", indented(lines), "}\n"]


def _added(layer: Layer, way: _Way, first: bool) -> str:
    """The statement that adds the slopes s[j] of the edges from input i to all subnodes j."""
    every = f"for (j = 0; j < {layer.subnodes}; j++)"
    if first:
        return f"{every} to[j*{layer.inputs} + i] += s[j];"
    if way.forward:
        return f"{every} @along(&to[j*{way.count}], 1, s[j], &from[i*{way.count}], 1);"
    dot = f"@dot(s, &from[j*{layer.subnodes}], {layer.subnodes})"
    return f"for (j = 0; j < @N_OUT; j++) to[j*{layer.inputs} + i] += {dot};"


def _edges(
    layer: Layer, chunk: tuple[tuple[int, int, Symbolic], ...], way: _Way, first: bool, dialect: Dialect
) -> list[str]:
    """Statements that add the symbolic edges of one function."""
    sums: dict[int, list[str]] = {}
    lines = []
    used = False
    for j, i, edge in chunk:
        if derivatives.is_flat(edge.function):
            continue
        slope = slope_of(edge, f"v[{i}]", dialect)
        used |= "v[" in slope
        to, source = (j, i) if way.forward else (i, j)
        if first:
            sums.setdefault(j * layer.inputs + i, []).append(slope)
        elif way.count == 1:
            sums.setdefault(to, []).append(
                f"from[{source}]" if slope == dialect.literal(1.0) else f"{slope}*from[{source}]"
            )
        else:
            count = way.count if way.forward else 1
            step_to, step_from = way.steps(layer)
            place_to, place_from = at("to", to * count), at("from", source * count)
            lines.append(f"@along({place_to}, {step_to}, {slope}, {place_from}, {step_from});")
    lines += [f"to[{place}] += {total(terms)};" for place, terms in sums.items()]
    return [*lines, *([] if used else ["(void)v;"])] if lines else []


def slope_of(edge: Symbolic, variable: str, dialect: Dialect, order: int = 1) -> str:
    """c·a·f'(a·x + b) at x = `variable`, or with order 2 c·a²·f''(a·x + b)."""
    # If the type cannot hold c·a, both factors are written: their product with f' may be of normal size.
    kind = np.finfo(np.float32 if dialect.single else np.float64)
    factors = [edge.c, *[edge.a] * order]
    product = math.prod(factors)
    held = float(kind.tiny) <= abs(product) <= float(kind.max) or 0 in factors
    factors = [product] if held else factors
    texts = [dialect.literal(factor) for factor in factors if factor != 1]
    if edge.function == "x":
        return "*".join(texts) if texts else dialect.literal(1.0)
    argument = variable if edge.a == 1 else f"{dialect.literal(edge.a)}*{variable}"
    if edge.b != 0:
        argument = "".join(total([argument, dialect.literal(edge.b)]).split())
    result = derivatives.derivative_call(edge.function, argument, dialect, order)
    for n, text in enumerate(reversed(texts)):
        result = f"{text}*({result})" if n else f"{text}*{result}"
    return result


def _factors(number: int, layer: Layer, part: Parts, dialect: Dialect) -> list[str]:
    """The derivatives of nodes by their subnodes: a table or, for products, a function; nothing for plain sums."""
    if not is_shaped(layer):
        return []
    nodes = np.repeat(np.arange(layer.nodes), layer.arity)
    blocks = [f"static @TABLE const int @node_{number}[{len(nodes)}] = {{{wrap([str(node) for node in nodes])}}};\n"]
    constant = layer.node_scale[nodes] * layer.subnode_scale
    if (layer.arity == 1).all():
        return [*blocks, table(f"factors_{number}", constant, dialect)]
    lines = subnode_sums(number, layer, part, dialect)
    for j, q in enumerate(nodes):
        others = [subnode(k, layer, dialect) for k in layer.groups[q] if k != j]
        lines.append(f"factors[{j}] = {'*'.join([dialect.literal(constant[j]), *others])};")
    head = f"\nstatic void @factors_{number}(const @real *v, @real *factors)\n"
    return [*blocks, head, "{\n", indented(lines), "}\n"]


def subnode_sums(number: int, layer: Layer, part: Parts, dialect: Dialect) -> list[str]:
    """Declarations, and statements that compute the sums z of a layer's subnodes at v."""
    outside = ["int bad = 0;"] if has_domain(part, dialect) else []
    begin = f"@constants_{number}[j]" if part.constants.any() else "0"
    lines = [f"@real z[{layer.subnodes}];", "int j;", *outside]
    lines.append(f"for (j = 0; j < {layer.subnodes}; j++) z[j] = {begin};")
    lines += spline_sums(number, layer, part.splines, dialect) if part.splines else []
    chunks = -(-len(part.terms) // EDGES_OF_A_FUNCTION)
    return lines + [f"@layer_{number}_{n}(v, z{', &bad' if outside else ''});" for n in range(chunks)]


def subnode(j: int, layer: Layer, dialect: Dialect) -> str:
    """The scaled and shifted sum of a subnode."""
    scale, bias = float(layer.subnode_scale[j]), float(layer.subnode_bias[j])
    text = f"z[{j}]" if scale == 1 else f"{dialect.literal(scale)}*z[{j}]"
    return f"({total([text, dialect.literal(bias)])})" if bias else text


def _row(kan: Kan, layers: list[Parts], way: _Way, dialect: Dialect) -> str:
    """`@gradient_row(x, y, dy_dx)`: the outputs of one row, unless y is null, and their derivatives."""
    starts = np.cumsum([0, *kan.shape]).tolist()
    steps, rooms = _products(kan, way, starts)
    products = [layer.subnodes for layer in kan.layers if (layer.arity > 1).any()]
    if products:
        rooms["f"] = max(products)
    outside = any(has_domain(part, dialect) for part in layers)
    lines = [
        *(f"@real {name}[{room}];" for name, room in {"v": starts[-1], **rooms}.items()),
        *(["int outside = 0;"] if outside else []),
        "int i;",
        *node_values(kan, layers, starts, dialect, "@fail_gradient(y, dy_dx, {})"),
        f"if (y) for (i = 0; i < @N_OUT; i++) y[i] = v[{starts[-2]} + i];",
        *steps,
        *raw_units(kan, "dy_dx"),
        "if (!@finite(dy_dx, @N_OUT*@N_IN)) return @fail_gradient(0, dy_dx, @ERROR_RESULT);",
        *flattened(kan, "dy_dx", 1),
        "return @OK;",
    ]
    return f"\nstatic int @gradient_row(const @real *x, @real *y, @real *dy_dx)\n{{\n{indented(lines)}}}\n"


def node_values(kan: Kan, layers: list[Parts], starts: list[int], dialect: Dialect, fail: str) -> list[str]:
    """Statements for the values v of all nodes, outputs included, with the checks of `@predict`; `fail` is the call for
    a code."""

    def checked(start: int, count: int | str, code: str) -> str:
        return f"if (!@finite({at('v', start)}, {count})) return {fail.format(code)};"

    shifted, scaled = is_affine(kan.input_shift, kan.input_scale), is_affine(kan.output_shift, kan.output_scale)
    lines = []
    source = "x"
    if encodes(kan):
        lines.append(f"for (i = 0; i < @N_IN; i++) v[i] = {encoded(kan, 'x[i]')};")
        source = "v"
    value = f"({source}[i] - @input_shift[i])/@input_scale[i]" if shifted else f"{source}[i]"
    lines += [
        checked(0, "@N_IN", "@ERROR_INPUT").replace("(v,", f"({source},"),
        *([] if value == "v[i]" else [f"for (i = 0; i < @N_IN; i++) v[i] = {value};"]),
        *([checked(0, "@N_IN", "@ERROR_RESULT")] if shifted else []),
    ]
    for number, (layer, part) in enumerate(zip(kan.layers, layers, strict=True)):
        own = has_domain(part, dialect)
        code = "outside ? @ERROR_DOMAIN : @ERROR_RESULT" if own else "@ERROR_RESULT"
        here, there = at("v", starts[number]), at("v", starts[number + 1])
        lines += [
            f"@layer_{number}({here}, {there}{', &outside' if own else ''});",
            checked(starts[number + 1], layer.nodes, code),
        ]
    if scaled:
        last = f"v[{starts[-2]} + i]"
        lines += [
            f"for (i = 0; i < @N_OUT; i++) {last} = @output_scale[i]*{last} + @output_shift[i];",
            checked(starts[-2], "@N_OUT", "@ERROR_RESULT"),
        ]
    return lines


def _products(kan: Kan, way: _Way, starts: list[int]) -> tuple[list[str], dict[str, int]]:
    """Calls that multiply the layers' Jacobians into dy_dx, and the sizes of the intermediate arrays a and b."""
    steps: list[tuple[str, int]] = []  # a call, with placeholders for its target and source, and how much it writes
    for number in way.layers:
        layer = kan.layers[number]
        first = number == way.layers[0]
        here = at("v", starts[number])
        rows = layer.subnodes if first or way.forward else way.count
        columns = way.count if way.forward and not first else layer.inputs
        factors = ""
        if is_shaped(layer):
            products = bool((layer.arity > 1).any())
            factors = f"{'f' if products else f'@factors_{number}'}, @node_{number}"
            if products:
                steps.append((f"@factors_{number}({here}, f);", 0))
        if factors and not (first or way.forward):
            size = way.count * layer.subnodes
            steps.append((f"@part({{to}}, {{source}}, {factors}, {layer.subnodes}, {layer.nodes});", size))
        source = "" if first else ", {source}"
        steps.append((f"@slopes_{number}({here}, {{to}}{source});", rows * columns))
        if factors and (first or way.forward):
            call = f"@join({{to}}, {{source}}, {factors}, {layer.subnodes}, {columns});"
            steps.append((call, layer.nodes * columns))
    rooms: dict[str, int] = {}
    lines = []
    source = ""
    last = max(n for n, (_, size) in enumerate(steps) if size)
    for n, (call, size) in enumerate(steps):
        to = "dy_dx" if n == last else "b" if source == "a" else "a"
        lines.append(call.format(to=to, source=source))
        if size:
            rooms |= {to: max(size, rooms.get(to, 0))}
            source = to
    rooms.pop("dy_dx")
    return lines, rooms


def raw_units(kan: Kan, array: str) -> list[str]:
    """Statements that convert the derivatives to raw units."""
    text = f"{array}[i]"
    if is_affine(kan.input_shift, kan.input_scale) and (kan.input_scale != 1).any():
        text += "/@input_scale[i % @N_IN]"
    if is_affine(kan.output_shift, kan.output_scale) and (kan.output_scale != 1).any():
        text = f"@output_scale[i/@N_IN]*({text})"
    return [] if text == f"{array}[i]" else [f"for (i = 0; i < @N_OUT*@N_IN; i++) {array}[i] = {text};"]


def at(array: str, start: int) -> str:
    return f"&{array}[{start}]" if start else array


def indented(lines: list[str]) -> str:
    return "".join(f"    {line}\n" for line in lines)
