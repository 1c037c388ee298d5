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
static void cut_flat(struct ext_array *pages, int64_t page_size)
{
    int64_t *shape = pages->shape, *strides = pages->strides;
    const int64_t slot_stride = strides[2];
    shape[0] = shape[2] / page_size;
    strides[0] = page_size * slot_stride;
    shape[2] = shape[1];
    strides[2] = strides[1];
    shape[1] = page_size;
    strides[1] = slot_stride;
}

static bool is_flat(const struct ext_array *pages, int64_t page_size)
{
    return page_size > 0 && pages->shape[0] == 1 && pages->shape[2] % page_size == 0;
}

bool ext_layout_permute(struct ext_array *pages, int32_t layout, int64_t page_size)
{
    if (!pages->is_present)
        return true;
    if (pages->tensor.ndim != 4 || layout < EXT_NHD || layout > EXT_FLAT)
        return false;
    if (layout == EXT_FLAT) {
        if (!is_flat(pages, page_size))
            return false;
        cut_flat(pages, page_size);
        return true;
    }
    if (page_size && page_size != pages->shape[layout == EXT_HND ? 2 : 1])
        return false;
    if (layout == EXT_HND) {
        swap(pages->shape, 1, 2);
        swap(pages->strides, 1, 2);
    }
    return true;
}

/* Why permuting pages of 4 dims failed. Returns -1. */
static int refuse(const struct ext_array *pages, const char *name, int32_t layout, int64_t page_size)
{
    const int64_t *shape = pages->shape;
    if (layout != EXT_FLAT)
        PyErr_Format(PyExc_ValueError, "page_size: %lld; %s has pages of %lld slots", (long long)page_size, name,
                     (long long)shape[layout == EXT_HND ? 2 : 1]);
    else if (page_size == 0)
        PyErr_Format(PyExc_ValueError, "page_size: layout \"FLAT\" needs it");
    else
        PyErr_Format(PyExc_ValueError,
                     "%s: shape (%lld, %lld, %lld, %lld); layout \"FLAT\" is [1, H, n_pages * page_size, D], here with "
                     "page_size %lld",
                     name, (long long)shape[0], (long long)shape[1], (long long)shape[2], (long long)shape[3],
                     (long long)page_size);
    return -1;
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
    return ext_layout_permute(pages, layout, page_size) ? 0 : refuse(pages, name, layout, page_size);
}
