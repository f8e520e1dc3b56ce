"""The fixed text of C in integers. `@` stands for the model's prefix and an underscore, `@@` for the prefix alone."""

HEADER = """\
/* A Kolmogorov-Arnold network of shape {shape} in integers, written by kanserve. C99, no library; usable from C++.
 *
 * It takes and gives codes of 16 bits. A row needs no floating point, no division and no memory but the stack: some
 * {stack} bytes. Every function may be called from any thread at any time.
 */
#ifndef @H
#define @H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

enum {{ @N_IN = {inputs}, @N_OUT = {outputs} }};

/* The outputs y at the inputs x, in codes. x and y must not overlap. */
void @predict(const uint16_t x[@N_IN], uint16_t y[@N_OUT]);

#ifndef @NO_SELFTEST
/* How many outputs of the golden rows come out with another bit: 0 if all is well. */
int @selftest(void);
#endif

/* The code of a number is (number - LOW)/STEP, rounded, and at least 0 and at most 65535; the number of a code is
 * LOW + code*STEP. Inputs beyond their training range have the code of its end. */
{scales}
/* Within the training ranges, an output differs from that of the network by at most BOUND, which is proven, rounding of
 * the inputs included; the largest difference on {rows} random rows is MEASURED. */
{bounds}{extra}
#ifdef __cplusplus
}}
#endif

#endif
"""

CODE = """\
/* Written by kanserve. Do not change by hand: export the network again. */
#include "@@.h"

#ifndef @TABLE
#define @TABLE /* an attribute of the constant tables, such as a section */
#endif

typedef struct {{
    uint16_t inputs, sums{nodes_member};
    uint8_t sum_shift; /* of the bits that coefficients times weights have more than a sum takes */
    const uint8_t *intervals;         /* of each input's grid */
    const {word} *coefficients;      /* of each input, intervals + 3 rows of one for each sum */
    const int32_t *offsets;           /* of each sum, and what makes it a code: a multiplication by */
    const uint16_t *multipliers;      /* a number of 16 bits, of whose product the lower 16 are dropped, */
    const uint8_t *shifts;            /* and a shift */
{arity_member}}} @layer;

{tables}
/* Four weights of a cubic spline, which add up to 65536, at a place of 16 bits in an interval. */
static void @weights(uint32_t place, uint32_t w[4])
{{
    const uint32_t square = (place*place) >> 16, cube = (square*place) >> 16;
    w[0] = 10923u - (((3u*(place - square) + cube)*10923u) >> 16);
    w[2] = ((65536u + 3u*(place + square) - 3u*cube)*10923u) >> 16;
    w[3] = (cube*10923u) >> 16;
    w[1] = 65536u - w[0] - w[2] - w[3];
}}

static void @run(const @layer *layer, const uint16_t *x, uint16_t *y)
{{
    const uint32_t count = layer->sums;
    const {word} *next = layer->coefficients;
    uint32_t sums[{most_sums}], w[4], i, j{node_names};
    for (j = 0; j < count; j++) sums[j] = 0;
    for (i = 0; i < layer->inputs; i++) {{
        const uint32_t place = (uint32_t)x[i]*layer->intervals[i];
        const {word} *c = next + (place >> 16)*count;
        next += (layer->intervals[i] + 3u)*count;
        @weights(place & 0xFFFFu, w);
        for (j = 0; j < count; j++) {{
            const {word} *at = c + j;
            uint32_t sum = at[0]*w[0];
            sum += at[count]*w[1];
            sum += at[2*count]*w[2];
            sum += at[3*count]*w[3];
            sums[j] += sum >> layer->sum_shift;
        }}
    }}
    for (j = 0; j < count; j++) {{
        const int32_t sum = (int32_t)sums[j] + layer->offsets[j];
        const uint32_t positive = sum > 0 ? (uint32_t)sum : 0u, by = layer->multipliers[j];
        const uint32_t code = ((positive >> 16)*by + (((positive & 0xFFFFu)*by) >> 16)) >> layer->shifts[j];
        {store}
    }}
{nodes}}}

void @predict(const uint16_t x[@N_IN], uint16_t y[@N_OUT])
{{
{predict}}}

#ifndef @NO_SELFTEST
static @TABLE const uint16_t @golden_x[] = {{{golden_x}}};
static @TABLE const uint16_t @golden_y[] = {{{golden_y}}};

int @selftest(void)
{{
    uint16_t y[@N_OUT];
    int row, q, wrong = 0;
    for (row = 0; row < {golden_rows}; row++) {{
        @predict(@golden_x + row*@N_IN, y);
        for (q = 0; q < @N_OUT; q++) wrong += y[q] != @golden_y[row*@N_OUT + q];
    }}
    return wrong;
}}
#endif
"""

ARITY_MEMBER = """\
    const uint8_t *arity;             /* of each node, how many sums it multiplies */
"""

STORE_NODE = "y[j] = (uint16_t)(code > 65535u ? 65535u : code);"
STORE_SUM = "sums[j] = code > 65535u ? 65535u : code;"

# (a - 32768)*(b - 32768) + 2^30 lies between 0 and 2^31.
PRODUCTS = """\
    for (q = 0, j = 0; q < layer->nodes; q++) {
        uint32_t product = sums[j];
        for (i = 1, j++; i < layer->arity[q]; i++, j++) {
            const int32_t of_both = ((int32_t)product - 32768)*((int32_t)sums[j] - 32768);
            product = ((uint32_t)of_both + 1073758208u) >> 15;
            if (product > 65535u) product = 65535u;
        }
        y[q] = (uint16_t)product;
    }
"""

LAYER = """\
static @TABLE const uint8_t @intervals_{n}[] = {{{intervals}}};
static @TABLE const {word} @coefficients_{n}[] = {{{coefficients}}};
static @TABLE const int32_t @offsets_{n}[] = {{{offsets}}};
static @TABLE const uint16_t @multipliers_{n}[] = {{{multipliers}}};
static @TABLE const uint8_t @shifts_{n}[] = {{{shifts}}};
{arity}static @TABLE const @layer @layer_{n} = {{
    {inputs}, {sums}, {sum_shift},
    @intervals_{n}, @coefficients_{n}, @offsets_{n}, @multipliers_{n}, @shifts_{n}{arity_name}
}};
"""

ARITY = "static @TABLE const uint8_t @arity_{n}[] = {{{arity}}};\n"

CATEGORIES = """
/* The code of each category of input {i}, in their order: x[{i}] = @CATEGORIES_{i}[number]. */
extern const uint16_t @CATEGORIES_{i}[{count}];
"""

TEST = """\
/* Exits with 0 when the golden rows come out bit for bit. With an argument it reads rows of codes instead, and prints
 * their outputs. */
#include "@@.h"

#include <stdio.h>

int main(int argc, char **argv)
{
    uint16_t x[@N_IN], y[@N_OUT];
    unsigned code;
    int i = 0, q;
    (void)argv;
    if (argc < 2) return @selftest() != 0;
    while (scanf("%u", &code) == 1) {
        x[i++] = (uint16_t)code;
        if (i < @N_IN) continue;
        @predict(x, y);
        for (q = 0; q < @N_OUT; q++) printf("%u ", (unsigned)y[q]);
        printf("\\n");
        i = 0;
    }
    return 0;
}
"""

ZEPHYR_MODULE = """\
name: @@
build:
  cmake: zephyr
"""

ZEPHYR_CMAKE = """\
zephyr_library_named(@@)
zephyr_library_sources(../@@.c)
zephyr_include_directories(..)
"""

README = """\
# @@: a Kolmogorov-Arnold network in integers, as C

Shape {shape}. Codes of 16 bits in: {inputs}, {what} out: {outputs}. C99 without any library: no floating point, no
division and no memory but the stack. The coefficients have {bits} bits; all tables together have {bytes} bytes.

$FORMULA$

## How exact

Within the training ranges an output differs from that of the network by at most the bound, which is proven by interval
arithmetic over the tables and holds for every row, rounding of the inputs to codes included. Measured is the largest
difference on {rows} random rows. The range is that of the outputs on these rows.

{errors}

## Call

    uint16_t x[@N_IN], y[@N_OUT];
    x[0] = ...;                     /* (number - @X0_LOW)/@X0_STEP, rounded, between 0 and 65535 */
    @predict(x, y);
    ... = @Y0_LOW + y[0]*@Y0_STEP;  /* only if you need the number; codes can be compared as they are */

A sensor whose converter gives integers needs no floating point for its codes either: fold its own scale into a
multiplication and a shift.

Zephyr takes this folder as a module: `west build -- -DZEPHYR_EXTRA_MODULES=FOLDER`, or `ZEPHYR_EXTRA_MODULES` in the
application's CMakeLists.txt. For Arduino export a header (`--c-form header_only`), put it beside the sketch, and write
`#define @IMPLEMENTATION` before including it.

## Switches

- `-D@NO_SELFTEST` leaves out the golden rows and `@selftest` (and `@test.c` with them).
- `-D@TABLE='__attribute__((section(".model")))'` places the constant tables.
"""
