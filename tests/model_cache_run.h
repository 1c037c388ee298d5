/* SPDX-License-Identifier: Apache-2.0
 * model_cache_run.h: a folio_cache and its model side by side, fed the same operations. After each, every output and
 * counter is compared, folio_cache_check walks the cache, and simulated pages show that each sequence reads its own
 * tokens. Shared by the random test, the enumerator and the fuzzer. */
#ifndef TESTS_MODEL_CACHE_RUN_H
#define TESTS_MODEL_CACHE_RUN_H

#include "model_cache.h"

/* An operation makes sense in every state: operands are taken modulo what there is. So any part of a list of
 * operations is a list of operations, and a failing list can be cut down. */
enum op_kind {
    OP_OPEN,
    OP_APPEND,
    OP_RESERVE,
    OP_BATCH,
    OP_TRUNCATE,
    OP_FORK,
    OP_BRANCH,
    OP_CLOSE,
    OP_TAKE,
    OP_WRITE,
    N_OP_KINDS
};

struct op {
    u8 kind, a, b, c;
};

enum { RUN_HANDLES = 8 }; /* the handles a run remembers, open and stale */

struct run {
    folio_cache *cache;
    struct model model;
    folio_seq handles[RUN_HANDLES];
    u32 tokens[RUN_HANDLES][MODEL_TOKENS];    /* who each token of the sequence is */
    i64 slots[RUN_HANDLES][MODEL_TOKENS];     /* where it was told to go */
    i64 n_written[RUN_HANDLES];               /* tokens that have been written there; the rest wait */
    u32 memory[MODEL_PAGES][MODEL_PAGE_SIZE]; /* what the pages hold */
    u32 n_tokens;                             /* identities given out */
    char error[512];                          /* the first difference; "" = none */
};

struct run_config {
    u8 n_pages, page_size, max_seqs, row_pages, flags; /* taken modulo what the model can hold */
};

/* false: create itself differs; see run->error. */
bool run_create(struct run *run, const struct run_config *config);
void run_destroy(struct run *run);
/* Do one operation on both and compare everything. false = a difference. */
bool run_op(struct run *run, struct op op);

/* A list of operations from the beginning. Gives how many could be done: n = all well. */
i32 run_ops(const struct run_config *config, const struct op *ops, i32 n, i32 fault, char error[512]);

/* "{ OP_TRUNCATE, 3, 17, 0 }" */
void op_text(struct op op, char *text, size_t n);

#endif
