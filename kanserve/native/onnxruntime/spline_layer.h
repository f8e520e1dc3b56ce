/* A layer of splines as a node of our ONNX files describes it, prepared once and computed often. See spline_layer.c.

What a node's tables hold, and what they mean, is said in exporters/kanserve_exporters/_onnx/onnx_splines.py and, of equal
steps, onnx_cardinal.py. A description comes from a file that anybody may have written: preparing checks all that
computing relies on. */
#ifndef KANSERVE_SPLINE_LAYER_H
#define KANSERVE_SPLINE_LAYER_H

#include <stdint.h>

enum { KANSERVE_CARDINAL, KANSERVE_LOCAL_POLYNOMIALS, KANSERVE_LOCAL_BASIS };
enum { KANSERVE_ZERO, KANSERVE_SILU, KANSERVE_IDENTITY };

#define KANSERVE_LARGEST_ORDER 8
#define KANSERVE_MOST_TABLES 32
#define KANSERVE_MOST_SIZES 3

typedef struct {
    const char *name;
    const void *data;
    int indices; /* int64; else numbers of the layer's precision */
    int64_t rank, sizes[KANSERVE_MOST_SIZES], count;
} kanserve_table;

typedef struct {
    int kind, base;
    int64_t order;
    int64_t count;
    kanserve_table tables[KANSERVE_MOST_TABLES];
} kanserve_description;

/* How many rows one call of `compute` is good for where threads share the work. */
#define KANSERVE_SHARE 256

#define KANSERVE_DECLARE(REAL, TYPE) \
    typedef struct kanserve_prepared_##TYPE kanserve_prepared_##TYPE; \
    /* NULL, with the reason in `why`, where the description is none of a layer that we know. */ \
    kanserve_prepared_##TYPE *kanserve_prepare_##TYPE(const kanserve_description *description, const char **why); \
    void kanserve_release_##TYPE(kanserve_prepared_##TYPE *layer); \
    int64_t kanserve_inputs_##TYPE(const kanserve_prepared_##TYPE *layer); \
    int64_t kanserve_nodes_##TYPE(const kanserve_prepared_##TYPE *layer); \
    /* y (rows, nodes) of x (rows, inputs); NaN in rows in which anything is not finite. 1 without enough memory. */ \
    int kanserve_compute_##TYPE(const kanserve_prepared_##TYPE *layer, int64_t rows, const REAL *x, REAL *y);

KANSERVE_DECLARE(float, float)
KANSERVE_DECLARE(double, double)

#endif
