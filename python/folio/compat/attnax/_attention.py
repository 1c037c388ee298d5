# SPDX-License-Identifier: Apache-2.0
"""Attention over the cache: one sequence as attnax has it, or all of them in one call."""
import folio
import folio.jax
import jax
import jax.numpy as jnp
import numpy as np
from folio.compat.attnax._cache import sequence
from folio.compat.attnax._mods import adapt


def paged_attention(query, cache, sequence_idx, *, mask=None, score_mod=None, dropout_rng=None, dropout_rate=0.0,
                    deterministic=True):
    """Attention of one sequence's queries over its cache: [num_heads, seq_q, head_dim] of query's dtype, or float32
    where the cache's is another.

    query           [num_heads, seq_q, head_dim]; num_heads a multiple of the cache's num_kv_heads
    sequence_idx    row of the table
    mask            bool, or integers where not 0 is True, broadcastable to [num_heads, seq_q, seq_kv]; True attends. A
                    row without keys gives zeros
    score_mod       f(scores, b_idx, h_idx, q_idx, kv_idx), attnax's own convention and its prebuilt mods, where query
                    rows count from 0; or what folio.attention's score_mod= takes: a str, a folio.Mod
    dropout_rate    with deterministic=False: refused, NotImplementedError, as this is inference only

    Under jax.jit query and cache may be traced; a score_mod must then become a text for any number of keys, TypeError
    says why it can't. Raises ValueError, IndexError.
    """
    _refuse_dropout(dropout_rate, deterministic)
    if len(query.shape) != 3:
        raise ValueError(f"query: {len(query.shape)} dims; must have 3: (num_heads, seq_q, head_dim)")
    index = sequence(cache, sequence_idx)
    if mask is not None and len(mask.shape) > 3:
        raise ValueError(f"mask: {len(mask.shape)} dims; at most 3: (num_heads, seq_q, seq_kv)")
    mask = None if mask is None else _bools(mask)[(None,) * (3 - len(mask.shape))].swapaxes(0, 1)
    out = _attend(_like(query)[None], cache, index, mask, score_mod)[0]
    return jnp.asarray(out)


def paged_attention_batched(query, cache, *, mask=None, score_mod=None, causal=None, window=(-1, -1)):
    """paged_attention of every sequence in one call: [batch, num_heads, seq_q, head_dim].

    query           [batch, num_heads, seq_q, head_dim], batch as in the cache
    mask            bool, broadcastable to [batch, num_heads, seq_q, longest seq_kv]
    score_mod       as above; b_idx counts the sequences
    causal, window  as in folio.attention: "bottom_right" keeps what lies at or before the query's place in the cache
    """
    if len(query.shape) != 4 or query.shape[0] != cache.block_table.shape[0]:
        raise ValueError(f"query: shape {query.shape}; must be ({cache.block_table.shape[0]}, num_heads, seq_q, "
                         "head_dim)")
    if mask is not None:
        mask = _rows_of_mask(mask, query.shape)
    return jnp.asarray(_attend(query, cache, None, mask, score_mod, causal=causal, window=window))


def _refuse_dropout(rate, deterministic):
    if not deterministic and rate > 0:
        raise NotImplementedError("dropout_rate: dropout with deterministic=False is for training; folio is for "
                                  "inference only")


def _is_traced(*arrays):
    return any(isinstance(array, jax.core.Tracer) for array in arrays)


def _like(array):
    """The array as one whose views cost nothing, unless it is traced."""
    return array if _is_traced(array) else np.asarray(array)


def _bools(mask):
    """A mask of integers keeps what is not 0, as attnax's does."""
    mask = _like(mask)
    return mask != 0 if np.issubdtype(mask.dtype, np.integer) else mask


def _widened(query, pool):
    """A query of another 16-bit dtype than the pool's as float32, which attnax's arithmetic would give too."""
    return query if query.dtype in (pool.dtype, np.float32) else query.astype(np.float32)


def _rows_of_mask(mask, shape):
    """[batch, num_heads, seq_q, n] -> [batch * seq_q, num_heads, n]"""
    mask = _bools(mask)[(None,) * (4 - len(mask.shape))]
    batch, heads, seq_q = shape[:3]
    numpy = jnp if _is_traced(mask) else np
    mask = numpy.broadcast_to(mask.swapaxes(1, 2), (batch, seq_q, mask.shape[1], mask.shape[3]))
    return mask.reshape((batch * seq_q, *mask.shape[2:]))


def _attend(query, cache, index, mask, score_mod, **options):
    """query [batch, num_heads, seq_q, head_dim] over the sequence `index`, or over all where it is None.

    NumPy's, unless something is traced: JAX's own views cost more than small attention does.
    """
    heads = query.shape[1]
    if heads % cache.num_kv_heads:
        raise ValueError(f"num_heads ({heads}) must be divisible by num_kv_heads ({cache.num_kv_heads}) for paged "
                         "attention")
    query = _widened(query, cache.key_pool)
    arrays = query, cache.key_pool, cache.value_pool, cache.block_table, cache.seq_lengths
    if _is_traced(*arrays, mask, index):
        return _attend_traced(query, cache, index, mask, score_mod, **options)
    rows = slice(None) if index is None else slice(index, index + 1)
    table, lengths = (np.asarray(array)[rows] for array in arrays[3:])
    batch, _, seq_q, dim = query.shape
    q = np.asarray(query).swapaxes(1, 2).reshape(batch * seq_q, heads, dim)
    out = np.empty((batch, heads, seq_q, dim), q.dtype)
    result = out[0].swapaxes(0, 1) if batch == 1 else None
    mod = adapt(score_mod, heads, batch, seq_q, lengths)
    got = folio.attention(q, cache.key_pool, cache.value_pool, kv_lens=lengths, page_table=table, mask=mask,
                          q_indptr=_indptr(batch, seq_q), score_mod=mod, out=result, **options)
    return out if batch == 1 else got.reshape(batch, seq_q, heads, dim).swapaxes(1, 2)


def _indptr(batch, seq_q):
    return np.arange(0, batch * seq_q + 1, seq_q, np.int32) if seq_q else np.zeros(batch + 1, np.int32)


def _attend_traced(query, cache, index, mask, score_mod, **options):
    table, lengths = cache.block_table, cache.seq_lengths
    if index is not None:
        table, lengths = (jax.lax.dynamic_slice_in_dim(array, index, 1) for array in (table, lengths))
    batch, heads, seq_q, dim = query.shape
    mod = adapt(score_mod, heads, batch, seq_q, None)
    q = query.swapaxes(1, 2).reshape(batch * seq_q, heads, dim)
    out = folio.jax.attention(q, cache.key_pool, cache.value_pool, kv_lens=lengths, page_table=table, mask=mask,
                              q_indptr=_indptr(batch, seq_q), score_mod=mod, **options)
    return out.reshape(batch, seq_q, heads, dim).swapaxes(1, 2)
