/* SPDX-License-Identifier: Apache-2.0
 * cache.h: the object behind folio.Cache, and the methods that give arrays. */
#ifndef FOLIO_EXT_CACHE_H
#define FOLIO_EXT_CACHE_H

#include "ext.h"

struct cache {
    PyObject_HEAD folio_cache *cache;
    int64_t n_pages, page_size;
};

folio_cache *ext_cache_of(PyObject *self);
struct ext_state *ext_cache_state(PyObject *self);
/* Raise; NoPagesError gets the numbers of the shortage: needed, free, can_fit. Returns NULL. */
PyObject *ext_cache_raise(PyObject *self, folio_status status);
/* A handle: any int, judged by the library. -1 with a TypeError. */
int ext_read_seq(PyObject *value, folio_seq *seq);

/* cache_tables.c */
PyObject *ext_cache_take_copies(PyObject *self, PyObject *no_args);
PyObject *ext_cache_page_table(PyObject *self, PyObject *const *args, Py_ssize_t n_args, PyObject *keywords);
PyObject *ext_cache_kv_lens(PyObject *self, PyObject *const *args, Py_ssize_t n_args, PyObject *keywords);
PyObject *ext_cache_slots(PyObject *self, PyObject *const *args, Py_ssize_t n_args, PyObject *keywords);
PyObject *ext_cache_free_pages(PyObject *self, PyObject *no_args);
PyObject *ext_cache_stats(PyObject *self, PyObject *no_args);

#endif
