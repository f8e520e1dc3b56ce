/* What a fuzzer takes from its input: sizes and numbers. After the last byte come fixed ones, so that any input is long
enough. Every array has exactly its size, so that the sanitizers see a number too many. */

#ifndef KANSERVE_FUZZ_BYTES_H
#define KANSERVE_FUZZ_BYTES_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const uint8_t *at, *end;
    uint64_t next; /* of the numbers after the last byte */
} fuzz_bytes;

static uint32_t fuzz_next(fuzz_bytes *from)
{
    from->next = from->next * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(from->next >> 33);
}

static uint8_t fuzz_byte(fuzz_bytes *from)
{
    return from->at < from->end ? *from->at++ : 0;
}

static int64_t fuzz_short(fuzz_bytes *from)
{
    const int64_t low = fuzz_byte(from);
    return low | (int64_t)fuzz_byte(from) << 8;
}

/* A number from `least` to `most`. */
static inline int64_t fuzz_between(fuzz_bytes *from, int64_t least, int64_t most)
{
    return least + fuzz_byte(from) % (most - least + 1);
}

static void *fuzz_room(size_t bytes)
{
    void *made = malloc(bytes ? bytes : 1);
    if (!made) abort();
    return made;
}

static void fuzz_need(int holds)
{
    if (!holds) abort();
}

#endif
