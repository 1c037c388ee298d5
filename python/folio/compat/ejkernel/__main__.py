# SPDX-License-Identifier: Apache-2.0
"""python -m folio.compat.ejkernel --demo: page_attention beside its meaning written in jitted XLA, error and times.

--seqs, --heads, --kv-heads, --length, --dim, --block   of the problem
Needs JAX. The error is against double precision.
"""
import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
from folio.compat.ejkernel import page_attention

N_TIMES = 15


def reference(query, keys, values, lens, tables):
    """Gathers every block of the table, then masks: what the original computes, for XLA to fuse."""
    n_seqs, n_heads, dim = query.shape
    n_kv_heads = keys.shape[1]
    k, v = (cache[tables].transpose(0, 2, 1, 3, 4).reshape(n_seqs, n_kv_heads, -1, dim) for cache in (keys, values))
    q = query.reshape(n_seqs, n_kv_heads, -1, dim)
    scores = jnp.einsum("bhgd,bhnd->bhgn", q, k) / dim**0.5
    scores = jnp.where(jnp.arange(k.shape[2]) < lens[:, None, None, None], scores, -jnp.inf)
    return jnp.einsum("bhgn,bhnd->bhgd", jax.nn.softmax(scores), v).reshape(query.shape)


def milliseconds(calls, arrays):
    """The median time of each call; they take turns, so that other work on the machine falls on all."""
    times = {name: [] for name in calls}
    for call in calls.values():
        jax.block_until_ready(call(*arrays))
    for _ in range(N_TIMES):
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call(*arrays))
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def problem(a):
    rng = np.random.default_rng(0)
    per_seq = -(-a.length // a.block)
    shape = (a.seqs * per_seq, a.kv_heads, a.block, a.dim)
    keys, values = (rng.standard_normal(shape, np.float32) for _ in range(2))
    query = rng.standard_normal((a.seqs, a.heads, a.dim), np.float32)
    tables = rng.permutation(shape[0]).astype(np.int32).reshape(a.seqs, per_seq)
    return query, keys, values, np.full(a.seqs, a.length, np.int32), tables


def demo(a):
    arrays = problem(a)
    on_jax = tuple(map(jnp.asarray, arrays))
    with jax.enable_x64():
        wide = [jnp.asarray(x, jnp.float64) if x.dtype == np.float32 else jnp.asarray(x) for x in arrays]
        exact = np.asarray(reference(*wide))
    out = page_attention(*on_jax)
    print(f"query {arrays[0].shape}, caches {arrays[1].shape}, {a.length} tokens a sequence, float32")
    print(f"out {out.shape}, max error {np.abs(np.asarray(out) - exact).max():.2e}")
    calls = {"XLA, jitted": jax.jit(reference), "folio": page_attention, "folio, jitted": jax.jit(page_attention)}
    times = milliseconds(calls, on_jax)
    for name, value in times.items():
        print(f"  {name:14} {value:8.3f} ms   {times['XLA, jitted'] / value:6.1f} x")


def main():
    parser = argparse.ArgumentParser(prog="python -m folio.compat.ejkernel", description=__doc__.splitlines()[0])
    parser.add_argument("--demo", action="store_true", required=True)
    for name, value in dict(seqs=8, heads=8, kv_heads=2, length=2048, dim=64, block=16).items():
        parser.add_argument("--" + name.replace("_", "-"), type=int, default=value)
    demo(parser.parse_args())


if __name__ == "__main__":
    main()
