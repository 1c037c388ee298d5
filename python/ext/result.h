/* SPDX-License-Identifier: Apache-2.0
 * result.h: new arrays, of the kind that the caller gave. */
#ifndef FOLIO_EXT_RESULT_H
#define FOLIO_EXT_RESULT_H

#include "array.h"

/* numpy.empty; *data is its memory. New reference, NULL with an exception. */
PyObject *ext_numpy_new(struct ext_state *state, enum ext_dtype dtype, int ndim, const int64_t *shape, void **data);

/* A writable array for a result, of the kind and on the device of `like`, whose object is like_object. JAX's arrays
 * can't be written: there it is a NumPy array until ext_result_finish. */
PyObject *ext_result_new(struct ext_state *state, const struct ext_array *like, PyObject *like_object,
                         enum ext_dtype dtype, int ndim, const int64_t *shape);
/* What the caller gets. Steals result; NULL with an exception. */
PyObject *ext_result_finish(enum ext_kind kind, PyObject *result);

/* kind's stack(list) along a new first axis. */
PyObject *ext_stack(enum ext_kind kind, PyObject *list);

#endif
