/* Prepare a layer from its description, for either precision: see spline_layer.c, which includes this twice. */

static const char *TYPED(take_nodes)(
    const kanserve_description *description, struct TYPED(kanserve_prepared) *layer)
{
    const kanserve_table *table = find(description, "groups");
    layer->nodes = layer->subnodes;
    if (table == NULL)
        return NULL;
    if (!table->indices || table->rank != 2 || table->count < 1)
        return "groups must be rows of subnodes";
    const int64_t nodes = layer->nodes = table->sizes[0], count = table->count;
    const REAL *scale = numbers(description, "node_scale", nodes), *bias = numbers(description, "node_bias", nodes);
    if (scale == NULL || bias == NULL)
        return "groups need node_scale and node_bias";
    layer->arity = table->sizes[1];
    layer->groups = malloc((size_t)count * sizeof(int64_t));
    layer->node_scale = TYPED(zeros)(nodes);
    layer->node_bias = TYPED(zeros)(nodes);
    if (layer->groups == NULL || layer->node_scale == NULL || layer->node_bias == NULL)
        return no_memory;
    memcpy(layer->groups, table->data, (size_t)count * sizeof(int64_t));
    memcpy(layer->node_scale, scale, (size_t)nodes * sizeof(REAL));
    memcpy(layer->node_bias, bias, (size_t)nodes * sizeof(REAL));
    for (int64_t n = 0; n < count; n++)
        if (layer->groups[n] < 0 || layer->groups[n] >= layer->subnodes)
            return "groups must be rows of subnodes";
    return NULL;
}

static const char *TYPED(take_affine)(
    const kanserve_description *description, struct TYPED(kanserve_prepared) *layer)
{
    const int64_t inputs = layer->inputs;
    const REAL *shift = numbers(description, "input_shift", inputs);
    const REAL *scale = numbers(description, "input_scale", inputs);
    if (find(description, "input_shift") == NULL && find(description, "input_scale") == NULL)
        return NULL;
    if (shift == NULL || scale == NULL)
        return "there must be an input_shift and an input_scale for each input";
    layer->input_shift = TYPED(zeros)(inputs);
    layer->input_scale = TYPED(zeros)(inputs);
    if (layer->input_shift == NULL || layer->input_scale == NULL)
        return no_memory;
    memcpy(layer->input_shift, shift, (size_t)inputs * sizeof(REAL));
    memcpy(layer->input_scale, scale, (size_t)inputs * sizeof(REAL));
    return NULL;
}

static const char *TYPED(fill)(const kanserve_description *description, struct TYPED(kanserve_prepared) *layer,
    int64_t **splines)
{
    int64_t features;
    TYPED(source) source;
    const char *why;
    if (description->order < 1 || description->order > KANSERVE_LARGEST_ORDER)
        return "the order must be from 1 to 8";
    if (!matrix(description, "weights", &features, &layer->subnodes))
        return "weights must be a matrix";
    const REAL *weights = find(description, "weights")->data, *bias = numbers(description, "bias", layer->subnodes);
    const kanserve_table *beyond = find(description, "lowest"), *own = find(description, "spline_inputs");
    if (bias == NULL)
        return "there must be a bias for each column of weights";
    layer->kind = description->kind;
    layer->base = description->base;
    layer->active = description->order + 1;
    layer->padded = TYPED(padded)(layer->subnodes);
    /* Linear extrapolation adds two features for each input with splines. */
    layer->inputs = beyond == NULL || layer->kind != KANSERVE_CARDINAL ? features
        : own == NULL ? features / 3 : features - 2 * own->count;
    if (layer->inputs < 1)
        return "there must be inputs";
    layer->bias = TYPED(zeros)(layer->padded);
    if (layer->bias == NULL)
        return no_memory;
    memcpy(layer->bias, bias, (size_t)layer->subnodes * sizeof(REAL));
    if ((why = TYPED(take_affine)(description, layer)) != NULL
        || (why = TYPED(take_inputs)(description, layer->inputs, &source)) != NULL
        || (why = TYPED(choose)(layer, &source, weights, splines)) != NULL
        || (why = layer->kind == KANSERVE_CARDINAL
                ? TYPED(prepare_cardinal)(description, layer, &source, *splines, weights, features)
                : TYPED(take_pieces)(description, layer, &source, *splines)) != NULL)
        return why;
    for (int64_t i = 0; layer->base != KANSERVE_ZERO && i < layer->used; i++) {
        const int64_t input = layer->chosen == NULL ? i : layer->chosen[i];
        TYPED(put)(layer, i, layer->rows, weights + input * layer->subnodes, 1);
    }
    return TYPED(take_nodes)(description, layer);
}

struct TYPED(kanserve_prepared) *TYPED(kanserve_prepare)(const kanserve_description *description, const char **why)
{
    struct TYPED(kanserve_prepared) *layer = calloc(1, sizeof *layer);
    int64_t *splines = NULL;
    *why = layer == NULL ? no_memory : TYPED(fill)(description, layer, &splines);
    free(splines);
    if (*why == NULL)
        return layer;
    TYPED(kanserve_release)(layer);
    return NULL;
}
