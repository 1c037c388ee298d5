/* SPDX-License-Identifier: Apache-2.0
 * plan.c: folio.Plan: one step's plan, and run(), which every layer calls.
 *
 *   plan(q, k_pages, v_pages, ...)   shapes of q, k_pages, v_pages, out, lse   ─► like[]       no memory kept
 *                                    the other arrays                          ─► objects[]    kept, read at every run
 *   run(q, k_pages, v_pages)         looks at its five arrays and at objects[], then folio_attend */
#include "functions.h"

#include "attend_call.h"

struct plan {
    PyObject_HEAD folio_plan *plan;
    folio_context *context;
    struct ext_options options;
    PyObject *objects[N_OBJECTS];    /* kept arrays and mods; NULL elsewhere */
    struct ext_array like[N_FIELDS]; /* q, k_pages, v_pages, out, lse as planned, without their memory */
    double work;                     /* multiplications of one run */
    int n_running;                   /* runs in flight, in other threads */
    bool made_inside;                /* a callable of another call: it has no threads to wait for */
};

static struct ext_state *state_of(PyObject *self)
{
    return PyType_GetModuleState(Py_TYPE(self));
}

/* -- making ------------------------------------------------------------------------------------------------------ */

static struct plan *plan_of(struct ext_state *state, struct ext_call *call, PyObject **objects,
                            const struct ext_options *options)
{
    folio_context *context = ext_call_context(state, call, objects, options);
    if (!context || ext_call_describe_results(call) < 0)
        return NULL;
    struct plan *self = (struct plan *)PyType_GenericAlloc(state->plan_type, 0);
    if (!self)
        return NULL;
    self->context = context;
    self->options = *options;
    self->made_inside = ext_mod_is_inside();
    folio_status status = folio_plan_create(&self->plan, context, &call->args);
    if (status == FOLIO_OK)
        status = folio_plan_update(self->plan, &call->args, call->stream);
    if (status != FOLIO_OK) {
        Py_DECREF(self);
        ext_raise(state, status);
        return NULL;
    }
    self->work = ext_call_work(call);
    for (int i = 0; i < N_OBJECTS; i++)
        if (ext_field_is_kept(i))
            self->objects[i] = Py_XNewRef(objects[i]);
        else
            ext_array_keep_shape(&self->like[i], &call->arrays[i]);
    return self;
}

PyObject *ext_plan(PyObject *module, PyObject *const *args, Py_ssize_t n_args, PyObject *keywords)
{
    struct ext_state *state = PyModule_GetState(module);
    PyObject *values[N_ATTEND_PARAMS], *objects[N_OBJECTS];
    struct ext_options options;
    if (ext_params_read(state, SIG_PLAN, "plan", args, n_args, keywords, values) < 0 ||
        ext_options_read(values, &options) < 0)
        return NULL;
    struct plan *self = NULL;
    if (ext_objects_read(state, values, objects) == 0) {
        struct ext_call call;
        if (ext_call_read(state, &call, objects, NULL, &options, values[P_stream]) == 0)
            self = plan_of(state, &call, objects, &options);
        ext_call_release(&call);
    }
    for (int i = 0; i < N_OBJECTS; i++)
        Py_XDECREF(objects[i]);
    return (PyObject *)self;
}

/* -- running ----------------------------------------------------------------------------------------------------- */

/* Memory for a run beside another one of the same plan, which has the plan's own. */
static folio_status own_workspace(const struct plan *self, folio_attend_args *args, void **memory)
{
    size_t bytes, align;
    const folio_status status = folio_plan_workspace(self->plan, &bytes, &align);
    if (status != FOLIO_OK)
        return status;
    *memory = PyMem_Malloc(bytes + align);
    if (!*memory) {
        PyErr_NoMemory();
        return FOLIO_ENOMEM;
    }
    args->workspace = (void *)(((uintptr_t)*memory + align - 1) / align * align);
    args->workspace_bytes = bytes;
    return FOLIO_OK;
}

static folio_status attend_beside(struct plan *self, struct ext_call *call)
{
    void *memory = NULL;
    folio_status status = self->n_running ? own_workspace(self, &call->args, &memory) : FOLIO_OK;
    if (status != FOLIO_OK)
        return status;
    self->n_running++;
    Py_BEGIN_ALLOW_THREADS status = folio_attend(self->context, self->plan, &call->args, call->stream);
    Py_END_ALLOW_THREADS self->n_running--;
    PyMem_Free(memory);
    return status;
}

static folio_status attend(struct plan *self, struct ext_call *call, PyObject *const *mods)
{
    if (self->n_running || ext_is_long(self->work, self->options.backend) || ext_mods_call_back(mods))
        return attend_beside(self, call);
    return folio_attend(self->context, self->plan, &call->args, call->stream);
}

static PyObject *run_call(struct plan *self, struct ext_state *state, struct ext_call *call, PyObject **objects,
                          bool return_lse, PyObject *stream)
{
    if (ext_call_read(state, call, objects, NULL, &self->options, stream) < 0 ||
        ext_call_make_results(state, call, objects, return_lse) < 0)
        return NULL;
    PyObject *const *const mods = objects + F_MODS;
    if (ext_mods_call_back(mods) && !self->made_inside && ext_mod_is_inside()) {
        PyErr_SetString(state->state_error,
                        "plan: its mods are callables, and it runs within one; use attention() or a "
                        "plan made there");
        return NULL;
    }
    if (ext_mods_enter(mods) < 0)
        return NULL;
    const folio_status status = attend(self, call, mods);
    if (ext_mods_leave(mods, status))
        return NULL;
    if (status == FOLIO_OK)
        return ext_call_give(call, objects, return_lse);
    return PyErr_Occurred() ? NULL : ext_raise(state, status);
}

static PyObject *run(PyObject *object, PyObject *const *args, Py_ssize_t n_args, PyObject *keywords)
{
    enum { Q, K_PAGES, V_PAGES, OUT, LSE, RETURN_LSE, STREAM, N_VALUES };
    static const int fields[] = {
        [Q] = F_Q, [K_PAGES] = F_K_PAGES, [V_PAGES] = F_V_PAGES, [OUT] = F_OUT, [LSE] = F_LSE
    };
    struct plan *self = (struct plan *)object;
    struct ext_state *state = state_of(object);
    PyObject *values[N_VALUES], *objects[N_OBJECTS];
    if (ext_params_read(state, SIG_RUN, "run", args, n_args, keywords, values) < 0)
        return NULL;
    const int return_lse = values[RETURN_LSE] ? PyObject_IsTrue(values[RETURN_LSE]) : self->options.return_lse;
    if (return_lse < 0)
        return NULL;
    for (int i = 0; i < N_OBJECTS; i++)
        objects[i] = Py_XNewRef(self->objects[i]); /* an update in another thread may drop the plan's own */
    for (int i = Q; i <= LSE; i++)
        objects[fields[i]] = values[i] == Py_None ? NULL : Py_XNewRef(values[i]);
    struct ext_call call;
    PyObject *result = run_call(self, state, &call, objects, return_lse, values[STREAM]);
    ext_call_release(&call);
    for (int i = 0; i < N_OBJECTS; i++)
        Py_XDECREF(objects[i]);
    return result;
}

/* -- a new step -------------------------------------------------------------------------------------------------- */

static int update_with(struct plan *self, struct ext_state *state, PyObject **objects, PyObject *stream)
{
    struct ext_call call;
    int failed = ext_call_read(state, &call, objects, self->like, &self->options, stream);
    if (!failed) {
        const folio_status status = folio_plan_update(self->plan, &call.args, call.stream);
        if (status == FOLIO_OK)
            self->work = ext_call_work(&call);
        else
            failed = (ext_raise(state, status), -1);
    }
    ext_call_release(&call);
    return failed;
}

/* The kept arrays, with those that the call brings in their places: new references. */
static int step_objects(const struct plan *self, struct ext_state *state, PyObject *const *values, PyObject **objects)
{
    static const struct {
        int field, width;
        const char *name;
    } news[] = { { F_KV_LENS, EXT_ONE_DIM, "kv_lens" },
                 { F_PAGE_TABLE, 0, "page_table" },
                 { F_Q_INDPTR, EXT_ONE_DIM, "q_indptr" } };
    for (int i = 0; i < N_OBJECTS; i++)
        objects[i] = Py_XNewRef(self->objects[i]);
    for (size_t i = 0; i < COUNT_OF(news); i++) {
        if (!values[i] || values[i] == Py_None)
            continue;
        PyObject *array = ext_indices(state, news[i].name, values[i], news[i].width);
        if (!array)
            return -1;
        Py_XDECREF(objects[news[i].field]);
        objects[news[i].field] = array;
    }
    return 0;
}

static PyObject *update(PyObject *object, PyObject *const *args, Py_ssize_t n_args, PyObject *keywords)
{
    enum { KV_LENS, PAGE_TABLE, Q_INDPTR, STREAM, N_VALUES };
    struct plan *self = (struct plan *)object;
    struct ext_state *state = state_of(object);
    PyObject *values[N_VALUES], *objects[N_OBJECTS];
    if (ext_params_read(state, SIG_UPDATE, "update", args, n_args, keywords, values) < 0)
        return NULL;
    if (self->n_running) {
        PyErr_Format(state->state_error, "plan: %d runs in flight; update it when they are done", self->n_running);
        return NULL;
    }
    const bool failed =
        step_objects(self, state, values, objects) < 0 || update_with(self, state, objects, values[STREAM]) < 0;
    for (int i = 0; i < N_OBJECTS; i++) { /* the new ones stay only if all went well */
        PyObject *dropped = failed ? objects[i] : self->objects[i];
        if (!failed)
            self->objects[i] = objects[i];
        Py_XDECREF(dropped);
    }
    return failed ? NULL : Py_NewRef(Py_None);
}

static PyObject *check(PyObject *object, PyObject *no_args)
{
    (void)no_args;
    folio_plan *plan = ((struct plan *)object)->plan;
    folio_status status;
    Py_BEGIN_ALLOW_THREADS status = folio_plan_wait(plan);
    Py_END_ALLOW_THREADS return status == FOLIO_OK ? Py_NewRef(Py_None) : ext_raise(state_of(object), status);
}

/* -- the type ---------------------------------------------------------------------------------------------------- */

static int traverse(PyObject *object, visitproc visit, void *arg)
{
    const struct plan *self = (struct plan *)object;
    Py_VISIT(Py_TYPE(object));
    for (int i = 0; i < N_OBJECTS; i++)
        Py_VISIT(self->objects[i]);
    return 0;
}

static int clear(PyObject *object)
{
    struct plan *self = (struct plan *)object;
    for (int i = 0; i < N_OBJECTS; i++)
        Py_CLEAR(self->objects[i]);
    return 0;
}

static void dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    clear(object);
    folio_plan_destroy(&((struct plan *)object)->plan);
    PyObject_GC_Del(object);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    { "run", (PyCFunction)(void *)run, METH_FASTCALL | METH_KEYWORDS, ext_doc_run },
    { "update", (PyCFunction)(void *)update, METH_FASTCALL | METH_KEYWORDS, ext_doc_update },
    { "check", check, METH_NOARGS, ext_doc_check },
    { 0 },
};

static PyType_Slot slots[] = {
    { Py_tp_doc, (void *)ext_doc_plan_type }, { Py_tp_methods, methods },         { Py_tp_traverse, (void *)traverse },
    { Py_tp_clear, (void *)clear },           { Py_tp_dealloc, (void *)dealloc }, { 0 },
};

PyType_Spec ext_plan_spec = {
    .name = "folio.Plan",
    .basicsize = sizeof(struct plan),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};
