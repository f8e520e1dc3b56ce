/* What a prepared layer is, for either precision: see spline_layer.c, which includes this twice.

Inputs are those with splines or base weights, `used` of them; where that is not all, `chosen` says which. */

struct TYPED(kanserve_prepared) {
    int64_t inputs, used, subnodes, padded, nodes;
    int64_t *chosen;
    int kind, linear, base;
    int64_t active;        /* order + 1 */
    int64_t rows, each;    /* of an input, base weights not counted; its numbers */
    int64_t period;        /* values after which the inputs begin again, whole vectors: see `places` */
    REAL *bias;            /* (padded) */
    REAL *table;           /* (used, each): subnodes in groups of GROUP vectors, each (rows + base, group) */

    /* What is subtracted from the inputs, and what they are divided by then (inputs); NULL: they come as they are. */
    REAL *input_shift, *input_scale;

    /* Equal steps, (5, period): where counting begins, the step in its leading bits, the rest of it, 1/step, and what
    rounding took from the first. */
    REAL *places;
    REAL shift, last; /* what is added to a count of steps; the last interval */

    /* Pieces: breaks (used, pieces - 1) unless the steps are equal, origins (used, pieces). */
    int64_t pieces;
    REAL *breaks, *origins, reach;
    /* LocalBasis: the first row of each piece, and its polynomials (order + 1 powers, order + 1 rows). */
    int32_t *first;
    REAL *polynomials;

    /* Products: the subnodes of each node (nodes, arity); NULL where nodes are subnodes. */
    int64_t arity, *groups;
    REAL *node_scale, *node_bias;
};

/* The number of the table that stands at (row, subnode) of an input's own. */
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
