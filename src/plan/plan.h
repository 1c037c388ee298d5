/* SPDX-License-Identifier: Apache-2.0
 * plan.h: lengths and machine width -> work items. Pure functions: no tensors, no threads, no kernels.
 *
 *   sequence b     q rows   [0 ........ tile_rows ........ q_len)       ROWS: one tile; TILE: tile_rows each
 *                  kv heads [0 . 1 . 2 ...... n_kv_heads)               ROWS: all, or ranges; TILE: one each
 *      unit        = rows x heads; its keys in splits, a function of the sequence's own length:
 *                  [ s 0 | s 1 | s 2 | ... | s n-1 ]                    splits that no row may see are left out
 *      item        = a unit, whole, and written at once; or, when one unit is too much for one worker,
 *                  [ item 0  | item 1    | item 2  ]                    splits write partials; the last to come folds
 *
 * Which splits there are never depends on width; how many rows a tile has and which item holds which split do, and
 * change no bit. */
#ifndef FOLIO_PLAN_PLAN_H
#define FOLIO_PLAN_PLAN_H

#include <stdbool.h>

#include "folio/base.h"
#include "kernel/args.h"

/* The page tables, where sequences may share work on equal leading pages (FOLIO_CASCADE). */
struct plan_tables {
    struct table_view k, v; /* v NULL ids = the same */
    i64 page_size;
};

/* Everything but the lengths. */
struct plan_shape {
    struct tiling tiling;
    i64 batch, n_tokens, max_q_len, max_kv_len; /* lengths never exceed the maxima */
    i64 window_left, window_right;              /* -1 = none */
    i32 causal, align;                          /* as in attend_args */
    i32 num_splits;                             /* 0 = by tiling; else at least so many where there are keys */
    i32 width;                                  /* workers */
    i32 n_kv_heads, group, head_dim_qk, head_dim_v;
    const struct mod_program *mask_mod;  /* or NULL */
    const struct block_mask *block_mask; /* or NULL */
    struct mod_range *ranges;            /* scratch [steps of mask_mod] */
    bool may_share;                      /* make room for it; only then may tables be given */
    const struct plan_tables *tables;    /* of the lengths to plan, or NULL */
};

struct plan_bounds {
    i64 n_items, n_units, n_cut_items, n_partial_rows;
};

/* A unit in several items. */
struct plan_unit {
    struct attend_item whole; /* what fold takes: every split */
    i32 n_items;              /* arrivals that make it complete */
};

/* Sequences whose first `tokens` keys lie in the same pages: computed once for all, in pieces, as partials of each. */
struct plan_group {
    i64 tokens, piece_tokens;
    i32 member_begin, n_members; /* in plan_work.members */
    i64 row_begin, n_rows;       /* in plan_work.shared_rows */
};

struct plan_work {
    struct plan_bounds bounds; /* room below */
    struct attend_item *items; /* [n_items] by sequence */
    u8 *rank;                  /* [n_items] of the cost, 255 = costliest */
    i32 *order;                /* [n_items] indices of items, costly first */
    struct plan_unit *units;   /* [n_units] those in several items */
    i64 n_items, n_units, n_cut_items, n_partial_rows;
    struct plan_group *groups;      /* [n_groups] */
    i32 *members;                   /* [n_members] sequences, by group */
    i64 *alike;                     /* [batch] scratch: tokens shared with the sequence at work; -1 = is in a group */
    struct shared_row *shared_rows; /* [n_shared_rows], by group and member */
    i64 n_groups, n_members, n_shared_rows;
    i32 n_workers; /* 1 .. width; more would only wait. 0 = no items */
};

/* Room that no lengths within the maxima can exceed. EINVAL, ENOMEM. */
folio_status folio__plan_bounds(struct plan_bounds *bounds, const struct plan_shape *shape);
folio_status folio__plan_work_create(struct plan_work *work, const struct plan_shape *shape);
void folio__plan_work_destroy(struct plan_work *work);

/* q_begin [batch + 1] from 0, rising, kv_lens [batch]: valid. Allocates nothing, cannot fail. */
void folio__plan_make(struct plan_work *work, const struct plan_shape *shape, const i64 *q_begin, const i64 *kv_lens);

/* share.c: finds groups in shape->tables: work->groups, members. Leaves alike[seq] = -1 for their members. */
void folio__plan_find_groups(struct plan_work *work, const struct plan_shape *shape, const i64 *q_begin,
                             const i64 *kv_lens);
/* Do the tables still show what the groups were made from? */
bool folio__plan_groups_hold(const struct plan_work *work, const struct plan_tables *tables);

/* cascade.c: the items of a group: its keys for all members' rows, and each member's own. */
void folio__plan_add_group(struct plan_work *work, const struct plan_shape *shape, const struct plan_group *group,
                           const i64 *q_begin, const i64 *kv_lens);
void folio__plan_add_item(struct plan_work *work, const struct attend_item *item, double cost);

/* The most pieces that a group's keys, and a member's own, are cut into. */
enum { PLAN_SHARED_PIECES = 4, PLAN_OWN_PIECES = 5 };
/* Room that shares take beside the rest. */
folio_status folio__plan_share_bounds(struct plan_bounds *bounds, const struct plan_shape *shape);

/* tiling.tile_rows, or fewer where they would leave workers idle: no bit depends on it. */
i32 folio__plan_tile_rows(const struct plan_shape *shape);

/* The parts that make uses, for tests and explain. */
i32 folio__plan_family(const struct plan_shape *shape, i64 q_len);
i64 folio__plan_split_tokens(const struct plan_shape *shape, i32 family, i64 kv_len);

/* Keys [begin, end) that any row of rows [row_begin, row_end) may see by causal and window; begin == end = none. */
struct plan_keys {
    i64 begin, end;
};
struct plan_keys folio__plan_visible_keys(const struct plan_shape *shape, i64 q_len, i64 kv_len, i64 row_begin,
                                          i64 row_end);

/* block_map.c: of those, what mask_mod and the block mask of sequence seq leave. A superset; values of captured arrays
 * do not count, for they may be others when the plan is used. */
struct plan_keys folio__plan_kept_keys(const struct plan_shape *shape, i64 seq, i64 q_len, i64 kv_len, i64 row_begin,
                                       i64 row_end);

/* reads.c: keys that the items read, each counted once an item and kv head that reads it. Kernels read no more. */
i64 folio__plan_reads(const struct plan_work *work, const struct plan_shape *shape);

/* Lines of text about the items, for people; snprintf's contract. */
size_t folio__plan_dump(const struct plan_work *work, char *text, size_t n);

#endif
