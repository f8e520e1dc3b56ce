"""The C functions that find an input's rows of coefficients and their weights, and the tables that they read.
`@even_3(x, count, grid, inputs, row, w)` gives the first row number and the k + 1 weights w for each input of a block;
`@even_3_slopes` and `@even_3_second` give the weights for one input's first and second derivative. Loops over inputs
have no branches, so that compilers vectorize them."""

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction

from kanserve_exporters._c.grids import Even, Functions, Rows, Uneven, factorial, functions
from kanserve_exporters._c.template import where_plain
from kanserve_exporters._shared.expressions import Dialect, when, wrap

_SUFFIX, _WHAT = ("", "slopes", "second"), ("", "slope", "second derivative")  # by the order of the derivative

INPUTS = 16  # of a block
COUNTED = 32  # breaks up to which they are counted; beyond, binary search

BLOCK = """
#define @BLOCK {block} /* inputs whose rows of coefficients are found at the same time */
"""

COUNT = """
/* How many of the breaks, one for each input and then the next, are at or below each x. */
static void @count(const @real *x, int count, const @real *breaks, int inputs, int most, int *piece)
{
    int n, p;
    for (n = 0; n < count; n++) piece[n] = 0;
    for (p = 0; p < most; p++) {
        for (n = 0; n < count; n++) piece[n] += breaks[p*inputs + n] <= x[n];
    }
}
"""

SEARCH = """
/* How many of the breaks of an input are at or below x, by halves; for NaN any number there is. */
static int @search(const @real *breaks, int inputs, int count, @real x)
{
    int low = 0;
    for (; count > 1; count -= count/2) low += breaks[(low + count/2 - 1)*inputs] <= x ? count/2 : 0;
    return low + (breaks[low*inputs] <= x);
}
"""

# Every number that reaches the cast fits into an int. The bounds come from a table, since with constants compilers
# would generate branches.
PLACE = """\
        const @real v = x[n], low = grid[n], high = grid[inputs + n], per_step = grid[2*inputs + n];
        const @real above = v > low ? v : low, inside = above < high ? above : high;
        const @real place = (inside - low)*per_step;
        const int interval = (int)place;
        const @real steps = (@real)interval, t = {t};
"""

EVEN = """
/* The first of the rows of coefficients that count at each x, and how much each does: m of input n w[m*@BLOCK + n]. */
static void @{name}(const @real *x, int count, const @real *grid, int inputs, int *row,
    @real *w)
{{
    int n;
    for (n = 0; n < count; n++) {{
{place}        const @real s = 1 - t;
{weights}        row[n] = interval;
    }}
}}
"""

EVEN_SLOPES = """
/* The first of the rows of coefficients that count at an x, and how much each does for the {what}. */
static int @{name}_{suffix}(const @real *grid, int inputs, int last, const @real *x, @real *w)
{{
    const int n = 0;
{place}    /* On a knot, as far as it is known, the slope is that of the interval behind it. */
    if (t >= 1 - {margin} && interval < last) {{
        interval++;
        t--;{further}
    }}
{back}{weights}{outside}    return interval;
}}
"""

BEYOND = """\
        if (inside < v || inside > v) {nothing} = 0;
"""

ENDS = """\
        const @real most = (@real)last;
        /* Some of the rows may not be there; no branches, which nobody could foretell. */
{lines}"""

UNEVEN = """
/* In row[n] for its piece the first of the rows of coefficients that count at each x, and how much each does: m of
 * input n w[{active}*n + m], a polynomial of each piece. */
static void @uneven_{order}(const @real *x, int count, const @real *origins, const int *first,
    const @real *polynomials, int pieces, int *row, @real *w)
{{
    int n, m;
    for (n = 0; n < count; n++) {{
        const int p = n*pieces + row[n];
        const @real *c = polynomials + p*{size};
{place}        for (m = 0; m < {active}; m++) w[{active}*n + m] = {polynomial};
        row[n] = first[p];
    }}
}}
"""

UNEVEN_SLOPES = """
/* The first of the rows of coefficients that count at x, and how much each does for the {what}. */
static int @uneven_{order}_{suffix}(const @real *breaks, int inputs,{end} const @real *origins, const int *first,
    const @real *polynomials, int pieces, const @real *x, @real *w)
{{
    const int n = 0, {piece};
    const @real *c = polynomials + p*{size};
{place}    int m;
    for (m = 0; m < {active}; m++) w[m] = {polynomial};
    return first[p];
}}
"""


def spline_functions(every: Sequence[Rows], dialect: Dialect, *, derivatives: int) -> list[str]:
    """The functions for all kinds of grids of the layers, including those for the gradient (`derivatives` 1 or 2) and
    the second derivatives (2)."""
    kinds = {rows.kind: rows for rows in every}.values()
    uneven = [kind for kind in kinds if isinstance(kind.grid, Uneven)]
    even = [kind for kind in kinds if kind not in uneven]
    slopes = [text for n in range(1, derivatives + 1) for text in _functions([*uneven, *even], n, dialect)]
    # The fast form has its own functions for equidistant rows and for pieces; the gradient uses the plain ones.
    counted = [is_counted(rows) for rows in every if isinstance(rows.grid, Uneven)]
    plain = [*_functions(even, 0, dialect), *when(any(counted), COUNT)]
    searched = not all(counted)
    return [
        BLOCK.format(block=INPUTS) if every else "",
        *when(searched, SEARCH),
        *_functions(uneven, 0, dialect),
        *when(plain, where_plain(derivatives > 0), *plain, "#endif\n"),
        *when(slopes, "\n#ifndef @NO_GRADIENT", *when(uneven and not searched, SEARCH), *slopes, "#endif\n"),
    ]


def _functions(kinds: Sequence[Rows], derivative: int, dialect: Dialect) -> list[str]:
    """The function of each kind of grid for the value, slope or second derivative, unless that is 0."""
    functions = []
    for kind in kinds:
        if isinstance(kind.grid, Uneven) and kind.order >= derivative:
            functions.append(_uneven(kind.order, derivative, dialect))
        elif kind.order >= derivative:
            functions.append(_even_slopes(kind, derivative, dialect) if derivative else _even(kind, dialect))
    return functions


def is_counted(rows: Rows) -> bool:
    """Whether x is compared with all breaks of an input, instead of by binary search."""
    return isinstance(rows.grid, Uneven) and len(rows.grid.breaks) <= COUNTED


def weights(order: int, dialect: Dialect, whole: bool = False) -> list[str]:
    """The basis functions of an interval in t and s = 1 - t; if `whole`, times k!, so that their factors are integers.
    The outermost are exactly 0 at one end; the second half is the first with s for t."""
    scale = 1 / factorial(order) if whole else Fraction(1)
    letters = [("t", m) if 2 * m <= order else ("s", order - m) for m in range(1, order)]
    inner = [
        horner([float(scale * factor) for factor in functions(order).polynomials[m]], dialect, letter)
        for letter, m in letters
    ]
    first, last = ("*".join([letter] * order) for letter in "st")
    if order == 1 or whole:
        return [first, *inner, last]
    outer = dialect.literal(float(factorial(order)))
    return [f"{outer}*{first}", *inner, f"{outer}*{last}"]


def place(dialect: Dialect) -> str:
    """The position t between two knots; for accuracy, in double from the number of steps, in float from the knot."""
    if dialect.single:
        return "((inside - (low + steps*grid[3*inputs + n])) - steps*grid[4*inputs + n])*per_step"
    return "(inside - low)*grid[3*inputs + n] - steps"


def ends(order: int, dialect: Dialect) -> tuple[dict[int, str], dict[int, str]]:
    """The nonzero slopes of the basis functions, by function, at t = 0 and at t = 1."""
    basis: Functions = functions(order)

    def present(values: tuple[Fraction, ...]) -> dict[int, str]:
        return {m: dialect.literal(float(value)) for m, value in enumerate(values) if value}

    return present(basis.at_start), present(basis.at_end)


def horner(factors: list[float], dialect: Dialect, letter: str = "t") -> str:
    """A polynomial by Horner's rule; the factors are in order of rising powers."""
    while len(factors) > 1 and factors[-1] == 0:
        factors = factors[:-1]
    text = dialect.literal(factors[-1])
    power = 0
    for n, factor in enumerate(reversed(factors[:-1])):
        power += 1
        if factor or n == len(factors) - 2:
            step = letter if power == 1 else f"({'*'.join([letter] * power)})"
            text = f"{text if '+' not in text and ' - ' not in text else f'({text})'}*{step}"
            text += f" {'-' if factor < 0 else '+'} {dialect.literal(abs(factor))}" if factor else ""
            power = 0
    return text


def _even(rows: Rows, dialect: Dialect) -> str:
    zero = rows.extrapolation == "zero"
    texts = weights(rows.order, dialect, whole=zero)
    lines = []
    if not zero:
        lines += ["const @real under = (v - above)*per_step, over = (above - inside)*per_step;"]
        for letter, slopes in zip(("under", "over"), ends(rows.order, dialect), strict=True):
            for m, slope in slopes.items():
                texts[m] += f" + {letter}*{slope}"
    lines += [f"w[{f'{m}*@BLOCK + ' if m else ''}n] = {text};" for m, text in enumerate(texts)]
    return EVEN.format(name=rows.kind, place=PLACE.format(t=place(dialect)), weights=_lines(lines, 2))


def _even_slopes(rows: Rows, derivative: int, dialect: Dialect) -> str:
    """The function for the slope, or the second derivative, on equally spaced knots."""
    polynomials = functions(rows.order).derivatives(derivative)
    texts = [horner([float(factor) for factor in polynomial], dialect) for polynomial in polynomials]
    factor = "*".join(["per_step" if dialect.single else "grid[3*inputs]"] * derivative)
    lines = [f"w[{m}] = {factor}*({text});" for m, text in enumerate(texts)]
    zero = rows.extrapolation == "zero"
    outside = _ends(rows.order) if zero else ""
    if rows.order == derivative:
        lines.append("(void)t;")
    if derivative == 2 or (rows.order == 1 and zero):  # for higher orders the slope on extended knots is 0 anyway
        outside += BEYOND.format(nothing=" = ".join(f"w[{m}]" for m in range(rows.order + 1)))
    text = PLACE.format(t=place(dialect)).replace("        ", "    ")
    text = text.replace("const int interval", "int interval").replace("const @real steps", "@real steps")
    margin = dialect.literal(2.0**-18 if dialect.single else 2.0**-46)
    jumps = zero and rows.order == derivative == 2  # at the end of the range, which belongs to the interval before it
    back = f"    if (interval == last - 1 && t <= {margin}) {{\n        interval--;\n        steps--;\n    }}\n"
    return EVEN_SLOPES.format(
        back=back if jumps else "",
        what=_WHAT[derivative],
        suffix=_SUFFIX[derivative],
        further="\n        steps++;" if zero else "",
        margin=margin,
        name=rows.kind,
        place=text,
        weights=_lines(lines),
        outside=outside.replace("        ", "    "),
    )


def _ends(order: int) -> str:
    conditions = {m: present(m, order, "steps", "most") for m in range(order + 1)}
    return ENDS.replace(
        "{lines}", _lines([f"w[{m}] = {' && '.join(condition)} ? w[{m}] : 0;" for m, condition in conditions.items()])
    )


def present(m: int, order: int, steps: str, most: str) -> list[str]:
    """The conditions under which the m-th row of an interval of extended knots, numbered 0 to `most`, exists."""
    low = [f"{steps} >= {order - m}"] if m < order else []
    return [*low, f"{steps} <= {most} - {m}" if m else f"{steps} <= {most}"]


def _uneven(order: int, derivative: int, dialect: Dialect) -> str:
    active = order + 1
    factors = [math.perm(power, derivative) for power in range(active)]
    terms = [
        (f"{dialect.literal(float(factors[power]))}*" if factors[power] > 1 else "")
        + (f"c[{power * active} + m]" if power else "c[m]")
        for power in range(derivative, active)
    ]
    polynomial = terms[-1]
    for n, term in enumerate(reversed(terms[:-1])):
        polynomial = f"{polynomial if n == 0 else f'({polynomial})'}*t + {term}"
    line = "const @real t = x[n] - origins[p];" if "*t" in polynomial else "(void)origins;"
    found = "@search(breaks, inputs, pieces - 1, x[n])"
    at_end = "at == end && !(x[n] > breaks[(at - 1)*inputs])"  # which belongs to the interval before it
    return (UNEVEN_SLOPES if derivative else UNEVEN).format(
        what=_WHAT[derivative],
        suffix=_SUFFIX[derivative],
        end=" int end," if derivative == 2 else "",
        piece=f"at = {found}, p = {at_end} ? at - 1 : at" if derivative == 2 else f"p = {found}",
        order=order,
        size=active**2,
        active=active,
        polynomial=polynomial,
        place=_lines([line], 1 if derivative else 2),
    )


def _lines(lines: list[str], depth: int = 1) -> str:
    return "".join(f"{'    ' * depth}{line}\n" for line in lines)


def locate(number: int, rows: Rows) -> list[str]:
    """Statements that find the first rows and the weights of inputs i, i + 1, ... at x[0] to x[count - 1]."""
    if isinstance(rows.grid, Even):
        return [f"@{rows.kind}(x, count, &@grid_{number}[i], {rows.grid.steps.shape[1]}, row, w);"]
    inputs, pieces = rows.grid.origins.shape
    find = (
        f"@count(x, count, &@breaks_{number}[i], {inputs}, {pieces - 1}, row);"
        if is_counted(rows)
        else f"for (n = 0; n < count; n++) row[n] = @search(&@breaks_{number}[i + n], {inputs}, {pieces - 1}, x[n]);"
    )
    tables = f"@origins_{number} + i*{pieces}, @first_{number} + i*{pieces}"
    polynomials = f"@polynomials_{number} + i*{pieces * (rows.order + 1) ** 2}"
    return [find, f"@{rows.kind}(x, count, {tables}, {polynomials}, {pieces}, row, w);"]


def locate_slopes(number: int, rows: Rows, derivative: int = 1) -> str:
    """The call that returns the first row of the n-th spline input at x, and the weights w of its derivatives."""
    name = f"@{rows.kind}_{_SUFFIX[derivative]}"
    if isinstance(rows.grid, Even):
        return f"{name}(@grid_{number} + n, {rows.grid.steps.shape[1]}, {rows.grid.last}, &x, w)"
    inputs, pieces = rows.grid.origins.shape
    breaks = f"@breaks_{number} + n, {inputs}{f', @ends_{number}[n]' if derivative == 2 else ''}"
    tables = f"{breaks}, @origins_{number} + n*{pieces}, @first_{number} + n*{pieces}"
    polynomials = f"@polynomials_{number} + n*{pieces * (rows.order + 1) ** 2}"
    return f"{name}({tables}, {polynomials}, {pieces}, &x, w)"


def integers(name: str, values: Iterable[int]) -> str:
    """A constant table of integers."""
    words = [str(int(value)) for value in values]
    return f"static @TABLE const int @{name}[{len(words)}] = {{{wrap(words)}}};\n"
