/* Vectors of doubles as wide as the processor's registers, for the least-squares kernels. */
#ifndef KANSERVE_VECTORS_H
#define KANSERVE_VECTORS_H

#include <stdint.h>

#if defined(__AVX512F__)
#define KANSERVE_WIDTH 8
#elif defined(__AVX__)
#define KANSERVE_WIDTH 4
#else
#define KANSERVE_WIDTH 2
#endif

/* Padded lengths are multiples of this in every build, so that the caller need not know the vector width. */
#define KANSERVE_PADDING 8

/* Aligned like a double, because windows of coefficients begin anywhere. */
typedef double kanserve_wide __attribute__((vector_size(8 * KANSERVE_WIDTH), aligned(8), may_alias));

#define KANSERVE_INLINE static inline __attribute__((always_inline))

KANSERVE_INLINE kanserve_wide kanserve_load(const double *from)
{
    return *(const kanserve_wide *)from;
}

KANSERVE_INLINE void kanserve_store(double *to, kanserve_wide value)
{
    *(kanserve_wide *)to = value;
}

KANSERVE_INLINE double kanserve_total(kanserve_wide value)
{
    double sum = 0;
    for (int c = 0; c < KANSERVE_WIDTH; c++)
        sum += value[c];
    return sum;
}

KANSERVE_INLINE int64_t kanserve_padded(int64_t count)
{
    return (count + KANSERVE_PADDING - 1) / KANSERVE_PADDING * KANSERVE_PADDING;
}

/* The leading dimension of rows of `count` doubles: an odd number of vectors, so that the entries of a column fall into
different cache sets. */
KANSERVE_INLINE int64_t kanserve_leading(int64_t count)
{
    return (kanserve_padded(count) / KANSERVE_PADDING | 1) * KANSERVE_PADDING;
}

#endif
