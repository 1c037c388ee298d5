/* SPDX-License-Identifier: Apache-2.0
 * mods.c: a window as text and as a tile callback: the same answer, and the keys outside are not read. */
#include <folio/folio.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { PAGES = 8, PAGE = 32, TOKENS = PAGES * PAGE, HEADS = 4, DIM = 32, WINDOW = 64 };

static const DLDataType f32 = { kDLFloat, 32, 1 }, i32 = { kDLInt, 32, 1 };

/* A compact tensor on the CPU: data, type, number of dims, dims. */
#define TENSOR(data, type, ndim, ...) \
    (&(DLTensor){ data, { kDLCPU, 0 }, ndim, type, (int64_t[]){ __VA_ARGS__ }, NULL, 0 })

static void need(folio_status status)
{
    if (status != FOLIO_OK) {
        fprintf(stderr, "%s: %s\n", folio_status_name(status), folio_last_error());
        exit(1);
    }
}

/* Keeps the newest *(int64_t *)user keys. scores come as ones; 0 drops. */
static folio_status window_tile(void *user, float *scores, const folio_tile *at)
{
    const int64_t window = *(int64_t *)user;
    for (int64_t r = 0; r < at->n_rows; r++)
        for (int64_t i = 0; i < at->n_keys; i++) {
            const int64_t kv = at->kv_begin + i, pos = at->pos_begin + r;
            if (kv > pos || pos - kv >= window)
                scores[r * at->row_stride + i] = 0;
        }
    return FOLIO_OK;
}

static float k_pages[PAGES][PAGE][HEADS][DIM], v_pages[PAGES][PAGE][HEADS][DIM], q[1][HEADS][DIM];
static float by_text[1][HEADS][DIM], by_callback[1][HEADS][DIM];

int main(void)
{
    int32_t table[PAGES], kv_len = TOKENS;
    int64_t window = WINDOW;
    for (int page = 0; page < PAGES; page++)
        table[page] = page;
    for (int t = 0; t < TOKENS; t++) /* V is NaN where the window does not reach: a page that is read would show */
        for (int i = 0; i < HEADS * DIM; i++)
            v_pages[t / PAGE][t % PAGE][i / DIM][i % DIM] = t < TOKENS / 2 ? NAN : (float)t;

    folio_context *context;
    folio_mod *text, *callback;
    need(folio_context_create(&context, NULL));
    need(folio_mod_create(&text, FOLIO_MOD_MASK, "kv <= pos && pos - kv < 64", NULL, 0));
    need(folio_mod_create_callback(&callback, FOLIO_MOD_MASK, window_tile, &window, 0));

    folio_attend_args args = { .struct_size = sizeof args,
                               .q = TENSOR(q, f32, 3, 1, HEADS, DIM),
                               .k_pages = TENSOR(k_pages, f32, 4, PAGES, PAGE, HEADS, DIM),
                               .v_pages = TENSOR(v_pages, f32, 4, PAGES, PAGE, HEADS, DIM),
                               .page_table = TENSOR(table, i32, 2, 1, PAGES),
                               .kv_lens = TENSOR(&kv_len, i32, 1, 1),
                               .out = TENSOR(by_text, f32, 3, 1, HEADS, DIM),
                               .mask_mod = text };
    need(folio_attend(context, NULL, &args, NULL));
    args.out = TENSOR(by_callback, f32, 3, 1, HEADS, DIM);
    args.mask_mod = callback;
    need(folio_attend(context, NULL, &args, NULL));
    printf("mean of 192 .. 255 = %g by text, %g by callback\n", (double)by_text[0][3][31],
           (double)by_callback[0][3][31]);

    char error[256];
    folio_mod_explain(FOLIO_MOD_MASK, "kv <= pos & pos - kv < 64", NULL, 0, error, sizeof error);
    printf("%s", error);
    folio_mod_destroy(&text);
    folio_mod_destroy(&callback);
    folio_context_destroy(&context);
    return fabsf(by_text[0][3][31] - 223.5f) > 1e-3f || fabsf(by_callback[0][3][31] - 223.5f) > 1e-3f;
}
