/* A peer: a backend for Triton that answers with the C model of `serving.py`. It has no state and no threads
 * of its own, so that Triton's own cost remains. Only what it needs of Triton's backend API 1 is declared here. */
#include <stddef.h>
#include <stdint.h>

#include "kan.h"

typedef struct TRITONSERVER_Error TRITONSERVER_Error;
typedef struct TRITONBACKEND_ModelInstance TRITONBACKEND_ModelInstance;
typedef struct TRITONBACKEND_Request TRITONBACKEND_Request;
typedef struct TRITONBACKEND_Response TRITONBACKEND_Response;
typedef struct TRITONBACKEND_Input TRITONBACKEND_Input;
typedef struct TRITONBACKEND_Output TRITONBACKEND_Output;

enum { FP64 = 12, CPU = 0, FINAL = 1, RELEASE = 1, INVALID_ARGUMENT = 3 };

TRITONSERVER_Error *TRITONSERVER_ErrorNew(int code, const char *message);
void TRITONSERVER_ErrorDelete(TRITONSERVER_Error *error);
TRITONSERVER_Error *TRITONBACKEND_RequestInputByIndex(TRITONBACKEND_Request *, uint32_t index, TRITONBACKEND_Input **);
TRITONSERVER_Error *TRITONBACKEND_InputProperties(TRITONBACKEND_Input *, const char **name, int *type,
                                                  const int64_t **shape, uint32_t *dimensions, uint64_t *bytes,
                                                  uint32_t *buffers);
TRITONSERVER_Error *TRITONBACKEND_InputBuffer(TRITONBACKEND_Input *, uint32_t index, const void **buffer,
                                              uint64_t *bytes, int *memory, int64_t *memory_id);
TRITONSERVER_Error *TRITONBACKEND_ResponseNew(TRITONBACKEND_Response **, TRITONBACKEND_Request *);
TRITONSERVER_Error *TRITONBACKEND_ResponseOutput(TRITONBACKEND_Response *, TRITONBACKEND_Output **, const char *name,
                                                 int type, const int64_t *shape, uint32_t dimensions);
TRITONSERVER_Error *TRITONBACKEND_OutputBuffer(TRITONBACKEND_Output *, void **buffer, uint64_t bytes, int *memory,
                                               int64_t *memory_id);
TRITONSERVER_Error *TRITONBACKEND_ResponseSend(TRITONBACKEND_Response *, uint32_t flags, TRITONSERVER_Error *);
TRITONSERVER_Error *TRITONBACKEND_RequestRelease(TRITONBACKEND_Request *, uint32_t flags);

/* The rows of a request and their outputs. One buffer is enough: a message of gRPC holds a tensor in one piece. */
static TRITONSERVER_Error *answer(TRITONBACKEND_Request *request, TRITONBACKEND_Response *response) {
    TRITONBACKEND_Input *input;
    TRITONBACKEND_Output *output;
    TRITONSERVER_Error *error;
    const int64_t *shape;
    const void *x;
    void *y;
    uint64_t bytes;
    uint32_t buffers;
    int memory = CPU;
    int64_t memory_id = 0;
    if ((error = TRITONBACKEND_RequestInputByIndex(request, 0, &input)) != NULL ||
        (error = TRITONBACKEND_InputProperties(input, NULL, NULL, &shape, NULL, &bytes, &buffers)) != NULL ||
        (error = TRITONBACKEND_InputBuffer(input, 0, &x, &bytes, &memory, &memory_id)) != NULL) {
        return error;
    }
    if (buffers != 1 || memory != CPU || bytes != (uint64_t)shape[0] * kan_N_IN * sizeof(double)) {
        return TRITONSERVER_ErrorNew(INVALID_ARGUMENT, "the input is not one piece of memory");
    }
    int64_t rows[2] = {shape[0], kan_N_OUT};
    uint64_t size = (uint64_t)rows[0] * kan_N_OUT * sizeof(double);
    if ((error = TRITONBACKEND_ResponseOutput(response, &output, "y", FP64, rows, 2)) != NULL ||
        (error = TRITONBACKEND_OutputBuffer(output, &y, size, &memory, &memory_id)) != NULL) {
        return error;
    }
    kan_predict_batch(x, (size_t)rows[0], kan_N_IN, y, kan_N_OUT);
    return NULL;
}

TRITONSERVER_Error *TRITONBACKEND_ModelInstanceExecute(TRITONBACKEND_ModelInstance *instance,
                                                       TRITONBACKEND_Request **requests, uint32_t count) {
    (void)instance;
    for (uint32_t i = 0; i < count; i++) {
        TRITONBACKEND_Response *response;
        TRITONSERVER_Error *error = TRITONBACKEND_ResponseNew(&response, requests[i]);
        if (error == NULL) {
            TRITONSERVER_Error *failed = answer(requests[i], response);
            error = TRITONBACKEND_ResponseSend(response, FINAL, failed);
            TRITONSERVER_ErrorDelete(failed);
        }
        TRITONSERVER_ErrorDelete(error);
        TRITONSERVER_ErrorDelete(TRITONBACKEND_RequestRelease(requests[i], RELEASE));
    }
    return NULL;
}
