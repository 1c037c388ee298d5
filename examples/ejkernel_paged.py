#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# ejkernel_paged.py: ejKernel's own page_attention call, unchanged but for the import, checked against NumPy.
import jax
import jax.numpy as jnp
import numpy as np
from folio.compat.ejkernel import page_attention

num_seqs, num_heads, head_dim = 4, 8, 64
num_blocks, num_kv_heads, block_size = 100, 8, 16
q_key, k_key, v_key = jax.random.split(jax.random.key(0), 3)
query = jax.random.normal(q_key, (num_seqs, num_heads, head_dim))
key_cache = jax.random.normal(k_key, (num_blocks, num_kv_heads, block_size, head_dim))
value_cache = jax.random.normal(v_key, (num_blocks, num_kv_heads, block_size, head_dim))
context_lens = jnp.array([32, 64, 48, 80])
block_tables = jnp.array([[0, 1, -1, -1, -1], [2, 3, 4, 5, -1], [6, 7, 8, -1, -1], [9, 10, 11, 12, 13]])

output = page_attention(query, key_cache, value_cache, context_lens, block_tables)
jitted = jax.jit(page_attention)(query, key_cache, value_cache, context_lens, block_tables)
np.testing.assert_array_equal(output, jitted)

for i, n in enumerate(context_lens.tolist()):
    blocks = np.asarray(block_tables)[i, : n // block_size]
    for head in range(num_heads):
        k, v = (np.asarray(cache)[blocks, head].reshape(n, head_dim) for cache in (key_cache, value_cache))
        weights = np.exp(k @ np.asarray(query)[i, head] / np.sqrt(head_dim))
        np.testing.assert_allclose(output[i, head], weights @ v / weights.sum(), atol=1e-5)
print("page_attention and NumPy agree:", output.shape)
