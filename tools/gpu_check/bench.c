/* SPDX-License-Identifier: Apache-2.0
 * bench.c: decode, prefill and append times, from CUDA graphs over pools that exceed the L2. The table comes last;
 * the same as JSON, a line a cell.
 *
 * A cell: its call is captured R times into a graph that cycles over C copies of the pool, C the least number with
 * more than 200 MB, R such that a replay takes about 2 ms. Reported: the median of replays / R. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "run/folio_plan.h"
#include "run/plan_cuda.h"

struct cell {
    struct row row;
    double us, probe_us, tb_per_s, tflop_per_s; /* probe_us: the loaders alone; 0 = there is no such kernel */
    char note[96];
};

enum { MAX_CELLS = 64, MAX_SEQS = 512, COLD_BYTES = 200 << 20, REPLAYS = 15 };

static const struct row rows[] = {
    { "decode B64 kv4096 32/8", 64, 4096, 1, 32, 8, 128, DTYPE_BF16, 16, .causal = true },
    { "decode B64 kv4096 32/8", 64, 4096, 1, 32, 8, 128, DTYPE_BF16, 64, .causal = true },
    { "decode B64 kv4096 32/8", 64, 4096, 1, 32, 8, 128, DTYPE_BF16, 128, .causal = true },
    { "decode B64 kv4096 32/8", 64, 4096, 1, 32, 8, 128, DTYPE_BF16, 8, .causal = true },
    { "decode B64 kv4096 32/8", 64, 4096, 1, 32, 8, 128, DTYPE_BF16, 1, .causal = true },
    { "decode B64 kv4096 32/8 HND", 64, 4096, 1, 32, 8, 128, DTYPE_BF16, 16, .causal = true, .hnd = true },
    { "decode B64 kv4096 32/8 f16", 64, 4096, 1, 32, 8, 128, DTYPE_F16, 16, .causal = true },
    { "decode B64 kv4096 32/8 d64", 64, 4096, 1, 32, 8, 64, DTYPE_BF16, 16, .causal = true },
    { "decode B1 kv131072 32/8", 1, 131072, 1, 32, 8, 128, DTYPE_BF16, 16, .causal = true },
    { "decode B16 kv8192 32/8", 16, 8192, 1, 32, 8, 128, DTYPE_BF16, 16, .causal = true },
    { "decode B128 kv2048 64/8", 128, 2048, 1, 64, 8, 128, DTYPE_BF16, 16, .causal = true },
    { "decode B16 kv4096 32/32", 16, 4096, 1, 32, 32, 128, DTYPE_BF16, 16, .causal = true },
    { "decode B8 kv32768 8/1", 8, 32768, 1, 8, 1, 128, DTYPE_BF16, 16, .causal = true },
    { "decode B4 kv8192 32/8", 4, 8192, 1, 32, 8, 128, DTYPE_BF16, 16, .causal = true },
    { "decode B1 kv4096 32/8", 1, 4096, 1, 32, 8, 128, DTYPE_BF16, 16, .causal = true },
    { "decode B1 kv1024 32/8", 1, 1024, 1, 32, 8, 128, DTYPE_BF16, 16, .causal = true },
    { "decode B256 kv1024 32/8", 256, 1024, 1, 32, 8, 128, DTYPE_BF16, 16, .causal = true },
    { "decode B32 q4 kv4096 32/8", 32, 4096, 4, 32, 8, 128, DTYPE_BF16, 16, .causal = true },
    { "decode B32 q8 kv4096 32/8", 32, 4096, 8, 32, 8, 128, DTYPE_BF16, 16, .causal = true },
    { "decode B32 q16 kv4096 32/8", 32, 4096, 16, 32, 8, 128, DTYPE_BF16, 16, .causal = true },
    { "decode B32 q8 kv4096 64/8", 32, 4096, 8, 64, 8, 128, DTYPE_BF16, 16, .causal = true },
    { "decode B32 q16 kv4096 64/8", 32, 4096, 16, 64, 8, 128, DTYPE_BF16, 16, .causal = true },
    { "decode B64 zipf 32/8", 64, 32768, 1, 32, 8, 128, DTYPE_BF16, 16, .zipf = true, .causal = true },
    { "generic B64 kv4096 32/8", 64, 4096, 1, 32, 8, 128, DTYPE_BF16, 16, .causal = true, .q_is_f32 = true },
    { "generic B16 kv8192 32/8", 16, 8192, 1, 32, 8, 128, DTYPE_BF16, 16, .causal = true, .q_is_f32 = true },
    { "generic B16 kv4096 32/32", 16, 4096, 1, 32, 32, 128, DTYPE_BF16, 16, .causal = true, .q_is_f32 = true },
    { "generic B1 kv131072 32/8", 1, 131072, 1, 32, 8, 128, DTYPE_BF16, 16, .causal = true, .q_is_f32 = true },
    { "generic B128 kv2048 64/8", 128, 2048, 1, 64, 8, 128, DTYPE_BF16, 16, .causal = true, .q_is_f32 = true },
    { "generic B8 kv32768 8/1", 8, 32768, 1, 8, 1, 128, DTYPE_BF16, 16, .causal = true, .q_is_f32 = true },
    { "prefill 1x2048 32/8", 1, 2048, 2048, 32, 8, 128, DTYPE_BF16, 16, .causal = true },
};

static i32 kv_len_of(const struct row *r, i32 b)
{
    if (!r->zipf)
        return r->kv_len;
    const i32 rank = (b * 29 + 7) % r->batch + 1; /* shuffled: 29 and 64 share no factor */
    const double n = r->kv_len / pow(rank, 4.0 / 3.0);
    return (i32)fmax(n, 128);
}

static DLTensor tensor(cu_ptr at, i32 ndim, i64 *shape, DLDataTypeCode code, i32 bits)
{
    return (DLTensor){ .data = (void *)(uintptr_t)at,
                       .device = { .device_type = kDLCUDA },
                       .ndim = ndim,
                       .dtype = { .code = (u8)code, .bits = (u8)bits, .lanes = 1 },
                       .shape = shape };
}

static void fill_random(struct rig *rig, cu_ptr at, i64 bytes)
{
    enum { BLOCK = 8 << 20 };
    static u16 *block;
    u64 seed = 77;
    if (!block) {
        block = malloc(BLOCK);
        must(block != NULL, "host memory");
        for (i64 i = 0; i < BLOCK / 2; i++)
            block[i] = (u16)((next_random(&seed) & 0x80ff) | 0x3f00); /* about +-0.5 .. 1 as bf16, 1.7 as f16 */
    }
    for (i64 done = 0; done < bytes; done += BLOCK)
        MUST_CU(rig, to_device,
                (at + (u64)done, block, (size_t)(bytes - done < BLOCK ? bytes - done : BLOCK), rig->stream));
    MUST_CU(rig, stream_synchronize, (rig->stream));
}

/* Lengths, a random table, random data; everything in one allocation. */
void set_up(struct rig *rig, struct setup *s, const struct row *r)
{
    i64 width = 0, next = 0;
    *s = (struct setup){ 0 };
    static i32 lens[MAX_SEQS], indptr[MAX_SEQS + 1];
    for (i32 b = 0; b < r->batch; b++) {
        lens[b] = kv_len_of(r, b);
        indptr[b] = b * r->q_len;
        const i64 pages = (lens[b] + r->page_size - 1) / r->page_size;
        s->n_pages += pages;
        s->kv_tokens += lens[b];
        s->pairs += r->q_len == 1 ? lens[b] : (double)r->q_len * (lens[b] - r->q_len) + r->q_len * (r->q_len + 1) / 2.0;
        width = pages > width ? pages : width;
    }
    indptr[r->batch] = r->batch * r->q_len;
    s->n_tokens = (i64)r->batch * r->q_len;
    const i64 page_bytes = (i64)r->page_size * r->n_kv_heads * r->dim * 2;
    s->pool_bytes = s->n_pages * page_bytes;
    s->copy_bytes = 2 * s->pool_bytes;
    s->n_copies = (i32)(COLD_BYTES / (2 * s->kv_tokens * r->n_kv_heads * r->dim * 2) + 1);
    const i64 q_bytes = s->n_tokens * r->n_q_heads * r->dim * (r->q_is_f32 ? 4 : 2), table_bytes = r->batch * width * 4;
    const i64 total = s->n_copies * s->copy_bytes + 2 * q_bytes + 2 * table_bytes + 4 * 4096 + MAX_SEQS * 8;
    MUST_CU(rig, mem_alloc, (&s->memory, (size_t)total));
    fill_random(rig, s->memory, s->n_copies * s->copy_bytes + q_bytes);
    cu_ptr at = s->memory + (u64)(s->n_copies * s->copy_bytes);
    i32 *table = malloc((size_t)table_bytes), *deck = malloc((size_t)s->n_pages * 4);
    u64 seed = 5;
    for (i64 i = 0; i < s->n_pages; i++)
        deck[i] = (i32)i;
    for (i64 i = s->n_pages - 1; i > 0; i--) {
        const i64 j = below(&seed, i + 1);
        const i32 x = deck[i];
        deck[i] = deck[j], deck[j] = x;
    }
    for (i32 b = 0; b < r->batch; b++)
        for (i64 c = 0; c < width; c++)
            table[b * width + c] = c < (lens[b] + r->page_size - 1) / r->page_size ? deck[next++] : 2147480000;
    const i64 h = r->n_kv_heads, d = r->dim, p = r->page_size;
    const i64 shapes[8][4] = { { s->n_tokens, r->n_q_heads, d },
                               { s->n_pages, p, h, d },
                               { s->n_pages, p, h, d },
                               { r->batch, width },
                               { r->batch },
                               { r->batch + 1 },
                               { s->n_tokens, r->n_q_heads, d },
                               { r->n_q_heads } };
    memcpy(s->shapes, shapes, sizeof shapes);
    const DLDataTypeCode code = r->dtype == DTYPE_BF16 ? kDLBfloat : kDLFloat;
    s->q = tensor(at, 3, s->shapes[0], r->q_is_f32 ? kDLFloat : code, r->q_is_f32 ? 32 : 16);
    s->out = s->q;
    s->out.data = (u8 *)s->q.data + q_bytes;
    at += (u64)(2 * q_bytes + 255) / 256 * 256;
    s->table = tensor(at, 2, s->shapes[3], kDLInt, 32);
    MUST_CU(rig, to_device, (at, table, (size_t)table_bytes, rig->stream));
    at += (u64)(table_bytes + 255) / 256 * 256;
    s->v_table = tensor(at, 2, s->shapes[3], kDLInt, 32);
    for (i64 i = 0; i < r->batch * width; i++) /* other pages: another permutation */
        if (table[i] < s->n_pages)
            table[i] = (i32)(s->n_pages - 1 - table[i]);
    MUST_CU(rig, to_device, (at, table, (size_t)table_bytes, rig->stream));
    at += (u64)(table_bytes + 255) / 256 * 256;
    s->sinks = tensor(at, 1, s->shapes[7], kDLFloat, 32);
    MUST_CU(rig, set_u32, (at, 0x3f000000, (size_t)r->n_q_heads, rig->stream)); /* 0.5 */
    at += 4096;
    s->kv_lens = tensor(at, 1, s->shapes[4], kDLInt, 32);
    MUST_CU(rig, to_device, (at, lens, (size_t)r->batch * 4, rig->stream));
    at += MAX_SEQS * 4;
    s->q_indptr = tensor(at, 1, s->shapes[5], kDLInt, 32);
    MUST_CU(rig, to_device, (at, indptr, (size_t)(r->batch + 1) * 4, rig->stream));
    MUST_CU(rig, stream_synchronize, (rig->stream));
    s->k = tensor(s->memory, 4, s->shapes[1], code, 16);
    s->v = tensor(s->memory + (u64)s->pool_bytes, 4, s->shapes[2], code, 16);
    if (r->hnd || r->flat) {
        const i64 strides[4] = { r->flat ? p * d : p * h * d, d, r->flat ? s->n_pages * p * d : p * d, 1 };
        memcpy(s->pages_strides, strides, sizeof strides);
        s->k.strides = s->v.strides = s->pages_strides;
    }
    free(table);
    free(deck);
}

static int by_value(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

void replay_in_turn(struct rig *rig, double *us, const cu_graph_exec *execs, i32 n, i32 n_replays)
{
    float *ms = malloc((size_t)(n * n_replays) * sizeof *ms); /* [n][n_replays] */
    cu_event begin, end;
    must(ms != NULL, "host memory");
    MUST_CU(rig, event_create, (&begin, 0));
    MUST_CU(rig, event_create, (&end, 0));
    for (i32 round = -2; round < n_replays; round++)
        for (i32 i = 0; i < n; i++) {
            float once;
            MUST_CU(rig, event_record, (begin, rig->stream));
            MUST_CU(rig, graph_launch, (execs[i], rig->stream));
            MUST_CU(rig, event_record, (end, rig->stream));
            MUST_CU(rig, stream_synchronize, (rig->stream));
            MUST_CU(rig, event_elapsed, (&once, begin, end));
            if (round >= 0)
                ms[i * n_replays + round] = once;
        }
    rig->api->event_destroy(begin);
    rig->api->event_destroy(end);
    for (i32 i = 0; i < n; i++) {
        qsort(ms + i * n_replays, (size_t)n_replays, sizeof *ms, by_value);
        us[i] = ms[i * n_replays + n_replays / 2] * 1e3;
    }
    free(ms);
}

cu_graph_exec capture_calls(struct rig *rig, record_fn *record, void *user, i32 n)
{
    cu_graph graph;
    cu_graph_exec exec;
    MUST_CU(rig, capture_begin, (rig->stream, CU_CAPTURE_THREAD_LOCAL));
    for (i32 i = 0; i < n; i++)
        record(rig, user, i);
    MUST_CU(rig, capture_end, (rig->stream, &graph));
    MUST_CU(rig, graph_instantiate, (&exec, graph, 0));
    MUST_CU(rig, graph_destroy, (graph));
    return exec;
}

struct attends {
    struct setup *setup;
    folio_plan *plan;
    folio_attend_args *args;
};

static void record_attend(struct rig *rig, void *user, i32 i)
{
    const struct attends *a = user;
    const struct setup *s = a->setup;
    DLTensor k = s->k, v = s->v;
    const u64 offset = (u64)(i % s->n_copies) * (u64)s->copy_bytes;
    k.data = (u8 *)s->k.data + offset;
    v.data = (u8 *)s->v.data + offset;
    a->args->k_pages = &k;
    a->args->v_pages = &v;
    MUST(folio_attend(rig->gpu, a->plan, a->args, rig->stream));
    a->args->k_pages = &s->k;
    a->args->v_pages = &s->v;
}

cu_graph_exec capture_attends(struct rig *rig, struct setup *s, folio_plan *plan, folio_attend_args *args, i32 repeats)
{
    return capture_calls(rig, record_attend, &(struct attends){ s, plan, args }, repeats);
}

static double time_attend(struct rig *rig, struct setup *s, folio_plan *plan, folio_attend_args *args, i32 repeats)
{
    const cu_graph_exec exec = capture_attends(rig, s, plan, args, repeats);
    double us;
    replay_in_turn(rig, &us, &exec, 1, REPLAYS);
    rig->api->graph_exec_destroy(exec);
    return us / repeats;
}

/* The same launch with a kernel that only reads: what the loaders can do at best. */
static double time_probe(struct rig *rig, struct setup *s, folio_plan *plan, folio_attend_args *args, i32 repeats)
{
    struct cuda_plan *inner = plan->backend_data;
    struct cuda_class *class = &inner->classes[0];
    const cu_function own = class->function;
    const struct cuda_decode_key *key = &folio__cuda_configs[class->config].decode;
    if (inner->n_classes > 1 || class->config < CUDA_DECODE || key->dtype != DTYPE_BF16 || key->d_qk != 128 ||
        key->d_v != 128)
        return 0;
    const bool is_16 = key->rows == 16 && key->loader == LOAD_BOXES;
    if (key->rows != 8 && !is_16)
        return 0;
    const i32 probe = is_16 ? CUDA_PROBE_16 : CUDA_PROBE + key->loader;
    MUST(folio__cuda_function(&class->function, inner->device, probe, 0));
    const double us = time_attend(rig, s, plan, args, repeats);
    class->function = own;
    return us;
}

folio_attend_args attend_args_of(struct setup *s, const struct row *r)
{
    return (folio_attend_args){ .struct_size = sizeof(folio_attend_args),
                                .q = &s->q,
                                .k_pages = &s->k,
                                .v_pages = &s->v,
                                .page_table = &s->table,
                                .v_page_table = r->v_table ? &s->v_table : NULL,
                                .kv_lens = &s->kv_lens,
                                .q_indptr = r->q_len > 1 ? &s->q_indptr : NULL,
                                .sinks = r->sinks ? &s->sinks : NULL,
                                .out = &s->out,
                                .max_q_len = r->q_len,
                                .softcap = r->softcap,
                                .flags = r->window ? FOLIO_WINDOW_IS_SET : 0,
                                .window_left = r->window ? r->window - 1 : 0,
                                .window_right = -1,
                                .causal = r->causal ? FOLIO_CAUSAL_BOTTOM_RIGHT : FOLIO_CAUSAL_NONE };
}

static void measure(struct rig *rig, struct cell *cell)
{
    const struct row *r = &cell->row;
    struct setup s;
    folio_plan *plan = NULL;
    set_up(rig, &s, r);
    folio_attend_args args = attend_args_of(&s, r);
    MUST(folio_plan_create(&plan, rig->gpu, &args));
    MUST(folio_plan_update(plan, &args, rig->stream));
    folio_explain(rig->gpu, &args, cell->note, sizeof cell->note);
    cell->note[strcspn(cell->note, "\n")] = '\0';
    const double once = time_attend(rig, &s, plan, &args, s.n_copies);
    const i32 rounds = (i32)fmin(fmax(2000 / (once * s.n_copies), 1), 64);
    cell->us = time_attend(rig, &s, plan, &args, rounds * s.n_copies);
    cell->probe_us = time_probe(rig, &s, plan, &args, rounds * s.n_copies);
    cell->tb_per_s = 2.0 * (double)s.kv_tokens * r->n_kv_heads * r->dim * 2 / cell->us / 1e6;
    cell->tflop_per_s = 4.0 * s.pairs * r->n_q_heads * r->dim / cell->us / 1e6;
    MUST(folio_plan_status(plan));
    folio_plan_destroy(&plan);
    rig->api->mem_free(s.memory);
}

static void print_json(FILE *file, const struct cell *c)
{
    fprintf(file,
            "{\"row\": \"%s\", \"page\": %d, \"us\": %.2f, \"probe_us\": %.2f, \"tb_per_s\": %.3f, \"tflop_per_s\": "
            "%.1f, \"kernel\": "
            "\"%s\"}\n",
            c->row.name, c->row.page_size, c->us, c->probe_us, c->tb_per_s, c->tflop_per_s, c->note);
}

void bench(struct rig *rig, const char *json_path)
{
    static struct cell cells[MAX_CELLS];
    i32 n = 0;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        if (!strstr(rows[i].name, rig->rows))
            continue;
        cells[n].row = rows[i];
        measure(rig, &cells[n]);
        n++;
    }
    FILE *file = fopen(json_path, "w");
    printf("%-30s %5s %9s %9s %7s %8s\n", "row", "page", "us", "read only", "TB/s", "TFLOP/s");
    for (i32 i = 0; i < n; i++) {
        printf("%-30s %5d %9.2f %9.2f %7.3f %8.1f  %s\n", cells[i].row.name, cells[i].row.page_size, cells[i].us,
               cells[i].probe_us, cells[i].tb_per_s, cells[i].tflop_per_s, cells[i].note);
        if (file)
            print_json(file, &cells[i]);
    }
    if (strstr("options", rig->rows))
        bench_options(rig, file);
    if (strstr("moves", rig->rows))
        bench_moves(rig, file);
    if (file)
        fclose(file);
}
