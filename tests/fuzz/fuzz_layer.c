/* The kernels of a layer of splines on layers of any size, with any numbers: every output is written, a row is whole or
NaN, and of tame numbers the values and gradients are those of a plain loop by the description in layer.h. */

#include "fuzz_bytes.h"
#include "layer/layer.h"

enum { UNWRITTEN = 0xff };

#define REAL float
#define TYPED(name) name##_float
#include "fuzz_layer_typed.h"
#undef REAL
#undef TYPED
#define REAL double
#define TYPED(name) name##_double
#include "fuzz_layer_typed.h"

enum { IS_DOUBLE = 1, TAME = 2, WEIGHTED = 4, WITH_BASE = 8, AFFINE = 16, MANY_ROWS = 32, MOST_PRODUCTS = 20000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_bytes from = {data, data + size, size};
    const int how = fuzz_byte(&from);
    kanserve_spline_layer layer = {.inputs = fuzz_between(&from, 1, 20), .outputs = fuzz_between(&from, 1, 80)};
    layer.order = fuzz_between(&from, 1, 8);
    layer.functions = layer.order + fuzz_between(&from, 1, 20);
    layer.pieces = fuzz_between(&from, 2, 24); /* at least one break */
    layer.base = fuzz_between(&from, KANSERVE_ZERO, KANSERVE_IDENTITY);
    if (layer.order == 3 && layer.functions + 1 < layer.pieces) layer.pieces = layer.functions + 1;
    int64_t rows = fuzz_byte(&from) % 40;
    if (how & MANY_ROWS) rows += 250;
    while (rows * layer.inputs * layer.functions * layer.outputs > MOST_PRODUCTS) rows /= 2;
    const int64_t threads = fuzz_between(&from, 1, 3), derivative = fuzz_between(&from, 0, layer.order);
    const int with_base = how & WITH_BASE && layer.base != KANSERVE_ZERO;
    if (how & IS_DOUBLE) {
        case_double own = {.layer = layer, .rows = rows, .threads = threads, .derivative = derivative,
            .weighted = how & WEIGHTED, .with_base = with_base, .affine = how & AFFINE, .tame = (how & TAME) != 0};
        run_double(&from, &own);
    } else {
        case_float own = {.layer = layer, .rows = rows, .threads = threads, .derivative = derivative,
            .weighted = how & WEIGHTED, .with_base = with_base, .affine = how & AFFINE, .tame = (how & TAME) != 0};
        run_float(&from, &own);
    }
    return 0;
}
