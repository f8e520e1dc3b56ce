/* Splines on uniform grids, for either precision: see spline_layer.c, which includes this twice. */

/* `cardinal_bsplines` for any order, by the Cox-de Boor recursion. */
INLINE void TYPED(cardinal_bsplines_of)(int active, REAL t, REAL beyond, REAL values[HIGHEST + 1], REAL slopes[HIGHEST + 1])
{
    values[0] = 1;
#pragma GCC unroll 5
    for (int order = 1; order < active; order++) {
        REAL carried = 0, before = 0;
        if (order == active - 1) /* from the functions of the next lower order */
#pragma GCC unroll 6
            for (int r = 0; r <= order; r++) {
                const REAL here = r < order ? values[r] : 0;
                slopes[r] = before - here;
                before = here;
            }
#pragma GCC unroll 5
        for (int r = 0; r < order; r++) {
            const REAL share = values[r] / (REAL)order;
            values[r] = carried + ((REAL)(r + 1) - t) * share;
            carried = (t + (REAL)(order - r - 1)) * share;
        }
        values[order] = carried;
    }
#pragma GCC unroll 6
    for (int r = 0; r < active; r++)
        values[r] += beyond * slopes[r];
}
