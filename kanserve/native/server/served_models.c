#include "served_models.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    served_model *model; /* NULL: free */
    uint32_t length;     /* of its name */
    int64_t version;     /* 0: whichever is the newest */
} entry;

struct model_table {
    atomic_int references;
    served_model *models;
    size_t count;
    char *texts;
    double *ranges;
    entry *entries;
    size_t mask; /* one less than the number of entries, a power of two */
};

static size_t hash(const uint8_t *name, size_t length, int64_t version)
{
    uint64_t value = 1469598103934665603u ^ (uint64_t)version; /* FNV-1a */
    for (size_t i = 0; i < length; i++) value = (value ^ name[i]) * 1099511628211u;
    return (size_t)(value ^ value >> 29);
}

static size_t labels_length(const served_model *model)
{
    size_t length = 0;
    for (int i = 0; i < model->classes; i++) length += strlen(model->labels + length) + 1;
    return length;
}

static void insert(model_table *table, served_model *model, int64_t version)
{
    size_t length = strlen(model->name);
    size_t at = hash((const uint8_t *)model->name, length, version) & table->mask;
    while (table->entries[at].model) at = (at + 1) & table->mask;
    table->entries[at] = (entry){model, (uint32_t)length, version};
}

int input_is_inside(const served_model *model, int input, double value, double low, double high)
{
    if (!model->encodings) return value >= low && value <= high;
    if (isnan(value)) return model->encodings[input] & INPUT_MAY_BE_MISSING;
    return value >= low && value <= high && (!(model->encodings[input] & INPUT_IS_CATEGORICAL) || value == floor(value));
}

/* Copy the training range of a model, for rows of both types; returns the end of the copy. */
static double *copy_ranges(served_model *model, double *to)
{
    size_t inputs = (size_t)model->inputs;
    for (int single = 0; single < 2; single++) {
        size_t bytes = inputs * (single ? sizeof(float) : sizeof(double));
        model->low[single] = memcpy(to, model->low[single], bytes);
        to += inputs;
        model->high[single] = memcpy(to, model->high[single], bytes);
        to += inputs;
    }
    return to;
}

model_table *table_new(const served_model *models, size_t count)
{
    model_table *table = calloc(1, sizeof *table);
    if (!table) return NULL;
    size_t entries = 8, texts = 1, ranges = 1;
    while (entries < 4 * count) entries *= 2; /* two for each model, half of them free */
    for (size_t i = 0; i < count; i++) {
        texts += strlen(models[i].name) + 1 + labels_length(&models[i]);
        texts += models[i].encodings ? (size_t)models[i].inputs : 0;
        ranges += 4 * (size_t)models[i].inputs;
    }
    atomic_init(&table->references, 1);
    table->entries = calloc(entries, sizeof *table->entries);
    table->models = calloc(count + 1, sizeof *table->models);
    table->texts = calloc(texts, 1);
    table->ranges = calloc(ranges, sizeof *table->ranges);
    table->mask = entries - 1;
    table->count = count;
    if (!table->entries || !table->models || !table->texts || !table->ranges) {
        table_release(table);
        return NULL;
    }
    char *text = table->texts;
    double *range = table->ranges;
    for (size_t i = 0; i < count; i++) {
        served_model *model = &table->models[i];
        *model = models[i];
        size_t name = strlen(models[i].name) + 1, labels = labels_length(&models[i]);
        model->name = memcpy(text, models[i].name, name);
        text += name;
        if (labels) model->labels = memcpy(text, models[i].labels, labels);
        text += labels;
        if (model->encodings) {
            model->encodings = memcpy(text, models[i].encodings, (size_t)model->inputs);
            text += model->inputs;
        }
        range = copy_ranges(model, range);
        insert(table, model, model->version);
        if (model->newest) insert(table, model, 0);
    }
    return table;
}

model_table *table_retain(model_table *table)
{
    atomic_fetch_add(&table->references, 1);
    return table;
}

void table_release(model_table *table)
{
    if (!table || atomic_fetch_sub(&table->references, 1) > 1) return;
    free(table->models);
    free(table->texts);
    free(table->ranges);
    free(table->entries);
    free(table);
}

int table_version(const uint8_t *text, size_t length, int64_t *version)
{
    *version = 0;
    if (length == 0) return 1;
    if (length > 9 || text[0] == '0') return 0;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9') return 0;
        *version = 10 * *version + (text[i] - '0');
    }
    return 1;
}

served_model *table_find(const model_table *table, const uint8_t *name, size_t length, int64_t version)
{
    if (!table) return NULL;
    for (size_t at = hash(name, length, version) & table->mask;; at = (at + 1) & table->mask) {
        const entry *found = &table->entries[at];
        if (!found->model) return NULL;
        if (found->version == version && found->length == length && memcmp(found->model->name, name, length) == 0)
            return found->model;
    }
}
