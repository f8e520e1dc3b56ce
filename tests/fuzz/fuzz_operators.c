/* The operators of onnxruntime on any node, as a file may describe it, and any rows. Of onnxruntime itself only the
functions that they call are here. A node is refused or computed: every output written, a row whole or NaN. */

#include <onnxruntime_c_api.h>

#include "fuzz_bytes.h"
#include "operator.h"

enum { UNWRITTEN = 0xff, MOST_NODES = 3, MOST_NUMBERS = 1 << 14, MOST_KERNELS = 64, OPERATORS = 256 };

static const char *const names[] = {"weights", "bias", "lowest", "highest", "spline_inputs", "groups", "node_scale",
    "node_bias", "input_shift", "input_scale", "middles", "steps", "middles_rest", "steps_rest", "spline_weights", "lows",
    "breaks", "origins", "polynomials", "basis0", "basis1", "basis2", "basis3", "basis4", "basis5", "basis6", "basis7",
    "basis8", "other"};
static const char *const bases[] = {"zero", "silu", "identity", "other"};
enum { NAMES = sizeof names / sizeof *names, BASES = sizeof bases / sizeof *bases };

struct OrtStatus {
    int code;
};

struct OrtTensorTypeAndShapeInfo {
    const OrtValue *of;
};

struct OrtValue {
    ONNXTensorElementDataType type;
    int constant;
    size_t rank;
    int64_t sizes[4], count;
    void *data;
};

struct OrtKernelInfo {
    int64_t order, base;
    char tables[1024];
    size_t count;
    OrtValue values[KANSERVE_MOST_TABLES + 2];
};

struct OrtKernelContext {
    OrtValue x, y;
};

void kanserve_listen(void);
int kanserve_heard(const void *kernels[MOST_KERNELS]);
const char *kanserve_kernel_shape(const kanserve_kernel *kernel, int64_t shape[3]);
int kanserve_chain_run(const kanserve_kernel *const *kernels, int count, int64_t rows, const void *x, void *y);
OrtStatus *ORT_API_CALL RegisterCustomOps(OrtSessionOptions *options, const OrtApiBase *base);

static const OrtCustomOp *operators[OPERATORS];
static int operator_count, calls_left; /* before a call of onnxruntime fails; below 0 none does */

static OrtStatus *ORT_API_CALL create_status(OrtErrorCode code, const char *text)
{
    fuzz_need(strlen(text) > 0);
    OrtStatus *made = fuzz_room(sizeof *made);
    made->code = (int)code;
    return made;
}

static OrtStatus *next_call(void)
{
    return calls_left-- == 0 ? create_status(ORT_FAIL, "as the fuzzer wants it") : NULL;
}

#define CALL() \
    do { \
        OrtStatus *failed = next_call(); \
        if (failed) return failed; \
    } while (0)

static OrtStatus *ORT_API_CALL get_shape(const OrtValue *value, OrtTensorTypeAndShapeInfo **out)
{
    CALL();
    *out = fuzz_room(sizeof **out);
    (*out)->of = value;
    return NULL;
}

static OrtStatus *ORT_API_CALL get_rank(const OrtTensorTypeAndShapeInfo *info, size_t *out)
{
    CALL();
    *out = info->of->rank;
    return NULL;
}

static OrtStatus *ORT_API_CALL get_type(const OrtTensorTypeAndShapeInfo *info, ONNXTensorElementDataType *out)
{
    CALL();
    *out = info->of->type;
    return NULL;
}

static OrtStatus *ORT_API_CALL get_sizes(const OrtTensorTypeAndShapeInfo *info, int64_t *sizes, size_t count)
{
    CALL();
    for (size_t n = 0; n < count; n++) sizes[n] = info->of->sizes[n];
    return NULL;
}

static void ORT_API_CALL release_shape(OrtTensorTypeAndShapeInfo *info)
{
    free(info);
}

static OrtStatus *ORT_API_CALL get_data(OrtValue *value, void **out)
{
    CALL();
    *out = value->data;
    return NULL;
}

static OrtStatus *ORT_API_CALL get_constant(const OrtKernelInfo *info, size_t index, int *constant, const OrtValue **out)
{
    CALL();
    fuzz_need(index < info->count);
    *constant = info->values[index].constant;
    *out = *constant ? &info->values[index] : NULL;
    return NULL;
}

static OrtStatus *ORT_API_CALL get_number(const OrtKernelInfo *info, const char *name, int64_t *out)
{
    CALL();
    fuzz_need(strcmp(name, "order") == 0);
    *out = info->order;
    return NULL;
}

static OrtStatus *ORT_API_CALL get_text(const OrtKernelInfo *info, const char *name, char *out, size_t *size)
{
    CALL();
    const char *text = strcmp(name, "base") == 0 ? bases[info->base] : info->tables;
    if (strlen(text) + 1 > *size) return create_status(ORT_INVALID_ARGUMENT, "too long");
    *size = strlen(text) + 1;
    memcpy(out, text, *size);
    return NULL;
}

static OrtStatus *ORT_API_CALL count_inputs(const OrtKernelInfo *info, size_t *out)
{
    CALL();
    *out = info->count;
    return NULL;
}

static OrtStatus *ORT_API_CALL get_input(const OrtKernelContext *context, size_t index, const OrtValue **out)
{
    CALL();
    fuzz_need(index == 0);
    *out = &context->x;
    return NULL;
}

static size_t width_of(ONNXTensorElementDataType type)
{
    return type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT ? sizeof(float) : sizeof(double);
}

static OrtStatus *ORT_API_CALL get_output(
    OrtKernelContext *context, size_t index, const int64_t *sizes, size_t rank, OrtValue **out)
{
    CALL();
    fuzz_need(index == 0 && rank == 2 && sizes[0] == context->x.sizes[0] && sizes[1] > 0);
    OrtValue *y = &context->y;
    y->rank = rank;
    memcpy(y->sizes, sizes, rank * sizeof *sizes);
    y->count = sizes[0] * sizes[1];
    y->data = fuzz_room((size_t)y->count * width_of(y->type));
    memset(y->data, UNWRITTEN, (size_t)y->count * width_of(y->type));
    *out = y;
    return NULL;
}

static OrtStatus *ORT_API_CALL in_parallel(
    const OrtKernelContext *context, void (*work)(void *, size_t), size_t total, size_t batches, void *given)
{
    (void)context, (void)batches;
    CALL();
    while (total-- > 0) work(given, total);
    return NULL;
}

static OrtStatus *ORT_API_CALL create_domain(const char *name, OrtCustomOpDomain **out)
{
    fuzz_need(strcmp(name, "ai.kanserve") == 0);
    *out = (OrtCustomOpDomain *)operators;
    return NULL;
}

static OrtStatus *ORT_API_CALL add_operator(OrtCustomOpDomain *domain, const OrtCustomOp *made)
{
    fuzz_need(domain == (OrtCustomOpDomain *)operators && operator_count < OPERATORS);
    operators[operator_count++] = made;
    return NULL;
}

static OrtStatus *ORT_API_CALL add_domain(OrtSessionOptions *options, OrtCustomOpDomain *domain)
{
    (void)options;
    fuzz_need(domain == (OrtCustomOpDomain *)operators);
    return NULL;
}

static const OrtApi api = {.CreateStatus = create_status, .GetTensorTypeAndShape = get_shape,
    .GetDimensionsCount = get_rank, .GetTensorElementType = get_type, .GetDimensions = get_sizes,
    .ReleaseTensorTypeAndShapeInfo = release_shape, .GetTensorMutableData = get_data,
    .KernelInfoGetConstantInput_tensor = get_constant, .KernelInfoGetAttribute_int64 = get_number,
    .KernelInfoGetAttribute_string = get_text, .KernelInfo_GetInputCount = count_inputs,
    .KernelContext_GetInput = get_input, .KernelContext_GetOutput = get_output, .KernelContext_ParallelFor = in_parallel,
    .CreateCustomOpDomain = create_domain, .CustomOpDomain_Add = add_operator, .AddCustomOpDomain = add_domain};

static const OrtApi *ORT_API_CALL get_api(uint32_t version)
{
    fuzz_need(version == 17);
    return &api;
}

static void read_table(fuzz_bytes *from, OrtKernelInfo *info, ONNXTensorElementDataType numbers)
{
    OrtValue *value = &info->values[info->count];
    const uint8_t name = fuzz_byte(from), how = fuzz_byte(from);
    const size_t used = strlen(info->tables);
    if (used + 20 > sizeof info->tables) return;
    if (used) strcat(info->tables, ",");
    strcat(info->tables, names[name % NAMES]);
    value->type = how & 4 ? ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32 : how & 8 ? ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 : numbers;
    value->constant = !(how & 16);
    value->rank = how & 32 ? 4 : (how & 3);
    value->count = 1;
    for (size_t n = 0; n < value->rank; n++) {
        value->sizes[n] = fuzz_short(from);
        if (value->count * value->sizes[n] > MOST_NUMBERS) value->sizes[n] = 1;
        value->count *= value->sizes[n];
    }
    const size_t bytes = (size_t)value->count * width_of(value->type), left = (size_t)(from->end - from->at);
    value->data = fuzz_room(bytes);
    memset(value->data, 0, bytes);
    memcpy(value->data, from->at, left < bytes ? left : bytes);
    from->at += left < bytes ? left : bytes;
    info->count++;
}

static const OrtCustomOp *read_node(fuzz_bytes *from, OrtKernelInfo *info)
{
    const OrtCustomOp *made = operators[fuzz_byte(from) % operator_count];
    info->order = (int8_t)fuzz_byte(from);
    info->base = fuzz_byte(from) % BASES;
    info->count = 1;
    for (int left = fuzz_byte(from) % (KANSERVE_MOST_TABLES + 2); left > 0 && info->count < KANSERVE_MOST_TABLES + 2; left--)
        read_table(from, info, made->GetOutputType(made, 0));
    if (fuzz_byte(from) % 16 == 1) info->count--, free(info->values[info->count].data); /* or a table that is not named */
    return made;
}

static int is_nan(const OrtValue *y, int64_t n)
{
    return y->type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT ? isnan(((float *)y->data)[n]) : isnan(((double *)y->data)[n]);
}

static int is_finite(const OrtValue *y, int64_t n)
{
    return y->type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT ? isfinite(((float *)y->data)[n])
                                                          : isfinite(((double *)y->data)[n]);
}

/* Each row is NaN or finite, and nothing is as it was before. */
static void check(const OrtValue *x, const OrtValue *y)
{
    const size_t width = width_of(y->type);
    for (int64_t r = 0; r < y->sizes[0]; r++) {
        const int64_t start = r * y->sizes[1];
        int finite = is_finite(y, start);
        for (int64_t n = start; n < start + y->sizes[1]; n++) {
            static const uint8_t before[8] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
            fuzz_need(memcmp((char *)y->data + (size_t)n * width, before, width) != 0);
            fuzz_need(finite ? is_finite(y, n) : is_nan(y, n));
        }
        for (int64_t n = r * x->sizes[1]; n < (r + 1) * x->sizes[1]; n++)
            fuzz_need(is_finite(x, n) || !finite);
    }
}

static void fill_rows(fuzz_bytes *from, OrtValue *x)
{
    for (int64_t n = 0; n < x->count; n++) {
        const size_t width = width_of(x->type), left = (size_t)(from->end - from->at);
        const double made = (double)fuzz_next(from) * 0x1p-29 - 2;
        if (left >= width) {
            memcpy((char *)x->data + (size_t)n * width, from->at, width);
            from->at += width;
        } else if (width == sizeof(float))
            ((float *)x->data)[n] = (float)made;
        else
            ((double *)x->data)[n] = made;
    }
}

/* Rows through one kernel as onnxruntime calls it; y is the next kernel's x. */
static OrtStatus *compute(const OrtCustomOp *made, void *kernel, const OrtValue *x, OrtValue *y)
{
    struct OrtKernelContext context = {.x = *x, .y = {.type = x->type}};
    OrtStatus *status = made->KernelComputeV2(kernel, &context);
    *y = context.y;
    if (!status) check(x, y);
    return status;
}

static void run_kernels(fuzz_bytes *from, const OrtCustomOp **made, void **kernels, const void *const *heard, int count,
    int64_t rows, int wrong)
{
    int64_t first[3], shape[3];
    kanserve_kernel_shape(heard[0], first);
    if (first[0] > MOST_NUMBERS / 8) return;
    OrtValue x = {.type = first[2] ? ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
        .rank = 2, .sizes = {rows, first[0] + wrong}};
    while (x.sizes[0] * x.sizes[1] > 8 * MOST_NUMBERS) x.sizes[0] /= 2;
    x.count = x.sizes[0] * x.sizes[1];
    x.data = fuzz_room((size_t)x.count * width_of(x.type));
    fill_rows(from, &x);
    OrtValue before = x, y = {0};
    int done = 0;
    while (done < count) {
        kanserve_kernel_shape(heard[done], shape);
        if (done > 0 && (shape[0] != before.sizes[1] || shape[2] != first[2])) break;
        OrtStatus *status = compute(made[done], kernels[done], &before, &y);
        if (done > 0) free(before.data);
        before = y;
        if (status) {
            free(status);
            break;
        }
        done++;
    }
    if (done == count && x.sizes[0] > 0) { /* their chain gives the same bits for as many rows as one kernel takes */
        OrtValue chained = y;
        chained.sizes[0] = x.sizes[0] < KANSERVE_SHARE ? x.sizes[0] : KANSERVE_SHARE;
        const size_t bytes = (size_t)(chained.sizes[0] * y.sizes[1]) * width_of(y.type);
        chained.data = fuzz_room(bytes);
        memset(chained.data, UNWRITTEN, bytes);
        fuzz_need(!kanserve_chain_run((const kanserve_kernel *const *)heard, count, chained.sizes[0], x.data, chained.data));
        check(&x, &chained);
        if (chained.sizes[0] == x.sizes[0]) fuzz_need(memcmp(chained.data, y.data, bytes) == 0);
        free(chained.data);
    }
    free(before.data == x.data ? NULL : before.data);
    free(x.data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const OrtApiBase base = {.GetApi = get_api};
    fuzz_bytes from = {data, data + size, size};
    const OrtCustomOp *made[MOST_NODES];
    void *kernels[MOST_NODES];
    const void *heard[MOST_KERNELS];
    int count = 0;
    if (!operator_count) fuzz_need(RegisterCustomOps(NULL, &base) == NULL);
    calls_left = fuzz_byte(&from) - 1;
    if (calls_left < 0 || calls_left >= 200) calls_left = -1;
    const int64_t rows = fuzz_short(&from) % 700;
    const int wrong = fuzz_byte(&from) % 32 == 1;
    kanserve_listen();
    for (int left = fuzz_byte(&from) % MOST_NODES; left >= 0; left--) {
        OrtKernelInfo info = {0};
        made[count] = read_node(&from, &info);
        OrtStatus *status = made[count]->CreateKernelV2(made[count], &api, &info, &kernels[count]);
        for (size_t n = 1; n < info.count; n++) free(info.values[n].data);
        count += status == NULL;
        free(status);
    }
    fuzz_need(kanserve_heard(heard) == count);
    if (count > 0) run_kernels(&from, made, kernels, heard, count, rows, wrong);
    for (int n = 0; n < count; n++) made[n]->KernelDestroy(kernels[n]);
    return 0;
}
