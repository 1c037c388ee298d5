/* SPDX-License-Identifier: Apache-2.0
 * bad_problem.h: one thing made wrong in a good problem, and what must be said about it. Shared by the table test and
 * the fuzzer. Numbers are the rows of the project's list of malformed calls. */
#ifndef FOLIO_TESTS_BAD_PROBLEM_H
#define FOLIO_TESTS_BAD_PROBLEM_H

#include "support/problem.h"

enum { MAX_EDITS = 8 };

/* A problem whose args may point to edited headers. */
struct bad_problem {
    struct random_problem p;
    struct edit {
        DLTensor dl;
        i64 shape[6], strides[6];
    } edits[MAX_EDITS];
    i32 n_edits;
    u8 workspace[128];
};

struct mistake {
    i32 row;
    const char *name;
    bool (*make)(struct bad_problem *b); /* false = this problem has no place for it; nothing changed */
    folio_status status;
    folio_error_kind kind;
    const char *words[3]; /* in the message; NULL ends */
};

extern const struct mistake mistakes[];
extern const i32 n_mistakes;

/* A header of its own for the tensor that *slot names, with explicit strides, to be changed. */
struct edit *edit_tensor(struct bad_problem *b, const DLTensor **slot);

#endif
