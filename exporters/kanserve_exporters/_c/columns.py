"""Batches of a purely symbolic network, in columns (rows side by side), so that compilers vectorize loops over rows.
@VECTOR_MATH selects this form, with vector math functions (glibc's libmvec, errors up to four units in the last place).
A row with a non-finite intermediate value is left to @predict, which returns its error code."""

from kanserve.network.kan import Kan, Layer
from kanserve_exporters._c.forward import encode
from kanserve_exporters._c.layers import is_affine, scale_and_shift
from kanserve_exporters._shared.expressions import Dialect, term, total
from kanserve_exporters._shared.layer_tables import Parts

# Rows at once, by the width of the widest layer: they fit into the L1 cache and a thread's stack.
ROWS = {64: 64, 256: 16}
_FEW = 4

# The functions of glibc's libmvec, since 2.22 and since 2.35; its headers declare them only under -ffast-math.
_UNARY = (
    *("sin", "cos", "exp", "log"),
    *("tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh"),
    *("erf", "erfc", "cbrt", "expm1", "log1p", "log2", "log10", "exp2"),
)

_DECLARATIONS = """
#if defined @VECTOR_MATH && defined __GNUC__ && !defined __clang__
#define @SIMD __attribute__((__simd__("notinbranch")))
{lines}#endif
"""

_TOGETHER = """
#define @TILE {rows} /* at once */
#define @WHOLE(rows) (((rows) + 15)/16*16) /* of the longest vectors */

/* Which rows hold a value that is not finite. */
static void @refuse_columns(int rows, const @real *__restrict v, int count, int *__restrict bad)
{{
    int i, n;
    for (i = 0; i < count; i++) {{
        for (n = 0; n < rows; n++) bad[n] |= !(v[i*@TILE + n] - v[i*@TILE + n] == 0);
    }}
}}
"""

_TILE = """
/* The outputs of some rows, and which of the rows @predict must see to. */
static void @columns(const @real *x, size_t x_stride, int count, @real *y, size_t y_stride, int *bad)
{{
    @real a[{room}*@TILE], b[{room}*@TILE];
    const int rows = @WHOLE(count);
    int i, n;
    for (n = 0; n < rows; n++) bad[n] = 0;
    for (i = 0; i < @N_IN; i++) {{
        for (n = 0; n < count; n++) a[i*@TILE + n] = {first};
        for (; n < rows; n++) a[i*@TILE + n] = 0;
    }}
    @refuse_columns(rows, a, @N_IN, bad);
{layers}    for (n = 0; n < count; n++) {{
        for (i = 0; i < @N_OUT; i++) {{
            @real *const to = y + n*y_stride + i;
            *to = {last};
            bad[n] |= !(*to - *to == 0);
        }}
    }}
}}

static int @tile(const @real *x, size_t x_stride, int count, @real *y, size_t y_stride)
{{
    const int few = count < {few}; /* fewer than make a vector worth while */
    int bad[@TILE], first = @OK, n;
    if (!few) @columns(x, x_stride, count, y, y_stride, bad);
    for (n = 0; n < count; n++) {{
        if (few || bad[n]) {{
            const int code = @predict(x + n*x_stride, y + n*y_stride);
            if (first == @OK) first = code;
        }}
    }}
    return first;
}}
"""


def has_columns(kan: Kan, layers: list[Parts]) -> bool:
    """Whether the network is purely symbolic, and not too wide for this form."""
    symbolic = all(part.splines is None for part in layers) and any(part.terms for part in layers)
    return symbolic and _widest(kan) <= max(ROWS)


def _widest(kan: Kan) -> int:
    return max(kan.shape[0], *(layer.subnodes for layer in kan.layers))


def declarations(dialect: Dialect) -> str:
    """Declarations of the vector math functions, which must precede the first call of any of them."""
    real, suffix = "float" if dialect.single else "double", dialect.suffix
    lines = [f"@SIMD {real} {name}{suffix}({real});\n" for name in _UNARY]
    lines.append(f"@SIMD {real} pow{suffix}({real}, {real});\n")
    return _DECLARATIONS.format(lines="".join(lines))


def columns(kan: Kan, layers: list[Parts], dialect: Dialect) -> str:
    """The definition of `@tile`, which computes up to @TILE rows like `@predict`, and of the functions it calls."""
    rows = next(count for width, count in ROWS.items() if _widest(kan) <= width)
    blocks, steps, source, target = [_TOGETHER.format(rows=rows)], [], "a", "b"
    for number, (layer, part) in enumerate(zip(kan.layers, layers, strict=True)):
        blocks += _layer(number, layer, part, dialect)
        steps.append(f"    @columns_{number}(rows, {source}, {target});\n")
        steps.append(f"    @refuse_columns(rows, {target}, {layer.nodes}, bad);\n")
        source, target = target, source
    first, last = encode(kan, "x[n*x_stride + i]"), f"{source}[i*@TILE + n]"
    if is_affine(kan.input_shift, kan.input_scale):
        first = f"({first} - @input_shift[i])/@input_scale[i]"
    if is_affine(kan.output_shift, kan.output_scale):
        last = f"@output_scale[i]*{last} + @output_shift[i]"
    tile = _TILE.format(room=max(kan.shape), first=first, last=last, layers="".join(steps), few=_FEW)
    return f"\n#ifdef @VECTOR_MATH\n{''.join(blocks)}{tile}#endif\n"


def _layer(number: int, layer: Layer, part: Parts, dialect: Dialect) -> list[str]:
    """A function for each of the layer's sums z, and one that computes its nodes from them."""
    head = "(int rows, const @real *__restrict v, @real *__restrict"
    functions = []
    for j in range(layer.subnodes):
        terms = [term(edge, f"v[{i}*@TILE + n]", dialect) for to, i, edge in part.terms if to == j]
        constant = float(part.constants[j])
        value = total([*terms, dialect.literal(constant)] if constant or not terms else terms)
        # The domain is not checked here: outside of it, a value is not finite.
        lines = ["int n, unread, *const e = &unread;", "(void)e, (void)v;"]
        value = scale_and_shift(value, layer.subnode_scale[j], layer.subnode_bias[j], dialect)
        lines.append(f"for (n = 0; n < rows; n++) z[n] = {value};")
        functions.append(_function(f"@columns_{number}_{j}{head} z)", lines))
    lines = [f"@real z[{layer.subnodes}*@TILE];", "int n;"]
    lines += [f"@columns_{number}_{j}(rows, v, z + {j}*@TILE);" for j in range(layer.subnodes)]
    for q, group in enumerate(layer.groups):
        product = "*".join(f"z[{j}*@TILE + n]" for j in group)
        value = scale_and_shift(product, layer.node_scale[q], layer.node_bias[q], dialect)
        lines.append(f"for (n = 0; n < rows; n++) u[{q}*@TILE + n] = {value};")
    return [*functions, _function(f"@columns_{number}{head} u)", lines)]


def _function(head: str, lines: list[str]) -> str:
    return f"\nstatic void {head}\n{{\n" + "".join(f"    {line}\n" for line in lines) + "}\n"
