# SPDX-License-Identifier: Apache-2.0
"""Translations of callables, remembered for as long as nothing they can see has changed.

A function's fingerprint is its code, its defaults, the cells it closes over and the globals it names: numbers and
strings by value, tensors by identity and place, functions by their own fingerprints. Whoever sees anything else (a
list, an object, a NumPy array, another module than the frameworks') is translated anew at every call.
"""
import functools
import logging
import sys
import types
import weakref

import numpy as np
from folio import _emit

log = logging.getLogger("folio")

_KNOWN_MODULES = {"builtins", "torch", "jax", "numpy", "math", "operator", "functools"}
_BY_VALUE = (bool, int, float, str, bytes, type(None), np.generic)

_remembered = weakref.WeakKeyDictionary()  # function -> (fingerprint, Translation, is_mask, framework, _watch)
_told = set()  # what was logged


class Translation:
    """text, captures by name and refresh() when it could be; else text is None, why says what could not, and error is
    what the function raised when it was traced, if it did."""

    __slots__ = ("captures", "error", "mod", "refresh", "text", "why")

    def __init__(self, text=None, captures=None, refresh=None, why=None, error=None):
        self.text, self.captures, self.refresh, self.why, self.error = text, captures, refresh, why, error
        self.mod = None  # what _mods makes of it


class _Opaque(Exception):
    """Something whose changes can't be seen."""


def translate(function, is_mask, framework, tells=True):
    """The Translation of a callable by folio._trace_<framework>, from memory if it is still true.

    tells: log why it could not be.
    """
    is_plain = type(function) is types.FunctionType  # others may be no keys
    known = _remembered.get(function) if is_plain else None
    if known and known[2] is is_mask and known[3] == framework and known[4] and _holds(known[4], function):
        return known[1]
    hints = {}
    try:
        mark = (is_mask, framework, *_mark(function, hints, set()))
    except _Opaque:
        mark = None
    watch = _watch(function) if mark and is_plain else None  # before it runs, and may change what it sees
    if mark and not is_plain:
        known = _remembered.get(function)
    made = known[1] if known and mark and known[0] == mark else _translate(function, is_mask, framework, hints, tells)
    if mark and not any(map(is_traced, (made.captures or {}).values())):
        _remembered[function] = mark, made, is_mask, framework, watch
    return made


def _translate(function, is_mask, framework, hints, tells):
    raised = None
    try:
        trace = _tracer(framework)
        return Translation(*trace.translate(function, is_mask, hints))
    except _emit.Untranslatable as error:
        why = f"{error} can't be translated"
    except ImportError as error:
        why = f"no tracer: {_first_line(error)}"
    except Exception as error:
        if type(error).__name__ == "RequiresGrad":
            raise
        why, raised = f"tracing it raised {type(error).__name__}: {_first_line(error)}", error
    name = getattr(function, "__qualname__", type(function).__name__)
    line = f"{name} is called a tile at a time, which is slow: {why}"
    if tells and line not in _told and len(_told) < 1000:
        _told.add(line)
        log.warning("%s", line)
    return Translation(why=why, error=raised)


def _tracer(framework):
    if framework == "torch":
        from folio import _trace_torch as trace
    else:
        from folio import _trace_jax as trace
    return trace


def _first_line(error):
    return (str(error).strip().splitlines() or [""])[0][:200]


# -- fingerprints ----------------------------------------------------------------------------------------------------


class _Same:
    """Equal to itself alone; keeps what it stands for, so that no other can take its id."""

    __slots__ = ("place", "thing")

    def __init__(self, thing, place=None):
        self.thing, self.place = thing, place

    def __eq__(self, other):
        return isinstance(other, _Same) and self.thing is other.thing and self.place == other.place

    __hash__ = None


def _mark(value, hints, seen):
    """A tuple that is equal as long as the value is the same to a function that uses it."""
    if isinstance(value, _BY_VALUE):
        return type(value), repr(value) if isinstance(value, float | np.generic) else value
    if isinstance(value, tuple):
        return "tuple", *(_mark(v, hints, seen) for v in value)
    if isinstance(value, functools.partial):
        return "partial", *(_mark(v, hints, seen) for v in (value.func, value.args, *value.keywords.items()))
    if isinstance(value, types.FunctionType):
        return _mark_function(value, hints, seen)
    if _is_known(type(value).__module__) and isinstance(getattr(value, "__wrapped__", None), types.FunctionType):
        return "jitted", _mark_function(value.__wrapped__, hints, seen)
    if isinstance(value, types.ModuleType | types.BuiltinFunctionType | type) or _is_frameworks(value):
        if not _is_known(getattr(value, "__module__", None) or value.__name__):
            raise _Opaque
        return (_Same(value),)
    if _is_array(value) and not is_traced(value):
        return (_Same(value, place(value)),)
    raise _Opaque


def is_traced(value):
    """Is it an array without values yet, of a function that JAX is tracing? Without importing JAX."""
    return any(base.__name__ == "Tracer" and base.__module__.startswith("jax.") for base in type(value).__mro__)


def _is_known(module):
    return module.partition(".")[0] in _KNOWN_MODULES


def _is_frameworks(value):
    """A function of a framework that is no Python function: torch's own, jax's jitted ones."""
    module = getattr(value, "__module__", None)
    return callable(value) and isinstance(module, str) and _is_known(module) and not (
        hasattr(value, "parameters") or hasattr(value, "__wrapped__"))


def _is_array(value):
    package = type(value).__module__.partition(".")[0]
    return package in ("torch", "jax", "jaxlib") and hasattr(value, "shape") and hasattr(value, "dtype")


def place(array):
    """What tells that a tensor was given other memory or another shape; None for arrays that can't be."""
    pointer = getattr(array, "data_ptr", None)
    if not pointer:
        return None
    try:
        is_watched = array.requires_grad and sys.modules["torch"].is_grad_enabled()
        return pointer(), tuple(array.shape), array.stride(), array.dtype, is_watched
    except RuntimeError:  # sparse, meta: the C side says so
        return None


def _mark_function(function, hints, seen):
    if function in seen:
        return ("again",)
    seen = seen | {function}
    if function.__module__ and _is_known(function.__module__):
        return (_Same(function),)
    code = function.__code__
    cells = function.__closure__ or ()
    try:
        visible = dict(zip(code.co_freevars, (cell.cell_contents for cell in cells), strict=True))
    except ValueError:  # an empty cell
        raise _Opaque from None
    names = _names_in(code)
    visible |= {name: function.__globals__[name] for name in names if name in function.__globals__}
    for name, value in visible.items():
        if _is_array(value):
            hints.setdefault(id(value), name)
    extra = [function.__defaults__, *(function.__kwdefaults__ or {}).items()]
    return (code, *(_mark(v, hints, seen) for v in extra), *((n, _mark(v, hints, seen)) for n, v in visible.items()))


def _watch(function):
    """The very objects that a plain function sees; while they are the same, so is its fingerprint, and looking is
    quick. None for one that sees anything that could change and stay itself, but arrays."""
    if function.__defaults__ or function.__kwdefaults__:
        return None
    cells = [(cell, cell.cell_contents) for cell in function.__closure__ or ()]
    names = [(name, function.__globals__.get(name, _MISSING)) for name in _names_in(function.__code__)]
    arrays = []
    for _, value in cells + names:
        if _is_array(value):
            arrays.append((value, place(value)))
        elif not (isinstance(value, (*_BY_VALUE, types.ModuleType, types.BuiltinFunctionType, type))
                  or value is _MISSING or _is_frameworks(value)):
            return None
    return function.__code__, cells, names, arrays


_MISSING = object()


def _holds(watch, function):
    code, cells, names, arrays = watch
    if function.__code__ is not code or function.__defaults__ or function.__kwdefaults__:
        return False
    try:
        for cell, value in cells:
            if cell.cell_contents is not value:
                return False
    except ValueError:  # it is empty now
        return False
    seen = function.__globals__
    for name, value in names:
        if seen.get(name, _MISSING) is not value:
            return False
    return all(place(array) == at for array, at in arrays)


def _names_in(code):
    """Global and attribute names in a code and in those inside it."""
    names = list(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names += _names_in(constant)
    return names
