/* SPDX-License-Identifier: Apache-2.0
 * mod.c: a folio_mod's life, and what is said about it. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bits.h"
#include "base/status.h"
#include "base/tensor.h"
#include "mod/builder.h"
#include "mod/compile.h"
#include "mod/parser.h"

#define MOD_MAGIC UINT64_C(0x666f6c696f6d6f64)

static bool is_name(const char *name)
{
    size_t n = 0;
    for (; name[n] && n <= FOLIO_MOD_MAX_NAME; n++) {
        const char c = name[n], lower = (char)(c | 0x20);
        const bool letter = (lower >= 'a' && lower <= 'z') || c == '_';
        if (!letter && (n == 0 || c < '0' || c > '9'))
            return false;
    }
    return n > 0 && n <= FOLIO_MOD_MAX_NAME;
}

static folio_status read_capture(struct mod_capture *dst, const folio_mod_capture *src, i32 index)
{
    char argument[FOLIO_MOD_MAX_NAME + 16];
    struct tensor tensor;
    FOLIO_REQUIRE(src->name, FOLIO_EINVAL, "captures[%d].name: NULL", (int)index);
    FOLIO_REQUIRE(is_name(src->name), FOLIO_EINVAL,
                  "captures[%d].name '%.80s': must be letters, digits and _, not a digit first, 1 .. %d characters",
                  (int)index, src->name, FOLIO_MOD_MAX_NAME);
    FOLIO_REQUIRE(!folio__mod_is_reserved(src->name), FOLIO_EINVAL,
                  "captures[%d].name '%s': the language has that name already", (int)index, src->name);
    FOLIO_REQUIRE(src->tensor, FOLIO_EINVAL, "capture %s: its tensor is NULL", src->name);
    FOLIO_REQUIRE((src->flags & ~(u32)FOLIO_CAPTURE_WRAP) == 0, FOLIO_EINVAL,
                  "capture %s: flags 0x%x; allowed FOLIO_CAPTURE_WRAP", src->name, (unsigned)src->flags);
    snprintf(argument, sizeof argument, "capture %s", src->name);
    FOLIO_TRY(folio__tensor_read(&tensor, argument, src->tensor));
    FOLIO_REQUIRE_TYPE(dtype_is_float(tensor.dtype) || dtype_is_index(tensor.dtype) || tensor.dtype == DTYPE_BOOL,
                       "capture %s: dtype %s; allowed f32 f16 bf16 i32 i64 bool", src->name,
                       folio__dtype_name(tensor.dtype));
    FOLIO_REQUIRE(tensor.data || folio__tensor_count(&tensor) == 0, FOLIO_EINVAL,
                  "capture %s: data is NULL with %lld elements", src->name, (long long)folio__tensor_count(&tensor));
    *dst = (struct mod_capture){ .data = tensor.data,
                                 .ndim = tensor.ndim,
                                 .dtype = (i32)tensor.dtype,
                                 .wraps = src->flags & FOLIO_CAPTURE_WRAP,
                                 .device = tensor.device };
    memcpy(dst->name, src->name, strlen(src->name));
    for (i32 dim = 0; dim < tensor.ndim; dim++) {
        dst->shape[dim] = tensor.shape[dim];
        dst->stride[dim] = tensor.stride[dim];
    }
    return FOLIO_OK;
}

static folio_status read_captures(struct mod_program *program, const folio_mod_capture *captures)
{
    for (i32 i = 0; i < program->n_captures; i++) {
        FOLIO_TRY(read_capture(&program->captures[i], &captures[i], i));
        for (i32 earlier = 0; earlier < i; earlier++)
            FOLIO_REQUIRE(strcmp(program->captures[earlier].name, program->captures[i].name) != 0, FOLIO_EINVAL,
                          "captures[%d].name '%s': used twice", (int)i, program->captures[i].name);
    }
    return FOLIO_OK;
}

static folio_status fail_text(const char *text, const struct mod_error *error)
{
    i32 line, column;
    folio__mod_position(text, error->offset, &line, &column);
    return folio__fail(FOLIO_EINVAL, "text: line %d, column %d: %s", (int)line, (int)column, error->message);
}

static folio_status check_kind(folio_mod_kind kind)
{
    FOLIO_REQUIRE(kind == FOLIO_MOD_SCORE || kind == FOLIO_MOD_MASK, FOLIO_EINVAL,
                  "kind %d: must be FOLIO_MOD_SCORE (1) or FOLIO_MOD_MASK (2)", (int)kind);
    return FOLIO_OK;
}

static folio_status check_arguments(folio_mod_kind kind, const char *text, const folio_mod_capture *captures,
                                    i32 n_captures)
{
    FOLIO_TRY(check_kind(kind));
    FOLIO_REQUIRE(text, FOLIO_EINVAL, "text: NULL");
    FOLIO_REQUIRE(strnlen(text, FOLIO_MOD_MAX_TEXT + 1) <= FOLIO_MOD_MAX_TEXT, FOLIO_EINVAL,
                  "text: longer than %d bytes", FOLIO_MOD_MAX_TEXT);
    FOLIO_REQUIRE(n_captures >= 0 && n_captures <= FOLIO_MOD_MAX_CAPTURES, FOLIO_EINVAL,
                  "n_captures %d: must be 0 .. %d", (int)n_captures, FOLIO_MOD_MAX_CAPTURES);
    FOLIO_REQUIRE(captures || n_captures == 0, FOLIO_EINVAL, "captures: NULL with n_captures %d", (int)n_captures);
    return FOLIO_OK;
}

/* Everything of a mod in one block: the mod, its steps, its captures. */
static folio_mod *allocate(folio_mod_kind kind, i32 n_steps, i32 n_captures)
{
    const size_t steps_at = round_up(sizeof(folio_mod), 64);
    const size_t captures_at = round_up(steps_at + (size_t)n_steps * sizeof(struct mod_step), 64);
    u8 *block = folio__alloc_zero(captures_at + (size_t)n_captures * sizeof(struct mod_capture));
    if (!block)
        return NULL;
    folio_mod *mod = (folio_mod *)block;
    mod->magic = MOD_MAGIC;
    mod->program = (struct mod_program){ .kind = (i32)kind,
                                         .n_captures = n_captures,
                                         .steps = (struct mod_step *)(block + steps_at),
                                         .captures = (struct mod_capture *)(block + captures_at) };
    return mod;
}

static folio_status build(struct mod_program *program, struct mod_builder *builder, struct mod_error *error,
                          folio_mod_kind kind, const char *text, const folio_mod_capture *captures)
{
    FOLIO_TRY(read_captures(program, captures));
    builder->captures = program->captures;
    builder->n_captures = program->n_captures;
    builder->n_steps = 0;
    builder->full = false;
    const i32 result = folio__mod_parse(builder, error, kind, text);
    if (result >= 0 && !folio__mod_build_finish(builder, result, program))
        folio__mod_error_at(error, 0, "the mod has more than %d operations", FOLIO_MOD_MAX_STEPS);
    return error->message[0] ? fail_text(text, error) : FOLIO_OK;
}

folio_status folio__mod_compile(folio_mod **mod, struct mod_error *error, folio_mod_kind kind, const char *text,
                                const folio_mod_capture *captures, i32 n_captures)
{
    *mod = NULL;
    *error = (struct mod_error){ 0 };
    FOLIO_TRY(check_arguments(kind, text, captures, n_captures));
    struct mod_builder *builder = folio__alloc(sizeof *builder);
    folio_mod *big = allocate(kind, FOLIO_MOD_MAX_STEPS, n_captures);
    folio_status status = builder && big ? build(&big->program, builder, error, kind, text, captures)
                                         : folio__fail(FOLIO_ENOMEM, "no memory for a mod");
    folio__free(builder);
    if (status == FOLIO_OK) {
        *mod = allocate(kind, big->program.n_steps, n_captures);
        status = *mod ? FOLIO_OK : folio__fail(FOLIO_ENOMEM, "no memory for a mod");
    }
    if (status == FOLIO_OK) {
        struct mod_program *program = &(*mod)->program;
        struct mod_step *steps = program->steps;
        struct mod_capture *own = program->captures;
        memcpy(steps, big->program.steps, (size_t)big->program.n_steps * sizeof *steps);
        memcpy(own, big->program.captures, (size_t)n_captures * sizeof *own);
        *program = big->program;
        program->steps = steps;
        program->captures = own;
    }
    folio__free(big);
    return status;
}

folio_status folio_mod_create(folio_mod **out, folio_mod_kind kind, const char *text, const folio_mod_capture *captures,
                              int32_t n_captures)
{
    struct mod_error error;
    folio_mod *mod;
    FOLIO_REQUIRE(out, FOLIO_EINVAL, "out: NULL");
    FOLIO_TRY(folio__mod_compile(&mod, &error, kind, text, captures, n_captures));
    *out = mod;
    return FOLIO_OK;
}

folio_status folio_mod_create_callback(folio_mod **out, folio_mod_kind kind, folio_tile_callback tile, void *user,
                                       uint32_t flags)
{
    FOLIO_REQUIRE(out, FOLIO_EINVAL, "out: NULL");
    FOLIO_TRY(check_kind(kind));
    FOLIO_REQUIRE(tile, FOLIO_EINVAL, "tile: NULL");
    FOLIO_REQUIRE((flags & ~(u32)FOLIO_TILE_WHOLE) == 0, FOLIO_EINVAL, "flags 0x%x; allowed FOLIO_TILE_WHOLE",
                  (unsigned)flags);
    folio_mod *mod = allocate(kind, 0, 0);
    FOLIO_REQUIRE(mod, FOLIO_ENOMEM, "no memory for a mod");
    mod->program.tile = tile;
    mod->program.user = user;
    mod->program.tile_is_whole = flags & FOLIO_TILE_WHOLE;
    *out = mod;
    return FOLIO_OK;
}

void folio_mod_destroy(folio_mod **mod)
{
    if (!mod || !*mod)
        return;
    (*mod)->magic = 0;
    folio__free(*mod);
    *mod = NULL;
}

folio_status folio__mod_require(const struct mod_program **program, const char *name, const folio_mod *mod,
                                folio_mod_kind kind)
{
    *program = NULL;
    if (!mod)
        return FOLIO_OK;
    FOLIO_REQUIRE(mod->magic == MOD_MAGIC, FOLIO_EHANDLE, "%s: not a mod, or destroyed", name);
    FOLIO_REQUIRE(mod->program.kind == (i32)kind, FOLIO_EINVAL, "%s: a %s mod; must be a %s mod", name,
                  mod->program.kind == FOLIO_MOD_SCORE ? "score" : "mask", kind == FOLIO_MOD_SCORE ? "score" : "mask");
    *program = &mod->program;
    return FOLIO_OK;
}

/* The line of the error, or 72 characters of it round the column, and a caret under the column. */
static void show_place(const char *text, i32 offset, char *explanation, size_t n)
{
    enum { WIDTH = 72 };
    i32 begin = offset, end = offset;
    while (begin > 0 && text[begin - 1] != '\n' && offset - begin < WIDTH / 2)
        begin--;
    while (text[end] && text[end] != '\n' && end - begin < WIDTH)
        end++;
    const size_t used = strlen(explanation);
    snprintf(explanation + used, n - used, "\n%.*s\n%*s^\n", (int)(end - begin), text + begin, (int)(offset - begin),
             "");
    for (size_t i = used + 1; i < n && explanation[i] && explanation[i] != '\n'; i++) /* a tab would move the caret */
        if (explanation[i] == '\t' || explanation[i] == '\r')
            explanation[i] = ' ';
}

folio_status folio_mod_explain(folio_mod_kind kind, const char *text, const folio_mod_capture *captures,
                               int32_t n_captures, char *explanation, size_t n)
{
    struct mod_error error;
    folio_mod *mod;
    FOLIO_REQUIRE(explanation && n > 0, FOLIO_EINVAL, "explanation: NULL, or n 0");
    const folio_status status = folio__mod_compile(&mod, &error, kind, text, captures, n_captures);
    if (status == FOLIO_OK)
        folio__mod_list(&mod->program, explanation, n);
    else
        snprintf(explanation, n, "%s", folio_last_error());
    if (status != FOLIO_OK && error.message[0])
        show_place(text, error.offset, explanation, n);
    folio_mod_destroy(&mod);
    return status;
}
