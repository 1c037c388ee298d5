# SPDX-License-Identifier: Apache-2.0
"""attnax's mods as a text: their jaxpr at full shapes, where every number is one score's as long as axes keep apart.

    scores [1, H, m, n]   b [1, 1, 1, 1]   h [1, H, 1, 1]   q [1, 1, m, 1]   kv [1, 1, 1, n]
        │ elementwise: a dim of the result runs along the axis its operands run along
        │ a captured array beside them, of four dims: read at [b, h, q, kv], 0 where its extent is 1
        ▼ moved dims take their axes along; two axes in one dim: no translation
    one score, whose dims are again b, h, q, kv
"""
import math

import jax
import numpy as np
from folio import _emit
from folio._emit import Untranslatable, Value
from folio._trace_jax import _CAPTURED, _TYPES, CALLS, _Translator, _Vector, _View
from jax import numpy as jnp

AXES = tuple(_emit.ARGUMENTS[name] for name in ("b", "h", "q_idx", "kv_idx"))
MANY = 1024
_MOVES = frozenset("broadcast_in_dim squeeze reshape expand_dims transpose".split())


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


def _small(array):
    """An array of equal numbers as one of a single number, as a broadcast leaves it."""
    if 1 < array.size <= MANY and (np.asarray(array) == np.asarray(array).flat[0]).all():
        return array[(slice(0, 1),) * array.ndim]
    return array


class _Whole(_Translator):
    """The translator of one score, with axes."""

    def result_type(self, equation):
        aval = equation.outvars[0].aval
        if aval.dtype.name not in _TYPES:
            raise Untranslatable(f"{equation.primitive} giving {aval.str_short()}")
        return _TYPES[aval.dtype.name]

    def equation(self, equation, inputs):
        name = equation.primitive.name
        if name in CALLS:
            return super().equation(equation, inputs)
        if not any(isinstance(v, Value | _View | _Vector) for v in inputs):
            return self.of_arrays(equation, name, inputs)
        if name in _MOVES and isinstance(inputs[0], Value):
            return [self.moved(equation, name, inputs[0])]
        if name == "gather":
            return [self.gathered(equation, *inputs)]
        if name == "rev":
            raise Untranslatable(name)
        if name == "concatenate":
            return [self.side_by_side(equation, inputs)]
        if isinstance(inputs[0], _View) and name in (*_MOVES, "dynamic_slice"):
            return super().equation(equation, inputs)
        return [self.elementwise(equation, name, inputs)]

    def of_arrays(self, equation, name, inputs):
        """Computed here; what is only spread out stays small."""
        if name == "broadcast_in_dim":
            places, rank = equation.params["broadcast_dimensions"], len(equation.params["shape"])
            extents = dict(zip(places, np.shape(inputs[0]), strict=True))
            return [inputs[0].reshape([extents.get(d, 1) for d in range(rank)])]
        shapes = [v.aval.shape for v in equation.invars]
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
        if [n for n in before if n > 1] != [n for n in after if n > 1]:
            raise Untranslatable(f"{name} of {before} to {after}")
        kept = iter([axis for axis, n in zip(axes, before, strict=True) if n > 1])
        return _Spread(value, [next(kept) if n > 1 else None for n in after])

    def side_by_side(self, equation, inputs):
        avals, last = [v.aval for v in equation.invars], equation.params["dimension"]
        if last != avals[0].ndim - 1 or any(a.shape[last] != 1 for a in avals):
            raise Untranslatable("concatenate")
        return _Vector(inputs)

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


def translate(function, heads, rows, keys):
    """(text, captures by name) of an attnax score mod, over [1, heads, rows, keys] scores.

    Raises Untranslatable, or whatever the function raises when it is traced.
    """
    shapes = (1, heads, rows, keys), (1, 1, 1, 1), (1, heads, 1, 1), (1, 1, rows, 1), (1, 1, 1, keys)
    arguments = [jax.ShapeDtypeStruct(shape, jnp.int32 if i else jnp.float32) for i, shape in enumerate(shapes)]
    closed = jax.make_jaxpr(lambda *given: function(*given))(*arguments)
    (result,) = closed.out_avals
    if result.ndim != len(AXES) or any(n > 1 and n != want for n, want in zip(result.shape[1:], shapes[0][1:])):
        raise Untranslatable(f"a result of shape {result.shape}")
    translator = _Whole({})
    given = [_Spread(value, [axis if n > 1 else None for axis, n in enumerate(shape)])
             for value, shape in zip(_emit.ARGUMENTS.values(), shapes, strict=True)]
    (value,) = translator.run(closed.jaxpr, closed.consts, given)
    if not isinstance(value, Value):
        value = translator.at_axes(value)
    if any(axis not in (None, d) for d, axis in enumerate(_axes(value, len(AXES)))):
        raise Untranslatable("a result whose axes are elsewhere")
    if math.prod(result.shape) == 0:
        raise Untranslatable("no scores")
    return translator.writer.text(value, is_mask=False), translator.writer.captures
