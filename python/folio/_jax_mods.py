# SPDX-License-Identifier: Apache-2.0
"""Mods and block masks of a traced call: texts become attributes, the arrays they read become operands.

    score_mod, mask_mod   str, Mod, JAX callable ─► text ─► NAME, NAME_captures, NAME_wraps; captures ─► operands
    block_mask            sizes ─► attributes; its four arrays, and its mask_mod's captures ─► operands

So a captured array may be traced like any other, and the compiled program keeps what it needs. ffi_mods.c reads it.
"""
import numpy as np
from folio import _ext, _mods, _translations

# A block mask's, in the order of ffi_mods.c.
BLOCKS = ("kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices")


def read(score_mod, mask_mod, block_mask, captures, to_array):
    """(attributes, operands) of a call. to_array(name, value, is_index) makes an operand.

    Raises TypeError (a callable that can't be translated), ValueError (a bad text, with line and column).
    """
    if captures is not None and not any(isinstance(mod, str) for mod in (score_mod, mask_mod)):
        raise ValueError("captures: given without a score_mod or mask_mod that is a str")
    attributes, operands = {}, []
    for name, kind, mod in (("score_mod", _mods.SCORE, score_mod), ("mask_mod", _mods.MASK, mask_mod)):
        _read_mod(name, name, kind, mod, captures, to_array, attributes, operands)
    if block_mask is not None:
        _read_blocks(block_mask, to_array, attributes, operands)
    return attributes, operands


def _read_mod(name, attribute, kind, mod, captures, to_array, attributes, operands):
    if mod is None:
        return
    text, arrays, wraps = _text(name, kind, mod, captures)
    arrays = {key: to_array(f"capture {key}", array, False) for key, array in arrays.items()}
    stand_ins = {key: np.broadcast_to(np.zeros((), array.dtype), array.shape) for key, array in arrays.items()}
    _ext._mod_of_text(kind, text, stand_ins, wraps, None, "text")  # its errors belong to tracing
    attributes[attribute] = text + "\0"
    if arrays:
        attributes[f"{attribute}_captures"] = "".join(key + "\0" for key in arrays)
        attributes[f"{attribute}_wraps"] = np.int64(wraps)
        operands += arrays.values()


def _text(name, kind, mod, captures):
    """(text, captures by name, whether negative indices wrap)"""
    _mods._require_kind(name, mod)
    if isinstance(mod, str):
        return mod, _mods._read_captures(captures), False
    if isinstance(mod, _mods.Mod):
        return mod.text, mod._captures, mod._wraps
    if isinstance(mod, _mods.Tiles):
        raise TypeError(f"{name}: a callable to be called with tiles; a traced call takes what becomes a text: a str, "
                        "a folio.Mod, or a JAX callable that can be translated")
    translation = _translations.translate(mod, kind == _mods.MASK, "jax", tells=False)
    if translation.text is None:
        raise TypeError(f"{name}: {translation.why}, and a traced call can't call it back: give a str or a folio.Mod, "
                        "or call folio.attention outside jax.jit") from translation.error
    return translation.text, translation.captures, True


def _read_blocks(block_mask, to_array, attributes, operands):
    _mods._require_blocks(block_mask)
    given = {name: getattr(block_mask, name) for name in BLOCKS if getattr(block_mask, name) is not None}
    sizes = (*_mods._pair("block_size", block_mask.BLOCK_SIZE),
             *_mods._pair("seq_lengths", getattr(block_mask, "seq_lengths", None) or (0, 0)))
    attributes["blocks"] = np.int64(len(given))
    attributes |= zip(("q_block", "kv_block", "blocks_q_len", "blocks_kv_len"), map(np.int64, sizes))
    operands += [to_array(name, value, True) for name, value in given.items()]
    _read_mod("block_mask.mask_mod", "block_mod", _mods.MASK, block_mask.mask_mod, None, to_array, attributes, operands)
