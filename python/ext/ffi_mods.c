/* SPDX-License-Identifier: Apache-2.0
 * ffi_mods.c: the mods and the block mask of an XLA call, compiled for its length.
 *
 *   attrs  score_mod, mask_mod, block_mod        texts, each ending in a zero byte
 *          NAME_captures, NAME_wraps             the captures' names, each ending in a zero byte; 1: -1 is the last
 *          blocks                                how many arrays the block mask has: 0, 2 or 4
 *          q_block, kv_block, blocks_q_len, blocks_kv_len
 *   args   after the others: captures of score_mod, of mask_mod, the block mask's arrays, captures of block_mod */
#include <string.h>

#include "ffi.h"

/* The next captures of the call, under their names. */
static struct ffi_error *read_captures(const struct ffi_frame *frame, const char *attribute, bool wraps, int64_t *arg,
                                       struct ext_array *arrays, folio_mod_capture *list, int32_t *n)
{
    const struct ffi_span names = ffi_text(frame, attribute);
    struct ffi_error *error = NULL;
    *n = 0;
    for (const char *name = names.text; name && name < names.text + names.n_bytes; name += strlen(name) + 1) {
        if (*n == FOLIO_MOD_MAX_CAPTURES)
            return ffi_fail(frame, FFI_INVALID_ARGUMENT, "%s: more than %d", attribute, (int)FOLIO_MOD_MAX_CAPTURES);
        if ((error = ffi_read_arg(frame, (*arg)++, name, &arrays[*n])))
            return error;
        list[*n] = (folio_mod_capture){ .name = name,
                                        .tensor = &arrays[*n].tensor,
                                        .flags = wraps ? (uint32_t)FOLIO_CAPTURE_WRAP : 0 };
        ++*n;
    }
    return NULL;
}

/* The mod called `name`; none where the call has no such text. */
static struct ffi_error *read_mod(const struct ffi_frame *frame, const char *name, folio_mod_kind kind, int64_t *arg,
                                  folio_mod **out)
{
    const struct ffi_span text = ffi_text(frame, name);
    if (!text.text)
        return NULL;
    char captures[32], wraps[32];
    PyOS_snprintf(captures, sizeof captures, "%s_captures", name);
    PyOS_snprintf(wraps, sizeof wraps, "%s_wraps", name);
    struct ext_array arrays[FOLIO_MOD_MAX_CAPTURES];
    folio_mod_capture list[FOLIO_MOD_MAX_CAPTURES];
    int32_t n = 0;
    struct ffi_error *error = read_captures(frame, captures, ffi_i64(frame, wraps, 0) != 0, arg, arrays, list, &n);
    return error ? error : ffi_end(frame, folio_mod_create(out, kind, text.text, list, n));
}

/* The block mask; its mod's captures come after its own arrays. */
static struct ffi_error *read_blocks(const struct ffi_frame *frame, int64_t *arg, struct ffi_mods *mods)
{
    static const char *const names[] = { "kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices" };
    const int64_t n = ffi_i64(frame, "blocks", 0);
    if (n == 0)
        return NULL;
    struct ext_array arrays[COUNT_OF(names)] = { 0 };
    struct ffi_error *error = NULL;
    for (int64_t i = 0; i < n && i < (int64_t)COUNT_OF(names); i++)
        if ((error = ffi_read_arg(frame, (*arg)++, names[i], &arrays[i])))
            return error;
    if ((error = read_mod(frame, "block_mod", FOLIO_MOD_MASK, arg, &mods->block_mod)))
        return error;
    const folio_block_mask_args args = {
        .struct_size = sizeof args,
        .kv_num_blocks = ext_tensor(&arrays[0]),
        .kv_indices = ext_tensor(&arrays[1]),
        .full_kv_num_blocks = ext_tensor(&arrays[2]),
        .full_kv_indices = ext_tensor(&arrays[3]),
        .q_block = ffi_i64(frame, "q_block", 0),
        .kv_block = ffi_i64(frame, "kv_block", 0),
        .q_len = ffi_i64(frame, "blocks_q_len", 0),
        .kv_len = ffi_i64(frame, "blocks_kv_len", 0),
        .mask_mod = mods->block_mod,
    };
    return ffi_end(frame, folio_block_mask_create(&mods->block_mask, &args));
}

struct ffi_error *ffi_mods_read(const struct ffi_frame *frame, int64_t arg, struct ffi_mods *mods)
{
    struct ffi_error *error = read_mod(frame, "score_mod", FOLIO_MOD_SCORE, &arg, &mods->score_mod);
    if (!error)
        error = read_mod(frame, "mask_mod", FOLIO_MOD_MASK, &arg, &mods->mask_mod);
    return error ? error : read_blocks(frame, &arg, mods);
}

void ffi_mods_release(struct ffi_mods *mods)
{
    folio_block_mask_destroy(&mods->block_mask);
    folio_mod_destroy(&mods->block_mod);
    folio_mod_destroy(&mods->mask_mod);
    folio_mod_destroy(&mods->score_mod);
}
