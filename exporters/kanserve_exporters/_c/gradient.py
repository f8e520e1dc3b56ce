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

from kanserve.network.kan import Kan, Layer, Symbolic
from kanserve_exporters._c import derivatives
from kanserve_exporters._c import gradient_template as template
from kanserve_exporters._c.forward import flatten_derivatives, values
from kanserve_exporters._c.gradient_splines import spline_slopes, spline_sums
from kanserve_exporters._c.layers import chunks, has_domain, is_affine, table
from kanserve_exporters._c.template import select_called
from kanserve_exporters._shared.expressions import Dialect, total, when, wrap
from kanserve_exporters._shared.layer_tables import Parts, functions_of

_INLINED = 100  # symbolic edges; with more, compilers would copy a loop so often that they take ten times as long


@dataclass(frozen=True)
class _Way:
    """Forward or reverse mode: the order of the layers, and how many derivatives pass through each."""

    layers: tuple[int, ...]
    forward: bool
    count: int

    def steps(self, layer: Layer) -> tuple[int, int]:
        """The strides of one node's derivatives, in what the layer writes and in what it reads."""
        return (1, 1) if self.forward else (layer.inputs, layer.subnodes)


def gradient(kan: Kan, layers: list[Parts], dialect: Dialect, hessian: str = "") -> str:
    """The definitions of `@gradient` and `@gradient_batch`, and of what they and the Hessian call."""
    way = _way(kan)
    blocks = []
    for number, (layer, part) in enumerate(zip(kan.layers, layers, strict=True)):
        blocks += _slopes(number, layer, part, way, dialect)
        blocks += _factors(number, layer, part, dialect)
    blocks += [_row(kan, layers, way, dialect), template.GRADIENT, template.GRADIENT_BATCH]
    many = sum(len(layers[n].terms) for n in way.layers[1:]) > _INLINED
    along = template.ALONG.format(count=way.count, apart=template.APART if many else "")
    helpers = {"along": along, "dot": template.DOT, "join": template.JOIN, "part": template.PART}
    needed = select_called(helpers, "".join([*blocks, hessian]))
    text = "".join([*derivative_helpers(layers, dialect, 1), *needed, template.FAIL, *blocks])
    return f"\n#ifndef @NO_GRADIENT\n{text}\n#endif\n"


def stack_numbers(kan: Kan) -> int:
    """How many numbers `@gradient` keeps on the stack, apart from those of a single layer."""
    starts = np.cumsum([0, *kan.shape]).tolist()
    return int(starts[-1]) + sum(_products(kan, _way(kan), starts)[1].values())


def _way(kan: Kan) -> _Way:
    inputs, outputs = kan.shape[0], kan.shape[-1]
    work = [layer.subnodes * layer.inputs for layer in kan.layers]
    forward = inputs * sum(work[1:]) < outputs * sum(work[:-1])
    numbers = range(len(kan.layers))
    return _Way(tuple(numbers if forward else reversed(numbers)), forward, inputs if forward else outputs)


def derivative_helpers(layers: list[Parts], dialect: Dialect, order: int) -> list[str]:
    """The definitions of the derivatives of this order of all functions in the network."""
    sloped = [name for name in sorted(functions_of(layers)) if not derivatives.is_flat(name, order)]
    return [derivatives.derivative_helper(name, dialect, order) for name in sloped]


def is_shaped(layer: Layer) -> bool:
    """Whether the layer's nodes differ from its sums: they are products, or scaled."""
    return bool((layer.arity > 1).any() or (layer.subnode_scale != 1).any() or (layer.node_scale != 1).any())


def _slopes(number: int, layer: Layer, part: Parts, way: _Way, dialect: Dialect) -> list[str]:
    """The C source of `@slopes_<number>(v, to[, from])`, which writes a layer's derivatives to `to`, and of its helpers
    for symbolic edges. `from` holds the derivatives of the layer computed before it."""
    first = number == way.layers[0]
    source = "" if first else ", const @real *from"
    given = "" if first else ", from"
    bodies = [body for chunk in chunks(part) if (body := _edges(layer, chunk, way, first, dialect))]
    functions = [
        f"\nstatic void @slopes_{number}_{n}(const @real *v, @real *to{source})\n{{\n{indent(body)}}}\n"
        for n, body in enumerate(bodies)
    ]
    rows, columns = layer.subnodes, layer.inputs
    if not first:
        rows, columns = (layer.subnodes, way.count) if way.forward else (way.count, layer.inputs)
    lines = ["int n;", f"for (n = 0; n < {rows * columns}; n++) to[n] = 0;"]
    if part.splines:
        lines += spline_slopes(number, layer, part.splines, _add(layer, way, first), dialect)
    lines += [f"@slopes_{number}_{n}(v, to{given});" for n in range(len(bodies))]
    if not (part.splines or bodies):
        lines.append("(void)v;")
        lines += [] if first else ["(void)from;"]
    head = f"\nstatic @HOT void @slopes_{number}(const @real *v, @real *to{source})\n"
    return [*functions, head, "{\n", indent(lines), "}\n"]


def _add(layer: Layer, way: _Way, first: bool) -> str:
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
    """c·a·f'(a·x + b) at x = `variable`, or for order 2 c·a²·f''(a·x + b)."""
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
    """The derivatives of nodes by their subnodes: a table, a function for products, nothing for plain sums."""
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
    return [*blocks, head, "{\n", indent(lines), "}\n"]


def subnode_sums(number: int, layer: Layer, part: Parts, dialect: Dialect) -> list[str]:
    """Declarations and statements that compute the sums z of a layer's subnodes at v."""
    outside = ["int bad = 0;"] if has_domain(part, dialect) else []
    begin = f"@constants_{number}[j]" if part.constants.any() else "0"
    lines = [f"@real z[{layer.subnodes}];", "int j;", *outside]
    lines.append(f"for (j = 0; j < {layer.subnodes}; j++) z[j] = {begin};")
    lines += spline_sums(number, layer, part.splines, dialect) if part.splines else []
    return lines + [f"@layer_{number}_{n}(v, z{', &bad' if outside else ''});" for n in range(len(chunks(part)))]


def subnode(j: int, layer: Layer, dialect: Dialect) -> str:
    """The scaled and shifted sum of a subnode."""
    scale, bias = float(layer.subnode_scale[j]), float(layer.subnode_bias[j])
    text = f"z[{j}]" if scale == 1 else f"{dialect.literal(scale)}*z[{j}]"
    return f"({total([text, dialect.literal(bias)])})" if bias else text


def _row(kan: Kan, layers: list[Parts], way: _Way, dialect: Dialect) -> str:
    """`@gradient_row(x, y, dy_dx)`: the derivatives of one row, and its outputs unless y is null."""
    starts = np.cumsum([0, *kan.shape]).tolist()
    steps, rooms = _products(kan, way, starts)
    products = [layer.subnodes for layer in kan.layers if (layer.arity > 1).any()]
    if products:
        rooms["f"] = max(products)
    outside = any(has_domain(part, dialect) for part in layers)
    lines = [
        *(f"@real {name}[{room}];" for name, room in {"v": starts[-1], **rooms}.items()),
        *when(outside, "int outside = 0;"),
        "int i;",
        *node_values(kan, layers, starts, dialect, "@fail_gradient(y, dy_dx, {})"),
        f"if (y) for (i = 0; i < @N_OUT; i++) y[i] = v[{starts[-2]} + i];",
        *steps,
        *raw_units(kan, "dy_dx"),
        "if (!@finite(dy_dx, @N_OUT*@N_IN)) return @fail_gradient(0, dy_dx, @ERROR_RESULT);",
        *flatten_derivatives(kan, "dy_dx", 1),
        "return @OK;",
    ]
    return f"\nstatic int @gradient_row(const @real *x, @real *y, @real *dy_dx)\n{{\n{indent(lines)}}}\n"


def node_values(kan: Kan, layers: list[Parts], starts: list[int], dialect: Dialect, fail: str) -> list[str]:
    """Statements for the values v of all nodes, with the checks of `@predict`. `fail` is the call for an error code."""
    lines = values(kan, layers, [at("v", start) for start in starts[:-1]], dialect, fail)
    if is_affine(kan.output_shift, kan.output_scale):
        last = f"v[{starts[-2]} + i]"
        lines += [
            f"for (i = 0; i < @N_OUT; i++) {last} = @output_scale[i]*{last} + @output_shift[i];",
            f"if (!@finite({at('v', starts[-2])}, @N_OUT)) return {fail.format('@ERROR_RESULT')};",
        ]
    return lines


@dataclass(frozen=True)
class _Step:
    """A call with placeholders for target and source, and how many numbers it writes."""

    call: str
    size: int = 0


def _products(kan: Kan, way: _Way, starts: list[int]) -> tuple[list[str], dict[str, int]]:
    """Calls that multiply the layers' Jacobians into dy_dx, and the sizes of the intermediate arrays a and b."""
    steps = [step for n in way.layers for step in _steps(n, kan.layers[n], way, at("v", starts[n]))]
    rooms: dict[str, int] = {}
    lines = []
    source = ""
    last = max(n for n, step in enumerate(steps) if step.size)
    for n, step in enumerate(steps):
        to = "dy_dx" if n == last else "b" if source == "a" else "a"
        lines.append(step.call.format(to=to, source=source))
        if step.size:
            rooms |= {to: max(step.size, rooms.get(to, 0))}
            source = to
    rooms.pop("dy_dx")
    return lines, rooms


def _steps(number: int, layer: Layer, way: _Way, here: str) -> list[_Step]:
    """The calls that multiply by the Jacobian of a layer, whose inputs are `here`."""
    first = number == way.layers[0]
    by_subnode = first or way.forward
    rows = layer.subnodes if by_subnode else way.count
    columns = way.count if way.forward and not first else layer.inputs
    slopes = _Step(f"@slopes_{number}({here}, {{to}}{'' if first else ', {source}'});", rows * columns)
    if not is_shaped(layer):
        return [slopes]
    steps, factors = [], f"@factors_{number}"
    if (layer.arity > 1).any():
        steps, factors = [_Step(f"@factors_{number}({here}, f);")], "f"
    of = f"{{to}}, {{source}}, {factors}, @node_{number}, {layer.subnodes}"
    if by_subnode:
        return [*steps, slopes, _Step(f"@join({of}, {columns});", layer.nodes * columns)]
    return [*steps, _Step(f"@part({of}, {layer.nodes});", way.count * layer.subnodes), slopes]


def raw_units(kan: Kan, array: str) -> list[str]:
    text = f"{array}[i]"
    if is_affine(kan.input_shift, kan.input_scale) and (kan.input_scale != 1).any():
        text += "/@input_scale[i % @N_IN]"
    if is_affine(kan.output_shift, kan.output_scale) and (kan.output_scale != 1).any():
        text = f"@output_scale[i/@N_IN]*({text})"
    return [] if text == f"{array}[i]" else [f"for (i = 0; i < @N_OUT*@N_IN; i++) {array}[i] = {text};"]


def at(array: str, start: int) -> str:
    return f"&{array}[{start}]" if start else array


def indent(lines: list[str]) -> str:
    return "".join(f"    {line}\n" for line in lines)
