/* SPDX-License-Identifier: Apache-2.0
 * model_cache_run.c: see model_cache_run.h. */
#include "model_cache_run.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

__attribute__((format(printf, 2, 3))) static bool differ(struct run *run, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (!run->error[0])
        vsnprintf(run->error, sizeof run->error, format, args);
    va_end(args);
    return false;
}

#define SAME(run, what, got, want)                                                                     \
    do {                                                                                               \
        const i64 got_ = (i64)(got), want_ = (i64)(want);                                              \
        if (got_ != want_)                                                                             \
            return differ(run, "%s: cache %lld, model %lld", what, (long long)got_, (long long)want_); \
    } while (0)

bool run_create(struct run *run, const struct run_config *c)
{
    const i32 n_pages = 1 + c->n_pages % MODEL_PAGES, page_size = 1 + c->page_size % MODEL_PAGE_SIZE;
    const i32 max_seqs = 1 + c->max_seqs % MODEL_SEQS, row_pages = 1 + c->row_pages % n_pages;
    const u32 flags = c->flags & (FOLIO_CACHE_USE_PAGE_0 | FOLIO_CACHE_LIFO);
    memset(run, 0, sizeof *run);
    run->model = model_create(n_pages, page_size, max_seqs, row_pages, flags);
    const folio_cache_config cfg = { .struct_size = sizeof cfg,
                                     .n_pages = n_pages,
                                     .page_size = page_size,
                                     .max_seqs = max_seqs,
                                     .max_pages_per_seq = row_pages,
                                     .flags = flags };
    SAME(run, "create", folio_cache_create(&run->cache, &cfg), FOLIO_OK);
    return true;
}

void run_destroy(struct run *run)
{
    folio_cache_destroy(&run->cache);
}

/* --- simulated pages --- */

static void copy_page(u32 (*memory)[MODEL_PAGE_SIZE], i64 from, i64 to)
{
    memcpy(memory[to], memory[from], sizeof memory[to]);
}

/* Write the tokens that wait, of one handle. */
static void write_tokens(const struct run *run, i32 at, u32 (*memory)[MODEL_PAGE_SIZE])
{
    const struct model_seq *seq = model_find(&run->model, run->handles[at]);
    for (i64 i = run->n_written[at]; seq && i < seq->n_tokens; i++) {
        const i64 slot = run->slots[at][i];
        memory[slot / run->model.page_size][slot % run->model.page_size] = run->tokens[at][i];
    }
}

/* What a caller does in a step: all copies first, then what waits to be written. */
static bool write_step(struct run *run)
{
    i64 pairs[2 * MODEL_PAGES], want[2 * MODEL_PAGES], n;
    SAME(run, "take_copies", folio_cache_take_copies(run->cache, pairs, MODEL_PAGES, &n), FOLIO_OK);
    SAME(run, "copies taken", n, model_take(&run->model, want, MODEL_PAGES));
    for (i64 i = 0; i < n; i++) {
        SAME(run, "copy from", pairs[2 * i], want[2 * i]);
        SAME(run, "copy to", pairs[2 * i + 1], want[2 * i + 1]);
        copy_page(run->memory, pairs[2 * i], pairs[2 * i + 1]);
    }
    for (i32 at = 0; at < RUN_HANDLES; at++) {
        const struct model_seq *seq = model_find(&run->model, run->handles[at]);
        write_tokens(run, at, run->memory);
        run->n_written[at] = seq ? seq->n_tokens : 0;
    }
    return true;
}

/* If all copies were done and all waiting tokens written now, every sequence would read its own tokens. */
static bool check_tokens(struct run *run)
{
    u32 memory[MODEL_PAGES][MODEL_PAGE_SIZE];
    memcpy(memory, run->memory, sizeof memory);
    for (i32 i = 0; i < run->model.n_copies; i++)
        copy_page(memory, run->model.copies[i][0], run->model.copies[i][1]);
    for (i32 at = 0; at < RUN_HANDLES; at++)
        write_tokens(run, at, memory);
    for (i32 at = 0; at < RUN_HANDLES; at++) {
        const struct model_seq *seq = model_find(&run->model, run->handles[at]);
        for (i64 i = 0; seq && i < seq->n_tokens; i++) {
            const i32 page = seq->pages[i / run->model.page_size], slot = (i32)(i % run->model.page_size);
            if (memory[page][slot] != run->tokens[at][i])
                return differ(run, "handle %d reads token %u at position %lld, page %d, slot %d; it wrote %u", at,
                              memory[page][slot], (long long)i, page, slot, run->tokens[at][i]);
        }
    }
    return true;
}

/* --- comparing --- */

static bool compare_stats(struct run *run)
{
    folio_cache_stats stats = { .struct_size = sizeof stats }, want = model_stats(&run->model);
    SAME(run, "get_stats", folio_cache_get_stats(run->cache, &stats), FOLIO_OK);
    SAME(run, "n_pages", stats.n_pages, want.n_pages);
    SAME(run, "n_free", stats.n_free, want.n_free);
    SAME(run, "n_held", stats.n_held, want.n_held);
    SAME(run, "n_shared", stats.n_shared, want.n_shared);
    SAME(run, "n_seqs", stats.n_seqs, want.n_seqs);
    SAME(run, "n_tokens", stats.n_tokens, want.n_tokens);
    SAME(run, "n_slots_unused", stats.n_slots_unused, want.n_slots_unused);
    SAME(run, "n_copies", stats.n_copies, want.n_copies);
    SAME(run, "peak_held", stats.peak_held, want.peak_held);
    SAME(run, "n_allocated", stats.n_allocated, want.n_allocated);
    SAME(run, "n_released", stats.n_released, want.n_released);
    folio_shortage shortage = { .struct_size = sizeof shortage };
    SAME(run, "get_shortage", folio_cache_get_shortage(run->cache, &shortage), FOLIO_OK);
    SAME(run, "shortage.needed", shortage.needed, run->model.shortage.needed);
    SAME(run, "shortage.n_free", shortage.n_free, run->model.shortage.n_free);
    SAME(run, "shortage.can_fit", shortage.can_fit, run->model.shortage.can_fit);
    return true;
}

/* Lengths and tables of the open handles; stale ones are refused. */
static bool compare_tables(struct run *run)
{
    enum { STRIDE = MODEL_PAGES + 1 };
    const struct model *m = &run->model;
    folio_seq open[RUN_HANDLES];
    const struct model_seq *seqs[RUN_HANDLES];
    i32 n = 0, table[RUN_HANDLES * STRIDE], indptr[RUN_HANDLES + 1], indices[RUN_HANDLES * MODEL_PAGES];
    i64 n_tokens, capacity, n_pages, width, max_width = 0, kv_lens[RUN_HANDLES], total = 0;
    for (i32 at = 0; at < RUN_HANDLES; at++) {
        const struct model_seq *seq = model_find(m, run->handles[at]);
        SAME(run, "seq_info", folio_seq_info(run->cache, run->handles[at], &n_tokens, &capacity, &n_pages),
             seq ? FOLIO_OK : FOLIO_EHANDLE);
        if (!seq)
            continue;
        SAME(run, "length", n_tokens, seq->n_tokens);
        SAME(run, "capacity", capacity, seq->n_pages * m->page_size);
        SAME(run, "pages held", n_pages, seq->n_pages);
        seqs[n] = seq;
        open[n++] = run->handles[at];
    }
    SAME(run, "page_table", folio_cache_page_table(run->cache, open, n, table, STRIDE, kv_lens), FOLIO_OK);
    SAME(run, "page_table_csr", folio_cache_page_table_csr(run->cache, open, n, indptr, indices, n * MODEL_PAGES, NULL),
         FOLIO_OK);
    for (i32 i = 0; i < n; i++) {
        SAME(run, "kv_len", kv_lens[i], seqs[i]->n_tokens);
        SAME(run, "indptr", indptr[i], total);
        const i64 n_used = (seqs[i]->n_tokens + m->page_size - 1) / m->page_size;
        for (i64 column = 0; column < STRIDE; column++)
            SAME(run, "table entry", table[i * STRIDE + column], column < n_used ? seqs[i]->pages[column] : -1);
        for (i64 column = 0; column < n_used; column++)
            SAME(run, "CSR entry", indices[total + column], seqs[i]->pages[column]);
        total += n_used;
        max_width = n_used > max_width ? n_used : max_width;
    }
    SAME(run, "last indptr", indptr[n], total);
    SAME(run, "table_width", folio_cache_table_width(run->cache, open, n, &width), FOLIO_OK);
    SAME(run, "width", width, max_width);
    return true;
}

static bool compare(struct run *run)
{
    if (folio_cache_check(run->cache) != FOLIO_OK)
        return differ(run, "check: %s", folio_last_error());
    return compare_stats(run) && compare_tables(run) && check_tokens(run);
}

/* --- operations --- */

/* A length or a count out of two bytes: mostly small, now and then absurd. */
static i64 amount(const struct run *run, u8 b, u8 c)
{
    static const i64 absurd[] = { -1, INT64_MIN, INT64_MAX, INT64_C(1) << 62, 1 << 20, MODEL_TOKENS };
    if (c % 32 == 31)
        return absurd[b % COUNT_OF(absurd)];
    return b % (c % 16 == 0 ? MODEL_TOKENS : c % 4 == 1 ? 3 * run->model.page_size : 3);
}

/* A place for a new handle: one whose sequence is closed; there are more places than sequences. */
static i32 vacant(const struct run *run, i32 at)
{
    while (model_find(&run->model, run->handles[at]))
        at = (at + 1) % RUN_HANDLES;
    return at;
}

/* Mostly an open handle; one time in sixteen any, stale ones too. */
static i32 pick(const struct run *run, u8 a)
{
    i32 open[RUN_HANDLES], n = 0;
    for (i32 at = 0; at < RUN_HANDLES; at++)
        if (model_find(&run->model, run->handles[at]))
            open[n++] = at;
    return n == 0 || a % 16 == 15 ? a / 16 % RUN_HANDLES : open[a % 16 % n];
}

static bool do_open(struct run *run, struct op op)
{
    const i32 at = vacant(run, op.a % RUN_HANDLES);
    folio_seq got = 0, want = 0;
    SAME(run, "open", folio_seq_open(run->cache, &got), model_open(&run->model, &want));
    SAME(run, "handle", got, want);
    if (want)
        run->handles[at] = want;
    run->n_written[at] = 0;
    return true;
}

static bool do_append(struct run *run, struct op op)
{
    const i32 at = pick(run, op.a);
    const i64 n_new = amount(run, op.b, op.c);
    i64 slots[MODEL_TOKENS + 1], want[MODEL_TOKENS + 1];
    struct model_seq *seq = model_find(&run->model, run->handles[at]);
    const i64 begin = seq ? seq->n_tokens : 0;
    const folio_status status = model_append(&run->model, run->handles[at], n_new, want);
    SAME(run, "append", folio_seq_append(run->cache, run->handles[at], n_new, slots), status);
    for (i64 i = 0; status == FOLIO_OK && i < n_new; i++) {
        SAME(run, "slot", slots[i], want[i]);
        run->tokens[at][begin + i] = ++run->n_tokens;
        run->slots[at][begin + i] = slots[i];
    }
    return true;
}

static bool do_reserve(struct run *run, struct op op)
{
    const folio_seq seq = run->handles[pick(run, op.a)];
    const struct model_seq *s = model_find(&run->model, seq);
    const i64 more = amount(run, op.b, op.c),
              n_tokens = s && op.c % 4 > 1 && op.c % 32 != 31 ? s->n_tokens + more : more;
    SAME(run, "reserve", folio_seq_reserve(run->cache, seq, n_tokens), model_reserve(&run->model, &seq, &n_tokens, 1));
    return true;
}

/* Two or three handles, sometimes one twice. Lengths: a little beyond each. */
static bool do_batch(struct run *run, struct op op)
{
    folio_seq seqs[3];
    i64 n_tokens[3];
    const i32 n = 2 + op.b % 2;
    for (i32 i = 0; i < n; i++) {
        seqs[i] = run->handles[pick(run, (u8)(op.a + (op.b % 16 == 15 ? 0 : i)))];
        const struct model_seq *seq = model_find(&run->model, seqs[i]);
        n_tokens[i] =
            op.c == 255 ? INT64_MAX : (seq ? seq->n_tokens : 0) + (op.c >> i) % (2 * run->model.page_size + 1);
    }
    SAME(run, "batch reserve", folio_cache_reserve(run->cache, seqs, n_tokens, n),
         model_reserve(&run->model, seqs, n_tokens, n));
    return true;
}

static bool do_truncate(struct run *run, struct op op)
{
    const i32 at = pick(run, op.a);
    const struct model_seq *seq = model_find(&run->model, run->handles[at]);
    i64 n_tokens = amount(run, op.b, op.c);
    if (seq && op.c % 4 != 0 && op.c % 32 != 31) /* count from the end */
        n_tokens = seq->n_tokens > n_tokens ? seq->n_tokens - n_tokens : 0;
    SAME(run, "truncate", folio_seq_truncate(run->cache, run->handles[at], n_tokens),
         model_truncate(&run->model, run->handles[at], n_tokens));
    if (seq && run->n_written[at] > seq->n_tokens)
        run->n_written[at] = seq->n_tokens;
    return true;
}

static bool do_fork(struct run *run, struct op op)
{
    const i32 from = pick(run, op.a);
    const struct model_seq *seq = model_find(&run->model, run->handles[from]);
    if (seq && run->n_written[from] < seq->n_tokens && !write_step(run)) /* the rule: written before a fork goes on */
        return false;
    const i32 at = vacant(run, op.b % RUN_HANDLES);
    folio_seq got = 0, want = 0;
    SAME(run, "fork", folio_seq_fork(run->cache, run->handles[from], &got),
         model_fork(&run->model, run->handles[from], &want));
    SAME(run, "handle", got, want);
    if (!want)
        return true;
    run->handles[at] = want;
    memcpy(run->tokens[at], run->tokens[from], sizeof run->tokens[at]);
    run->n_written[at] = run->n_written[from];
    return true;
}

/* A fork that at once gets a tail of its own: chains of copies. */
static bool do_branch(struct run *run, struct op op)
{
    const i32 at = vacant(run, op.b % RUN_HANDLES);
    if (!do_fork(run, op))
        return false;
    const struct model_seq *seq = model_find(&run->model, run->handles[at]);
    const i64 n_tokens = seq ? seq->n_tokens + 1 : 1;
    SAME(run, "reserve", folio_seq_reserve(run->cache, run->handles[at], n_tokens),
         model_reserve(&run->model, &run->handles[at], &n_tokens, 1));
    return true;
}

static bool do_close(struct run *run, struct op op)
{
    const folio_seq seq = run->handles[pick(run, op.a)];
    SAME(run, "close", folio_seq_close(run->cache, seq), model_close(&run->model, seq));
    return true;
}

static bool do_take(struct run *run, struct op op)
{
    i64 pairs[2 * 3], want[2 * 3], n;
    SAME(run, "take_copies", folio_cache_take_copies(run->cache, pairs, op.a % 4, &n), FOLIO_OK);
    SAME(run, "copies taken", n, model_take(&run->model, want, op.a % 4));
    for (i64 i = 0; i < n; i++) {
        SAME(run, "copy from", pairs[2 * i], want[2 * i]);
        SAME(run, "copy to", pairs[2 * i + 1], want[2 * i + 1]);
        copy_page(run->memory, pairs[2 * i], pairs[2 * i + 1]);
    }
    return true;
}

static bool do_write(struct run *run, struct op op)
{
    (void)op;
    return write_step(run);
}

static const struct {
    const char *name;
    bool (*run)(struct run *run, struct op op);
} kinds[N_OP_KINDS] = {
    [OP_OPEN] = { "OPEN", do_open },
    [OP_APPEND] = { "APPEND", do_append },
    [OP_RESERVE] = { "RESERVE", do_reserve },
    [OP_BATCH] = { "BATCH", do_batch },
    [OP_TRUNCATE] = { "TRUNCATE", do_truncate },
    [OP_FORK] = { "FORK", do_fork },
    [OP_BRANCH] = { "BRANCH", do_branch },
    [OP_CLOSE] = { "CLOSE", do_close },
    [OP_TAKE] = { "TAKE", do_take },
    [OP_WRITE] = { "WRITE", do_write },
};

bool run_op(struct run *run, struct op op)
{
    return kinds[op.kind % N_OP_KINDS].run(run, op) && compare(run);
}

i32 run_ops(const struct run_config *config, const struct op *ops, i32 n, i32 fault, char error[512])
{
    struct run run;
    i32 n_done = 0;
    if (run_create(&run, config)) {
        run.model.fault = fault;
        while (n_done < n && run_op(&run, ops[n_done]))
            n_done++;
    }
    memcpy(error, run.error, sizeof run.error);
    run_destroy(&run);
    return n_done;
}

void op_text(struct op op, char *text, size_t n)
{
    snprintf(text, n, "{ OP_%s, %u, %u, %u }", kinds[op.kind % N_OP_KINDS].name, op.a, op.b, op.c);
}
