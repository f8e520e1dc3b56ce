"""The fixed text of the second derivatives in C, with the placeholders of `c_template`."""

HEADER = """
#ifndef @NO_GRADIENT
/* The second derivatives of the outputs by the raw inputs at x: the one of output q by inputs a and b at
 * d2y_dx2[(q*@N_IN + a)*@N_IN + b]; and the outputs y and derivatives dy_dx as from @gradient, up to rounding, unless
 * these are null. Codes are those of @gradient. A row whose second derivatives alone are not finite, as those of
 * x^(4/3) at 0, keeps its outputs and derivatives; where they jump at a knot, they are those to the right. */
int @hessian(const @real x[@N_IN], @real *y, @real *dy_dx, @real d2y_dx2[@N_OUT*@N_IN*@N_IN]);

/* The same for many rows; strides count elements from row to row. The result is the first code that is not OK. */
int @hessian_batch(const @real *x, size_t rows, size_t x_stride, @real *y, size_t y_stride, @real *dy_dx,
                   size_t dy_dx_stride, @real *d2y_dx2, size_t d2y_dx2_stride);
#endif
"""

FAIL = """
static int @fail_hessian(@real *y, @real *dy_dx, @real *d2y_dx2, int code)
{
    int n;
    for (n = 0; n < @N_OUT*@N_IN*@N_IN; n++) d2y_dx2[n] = (@real)NAN;
    return dy_dx ? @fail_gradient(y, dy_dx, code) : y ? @fail(y, code) : code;
}
"""

BACK = """
/* to[N_OUT x inputs]: what each subnode counts for an output, [N_OUT x subnodes], times slopes, [inputs x subnodes]. */
static @HOT void @back(@real *to, const @real *from, const @real *slopes, int inputs, int subnodes)
{
    int q, i;
    for (q = 0; q < @N_OUT; q++) {
        for (i = 0; i < inputs; i++) to[q*inputs + i] = @dot(&from[q*subnodes], &slopes[i*subnodes], subnodes);
    }
}
"""

TURN = """
/* to[subnodes x N_IN]: the derivatives of the first layer's subnodes by its inputs. */
static void @turn(@real *to, const @real *slopes, int subnodes)
{
    int j, a;
    for (j = 0; j < subnodes; j++) {
        for (a = 0; a < @N_IN; a++) to[j*@N_IN + a] = slopes[a*subnodes + j];
    }
}
"""

ONWARD = """
/* to[subnodes x N_IN]: the derivatives of a layer's subnodes by the network's inputs, from those of its own inputs. */
static @HOT void @onward(@real *to, const @real *from, const @real *slopes, int inputs, int subnodes)
{
    int i, j, a;
    for (i = 0; i < subnodes*@N_IN; i++) to[i] = 0;
    for (i = 0; i < inputs; i++) {
        for (j = 0; j < subnodes; j++) {
            const @real slope = slopes[i*subnodes + j];
            for (a = 0; a < @N_IN; a++) to[j*@N_IN + a] += slope*from[i*@N_IN + a];
        }
    }
}
"""

CURVE = """
/* Adds a layer's edges: of output q by inputs a >= b the sum of weights[q x inputs]*slopes[i][a]*slopes[i][b]. */
static @HOT void @curve(@real *d2y_dx2, const @real *weights, const @real *slopes, int inputs)
{
    int q, i, a, b;
    for (q = 0; q < @N_OUT; q++) {
        for (i = 0; i < inputs; i++) {
            const @real *slope = &slopes[i*@N_IN];
            for (a = 0; a < @N_IN; a++) {
                const @real factor = weights[q*inputs + i]*slope[a];
                @real *to = &d2y_dx2[(q*@N_IN + a)*@N_IN];
                for (b = 0; b <= a; b++) to[b] += factor*slope[b];
            }
        }
    }
}
"""

MIX = """
/* to[N_OUT x pairs]: what the second derivative of a node by two of its subnodes counts for each output. */
static void @weigh(@real *to, const @real *from, const @real *crosses, const int *pairs, int count, int nodes)
{
    int q, n;
    for (q = 0; q < @N_OUT; q++) {
        for (n = 0; n < count; n++) to[q*count + n] = from[q*nodes + pairs[3*n]]*crosses[n];
    }
}

/* Adds a layer's products, by the weights of their pairs and the derivatives of the subnodes. */
static void @mix(@real *d2y_dx2, const @real *weights, const @real *slopes, const int *pairs, int count)
{
    int q, n, a, b;
    for (q = 0; q < @N_OUT; q++) {
        for (n = 0; n < count; n++) {
            const @real *one = &slopes[pairs[3*n + 1]*@N_IN];
            const @real *other = &slopes[pairs[3*n + 2]*@N_IN];
            const @real weight = weights[q*count + n];
            for (a = 0; a < @N_IN; a++) {
                @real *to = &d2y_dx2[(q*@N_IN + a)*@N_IN];
                for (b = 0; b <= a; b++) to[b] += weight*(one[a]*other[b] + other[a]*one[b]);
            }
        }
    }
}
"""

MIRROR = """
/* Both halves from the lower one, in raw units. */
static void @mirror(@real *d2y_dx2)
{{
    int q, a, b;
    for (q = 0; q < @N_OUT; q++) {{
        @real *to = &d2y_dx2[q*@N_IN*@N_IN];
        for (a = 0; a < @N_IN; a++) {{
{units}            for (b = 0; b < a; b++) to[b*@N_IN + a] = to[a*@N_IN + b];
        }}
    }}
}}
"""

HESSIAN = """
int @hessian(const @real x[@N_IN], @real *y, @real *dy_dx, @real d2y_dx2[@N_OUT*@N_IN*@N_IN])
{
    if (!x || !d2y_dx2) return @ERROR_NULL;
    return @hessian_row(x, y, dy_dx, d2y_dx2);
}

int @hessian_batch(const @real *x, size_t rows, size_t x_stride, @real *y, size_t y_stride, @real *dy_dx,
                   size_t dy_dx_stride, @real *d2y_dx2, size_t d2y_dx2_stride)
{
    const size_t most = (size_t)-1/sizeof(@real);
    int first = @OK;
    size_t n;
    if (x_stride < @N_IN || (y && y_stride < @N_OUT)) return @ERROR_SIZE;
    if ((dy_dx && dy_dx_stride/@N_IN < @N_OUT) || d2y_dx2_stride/@N_IN/@N_IN < @N_OUT) return @ERROR_SIZE;
    if (rows > most/x_stride || rows > most/d2y_dx2_stride) return @ERROR_SIZE;
    if ((y && rows > most/y_stride) || (dy_dx && rows > most/dy_dx_stride)) return @ERROR_SIZE;
    if (rows > 0 && (!x || !d2y_dx2)) return @ERROR_NULL;
    for (n = 0; n < rows; n++) {
        const int code = @hessian_row(x + n*x_stride, y ? y + n*y_stride : 0, dy_dx ? dy_dx + n*dy_dx_stride : 0,
            d2y_dx2 + n*d2y_dx2_stride);
        if (first == @OK) first = code;
    }
    return first;
}
"""
