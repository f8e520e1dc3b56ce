"""The fixed text of the gradient in C, with the placeholders of `c_template`."""

HEADER = """
#ifndef @NO_GRADIENT
/* The derivatives of the outputs by the raw inputs at x, the one of output q by input i at dy_dx[q*@N_IN + i]; of a
 * classifier those of its scores. Codes are those of @predict, and a bad row's derivatives are all NaN; a derivative
 * that is not finite, as that of a root at 0, is ERROR_RESULT. At a kink it is the slope to the right. */
int @gradient(const @real x[@N_IN], @real dy_dx[@N_OUT*@N_IN]);
#endif
"""

ALONG = """
/* to += slope*from, for {count} numbers at equal steps. */
static void @along(@real *to, int to_step, @real slope, const @real *from, int from_step)
{{
    int c;
    for (c = 0; c < {count}; c++) to[c*to_step] += slope*from[c*from_step];
}}
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
static int @fail_gradient(@real *dy_dx, int code)
{
    int n;
    for (n = 0; n < @N_OUT*@N_IN; n++) dy_dx[n] = (@real)NAN;
    return code;
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
