# SPDX-License-Identifier: Apache-2.0
"""A JAX callable of one score -> a text of folio's language, by way of its jaxpr.

    f ── make_jaxpr on 0-d shapes ─► jaxpr ─┬─ scalars of the arguments ─► let statements (_emit)
                                            ├─ slices of captured arrays at such scalars ─► captured[i, j]
                                            └─ arrays alone ─► computed here, once: JAX's arrays never change

Whatever has one element counts as a scalar, whatever its rank, so functions that work on shapes (1, 1, 1, 1) do too.
"""
import contextlib

import jax
import numpy as np
from folio import _emit
from folio._emit import BOOL, F32, I64, Untranslatable, Value
from jax import numpy as jnp

_TYPES = {"float32": F32, "float64": F32, "int32": I64, "int64": I64, "bool": BOOL}
_CAPTURED = _TYPES | {"float16": F32, "bfloat16": F32}
_CONVERTED = {"float64": np.float32, "int16": np.int32, "int8": np.int32, "uint8": np.int32, "uint16": np.int32}

# JAX's name -> _emit's.
_OPERATIONS = {
    "add": "add", "add_any": "add", "sub": "sub", "mul": "mul", "max": "max", "min": "min", "neg": "neg", "abs": "abs",
    "sign": "sign", "eq": "eq", "ne": "ne", "lt": "lt", "le": "le", "gt": "gt", "ge": "ge", "and": "and", "or": "or",
    "xor": "xor", "not": "not", "shift_left": "shl", "shift_right_arithmetic": "shr", "floor": "floor", "ceil": "ceil",
    "exp": "exp", "exp2": "exp2", "log": "log", "tanh": "tanh", "sqrt": "sqrt", "rsqrt": "rsqrt",
    "logistic": "sigmoid", "sin": "sin", "cos": "cos", "pow": "pow", "square": "square",
}
_SAME = frozenset("convert_element_type reduce_precision copy copy_p stop_gradient reshape squeeze expand_dims "
                  "broadcast_in_dim transpose rev".split())
# What calls a jaxpr once; a scan has one too, and repeats it.
CALLS = frozenset("jit pjit closed_call core_call remat remat2 checkpoint custom_jvp_call custom_vjp_call "
                  "custom_vjp_call_jaxpr".split())
_INNER = ("jaxpr", "call_jaxpr", "fun_jaxpr")


class _View:
    """A captured array, some dims indexed: at[d] is the index of dim d or None; shown lists the dims still seen, -1 for
    one of extent 1 that an index left behind."""

    def __init__(self, array, at=None, shown=None):
        self.array = array
        self.at = [None] * array.ndim if at is None else at
        self.shown = list(range(array.ndim)) if shown is None else shown

    def extent(self, position):
        return 1 if self.shown[position] < 0 else self.array.shape[self.shown[position]]


class _Vector(list):
    """Scalars side by side: the start of a gather."""


class _Translator:
    """Walks the equations of a jaxpr and of those inside it."""

    def __init__(self, hints):
        self.writer = _emit.Writer()
        self.hints = hints
        self.made_by = {}  # name of a let -> (operation, operands), for wrapped()

    # -- scalars ---------------------------------------------------------------------------------------------------

    def scalar(self, value):
        if isinstance(value, Value):
            return value
        if isinstance(value, _View):
            return self.element(value)
        if not isinstance(value, _Vector) and value.size == 1:
            if isinstance(value, jax.core.Tracer):
                return self.element(_View(value))
            return _emit.literal(np.asarray(value).reshape(()).item())
        raise Untranslatable(f"an array of shape {getattr(value, 'shape', len(value))} as an operand")

    def element(self, view):
        if any(i is None and n > 1 for i, n in zip(view.at, view.array.shape, strict=True)):
            raise Untranslatable(f"an array of shape {view.array.shape} as an operand")
        array, dtype = view.array, view.array.dtype.name
        if dtype in _CONVERTED:
            array = array.astype(_CONVERTED[dtype])
        if array.dtype.name not in _CAPTURED:
            raise Untranslatable(f"a captured array of dtype {dtype}")
        name = self.writer.capture(array, self.hints.get(id(view.array)))
        text = f"{name}[{', '.join(i.text if i else '0' for i in view.at)}]" if view.at else name
        return self.writer.let(text, _CAPTURED[array.dtype.name])

    def result_type(self, equation):
        aval = equation.outvars[0].aval
        if aval.size != 1 or aval.dtype.name not in _TYPES:
            raise Untranslatable(f"{equation.primitive} giving {aval.str_short()}")
        return _TYPES[aval.dtype.name]

    def operate(self, name, values, kind):
        result = self.writer.operate(name, values, kind)
        self.made_by[result.text] = name, values
        return result

    # -- indexing --------------------------------------------------------------------------------------------------

    def index(self, value, extent):
        """An index of a dim as JAX means it: clamped, after negative ones were counted from the end, as in x[i]."""
        value = self.scalar(value)
        wrapped = self.wrapped(value, extent)
        low = self.writer.operate("max", [wrapped or value, _emit.literal(-extent if wrapped else 0)], I64)
        return self.writer.operate("min", [low, _emit.literal(extent - 1)], I64)

    def wrapped(self, value, extent):
        """x of i < 0 ? x + extent : x."""
        name, cases = self.made_by.get(value.text, (None, None))
        if name != "where":
            return None
        condition, added, x = cases
        is_negative = self.made_by.get(condition.text) == ("lt", [x, _emit.literal(0)])
        is_added = self.made_by.get(added.text) in (("add", [x, _emit.literal(extent)]),
                                                    ("add", [_emit.literal(extent), x]))
        return x if is_negative and is_added else None

    def dynamic_slice(self, equation, operand, *starts):
        sizes = equation.params["slice_sizes"]
        view = self.view(operand, equation)
        at, shown = list(view.at), list(view.shown)
        for position, (start, size) in enumerate(zip(starts, sizes, strict=True)):
            extent = view.extent(position)
            if size == extent:
                continue  # the start can only be 0
            if size != 1:
                raise Untranslatable(f"a slice of {size} of {extent}")
            at[view.shown[position]] = self.index(start, extent)
            shown[position] = -1
        return _View(view.array, at, shown)

    def gather(self, equation, operand, starts):
        numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
        view = self.view(operand, equation)
        starts = starts if isinstance(starts, _Vector) else _Vector([starts])
        if numbers.operand_batching_dims or len(starts) != len(numbers.start_index_map):
            raise Untranslatable("gather of several places")
        at, shown, inside = list(view.at), list(view.shown), None
        for start, position in zip(starts, numbers.start_index_map, strict=True):
            extent = view.extent(position)
            if sizes[position] != 1:
                raise Untranslatable(f"a gather of {sizes[position]} of {extent}")
            index = self.scalar(start)
            if "FILL" in str(equation.params["mode"]):
                here = self.bounds(index, extent)
                inside = here if inside is None else self.writer.operate("logical_and", [inside, here], BOOL)
            if view.shown[position] >= 0:
                at[view.shown[position]] = self.index(start, extent)
                shown[position] = -1
        result = _View(view.array, at, [d for p, d in enumerate(shown) if p not in numbers.collapsed_slice_dims])
        return result if inside is None else self.filled(equation, result, inside)

    def bounds(self, index, extent):
        low = self.writer.operate("ge", [index, _emit.literal(0)], BOOL)
        high = self.writer.operate("lt", [index, _emit.literal(extent)], BOOL)
        return self.writer.operate("logical_and", [low, high], BOOL)

    def filled(self, equation, view, inside):
        """What lies outside is NaN, of ints the least."""
        kind = self.result_type(equation)
        if kind != F32:
            raise Untranslatable("gather that fills with ints")
        return self.writer.operate("where", [inside, self.element(view), _emit.literal(float("nan"))], kind)

    def view(self, operand, equation):
        if isinstance(operand, _View):
            return operand
        if isinstance(operand, Value | _Vector):
            raise Untranslatable(f"{equation.primitive} of what depends on the arguments")
        return _View(operand)

    # -- equations -------------------------------------------------------------------------------------------------

    def equation(self, equation, inputs):
        """The values of its outputs."""
        name, params = equation.primitive.name, equation.params
        if name in CALLS:
            return self.inner(equation, next(params[key] for key in _INNER if key in params), inputs)
        if not any(isinstance(v, Value | _View | _Vector) for v in inputs):
            return self.folded(equation, name, inputs)
        method = {"dynamic_slice": self.dynamic_slice, "gather": self.gather}.get(name)
        if method:
            return [method(equation, *inputs)]
        if name in ("squeeze", "reshape", "expand_dims", "broadcast_in_dim") and isinstance(inputs[0], _View):
            return [self.reshaped(equation, inputs[0])]
        if name == "concatenate" and all(v.aval.size == 1 for v in equation.invars):
            return [_Vector(inputs)]
        if name in _SAME and isinstance(inputs[0], _Vector):
            raise Untranslatable(f"{name} of several scalars")
        return [self.operation(equation, name, [self.scalar(v) for v in inputs])]

    def operation(self, equation, name, values):
        kind, params = self.result_type(equation), equation.params
        if name in _SAME:
            return self.writer.convert(values[0], kind)
        if name == "select_n":
            if values[0].type != BOOL:
                raise Untranslatable("select_n among more than two")
            return self.operate("where", [values[0], values[2], values[1]], kind)
        if name == "integer_pow":
            return self.integer_pow(values[0], params["y"], kind)
        if name == "clamp":
            return self.operate("clamp", [values[1], values[0], values[2]], kind)
        if name in ("div", "rem"):
            return self.operate(("div_trunc" if kind == I64 else "div") if name == "div" else "rem_trunc", values, kind)
        if name == "is_finite":
            return self.writer.let(f"{values[0].text} - {values[0].text} == 0", BOOL)
        if name not in _OPERATIONS:
            raise Untranslatable(name)
        return self.operate(_OPERATIONS[name], values, kind)

    def integer_pow(self, base, exponent, kind):
        value = _emit.power(self.writer, base, abs(exponent), kind)
        return value if exponent >= 0 else self.operate("reciprocal", [value], kind)

    def reshaped(self, equation, view):
        """A view whose dims of extent 1 come or go."""
        kept = [d for p, d in enumerate(view.shown) if view.extent(p) > 1]
        shape = equation.outvars[0].aval.shape
        if [n for n in shape if n > 1] != [view.array.shape[d] for d in kept]:
            raise Untranslatable(f"{equation.primitive} of an array")
        at = [_emit.literal(0) if i is None and n == 1 else i for i, n in zip(view.at, view.array.shape, strict=True)]
        dims = iter(kept)
        return _View(view.array, at, [next(dims) if n > 1 else -1 for n in shape])

    def folded(self, equation, name, inputs):
        """Numbers and arrays alone: what the equation gives."""
        simple = {"lt": np.less, "add": np.add, "select_n": lambda c, a, b: np.where(c, b, a)}.get(name)
        if simple and all(np.ndim(v) == 0 for v in inputs):  # of indices; JAX would compile a program for each
            return [np.asarray(simple(*inputs), equation.outvars[0].aval.dtype)]
        if name.startswith("random") or name in ("threefry2x32", "io_callback", "pure_callback", "debug_callback"):
            raise Untranslatable(name)
        with _eagerly(inputs):
            result = equation.primitive.bind(*inputs, **equation.params)
        return list(result) if equation.primitive.multiple_results else [result]

    def inner(self, equation, inner, inputs):
        """A jitted function, a custom derivative, ...: its own equations."""
        jaxpr, consts = (inner.jaxpr, inner.consts) if hasattr(inner, "jaxpr") else (inner, ())
        name = equation.params.get("name")
        whole = {"floor_divide": "floor_div", "remainder": "rem_floor"}.get(name)
        if whole and str(jaxpr) in _texts_of(name) and self.result_type(equation) == I64:
            return [self.operate(whole, [self.scalar(v) for v in inputs], I64)]
        return self.run(jaxpr, consts, inputs)

    def run(self, jaxpr, consts, inputs):
        if len(jaxpr.invars) != len(inputs):
            raise Untranslatable("a call with constants of its own")
        values = dict(zip(jaxpr.constvars, map(_concrete, consts), strict=True))
        values.update(zip(jaxpr.invars, inputs, strict=True))

        def read(atom):
            return np.asarray(atom.val, atom.aval.dtype) if hasattr(atom, "val") else values[atom]

        for equation in jaxpr.eqns:
            results = self.equation(equation, [read(v) for v in equation.invars])
            values.update(zip(equation.outvars, results, strict=True))
        return [read(v) for v in jaxpr.outvars]


def _eagerly(inputs):
    """At once, even while another function is being traced, unless one of the inputs belongs to that."""
    is_traced = any(isinstance(v, jax.core.Tracer) for v in inputs)
    return contextlib.nullcontext() if is_traced else jax.ensure_compile_time_eval()


def _concrete(value):
    return value if isinstance(value, jax.Array) else np.asarray(value)


def _texts_of(name, known={}):  # noqa: B006
    """How JAX's own floor_divide and remainder of ints look: of two arrays, and of an array and a number."""
    if name not in known:
        function, x = getattr(jnp, name), jax.ShapeDtypeStruct((), jnp.int32)
        traced = [jax.make_jaxpr(function)(x, x), jax.make_jaxpr(lambda x: function(x, 2))(x)]
        known[name] = {str(e.params["jaxpr"].jaxpr) for t in traced for e in t.jaxpr.eqns if "jaxpr" in e.params}
    return known[name]


def translate(function, is_mask, hints):
    """(text, captures by name, None). hints: names of arrays by id.

    Raises Untranslatable, or whatever the function raises when it is traced.
    """
    index = jax.ShapeDtypeStruct((), jnp.int32)
    arguments = [index] * 4 if is_mask else [jax.ShapeDtypeStruct((), jnp.float32), *[index] * 4]
    closed = jax.make_jaxpr(lambda *given: function(*given))(*arguments)  # a new function: JAX remembers by identity
    if len(closed.out_avals) != 1:
        raise Untranslatable(f"a result of {len(closed.out_avals)} arrays")
    translator = _Translator(hints)
    names = [_emit.ARGUMENTS[name] for name in list(_emit.ARGUMENTS)[is_mask:]]
    (result,) = translator.run(closed.jaxpr, closed.consts, names)
    return translator.writer.text(translator.scalar(result), is_mask), translator.writer.captures, None
