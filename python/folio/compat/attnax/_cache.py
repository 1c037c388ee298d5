# SPDX-License-Identifier: Apache-2.0
"""The cache: two pools of pages, a table of them, lengths.

    block_table [batch, max_blocks_per_seq]          key_pool, value_pool [num_blocks, block_size, H, D]
      row 0   7 2 -1 -1   seq_lengths[0] = 20  ──►    page 7: tokens 0 .. 15, page 2: tokens 16 .. 19
"""
import dataclasses
import functools
import operator

import folio
import folio.jax
import jax
import jax.numpy as jnp
import numpy as np
from folio import _ext


@functools.partial(jax.tree_util.register_dataclass, meta_fields=(),
                   data_fields=("key_pool", "value_pool", "block_table", "seq_lengths"))
@dataclasses.dataclass(frozen=True)
class PagedKVCache:
    """Pools, table and lengths; a pytree, so that jitted functions may take and give it.

    key_pool, value_pool   [num_blocks, block_size, num_kv_heads, head_dim] float32, float16, bfloat16
    block_table            [batch, max_blocks_per_seq] int32, -1 where no block is
    seq_lengths            [batch] int32, tokens
    """

    key_pool: jax.Array
    value_pool: jax.Array
    block_table: jax.Array
    seq_lengths: jax.Array

    @property
    def num_blocks(self):
        return int(self.key_pool.shape[0])

    @property
    def block_size(self):
        return int(self.key_pool.shape[1])

    @property
    def num_kv_heads(self):
        return int(self.key_pool.shape[2])

    @property
    def head_dim(self):
        return int(self.key_pool.shape[3])


def init_paged_kv_cache(*, num_blocks, block_size, num_kv_heads, head_dim, batch_size, max_blocks_per_seq, dtype):
    """An empty cache: zero pools of dtype, -1 everywhere in the table, lengths 0.

    All sizes are ints >= 1 (batch_size and max_blocks_per_seq may be 0). Raises ValueError, TypeError.
    """
    sizes = dict(num_blocks=num_blocks, block_size=block_size, num_kv_heads=num_kv_heads, head_dim=head_dim,
                 batch_size=batch_size, max_blocks_per_seq=max_blocks_per_seq)
    for name, size in sizes.items():
        least = 0 if name in ("batch_size", "max_blocks_per_seq") else 1
        if operator.index(size) < least:
            raise ValueError(f"{name}: {size}; must be >= {least}")
    shape = (num_blocks, block_size, num_kv_heads, head_dim)
    return PagedKVCache(
        key_pool=jnp.zeros(shape, dtype),
        value_pool=jnp.zeros(shape, dtype),
        block_table=jnp.full((batch_size, max_blocks_per_seq), -1, jnp.int32),
        seq_lengths=jnp.zeros((batch_size,), jnp.int32),
    )


def host(name, array, instead):
    """The array's values; of a traced one a TypeError that says what to do."""
    if isinstance(array, jax.core.Tracer):
        raise TypeError(f"{name}: traced, and its values are needed here: call this outside jax.jit, or use {instead}")
    return np.asarray(array)


def sequence(cache, sequence_idx):
    """sequence_idx as 0 .. batch - 1; negative ones count from the end, as in Python."""
    if isinstance(sequence_idx, jax.core.Tracer):
        return sequence_idx
    n, index = cache.block_table.shape[0], operator.index(sequence_idx)
    if not -n <= index < n:
        raise IndexError(f"sequence_idx: {index}; the cache has {n} sequences")
    return index % n


def allocate_blocks(cache, *, sequence_idx, num_new_tokens, free_block_ids):
    """Write the blocks that num_new_tokens more tokens need into a sequence's row: (new cache, blocks taken).

    sequence_idx     row of the table
    num_new_tokens   >= 0
    free_block_ids   [n] ints; the first are taken, in order

    Raises ValueError: too few ids, a full row, a repeated id; IndexError: an id or a sequence out of range.
    """
    index = sequence(cache, sequence_idx)
    if num_new_tokens < 0:
        raise ValueError(f"num_new_tokens: {num_new_tokens}; must be >= 0")
    instead = "a cache whose blocks were allocated before"
    ids, table = host("free_block_ids", free_block_ids, instead), host("block_table", cache.block_table, instead)
    length = int(host("seq_lengths", cache.seq_lengths, instead)[index])
    first, end = -(-length // cache.block_size), -(-(length + num_new_tokens) // cache.block_size)
    n_new = end - first
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise ValueError(f"free_block_ids: shape {ids.shape} of {ids.dtype}; must be [n] ints")
    if n_new > len(ids):
        raise ValueError(f"free_block_ids has {len(ids)} entries but {n_new} are needed")
    if end > table.shape[1]:
        raise ValueError(f"block_table[{index}] has {table.shape[1]} entries but {end} are needed")
    _check_ids(ids[:n_new], cache.num_blocks)
    table = table.copy()
    table[index, first:end] = ids[:n_new]
    return dataclasses.replace(cache, block_table=jnp.asarray(table)), n_new


def _check_ids(ids, num_blocks):
    outside = ids[(ids < 0) | (ids >= num_blocks)]
    if len(outside):
        raise IndexError(f"free_block_ids: {outside[0]}; the pool has {num_blocks} blocks")
    if len(np.unique(ids)) < len(ids):
        raise ValueError("free_block_ids: an id is there twice")


def _append(pools, lengths, keys, values, slots, index):
    pools = folio.jax.append(keys, values, *pools, slots)
    return pools, lengths.at[index].add(keys.shape[0])


_append_kept = jax.jit(_append)
_append_donated = jax.jit(_append, donate_argnums=0)


def append_kv(cache, sequence_idx, keys_new, values_new, *, donate=False):
    """Write new tokens behind a sequence's last one: the new cache, its length grown by chunk.

    keys_new, values_new   [chunk, num_kv_heads, head_dim]; rounded to the pools' dtype
    donate                 give the pools of the cache passed in away: they are written in place, and that cache is
                           of no more use. Otherwise both pools are copied, once

    Raises ValueError: shapes that differ, blocks not allocated, a full row; IndexError: a sequence out of range.
    """
    if keys_new.shape != values_new.shape:
        raise ValueError(f"keys_new shape {keys_new.shape} != values_new shape {values_new.shape}")
    if len(keys_new.shape) != 3 or keys_new.shape[1:] != cache.key_pool.shape[2:]:
        raise ValueError(f"keys_new shape {keys_new.shape}; must be (chunk, {cache.num_kv_heads}, {cache.head_dim})")
    index = sequence(cache, sequence_idx)
    instead = "folio.jax.append, which takes slots"
    lengths = host("seq_lengths", cache.seq_lengths, instead)
    row = host("block_table", cache.block_table, instead)[index]
    slots = _slots(row, index, int(lengths[index]), keys_new.shape[0], cache)
    append = _append_donated if donate else _append_kept
    pools, lengths = append((cache.key_pool, cache.value_pool), cache.seq_lengths, keys_new, values_new, slots, index)
    return PagedKVCache(*pools, cache.block_table, lengths)


def _slots(row, index, start, chunk, cache):
    """int32 [chunk]: where the tokens from position start on lie."""
    size = cache.block_size
    first, end = start // size, -(-(start + chunk) // size)
    if end > len(row):
        raise ValueError(f"block_table[{index}] has {len(row)} entries but {end} are needed")
    pages = row[first:end]
    if len(pages) and pages.min() < 0:
        raise ValueError(f"block_table[{index}, {first + int((pages < 0).argmax())}] is unallocated; call "
                         "allocate_blocks before append_kv.")
    if len(pages) and pages.max() >= cache.num_blocks:
        raise IndexError(f"block_table[{index}]: block {pages.max()}; the pool has {cache.num_blocks} blocks")
    slots = _ext._row_slots(row, start, chunk, size)
    return slots if jax.config.jax_enable_x64 else slots.astype(np.int32)


def gather_kv(cache, sequence_idx):
    """A sequence's K and V back: (keys, values [seq_len, num_kv_heads, head_dim], seq_len). Raises IndexError."""
    index = sequence(cache, sequence_idx)
    instead = "folio.jax.gather with max_kv_len="
    n = int(host("seq_lengths", cache.seq_lengths, instead)[index])
    row = host("block_table", cache.block_table, instead)[index]
    return *folio.gather(cache.key_pool, cache.value_pool, row, n), n
