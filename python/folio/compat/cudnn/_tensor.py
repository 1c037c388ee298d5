# SPDX-License-Identifier: Apache-2.0
"""A tensor of a graph: shape, strides and type, and the key under which execute() finds the array."""
from folio.compat.cudnn import _arrays
from folio.compat.cudnn._names import cudnnGraphNotSupportedError, data_type


class tensor:
    """Made by pygraph.tensor, tensor_like and sdpa. Each set_ method returns the tensor, so that they can be chained.

    dim        list of 4 ints, the logical order: batch, heads, rows, head_dim
    stride     list of 4 ints, in elements, of the same dims
    """

    def __init__(self, name="", dim=(), stride=(), kind=data_type.NOT_SET, place=None, uid=0):
        self._name, self._dim, self._stride, self._type = name, tuple(dim), tuple(stride), kind
        self._place, self._uid, self._is_output = place, uid, False

    def __repr__(self):
        return f"tensor({self._name!r}, dim={list(self._dim)}, stride={list(self._stride)}, {self._type.name})"

    def set_output(self, value):
        """Whether execute() writes this tensor: then the variant pack has an array for it."""
        self._is_output = bool(value)
        return self

    def set_is_virtual(self, value):
        """The opposite of set_output."""
        return self.set_output(not value)

    def set_dim(self, dim):
        """The shape: 4 ints."""
        self._dim = _ints("dim", dim)
        return self

    def set_stride(self, stride):
        """The strides: 4 ints, in elements."""
        self._stride = _ints("stride", stride)
        return self

    def set_data_type(self, kind):
        """A cudnn.data_type."""
        if not isinstance(kind, data_type):
            raise TypeError(f"data_type: got {type(kind).__name__}; must be a cudnn.data_type")
        self._type = kind
        return self

    def set_name(self, name):
        """A name, for messages."""
        self._name = str(name)
        return self

    def set_uid(self, uid):
        """An int that may stand for the tensor in a variant pack."""
        self._uid = int(uid)
        return self

    def set_ragged_offset(self, offset):
        """Packed batches: not supported."""
        raise cudnnGraphNotSupportedError("ragged_offset: packed tensors are not supported; give strides and seq_len")

    def get_dim(self):
        return list(self._dim)

    def get_stride(self):
        return list(self._stride)

    def get_data_type(self):
        return self._type

    def get_name(self):
        return self._name

    def get_uid(self):
        return self._uid

    def get_is_virtual(self):
        return not self._is_output


def _ints(what, values):
    values = tuple(int(x) for x in values)
    if what == "dim" and any(x < 0 for x in values):
        raise ValueError(f"dim: got {list(values)}; none may be negative")
    return values


def like(x, name, uid):
    """A tensor as an array (or another tensor) is."""
    if isinstance(x, tensor):
        return tensor(name or x._name, x._dim, x._stride, x._type, x._place, uid)
    x = _arrays.as_array(name or "tensor_like", x)
    kind = _arrays.type_of(name or "tensor_like", x)
    place = _arrays.Place(_arrays.device_of(x))
    return tensor(name, tuple(x.shape), _arrays.strides_of(x), kind, place, uid)
