/* SPDX-License-Identifier: Apache-2.0
 * mod.h: a compiled mod or block mask as an object, which calls and plans keep alive.
 *
 *   score_mod= mask_mod= block_mask= ── folio._mods.resolve ─► struct ext_mod ─► folio_attend_args
 *
 * A mod that calls Python back does so on the threads of the library: whoever runs it lets the interpreter go, counts
 * itself in with ext_mods_enter, and on failure asks ext_mods_raise for the callable's own exception. */
#ifndef FOLIO_EXT_MOD_H
#define FOLIO_EXT_MOD_H

#include "array.h"

struct ext_mod {
    PyObject_HEAD folio_mod *mod; /* or */
    folio_block_mask *block_mask;
    PyObject *captures;       /* dict: the arrays, kept */
    struct ext_array *arrays; /* [n_arrays] how they were read; holds their memory */
    Py_ssize_t n_arrays;
    PyObject *function; /* called with every tile, or NULL */
    PyObject *inner;    /* the block mask's mask mod, or NULL */
    PyObject *refresh;  /* called before every run, or NULL: copies captures that folio can't read themselves */
    PyObject *how;      /* str: which way it went, for explain() */
    PyObject *error;    /* first exception of `function` in the runs in flight, or NULL */
    int n_running;
};

enum ext_mod_place { EXT_SCORE_MOD, EXT_MASK_MOD, EXT_BLOCK_MASK, EXT_N_MODS };

/* What the values of a call ask for, into mods [EXT_N_MODS]: new references, NULL where nothing is. */
int ext_mods_read(PyObject *q, PyObject *const *values /* [N_ATTEND_PARAMS] */, PyObject **mods);
void ext_mods_point(folio_attend_args *args, PyObject *const *mods);
bool ext_mods_call_back(PyObject *const *mods);

/* Around a run: enter (-1 with an exception), then run without the interpreter if they call back, then leave. leave
 * raises what a callable raised when the status is not FOLIO_OK: true if it did. */
int ext_mods_enter(PyObject *const *mods);
bool ext_mods_leave(PyObject *const *mods, folio_status status);
/* text and one line for each mod, as a str; NULL with an exception. */
PyObject *ext_mods_explain(PyObject *const *mods, const char *text);

/* mod_tile.c: a folio_tile_callback whose user is a struct ext_mod. */
folio_status ext_mod_tile(void *user, float *scores, const folio_tile *where);
/* Is this thread within such a call? Then the threads of its context are taken. */
bool ext_mod_is_inside(void);

extern PyType_Spec ext_mod_spec;
/* Methods of the module, for folio._mods. */
PyObject *ext_mod_of_text(PyObject *module, PyObject *args);
PyObject *ext_mod_of_function(PyObject *module, PyObject *args);
PyObject *ext_mod_of_blocks(PyObject *module, PyObject *args);

#endif
