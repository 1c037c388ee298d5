/* SPDX-License-Identifier: Apache-2.0
 * fuzz_attend.c: bytes -> a problem and up to two mistakes in it. A good problem agrees with the oracle; a bad one is
 * refused as one of its mistakes asks, and no byte changes.
 *
 *   bytes   [seed 8][mistake, 255 = none][mistake][what to change in the choice: field, value]... */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "support/bad_problem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static folio_context *open_context(folio_backend backend)
{
    const folio_context_config cfg = { .struct_size = sizeof cfg,
                                       .backend = (i32)backend,
                                       .isa = FOLIO_ISA_AVX512, /* above it, bf16 weights are rounded */
                                       .n_threads = 2 };
    folio_context *ctx = NULL;
    if (folio_context_create(&ctx, &cfg) != FOLIO_OK)
        abort();
    return ctx;
}

static const struct problem_limits small = { .max_work = 2e5, .max_kv_len = 300, .max_head_dim = 128 };

/* Where random seldom goes: single fields of the choice, within what problem_build can make. */
static void change(struct problem_choice *c, u8 field, u8 value)
{
    const i32 b = value % MAX_BATCH;
    switch (field % 20) {
    case 0:
        c->page_size = 1 + value;
        break;
    case 1:
        c->head_dim_qk = 1 + value % 128;
        break;
    case 2:
        c->head_dim_v = 1 + value % 128;
        break;
    case 3:
        c->kv_lens[b] = value;
        break;
    case 4:
        c->q_lens[b] = c->decode ? 1 : value % 16;
        break;
    case 5:
        c->batch = value % (MAX_BATCH + 1);
        break;
    case 6:
        c->group = 1 + value % 9;
        break;
    case 7:
        c->n_kv_heads = 1 + value % 5;
        break;
    case 8:
        c->causal = value % 3;
        c->align = 0;
        break;
    case 9:
        c->window_left = value - 1;
        c->flags |= FOLIO_WINDOW_IS_SET;
        break;
    case 10:
        c->window_right = value - 1;
        c->flags |= FOLIO_WINDOW_IS_SET;
        break;
    case 11:
        c->num_splits = value;
        break;
    case 12:
        c->softcap = value / 16.0;
        break;
    case 13:
        c->scale = (value - 128) / 64.0;
        c->flags |= FOLIO_SCALE_IS_SET;
        break;
    case 14:
        c->csr = value & 1;
        c->v_table = value & 2;
        c->ids_i64 = value & 4;
        c->lens_i64 = value & 8;
        break;
    case 15:
        c->alibi = value & 1;
        c->sinks = value & 2;
        c->bias = value & 4;
        c->mask = value & 8;
        break;
    case 16:
        c->layout = (enum problem_layout)(value % N_LAYOUTS);
        break;
    case 17:
        c->kv_dtype = (enum dtype)(DTYPE_F32 + value % 3);
        c->q_dtype = value & 64 ? DTYPE_F32 : c->kv_dtype;
        break;
    case 18:
        c->spare_pages = value % 8;
        break;
    case 19:
        c->amplitude = value & 1 && c->kv_dtype != DTYPE_F16 && c->q_dtype != DTYPE_F16 ? 1e15 : 1;
        break;
    default:
        break;
    }
}

/* What changes may have broken. */
static void mend(struct problem_choice *c)
{
    for (i32 b = 0; b < MAX_BATCH; b++) {
        c->q_lens[b] = b >= c->batch ? 0 : c->decode ? 1 : c->q_lens[b];
        c->kv_lens[b] = b >= c->batch ? 0 : c->kv_lens[b];
    }
    if (c->layout == INTERLEAVED)
        c->head_dim_v = c->head_dim_qk;
    if (c->kv_dtype == DTYPE_F16 || c->q_dtype == DTYPE_F16)
        c->amplitude = fmin(c->amplitude, 3000);
    c->share_pages = c->share_pages && c->batch > 1;
    c->mask_everything = c->mask_everything && c->mask;
    double heads = (double)c->n_kv_heads * c->group * (c->head_dim_qk + c->head_dim_v), work = 1e6;
    for (i32 b = 0; b < c->batch; b++) { /* the oracle takes its time */
        while (c->kv_lens[b] > 1 && (double)(c->q_lens[b] * c->kv_lens[b]) * heads > work)
            c->kv_lens[b] /= 2;
        work -= (double)(c->q_lens[b] * c->kv_lens[b]) * heads;
    }
}

static void refuse_to_go_on(const struct bad_problem *b, const char *why, folio_status status)
{
    fprintf(stderr, "%s: %s \"%s\"; ", why, folio_status_name(status), folio_last_error());
    problem_print(&b->p);
    abort();
}

static void check_bad(struct bad_problem *b, folio_context *ctx, const struct mistake *const *made, i32 n_made)
{
    problem_reset_outputs(&b->p);
    const u64 inputs = problem_hash_inputs(&b->p), outputs = problem_hash_outputs(&b->p);
    const folio_status status = folio_attend(ctx, NULL, &b->p.args, NULL);
    bool expected = false;
    for (i32 i = 0; i < n_made; i++)
        expected |= status == made[i]->status && folio_last_error_kind() == made[i]->kind;
    if (!expected) {
        for (i32 i = 0; i < n_made; i++)
            fprintf(stderr, "%s ", made[i]->name);
        refuse_to_go_on(b, "not the class of any mistake", status);
    }
    if (problem_hash_inputs(&b->p) != inputs || problem_hash_outputs(&b->p) != outputs)
        refuse_to_go_on(b, "a refused call changed something", status);
    char text[1024];
    (void)folio_explain(ctx, &b->p.args, text, sizeof text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static folio_context *cpu, *ref;
    static struct bad_problem b;
    if (!cpu) {
        cpu = open_context(FOLIO_BACKEND_CPU);
        ref = open_context(FOLIO_BACKEND_REF);
    }
    if (size < 10)
        return 0;
    u64 seed;
    struct problem_choice c;
    memcpy(&seed, data, sizeof seed);
    problem_choose(&c, seed, &small);
    for (size_t i = 10; i + 1 < size && i < 10 + 2 * 16; i += 2)
        change(&c, data[i], data[i + 1]);
    mend(&c);
    memset(&b, 0, sizeof b);
    problem_build(&b.p, &c);
    const struct mistake *made[2];
    i32 n_made = 0;
    for (i32 i = 0; i < 2; i++)
        if (data[8 + i] != 255) {
            const struct mistake *m = &mistakes[data[8 + i] % n_mistakes];
            if (m->make(&b))
                made[n_made++] = m;
        }
    if (n_made)
        check_bad(&b, cpu, made, n_made);
    else if (!problem_agrees(&b.p, cpu, ref, 2e-6))
        refuse_to_go_on(&b, "cpu and ref differ", FOLIO_OK);
    problem_free(&b.p);
    return 0;
}
