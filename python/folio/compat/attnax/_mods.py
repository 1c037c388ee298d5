# SPDX-License-Identifier: Apache-2.0
"""attnax's mods as folio's: a text where they can be translated (_trace.py), else asked a head at a time.

    folio, once a sequence b and head h          attnax
    score [m, n]  q_idx [m, 1]  kv_idx [1, n] ─► scores [1, 1, m, n], b, h [1, 1, 1, 1], q [1, 1, m, 1], kv [1, 1, 1, n]
    [m, n] ◄── entry (b, h), or the only one ─── [1 or B, 1 or H, m, n]: mods that hold slopes or biases broadcast
"""
import dis
import types
import weakref

import folio
import jax.numpy as jnp
import numpy as np
from folio import _emit, _translations
from folio._mods import Tiles, _Text
from folio.compat.attnax import _trace

MAX_LENGTHS = 8  # different lengths of a batch that a mod is traced at, if it can't be at all; each costs milliseconds

_remembered = weakref.WeakKeyDictionary()  # mod -> (fingerprint, {(heads, rows, keys, None = any): Translation})


def adapt(score_mod, heads, batch, rows=0, lengths=()):
    """score_mod as folio.attention takes it; texts and folio's own pass through. lengths: the sequences' [batch]; None
    = not known yet: then TypeError says why it can't be a text."""
    if score_mod is None or isinstance(score_mod, str | folio.Mod | Tiles):
        return score_mod
    if not callable(score_mod):
        raise TypeError(f"score_mod: {type(score_mod)!r}; must be a callable, a str or a folio.Mod")
    known, mark = _known(score_mod)
    made = _of_any_length(score_mod, heads, rows, known, mark)
    if lengths is None and made.text is None:
        raise TypeError(f"score_mod: {made.why}, and under jax.jit it must become a text for any number of keys: give "
                        "a str, a folio.Mod or a mask, or call paged_attention outside jax.jit")
    if made.text is None:
        made = _of_lengths(score_mod, heads, rows, sorted({int(n) for n in lengths if n > 0}), known, made.why)
    if made.text is not None:
        if made.mod is None:
            made.mod = _Text.of(made, f"attnax's, traced to a text:\n{made.text}")
        return made.mod
    return Tiles(_tile_of(score_mod, heads, batch), whole=True, why=f"attnax's convention: {made.why}")


def _of_any_length(score_mod, heads, rows, known, mark):
    """The Translation for any number of keys; its text None where there is none."""
    if not rows:
        return _translations.Translation(why="no rows")
    if (heads, rows, None) not in known:
        compares = any(map(_compares_sizes, _codes(mark if mark else score_mod)))
        known[heads, rows, None] = (_translations.Translation(why="it compares sizes") if compares
                                    else _translate(score_mod, heads, rows, None))
    return known[heads, rows, None]


def _codes(thing):
    """The codes in a fingerprint, or that of a function."""
    if isinstance(thing, types.CodeType):
        yield thing
    elif isinstance(thing, tuple | list):
        for part in thing:
            yield from _codes(part)
    elif isinstance(thing, types.FunctionType):
        yield thing.__code__


def _compares_sizes(code):
    """May it ask whether a size is some number? Of an open one JAX says no; < and > it refuses by itself."""
    inside = [c for c in code.co_consts if isinstance(c, types.CodeType)]
    asks = {"shape", "size", "len"} & set(_translations._names_in(code)) and any(
        i.opname == "CONTAINS_OP" or (i.opname == "COMPARE_OP" and i.argrepr in ("==", "!="))
        for i in dis.get_instructions(code))
    return bool(asks) or any(map(_compares_sizes, inside))


def _of_lengths(score_mod, heads, rows, lengths, known, why):
    """The Translation that is right at all these lengths; its text None where there is none."""
    if not rows or not lengths or len(lengths) > MAX_LENGTHS:
        return _translations.Translation(why=f"{why} ({len(lengths)} lengths, {rows} rows)")
    for n in lengths:
        if (heads, rows, n) not in known:
            known[heads, rows, n] = _translate(score_mod, heads, rows, n)
    first, *others = (known[heads, rows, n] for n in lengths)
    for other in others:
        if first.text is not None and not _are_same(first, other):
            return _translations.Translation(why="it is another function at another length")
    return first


def _known(score_mod):
    """(what is known of a mod whose captures are still the same, its fingerprint); nothing, None where it has none."""
    try:
        mark = _translations._mark(score_mod, {}, set())
    except _translations._Opaque:
        return {}, None
    kept = _remembered.get(score_mod)
    if kept is None or kept[0] != mark:
        kept = _remembered[score_mod] = mark, {}
    if len(kept[1]) > 64:  # a decode that grows
        kept[1].clear()
    return kept[1], mark


def _translate(score_mod, heads, rows, keys):
    try:
        text, captures = _trace.translate(score_mod, heads, rows, keys)
        return _translations.Translation(text, captures)
    except _emit.Untranslatable as error:
        return _translations.Translation(why=f"{error} can't be translated")
    except Exception as error:  # whatever it raises, it raises again when it is called
        return _translations.Translation(why=f"tracing it raised {type(error).__name__}")


def _are_same(one, other):
    return one.text == other.text and all(
        a is b or np.array_equal(a, b)
        for a, b in zip(one.captures.values(), other.captures.values(), strict=True))


def _tile_of(score_mod, heads, batch):
    def tile(score, b, h, q_idx, kv_idx):
        b, h = int(b), int(h)
        where = (jnp.full((1, 1, 1, 1), b, jnp.int32), jnp.full((1, 1, 1, 1), h, jnp.int32),
                 jnp.asarray(q_idx, jnp.int32)[None, None], jnp.asarray(kv_idx, jnp.int32)[None, None])
        result = jnp.asarray(score_mod(jnp.asarray(score)[None, None], *where))
        return _entry(result, b, h, heads, batch)

    return tile


def _entry(result, b, h, heads, batch):
    """[m, n] of a result that broadcast over sequences and heads, or did not."""
    if result.ndim != 4 or result.shape[0] not in (1, batch) or result.shape[1] not in (1, heads):
        raise ValueError(f"score_mod: gave shape {result.shape}; must broadcast to (batch, num_heads, seq_q, seq_kv)")
    return result[b if result.shape[0] > 1 else 0, h if result.shape[1] > 1 else 0]
