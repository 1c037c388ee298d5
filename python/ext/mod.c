/* SPDX-License-Identifier: Apache-2.0
 * mod.c: the mods of a call: asked of folio._mods, handed to the library, watched while they run. */
#include "mod.h"

#include "params.h"

static struct ext_mod *at(PyObject *const *mods, int place)
{
    return (struct ext_mod *)mods[place];
}

static bool is_given(PyObject *value)
{
    return value && value != Py_None;
}

/* resolve(q, score_mod, mask_mod, block_mask, captures) -> three of _Mod or None. */
static PyObject *resolve(PyObject *q, PyObject *const *values)
{
    static const int params[] = { P_score_mod, P_mask_mod, P_block_mask, P_captures };
    PyObject *arguments[COUNT_OF(params)];
    for (size_t i = 0; i < COUNT_OF(params); i++)
        arguments[i] = values[params[i]] ? values[params[i]] : Py_None;
    PyObject *module = PyImport_ImportModule("folio._mods");
    PyObject *result = module ? PyObject_CallMethod(module, "resolve", "OOOOO", q ? q : Py_None, arguments[0],
                                                    arguments[1], arguments[2], arguments[3])
                              : NULL;
    Py_XDECREF(module);
    return result;
}

int ext_mods_read(PyObject *q, PyObject *const *values, PyObject **mods)
{
    for (int i = 0; i < EXT_N_MODS; i++)
        mods[i] = NULL;
    if (!is_given(values[P_score_mod]) && !is_given(values[P_mask_mod]) && !is_given(values[P_block_mask]) &&
        !is_given(values[P_captures]))
        return 0;
    PyObject *three = resolve(q, values);
    for (int i = 0; three && i < EXT_N_MODS; i++) {
        PyObject *mod = PyTuple_GetItem(three, i);
        if (mod && mod != Py_None)
            mods[i] = Py_NewRef(mod);
    }
    Py_XDECREF(three);
    return PyErr_Occurred() ? -1 : 0;
}

void ext_mods_point(folio_attend_args *args, PyObject *const *mods)
{
    args->score_mod = mods[EXT_SCORE_MOD] ? at(mods, EXT_SCORE_MOD)->mod : NULL;
    args->mask_mod = mods[EXT_MASK_MOD] ? at(mods, EXT_MASK_MOD)->mod : NULL;
    args->block_mask = mods[EXT_BLOCK_MASK] ? at(mods, EXT_BLOCK_MASK)->block_mask : NULL;
}

/* -- running ----------------------------------------------------------------------------------------------------- */

/* The mod itself, and the one inside a block mask; NULL after the last. */
static struct ext_mod *next_inside(struct ext_mod *mod)
{
    return (struct ext_mod *)mod->inner;
}

bool ext_mods_call_back(PyObject *const *mods)
{
    for (int i = 0; i < EXT_N_MODS; i++)
        for (struct ext_mod *mod = at(mods, i); mod; mod = next_inside(mod))
            if (mod->function)
                return true;
    return false;
}

int ext_mods_enter(PyObject *const *mods)
{
    for (int i = 0; i < EXT_N_MODS; i++)
        for (struct ext_mod *mod = at(mods, i); mod; mod = next_inside(mod)) {
            PyObject *done = mod->refresh ? PyObject_CallFunctionObjArgs(mod->refresh, NULL) : Py_NewRef(Py_None);
            if (!done)
                return -1;
            Py_DECREF(done);
        }
    for (int i = 0; i < EXT_N_MODS; i++)
        for (struct ext_mod *mod = at(mods, i); mod; mod = next_inside(mod))
            mod->n_running++;
    return 0;
}

bool ext_mods_leave(PyObject *const *mods, folio_status status)
{
    bool raised = false;
    for (int i = 0; i < EXT_N_MODS; i++)
        for (struct ext_mod *mod = at(mods, i); mod; mod = next_inside(mod)) {
            if (mod->error && status != FOLIO_OK && !raised) {
                PyErr_SetObject((PyObject *)Py_TYPE(mod->error), mod->error);
                raised = true;
            }
            if (--mod->n_running == 0)
                Py_CLEAR(mod->error);
        }
    return raised;
}

PyObject *ext_mods_explain(PyObject *const *mods, const char *text)
{
    static const char *const names[] = { "score_mod", "mask_mod", "block_mask" };
    PyObject *all = PyUnicode_FromString(text);
    for (int i = 0; i < EXT_N_MODS && all; i++)
        if (mods[i]) {
            const Py_ssize_t n = PyUnicode_GetLength(all);
            const bool ends = n == 0 || PyUnicode_ReadChar(all, n - 1) == '\n';
            PyObject *longer =
                PyUnicode_FromFormat("%U%sway of %s: %U\n", all, ends ? "" : "\n", names[i], at(mods, i)->how);
            Py_DECREF(all);
            all = longer;
        }
    return all;
}
