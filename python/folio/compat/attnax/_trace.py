# SPDX-License-Identifier: Apache-2.0
"""attnax's mods as a text: their jaxpr at full shapes, where every number is one score's as long as axes keep apart.

    scores [1, H, m, n]   b [1, 1, 1, 1]   h [1, H, 1, 1]   q [1, 1, m, 1]   kv [1, 1, 1, n]
        │ elementwise: a dim of the result runs along the axis its operands run along
        │ a captured array beside them, of four dims: read at [b, h, q, kv], 0 where its extent is 1
        ▼ moved dims take their axes along; two axes in one dim: no translation
    one score, whose dims are again b, h, q, kv

The number of keys n may be left open, as JAX's symbolic size: then arange(n) is kv, and n itself kv_len.
"""
import functools

import jax
import numpy as np
from folio import _emit
from folio._emit import Untranslatable, Value
from folio._trace_jax import _CAPTURED, _OPERATIONS, _TYPES, CALLS, _eagerly, _Translator, _Vector, _View
from jax import export
from jax import numpy as jnp

AXES = tuple(_emit.ARGUMENTS[name] for name in ("b", "h", "q_idx", "kv_idx"))
MANY = 1024
_MOVES = frozenset("broadcast_in_dim squeeze reshape expand_dims transpose".split())
_ELEMENTWISE = {*_OPERATIONS, *"convert_element_type select_n integer_pow clamp div rem is_finite copy".split()}


class _Spread(Value):
    """A Value that is one of many: axes[d] is which of AXES dim d runs along, None where it is the same for all."""

    def __new__(cls, value, axes):
        self = super().__new__(cls, value.text, value.type)
        self.axes = tuple(axes)
        return self


def _axes(value, rank):
    return getattr(value, "axes", (None,) * rank)


def _varies(value):
    return any(axis is not None for axis in getattr(value, "axes", ()))


def _is_open(shape):
    return not all(isinstance(n, int) for n in shape)


def _is_many(extent):
    """An open number of keys is."""
    return not isinstance(extent, int) or extent > 1


def _small(array):
    """An array of equal numbers as one of a single number, as a broadcast leaves it."""
    if isinstance(array, jax.core.Tracer) or not 1 < array.size <= MANY:
        return array
    numbers = np.asarray(array)
    return array[(slice(0, 1),) * array.ndim] if (numbers == numbers.flat[0]).all() else array


class _Whole(_Translator):
    """The translator of one score, with axes. keys: their number, symbolic if it is open."""

    def __init__(self, keys):
        super().__init__({})
        self.keys = keys

    def result_type(self, equation):
        aval = equation.outvars[0].aval
        if aval.dtype.name not in _TYPES:
            raise Untranslatable(f"{equation.primitive} giving {aval.str_short()}")
        return _TYPES[aval.dtype.name]

    def equation(self, equation, inputs):
        name = equation.primitive.name
        if name in CALLS:
            return super().equation(equation, inputs)
        if name == "dim_as_value":
            return [self.length(equation.params["dim"])]
        if name == "iota" and _is_open(equation.outvars[0].aval.shape):
            return [self.counted(equation)]
        if not any(isinstance(v, Value | _View | _Vector) for v in inputs):
            return self.of_arrays(equation, name, inputs)
        if name in _MOVES and isinstance(inputs[0], Value):
            return [self.moved(equation, name, inputs[0])]
        if name == "gather" and isinstance(inputs[0], Value):
            return [self.first(equation, *inputs)]
        if name == "gather":
            return [self.gathered(equation, *inputs)]
        if name == "rev":
            raise Untranslatable(name)
        if name == "concatenate":
            return [self.side_by_side(equation, inputs)]
        if isinstance(inputs[0], _View) and name in (*_MOVES, "dynamic_slice"):
            return super().equation(equation, inputs)
        return [self.elementwise(equation, name, inputs)]

    def length(self, dim):
        """A size that is the open number of keys and a constant."""
        more = dim - self.keys
        if not isinstance(more, int):
            raise Untranslatable(f"the size {dim}")
        return self.writer.operate("add", [_emit.KV_LEN, _emit.literal(more)], _emit.I64)

    def counted(self, equation):
        """iota along the open number of keys."""
        shape, along = equation.outvars[0].aval.shape, equation.params["dimension"]
        if shape[along] is not self.keys and shape[along] != self.keys:
            raise Untranslatable(f"iota of {shape}")
        key = self.writer.convert(AXES[-1], self.result_type(equation))
        return _Spread(key, [len(AXES) - 1 if d == along else None for d in range(len(shape))])

    def of_arrays(self, equation, name, inputs):
        """Computed here; what is only spread out stays small."""
        with _eagerly(inputs):
            if name == "broadcast_in_dim":
                places, rank = equation.params["broadcast_dimensions"], len(equation.params["shape"])
                extents = dict(zip(places, np.shape(inputs[0]), strict=True))
                return [inputs[0].reshape([extents.get(d, 1) for d in range(rank)])]
            shapes = [v.aval.shape for v in equation.invars]
            if any(map(_is_open, (*shapes, *(v.aval.shape for v in equation.outvars)))):
                if name not in _ELEMENTWISE:
                    raise Untranslatable(f"{name} of an open number of keys")
                shapes = [tuple(n if isinstance(n, int) else 1 for n in s) for s in shapes]
            numpy = [jnp if isinstance(v, jax.Array) else np for v in inputs]
            whole = [n.broadcast_to(v, s) if v.shape != s else v for n, v, s in zip(numpy, inputs, shapes, strict=True)]
            return [_small(v) for v in self.folded(equation, name, whole)]

    def moved(self, equation, name, value):
        """The same scalar, its dims elsewhere."""
        before, after = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
        axes = _axes(value, len(before))
        if name == "broadcast_in_dim":
            places = dict(zip(equation.params["broadcast_dimensions"], axes, strict=True))
            return _Spread(value, [places.get(d) for d in range(len(after))])
        if name == "transpose":
            return _Spread(value, [axes[d] for d in equation.params["permutation"]])
        if list(filter(_is_many, before)) != list(filter(_is_many, after)):
            raise Untranslatable(f"{name} of {before} to {after}")
        kept = iter([axis for axis, n in zip(axes, before, strict=True) if _is_many(n)])
        return _Spread(value, [next(kept) if _is_many(n) else None for n in after])

    def side_by_side(self, equation, inputs):
        avals, last = [v.aval for v in equation.invars], equation.params["dimension"]
        if last != avals[0].ndim - 1 or any(_is_many(a.shape[last]) for a in avals):
            raise Untranslatable("concatenate")
        return _Vector(inputs)

    def first(self, equation, value, starts):
        """x[0, 0, 0, :] as it looks beside an open number of keys: all of x, without dims of one element."""
        shape, numbers = equation.invars[0].aval.shape, equation.params["dimension_numbers"]
        is_known = not isinstance(starts, Value | _Vector | jax.core.Tracer)
        if not is_known or np.asarray(starts).ndim != 1 or np.asarray(starts).any() or (
                list(equation.params["slice_sizes"]) != list(shape)):
            raise Untranslatable("gather of what depends on the arguments")
        return _Spread(value, [axis for d, axis in enumerate(_axes(value, len(shape)))
                               if d not in numbers.collapsed_slice_dims])

    def gathered(self, equation, operand, starts):
        """An element an index; or, of indices that are the same for all, an array's part."""
        indices = starts if isinstance(starts, _Vector) else [starts]
        result = super().gather(equation, operand, starts)
        if isinstance(result, _View) and not any(map(_varies, indices)) and any(
                i is None and n > 1 for i, n in zip(result.at, result.array.shape, strict=True)):
            return result
        rank, numbers = equation.outvars[0].aval.ndim, equation.params["dimension_numbers"]
        axes = self.merged([_axes(i, equation.invars[1].aval.ndim) for i in indices])[:-1]
        if len(numbers.offset_dims) + len(axes) != rank:
            raise Untranslatable("gather of this shape")
        batch = iter(axes)
        value = self.element(result) if isinstance(result, _View) else result
        return _Spread(value, [None if d in numbers.offset_dims else next(batch) for d in range(rank)])

    def merged(self, lists):
        """The axes of what is computed of operands with those."""
        axes = []
        for dim in zip(*lists, strict=True):
            found = set(dim) - {None}
            if len(found) > 1:
                raise Untranslatable("an axis that meets another")
            axes.append(found.pop() if found else None)
        return axes

    def elementwise(self, equation, name, inputs):
        rank = equation.outvars[0].aval.ndim
        inputs = [v if isinstance(v, Value | _View) else self.at_axes(v) for v in inputs]
        # A number may stand beside arrays, as it does in clamp and pow.
        axes = self.merged([_axes(v, rank) or (None,) * rank for v in inputs])
        return _Spread(self.operation(equation, name, [self.scalar(v) for v in inputs]), axes)

    def at_axes(self, array):
        """The number of an array that belongs to a score."""
        if isinstance(array, _Vector):
            raise Untranslatable("several scalars as an operand")
        if array.size == 1:
            return self.scalar(array)
        if array.ndim != len(AXES) or array.dtype.name not in _CAPTURED:
            return self.scalar(array)  # says what it is
        axes = [axis if n > 1 else None for axis, n in enumerate(array.shape)]
        value = self.element(_View(array, [None if axis is None else AXES[axis] for axis in axes]))
        return _Spread(value, axes)


@functools.cache
def _open_keys():
    return export.symbolic_shape("n")[0]


def translate(function, heads, rows, keys=None):
    """(text, captures by name) of an attnax score mod, over [1, heads, rows, keys] scores; keys None: of any number.

    Raises Untranslatable, or whatever the function raises when it is traced.
    """
    keys = _open_keys() if keys is None else keys
    shapes = (1, heads, rows, keys), (1, 1, 1, 1), (1, heads, 1, 1), (1, 1, rows, 1), (1, 1, 1, keys)
    arguments = [jax.ShapeDtypeStruct(shape, jnp.int32 if i else jnp.float32) for i, shape in enumerate(shapes)]
    closed = jax.make_jaxpr(lambda *given: function(*given))(*arguments)
    (result,) = closed.out_avals
    if result.ndim != len(AXES) or any(_is_many(n) and n != want for n, want in zip(result.shape[1:], shapes[0][1:])):
        raise Untranslatable(f"a result of shape {result.shape}")
    translator = _Whole(keys)
    given = [_Spread(value, [axis if _is_many(n) else None for axis, n in enumerate(shape)])
             for value, shape in zip(_emit.ARGUMENTS.values(), shapes, strict=True)]
    (value,) = translator.run(closed.jaxpr, closed.consts, given)
    if not isinstance(value, Value):
        value = translator.at_axes(value)
    if any(axis not in (None, d) for d, axis in enumerate(_axes(value, len(AXES)))):
        raise Untranslatable("a result whose axes are elsewhere")
    if any(n == 0 for n in result.shape):
        raise Untranslatable("no scores")
    return translator.writer.text(value, is_mask=False), translator.writer.captures
