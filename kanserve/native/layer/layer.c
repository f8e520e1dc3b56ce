/* Forward and backward passes of a layer of splines, in float and in double.

One input is processed at a time: its active functions for many rows at once, as vectors along the rows, then for each
row a few products of a number with a vector of coefficients along outputs, however fine the grid. For that the
coefficients are transposed, with outputs last, and padded. In the backward pass rows are sorted by interval, so that
the sums of an interval stay in registers. */
#include "layer.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "../common/lanes.h"
#include "../common/thread_team.h"

#define ROWS 256   /* rows at once */
#define INPUTS 8   /* inputs at once in the forward pass, so that their coefficients stay in the L1 cache */
#define WORK 2e6   /* products per thread at least */

/* The sum of a vector's two halves. */
#define HALVED_8(v) (__builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7))
#define HALVED_16(v) \
    (__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) \
        + __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15))

/* Call a function for each group of outputs, beginning at o. It is inlined with compile-time constants: the number of
vectors of outputs, and of active functions. EACH is the offset of the group's coefficients. */
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
