# SPDX-License-Identifier: Apache-2.0
"""attnax's paged KV cache, on a CPU: change the import and keep the program.

    from folio.compat.attnax import init_paged_kv_cache, allocate_blocks, append_kv, gather_kv, paged_attention

    cache = init_paged_kv_cache(num_blocks=64, block_size=16, num_kv_heads=2, head_dim=64, batch_size=4,
                                max_blocks_per_seq=16, dtype=jnp.float32)
    cache, used = allocate_blocks(cache, sequence_idx=0, num_new_tokens=20, free_block_ids=jnp.arange(64))
    cache = append_kv(cache, 0, keys, values)
    out = paged_attention(query, cache, 0)

Functional: the cache passed in stays as it was, unless append_kv is told donate=True. What differs from the original
is in docs/compat.md.
"""
from folio.compat.attnax._attention import paged_attention, paged_attention_batched
from folio.compat.attnax._cache import PagedKVCache, allocate_blocks, append_kv, gather_kv, init_paged_kv_cache

__all__ = [
    "PagedKVCache",
    "allocate_blocks",
    "append_kv",
    "gather_kv",
    "init_paged_kv_cache",
    "paged_attention",
    "paged_attention_batched",
]
