/* The models that the loop answers for: an immutable table, which is replaced as a whole when models change. */

#ifndef KANSERVE_SERVED_MODELS_H
#define KANSERVE_SERVED_MODELS_H

#include <stddef.h>
#include <stdint.h>

#include "row_time.h"

/* Counters of one version of a model: 64-bit integers, written by the loop alone and read by others while it runs. They
 * belong to the caller and survive a replacement of the table. BUCKETS are those of the metrics' histograms. */
enum { STAGES = 5, BUCKETS = 16 };
enum { COUNT_ROWS, COUNT_LAST, COUNT_NANOSECONDS, COUNT_BUCKETS = COUNT_NANOSECONDS + STAGES };
enum { COUNT_BLOCK = COUNT_BUCKETS + STAGES * BUCKETS }; /* of one kind of call */
enum { COUNTED_INFER, COUNTED_DIFFERENTIATE, COUNTED_FORMULA, COUNTED };
enum { COUNT_OUTSIDE = COUNTED * COUNT_BLOCK }; /* then one for each input */

/* Counts of the latest rows in the bins of the training rows, as models/input_counts.py has them: the number of the block
 * that is being filled, then the blocks, each with its rows and COUNTS numbers for every input: one for each bin, how many
 * values are missing, and how many outside the training range. */
enum { INPUT_EDGES = 9, INPUT_MISSING = INPUT_EDGES + 1, INPUT_OUTSIDE, INPUT_COUNTS, INPUT_BLOCKS = 4 };

typedef int (*predict_function)(const void *x, size_t rows, size_t x_stride, void *y, size_t y_stride);
/* Outputs and derivatives in double, as P_gradient_batch of the exported source: 0 if all of them are finite. */
typedef int (*gradient_function)(const double *x, size_t rows, size_t x_stride, double *y, size_t y_stride, double *slopes,
                                 size_t slopes_stride);
/* Operators of an ONNX graph, one after another: 0, or not where there is no memory. */
typedef int (*chain_function)(void **kernels, int count, int64_t rows, const void *x, void *y);

typedef struct {
    const char *name;
    int64_t version;
    int64_t draws_below;       /* a request without a version means the first model of the name whose number this is above
                                * what `table_draw` gives; 0: never, ALL_DRAWS: always */
    const char *aliases;       /* further names of this version, one after another, each ended by 0; or NULL */
    int32_t alias_count;
    int32_t number;            /* of the model, for whoever predicts outside the loop */
    predict_function predict;  /* without it and a chain, rows are handed out, to be predicted by another thread */
    chain_function chain;
    void **kernels;
    int64_t chained;           /* rows up to which the chain is used */
    int32_t kernel_count;
    gradient_function gradient; /* or NULL */
    const void *formula;       /* the answer to GetFormula without formats, which belongs to the caller; or NULL */
    int64_t formula_length;
    const void *formula_gzip;  /* the same, compressed; or NULL */
    int64_t formula_gzip_length;
    int32_t inputs, outputs;
    int32_t single;            /* whether x and y are float */
    int32_t classes;           /* 0: not a classifier */
    int64_t max_rows, max_gradient_rows;
    const char *labels;        /* of the classes, one after another, each ended by 0 */
    const void *low[2], *high[2]; /* the training range of each input, for rows of double [0] and float [1] */
    const uint8_t *encodings;  /* of each input, INPUT_MAY_BE_MISSING and INPUT_IS_CATEGORICAL; NULL: none has any */
    int64_t *counters;         /* of answered requests */
    const double *edges;       /* of each input INPUT_EDGES, ascending, between the bins of its training rows */
    int64_t *input_blocks;     /* of the loop alone; they and the edges belong to the caller */
    int64_t block_rows;        /* 0: inputs are not counted */
    int64_t *computing;        /* how many handed out requests of models of this name compute, which only the library
                                * changes; and how many may: more are refused */
    int64_t concurrency;
    row_time cost, gradient_cost; /* of a prediction, and of the derivatives */
} served_model;

typedef struct model_table model_table;

enum { INPUT_MAY_BE_MISSING = 1, INPUT_IS_CATEGORICAL = 2 };

/* Whether a value of an input is inside its training range, from low to high: so is NaN where it may be missing, and of
 * a categorical input only the codes of categories, which are whole. */
int input_is_inside(const served_model *model, int input, double value, double low, double high);

/* A copy of the models with their texts and ranges, and one reference to it; NULL without memory. */
model_table *table_new(const served_model *models, size_t count);
model_table *table_retain(model_table *table);
void table_release(model_table *table);

/* Read a version, 1 to 999999999 without leading zeros, or none, which is 0: whether it is one. */
int table_version(const uint8_t *text, size_t length, int64_t *version);

/* A number from 0 to ALL_DRAWS - 1, always the same for an id of some length, as `draw` of models/routes.py; without one
 * the next of a sequence that is spread evenly. */
#define ALL_DRAWS ((int64_t)1 << 32)
int64_t table_draw(model_table *table, const uint8_t *id, size_t length);

/* The model of a name, by version or, with version 0, by a draw, of which 0 gives the main one; NULL if there is none. */
served_model *table_find(const model_table *table, const uint8_t *name, size_t length, int64_t version, int64_t drawn);

#endif
