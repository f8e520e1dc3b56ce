/* A layer of splines, prepared for one row as well as for many, in float and in double.

Every input has rows of numbers, one number a subnode, padded to whole vectors: the coefficients of its basis functions
or its pieces' polynomials, and behind them its base weights. At a value, order + 1 rows that stand together count, each
times a number: which rows and what numbers is found for many values at once, as vectors along rows and inputs; then for
each row of x these rows are summed. Nothing is turned around for that, so a single row costs what it should.

Where splines on equal steps are 0 beyond the range, there are rows of zeros on both sides. */
#include "spline_layer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../common/lanes.h"

#define VALUES 512        /* at once: what is found for them stays in the first cache */
#define NARROW 32         /* inputs up to which some rows of x make one vector */
#define TILE 64           /* rows of x at once, */
#define WIDE_TILE 128     /* and where the layer's own rows are more than fit into the second cache */
#define CACHE (1 << 20)   /* bytes */
#define GROUP 4           /* vectors of subnodes at once */
#if BYTES == 64
#define ABREAST 4 /* sums at once, of vectors and rows of x: each addition waits for the last one to the same sum */
#else
#define ABREAST 8
#endif
#define ADDED 32 /* inputs with one sum */
#define SCRATCH (1 << 14) /* bytes on the stack, enough for a few rows */
#define MOST_ROWS (1 << 22) /* of an input, so that floats count them exactly */
#define HIGHEST 5         /* order of splines on equal steps */
#define LARGER 64         /* times what the file holds is the most that a layer may take */

static const char no_memory[] = "there is not enough memory";

static const kanserve_table *find(const kanserve_description *description, const char *name)
{
    for (int64_t n = 0; n < description->count; n++)
        if (strcmp(description->tables[n].name, name) == 0)
            return &description->tables[n];
    return NULL;
}

/* The table's numbers if it has this many; all of ours are told apart by that and their names. */
static const void *numbers(const kanserve_description *description, const char *name, int64_t count)
{
    const kanserve_table *table = find(description, name);
    return table == NULL || table->indices || table->count != count ? NULL : table->data;
}

/* The rows and columns of a matrix of numbers; 0 where there is none. */
static int matrix(const kanserve_description *description, const char *name, int64_t *rows, int64_t *columns)
{
    const kanserve_table *table = find(description, name);
    if (table == NULL || table->indices || table->rank != 2 || table->sizes[0] < 1 || table->sizes[1] < 1)
        return 0;
    *rows = table->sizes[0];
    *columns = table->sizes[1];
    return 1;
}

static int64_t up_to(int64_t count, int64_t multiple)
{
    return (count + multiple - 1) / multiple * multiple;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

#define REAL float
#define TYPED(name) name##_float
#define LANES (BYTES / 4)
#define KEPT 14 /* bits of a step, so that a small multiple is exact */
#include "../common/lanes_typed.h"
#include "spline_cardinal.h"
#include "spline_tables.h"
#include "spline_rows.h"
#include "spline_kinds.h"
#include "spline_prepare.h"
#include "spline_compute.h"
#undef REAL
#undef TYPED
#undef LANES
#undef KEPT

#define REAL double
#define TYPED(name) name##_double
#define LANES (BYTES / 8)
#define KEPT 42
#define DOUBLE
#include "../common/lanes_typed.h"
#include "spline_cardinal.h"
#include "spline_tables.h"
#include "spline_rows.h"
#include "spline_kinds.h"
#include "spline_prepare.h"
#include "spline_compute.h"
