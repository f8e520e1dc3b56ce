/* Run the kernels of a session in a row, without onnxruntime, for a file that contains only our layers.

A small network takes less time than onnxruntime's overhead, whose code and data leave the processor's caches between
calls. The kernels belong to a session, which must live as long as the chain is used. */
#include <stdlib.h>
#include <string.h>

#include "operator.h"

#define PUBLIC __attribute__((visibility("default")))
#define MOST 64 /* layers */
#define STACK 512 /* numbers */

static _Thread_local struct {
    int listening, count;
    const kanserve_kernel *kernels[MOST];
} noted;

void kanserve_register_kernel(const kanserve_kernel *made)
{
    if (noted.listening && noted.count <= MOST) {
        if (noted.count < MOST)
            noted.kernels[noted.count] = made;
        noted.count++;
    }
}

/* Start recording the kernels that are made on this thread. */
PUBLIC void kanserve_listen(void)
{
    noted.listening = 1;
    noted.count = 0;
}

/* Stop recording; write the kernels made since `kanserve_listen`, in order, and return their number, -1 if too many. */
PUBLIC int kanserve_heard(const void *kernels[MOST])
{
    noted.listening = 0;
    if (noted.count > MOST)
        return -1;
    memcpy(kernels, noted.kernels, (size_t)noted.count * sizeof *kernels);
    return noted.count;
}

/* The name of a kernel's operator, and its shape: inputs, nodes, and 1 for double. */
PUBLIC const char *kanserve_kernel_shape(const kanserve_kernel *kernel, int64_t shape[3])
{
    shape[0] = kernel->inputs;
    shape[1] = kernel->nodes;
    shape[2] = kernel->in_double != NULL;
    return kernel->name;
}

/* Compute y (rows, nodes of the last kernel) from x (rows, inputs of the first); 1 if out of memory. Each kernel takes
the outputs of the one before, all in one precision, and all rows at once: how rows are grouped affects rounding. */
PUBLIC int kanserve_chain_run(
    const kanserve_kernel *const *kernels, int count, int64_t rows, const void *x, void *y)
{
    const size_t size = kernels[0]->in_double != NULL ? sizeof(double) : sizeof(float);
    double stack[2 * STACK];
    int64_t widest = 1;
    int failed = 0;
    for (int n = 0; n + 1 < count; n++)
        widest = kernels[n]->nodes > widest ? kernels[n]->nodes : widest;
    const size_t numbers = (size_t)(rows * widest);
    char *heap = numbers <= STACK ? NULL : malloc(2 * numbers * size);
    char *between = numbers <= STACK ? (char *)stack : heap;
    if (between == NULL)
        return 1;
    for (int n = 0; n < count && !failed; n++) {
        void *out = n + 1 == count ? y : between + (size_t)(n % 2) * numbers * size;
        failed = kanserve_compute_rows(kernels[n], rows, x, out);
        x = out;
    }
    free(heap);
    return failed;
}
