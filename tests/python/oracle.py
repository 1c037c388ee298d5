# SPDX-License-Identifier: Apache-2.0
"""Attention over pages in dense float64 NumPy, written from the definition alone, and random problems for it."""
import dataclasses

import ml_dtypes
import numpy as np

BF16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = {"f32": np.dtype(np.float32), "f16": np.dtype(np.float16), "bf16": BF16}
OUT_ULP = {"f32": 2.0**-22, "f16": 2.0**-10, "bf16": 2.0**-7}  # twice the rounding of the result


def name_of(dtype):
    return next(name for name, known in DTYPES.items() if known == dtype)


def gather(pages, row, n):
    """The first n tokens of a sequence: [n, H, D] float64 from NHD pages."""
    page_size = pages.shape[1]
    ids = [row[j // page_size] for j in range(n)]
    slots = [j % page_size for j in range(n)]
    return pages[ids, slots].astype(np.float64) if n else np.zeros((0, *pages.shape[2:]))


def alive(m, n, causal, align, window):
    """Which keys row i keeps, and where it stands: bool [m, n], p [m, 1]."""
    i, j = np.arange(m)[:, None], np.arange(n)[None, :]
    keep = np.ones((m, n), bool)
    if causal == "top_left":
        keep &= j <= i
    if causal == "bottom_right":
        keep &= j <= i + n - m
    p = i if (align or causal or "bottom_right") == "top_left" else i + n - m
    left, right = window
    if left >= 0:
        keep &= j >= p - left
    if right >= 0:
        keep &= j <= p + right
    return keep, p


def softmax_rows(scores, sink):
    """Weights and log-sum-exp of each row of [m, n]; -inf everywhere and no sink: zeros and -inf."""
    top = np.max(scores, axis=1, initial=-np.inf if sink is None else sink, keepdims=True)
    safe = np.where(np.isfinite(top), top, 0)
    weights = np.exp(scores - safe)
    total = weights.sum(1, keepdims=True) + (0 if sink is None else np.exp(sink - safe))
    with np.errstate(divide="ignore"):
        lse = np.where(total > 0, safe + np.log(total), -np.inf)
    return weights / np.where(total > 0, total, 1), lse[:, 0]


def attention(q, k_pages, v_pages, *, kv_lens, page_table, v_page_table=None, q_indptr=None, causal=None, align=None,
              scale=None, window=(-1, -1), softcap=0.0, alibi_slopes=None, sinks=None, mask=None, bias=None,
              score_mod=None, mask_mod=None):
    """(out, lse) in float64; pages are NHD. score_mod(score [m, n], b, h, i [m, 1], j [1, n])."""
    n_tokens, n_q_heads, d = q.shape
    group = n_q_heads // k_pages.shape[2]
    scale = 1 / np.sqrt(d) if scale is None else scale
    starts = range(n_tokens + 1) if q_indptr is None else q_indptr
    shape = (n_tokens, n_q_heads, max(kv_lens, default=0))
    mask = None if mask is None else np.broadcast_to(mask, shape)
    bias = None if bias is None else np.broadcast_to(bias, shape).astype(np.float64)
    out = np.zeros((n_tokens, n_q_heads, v_pages.shape[3]))
    lse = np.full((n_tokens, n_q_heads), -np.inf)
    for b, n in enumerate(kv_lens):
        rows = slice(starts[b], starts[b + 1])
        m = rows.stop - rows.start
        k = gather(k_pages, page_table[b], n)
        v = gather(v_pages, (page_table if v_page_table is None else v_page_table)[b], n)
        keep, p = alive(m, n, causal, align, window)
        for h in range(n_q_heads):
            score = scale * q[rows, h].astype(np.float64) @ k[:, h // group].T
            if softcap:
                score = softcap * np.tanh(score / softcap)
            if alibi_slopes is not None:
                score = score + float(alibi_slopes[h]) * (np.arange(n)[None, :] - p)
            if bias is not None:
                score = score + bias[rows, h, :n]
            kept = keep if mask is None else keep & mask[rows, h, :n]
            where = (b, h, np.arange(m)[:, None], np.arange(n)[None, :])
            if score_mod is not None:
                score = score_mod(score, *where)
            if mask_mod is not None:
                kept = kept & mask_mod(*where)
            weights, lse[rows, h] = softmax_rows(np.where(kept, score, -np.inf),
                                                 None if sinks is None else float(sinks[h]))
            out[rows, h] = weights @ v[:, h // group]
    return out, lse


def to_layout(pages, layout):
    """NHD pages in another layout, as a contiguous array."""
    if layout == "NHD":
        return np.ascontiguousarray(pages)
    swapped = np.ascontiguousarray(pages.swapaxes(1, 2))
    if layout == "HND":
        return swapped
    p, h, s, d = swapped.shape
    return np.ascontiguousarray(swapped.swapaxes(0, 1)).reshape(1, h, p * s, d)


@dataclasses.dataclass
class Problem:
    """Arrays of one call. k_pages and v_pages are NHD; unused slots hold NaN."""

    q: np.ndarray
    k_pages: np.ndarray
    v_pages: np.ndarray
    page_table: np.ndarray
    kv_lens: np.ndarray
    q_indptr: np.ndarray | None

    def arguments(self):
        names = {"kv_lens": self.kv_lens, "page_table": self.page_table, "q_indptr": self.q_indptr}
        return {name: value for name, value in names.items() if value is not None}

    def in_layout(self, layout):
        """(q, k, v), keywords."""
        extra = {"layout": layout, "page_size": self.k_pages.shape[1]}
        return (self.q, to_layout(self.k_pages, layout), to_layout(self.v_pages, layout)), self.arguments() | extra


def problem(seed, *, kv_lens, q_lens=None, heads=(4, 2), dims=(16, 16), page_size=4, dtype="f32", q_dtype=None,
            spare_pages=3, index=np.int32):
    """A random problem: pages in random order, NaN wherever no token lies, a table whose unused part is garbage."""
    rng = np.random.default_rng(seed)
    counts = [-(-n // page_size) for n in kv_lens]
    n_pages = sum(counts) + spare_pages
    order = rng.permutation(n_pages)
    kv_dtype = DTYPES[dtype]
    pools = [np.full((n_pages, page_size, heads[1], d), np.nan, kv_dtype) for d in dims]
    table = rng.choice([-1, n_pages, 2**31 - 1], (len(kv_lens), max(counts, default=0) + 1)).astype(index)
    taken = 0
    for b, n in enumerate(kv_lens):
        table[b, : counts[b]] = order[taken : taken + counts[b]]
        taken += counts[b]
        for pool in pools:
            for j in range(n):
                values = rng.standard_normal(pool.shape[2:])
                pool[table[b, j // page_size], j % page_size] = values.astype(kv_dtype)
    n_tokens = len(kv_lens) if q_lens is None else sum(q_lens)
    q = rng.standard_normal((n_tokens, heads[0], dims[0])).astype(DTYPES[q_dtype or dtype])
    indptr = None if q_lens is None else np.cumsum([0, *q_lens]).astype(index)
    return Problem(q, *pools, table, np.array(kv_lens, index), indptr)


def expect(p, **options):
    """(out, lse) of the oracle for a problem."""
    return attention(p.q, p.k_pages, p.v_pages, kv_lens=p.kv_lens.tolist(), page_table=p.page_table.tolist(),
                     q_indptr=None if p.q_indptr is None else p.q_indptr.tolist(), **options)


def assert_close(got, want, what=""):
    """out against the oracle's, within the rounding of its dtype and of float32 sums; and, for bf16, of weights.

    CPUs with dot products of bf16 round each weight to 8 bits; weights sum to 1, and |v| < 5 in these problems.
    """
    got_f64 = np.asarray(got).astype(np.float64)
    assert got_f64.shape == want.shape, f"{what}: shape {got_f64.shape}, want {want.shape}"
    ulp = OUT_ULP[name_of(np.asarray(got).dtype)]
    finite = np.isfinite(want)
    assert (got_f64[~finite] == want[~finite]).all(), f"{what}: infinities differ"
    error = np.abs(got_f64[finite] - want[finite])
    weights = 5 * 2.0**-9 if np.asarray(got).dtype == BF16 else 0
    bound = (ulp + 2e-6) * np.abs(want[finite]) + 6e-6 + weights
    worst = (error / bound).max(initial=0)
    assert worst <= 1, f"{what}: error {worst:.2f} times the bound"
