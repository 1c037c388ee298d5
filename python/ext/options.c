/* SPDX-License-Identifier: Apache-2.0
 * options.c: the keywords of attention() that are no arrays. The library judges their values. */
#include "attend_call.h"
#include "layout.h"

static bool is_given(PyObject *value)
{
    return value && value != Py_None;
}

static int read_f64(const char *name, PyObject *value, double *out)
{
    *out = PyFloat_AsDouble(value);
    if (*out != -1.0 || !PyErr_Occurred())
        return 0;
    if (PyErr_ExceptionMatches(PyExc_TypeError))
        PyErr_Format(PyExc_TypeError, "%s: %R; must be a number", name, value);
    return -1;
}

static int read_window(PyObject *value, struct ext_options *options)
{
    PyObject *pair = PySequence_Check(value) ? PySequence_Tuple(value) : NULL;
    if (pair && PyTuple_Size(pair) == 2) {
        const int failed = ext_read_i64("window[0]", PyTuple_GetItem(pair, 0), &options->window_left) < 0 ||
                           ext_read_i64("window[1]", PyTuple_GetItem(pair, 1), &options->window_right) < 0;
        Py_DECREF(pair);
        options->flags |= FOLIO_WINDOW_IS_SET;
        return failed ? -1 : 0;
    }
    PyErr_Clear();
    PyErr_Format(pair ? PyExc_ValueError : PyExc_TypeError,
                 "window: %R; must be a pair (left, right) of ints, -1 = none", value);
    Py_XDECREF(pair);
    return -1;
}

static int read_numbers(PyObject *const *values, struct ext_options *o)
{
    const struct {
        int param;
        const char *name;
        int64_t *wide;
        int32_t *narrow;
    } ints[] = {
        { P_page_size, "page_size", &o->page_size, NULL },       { P_max_q_len, "max_q_len", &o->max_q_len, NULL },
        { P_max_kv_len, "max_kv_len", &o->max_kv_len, NULL },    { P_num_splits, "num_splits", NULL, &o->num_splits },
        { P_num_threads, "num_threads", NULL, &o->num_threads },
    };
    for (size_t i = 0; i < COUNT_OF(ints); i++) {
        PyObject *value = values[ints[i].param];
        if (!value || (value == Py_None && ints[i].param == P_page_size))
            continue;
        if (ints[i].wide ? ext_read_i64(ints[i].name, value, ints[i].wide) < 0
                         : ext_read_i32(ints[i].name, value, ints[i].narrow) < 0)
            return -1;
    }
    if (is_given(values[P_page_size]) && o->page_size < 1) {
        PyErr_Format(PyExc_ValueError, "page_size: %lld; must be >= 1", (long long)o->page_size);
        return -1;
    }
    if (is_given(values[P_scale])) {
        o->flags |= FOLIO_SCALE_IS_SET;
        if (read_f64("scale", values[P_scale], &o->scale) < 0)
            return -1;
    }
    if (values[P_softcap] && read_f64("softcap", values[P_softcap], &o->softcap) < 0)
        return -1;
    return values[P_window] ? read_window(values[P_window], o) : 0;
}

static int read_words(PyObject *const *values, struct ext_options *o)
{
    static const char *const causals[] = { NULL, "top_left", "bottom_right" };
    static const char *const aligns[] = { NULL, "top_left", "bottom_right" };
    static const char *const backends[] = { "auto", "cpu", "cuda", "ref" };
    _Static_assert(FOLIO_CAUSAL_BOTTOM_RIGHT == 2 && FOLIO_ALIGN_BOTTOM_RIGHT == 2 && FOLIO_BACKEND_REF == 3,
                   "words stand in the order of the enumerators");
    if (values[P_causal] && ext_read_word("causal", values[P_causal], causals, 3, &o->causal) < 0)
        return -1;
    if (values[P_align] && ext_read_word("align", values[P_align], aligns, 3, &o->align) < 0)
        return -1;
    if (values[P_backend] && ext_read_word("backend", values[P_backend], backends, 4, &o->backend) < 0)
        return -1;
    return ext_layout_read(values[P_layout], &o->layout);
}

int ext_options_read(PyObject *const *values, struct ext_options *options)
{
    *options = (struct ext_options){ .window_left = -1, .window_right = -1 };
    if (read_words(values, options) < 0 || read_numbers(values, options) < 0)
        return -1;
    const int return_lse = values[P_return_lse] ? PyObject_IsTrue(values[P_return_lse]) : 0;
    const int cascade = values[P_cascade] ? PyObject_IsTrue(values[P_cascade]) : 0;
    options->return_lse = return_lse > 0;
    options->flags |= cascade > 0 ? FOLIO_CASCADE : 0;
    return return_lse < 0 || cascade < 0 ? -1 : 0;
}
