"""The fixed text of the C exporter. `@` stands for the model's prefix and an underscore, `@@` for the bare prefix.
Names that users chose are added after `fill`, escaped."""

import json
from collections.abc import Mapping

from kanserve_exporters._shared.expressions import wrap


def fill(text: str, prefix: str) -> str:
    """Replace the placeholders by the prefix."""
    return text.replace("@@", prefix).replace("@", f"{prefix}_")


def select_called(helpers: Mapping[str, str], text: str) -> list[str]:
    return [code for name, code in helpers.items() if f"@{name}(" in text]


def where_plain(gradient: bool) -> str:
    """The preprocessor condition for the plain form of the splines, which the gradient needs beside the fast one."""
    return "\n#if !defined @FAST || !defined @NO_GRADIENT" if gradient else "\n#ifndef @FAST"


def string(text: str) -> str:
    """A C initializer of a character array with this ASCII text, which may contain any characters."""
    data = text.encode("ascii")
    if len(data) <= 4000:  # C99 guarantees 4095 characters in a literal
        escaped = "".join(_escape(character) for character in text)
        return f'"{escaped}"'
    numbers = [str(code) for code in (*data, 0)]
    return "{" + wrap(numbers) + "}"


def _escape(character: str) -> str:
    # A question mark might begin a trigraph.
    return (
        "\\" + character if character in '"\\?' else character if " " <= character <= "~" else f"\\{ord(character):03o}"
    )


def information(values: object) -> str:
    """JSON in ASCII with sorted keys."""
    return json.dumps(values, ensure_ascii=True, sort_keys=True, allow_nan=False, separators=(",", ":"))


HEADER = """\
/* A Kolmogorov-Arnold network of shape {shape}, written by kanserve. C99, libm only; usable from C++.
 *
 * Nothing here allocates, prints or keeps state: every function may be called from any thread at any time.
 */
#ifndef @H
#define @H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {{
#endif

typedef {real} @real;

enum {{ @N_IN = {inputs}, @N_OUT = {outputs} }};

/* What the functions return. In every case but NULL and SIZE a bad row's outputs are all NaN. */
enum {{
    @OK = 0,
    @ERROR_NULL = -1,      /* a pointer is null; nothing was written */
    @ERROR_INPUT = -2,     /* an input is NaN or infinite */
    @ERROR_DOMAIN = -3,    /* a function was asked outside its domain: log(-1), 1/0, asin(2) */
    @ERROR_RESULT = -4,    /* a value on the way or a result overflowed */
    @ERROR_SIZE = -5       /* a stride is too small, or the golden row does not exist; nothing was written */
}};

/* The outputs y at the raw features x. x and y must not overlap. */
int @predict(const @real x[@N_IN], @real y[@N_OUT]);

/* The same for many rows; strides count elements from row to row. A bad row does not stop the others: the result is
 * the first code that is not OK. */
int @predict_batch(const @real *x, size_t rows, size_t x_stride, @real *y, size_t y_stride);
{probabilities}
#ifndef @NO_INFO
/* The names, units and training ranges of inputs and outputs, the formula, and where the network comes from, as JSON in
 * ASCII. */
const char *@info(void);
#endif

#ifndef @NO_SELFTEST
/* OK when the golden rows come out right and a NaN is refused. max_error may be null; it receives the largest error
 * relative to the size of the outputs. How large one may be depends on what rounding does to the row. */
int @selftest(@real *max_error);

/* Golden row number `row`: @N_IN inputs and the @N_OUT outputs that they must give. */
int @golden(size_t row, const @real **x, const @real **y);
#endif

#ifdef __cplusplus
}}
#endif

#endif
"""

HEADER_PROBABILITIES = """
/* The probabilities of the @N_OUT classes at x: the softmax of the scores that @predict gives. */
int @predict_proba(const @real x[@N_IN], @real p[@N_OUT]);
"""

BEGIN = """\
/* Written by kanserve. Do not change by hand: export the network again. */
#include "@@.h"

#include <math.h>

#if (defined __FAST_MATH__ || (defined __FINITE_MATH_ONLY__ && __FINITE_MATH_ONLY__)) && !defined @ALLOW_FAST_MATH
#error "Fast math removes the checks for NaN and infinity. Define @ALLOW_FAST_MATH to do without them."
#endif

#ifdef __clang__
#pragma STDC FP_CONTRACT OFF /* the same bits on every machine; gcc does so under -std=c99 or -ffp-contract=off */
#endif

#ifndef @TABLE
#define @TABLE /* an attribute of the constant tables, such as a section */
#endif
#ifndef @HOT
#define @HOT /* an attribute of the functions that do the work, such as target_clones */
#endif

/* Whether all values are finite: only then is v - v zero. */
static int @finite(const @real *v, int count)
{
    int i;
    for (i = 0; i < count; i++) {
        if (!(v[i] - v[i] == 0)) return 0;
    }
    return 1;
}

static int @fail(@real *y, int code)
{
    int q;
    for (q = 0; q < @N_OUT; q++) y[q] = (@real)NAN;
    return code;
}
"""

SLACK = """
#define @SLACK 0
"""

SIGN = """
static @real @sign(@real x)
{
    return (@real)((x > 0) - (x < 0)) + 0*x; /* 0*x, so that NaN stays NaN */
}
"""

PREDICT_BATCH = """
int @predict_batch(const @real *x, size_t rows, size_t x_stride, @real *y, size_t y_stride)
{
    const size_t most = (size_t)-1/sizeof(@real);
    int first = @OK;
    size_t n;
    if (x_stride < @N_IN || y_stride < @N_OUT) return @ERROR_SIZE;
    if (rows > most/x_stride || rows > most/y_stride) return @ERROR_SIZE;
    if (rows > 0 && (!x || !y)) return @ERROR_NULL;
$ROWS$    return first;
}
"""

ROW_BY_ROW = """\
    for (n = 0; n < rows; n++) {
        const int code = @predict(x + n*x_stride, y + n*y_stride);
        if (first == @OK) first = code;
    }
"""

BY_TILES = """\
    for (n = 0; n < rows; n += @TILE) {
        const int some = rows - n < @TILE ? (int)(rows - n) : @TILE;
        const int code = @tile(x + n*x_stride, x_stride, some, y + n*y_stride, y_stride);
        if (first == @OK) first = code;
    }
"""

PREDICT_PROBA = """
int @predict_proba(const @real x[@N_IN], @real p[@N_OUT])
{
    const int code = @predict(x, p);
    @real largest, sum = 0;
    int q;
    if (code != @OK) return code;
    largest = p[0];
    for (q = 1; q < @N_OUT; q++) {
        if (p[q] > largest) largest = p[q];
    }
    for (q = 0; q < @N_OUT; q++) {
        p[q] = {exp}(p[q] - largest); /* at most 1: no overflow */
        sum += p[q];
    }
    for (q = 0; q < @N_OUT; q++) p[q] /= sum;
    return @OK;
}
"""

INFO = """
const char *@info(void)
{
    return @information;
}
"""

SELFTEST = """
int @golden(size_t row, const @real **x, const @real **y)
{
    if (!x || !y) return @ERROR_NULL;
    if (@GOLDEN_ROWS == 0 || row > @GOLDEN_ROWS - 1) return @ERROR_SIZE;
    *x = @golden_x + row*@N_IN;
    *y = @golden_y + row*@N_OUT;
    return @OK;
}

int @selftest(@real *max_error)
{
    @real x[@N_IN], y[@N_OUT], largest = 0;
    const @real *golden, *want;
    size_t n;
    int i, q, right = 1;
    for (n = 0; @golden(n, &golden, &want) == @OK; n++) {
        const int code = @predict(golden, y);
        if (code != @OK) return code;
        for (q = 0; q < @N_OUT; q++) {
            const @real error = {fabs}(y[q] - want[q])/@golden_scale[n*@N_OUT + q];
            if (error > largest) largest = error;
            if (!(error <= @golden_allowed[n*@N_OUT + q])) right = 0;
        }
    }
    if (max_error) *max_error = largest;
    for (i = 0; i < @N_IN; i++) x[i] = (@real)NAN;
    if (@predict(x, y) != @ERROR_INPUT) return @ERROR_INPUT;
    for (q = 0; q < @N_OUT; q++) {
        if (y[q] == y[q]) return @ERROR_INPUT;
    }
    return right ? @OK : @ERROR_RESULT;
}
"""

TEST = """\
/* Compares @@ with its golden rows: prints each, exits with 0 only when all are right. Written by kanserve. */
#include "@@.h"

#include <stdio.h>

int main(void)
{
    const @real *x, *want;
    @real got[@N_OUT], error = 0;
    size_t row;
    int code, q;
    for (row = 0; @golden(row, &x, &want) == @OK; row++) {
        code = @predict(x, got);
        for (q = 0; q < @N_OUT; q++) {
            const double here = (double)got[q], there = (double)want[q];
            printf("row %lu output %d: %.{digits}g, wanted %.{digits}g\\n", (unsigned long)row, q, here, there);
        }
        if (code != @OK) printf("row %lu: code %d\\n", (unsigned long)row, code);
    }
    code = @selftest(&error);
    printf("largest error %.3g of the outputs' size, code %d: ", (double)error, code);
    printf(code == @OK ? "ok\\n" : "FAILED\\n");
    return code == @OK ? 0 : 1;
}
"""
