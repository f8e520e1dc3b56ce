"""The kernels of the fast form: interval search for a vector of inputs at once, and sums of rows of coefficients. They
process a tile of rows and a block of inputs (one per vector lane) at a time: first find the rows of coefficients and
their weights; then add up the rows of coefficients for each row of the tile, outputs side by side, in registers. With
fewer inputs than lanes, several rows share a vector."""

from collections.abc import Mapping, Sequence

from kanserve_exporters._c.grids import Even, Rows
from kanserve_exporters._c.splines import COUNTED, ends, is_counted, present, weights
from kanserve_exporters._shared.expressions import Dialect

FETCH = """
/* Some inputs of all rows, `apart` values from row to row, and zeros behind them up to a whole vector; the first ones,
 * or those that are chosen. */
@INLINE void @fetch(const @real *x, size_t stride, int rows, int count, const int *chosen, int apart, @real *to)
{
    int n, i;
    for (n = 0; n < rows; n++) {
        const @real *from = x + (size_t)n*stride;
        if (chosen) for (i = 0; i < count; i++) to[n*apart + i] = from[chosen[i]];
        else if (rows == 1 && count <= 4) @store(to, @single(from, count));
        else if (count < @LANES) @store(to + n*apart, @first(from, count)); /* the next row goes over the zeros */
        else @store(to + n*apart, @load(from));
        if (chosen) for (; i < @LANES; i++) to[n*apart + i] = 0;
    }
}
"""

# One vector of inputs after another. The grid's numbers repeat after `period` elements of the inputs.
LOCATE = """
/* Of vectors of inputs, `step` values of x from one to the next, the offsets of the rows of coefficients that count and
 * how much each does: of element e, m of these is w[m*@MOST + e]. The grid's numbers and `start` repeat. */
@INLINE void @many_{kind}(const @real *x, size_t step, int vectors, const @real *grid, size_t apart, const int *start,
    int period, int last, int outputs, int *offsets, @real *w)
{{
    const @vector one = {{0}}, most = one + (@real)last;
    int e, i = 0;
    for (e = 0; e < vectors; e++) {{
        const @vector v = @load(x + (size_t)e*step), low = @load(grid + i), high = @load(grid + apart + i);
        const @vector per_step = @load(grid + 2*apart + i), above = @larger(v, low), inside = @smaller(above, high);
        const @index interval = __builtin_convertvector((inside - low)*per_step, @index);
        const @vector steps = __builtin_convertvector(interval, @vector);
        const @vector t = {t}, s = 1 - t;
{weights}        *(@index_at *)(offsets + e*@LANES) = interval*outputs + *(const @index_at *)(start + i);
        i = i + @LANES < period ? i + @LANES : 0;
    }}
}}
"""

# Rows of a tile do not share vectors here: their breaks would have to be stored side by side.
COUNT = """
/* How many of the breaks, one for each input and then the next, are at or below x in each lane. */
@INLINE void @count_lanes(const @real *x, size_t step, int vectors, const @real *breaks, int inputs, int most,
    int *piece)
{
    int e, p;
    for (e = 0; e < vectors; e++) {
        const @vector v = @load(x + (size_t)e*step);
        @whole found = {0}, more = {0};
        for (p = 0; p + 2 <= most; p += 2) {
            found -= (@whole)(v >= @load(breaks + p*inputs));
            more -= (@whole)(v >= @load(breaks + (p + 1)*inputs));
        }
        if (p < most) found -= (@whole)(v >= @load(breaks + p*inputs));
        *(@index_at *)(piece + e*@LANES) = __builtin_convertvector(found + more, @index);
    }
}
"""

SUMS = """
/* To the sums of all rows, so many vectors of outputs, the rows of coefficients of some inputs by their weights: of
 * input i number m is w[m*across + i*along]. Few vectors are summed in several `ways` at the same time: a sum must wait
 * for the one before. */
@INLINE void @sums_{name}(const int vectors, const int ways, int rows, int inputs, int apart, const int *offsets,
    const @real *w, int across, int along, const @real *b, const @real *table, int base, int each, int outputs,
    @real *z, int stride)
{{
    const {type} none = {{0}};
    int n, i, c;{unused}
    for (n = 0; n < rows; n++) {{
        {type} sum[2*@WIDEST];
        const @real *own = w + n*apart*along{basic};
        const int *offset = offsets + n*apart;
        @UNROLL
        for (c = 0; c < ways*vectors; c++) sum[c] = none;
        for (i = 0; i < inputs; i++) {{
            const @real *row = table + offset[i];
{add}{further}        }}
        @UNROLL
        for (c = vectors; c < ways*vectors; c++) sum[c % vectors] += sum[c];
        @UNROLL
        for (c = 0; c < vectors; c++) *({type}_at *)(z + n*stride + c*{lanes}) += sum[c];
    }}
}}
"""

ADD = """\
            @UNROLL
            for (c = 0; c < vectors; c++)
                sum[{m} % ways*vectors + c] += {weight} * *(const {type}_at *)({row} + c*{lanes});
"""

LADDER = """
/* The same for all outputs. */
@INLINE void @rows_{name}(int rows, int inputs, int apart, const int *offsets, const @real *w, int across, int along,
    const @real *b, const @real *table, int base, int each, int outputs, @real *z, int stride)
{{
    int o, left;
#if @BYTES > 4*{size}
    if (outputs <= 4) {{
        @sums_{name}_four(1, {ways}, rows, inputs, apart, offsets, {weights}, table, {rest}, z, stride);
        return;
    }}
#endif
    for (o = 0; o < outputs; o += @WIDEST*@LANES) {{
        left = outputs - o;
        if (left > 3*@LANES)
            @sums_{name}(4, 1, rows, inputs, apart, offsets, {weights}, table + o, {rest}, z + o, stride);
        else if (left > 2*@LANES)
            @sums_{name}(3, 1, rows, inputs, apart, offsets, {weights}, table + o, {rest}, z + o, stride);
        else if (left > @LANES)
            @sums_{name}(2, 2, rows, inputs, apart, offsets, {weights}, table + o, {rest}, z + o, stride);
        else
            @sums_{name}(1, {ways}, rows, inputs, apart, offsets, {weights}, table + o, {rest}, z + o, stride);
    }}
}}
"""

SPLINES = """
/* Add splines of a layer to z (rows, padded outputs). `raw` says that x ends with its last row. */
@INLINE void @add_{name}(const @real *x, size_t stride, int rows, int raw, int inputs, const int *chosen, {grid},
    int base, int each, int outputs, const @real *table, @real *z, int z_stride)
{{
    const int most = outputs > 2*@LANES ? @NEAR : @LANES;
    @real w[{active}*@MOST], {basic}own[@MOST + @LANES]{more};
    int offsets[@MOST], start[@LANES*@LANES + @LANES], i, e{index};
    for (i = 0; i < inputs; i += @LANES) {{
        const int count = inputs - i < @LANES ? inputs - i : @LANES;
        const @real *from = x + i{from_grid};
        size_t step = stride;
        int apart = @LANES{vectors};
        for (e = 0; e < @LANES; e++) start[e] = e*each*outputs;
        if (chosen || (count < @LANES && {short})) {{
{fetch}            from = own;
            step = @LANES;
{repeat}        }}
{locate}{base}        /* To memory: to spread a number over a vector from there costs less than within registers. */
        __asm__ ("" : : "r"(w){written} : "memory");
        for (e = 0; e < count; e += most) {{
            const int near = count - e < most ? count - e : most;
            @rows_{sums}(rows, near, apart, offsets + e, w + e*{along}, {across}, {along}, {own_base},
                table + i*each*outputs, (base + e*each)*outputs, each*outputs, outputs, z, z_stride);
        }}
    }}
}}
"""

PACK = """\
            /* Rows share a vector. */
            @fetch(chosen ? x : from, stride, rows, count, chosen ? chosen + i : chosen, count, own);
"""

SPREAD = """\
            @fetch(chosen ? x : from, stride, rows, count, chosen ? chosen + i : chosen, @LANES, own);
"""

REPEAT = """\
            vectors = (rows*count + @LANES - 1)/@LANES;
            apart = count;
            if (rows > 1) {{
                /* Where the inputs' numbers begin again with a vector. */
                while (period % count) period += @LANES;
                for (e = 0; e < period; e += count) {{
                    for (o = 0; o < {numbers}; o++) @store(grids + o*@LANES*@LANES + e, @load(grid + o*inputs + i));
                    *(@index_at *)(start + e) = *(const @index_at *)start;
                }}
                steps = grids;
                grid_apart = @LANES*@LANES;
            }}
"""

UNEVEN = """\
{find}        for (n = 0; n < rows; n++) {{
            int *const first_row = offsets + n*@LANES;
            @{kind}(from + n*step, count, origins + i*pieces, first + i*pieces, polynomials + i*pieces*{size}, pieces,
                first_row, w + n*@LANES*{active});
            *(@index_at *)first_row = *(@index_at *)first_row*outputs + *(const @index_at *)start;
        }}
"""

COUNTING = "@count_lanes(from, step, rows, breaks + i, inputs, pieces - 1, offsets);"
SEARCHING = """\
        for (n = 0; n < rows; n++) for (e = 0; e < @LANES; e++)
            offsets[n*@LANES + e] = e < count ? @search(breaks + i + e, inputs, pieces - 1, from[n*step + e]) : 0;
"""


def kernels(kinds: Mapping[str, Sequence[tuple[Rows, str]]], dialect: Dialect) -> list[str]:
    """The functions of the fast form for these kinds of layers, keyed by `kernel_name`."""
    every = [pair for some in kinds.values() for pair in some]
    sums = {_sums_name(rows, base): (rows, base) for rows, base in every}
    blocks = [FETCH, *([COUNT] if any(is_counted(rows) for rows, _ in every) else [])]
    blocks += [
        _locate(found, dialect)
        for found in {rows.kind: rows for rows, _ in every}.values()
        if isinstance(found.grid, Even)
    ]
    for name, (rows, base) in sums.items():
        blocks.append(_sums(name, "@vector", "@LANES", rows, base))
        blocks += [f"\n#if @BYTES > 4*{_size(dialect)}", _sums(f"{name}_four", "@four", "4", rows, base), "#endif\n"]
        blocks.append(
            LADDER.format(
                name=name,
                size=_size(dialect),
                ways=min(8, rows.order + 1 + (base != "zero")),
                weights="w, across, along, b",
                rest="base, each, outputs",
            )
        )
    return [*blocks, *(_splines(name, [rows for rows, _ in some], some[0][1], dialect) for name, some in kinds.items())]


def kernel_name(rows: Rows, base: str) -> str:
    """The suffix of `@add_` for this kind of layer."""
    return f"{rows.kind}_{base}"


def grid_arguments(number: int, rows: Rows) -> str:
    """The arguments of `@add_...` for a layer's grid."""
    if isinstance(rows.grid, Even):
        return f"@grid_{number}, {rows.grid.last}"
    pieces = rows.grid.origins.shape[1]
    return f"@breaks_{number}, @origins_{number}, @first_{number}, @polynomials_{number}, {pieces}"


def _locate(rows: Rows, dialect: Dialect) -> str:
    texts = weights(rows.order, dialect)
    lines = []
    if rows.runs_out:
        for m, text in enumerate(texts):
            condition = " & ".join(f"(@whole)({test})" for test in present(m, rows.order, "steps", "most"))
            texts[m] = f"(@vector)((@whole)({text}) & {condition})"
    else:
        lines += ["const @vector under = (v - above)*per_step, over = (above - inside)*per_step;", "(void)most;"]
        for letter, slopes in zip(("under", "over"), ends(rows.order, dialect), strict=True):
            for m, slope in slopes.items():
                texts[m] += f" + {letter}*{slope}"
    lines += [f"@store(w + {m}*@MOST + e*@LANES, {text});" for m, text in enumerate(texts)]
    t = "(inside - low)*@load(grid + 3*apart + i) - steps"
    if dialect.single:
        t = "((inside - (low + steps*@load(grid + 3*apart + i))) - steps*@load(grid + 4*apart + i))*per_step"
    return LOCATE.format(kind=rows.kind, t=t, weights="".join(f"        {line}\n" for line in lines))


def _sums_name(rows: Rows, base: str) -> str:
    return f"{rows.order}{'' if base == 'zero' else '_base'}"


def _sums(name: str, type: str, lanes: str, rows: Rows, base: str) -> str:
    active = rows.order + 1
    terms = [(f"own[{m}*across + i*along]", f"row + {m}*outputs" if m else "row") for m in range(active)]
    terms += [] if base == "zero" else [("b[n*apart + i]", "basic")]
    add = "".join(
        ADD.format(m=m, weight=weight, type=type, row=row, lanes=lanes) for m, (weight, row) in enumerate(terms)
    )
    unused = "\n    (void)b;\n    (void)base;\n    (void)each;" if base == "zero" else ""
    return SUMS.format(
        name=name,
        unused=unused,
        type=type,
        lanes=lanes,
        add=add,
        basic="" if base == "zero" else ", *basic = table + base",
        further="" if base == "zero" else "            basic += each;\n",
    )


def _splines(name: str, every: Sequence[Rows], base: str, dialect: Dialect) -> str:
    rows = every[0]
    active = rows.order + 1
    even = isinstance(rows.grid, Even)
    value = "@silu(@load(from + e*step))" if base == "silu" else "@load(from + e*step)"
    vectors = "vectors" if even else "rows"
    based = f"        for (e = 0; e < {vectors}; e++) @store(b + e*@LANES, {value});\n"
    if isinstance(rows.grid, Even):
        numbers = len(rows.grid.steps)
        own = {
            "grid": "const @real *grid, int last",
            "more": f", grids[{numbers}*@LANES*@LANES + @LANES]",
            "from_grid": ", *steps = grid + i;\n        size_t grid_apart = (size_t)inputs",
            "vectors": ", vectors = rows, period = @LANES",
            "index": ", o",
            "fetch": PACK,
            "short": "(raw || rows > 1)",
            "repeat": REPEAT.format(numbers=numbers),
            "locate": f"        @many_{rows.kind}(from, step, vectors, steps, grid_apart, start, period, last, outputs,"
            " offsets, w);\n",
            "along": "1",
            "across": "@MOST",
        }
    else:
        own = {
            "grid": "const @real *breaks, const @real *origins, const int *first,\n"
            "    const @real *polynomials, int pieces",
            "more": "",
            "from_grid": "",
            "vectors": "",
            "index": ", n",
            "fetch": SPREAD,
            "short": "raw",
            "repeat": "",
            "locate": UNEVEN.format(find=_find(every), kind=rows.kind, size=active**2, active=active),
            "along": str(active),
            "across": "1",
        }
    return SPLINES.format(
        name=name,
        active=active,
        basic="" if base == "zero" else "b[@MOST], ",
        written="" if base == "zero" else ', "r"(b)',
        base="" if base == "zero" else based,
        own_base="(const @real *)0" if base == "zero" else "b + e",
        sums=_sums_name(rows, base),
        **own,
    )


def _find(every: Sequence[Rows]) -> str:
    """Statements that find the pieces of the inputs, for all layers that use this kernel."""
    counted, searched = any(is_counted(rows) for rows in every), any(not is_counted(rows) for rows in every)
    if counted and searched:
        search = "".join(f"    {line}\n" for line in SEARCHING.splitlines())
        return f"        if (pieces - 1 <= {COUNTED}) {COUNTING}\n        else {{\n{search}        }}\n"
    return f"        {COUNTING}\n" if counted else SEARCHING


def _size(dialect: Dialect) -> int:
    return 4 if dialect.single else 8
