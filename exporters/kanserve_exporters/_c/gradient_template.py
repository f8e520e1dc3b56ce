"""The fixed text of the gradient in C, with the placeholders of `c_template`."""

HEADER = """
#ifndef @NO_GRADIENT
/* The derivatives of the outputs by the raw inputs at x, the one of output q by input i at dy_dx[q*@N_IN + i]; of a
 * classifier those of its scores. Codes are those of @predict, and a bad row's derivatives are all NaN; a derivative
 * that is not finite, as that of a root at 0, is ERROR_RESULT. At a kink it is the slope to the right. */
int @gradient(const @real x[@N_IN], @real dy_dx[@N_OUT*@N_IN]);

/* The same for many rows, with their outputs, unless y is null; strides count elements from row to row. A row whose
 * derivative alone is not finite keeps its outputs. The result is the first code that is not OK. */
int @gradient_batch(const @real *x, size_t rows, size_t x_stride, @real *y, size_t y_stride, @real *dy_dx,
                    size_t dy_dx_stride);
#endif
"""

ALONG = """
/* to += slope*from, for {count} numbers at equal steps. */
{apart}static void @along(@real *to, int to_step, @real slope, const @real *from, int from_step)
{{
    int c;
    for (c = 0; c < {count}; c++) to[c*to_step] += slope*from[c*from_step];
}}
"""

APART = """\
#if defined @FAST && defined __GNUC__
__attribute__((noinline))
#endif
"""

DOT = """
/* The sum of a[n]*b[n], in four parts so that none waits for the other. */
static @real @dot(const @real *a, const @real *b, int count)
{
    @real s0 = 0;
    @real s1 = 0;
    @real s2 = 0;
    @real s3 = 0;
    int n;
    for (n = 0; n + 3 < count; n += 4) {
        s0 += a[n]*b[n];
        s1 += a[n + 1]*b[n + 1];
        s2 += a[n + 2]*b[n + 2];
        s3 += a[n + 3]*b[n + 3];
    }
    for (; n < count; n++) s0 += a[n]*b[n];
    return (s0 + s1) + (s2 + s3);
}
"""

FAIL = """
static int @fail_gradient(@real *y, @real *dy_dx, int code)
{
    int n;
    for (n = 0; n < @N_OUT*@N_IN; n++) dy_dx[n] = (@real)NAN;
    return y ? @fail(y, code) : code;
}
"""

GRADIENT = """
int @gradient(const @real x[@N_IN], @real dy_dx[@N_OUT*@N_IN])
{
    if (!x || !dy_dx) return @ERROR_NULL;
    return @gradient_row(x, 0, dy_dx);
}
"""

GRADIENT_BATCH = """
int @gradient_batch(const @real *x, size_t rows, size_t x_stride, @real *y, size_t y_stride, @real *dy_dx,
                    size_t dy_dx_stride)
{
    const size_t most = (size_t)-1/sizeof(@real);
    int first = @OK;
    size_t n;
    if (x_stride < @N_IN || (y && y_stride < @N_OUT)) return @ERROR_SIZE;
    if (dy_dx_stride/@N_IN < @N_OUT) return @ERROR_SIZE;
    if (rows > most/x_stride || rows > most/dy_dx_stride || (y && rows > most/y_stride)) return @ERROR_SIZE;
    if (rows > 0 && (!x || !dy_dx)) return @ERROR_NULL;
    for (n = 0; n < rows; n++) {
        const int code = @gradient_row(x + n*x_stride, y ? y + n*y_stride : 0, dy_dx + n*dy_dx_stride);
        if (first == @OK) first = code;
    }
    return first;
}
"""

JOIN = """
/* to[nodes x columns], the nodes' derivatives of the subnodes' ones; node is the one that a subnode belongs to. */
static void @join(@real *to, const @real *from, const @real *factors, const int *node, int subnodes, int columns)
{
    int last = -1;
    int j;
    for (j = 0; j < subnodes; j++) {
        @real *sum = &to[node[j]*columns];
        int c;
        for (c = 0; c < columns; c++) {
            const @real value = factors[j]*from[j*columns + c];
            sum[c] = node[j] == last ? sum[c] + value : value;
        }
        last = node[j];
    }
}
"""

PART = """
/* to[rows x subnodes], the outputs' derivatives by the subnodes from those by the nodes. */
static void @part(@real *to, const @real *from, const @real *factors, const int *node, int subnodes, int nodes)
{
    int c;
    for (c = 0; c < @N_OUT; c++) {
        int j;
        for (j = 0; j < subnodes; j++) to[c*subnodes + j] = factors[j]*from[c*nodes + node[j]];
    }
}
"""
