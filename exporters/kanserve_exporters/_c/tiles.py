"""The fast form of a network: layers that process a tile of rows at once, and the handling of bad rows."""

from collections.abc import Sequence

from kanserve.network.encoding import encodes
from kanserve.network.kan import Kan, Layer
from kanserve_exporters._c import kernels, vectors
from kanserve_exporters._c.forward import prepares
from kanserve_exporters._c.grids import Rows
from kanserve_exporters._c.layers import chunks, has_domain, is_affine, nodes
from kanserve_exporters._shared.expressions import Dialect, inner, when
from kanserve_exporters._shared.layer_tables import Parts

ROWS = 32  # of a tile, or fewer, so that its buffers fit into
STACK = 48 * 1024  # bytes
LANES = 16  # of the widest vectors

_EMPTY = "[0] = 0; /* compilers fear that there may be no rows */"

PREDICT = """
int @predict(const @real x[@N_IN], @real y[@N_OUT])
{
    if (!x || !y) return @ERROR_NULL;
    return @tile(x, @N_IN, 1, y, @N_OUT);
}
"""


def begin(kan: Kan, every: Sequence[Rows | None], dialect: Dialect) -> str:
    """The types of the fast form; must precede everything that tests @FAST."""
    return vectors.begin(dialect, _tile_rows(kan.layers, every, prepares(kan), dialect))


def kernels_of(every: Sequence[Rows | None], parts: Sequence[Parts], dialect: Dialect) -> list[str]:
    """The functions of the fast form that the layers call."""
    kinds: dict[str, list[tuple[Rows, str]]] = {}
    for found, part in zip(every, parts, strict=True):
        if found and part.splines:
            name = kernels.kernel_name(found, part.splines.base)
            kinds.setdefault(name, []).append((found, part.splines.base))
    return ["\n#ifdef @FAST", *kernels.kernels(kinds, dialect), "#endif\n"]


def _tile_rows(layers: Sequence[Layer], every: Sequence[Rows | None], shifts: bool, dialect: Dialect) -> int:
    size = 4 if dialect.single else 8
    widest = max(max(layer.subnodes for layer in layers), layers[0].inputs if shifts else 0)
    active = max(found.order + 2 for found in every if found)
    # Two buffers of sums, and the weights and offsets of a block of inputs.
    of_a_row = 2 * size * (widest + LANES) + LANES * (4 + size * (active + 1))
    return max(1, min(ROWS, STACK // of_a_row))


def fast_layer(number: int, layer: Layer, part: Parts, found: Rows, dialect: Dialect, raw: bool) -> str:
    """`@tile_<number>(x, stride, rows, z[, bad])`: from rows of x to rows of z, padded to whole vectors."""
    splines = part.splines
    assert splines is not None
    subnodes, outputs = layer.subnodes, len(splines.subnodes)
    width, some = f"@PADDED({subnodes})", outputs < subnodes
    target, stride = ("s", f"@PADDED({outputs})") if some else ("z", width)
    begin = "0"
    if part.constants.any():
        begin = f"j % {width} < {subnodes} ? @constants_{number}[j % {width}] : 0"
    chosen = f"@in_{number}" if len(splines.inputs) < layer.inputs else "(const int *)0"
    outside = has_domain(part, dialect)
    bad = ", bad + n" if outside else ""
    edges = [f"@layer_{number}_{n}(x + (size_t)n*stride, z + n*{width}{bad});" for n in range(len(chunks(part)))]
    own = nodes(layer, dialect)
    lines = [
        *when(some, f"for (j = 0; j < rows*{stride}; j++) s[j] = 0;"),
        f"for (j = 0; j < rows*{width}; j++) z[j] = {begin};",
        f"@add_{kernels.kernel_name(found, splines.base)}(x, stride, rows, {int(raw)},",
        f"    {len(splines.inputs)}, {chosen},",
        f"    {kernels.grid_arguments(number, found)},",
        f"    {found.base}, {found.each}, {outputs}, @splines_{number}, {target}, {stride});",
        *when(
            some,
            f"for (n = 0; n < rows; n++) for (j = 0; j < {outputs}; j++)"
            f" z[n*{width} + @out_{number}[j]] += s[n*{stride} + j];",
        ),
        *when(edges, f"for (n = 0; n < rows; n++) {{ {' '.join(edges)} }}"),
        # In place: u[q] only depends on z[q] and later elements.
        *when(own, f"for (n = 0; n < rows; n++, z += {width}) {{", *inner(["@real *u = z;", *own]), "}"),
    ]
    counters = "int n, j;" if any("n++" in line for line in lines) else "int j;"
    head = f"\nstatic @HOT void @tile_{number}(const @real *x, size_t stride, int rows, @real *z"
    body = "".join(f"{line}\n" for line in inner([*when(some, f"@real s[@TILE*{stride}];"), counters, *lines]))
    return f"{head}{', int *bad' if outside else ''})\n{{\n{body}}}\n"


def tile(kan: Kan, parts: Sequence[Parts], dialect: Dialect) -> str:
    """`@tile(x, x_stride, rows, y, y_stride)`, and `@predict`, which calls it."""
    room = max(*(layer.subnodes for layer in kan.layers), kan.shape[0] if prepares(kan) or not parts[0].splines else 1)
    outside = any(has_domain(part, dialect) for part in parts)
    buffers = "ab" if len(parts) > 1 or prepares(kan) else "a"
    lines = [
        f"@real {', '.join(f'{buffer}[@TILE*@PADDED({room}) + @LANES]' for buffer in buffers)};",
        f"int status[@TILE], {'outside[@TILE], ' if outside else ''}first = @OK, n, q;",
        "for (n = 0; n < rows; n++) status[n] = @OK;",
        *when(outside, "for (n = 0; n < rows; n++) outside[n] = 0;"),
        *_inputs(kan),
    ]
    layers, source, stride = _layers(kan, parts, dialect)
    lines += [*layers, *_outputs(kan, source, stride, has_domain(parts[-1], dialect))]
    head = "\n/* Some rows at once; the first code that is not OK. */\nstatic int @tile("
    text = "".join(f"{line}\n" for line in inner(lines))
    return f"{head}const @real *x, size_t x_stride, int rows, @real *y, size_t y_stride)\n{{\n{text}}}\n{PREDICT}"


def _inputs(kan: Kan) -> list[str]:
    """Statements that check the rows of x. If these are encoded, shifted or scaled, the result is in b."""
    encoded, affine = encodes(kan), is_affine(kan.input_shift, kan.input_scale)
    padded = f"@PADDED({kan.shape[0]})"
    source, stride, value = ("b", padded, f"b[n*{padded} + q]") if encoded else ("x", "x_stride", "x[q]")
    return [
        *when(
            encoded,
            f"b{_EMPTY}",
            f"for (n = 0; n < rows; n++) for (q = 0; q < {padded}; q++)",
            f"    b[n*{padded} + q] = q < @N_IN ? @encoded(q, x[(size_t)n*x_stride + q]) : 0;",
        ),
        f"if (@broken({source}, rows, {stride}, @N_IN)) {{",
        f"    for (n = 0; n < rows; n++) if (!@finite({source} + (size_t)n*{stride}, @N_IN)) status[n] = @ERROR_INPUT;",
        "}",
        *when(affine and not encoded, f"b{_EMPTY}"),
        *when(
            affine,
            "for (n = 0; n < rows; n++) {",
            f"    for (q = 0; q < {padded}; q++)",
            f"        b[n*{padded} + q] = q < @N_IN ? ({value} - @input_shift[q])/@input_scale[q] : 0;",
            *when(not encoded, "    x += x_stride;"),
            "}",
        ),
        *when(encoded or affine, _refuse("b", padded, kan.shape[0], "NULL", whole=True)),
    ]


def _layers(kan: Kan, parts: Sequence[Parts], dialect: Dialect) -> tuple[list[str], str, str]:
    """Statements that compute the rows of each layer, the array with the last layer's rows, and their stride."""
    lines: list[str] = []
    source, stride = ("b", f"@PADDED({kan.shape[0]})") if prepares(kan) else ("x", "x_stride")
    last = len(parts) - 1
    for number, (layer, part) in enumerate(zip(kan.layers, parts, strict=True)):
        own = has_domain(part, dialect)
        target, width = "b" if source == "a" else "a", f"@PADDED({layer.subnodes})"
        bad = ", outside" if own else ""
        if part.splines:
            lines.append(f"@tile_{number}({source}, {stride}, rows, {target}{bad});")
        else:
            lines += [
                f"{target}{_EMPTY}",
                "for (n = 0; n < rows; n++) {",
                f"    @layer_{number}({source} + (size_t)n*{stride}, {target} + n*{width}{bad and bad + ' + n'});",
                f"    for (q = {layer.nodes}; q < {width}; q++) {target}[n*{width} + q] = 0;",
                "}",
            ]
        whole = part.splines is None or layer.nodes == layer.subnodes
        lines += when(number < last, _refuse(target, width, layer.nodes, "outside" if own else "NULL", whole))
        source, stride = target, width
    return lines, source, stride


def _outputs(kan: Kan, source: str, stride: str, outside: bool) -> list[str]:
    """Statements that write the outputs, NaN for bad rows, and return the first error code."""
    code = "outside[n] ? @ERROR_DOMAIN : @ERROR_RESULT" if outside else "@ERROR_RESULT"
    result = f"{source}[n*{stride} + q]"
    affine = is_affine(kan.output_shift, kan.output_scale)
    if affine:
        result = f"@output_scale[q]*{result} + @output_shift[q]"
    return [
        "for (n = 0; n < rows; n++, y += y_stride) {",
        f"    if (status[n] == @OK && !@finite({source} + n*{stride}, @N_OUT)) status[n] = {code};",
        f"    for (q = 0; q < @N_OUT; q++) y[q] = {result};",
        *when(affine, "    if (status[n] == @OK && !@finite(y, @N_OUT)) status[n] = @ERROR_RESULT;"),
        "    if (status[n] != @OK) @fail(y, status[n]);",
        "    if (first == @OK) first = status[n];",
        "}",
        "return first;",
    ]


def _refuse(buffer: str, stride: str, count: int, outside: str, whole: bool) -> str:
    """A statement that sets bad rows to 0; `whole`: check whole vectors, whose padding holds numbers too."""
    return (
        f"if (@broken({buffer}, rows, {stride}, {stride if whole else count}))"
        f" @refuse({buffer}, rows, {stride}, {count}, status, {outside}, @ERROR_RESULT);"
    )
