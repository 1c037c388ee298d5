/* SPDX-License-Identifier: Apache-2.0
 * rows_tiles_tmpl.h: which tiles the rows family works in: of bf16, of bytes, or none. */

#if VEC_TILES
static i64 rows_tiles_floats(const struct attend_args *args, i32 n_heads, i32 n_padded)
{
    return uses_tiles(args)      ? rows_amx_floats(args, n_heads, n_padded)
           : uses_i8_tiles(args) ? rows_i8_floats(args, n_heads, n_padded)
                                 : 0;
}

static void rows_tiles_begin(struct rows_pass *pass, i32 n_heads, float **scratch)
{
    pass->amx = NULL;
    pass->i8 = NULL;
    if (uses_tiles(pass->args))
        pass->amx = rows_amx_begin(pass->args, n_heads, pass->n_padded, scratch);
    else if (uses_i8_tiles(pass->args))
        rows_i8_begin(pass, n_heads, scratch);
}

static void rows_tiles_end(const struct rows_pass *pass)
{
    if (pass->amx)
        tile_release(&pass->amx->regs);
    else if (pass->i8)
        tile_release(&pass->i8->regs);
}

/* A query vector of kv head `head` of the pass; NULL = zeros. */
static bool rows_tiles_load_q(const struct rows_pass *pass, i32 head, i32 row, const u8 *src)
{
    if (pass->amx)
        rows_amx_load_q(pass, head, row, src);
    else if (pass->i8 && src)
        rows_i8_load_q(pass, head, row, src);
    return pass->amx || pass->i8;
}

static void rows_tiles_block(const struct rows_pass *pass, const struct block *block)
{
    if (pass->amx)
        rows_amx_block(pass, block);
    else if (pass->i8)
        rows_i8_block(pass, block);
}

static bool rows_tiles_chunk(const struct rows_pass *pass, const struct rows_step *step)
{
    if (pass->amx)
        rows_amx_chunk(pass, step);
    else if (pass->i8)
        rows_i8_chunk(pass, step);
    return pass->amx || pass->i8;
}

static void rows_tiles_in_order(const struct rows_pass *pass)
{
    if (pass->amx && !pass->careful)
        rows_amx_in_order(pass);
    else if (pass->i8)
        rows_i8_in_order(pass);
}
#else
static i64 rows_tiles_floats(const struct attend_args *args, i32 n_heads, i32 n_padded)
{
    (void)args, (void)n_heads, (void)n_padded;
    return 0;
}

static void rows_tiles_begin(struct rows_pass *pass, i32 n_heads, float **scratch)
{
    (void)n_heads, (void)scratch;
    pass->amx = NULL;
    pass->i8 = NULL;
}

static void rows_tiles_end(const struct rows_pass *pass)
{
    (void)pass;
}

static bool rows_tiles_load_q(const struct rows_pass *pass, i32 head, i32 row, const u8 *src)
{
    (void)pass, (void)head, (void)row, (void)src;
    return false;
}

static void rows_tiles_block(const struct rows_pass *pass, const struct block *block)
{
    (void)pass, (void)block;
}

static bool rows_tiles_chunk(const struct rows_pass *pass, const struct rows_step *step)
{
    (void)pass, (void)step;
    return false;
}

static void rows_tiles_in_order(const struct rows_pass *pass)
{
    (void)pass;
}
#endif
