/* SPDX-License-Identifier: Apache-2.0
 * layout.c: layouts are strides; nothing is copied. */
#include "layout.h"

int ext_layout_read(PyObject *value, int32_t *layout)
{
    static const char *const words[] = { "NHD", "HND", "FLAT" };
    *layout = EXT_NHD;
    return value ? ext_read_word("layout", value, words, 3, layout) : 0;
}

static void swap(int64_t *values, int a, int b)
{
    const int64_t x = values[a];
    values[a] = values[b];
    values[b] = x;
}

/* [1, H, P * S, D] -> [P, S, H, D] */
static int cut_flat(struct ext_array *pages, const char *name, int64_t page_size)
{
    int64_t *shape = pages->shape, *strides = pages->strides;
    if (page_size == 0) {
        PyErr_Format(PyExc_ValueError, "page_size: layout \"FLAT\" needs it");
        return -1;
    }
    if (shape[0] != 1 || shape[2] % page_size) {
        PyErr_Format(PyExc_ValueError,
                     "%s: shape (%lld, %lld, %lld, %lld); layout \"FLAT\" is [1, H, n_pages * page_size, D], here with "
                     "page_size %lld",
                     name, (long long)shape[0], (long long)shape[1], (long long)shape[2], (long long)shape[3],
                     (long long)page_size);
        return -1;
    }
    const int64_t slot_stride = strides[2];
    shape[0] = shape[2] / page_size;
    strides[0] = page_size * slot_stride;
    shape[2] = shape[1];
    strides[2] = strides[1];
    shape[1] = page_size;
    strides[1] = slot_stride;
    return 0;
}

int ext_layout_apply(struct ext_array *pages, const char *name, int32_t layout, int64_t page_size)
{
    static const char *const axes[] = { "[n_pages, page_size, H, D]", "[n_pages, H, page_size, D]",
                                        "[1, H, n_pages * page_size, D]" };
    if (!pages->is_present)
        return 0;
    if (pages->tensor.ndim != 4) {
        PyErr_Format(PyExc_ValueError, "%s: %d dims; must have 4: %s", name, (int)pages->tensor.ndim, axes[layout]);
        return -1;
    }
    if (layout == EXT_FLAT)
        return cut_flat(pages, name, page_size);
    if (layout == EXT_HND) {
        swap(pages->shape, 1, 2);
        swap(pages->strides, 1, 2);
    }
    if (page_size && page_size != pages->shape[1]) {
        PyErr_Format(PyExc_ValueError, "page_size: %lld; %s has pages of %lld slots", (long long)page_size, name,
                     (long long)pages->shape[1]);
        return -1;
    }
    return 0;
}
