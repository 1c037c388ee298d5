#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# attention.py: two sequences in pages, one step of attention over them, checked against NumPy (README.md shows it).
import numpy as np
import folio

PAGES, PAGE, HEADS, KV_HEADS, DIM = 32, 16, 8, 2, 64
rng = np.random.default_rng(0)
k_pages = np.zeros((PAGES, PAGE, KV_HEADS, DIM), np.float32)
v_pages = np.zeros_like(k_pages)

# Which pages: a prompt of 100 tokens and one of 7; where their bytes go.
cache = folio.Cache(PAGES, PAGE)
sequences, kept = [], []
for n in (100, 7):
    k, v = rng.standard_normal((2, n, KV_HEADS, DIM), np.float32)
    sequences.append(cache.open())
    slots = cache.append(sequences[-1], n)
    folio.append(k, v, k_pages, v_pages, slots)
    kept.append((k, v))

# Attention: one query token a sequence; the plan serves every layer of this step.
q = rng.standard_normal((2, HEADS, DIM), np.float32)
plan = folio.plan(q, k_pages, v_pages, kv_lens=cache.kv_lens(sequences), page_table=cache.page_table(sequences))
out = plan.run(q, k_pages, v_pages)

for i, (k, v) in enumerate(kept):
    for head in range(HEADS):
        group = head // (HEADS // KV_HEADS)
        weights = np.exp(k[:, group] @ q[i, head] / np.sqrt(DIM))
        np.testing.assert_allclose(out[i, head], weights @ v[:, group] / weights.sum(), atol=1e-5)
print("folio", folio.__version__, "agrees with NumPy:", out.shape, out.dtype)
