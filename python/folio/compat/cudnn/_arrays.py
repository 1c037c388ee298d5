# SPDX-License-Identifier: Apache-2.0
"""NumPy arrays and PyTorch tensors alike: shape, strides in elements, type, and memory of the same kind.

PyTorch is never imported here: an array that is a tensor shows that it is there already.
"""
import sys

import numpy as np

from folio.compat.cudnn._names import data_type

_NUMPY = {
    "float32": data_type.FLOAT, "float64": data_type.DOUBLE, "float16": data_type.HALF,
    "bfloat16": data_type.BFLOAT16, "int8": data_type.INT8, "uint8": data_type.UINT8, "int32": data_type.INT32,
    "int64": data_type.INT64, "bool": data_type.BOOLEAN, "float8_e4m3fn": data_type.FP8_E4M3,
    "float8_e5m2": data_type.FP8_E5M2,
}
_NAMES = {kind: name for name, kind in _NUMPY.items()}


def is_torch(x):
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def as_array(name, x):
    """x itself where it is NumPy's or PyTorch's, else a NumPy view of it; TypeError with the name."""
    if isinstance(x, np.ndarray) or is_torch(x):
        return x
    if hasattr(x, "__dlpack__"):
        return np.from_dlpack(x)
    raise TypeError(f"{name}: got {type(x).__name__}; must be a NumPy array, a torch.Tensor or have __dlpack__")


def strides_of(x):
    """Strides in elements, as a tuple."""
    return tuple(x.stride()) if is_torch(x) else tuple(s // x.itemsize for s in x.strides)


def type_of(name, x):
    """The data_type of an array; NOT_SET raises nothing here, an unknown dtype is a TypeError with the name."""
    text = str(x.dtype).removeprefix("torch.")
    if text not in _NUMPY:
        raise TypeError(f"{name}: dtype {x.dtype}; cuDNN's types: {', '.join(_NUMPY)}")
    return _NUMPY[text]


def device_of(x):
    """A torch.device, or None for NumPy."""
    return x.device if is_torch(x) else None


class Place:
    """Where a graph's arrays live: NumPy (device None) or a PyTorch device."""

    def __init__(self, device):
        self.device = device

    @property
    def is_host(self):
        return self.device is None or self.device.type == "cpu"

    def __eq__(self, other):
        return self.device == other.device

    def __str__(self):
        return "NumPy" if self.device is None else f"PyTorch on {self.device}"

    def dtype(self, kind):
        if self.device is not None:
            return getattr(sys.modules["torch"], _NAMES[kind])
        if kind is data_type.BFLOAT16:
            import ml_dtypes

            return np.dtype(ml_dtypes.bfloat16)
        return np.dtype(_NAMES[kind])

    def empty(self, shape, kind):
        """Uninitialised memory [*shape] of a data_type."""
        if self.device is None:
            return np.empty(shape, self.dtype(kind))
        return sys.modules["torch"].empty(shape, dtype=self.dtype(kind), device=self.device)

    def stand_in(self, shape, strides, kind):
        """On a host: an array of this shape, strides (elements) and data_type with no memory behind it, for a plan to
        look at. Its elements must never be touched."""
        size = 4 if kind is data_type.FLOAT else 2
        shown = np.lib.stride_tricks.as_strided(np.empty(1, f"i{size}"), shape, [s * size for s in strides])
        if self.device is None:
            return shown.view(self.dtype(kind))
        return sys.modules["torch"].from_numpy(shown).view(self.dtype(kind))


def permuted(x, order):
    """x with its dims in another order: a view."""
    return x.permute(order) if is_torch(x) else x.transpose(order)


def spread(x, shape):
    """x broadcast to a shape: a view."""
    return x.expand(shape) if is_torch(x) else np.broadcast_to(x, shape)


def fill(target, source):
    """target[...] = source, converted and broadcast. PyTorch enqueues it on its current stream."""
    if is_torch(target):
        target.copy_(source)
    else:
        target[...] = source
