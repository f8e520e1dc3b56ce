/* A layer of splines, forwards and backwards, in float and in double.

Rows meet one input at a time: its active functions at some rows at once, as vectors along the rows, then for each row
a few products of a number with a vector of coefficients along outputs, whatever the grid. The coefficients are turned
around for that, outputs last, and padded. Backwards, rows are sorted by the interval that they lie in, so that the sums
of an interval stay in registers. */
#include "layer.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "../common/lanes.h"
#include "../common/thread_team.h"

#define ROWS 256   /* at once */
#define INPUTS 8   /* at once forwards: their coefficients stay in the first cache */
#define WORK 2e6   /* products that are worth a thread */

/* A vector of half the lanes. */
#define HALVED_8(v) (__builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7))
#define HALVED_16(v) \
    (__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) \
        + __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15))

/* Call a function for all outputs, those from o on at once. It is inlined with numbers that are then known: how many
vectors of outputs, how many active functions. EACH is where the coefficients of these outputs begin. */
#if MOST > 3
#define THIRD(CALL) case 3: CALL(3); break;
#else
#define THIRD(CALL)
#endif
#define EACH o * (job->layer->functions + 1)
#define LADDER(CALL) \
    for (int64_t o = 0; o < job->padded; o += MOST * LANES) \
        switch (job->padded - o >= MOST * LANES ? MOST : (job->padded - o) / LANES) { \
        case 1: CALL(1); break; \
        case 2: CALL(2); break; \
        THIRD(CALL) \
        default: CALL(MOST); \
        }

#define REAL float
#define TYPED(name) name##_float
#define LANES (BYTES / 4)
#define PART 4
#include "../common/lanes_typed.h"
#include "layer_basis.h"
#include "layer_job.h"
#include "layer_forward.h"
#include "layer_backward.h"
#undef REAL
#undef TYPED
#undef LANES
#undef PART

#define REAL double
#define TYPED(name) name##_double
#define LANES (BYTES / 8)
#define PART (LANES < 4 ? LANES : 4)
#define DOUBLE
#include "../common/lanes_typed.h"
#include "layer_basis.h"
#include "layer_job.h"
#include "layer_forward.h"
#include "layer_backward.h"
