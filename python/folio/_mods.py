# SPDX-License-Identifier: Apache-2.0
"""Score and mask functions, and block masks: what score_mod=, mask_mod= and block_mask= may be, and what becomes of it.

    str, Mod ────────────────────────────────────────► text ─► a program in C (docs/mods.md)
    PyTorch or JAX callable ── _trace_torch, _trace_jax ─┘
    any other callable, or one that can't be translated ────► _tiles: called with tiles of scores
    BlockMask, PyTorch's BlockMask ──────────────────────────► lists of blocks in C, and its mask_mod as above
"""
import functools
import numbers

import numpy as np
from folio import _ext, _tiles, _translations

SCORE, MASK = 1, 2


class Mod:
    """A score or mask function in folio's own small language, compiled at once and used by any number of calls.

    text       one expression, such as "score + slopes[h] * (kv - pos)" or "kv <= pos && doc[b, kv] == doc[b, pos]"
    captures   the arrays it names, by name: float32, float16, bfloat16, int32, int64, bool, of at most 5 dims; or
               numbers. They are kept, and read at every call

    Raises ValueError (a bad text, with line and column), TypeError (an array of another dtype).
    """

    __slots__ = ("__weakref__", "_captures", "_how", "_programs", "_refresh", "_wraps", "text")

    def __init__(self, text, captures=None):
        if not isinstance(text, str):
            raise TypeError(f"text: {text!r}; must be a str")
        self.text = text
        self._captures = _read_captures(captures)
        self._programs = {}
        self._how, self._wraps, self._refresh = "text", False, None
        self._check()

    def _check(self):
        """It is a score mod or a mask mod; of the two errors, that of the kind it seems to be."""
        try:
            self._compiled(SCORE)
        except ValueError:
            try:
                self._compiled(MASK)
            except ValueError:
                if "score" not in self.text:
                    raise
                self._compiled(SCORE)

    def __repr__(self):
        return f"folio.Mod({self.text!r})"

    def _compiled(self, kind):
        """The program of a kind, made anew when a captured tensor lies elsewhere than it did."""
        places = [_translations.place(array) for array in self._captures.values()]
        made = self._programs.get(kind)
        if made is None or made[0] != places:
            captures = {name: _held(array) for name, array in self._captures.items()}
            made = places, _ext._mod_of_text(kind, self.text, captures, self._wraps, self._refresh, self._how)
            self._programs[kind] = made
        return made[1]


class _Text(Mod):
    """A Mod whose kind is known, so that its only check is its compilation. Of a translation: negative indices count
    from the end, as the frameworks' do; refresh() computes captures that are no memory of the user's."""

    __slots__ = ()

    @classmethod
    def of(cls, translation, how):
        self = cls(translation.text, translation.captures)
        self._how, self._wraps, self._refresh = how, True, translation.refresh
        return self

    def _check(self):
        pass


class BlockMask:
    """Which blocks of queries may look at which blocks of keys, as PyTorch's BlockMask, in plain arrays.

    kv_num_blocks, kv_indices             [B, H, rows], [B, H, rows, cols] int32 or int64: blocks in which mask_mod
                                          decides. B and H may be 1
    full_kv_num_blocks, full_kv_indices   likewise, or None: blocks that are kept whole
    block_size                            (queries, keys) of a block, or one int for both; no relation to page_size
    mask_mod                              the mask within a block: as mask_mod= of attention(); None keeps all

    Blocks in neither list are dropped and their pages not read. It covers rows * block_size[0] queries and cols *
    block_size[1] keys; longer sequences are a ValueError. The arrays are read by every attention() and plan().

    Raises ValueError (shapes, sizes), TypeError (dtypes), IndexError (a block out of range: batch, head, row); of
    arrays that jax.jit traces, when the program runs.
    """

    __slots__ = ("BLOCK_SIZE", "full_kv_indices", "full_kv_num_blocks", "kv_indices", "kv_num_blocks", "mask_mod",
                 "seq_lengths")

    def __init__(self, kv_num_blocks, kv_indices, full_kv_num_blocks, full_kv_indices, block_size, mask_mod=None):
        self.kv_num_blocks, self.kv_indices = kv_num_blocks, kv_indices
        self.full_kv_num_blocks, self.full_kv_indices = full_kv_num_blocks, full_kv_indices
        self.BLOCK_SIZE = _pair("block_size", block_size)
        self.seq_lengths = (0, 0)
        self.mask_mod = mask_mod
        _require_kind("mask_mod", mask_mod)
        if not any(_translations.is_traced(getattr(self, name)) for name in _ARRAYS):
            _compile_blocks(self, None, "")


class Tiles:
    """A callable that is called with tiles whatever it is, never translated: f(score, b, h, q_idx, kv_idx) or, as a
    mask, f(b, h, q_idx, kv_idx).

    function   the callable
    whole      a tile is then all rows and all keys of a sequence and query head, at least once
    why        what explain() gives as the reason
    """

    __slots__ = ("function", "whole", "why")

    def __init__(self, function, whole=False, why="as asked"):
        self.function, self.whole, self.why = function, whole, why


def resolve(q, score_mod, mask_mod, block_mask, captures):
    """(score mod, mask mod, block mask) as the C side wants them, None where there is none. It calls this."""
    if captures is not None and not any(isinstance(m, str) for m in (score_mod, mask_mod)):
        raise ValueError("captures: given without a score_mod or mask_mod that is a str")
    framework = _framework_of(type(q))
    return (
        _compile("score_mod", SCORE, score_mod, framework, captures),
        _compile("mask_mod", MASK, mask_mod, framework, captures),
        None if block_mask is None else _resolve_blocks(block_mask, framework),
    )


# -- mods ----------------------------------------------------------------------------------------------------------


def _require_kind(name, mod):
    if not (mod is None or isinstance(mod, (str, Mod, Tiles)) or callable(mod)):
        raise TypeError(f"{name}: {type(mod)!r}; must be a str, a folio.Mod or a callable")


def _compile(name, kind, mod, framework, captures=None):
    """One mod of any sort -> _ext._Mod, or None."""
    if mod is None:
        return None
    _require_kind(name, mod)
    if isinstance(mod, str):
        mod = _Text(mod, captures)
    if isinstance(mod, Mod):
        return mod._compiled(kind)
    if isinstance(mod, Tiles):
        return _tiles.compile(_ext, name, kind, mod.function, framework, mod.whole, mod.why)
    if framework == "numpy":
        return _tiles.compile(_ext, name, kind, mod, framework, False, "q is neither PyTorch's nor JAX's")
    return _compile_callable(name, kind, mod, framework)


def _compile_callable(name, kind, function, framework):
    """A PyTorch or JAX callable: as a text, or called."""
    translation = _translations.translate(function, kind == MASK, framework)
    if translation.text is None:
        return _tiles.compile(_ext, name, kind, function, framework, False, translation.why)
    if translation.mod is None:
        translation.mod = _Text.of(translation, f"traced by {framework} to a text:\n{translation.text}")
    return translation.mod._compiled(kind)


@functools.cache
def _framework_of(kind):
    """"torch", "jax" or "numpy": whose arrays a callable gets when q is of this type."""
    for base in kind.__mro__:
        package = base.__module__.partition(".")[0]
        if package == "torch":
            return "torch"
        if package in ("jax", "jaxlib"):
            return "jax"
    return "numpy"


def _read_captures(captures):
    """A dict of arrays; numbers become 0-d arrays."""
    if captures is None:
        return {}
    if not hasattr(captures, "items"):
        raise TypeError(f"captures: {type(captures)!r}; must be a dict of arrays by name")
    return {name: _array(value) for name, value in captures.items()}


def _array(value):
    if isinstance(value, bool | np.bool_):
        return np.array(value, bool)
    if isinstance(value, numbers.Integral):
        return np.array(value, np.int64)
    if isinstance(value, numbers.Real):
        return np.array(value, np.float32)
    return value


def _held(array):
    """The array, or of a tensor an alias: it keeps the memory whatever becomes of the tensor."""
    is_tensor = hasattr(array, "data_ptr") and hasattr(array, "detach")
    return array.detach() if is_tensor and not array.requires_grad else array


# -- block masks ---------------------------------------------------------------------------------------------------

_block_masks = set()  # types whose instances have all of a block mask's attributes
_ARRAYS = ("kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices")


def _pair(name, value):
    """(int, int) of such a pair, or of one int."""
    if type(value) is tuple and len(value) == 2 and type(value[0]) is int and type(value[1]) is int:
        return value
    pair = (value, value) if isinstance(value, numbers.Integral) else tuple(value) if hasattr(value, "__iter__") else ()
    if len(pair) != 2 or not all(isinstance(i, numbers.Integral) for i in pair):
        raise TypeError(f"{name}: {value!r}; must be a pair (queries, keys) of ints, or an int")
    return int(pair[0]), int(pair[1])


def _require_blocks(block_mask):
    """folio's or PyTorch's BlockMask, or whatever has its attributes."""
    if type(block_mask) in _block_masks:
        return
    missing = [name for name in (*_ARRAYS, "BLOCK_SIZE", "mask_mod") if not hasattr(block_mask, name)]
    if missing:
        raise TypeError(f"block_mask: {type(block_mask)!r} without {missing[0]}; must be a folio.BlockMask or "
                        "PyTorch's BlockMask")
    if type(block_mask).__module__.partition(".")[0] in ("folio", "torch"):
        _block_masks.add(type(block_mask))


def _resolve_blocks(block_mask, framework):
    _require_blocks(block_mask)
    mask_mod = _compile("block_mask.mask_mod", MASK, block_mask.mask_mod, framework)
    how = "keeps all of its blocks" if mask_mod is None else "mask_mod " + mask_mod.how
    return _compile_blocks(block_mask, mask_mod, how)


def _compile_blocks(block_mask, mask_mod, how):
    for name in _ARRAYS[:2]:
        if getattr(block_mask, name) is None:
            raise TypeError(f"{name}: None; must be an array")
    lengths = getattr(block_mask, "seq_lengths", None) or (0, 0)
    block_size = _pair("block_size", block_mask.BLOCK_SIZE)
    sizes = f"blocks of {block_size[0]} x {block_size[1]}; {how}"
    return _ext._mod_of_blocks(*(getattr(block_mask, name) for name in _ARRAYS), block_size,
                               _pair("seq_lengths", lengths), mask_mod, sizes)
