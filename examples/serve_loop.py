#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""serve_loop.py: what an engine does each step, in small: prompts, decoding, a fork, an end; two layers.

The "model" is random numbers; a dense copy of every sequence's K and V checks each step's attention.
"""
import folio
import numpy as np

LAYERS, PAGES, PAGE, HEADS, KV_HEADS, DIM = 2, 64, 16, 8, 2, 64
rng = np.random.default_rng(0)
cache = folio.Cache(PAGES, PAGE)
pages = [[np.zeros((PAGES, PAGE, KV_HEADS, DIM), np.float32) for _ in "kv"] for _ in range(LAYERS)]
dense = {}  # sequence -> [k, v] of each layer, all its tokens


def step(batch):
    """One forward pass over [(sequence, number of new tokens)]: room, copies, K and V, attention."""
    slots = np.concatenate([cache.append(s, n) for s, n in batch])
    copies = cache.take_copies()  # of pages that a fork shares and this step writes: in every layer, before it writes
    seqs, counts = [s for s, _ in batch], [n for _, n in batch]
    ends = np.cumsum([0, *counts])
    plan = None
    for layer, (k_pages, v_pages) in enumerate(pages):
        q, k, v = (rng.standard_normal((len(slots), heads, DIM), np.float32) for heads in (HEADS, KV_HEADS, KV_HEADS))
        folio.copy_pages(k_pages, v_pages, copies)
        folio.append(k, v, k_pages, v_pages, slots)
        plan = plan or folio.plan(q, k_pages, v_pages, kv_lens=cache.kv_lens(seqs), page_table=cache.page_table(seqs),
                                  q_indptr=ends, causal="bottom_right")  # once a step, for all layers
        out = plan.run(q, k_pages, v_pages)
        for i, s in enumerate(seqs):
            rows = slice(ends[i], ends[i + 1])
            dense[s][layer] = [np.concatenate(pair) for pair in zip(dense[s][layer], (k[rows], v[rows]))]
            check(q[rows], *dense[s][layer], out[rows])


def check(q, k, v, out):
    """out is causal attention of q, the last rows, over k and v."""
    m, n = len(q), len(k)
    visible = np.arange(n) <= np.arange(m)[:, None] + n - m
    for head in range(HEADS):
        group = head // (HEADS // KV_HEADS)
        weights = np.exp(q[:, head] @ k[:, group].T / np.sqrt(DIM)) * visible
        np.testing.assert_allclose(out[:, head], weights @ v[:, group] / weights.sum(1, keepdims=True), atol=1e-5)


def arrive():
    s = cache.open()
    dense[s] = [[np.zeros((0, KV_HEADS, DIM), np.float32)] * 2 for _ in range(LAYERS)]
    return s


a, b = arrive(), arrive()
step([(a, 40), (b, 5)])  # two prompts at once
step([(a, 1), (b, 1)])  # one token each
c = cache.fork(a)  # a second answer to the same prompt, sharing its pages
dense[c] = [list(kv) for kv in dense[a]]
shared = cache.stats()["n_shared"]
step([(a, 1), (b, 1), (c, 1)])
cache.close(b)
d = arrive()
step([(a, 1), (c, 1), (d, 23)])  # decoding beside a new prompt
stats = cache.stats()
cache.check()
print(f"4 steps of {LAYERS} layers agree with NumPy; {stats['n_held']} pages hold {stats['n_tokens']} tokens of "
      f"{stats['n_seqs']} sequences, {shared} were shared after the fork")
