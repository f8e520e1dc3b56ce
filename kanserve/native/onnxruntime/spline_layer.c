/* A layer of splines, fast for one row as well as for many, in float and in double.

Every input has rows of numbers, one number per subnode, padded to whole vectors: the coefficients of its basis
functions or the polynomials of its pieces, and after them its base weights. An input value selects order + 1
consecutive rows, each with a factor. The rows and factors are found for many values at once, as vectors along rows and
inputs; then these rows are summed for each row of x. Nothing is transposed, so a single row has no extra cost.

For splines on uniform grids that are 0 beyond the range, there are rows of zeros on both sides. */
#include "spline_layer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../common/lanes.h"

#define VALUES 512        /* values at once, so that rows and factors stay in the L1 cache */
#define NARROW 32         /* inputs up to which several rows of x share a vector */
#define TILE 64           /* rows of x at once */
#define WIDE_TILE 128     /* the same if the layer's table does not fit into the L2 cache */
#define CACHE (1 << 20)   /* bytes of the L2 cache */
#define GROUP 4           /* vectors of subnodes at once */
#if BYTES == 64
#define ABREAST 4 /* independent sums at once, of vectors and rows of x, to hide the latency of additions */
#else
#define ABREAST 8
#endif
#define ADDED 32 /* inputs per partial sum */
#define SCRATCH (1 << 14) /* bytes on the stack, enough for a few rows */
#define MOST_ROWS (1 << 22) /* of an input, so that floats count them exactly */
#define HIGHEST 5         /* highest order of splines on uniform grids */
#define LARGER 64         /* limit of a layer's memory, as a multiple of the file's tables */

static const char no_memory[] = "there is not enough memory";

static const kanserve_table *find(const kanserve_description *description, const char *name)
{
    for (int64_t n = 0; n < description->count; n++)
        if (strcmp(description->tables[n].name, name) == 0)
            return &description->tables[n];
    return NULL;
}

/* The numbers of the table with this name, if it has this many; else NULL. */
static const void *numbers(const kanserve_description *description, const char *name, int64_t count)
{
    const kanserve_table *table = find(description, name);
    return table == NULL || table->indices || table->count != count ? NULL : table->data;
}

/* The rows and columns of a matrix of numbers; returns 0 if there is none. */
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
#define KEPT 14 /* leading bits of a step, so that small multiples are exact */
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
