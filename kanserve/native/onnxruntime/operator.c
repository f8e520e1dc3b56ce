/* Custom operators of onnxruntime for the layers of our ONNX files; they replace the functions in the file.

    ai.kanserve.CardinalCubic, CardinalCubic2, ...   v (batch, inputs), tables ... -> (batch, nodes), float or double

A node has the attributes `tables` (the names of its inputs after v, separated by commas), `order` and `base`;
spline_layer.h describes the computation. For an unknown node, making the session fails; the caller then makes one
without this library. Only onnxruntime's C API is used, version 17 or later. */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "operator.h"

#define API 17 /* the first version whose kernels can share work among threads */
#define NUMBERED 8 /* operators of each kind; further nodes are left to onnxruntime */
#define KINDS 7
#define MOST_TEXT 1024
#define WORK 1e6 /* products per call, above which threads share the work */

typedef struct {
    OrtCustomOp callbacks; /* must be first: onnxruntime sees only this member */
    char name[32];
    int kind, is_double;
} operator;

static const struct {
    const char *name;
    int kind, order; /* 0: any order */
} kinds[KINDS] = {{"CardinalLinear", KANSERVE_CARDINAL, 1}, {"CardinalQuadratic", KANSERVE_CARDINAL, 2},
    {"CardinalCubic", KANSERVE_CARDINAL, 3}, {"CardinalQuartic", KANSERVE_CARDINAL, 4},
    {"CardinalQuintic", KANSERVE_CARDINAL, 5}, {"LocalPolynomials", KANSERVE_LOCAL_POLYNOMIALS, 0},
    {"LocalBasis", KANSERVE_LOCAL_BASIS, 0}};

static OrtStatus *refused(const OrtApi *api, const char *why)
{
    char text[256];
    snprintf(text, sizeof text, "kanserve's operators do not know this layer: %s.", why);
    return api->CreateStatus(ORT_INVALID_GRAPH, text);
}

#define TRY(call) \
    do { \
        OrtStatus *failed = (call); \
        if (failed != NULL) \
            return failed; \
    } while (0)

static OrtStatus *read_shape(const OrtApi *api, const OrtValue *value, ONNXTensorElementDataType *type, int64_t *rank,
    int64_t sizes[KANSERVE_MOST_SIZES])
{
    OrtTensorTypeAndShapeInfo *info;
    size_t count = 0;
    TRY(api->GetTensorTypeAndShape(value, &info));
    OrtStatus *status = api->GetDimensionsCount(info, &count);
    if (status == NULL)
        status = api->GetTensorElementType(info, type);
    *rank = (int64_t)count;
    if (status == NULL && count <= KANSERVE_MOST_SIZES)
        status = api->GetDimensions(info, sizes, count);
    api->ReleaseTensorTypeAndShapeInfo(info);
    return status;
}

static OrtStatus *read_table(const OrtApi *api, const OrtKernelInfo *info, size_t input,
    ONNXTensorElementDataType numbers, kanserve_table *table)
{
    const OrtValue *value = NULL;
    ONNXTensorElementDataType type;
    void *data;
    int constant = 0;
    TRY(api->KernelInfoGetConstantInput_tensor(info, input, &constant, &value));
    if (!constant || value == NULL)
        return refused(api, "its tables must be constants");
    TRY(read_shape(api, value, &type, &table->rank, table->sizes));
    if (table->rank > KANSERVE_MOST_SIZES || (type != numbers && type != ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64))
        return refused(api, "its tables must be of its own type or int64, of three dimensions at most");
    TRY(api->GetTensorMutableData((OrtValue *)value, &data)); /* does not modify the value */
    table->data = data;
    table->indices = type != numbers;
    table->count = 1;
    for (int64_t n = 0; n < table->rank; n++)
        table->count *= table->sizes[n];
    return NULL;
}

static OrtStatus *read_base(const OrtApi *api, const OrtKernelInfo *info, int *base)
{
    char text[16];
    size_t size = sizeof text;
    TRY(api->KernelInfoGetAttribute_string(info, "base", text, &size));
    if (strcmp(text, "silu") == 0)
        *base = KANSERVE_SILU;
    else if (strcmp(text, "identity") == 0)
        *base = KANSERVE_IDENTITY;
    else if (strcmp(text, "zero") == 0)
        *base = KANSERVE_ZERO;
    else
        return refused(api, "its base is unknown");
    return NULL;
}

/* Read the description of a node; the names in it point into `text`. */
static OrtStatus *read_node(const OrtApi *api, const OrtKernelInfo *info, const operator *own, char text[MOST_TEXT],
    kanserve_description *description)
{
    size_t size = MOST_TEXT, inputs;
    char *rest = NULL;
    description->kind = kinds[own->kind].kind;
    TRY(api->KernelInfoGetAttribute_int64(info, "order", &description->order));
    if (kinds[own->kind].order != 0 && kinds[own->kind].order != description->order)
        return refused(api, "its order is not that of its name");
    TRY(read_base(api, info, &description->base));
    TRY(api->KernelInfoGetAttribute_string(info, "tables", text, &size));
    TRY(api->KernelInfo_GetInputCount(info, &inputs));
    for (char *name = strtok_r(text, ",", &rest); name != NULL; name = strtok_r(NULL, ",", &rest)) {
        if (description->count == KANSERVE_MOST_TABLES || (size_t)description->count + 1 >= inputs)
            return refused(api, "it names more tables than it has");
        kanserve_table *table = &description->tables[description->count++];
        table->name = name;
        TRY(read_table(api, info, (size_t)description->count,
            own->is_double ? ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, table));
    }
    return (size_t)description->count + 1 == inputs ? NULL : refused(api, "it has more tables than it names");
}

static OrtStatus *ORT_API_CALL create(const OrtCustomOp *op, const OrtApi *api, const OrtKernelInfo *info, void **out)
{
    const operator *own = (const operator *)op;
    kanserve_description description = {0};
    char text[MOST_TEXT];
    const char *why = "there is not enough memory";
    TRY(read_node(api, info, own, text, &description));
    kanserve_kernel *made = calloc(1, sizeof *made);
    if (made == NULL)
        return refused(api, why);
    made->api = api;
    made->name = own->name;
    if (own->is_double)
        made->in_double = kanserve_prepare_double(&description, &why);
    else
        made->in_float = kanserve_prepare_float(&description, &why);
    if (made->in_double == NULL && made->in_float == NULL) {
        free(made);
        return refused(api, why);
    }
    made->inputs = own->is_double ? kanserve_inputs_double(made->in_double) : kanserve_inputs_float(made->in_float);
    made->nodes = own->is_double ? kanserve_nodes_double(made->in_double) : kanserve_nodes_float(made->in_float);
    kanserve_register_kernel(made);
    *out = made;
    return NULL;
}

static void ORT_API_CALL destroy(void *given)
{
    kanserve_kernel *own = given;
    kanserve_release_float(own->in_float);
    kanserve_release_double(own->in_double);
    free(own);
}

int kanserve_compute_rows(const kanserve_kernel *own, int64_t rows, const void *x, void *y)
{
    return own->in_double != NULL ? kanserve_compute_double(own->in_double, rows, x, y)
                                  : kanserve_compute_float(own->in_float, rows, x, y);
}

typedef struct {
    const kanserve_kernel *own;
    int64_t rows;
    const void *x;
    void *y;
    atomic_int failed;
} work;

static void compute_rows(work *job, int64_t from, int64_t rows)
{
    const kanserve_kernel *own = job->own;
    const int64_t size = own->in_double != NULL ? (int64_t)sizeof(double) : (int64_t)sizeof(float);
    const char *x = (const char *)job->x + from * own->inputs * size;
    if (kanserve_compute_rows(own, rows, x, (char *)job->y + from * own->nodes * size))
        job->failed = 1;
}

static void compute_share(void *given, size_t number)
{
    work *job = given;
    const int64_t from = (int64_t)number * KANSERVE_SHARE;
    compute_rows(job, from, job->rows - from < KANSERVE_SHARE ? job->rows - from : KANSERVE_SHARE);
}

static OrtStatus *ORT_API_CALL compute(void *given, OrtKernelContext *context)
{
    const kanserve_kernel *own = given;
    const OrtApi *api = own->api;
    work job = {.own = own};
    const OrtValue *x;
    OrtValue *y;
    ONNXTensorElementDataType type;
    int64_t rank, sizes[KANSERVE_MOST_SIZES];
    TRY(api->KernelContext_GetInput(context, 0, &x));
    TRY(read_shape(api, x, &type, &rank, sizes));
    if (rank != 2 || sizes[1] != own->inputs)
        return refused(api, "its rows have another width");
    job.rows = sizes[0];
    sizes[1] = own->nodes;
    TRY(api->KernelContext_GetOutput(context, 0, sizes, 2, &y));
    TRY(api->GetTensorMutableData((OrtValue *)x, (void **)&job.x));
    TRY(api->GetTensorMutableData(y, &job.y));
    const int64_t shares = (job.rows + KANSERVE_SHARE - 1) / KANSERVE_SHARE;
    if (shares > 1 && (double)job.rows * (double)own->inputs * (double)own->nodes > WORK)
        TRY(api->KernelContext_ParallelFor(context, compute_share, (size_t)shares, 0, &job));
    else if (job.rows > 0)
        compute_rows(&job, 0, job.rows);
    return job.failed ? api->CreateStatus(ORT_FAIL, "There is not enough memory for the rows of a layer.") : NULL;
}

static const char *ORT_API_CALL name_of(const OrtCustomOp *op)
{
    return ((const operator *)op)->name;
}

static const char *ORT_API_CALL provider_of(const OrtCustomOp *op)
{
    (void)op;
    return NULL; /* the CPU */
}

static ONNXTensorElementDataType ORT_API_CALL output_type(const OrtCustomOp *op, size_t index)
{
    (void)index;
    return ((const operator *)op)->is_double ? ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE
                                             : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
}

static ONNXTensorElementDataType ORT_API_CALL input_type(const OrtCustomOp *op, size_t index)
{
    return index > 0 ? ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED : output_type(op, index);
}

static size_t ORT_API_CALL one(const OrtCustomOp *op)
{
    (void)op;
    return 1;
}

static size_t ORT_API_CALL two(const OrtCustomOp *op)
{
    (void)op;
    return 2;
}

static OrtCustomOpInputOutputCharacteristic ORT_API_CALL input_kind(const OrtCustomOp *op, size_t index)
{
    (void)op;
    return index > 0 ? INPUT_OUTPUT_VARIADIC : INPUT_OUTPUT_REQUIRED;
}

static OrtCustomOpInputOutputCharacteristic ORT_API_CALL output_kind(const OrtCustomOp *op, size_t index)
{
    (void)op;
    (void)index;
    return INPUT_OUTPUT_REQUIRED;
}

static OrtMemType ORT_API_CALL memory_of(const OrtCustomOp *op, size_t index)
{
    (void)op;
    (void)index;
    return OrtMemTypeDefault;
}

static int ORT_API_CALL yes(const OrtCustomOp *op)
{
    (void)op;
    return 1;
}

static int ORT_API_CALL no(const OrtCustomOp *op)
{
    (void)op;
    return 0;
}

static operator operators[KINDS * NUMBERED * 2];
static OrtCustomOpDomain *domain; /* never freed: onnxruntime keeps using it after sessions are made */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void name_operators(void)
{
    for (int n = 0; n < KINDS * NUMBERED * 2; n++) {
        operator *own = &operators[n];
        const int number = n / 2 % NUMBERED + 1;
        own->kind = n / 2 / NUMBERED;
        own->is_double = n % 2;
        if (number == 1)
            snprintf(own->name, sizeof own->name, "%s", kinds[own->kind].name);
        else
            snprintf(own->name, sizeof own->name, "%s%d", kinds[own->kind].name, number);
        own->callbacks = (OrtCustomOp){.version = API, .GetName = name_of, .GetExecutionProviderType = provider_of,
            .GetInputType = input_type, .GetInputTypeCount = two, .GetOutputType = output_type,
            .GetOutputTypeCount = one, .KernelDestroy = destroy, .GetInputCharacteristic = input_kind,
            .GetOutputCharacteristic = output_kind, .GetInputMemoryType = memory_of, .GetVariadicInputMinArity = yes,
            .GetVariadicInputHomogeneity = no, .GetVariadicOutputMinArity = yes, .GetVariadicOutputHomogeneity = no,
            .CreateKernelV2 = create, .KernelComputeV2 = compute};
    }
}

static OrtStatus *make_domain(const OrtApi *api)
{
    OrtCustomOpDomain *made;
    TRY(api->CreateCustomOpDomain("ai.kanserve", &made));
    name_operators();
    for (int n = 0; n < KINDS * NUMBERED * 2; n++) {
        OrtStatus *failed = api->CustomOpDomain_Add(made, &operators[n].callbacks);
        if (failed != NULL) {
            api->ReleaseCustomOpDomain(made);
            return failed;
        }
    }
    domain = made;
    return NULL;
}

/* The entry point that onnxruntime calls when it loads this library. */
__attribute__((visibility("default"))) OrtStatus *ORT_API_CALL RegisterCustomOps(
    OrtSessionOptions *options, const OrtApiBase *base)
{
    const OrtApi *api = base->GetApi(API);
    if (api == NULL)
        return base->GetApi(1)->CreateStatus(ORT_NOT_IMPLEMENTED, "The operators need onnxruntime 1.17 or later.");
    pthread_mutex_lock(&lock);
    OrtStatus *status = domain == NULL ? make_domain(api) : NULL;
    pthread_mutex_unlock(&lock);
    return status != NULL ? status : api->AddCustomOpDomain(options, domain);
}
