/* SPDX-License-Identifier: Apache-2.0
 * mod_type.c: folio._ext._Mod, and the three ways to make one: of a text, of a function, of blocks. */
#include "mod.h"

#include <string.h>

/* A new object without a mod yet. refresh may be None. NULL with an exception. */
static struct ext_mod *new_mod(const struct ext_state *state, PyObject *refresh, PyObject *how)
{
    struct ext_mod *self = (struct ext_mod *)PyType_GenericAlloc(state->mod_type, 0);
    if (self) {
        self->refresh = refresh == Py_None ? NULL : Py_NewRef(refresh);
        self->how = Py_NewRef(how);
    }
    return self;
}

static PyObject *finish(const struct ext_state *state, struct ext_mod *self, folio_status status)
{
    if (status == FOLIO_OK)
        return (PyObject *)self;
    Py_DECREF(self);
    return PyErr_Occurred() ? NULL : ext_raise(state, status);
}

/* -- of a text ---------------------------------------------------------------------------------------------------- */

/* One capture: its name and array, read and held. */
static int read_capture(struct ext_state *state, struct ext_mod *self, folio_mod_capture *capture, PyObject *name,
                        PyObject *array, int wraps)
{
    Py_ssize_t n_bytes = 0;
    const char *text = PyUnicode_Check(name) ? PyUnicode_AsUTF8AndSize(name, &n_bytes) : NULL;
    if (!text && !PyErr_Occurred())
        PyErr_Format(PyExc_TypeError, "captures: name %R; must be a str", name);
    else if (text && strlen(text) != (size_t)n_bytes)
        PyErr_Format(PyExc_ValueError, "captures: name %R; must not hold a zero", name);
    if (PyErr_Occurred())
        return -1;
    char argument[FOLIO_MOD_MAX_NAME + 32];
    PyOS_snprintf(argument, sizeof argument, "capture %.*s", FOLIO_MOD_MAX_NAME, text);
    struct ext_array *own = &self->arrays[self->n_arrays];
    if (ext_array_read(state, own, argument, array, EXT_READ) < 0) {
        ext_array_release(own);
        return -1;
    }
    self->n_arrays++;
    *capture = (folio_mod_capture){ .name = text,
                                    .tensor = ext_tensor(own),
                                    .flags = wraps ? (uint32_t)FOLIO_CAPTURE_WRAP : 0 };
    return 0;
}

/* All captures into list [n]. */
static int read_captures(struct ext_state *state, struct ext_mod *self, folio_mod_capture *list, Py_ssize_t n,
                         int wraps)
{
    self->arrays = n ? PyMem_Calloc((size_t)n, sizeof *self->arrays) : NULL;
    if (n && !self->arrays) {
        PyErr_NoMemory();
        return -1;
    }
    PyObject *name, *array;
    Py_ssize_t position = 0;
    while (PyDict_Next(self->captures, &position, &name, &array))
        if (read_capture(state, self, &list[self->n_arrays], name, array, wraps) < 0)
            return -1;
    return 0;
}

/* mod_of_text(kind, text, captures, wraps, refresh, how): captures is a dict that nobody else changes. */
PyObject *ext_mod_of_text(PyObject *module, PyObject *args)
{
    struct ext_state *state = PyModule_GetState(module);
    int kind, wraps;
    const char *text;
    PyObject *captures, *refresh, *how;
    if (!PyArg_ParseTuple(args, "isO!pOU", &kind, &text, &PyDict_Type, &captures, &wraps, &refresh, &how))
        return NULL;
    const Py_ssize_t n = PyDict_Size(captures);
    if (n > FOLIO_MOD_MAX_CAPTURES) {
        PyErr_Format(PyExc_ValueError, "captures: %zd; at most %d", n, FOLIO_MOD_MAX_CAPTURES);
        return NULL;
    }
    struct ext_mod *self = new_mod(state, refresh, how);
    if (!self)
        return NULL;
    folio_mod_capture list[FOLIO_MOD_MAX_CAPTURES];
    self->captures = Py_NewRef(captures);
    folio_status status = FOLIO_EINVAL;
    if (read_captures(state, self, list, n, wraps) == 0)
        status = folio_mod_create(&self->mod, (folio_mod_kind)kind, text, list, (int32_t)n);
    return finish(state, self, status);
}

/* -- of a function ------------------------------------------------------------------------------------------------ */

/* mod_of_function(kind, function, is_whole, how): function(memory, b, h, q_begin, n_rows, kv_begin, n_keys, stride). */
PyObject *ext_mod_of_function(PyObject *module, PyObject *args)
{
    struct ext_state *state = PyModule_GetState(module);
    int kind, is_whole;
    PyObject *function, *how;
    if (!PyArg_ParseTuple(args, "iOpU", &kind, &function, &is_whole, &how))
        return NULL;
    struct ext_mod *self = new_mod(state, Py_None, how);
    if (!self)
        return NULL;
    self->function = Py_NewRef(function);
    const folio_status status = folio_mod_create_callback(&self->mod, (folio_mod_kind)kind, ext_mod_tile, self,
                                                          is_whole ? (uint32_t)FOLIO_TILE_WHOLE : 0);
    return finish(state, self, status);
}

/* -- of blocks ---------------------------------------------------------------------------------------------------- */

enum { NUM, INDICES, FULL_NUM, FULL_INDICES, N_ARRAYS };

/* The four arrays, and the sizes, into args. */
static int read_blocks(struct ext_state *state, struct ext_array *arrays, PyObject *const *objects,
                       folio_block_mask_args *args)
{
    static const char *const names[] = { "kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices" };
    const DLTensor **const slots[] = { &args->kv_num_blocks, &args->kv_indices, &args->full_kv_num_blocks,
                                       &args->full_kv_indices };
    for (int i = 0; i < N_ARRAYS; i++) {
        if (ext_array_read(state, &arrays[i], names[i], objects[i], EXT_READ) < 0)
            return -1;
        *slots[i] = ext_tensor(&arrays[i]);
    }
    return 0;
}

/* mod_of_blocks(kv_num_blocks, kv_indices, full_kv_num_blocks, full_kv_indices, (q_block, kv_block), (q_len, kv_len),
 * mask_mod, how): copies the arrays. */
PyObject *ext_mod_of_blocks(PyObject *module, PyObject *args)
{
    struct ext_state *state = PyModule_GetState(module);
    PyObject *objects[N_ARRAYS], *mask_mod, *how;
    long long sizes[4];
    if (!PyArg_ParseTuple(args, "OOOO(LL)(LL)OU", &objects[0], &objects[1], &objects[2], &objects[3], &sizes[0],
                          &sizes[1], &sizes[2], &sizes[3], &mask_mod, &how))
        return NULL;
    struct ext_mod *self = new_mod(state, Py_None, how);
    if (!self)
        return NULL;
    self->inner = mask_mod == Py_None ? NULL : Py_NewRef(mask_mod);
    folio_block_mask_args blocks = { .struct_size = sizeof blocks,
                                     .q_block = sizes[0],
                                     .kv_block = sizes[1],
                                     .q_len = sizes[2],
                                     .kv_len = sizes[3],
                                     .mask_mod = self->inner ? ((struct ext_mod *)self->inner)->mod : NULL };
    struct ext_array arrays[N_ARRAYS] = { 0 };
    folio_status status = FOLIO_EINVAL;
    if (read_blocks(state, arrays, objects, &blocks) == 0)
        status = folio_block_mask_create(&self->block_mask, &blocks);
    for (int i = 0; i < N_ARRAYS; i++)
        ext_array_release(&arrays[i]);
    return finish(state, self, status);
}

/* -- the type ----------------------------------------------------------------------------------------------------- */

static int traverse(PyObject *object, visitproc visit, void *arg)
{
    const struct ext_mod *self = (struct ext_mod *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->captures);
    Py_VISIT(self->function);
    Py_VISIT(self->inner);
    Py_VISIT(self->refresh);
    Py_VISIT(self->how);
    Py_VISIT(self->error);
    return 0;
}

/* The mod itself goes with the object: it points to what is cleared here, and nobody runs it any more. */
static int clear(PyObject *object)
{
    struct ext_mod *self = (struct ext_mod *)object;
    folio_block_mask_destroy(&self->block_mask);
    folio_mod_destroy(&self->mod);
    Py_CLEAR(self->captures);
    Py_CLEAR(self->function);
    Py_CLEAR(self->inner);
    Py_CLEAR(self->refresh);
    Py_CLEAR(self->how);
    Py_CLEAR(self->error);
    return 0;
}

static void dealloc(PyObject *object)
{
    struct ext_mod *self = (struct ext_mod *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    for (Py_ssize_t i = 0; i < self->n_arrays; i++)
        ext_array_release(&self->arrays[i]);
    PyMem_Free(self->arrays);
    clear(object);
    PyObject_GC_Del(object);
    Py_DECREF(type);
}

static PyObject *get_how(PyObject *object, void *unused)
{
    (void)unused;
    return Py_NewRef(((struct ext_mod *)object)->how);
}

static PyGetSetDef attributes[] = { { "how", get_how, NULL, "Which way it went, as explain() says it.", NULL }, { 0 } };

static PyType_Slot slots[] = {
    { Py_tp_doc, (void *)"A compiled mod or block mask; folio._mods makes them." },
    { Py_tp_getset, attributes },
    { Py_tp_traverse, (void *)traverse },
    { Py_tp_clear, (void *)clear },
    { Py_tp_dealloc, (void *)dealloc },
    { 0 },
};

PyType_Spec ext_mod_spec = {
    .name = "folio._ext._Mod",
    .basicsize = sizeof(struct ext_mod),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};
