# SPDX-License-Identifier: Apache-2.0
"""ALiBi three ways: built in, as an expression, as a function; and documents kept apart by a mask."""
import folio
import numpy as np

PAGES, PAGE, HEADS, KV_HEADS, DIM = 16, 16, 8, 2, 64

rng = np.random.default_rng(0)
k_pages, v_pages = rng.standard_normal((2, PAGES, PAGE, KV_HEADS, DIM)).astype(np.float32)
q = rng.standard_normal((8, HEADS, DIM)).astype(np.float32)
kv_lens, table = np.array([40, 100]), np.arange(14).reshape(2, 7)
offsets = kv_lens - [3, 5]  # the first row of a sequence stands at this key

slopes = np.float32(2.0) ** -np.arange(1, HEADS + 1, dtype=np.float32)
by_text = folio.attention(q, k_pages, v_pages, kv_lens=kv_lens, page_table=table, q_indptr=[0, 3, 8],
                          score_mod="score + slopes[h] * (kv - pos)", captures={"slopes": slopes})


def alibi(score, b, h, q_idx, kv_idx):  # score [rows, keys] float32; b, h 0-d; q_idx [rows, 1]; kv_idx [1, keys]
    return score + slopes[h] * (kv_idx - q_idx - offsets[b])


by_callable = folio.attention(q, k_pages, v_pages, kv_lens=kv_lens, page_table=table, q_indptr=[0, 3, 8],
                              score_mod=alibi)
built_in = folio.attention(q, k_pages, v_pages, kv_lens=kv_lens, page_table=table, q_indptr=[0, 3, 8],
                           alibi_slopes=slopes)
assert np.allclose(by_text, built_in, atol=1e-5) and np.allclose(by_callable, built_in, atol=1e-5)

documents = folio.Mod("doc[kv] == doc[pos]", {"doc": np.arange(112) // 25})
apart = folio.plan(q, k_pages, v_pages, kv_lens=kv_lens, page_table=table, q_indptr=[0, 3, 8], mask_mod=documents)
assert not np.allclose(apart.run(q, k_pages, v_pages), built_in)
print("text, NumPy callable and built-in ALiBi agree:", built_in.shape)
