# SPDX-License-Identifier: Apache-2.0
"""attnax's mods as folio's: a text where they can be translated (_trace.py), else asked a head at a time.

    folio, once a sequence b and head h          attnax
    score [m, n]  q_idx [m, 1]  kv_idx [1, n] ─► scores [1, 1, m, n], b, h [1, 1, 1, 1], q [1, 1, m, 1], kv [1, 1, 1, n]
    [m, n] ◄── entry (b, h), or the only one ─── [1 or B, 1 or H, m, n]: mods that hold slopes or biases broadcast
"""
import weakref

import folio
import jax.numpy as jnp
import numpy as np
from folio import _emit, _translations
from folio._mods import Tiles, _Text
from folio.compat.attnax import _trace

MAX_LENGTHS = 8  # different lengths of a batch that a mod is traced at; each costs milliseconds

_remembered = weakref.WeakKeyDictionary()  # mod -> (fingerprint, {(heads, rows, keys): Translation})


def adapt(score_mod, heads, batch, rows=0, lengths=()):
    """score_mod as folio.attention takes it; texts and folio's own pass through. lengths: the sequences' [batch]."""
    if score_mod is None or isinstance(score_mod, str | folio.Mod | Tiles):
        return score_mod
    if not callable(score_mod):
        raise TypeError(f"score_mod: {type(score_mod)!r}; must be a callable, a str or a folio.Mod")
    made = _one_text(score_mod, heads, rows, sorted({int(n) for n in lengths if n > 0}))
    if made.text is not None:
        if made.mod is None:
            made.mod = _Text.of(made, f"attnax's, traced to a text:\n{made.text}")
        return made.mod
    return Tiles(_tile_of(score_mod, heads, batch), whole=True, why=f"attnax's convention: {made.why}")


def _one_text(score_mod, heads, rows, lengths):
    """The Translation that is right at all lengths; its text None where there is none."""
    if not rows or not lengths or len(lengths) > MAX_LENGTHS:
        return _translations.Translation(why=f"{len(lengths)} lengths, {rows} rows")
    known = _known(score_mod)
    for n in lengths:
        if (heads, rows, n) not in known:
            known[heads, rows, n] = _translate(score_mod, heads, rows, n)
    first, *others = (known[heads, rows, n] for n in lengths)
    for other in others:
        if first.text is not None and not _are_same(first, other):
            return _translations.Translation(why="it is another function at another length")
    return first


def _known(score_mod):
    """What is known of a mod whose captures are still the same."""
    try:
        mark = _translations._mark(score_mod, {}, set())
    except _translations._Opaque:
        return {}
    kept = _remembered.get(score_mod)
    if kept is None or kept[0] != mark:
        kept = _remembered[score_mod] = mark, {}
    if len(kept[1]) > 64:  # a decode that grows
        kept[1].clear()
    return kept[1]


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
