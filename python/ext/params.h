/* SPDX-License-Identifier: Apache-2.0
 * params.h: the parameters of every function, and the values of one call. */
#ifndef FOLIO_EXT_PARAMS_H
#define FOLIO_EXT_PARAMS_H

#include "ext.h"

/* attention(), plan(), explain(): X(name), in the order of the signature; the first three are positional. */
/* clang-format off */
#define EXT_ATTEND_PARAMS(X)                                                                            \
    X(q) X(k_pages) X(v_pages)                                                                          \
    X(kv_lens) X(page_table) X(v_page_table) X(kv_indptr) X(kv_indices) X(q_indptr)                     \
    X(layout) X(page_size) X(causal) X(align) X(scale) X(window) X(softcap)                             \
    X(alibi_slopes) X(sinks) X(mask) X(bias) X(score_mod) X(mask_mod) X(block_mask) X(captures)         \
    X(k_scale) X(v_scale) X(out) X(lse) X(return_lse) X(max_q_len) X(max_kv_len)                        \
    X(cascade) X(num_splits) X(num_threads) X(stream) X(backend)
/* clang-format on */

#define EXT_ENUM(name) P_##name,
enum { EXT_ATTEND_PARAMS(EXT_ENUM) N_ATTEND_PARAMS };
#undef EXT_ENUM

enum ext_signature_id {
    SIG_ATTENTION,
    SIG_PLAN,
    SIG_EXPLAIN,
    SIG_RUN,
    SIG_UPDATE,
    SIG_APPEND,
    SIG_GATHER,
    SIG_COPY_PAGES,
    SIG_FROM_CONTIGUOUS,
    SIG_MERGE,
    SIG_CACHE,
    SIG_SEQ,
    SIG_SEQ_TOKENS,
    SIG_SEQ_NEW,
    SIG_SEQS,
    SIG_SLOTS,
    N_SIGNATURES
};

_Static_assert((int)N_SIGNATURES <= (int)EXT_N_SIGNATURES, "state->params has a place for each");

/* tuple of interned names for each signature, into state->params. */
int ext_params_init(struct ext_state *state);

/* Sort the values of a METH_FASTCALL | METH_KEYWORDS call into values [n of the signature]; NULL = not given.
 * `function` is its name in messages. -1 with a TypeError as Python's own. */
int ext_params_read(const struct ext_state *state, enum ext_signature_id id, const char *function,
                    PyObject *const *args, Py_ssize_t n_args, PyObject *keywords, PyObject **values);
/* The same for tp_new: args is a tuple, keywords a dict or NULL. */
int ext_params_read_new(const struct ext_state *state, enum ext_signature_id id, const char *function, PyObject *args,
                        PyObject *keywords, PyObject **values);

#endif
