#include "served_models.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    served_model *model; /* NULL: free */
    const char *name;    /* or an alias */
    size_t length;
    int64_t version;     /* 0: for requests without one */
    int64_t draws_below; /* those that it answers */
} entry;

struct model_table {
    atomic_int references;
    served_model *models;
    size_t count;
    char *texts;
    double *ranges;
    entry *entries;
    size_t mask; /* one less than the number of entries, a power of two */
    uint32_t draws;
};

static size_t hash(const uint8_t *name, size_t length, int64_t version)
{
    uint64_t value = 1469598103934665603u ^ (uint64_t)version; /* FNV-1a */
    for (size_t i = 0; i < length; i++) value = (value ^ name[i]) * 1099511628211u;
    return (size_t)(value ^ value >> 29);
}

/* The length of texts one after another, each ended by 0. */
static size_t texts_length(const char *texts, int count)
{
    size_t length = 0;
    for (int i = 0; i < count; i++) length += strlen(texts + length) + 1;
    return length;
}

static void insert(model_table *table, const char *name, served_model *model, int64_t version, int64_t draws_below)
{
    size_t length = strlen(name);
    size_t at = hash((const uint8_t *)name, length, version) & table->mask;
    while (table->entries[at].model) at = (at + 1) & table->mask;
    table->entries[at] = (entry){model, name, length, version, draws_below};
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
    size_t entries = 8, names = 0, texts = 1, ranges = 1;
    for (size_t i = 0; i < count; i++) names += 2 + (size_t)models[i].alias_count;
    while (entries < 2 * names) entries *= 2; /* half of them free */
    for (size_t i = 0; i < count; i++) {
        texts += strlen(models[i].name) + 1 + texts_length(models[i].labels, models[i].classes);
        texts += texts_length(models[i].aliases, models[i].alias_count);
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
        size_t name = strlen(models[i].name) + 1, labels = texts_length(models[i].labels, models[i].classes);
        model->name = memcpy(text, models[i].name, name);
        text += name;
        if (labels) model->labels = memcpy(text, models[i].labels, labels);
        text += labels;
        size_t aliases = texts_length(models[i].aliases, models[i].alias_count);
        if (aliases) memcpy(text, models[i].aliases, aliases);
        for (char *alias = text; alias < text + aliases; alias += strlen(alias) + 1)
            insert(table, alias, model, 0, ALL_DRAWS);
        text += aliases;
        if (model->encodings) {
            model->encodings = memcpy(text, models[i].encodings, (size_t)model->inputs);
            text += model->inputs;
        }
        range = copy_ranges(model, range);
        insert(table, model->name, model, model->version, ALL_DRAWS);
        if (model->draws_below) insert(table, model->name, model, 0, model->draws_below);
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

int64_t table_draw(model_table *table, const uint8_t *id, size_t length)
{
    if (!length) return table ? table->draws += 0x9E3779B9u : 0; /* the golden ratio */
    uint32_t value = 2166136261u;                               /* FNV-1a, and the last steps of MurmurHash 3 */
    for (size_t i = 0; i < length; i++) value = (value ^ id[i]) * 16777619u;
    value = (value ^ value >> 16) * 0x85EBCA6Bu;
    value = (value ^ value >> 13) * 0xC2B2AE35u;
    return value ^ value >> 16;
}

served_model *table_find(const model_table *table, const uint8_t *name, size_t length, int64_t version, int64_t drawn)
{
    if (!table) return NULL;
    for (size_t at = hash(name, length, version) & table->mask;; at = (at + 1) & table->mask) {
        const entry *found = &table->entries[at];
        if (!found->model) return NULL;
        if (found->version == version && found->length == length && drawn < found->draws_below &&
            memcmp(found->name, name, length) == 0)
            return found->model;
    }
}
