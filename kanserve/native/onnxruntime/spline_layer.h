/* A layer of splines as described by a node of our ONNX files, prepared once and computed many times. See
spline_layer.c.

exporters/kanserve_exporters/_onnx/splines.py describes the tables of a node, and onnx_cardinal.py those of uniform
grids. A description comes from an untrusted file: preparing checks everything that computing relies on. */
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
    int indices; /* 1 for int64; 0 for numbers of the layer's precision */
    int64_t rank, sizes[KANSERVE_MOST_SIZES], count;
} kanserve_table;

typedef struct {
    int kind, base;
    int64_t order;
    int64_t count;
    kanserve_table tables[KANSERVE_MOST_TABLES];
} kanserve_description;

/* Rows per call of `compute` if threads share the work. */
#define KANSERVE_SHARE 256

#define KANSERVE_DECLARE(REAL, TYPE) \
    typedef struct kanserve_prepared_##TYPE kanserve_prepared_##TYPE; \
    /* NULL, with the reason in `why`, for an unknown or invalid description. */ \
    kanserve_prepared_##TYPE *kanserve_prepare_##TYPE(const kanserve_description *description, const char **why); \
    void kanserve_release_##TYPE(kanserve_prepared_##TYPE *layer); \
    int64_t kanserve_inputs_##TYPE(const kanserve_prepared_##TYPE *layer); \
    int64_t kanserve_nodes_##TYPE(const kanserve_prepared_##TYPE *layer); \
    /* Compute y (rows, nodes) from x (rows, inputs); rows that are not finite become NaN. 1 if out of memory. */ \
    int kanserve_compute_##TYPE(const kanserve_prepared_##TYPE *layer, int64_t rows, const REAL *x, REAL *y);

KANSERVE_DECLARE(float, float)
KANSERVE_DECLARE(double, double)

#endif
