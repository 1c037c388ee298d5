/* SPDX-License-Identifier: Apache-2.0
 * cache.c: folio.Cache: folio/cache.h with handles as ints. */
#include "cache.h"

#include "functions.h"
#include "params.h"
#include "result.h"

folio_cache *ext_cache_of(PyObject *self)
{
    return ((struct cache *)self)->cache;
}

struct ext_state *ext_cache_state(PyObject *self)
{
    return PyType_GetModuleState(Py_TYPE(self));
}

PyObject *ext_cache_raise(PyObject *self, folio_status status)
{
    struct ext_state *state = ext_cache_state(self);
    ext_raise(state, status);
    if (status != FOLIO_ENOPAGES && status != FOLIO_ETOOBIG)
        return NULL;
    folio_shortage shortage = { .struct_size = sizeof shortage };
    if (folio_cache_get_shortage(ext_cache_of(self), &shortage) != FOLIO_OK)
        return NULL;
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    PyObject *needed = PyLong_FromLongLong(shortage.needed), *n_free = PyLong_FromLongLong(shortage.n_free);
    if (!needed || !n_free || PyObject_SetAttrString(error, "needed", needed) < 0 ||
        PyObject_SetAttrString(error, "free", n_free) < 0 ||
        PyObject_SetAttrString(error, "can_fit", shortage.can_fit ? Py_True : Py_False) < 0)
        PyErr_Clear();
    Py_XDECREF(needed);
    Py_XDECREF(n_free);
    PyErr_Restore(type, error, traceback);
    return NULL;
}

int ext_read_seq(PyObject *value, folio_seq *seq)
{
    PyObject *integer = PyNumber_Index(value);
    if (!integer) {
        PyErr_Format(PyExc_TypeError, "seq: %R; must be a handle, as open() and fork() give", value);
        return -1;
    }
    *seq = PyLong_AsUnsignedLongLong(integer);
    Py_DECREF(integer);
    if (PyErr_Occurred()) { /* negative or huge: no handle was ever such; 0 is none, and the library says so */
        PyErr_Clear();
        *seq = 0;
    }
    return 0;
}

/* A truth value, into its bit. -1 with an exception. */
static int read_flag(PyObject *value, uint32_t bit, uint32_t *flags)
{
    const int is_set = value ? PyObject_IsTrue(value) : 0;
    *flags |= is_set > 0 ? bit : 0;
    return is_set < 0 ? -1 : 0;
}

static PyObject *new (PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    enum { N_PAGES, PAGE_SIZE, MAX_SEQS, PREFIX, LIFO, USE_PAGE_0, N_VALUES };
    struct ext_state *state = PyType_GetModuleState(type);
    PyObject *values[N_VALUES];
    folio_cache_config config = { .struct_size = sizeof config, .max_seqs = 256 };
    if (ext_params_read_new(state, SIG_CACHE, "Cache", args, keywords, values) < 0 ||
        ext_read_i64("n_pages", values[N_PAGES], &config.n_pages) < 0 ||
        ext_read_i64("page_size", values[PAGE_SIZE], &config.page_size) < 0 ||
        (values[MAX_SEQS] && ext_read_i64("max_seqs", values[MAX_SEQS], &config.max_seqs) < 0))
        return NULL;
    if (config.max_seqs == 0) /* the library's 0 is its default */
        return PyErr_Format(PyExc_ValueError, "max_seqs: 0; must be >= 1");
    const int prefix = values[PREFIX] ? PyObject_IsTrue(values[PREFIX]) : 0;
    if (prefix > 0)
        PyErr_SetString(PyExc_NotImplementedError, "prefix: the prefix index is not there yet; must be False");
    if (prefix != 0 || read_flag(values[LIFO], FOLIO_CACHE_LIFO, &config.flags) < 0 ||
        read_flag(values[USE_PAGE_0], FOLIO_CACHE_USE_PAGE_0, &config.flags) < 0)
        return NULL;
    struct cache *self = (struct cache *)PyType_GenericAlloc(type, 0);
    if (!self)
        return NULL;
    const folio_status status = folio_cache_create(&self->cache, &config);
    if (status != FOLIO_OK) {
        Py_DECREF(self);
        return ext_raise(state, status);
    }
    self->n_pages = config.n_pages;
    self->page_size = config.page_size;
    return (PyObject *)self;
}

static void dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    folio_cache_destroy(&((struct cache *)object)->cache);
    PyObject_Free(object);
    Py_DECREF(type);
}

static PyObject *done(PyObject *self, folio_status status)
{
    return status == FOLIO_OK ? Py_NewRef(Py_None) : ext_cache_raise(self, status);
}

static PyObject *cache_open(PyObject *self, PyObject *no_args)
{
    folio_seq seq;
    (void)no_args;
    const folio_status status = folio_seq_open(ext_cache_of(self), &seq);
    return status == FOLIO_OK ? PyLong_FromUnsignedLongLong(seq) : ext_cache_raise(self, status);
}

/* (seq, n) of a call, n by the name it has in the signature. */
static int read_seq_and(PyObject *self, enum ext_signature_id id, const char *function, const char *name,
                        PyObject *const *args, Py_ssize_t n_args, PyObject *keywords, folio_seq *seq, int64_t *n)
{
    PyObject *values[2];
    if (ext_params_read(ext_cache_state(self), id, function, args, n_args, keywords, values) < 0 ||
        ext_read_seq(values[0], seq) < 0)
        return -1;
    return ext_read_i64(name, values[1], n);
}

static PyObject *cache_reserve(PyObject *self, PyObject *const *args, Py_ssize_t n_args, PyObject *keywords)
{
    folio_seq seq;
    int64_t n_tokens;
    if (read_seq_and(self, SIG_SEQ_TOKENS, "reserve", "n_tokens", args, n_args, keywords, &seq, &n_tokens) < 0)
        return NULL;
    return done(self, folio_seq_reserve(ext_cache_of(self), seq, n_tokens));
}

static PyObject *cache_truncate(PyObject *self, PyObject *const *args, Py_ssize_t n_args, PyObject *keywords)
{
    folio_seq seq;
    int64_t n_tokens;
    if (read_seq_and(self, SIG_SEQ_TOKENS, "truncate", "n_tokens", args, n_args, keywords, &seq, &n_tokens) < 0)
        return NULL;
    return done(self, folio_seq_truncate(ext_cache_of(self), seq, n_tokens));
}

/* n_new more tokens are no more than the pool has slots, so that an array for them is worth making. */
static bool may_fit(const struct cache *self, int64_t n_before, int64_t n_new)
{
    int64_t total;
    return n_new >= 0 && !__builtin_add_overflow(n_before, n_new, &total) && total / self->page_size <= self->n_pages;
}

/* The array of slots is made before the append, so that a failure of either has changed nothing. */
static PyObject *cache_append(PyObject *self, PyObject *const *args, Py_ssize_t n_args, PyObject *keywords)
{
    folio_seq seq;
    int64_t n_new, n_before;
    if (read_seq_and(self, SIG_SEQ_NEW, "append", "n_new", args, n_args, keywords, &seq, &n_new) < 0)
        return NULL;
    folio_status status = folio_seq_info(ext_cache_of(self), seq, &n_before, NULL, NULL);
    if (status != FOLIO_OK)
        return ext_cache_raise(self, status);
    if (!may_fit((struct cache *)self, n_before, n_new)) /* the library says why, and counts the shortage */
        return done(self, folio_seq_append(ext_cache_of(self), seq, n_new, NULL));
    void *slots;
    PyObject *array = ext_numpy_new(ext_cache_state(self), EXT_I64, 1, &n_new, &slots);
    status = array ? folio_seq_append(ext_cache_of(self), seq, n_new, slots) : FOLIO_OK;
    if (status != FOLIO_OK) {
        Py_CLEAR(array);
        ext_cache_raise(self, status);
    }
    return array;
}

static PyObject *cache_fork(PyObject *self, PyObject *const *args, Py_ssize_t n_args, PyObject *keywords)
{
    PyObject *value;
    folio_seq seq, forked;
    if (ext_params_read(ext_cache_state(self), SIG_SEQ, "fork", args, n_args, keywords, &value) < 0 ||
        ext_read_seq(value, &seq) < 0)
        return NULL;
    const folio_status status = folio_seq_fork(ext_cache_of(self), seq, &forked);
    return status == FOLIO_OK ? PyLong_FromUnsignedLongLong(forked) : ext_cache_raise(self, status);
}

static PyObject *cache_close(PyObject *self, PyObject *const *args, Py_ssize_t n_args, PyObject *keywords)
{
    PyObject *value;
    folio_seq seq;
    if (ext_params_read(ext_cache_state(self), SIG_SEQ, "close", args, n_args, keywords, &value) < 0 ||
        ext_read_seq(value, &seq) < 0)
        return NULL;
    return done(self, folio_seq_close(ext_cache_of(self), seq));
}

static PyObject *cache_check(PyObject *self, PyObject *no_args)
{
    (void)no_args;
    return done(self, folio_cache_check(ext_cache_of(self)));
}

#define KEYWORDS(function) (PyCFunction)(void *)(function), METH_FASTCALL | METH_KEYWORDS
static PyMethodDef methods[] = {
    { "open", cache_open, METH_NOARGS, ext_doc_cache_open },
    { "reserve", KEYWORDS(cache_reserve), ext_doc_cache_reserve },
    { "append", KEYWORDS(cache_append), ext_doc_cache_append },
    { "truncate", KEYWORDS(cache_truncate), ext_doc_cache_truncate },
    { "fork", KEYWORDS(cache_fork), ext_doc_cache_fork },
    { "close", KEYWORDS(cache_close), ext_doc_cache_close },
    { "take_copies", ext_cache_take_copies, METH_NOARGS, ext_doc_cache_take_copies },
    { "page_table", KEYWORDS(ext_cache_page_table), ext_doc_cache_page_table },
    { "kv_lens", KEYWORDS(ext_cache_kv_lens), ext_doc_cache_kv_lens },
    { "slots", KEYWORDS(ext_cache_slots), ext_doc_cache_slots },
    { "free_pages", ext_cache_free_pages, METH_NOARGS, ext_doc_cache_free_pages },
    { "stats", ext_cache_stats, METH_NOARGS, ext_doc_cache_stats },
    { "check", cache_check, METH_NOARGS, ext_doc_cache_check },
    { 0 },
};
#undef KEYWORDS

static PyType_Slot slots[] = {
    { Py_tp_doc, (void *)ext_doc_cache_type },
    { Py_tp_new, (void *)new },
    { Py_tp_dealloc, (void *)dealloc },
    { Py_tp_methods, methods },
    { 0 },
};

PyType_Spec ext_cache_spec = {
    .name = "folio.Cache",
    .basicsize = sizeof(struct cache),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};
