/* The models of the fuzzers: a regression and a classifier, in double and float, and one that is handed out. */

#ifndef KANSERVE_FUZZ_MODELS_H
#define KANSERVE_FUZZ_MODELS_H

#include <math.h>

#include "server.h"

enum { MODELS = 5, MOST_INPUTS = 3 };

static int64_t fuzz_counters[MODELS][COUNT_OUTSIDE + MOST_INPUTS], fuzz_computing[MODELS];

/* y[j] = x[0] * (j + 1) + the sum of x; a row that is not finite is NaN. */
static int predict_double(const void *from, size_t rows, size_t x_stride, void *to, size_t y_stride)
{
    const double *x = from;
    double *y = to;
    for (size_t r = 0; r < rows; r++, x += x_stride, y += y_stride) {
        double sum = 0;
        for (size_t i = 0; i < x_stride; i++) sum += x[i];
        for (size_t j = 0; j < y_stride; j++) y[j] = isfinite(sum) ? x[0] * (double)(j + 1) + sum : NAN;
    }
    return 0;
}

static int predict_float(const void *from, size_t rows, size_t x_stride, void *to, size_t y_stride)
{
    const float *x = from;
    float *y = to;
    for (size_t r = 0; r < rows; r++, x += x_stride, y += y_stride) {
        float sum = 0;
        for (size_t i = 0; i < x_stride; i++) sum += x[i];
        for (size_t j = 0; j < y_stride; j++) y[j] = isfinite(sum) ? x[0] * (float)(j + 1) + sum : NAN;
    }
    return 0;
}

static int differentiate_double(const double *x, size_t rows, size_t x_stride, double *y, size_t y_stride, double *slopes,
                                size_t slopes_stride)
{
    predict_double(x, rows, x_stride, y, y_stride);
    for (size_t i = 0; i < rows * slopes_stride; i++) slopes[i] = (double)i;
    return !isfinite(x[0]);
}

static model_table *fuzz_table(void)
{
    static const double low[MOST_INPUTS] = {-1, -1, -1}, high[MOST_INPUTS] = {1, 1, 1};
    static const float low_single[MOST_INPUTS] = {-1, -1, -1}, high_single[MOST_INPUTS] = {1, 1, 1};
    served_model models[MODELS] = {
        {.name = "raw", .version = 1, .draws_below = ALL_DRAWS, .predict = predict_double, .inputs = 2, .outputs = 1},
        {.name = "iris", .version = 12, .draws_below = ALL_DRAWS, .predict = predict_double, .inputs = 3, .outputs = 3, .classes = 3,
         .labels = "setosa\0versicolor\0\0"},
        {.name = "single", .version = 2, .draws_below = ALL_DRAWS, .predict = predict_float, .inputs = 2, .outputs = 2, .single = 1},
        {.name = "single", .version = 1, .predict = predict_float, .inputs = 1, .outputs = 2, .single = 1, .classes = 2,
         .labels = "no\0yes\0"},
        {.name = "aside", .version = 1, .draws_below = ALL_DRAWS, .inputs = 2, .outputs = 1},
    };
    for (int i = 0; i < MODELS; i++) {
        models[i].number = i;
        models[i].max_rows = 64;
        models[i].max_gradient_rows = 16;
        models[i].cost.nanoseconds = models[i].gradient_cost.nanoseconds = 100;
        if (!models[i].single) models[i].gradient = differentiate_double;
        if (i < 2) models[i].formula = "\12\3raw";
        models[i].formula_length = 5;
        models[i].counters = fuzz_counters[i];
        models[i].computing = &fuzz_computing[i];
        models[i].low[0] = low;
        models[i].low[1] = low_single;
        models[i].high[0] = high;
        models[i].high[1] = high_single;
    }
    return table_new(models, MODELS);
}

#endif
