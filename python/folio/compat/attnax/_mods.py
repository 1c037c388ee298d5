# SPDX-License-Identifier: Apache-2.0
"""attnax's mods as folio's: they want four axes, and folio asks a head at a time.

    folio, once a sequence b and head h          attnax
    score [m, n]  q_idx [m, 1]  kv_idx [1, n] ─► scores [1, 1, m, n], b, h [1, 1, 1, 1], q [1, 1, m, 1], kv [1, 1, 1, n]
    [m, n] ◄── entry (b, h), or the only one ─── [1 or B, 1 or H, m, n]: mods that hold slopes or biases broadcast
"""
import folio
import jax.numpy as jnp
from folio._mods import Tiles


def adapt(score_mod, heads, batch):
    """score_mod as folio.attention takes it; texts and folio's own pass through."""
    if score_mod is None or isinstance(score_mod, str | folio.Mod | Tiles):
        return score_mod
    if not callable(score_mod):
        raise TypeError(f"score_mod: {type(score_mod)!r}; must be a callable, a str or a folio.Mod")

    def tile(score, b, h, q_idx, kv_idx):
        b, h = int(b), int(h)
        where = (jnp.full((1, 1, 1, 1), b, jnp.int32), jnp.full((1, 1, 1, 1), h, jnp.int32),
                 jnp.asarray(q_idx, jnp.int32)[None, None], jnp.asarray(kv_idx, jnp.int32)[None, None])
        result = jnp.asarray(score_mod(jnp.asarray(score)[None, None], *where))
        return _entry(result, b, h, heads, batch)

    return Tiles(tile, whole=True, why="attnax's convention")


def _entry(result, b, h, heads, batch):
    """[m, n] of a result that broadcast over sequences and heads, or did not."""
    if result.ndim != 4 or result.shape[0] not in (1, batch) or result.shape[1] not in (1, heads):
        raise ValueError(f"score_mod: gave shape {result.shape}; must broadcast to (batch, num_heads, seq_q, seq_kv)")
    return result[b if result.shape[0] > 1 else 0, h if result.shape[1] > 1 else 0]
