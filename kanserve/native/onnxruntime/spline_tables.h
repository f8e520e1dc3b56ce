/* A prepared layer, for either precision: see spline_layer.c, which includes this twice.

Only inputs with splines or base weights are stored, `used` of them; if these are not all, `chosen` lists them. */

struct TYPED(kanserve_prepared) {
    int64_t inputs, used, subnodes, padded, nodes;
    int64_t *chosen;
    int kind, linear, base;
    int64_t active;        /* order + 1 */
    int64_t rows, each;    /* rows of an input, without the base weights; numbers of an input */
    int64_t period;        /* values after which the inputs repeat, a multiple of a vector: see `places` */
    REAL *bias;            /* (padded) */
    REAL *table;           /* (used, each): subnodes in groups of GROUP vectors, each (rows + base, group) */

    /* Normalisation (inputs): subtract input_shift, then divide by input_scale; NULL for none. */
    REAL *input_shift, *input_scale;

    /* Uniform grids, (5, period): the origin, the leading bits of the step, the rest of the step, 1/step, and the
    rounding error of the origin. */
    REAL *places;
    REAL shift, last; /* added to a number of steps; the last interval */

    /* Pieces: breaks (used, pieces - 1) unless the grid is uniform, origins (used, pieces). */
    int64_t pieces;
    REAL *breaks, *origins, reach;
    /* LocalBasis: the first row of each piece, and its polynomials (order + 1 powers, order + 1 rows). */
    int32_t *first;
    REAL *polynomials;

    /* Products: the subnodes of each node (nodes, arity); NULL if there are no products. */
    int64_t arity, *groups;
    REAL *node_scale, *node_bias;
};

/* The address of (row, subnode) in an input's part of the table. */
static REAL *TYPED(spot)(const struct TYPED(kanserve_prepared) *layer, REAL *own, int64_t row, int64_t subnode)
{
    const int64_t group = GROUP * LANES, o = subnode / group * group, rows = layer->each / layer->padded;
    return own + o * rows + row * least(layer->padded - o, group) + subnode - o;
}

int64_t TYPED(kanserve_inputs)(const struct TYPED(kanserve_prepared) *layer)
{
    return layer->inputs;
}

int64_t TYPED(kanserve_nodes)(const struct TYPED(kanserve_prepared) *layer)
{
    return layer->nodes;
}

void TYPED(kanserve_release)(struct TYPED(kanserve_prepared) *layer)
{
    if (layer == NULL)
        return;
    free(layer->chosen);
    free(layer->bias);
    free(layer->table);
    free(layer->input_shift);
    free(layer->input_scale);
    free(layer->places);
    free(layer->breaks);
    free(layer->origins);
    free(layer->first);
    free(layer->polynomials);
    free(layer->groups);
    free(layer->node_scale);
    free(layer->node_bias);
    free(layer);
}
