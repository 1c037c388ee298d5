# SPDX-License-Identifier: Apache-2.0
"""A PyTorch callable of one score -> a text of folio's language, by way of its aten graph.

    f ── make_fx on 0-d tensors ─► aten graph ─┬─ scalars of the arguments ─► let statements (_emit)
                                               └─ tensors alone ─► computed here: views stay views of the user's
                                                  memory, the rest is computed again before every run
"""
import math

import torch
from folio import _emit
from folio._emit import BOOL, F32, I64, Untranslatable, Value
from torch._dynamo._trace_wrapped_higher_order_op import TransformGetItemToIndex
from torch.fx.experimental.proxy_tensor import make_fx

_TYPES = {torch.float32: F32, torch.float64: F32, torch.int64: I64, torch.int32: I64, torch.bool: BOOL}
# What captures may be; others are converted before every run.
_CAPTURED = {torch.float32: F32, torch.float16: F32, torch.bfloat16: F32, torch.int64: I64, torch.int32: I64,
             torch.bool: BOOL}
_CONVERTED = {torch.float64: torch.float32, torch.int16: torch.int32, torch.int8: torch.int32, torch.uint8: torch.int32}

# aten's name -> _emit's.
_OPERATIONS = {
    "add": "add", "sub": "sub", "rsub": "sub", "mul": "mul", "floor_divide": "floor_div", "remainder": "rem_floor",
    "fmod": "rem_trunc", "eq": "eq", "ne": "ne", "lt": "lt", "le": "le", "gt": "gt", "ge": "ge",
    "bitwise_and": "and", "bitwise_or": "or", "bitwise_xor": "xor", "bitwise_not": "not",
    "bitwise_left_shift": "shl", "bitwise_right_shift": "shr", "__lshift__": "shl", "__rshift__": "shr",
    "__and__": "and", "__or__": "or", "__xor__": "xor",
    "logical_and": "logical_and", "logical_or": "logical_or", "logical_not": "logical_not",
    "logical_xor": "logical_xor", "maximum": "max", "minimum": "min", "abs": "abs", "neg": "neg", "relu": "relu",
    "sign": "sign", "sgn": "sign", "reciprocal": "reciprocal", "floor": "floor", "ceil": "ceil", "trunc": "trunc",
    "exp": "exp", "exp2": "exp2", "log": "log", "tanh": "tanh", "sqrt": "sqrt", "rsqrt": "rsqrt",
    "sigmoid": "sigmoid", "sin": "sin", "cos": "cos", "where": "where", "square": "square", "clamp": "clamp",
    "clamp_min": "max", "clamp_max": "min",
}
_SAME = frozenset(
    "clone alias detach lift lift_fresh lift_fresh_copy contiguous view expand squeeze reshape _unsafe_view".split())
_FILLED = {"ones_like": 1, "zeros_like": 0, "new_ones": 1, "new_zeros": 0, "ones": 1, "zeros": 0}
_FACTORIES = frozenset("arange full ones zeros scalar_tensor eye linspace tril triu lift_fresh_copy lift_fresh".split())


class RequiresGrad(TypeError):
    """What no way of calling the function would change."""


class _Array:
    """A tensor with dims still to be indexed: at[d] is the index of dim d, or None."""

    def __init__(self, tensor, hint, at=None, is_literal=False):
        self.tensor, self.hint, self.is_literal = tensor, hint, is_literal
        self.at = at or [None] * tensor.dim()

    def indexed(self, free_dim, index):
        """With the free_dim-th of the dims that have no index yet indexed."""
        dim = [d for d, i in enumerate(self.at) if i is None][free_dim]
        return _Array(self.tensor, self.hint, [*self.at[:dim], index, *self.at[dim + 1:]])

    @property
    def is_whole(self):
        return all(i is None for i in self.at)


class _Translator:
    """Walks the nodes of one graph."""

    def __init__(self, hints):
        self.writer = _emit.Writer()
        self.hints = hints
        self.updates = []  # (tensor, function giving its values): before every run
        self.values = {}  # node -> Value, _Array
        self.converted = {}  # tensor -> tensor of a dtype that captures may have

    # -- scalars ---------------------------------------------------------------------------------------------------

    def scalar(self, argument):
        """Value of a node or number."""
        if argument is None:
            return None
        value = self.values[argument] if isinstance(argument, torch.fx.Node) else argument
        if isinstance(value, bool | int | float):
            return _emit.literal(value)
        if isinstance(value, _Array):
            return self.element(value)
        if not isinstance(value, Value):
            raise Untranslatable(f"{type(value).__name__} as an operand")
        return value

    def element(self, array):
        """A fully indexed tensor."""
        if any(i is None for i in array.at):
            raise Untranslatable(f"a tensor of shape {tuple(array.tensor.shape)} as an operand")
        if array.is_literal and not array.at:
            return _emit.literal(array.tensor.item())
        tensor = array.tensor
        if tensor.dtype in _CONVERTED:
            if tensor not in self.converted:
                self.converted[tensor] = self.computed(lambda t=tensor: t.to(_CONVERTED[t.dtype]))
            tensor = self.converted[tensor]
        if tensor.dtype not in _CAPTURED:
            raise Untranslatable(f"a captured tensor of dtype {tensor.dtype}")
        name = self.writer.capture(tensor, array.hint)
        text = f"{name}[{', '.join(i.text for i in array.at)}]" if array.at else name
        return self.writer.let(text, _CAPTURED[tensor.dtype])

    def result_type(self, node):
        value = node.meta.get("val")
        dtype = getattr(value, "dtype", None)
        if value is None or value.dim() or dtype not in _TYPES:
            raise Untranslatable(f"{node.target} giving {dtype} of {value is not None and value.dim()} dims")
        return _TYPES[dtype]

    # -- tensors of the user's -------------------------------------------------------------------------------------

    def computed(self, function):
        """A tensor that is computed again before every run."""
        tensor = function().detach().clone()
        self.updates.append((tensor, function))
        return tensor

    def constant(self, node):
        """What a node on tensors alone gives: a view where it is one."""
        name = _name(node)
        schema = node.target._schema
        if schema.is_mutable or torch.Tag.nondeterministic_seeded in node.target.tags:
            raise Untranslatable(str(node.target))

        def fixed(argument):
            value = self.values[argument]
            return value.tensor if isinstance(value, _Array) else value

        arguments = torch.fx.node.map_arg(node.args, fixed), torch.fx.node.map_arg(node.kwargs, fixed)
        inputs = [self.values[i] for i in node.all_input_nodes]
        if not inputs and name not in _FACTORIES:
            raise Untranslatable(str(node.target))
        with torch.no_grad():
            tensor = node.target(*arguments[0], **arguments[1])
        if not isinstance(tensor, torch.Tensor):
            raise Untranslatable(str(node.target))
        if not inputs or all(i.is_literal for i in inputs):
            return _Array(tensor, None, is_literal=True)
        if any(a.alias_info for a in schema.arguments):
            return _Array(tensor, inputs[0].hint)
        return _Array(self.computed(lambda: node.target(*arguments[0], **arguments[1])), inputs[0].hint)

    def captured(self, node, tensor):
        """A tensor that the function has from outside, or one it makes of numbers each time it is called."""
        name = self.hints.get(id(tensor))
        if tensor.requires_grad and torch.is_grad_enabled():
            raise RequiresGrad(f"capture {name}: a tensor that requires grad; folio has no backward pass: detach it, "
                               "or call within torch.no_grad()")
        for earlier, value in self.values.items():
            if earlier.op == "get_attr" and earlier.target == node.target:
                return value
        is_literal = {_name(user) for user in node.users} <= {"lift_fresh_copy"}
        return _Array(tensor.detach(), name, is_literal=is_literal)

    # -- nodes -----------------------------------------------------------------------------------------------------

    def call(self, node):
        if not isinstance(node.target, torch._ops.OpOverload):
            raise Untranslatable(str(node.target))
        inputs = [self.values[i] for i in node.all_input_nodes]
        if all(isinstance(i, _Array) and i.is_whole for i in inputs):
            return self.constant(node)
        name = _name(node)
        if name in ("index", "select"):
            return getattr(self, name)(node)
        if name in _FILLED:
            return _emit.literal({F32: float, I64: int, BOOL: bool}[self.result_type(node)](_FILLED[name]))
        if name in ("new_full", "full_like"):
            return self.writer.convert(self.scalar(node.args[-1]), self.result_type(node))
        kind = self.result_type(node)
        if name == "_to_copy" or name in _SAME:
            return self.writer.convert(self.scalar(node.args[0]), kind)
        if name == "pow":
            return self.pow(node, kind)
        if name == "div":
            mode = {None: "div", "floor": "floor_div", "trunc": "div_trunc"}[node.kwargs.get("rounding_mode")]
            return self.writer.operate(mode, [self.scalar(a) for a in node.args[:2]], kind)
        if name == "masked_fill":
            value, mask, filler = (self.scalar(a) for a in node.args)
            return self.writer.operate("where", [mask, filler, value], kind)
        return self.operation(node, name, kind)

    def operation(self, node, name, kind):
        if name not in _OPERATIONS or node.kwargs.get("alpha", 1) != 1:
            raise Untranslatable(str(node.target))
        values = [self.scalar(a) for a in node.args]
        if name == "rsub":
            values.reverse()
        if name == "clamp":
            values = (values + [None, None])[:3]
            values = [v or self.scalar(node.kwargs.get(k)) for v, k in zip(values, ("self", "min", "max"), strict=True)]
        return self.writer.operate(_OPERATIONS[name], values, kind)

    def pow(self, node, kind):
        base, exponent = node.args
        if isinstance(exponent, int | float):
            return _emit.power(self.writer, self.scalar(base), exponent, kind)
        if kind != F32:
            raise Untranslatable(str(node.target))
        return self.writer.operate("pow", [self.scalar(base), self.scalar(exponent)], kind)

    def index(self, node):
        array, indices = node.args
        value = self.values[array]
        if not isinstance(value, _Array):
            raise Untranslatable(str(node.target))
        free = 0
        for i in indices:
            if i is None:
                free += 1
                continue
            index = self.scalar(i)
            if index.type != I64:
                raise Untranslatable(f"{node.target} by {index.type}")
            value = value.indexed(free, index)
        return value

    def select(self, node):
        array, dim, index = node.args
        value = self.values[array]
        if not isinstance(value, _Array) or not isinstance(index, int):
            raise Untranslatable(str(node.target))
        n_free = sum(i is None for i in value.at)
        return value.indexed(dim % n_free, _emit.literal(index))

    def translate(self, graph, module, names):
        arguments = iter(names)
        for node in graph.nodes:
            if node.op == "placeholder":
                self.values[node] = _emit.ARGUMENTS[next(arguments)]
            elif node.op == "get_attr":
                tensor = getattr(module, node.target)
                if not isinstance(tensor, torch.Tensor):
                    raise Untranslatable(f"a captured {type(tensor).__name__}")
                self.values[node] = self.captured(node, tensor)
            elif node.op == "call_function":
                self.values[node] = self.call(node)
            elif node.op == "output":
                return self.scalar(node.args[0])
        raise Untranslatable("a graph without a result")


def _name(node):
    return node.target._schema.name.partition("::")[2] if isinstance(node.target, torch._ops.OpOverload) else ""


def _arguments(is_mask):
    indices = [torch.zeros((), dtype=torch.int64) for _ in range(4)]
    return indices if is_mask else [torch.zeros(()), *indices]


def translate(function, is_mask, hints):
    """(text, captures by name, function that computes captures again or None). hints: names of tensors by id.

    Raises Untranslatable, or whatever the function raises when it is traced.
    """
    arguments = _arguments(is_mask)
    names = list(_emit.ARGUMENTS)[is_mask:]

    def positional(*given):  # make_fx looks at the signature
        return function(*given)

    with TransformGetItemToIndex(), torch.no_grad():
        module = make_fx(positional, tracing_mode="fake", _allow_non_fake_inputs=True)(*arguments)
    translator = _Translator(hints)
    result = translator.translate(module.graph, module, names)
    updates = translator.updates

    def refresh():
        with torch.no_grad():
            for tensor, compute in updates:
                tensor.copy_(compute())

    return translator.writer.text(result, is_mask), translator.writer.captures, refresh if updates else None
