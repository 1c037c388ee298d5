/* SPDX-License-Identifier: Apache-2.0
 * test_mod_docs.c: docs/mods.md is true: every row of its table, and every example at the place below it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "mod/eval.h"

static float slopes_data[32], table_data[32 * 32];
static i32 doc_data[2 * 64] = { 7, 7, 7, 7, 8 };
static i64 prefix_data[] = { 0, 10 };
static i64 slopes_shape[] = { 32 }, table_shape[] = { 32, 32 }, doc_shape[] = { 2, 64 }, prefix_shape[] = { 2 };

#define TENSOR(data_, code_, bits_, ndim_, shape_)                        \
    {                                                                     \
        data_, { kDLCPU, 0 }, ndim_, { code_, bits_, 1 }, shape_, NULL, 0 \
    }
static const DLTensor slopes = TENSOR(slopes_data, kDLFloat, 32, 1, slopes_shape);
static const DLTensor table = TENSOR(table_data, kDLFloat, 32, 2, table_shape);
static const DLTensor doc = TENSOR(doc_data, kDLInt, 32, 2, doc_shape);
static const DLTensor prefix = TENSOR(prefix_data, kDLInt, 64, 1, prefix_shape);
static const folio_mod_capture captures[] = {
    { .name = "slopes", .tensor = &slopes },
    { .name = "table", .tensor = &table },
    { .name = "doc", .tensor = &doc },
    { .name = "prefix", .tensor = &prefix },
};

static const struct mod_env usual_place = { .leaf = { 1, 5, 2, 7, 11, 20, 30, 17 }, .score = 2.5f };

/* Docs stand beside the tests. */
static char *read_document(void)
{
    char path[1024];
    snprintf(path, sizeof path, "%s", __FILE__);
    char *slash = strrchr(path, '/');
    assert_non_null(slash);
    snprintf(slash, sizeof path - (size_t)(slash - path), "/../docs/mods.md");
    FILE *file = fopen(path, "rb");
    if (!file)
        fail_msg("%s is missing", path);
    char *text = calloc(1, 1 << 16);
    assert_non_null(text);
    assert_true(fread(text, 1, (1 << 16) - 1, file) > 1000);
    fclose(file);
    return text;
}

/* A score or a mask, whichever the text is, as "1.5", "true" ... */
static void evaluate(const char *text, const struct mod_env *env, char *answer, size_t n)
{
    struct mod_result results[FOLIO_MOD_MAX_STEPS];
    folio_mod *mod = NULL;
    if (folio_mod_create(&mod, FOLIO_MOD_MASK, text, captures, COUNT_OF(captures)) == FOLIO_OK) {
        snprintf(answer, n, "%s", folio__mod_eval(&mod->program, env, results).value.i ? "true" : "false");
        folio_mod_destroy(&mod);
        return;
    }
    if (folio_mod_create(&mod, FOLIO_MOD_SCORE, text, captures, COUNT_OF(captures)) != FOLIO_OK)
        fail_msg("%s: %s", text, folio_last_error());
    const struct mod_result result = folio__mod_eval(&mod->program, env, results);
    assert_false(result.poison);
    const struct mod_step *last = &mod->program.steps[mod->program.result];
    if (last->op == MOD_F_OF_I) /* before it became a score */
        snprintf(answer, n, "%lld", (long long)results[last->arg[0]].value.i);
    else
        snprintf(answer, n, "%.9g", (double)result.value.f);
    folio_mod_destroy(&mod);
}

/* An i64 constant is folded to f32 with the score: compare as numbers then. */
static bool same(const char *got, const char *wanted)
{
    if (strcmp(got, wanted) == 0)
        return true;
    char *got_end, *wanted_end;
    const float x = strtof(got, &got_end), y = strtof(wanted, &wanted_end);
    return !*got_end && !*wanted_end && x == y;
}

static void every_row_of_the_table_is_true(void **state)
{
    (void)state;
    char *document = read_document(), *rest = strstr(document, "| expression | gives |");
    assert_non_null(rest);
    i32 n_rows = 0;
    for (char *line = strtok(rest, "\n"); line && line[0] == '|'; line = strtok(NULL, "\n")) {
        char expression[256], wanted[64], got[64];
        if (sscanf(line, "| `%255[^`]` | `%63[^`]`", expression, wanted) != 2)
            continue;
        evaluate(expression, &usual_place, got, sizeof got);
        if (!same(got, wanted))
            fail_msg("%s: the document says %s, it is %s", expression, wanted, got);
        n_rows++;
    }
    assert_int_equal(n_rows, 19);
    free(document);
}

/* "At slopes[h] 0.5, score 1, pos 10, kv 6: -1" */
static void read_place(char *line, struct mod_env *env, char *wanted, size_t n)
{
    static const char *const names[] = { "b", "h", "hk", "q", "kv", "q_len", "kv_len", "pos" };
    char *colon = strrchr(line, ':');
    assert_non_null(colon);
    *colon = '\0';
    snprintf(wanted, n, "%s", colon + 2);
    for (char *part = strtok(line + 3, ","); part; part = strtok(NULL, ",")) {
        char name[32];
        float value;
        assert_int_equal(sscanf(part, " %31s %f", name, &value), 2);
        for (size_t i = 0; i < COUNT_OF(names); i++)
            if (strcmp(name, names[i]) == 0)
                env->leaf[i] = (i64)value;
        if (strcmp(name, "score") == 0)
            env->score = value;
        for (size_t i = 0; strcmp(name, "slopes[h]") == 0 && i < COUNT_OF(slopes_data); i++)
            slopes_data[i] = value;
    }
}

static void every_example_gives_what_stands_below_it(void **state)
{
    (void)state;
    for (i32 i = 0; i < 32 * 32; i++)
        table_data[i] = (float)(i % 32);
    char *document = read_document();
    i32 n_examples = 0;
    for (char *at = strstr(document, "## Examples"); (at = strstr(at, "```")) != NULL;) {
        const bool example = strncmp(at, "```score\n", 9) == 0 || strncmp(at, "```mask\n", 8) == 0;
        char *text = strchr(at, '\n') + 1, *end = strstr(text, "```");
        assert_non_null(end);
        at = end + 3;
        if (!example)
            continue;
        *end = '\0';
        char *line = strchr(at, '\n') + 1, *line_end = strchr(line, '\n');
        assert_true(strncmp(line, "At ", 3) == 0);
        *line_end = '\0';
        at = line_end + 1;
        struct mod_env env = usual_place;
        char wanted[64], got[64];
        read_place(line, &env, wanted, sizeof wanted);
        evaluate(text, &env, got, sizeof got);
        if (!same(got, wanted))
            fail_msg("%s: the document says %s, it is %s", text, wanted, got);
        n_examples++;
    }
    assert_int_equal(n_examples, 7);
    free(document);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_of_the_table_is_true),
        cmocka_unit_test(every_example_gives_what_stands_below_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
