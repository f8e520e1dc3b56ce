/* The width of the processor's vector registers, and aligned memory, for kernels in either precision. */
#ifndef KANSERVE_LANES_H
#define KANSERVE_LANES_H

#include <stdint.h>
#include <stdlib.h>

#if defined(__AVX512F__)
#define BYTES 64
#define MOST 4 /* vectors of outputs at once, so that their sums stay in registers */
#elif defined(__AVX__)
#define BYTES 32
#define MOST 2
#else
#define BYTES 16
#define MOST 2
#endif

#define CUBIC 4 /* active functions of a cubic spline */

#define INLINE static inline __attribute__((always_inline))

/* Memory aligned to cache lines: loading a vector that crosses two lines takes twice as long. */
#define LINE 64
static inline void *aligned(int64_t bytes)
{
    return aligned_alloc(LINE, (size_t)(bytes + LINE) / LINE * LINE);
}

#endif
