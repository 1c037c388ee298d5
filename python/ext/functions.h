/* SPDX-License-Identifier: Apache-2.0
 * functions.h: everything Python can call, and its documentation. */
#ifndef FOLIO_EXT_FUNCTIONS_H
#define FOLIO_EXT_FUNCTIONS_H

#include "ext.h"

typedef PyObject *ext_function(PyObject *module, PyObject *const *args, Py_ssize_t n_args, PyObject *keywords);

ext_function ext_attention, ext_explain, ext_plan;
ext_function ext_append, ext_gather, ext_copy_pages, ext_pages_from_contiguous, ext_merge;
ext_function ext_ffi_targets;

PyObject *ext_ffi_context(PyObject *module, PyObject *args);

/* _row_slots(page_row, first, n_tokens, page_size) -> int64 [n_tokens]: slots of the tokens from position first. */
PyObject *ext_row_slots(PyObject *module, PyObject *args);

/* The types' specs: plan.c, cache.c. */
extern PyType_Spec ext_plan_spec, ext_cache_spec;

/* docs.c, docs_pages.c, docs_cache.c: "name(signature)\n--\n\ntext" */
extern const char ext_doc_attention[], ext_doc_plan[], ext_doc_explain[];
extern const char ext_doc_plan_type[], ext_doc_run[], ext_doc_update[], ext_doc_check[];
extern const char ext_doc_append[], ext_doc_gather[], ext_doc_copy_pages[], ext_doc_pages_from_contiguous[],
    ext_doc_merge[];
extern const char ext_doc_ffi_targets[];
extern const char ext_doc_cache_type[], ext_doc_cache_open[], ext_doc_cache_reserve[], ext_doc_cache_append[],
    ext_doc_cache_truncate[], ext_doc_cache_fork[], ext_doc_cache_close[], ext_doc_cache_take_copies[],
    ext_doc_cache_page_table[], ext_doc_cache_kv_lens[], ext_doc_cache_slots[], ext_doc_cache_free_pages[],
    ext_doc_cache_stats[], ext_doc_cache_check[];

#endif
