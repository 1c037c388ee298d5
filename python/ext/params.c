/* SPDX-License-Identifier: Apache-2.0
 * params.c: one table of parameters; keywords are found by pointer, since Python interns them. */
#include "params.h"

#define EXT_TEXT(name) #name,
static const char *const attend_names[] = { EXT_ATTEND_PARAMS(EXT_TEXT) };
#undef EXT_TEXT
static const char *const run_names[] = { "q", "k_pages", "v_pages", "out", "lse", "return_lse", "stream" };
static const char *const update_names[] = { "kv_lens", "page_table", "q_indptr", "stream" };
static const char *const append_names[] = { "k",      "v",         "k_pages", "v_pages", "slots",
                                            "layout", "page_size", "k_scale", "v_scale" };
static const char *const gather_names[] = { "k_pages",   "v_pages", "page_row", "kv_len", "layout",
                                            "page_size", "k_scale", "v_scale",  "dtype" };
static const char *const copy_names[] = { "k_pages", "v_pages", "copies", "layout", "page_size" };
static const char *const contiguous_names[] = { "x", "page_size" };
static const char *const merge_names[] = { "outs", "lses" };
static const char *const cache_names[] = { "n_pages", "page_size", "max_seqs", "prefix", "lifo", "use_page_0" };
static const char *const seq_names[] = { "seq", "n_tokens" };
static const char *const seq_new_names[] = { "seq", "n_new" };
static const char *const seqs_names[] = { "seqs" };
static const char *const slots_names[] = { "seqs", "positions" };

/* The first n_positional may be given by position; the first n_required must be given. */
static const struct signature {
    const char *const *names;
    int n_names, n_positional, n_required;
} signatures[N_SIGNATURES] = {
    [SIG_ATTENTION] = { attend_names, N_ATTEND_PARAMS, 3, 4 },
    [SIG_PLAN] = { attend_names, N_ATTEND_PARAMS, 3, 4 },
    [SIG_EXPLAIN] = { attend_names, N_ATTEND_PARAMS, 3, 4 },
    [SIG_RUN] = { run_names, 7, 3, 3 },
    [SIG_UPDATE] = { update_names, 4, 4, 0 },
    [SIG_APPEND] = { append_names, 9, 6, 5 },
    [SIG_GATHER] = { gather_names, 9, 5, 4 },
    [SIG_COPY_PAGES] = { copy_names, 5, 4, 3 },
    [SIG_FROM_CONTIGUOUS] = { contiguous_names, 2, 2, 2 },
    [SIG_MERGE] = { merge_names, 2, 2, 2 },
    [SIG_CACHE] = { cache_names, 6, 4, 2 },
    [SIG_SEQ] = { seq_names, 1, 1, 1 },
    [SIG_SEQ_TOKENS] = { seq_names, 2, 2, 2 },
    [SIG_SEQ_NEW] = { seq_new_names, 2, 2, 2 },
    [SIG_SEQS] = { seqs_names, 1, 1, 1 },
    [SIG_SLOTS] = { slots_names, 2, 2, 2 },
};

int ext_params_init(struct ext_state *state)
{
    for (int id = 0; id < N_SIGNATURES; id++) {
        const struct signature *s = &signatures[id];
        PyObject *tuple = PyTuple_New(s->n_names);
        if (!tuple)
            return -1;
        state->params[id] = tuple;
        for (int i = 0; i < s->n_names; i++) {
            PyObject *name = PyUnicode_InternFromString(s->names[i]);
            if (!name || PyTuple_SetItem(tuple, i, name) < 0)
                return -1;
        }
    }
    return 0;
}

/* Where `name` stands in the signature, searching from `hint` on, since keywords mostly come in order; -1: nowhere. */
static int find_param(PyObject *params, int n, PyObject *name, int hint)
{
    for (int i = 0; i < n; i++) {
        const int at = hint + i < n ? hint + i : hint + i - n;
        if (PyTuple_GetItem(params, at) == name)
            return at;
    }
    for (int i = 0; i < n; i++) { /* a str that Python did not intern */
        if (PyUnicode_Compare(PyTuple_GetItem(params, i), name) == 0)
            return i;
    }
    return -1;
}

static int read_keyword(PyObject *params, const struct signature *s, const char *function, PyObject *name,
                        PyObject *value, PyObject **values, int *hint)
{
    const int at = PyUnicode_Check(name) ? find_param(params, s->n_names, name, *hint) : -1;
    if (at < 0) {
        PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'", function, name);
        return -1;
    }
    if (values[at]) {
        PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument '%s'", function, s->names[at]);
        return -1;
    }
    values[at] = value;
    *hint = at + 1 < s->n_names ? at + 1 : 0;
    return 0;
}

static int check_positional(const struct signature *s, const char *function, Py_ssize_t n_args)
{
    if (n_args <= s->n_positional)
        return 0;
    PyErr_Format(PyExc_TypeError, "%s() takes %d positional arguments but %zd were given", function, s->n_positional,
                 n_args);
    return -1;
}

static int check_required(const struct signature *s, const char *function, PyObject *const *values)
{
    for (int i = 0; i < s->n_required; i++)
        if (!values[i]) {
            PyErr_Format(PyExc_TypeError, "%s() missing required argument '%s'", function, s->names[i]);
            return -1;
        }
    return 0;
}

int ext_params_read(const struct ext_state *state, enum ext_signature_id id, const char *function,
                    PyObject *const *args, Py_ssize_t n_args, PyObject *keywords, PyObject **values)
{
    const struct signature *s = &signatures[id];
    if (check_positional(s, function, n_args) < 0)
        return -1;
    for (int i = 0; i < s->n_names; i++)
        values[i] = i < n_args ? args[i] : NULL;
    const Py_ssize_t n_keywords = keywords ? PyTuple_Size(keywords) : 0;
    int hint = (int)n_args < s->n_names ? (int)n_args : 0;
    for (Py_ssize_t i = 0; i < n_keywords; i++)
        if (read_keyword(state->params[id], s, function, PyTuple_GetItem(keywords, i), args[n_args + i], values,
                         &hint) < 0)
            return -1;
    return check_required(s, function, values);
}

int ext_params_read_new(const struct ext_state *state, enum ext_signature_id id, const char *function, PyObject *args,
                        PyObject *keywords, PyObject **values)
{
    const struct signature *s = &signatures[id];
    const Py_ssize_t n_args = PyTuple_Size(args);
    if (check_positional(s, function, n_args) < 0)
        return -1;
    for (int i = 0; i < s->n_names; i++)
        values[i] = i < n_args ? PyTuple_GetItem(args, i) : NULL;
    PyObject *name, *value;
    Py_ssize_t position = 0;
    int hint = 0;
    while (keywords && PyDict_Next(keywords, &position, &name, &value))
        if (read_keyword(state->params[id], s, function, name, value, values, &hint) < 0)
            return -1;
    return check_required(s, function, values);
}
