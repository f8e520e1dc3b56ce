/* Preparation common to all kinds of layers, for either precision: see spline_layer.c, which includes this twice.

Each function returns NULL, or the reason why the description is invalid. Sizes come from existing tables, so their
products cannot overflow before `room` checks them. */

/* The inputs with splines in the file. */
typedef struct {
    const int64_t *inputs; /* NULL: all */
    int64_t count;
} TYPED(source);

static REAL *TYPED(zeros)(int64_t count)
{
    REAL *made = aligned(count * (int64_t)sizeof(REAL));
    if (made != NULL)
        memset(made, 0, (size_t)count * sizeof(REAL));
    return made;
}

/* Read which inputs have splines in the tables. */
static const char *TYPED(take_inputs)(
    const kanserve_description *description, int64_t inputs, TYPED(source) *source)
{
    const kanserve_table *table = find(description, "spline_inputs");
    source->count = inputs;
    source->inputs = NULL;
    if (table == NULL)
        return NULL;
    if (!table->indices || table->rank != 1 || table->count < 1 || table->count > inputs)
        return "spline_inputs must be a list of inputs";
    source->count = table->count;
    source->inputs = table->data;
    for (int64_t s = 0; s < source->count; s++)
        if (source->inputs[s] < (s > 0 ? source->inputs[s - 1] + 1 : 0) || source->inputs[s] >= inputs)
            return "spline_inputs must be inputs in their order";
    return NULL;
}

/* Find the used inputs, and the number of each one's spline, or -1. */
static const char *TYPED(choose)(struct TYPED(kanserve_prepared) *layer, const TYPED(source) *source,
    const REAL *weights, int64_t **splines)
{
    const int64_t inputs = layer->inputs;
    int with_base = 0;
    layer->chosen = malloc((size_t)inputs * sizeof(int64_t));
    *splines = malloc((size_t)inputs * sizeof(int64_t));
    if (layer->chosen == NULL || *splines == NULL)
        return no_memory;
    for (int64_t i = 0, s = 0; i < inputs; i++) {
        const int has = s < source->count && (source->inputs == NULL || source->inputs[s] == i);
        int weighs = 0;
        for (int64_t j = 0; j < layer->subnodes; j++)
            weighs |= weights[i * layer->subnodes + j] != 0;
        with_base |= weighs;
        if (has || weighs) {
            (*splines)[layer->used] = has ? s : -1;
            layer->chosen[layer->used++] = i;
        }
        s += has;
    }
    if (layer->used == inputs) {
        free(layer->chosen);
        layer->chosen = NULL;
    }
    if (with_base && layer->base == KANSERVE_ZERO)
        return "there are base weights without a base function";
    if (!with_base)
        layer->base = KANSERVE_ZERO;
    return NULL;
}

/* Allocate the layer's table with zeros. */
static const char *TYPED(room)(
    const kanserve_description *description, struct TYPED(kanserve_prepared) *layer, int64_t rows)
{
    double there = 0;
    for (int64_t n = 0; n < description->count; n++)
        there += (double)description->tables[n].count;
    if (rows > MOST_ROWS
        || (double)layer->used * (double)(rows + 1) * (double)layer->padded > LARGER * (there + 1024))
        return "the layer would take far more memory than its tables";
    layer->rows = rows;
    layer->each = (rows + (layer->base != KANSERVE_ZERO)) * layer->padded;
    layer->table = TYPED(zeros)(layer->used * layer->each);
    return layer->table == NULL ? no_memory : NULL;
}

static void TYPED(put)(struct TYPED(kanserve_prepared) *layer, int64_t input, int64_t row, const REAL *values,
    double factor)
{
    REAL *own = layer->table + input * layer->each;
    for (int64_t j = 0; j < layer->subnodes; j++)
        *TYPED(spot)(layer, own, row, j) = (REAL)(factor * (double)values[j]);
}
