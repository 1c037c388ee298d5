/* SPDX-License-Identifier: Apache-2.0
 * pages.c: reading pages in any layout, for the calls that write or copy them. */
#include "pages.h"

#include "layout.h"

static int refuse_jax(struct ext_state *state, const char *name, PyObject *object)
{
    struct ext_type type = { .kind = EXT_NUMPY };
    if (object != Py_None && ext_type_of(state, object, &type) < 0)
        return -1;
    if (type.kind != EXT_JAX)
        return 0;
    PyErr_Format(PyExc_TypeError, "%s: JAX arrays are immutable; use folio.jax.append, which gives new ones", name);
    return -1;
}

int ext_pages_read(struct ext_state *state, struct ext_array *pages, const char *name, PyObject *object,
                   enum ext_access access, PyObject *layout, PyObject *page_size)
{
    int32_t layout_id;
    int64_t size = 0;
    pages->holds = HOLDS_NOTHING;
    pages->is_present = false;
    if (ext_layout_read(layout, &layout_id) < 0)
        return -1;
    if (page_size && page_size != Py_None) {
        if (ext_read_i64("page_size", page_size, &size) < 0)
            return -1;
        if (size < 1) {
            PyErr_Format(PyExc_ValueError, "page_size: %lld; must be >= 1", (long long)size);
            return -1;
        }
    }
    if (access == EXT_WRITE && refuse_jax(state, name, object) < 0)
        return -1;
    return ext_array_read(state, pages, name, object, access) < 0 ? -1 : ext_layout_apply(pages, name, layout_id, size);
}

int ext_scale_read(struct ext_state *state, struct ext_array *scale, const char *name, PyObject *object, bool may_write)
{
    if (ext_array_read(state, scale, name, object, EXT_READ) < 0)
        return -1;
    if (!may_write || !scale->is_present || scale->tensor.ndim != 3)
        return 0;
    ext_array_release(scale);
    return ext_array_read(state, scale, name, object, EXT_WRITE);
}

bool ext_moves_much(const struct ext_array *array)
{
    enum { MUCH = 256 << 10 }; /* bytes: some tens of microseconds */
    double bytes = array->tensor.dtype.bits / 8.0;
    for (int i = 0; i < array->tensor.ndim && array->is_present; i++)
        bytes *= (double)array->shape[i];
    return bytes > MUCH;
}
