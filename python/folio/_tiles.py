# SPDX-License-Identifier: Apache-2.0
"""A callable as a mod: called with tiles of scores, in arrays of the caller's framework, on the library's threads.

                    keys kv_begin ...                 score    [n_rows, n_keys] float32 (a copy)
    rows q_begin  ┌───────────────────┐               b, h     0-d ints
             ...  │ scores, in C      │  ─► f(...) ─► q_idx    [n_rows, 1] ints
                  └───────────────────┘               kv_idx   [1, n_keys] ints
                            ◄── the result, broadcast to [n_rows, n_keys]; of a mask, true keeps
"""
import numpy as np

SCORE = 1


def compile(ext, name, kind, function, framework, whole, why):
    """_ext._Mod that calls function. `name` is the argument's, for messages."""
    to_array, to_numpy = _CONVERTERS[framework]()

    def tile(memory, b, h, q_begin, n_rows, kv_begin, n_keys, stride):
        shape = (n_rows, n_keys)
        rows = np.arange(q_begin, q_begin + n_rows, dtype=np.int64)[:, None]
        keys = np.arange(kv_begin, kv_begin + n_keys, dtype=np.int64)[None, :]
        where = [to_array(i) for i in (np.array(b, np.int64), np.array(h, np.int64), rows, keys)]
        if kind == SCORE:
            result = function(to_array(_read(memory, shape, stride)), *where)
        else:
            result = function(*where)
        _write(memory, shape, stride, _checked(name, to_numpy(result), shape, kind))

    size = "all rows and keys of a head" if whole else "a tile"
    return ext._mod_of_function(kind, tile, whole, f"called with {size} at a time, {framework} arrays: {why}")


def _view(memory, shape, stride):
    """The scores themselves: [n_rows, n_keys] whose rows are `stride` floats apart."""
    flat = np.frombuffer(memory, np.float32)
    return np.lib.stride_tricks.as_strided(flat, shape, (4 * stride, 4))


def _read(memory, shape, stride):
    return _view(memory, shape, stride).copy()


def _write(memory, shape, stride, result):
    _view(memory, shape, stride)[...] = result


def _checked(name, result, shape, kind):
    """The result as float32 that broadcasts to shape."""
    if result.dtype.kind not in "fiubV" or result.dtype.hasobject:
        raise TypeError(f"{name}: the callable gave dtype {result.dtype}; must be numbers or bools")
    fits = result.ndim <= 2 and all(n in (1, want) for n, want in zip(result.shape[::-1], shape[::-1], strict=False))
    if not fits:
        raise ValueError(f"{name}: the callable gave shape {result.shape}; must broadcast to the tile's, {shape}")
    return result.astype(np.float32 if kind == SCORE else bool)


# -- frameworks: (NumPy -> array, result -> NumPy) -------------------------------------------------------------------


def _numpy():
    return np.asarray, np.asarray


def _torch():
    import torch

    def to_numpy(result):
        if not isinstance(result, torch.Tensor):
            return np.asarray(result)
        result = result.detach().to("cpu")
        return (result.float() if result.dtype is torch.bfloat16 else result).numpy()

    return torch.from_numpy, to_numpy


def _jax():
    import jax.numpy as jnp
    return jnp.asarray, np.asarray


_CONVERTERS = {"numpy": _numpy, "torch": _torch, "jax": _jax}
