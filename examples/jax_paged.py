#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# jax_paged.py: attnax's paged cache, unchanged but for the import, and the same step jitted; checked against NumPy.
import folio.jax
import jax
import jax.numpy as jnp
import numpy as np
from folio.compat.attnax import allocate_blocks, append_kv, gather_kv, init_paged_kv_cache, paged_attention

cache = init_paged_kv_cache(num_blocks=32, block_size=16, num_kv_heads=2, head_dim=64, batch_size=2,
                            max_blocks_per_seq=8, dtype=jnp.float32)
free, rng = jnp.arange(32), np.random.default_rng(0)
for i, n in enumerate((100, 7)):
    k, v = jnp.asarray(rng.standard_normal((2, n, 2, 64), np.float32))
    cache, used = allocate_blocks(cache, sequence_idx=i, num_new_tokens=n + 1, free_block_ids=free)
    free = free[used:]
    cache = append_kv(cache, i, k, v, donate=True)

query = jnp.asarray(rng.standard_normal((8, 1, 64), np.float32))
outs = [paged_attention(query, cache, i) for i in range(2)]


@jax.jit
def step(query, cache):
    """Every sequence in one call, inside a compiled program."""
    return folio.jax.attention(query, cache.key_pool, cache.value_pool, kv_lens=cache.seq_lengths,
                               page_table=cache.block_table)


both = step(jnp.stack([query[:, 0]] * 2), cache)
for i in range(2):
    k, v, n = gather_kv(cache, i)
    for head in range(8):
        weights = np.exp(np.asarray(k)[:, head // 4] @ np.asarray(query)[head, 0] / 8)
        want = weights @ np.asarray(v)[:, head // 4] / weights.sum()
        np.testing.assert_allclose(outs[i][head, 0], want, atol=1e-5)
        np.testing.assert_allclose(both[i, head], want, atol=1e-5)
print("paged_attention, a jitted step and NumPy agree:", both.shape)
