# SPDX-License-Identifier: Apache-2.0
"""python -m folio.compat.attnax --demo: fill a cache and attend over it, beside attnax where that is installed.

--heads, --kv-heads, --length, --dim, --block, --blocks   of the problem; --tokens appended at once
The error is against attnax, else against double precision.
"""
import argparse
import importlib.util
import statistics
import time

import folio.compat.attnax as ours
import jax
import jax.numpy as jnp
import numpy as np


def attnax_module():
    """attnax's own functions under our names, or None."""
    if importlib.util.find_spec("attnax") is None:
        return None
    from attnax import kernels, paged_cache
    paged_cache.paged_attention = kernels.paged_attention
    return paged_cache


def milliseconds(call, n_times):
    jax.block_until_ready(call())
    times = []
    for _ in range(n_times):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def fill(a, k, v):
    """Our cache with `length` tokens, and room for `tokens` more; attnax's has the same fields."""
    cache = ours.init_paged_kv_cache(num_blocks=a.blocks, block_size=a.block, num_kv_heads=a.kv_heads, head_dim=a.dim,
                                     batch_size=1, max_blocks_per_seq=a.blocks, dtype=jnp.float32)
    free = jnp.asarray(np.random.default_rng(1).permutation(a.blocks), jnp.int32)
    cache, _ = ours.allocate_blocks(cache, sequence_idx=0, num_new_tokens=a.length + a.tokens, free_block_ids=free)
    return ours.append_kv(cache, 0, k, v, donate=True)


def exact(query, k, v):
    """[num_heads, 1, head_dim] in float64"""
    group = query.shape[0] // k.shape[1]
    k, v = (np.repeat(np.asarray(x, np.float64), group, 1).swapaxes(0, 1) for x in (k, v))
    scores = np.asarray(query, np.float64) @ k.swapaxes(1, 2) / query.shape[2] ** 0.5
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ v


def donating(cache, token):
    """A call that appends one token to donated pools, each time to the cache that the last call gave."""
    held = [jax.tree.map(jnp.copy, cache)]
    lengths = held[0].seq_lengths

    def call():
        held[0] = ours.append_kv(ours.PagedKVCache(held[0].key_pool, held[0].value_pool, held[0].block_table, lengths),
                                 0, token, token, donate=True)
        return held[0].key_pool

    return call


def demo(a):
    rng = np.random.default_rng(0)
    k, v = (jnp.asarray(rng.standard_normal((a.length, a.kv_heads, a.dim), np.float32)) for _ in range(2))
    new = jnp.asarray(rng.standard_normal((a.tokens, a.kv_heads, a.dim), np.float32))
    query = jnp.asarray(rng.standard_normal((a.heads, 1, a.dim), np.float32))
    cache, theirs = fill(a, k, v), attnax_module()
    out = ours.paged_attention(query, cache, 0)
    pool_mb = cache.key_pool.nbytes / 2**20
    print(f"query {query.shape}, pools {cache.key_pool.shape} of {pool_mb:.0f} MB each, {a.length} tokens, float32")
    print(f"out {out.shape}, max error {np.abs(np.asarray(out) - exact(query, k, v)).max():.2e}")
    if theirs:
        print(f"  against attnax {np.abs(np.asarray(out - theirs.paged_attention(query, cache, 0))).max():.2e}")
    rows = [("paged_attention", lambda m: m.paged_attention(query, cache, 0), None, 9),
            (f"append_kv, {a.tokens} tokens", lambda m: m.append_kv(cache, 0, new, new).key_pool, None, 1),
            ("append_kv, 1 token", lambda m: m.append_kv(cache, 0, new[:1], new[:1]).key_pool, None, 3),
            ("the same, donate=True", lambda m: m.append_kv(cache, 0, new[:1], new[:1]).key_pool,
             donating(cache, new[:1]), 3)]
    if theirs:
        from attnax import alibi_mod
        mod = alibi_mod(a.heads)
        rows.insert(1, ("the same, alibi_mod", lambda m: m.paged_attention(query, cache, 0, score_mod=mod), None, 9))
    for name, call, own, n_times in rows:
        mine = milliseconds(own or (lambda call=call: call(ours)), 9)
        line = f"  {name:24} {mine:9.3f} ms"
        if theirs:
            their = milliseconds(lambda call=call: call(theirs), n_times)
            line += f"   attnax {their:9.3f} ms   {their / mine:7.1f} x"
        print(line, flush=True)


def main():
    parser = argparse.ArgumentParser(prog="python -m folio.compat.attnax", description=__doc__.splitlines()[0])
    parser.add_argument("--demo", action="store_true", required=True)
    sizes = dict(heads=8, kv_heads=8, length=2048, dim=64, block=16, blocks=1024, tokens=128)
    for name, value in sizes.items():
        parser.add_argument("--" + name.replace("_", "-"), type=int, default=value)
    demo(parser.parse_args())


if __name__ == "__main__":
    main()
