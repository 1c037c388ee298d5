# SPDX-License-Identifier: Apache-2.0
"""folio.attention against dense float64 NumPy: layouts, dtypes, options, edges. NaN lies wherever no token does."""
import folio
import numpy as np
import oracle
import pytest

RAGGED = {"kv_lens": [0, 1, 4, 5, 23], "q_lens": [2, 1, 0, 7, 5]}
DECODE = {"kv_lens": [3, 0, 8, 21]}


def check(p, backend, layout="NHD", **options):
    """attention and plan().run() give the oracle's answer, and each other's bits."""
    arrays, keywords = p.in_layout(layout)
    call_only = {name: options.pop(name) for name in ("num_splits", "num_threads") if name in options}
    want_out, want_lse = oracle.expect(p, **options)
    keywords |= options | call_only | {"backend": backend}
    out, lse = folio.attention(*arrays, **keywords, return_lse=True)
    what = f"{layout} {options} {call_only}"
    assert out.dtype == p.q.dtype and lse.dtype == np.float32
    oracle.assert_close(out, want_out, what)
    oracle.assert_close(lse, want_lse, what + " lse")
    planned, planned_lse = folio.plan(*arrays, **keywords).run(*arrays, return_lse=True)
    assert planned.tobytes() == out.tobytes() and planned_lse.tobytes() == lse.tobytes()
    return out


@pytest.mark.parametrize("layout", ["NHD", "HND", "FLAT"])
@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
@pytest.mark.parametrize("shape", [RAGGED, DECODE], ids=["ragged", "decode"])
def test_layouts_and_dtypes(backend, layout, dtype, shape):
    check(oracle.problem(1, **shape, dtype=dtype, dims=(24, 40)), backend, layout, causal="bottom_right")


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
def test_float32_queries_over_16_bit_pages(backend, dtype):
    assert check(oracle.problem(2, **RAGGED, dtype=dtype, q_dtype="f32"), backend).dtype == np.float32


OPTIONS = {
    "plain": {},
    "causal_top_left": {"causal": "top_left"},
    "causal_bottom_right": {"causal": "bottom_right"},
    "window": {"window": (3, 2)},
    "window_left": {"window": (2, -1)},
    "window_right": {"window": (-1, 0)},
    "window_top_left": {"window": (2, 1), "align": "top_left"},
    "window_and_causal": {"window": (4, -1), "causal": "bottom_right"},
    "softcap": {"softcap": 1.5},
    "scale": {"scale": 0.7},
    "scale_negative": {"scale": -0.7},
    "scale_zero": {"scale": 0.0},
    "one_thread": {"num_threads": 1},
    "splits": {"num_splits": 4},
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("shape", [RAGGED, DECODE], ids=["ragged", "decode"])
def test_options(backend, name, shape):
    check(oracle.problem(3, **shape), backend, **OPTIONS[name])


def test_array_options_together(backend):
    p = oracle.problem(4, **RAGGED, heads=(6, 3))
    rng = np.random.default_rng(4)
    n_tokens, longest = p.q.shape[0], max(p.kv_lens)
    f32 = lambda *shape: rng.standard_normal(shape).astype(np.float32)
    for options in (
        {"alibi_slopes": f32(6)},
        {"sinks": f32(6)},
        {"bias": f32(n_tokens, 6, longest)},
        {"bias": f32(6, 1).astype(np.float16)},
        {"bias": f32(longest).astype(oracle.BF16)},
        {"mask": rng.random((n_tokens, 6, longest)) < 0.6},
        {"mask": rng.random((n_tokens, 1, longest)) < 0.6},
        {"mask": np.zeros((1, 1, 1), bool)},
        {"alibi_slopes": f32(6), "sinks": f32(6), "bias": f32(n_tokens, 1, longest), "mask": rng.random(longest) < 0.8,
         "causal": "bottom_right", "window": (5, -1), "softcap": 3.0, "scale": 0.4},
    ):
        check(p, backend, **options)


def test_random_problems(backend):
    """Everything at random at once; a failure names its seed."""
    for seed in range(30):
        rng = np.random.default_rng(seed)
        kv_lens = rng.integers(0, 40, rng.integers(1, 5)).tolist()
        q_lens = rng.integers(0, 9, len(kv_lens)).tolist() if rng.random() < 0.6 else None
        kv_heads = int(rng.integers(1, 4))
        p = oracle.problem(seed, kv_lens=kv_lens, q_lens=q_lens, heads=(kv_heads * int(rng.integers(1, 5)), kv_heads),
                           dims=tuple(rng.integers(1, 70, 2).tolist()), page_size=int(rng.choice([1, 3, 4, 16])),
                           dtype=str(rng.choice(["f32", "f16", "bf16"])), index=rng.choice([np.int32, np.int64]))
        try:
            check(p, backend, layout=str(rng.choice(["NHD", "HND", "FLAT"])),
                  causal=[None, "top_left", "bottom_right"][rng.integers(3)],
                  window=tuple(rng.integers(-1, 12, 2).tolist()), softcap=float(rng.choice([0, 2.5])),
                  num_splits=int(rng.choice([0, 1, 3])))
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error


def test_lists_tables_csr_and_two_tables(backend):
    p = oracle.problem(5, **RAGGED)
    arrays, keywords = p.in_layout("NHD")
    want, _ = oracle.expect(p)
    counts = [-(-n // 4) for n in p.kv_lens]
    rows = [row[:count].tolist() for row, count in zip(p.page_table, counts)]
    lists = {"kv_lens": p.kv_lens.tolist(), "q_indptr": p.q_indptr.tolist(), "backend": backend}
    oracle.assert_close(folio.attention(*arrays, **lists, page_table=rows), want, "lists, rows of different lengths")
    oracle.assert_close(folio.attention(*arrays, **lists, page_table=p.page_table.astype(np.int64)), want, "int64")
    csr = {"kv_indptr": np.cumsum([0, *counts]).tolist(), "kv_indices": sum(rows, [])}
    oracle.assert_close(folio.attention(*arrays, **lists, **csr), want, "CSR")
    moved = np.roll(p.v_pages, 1, axis=0)
    v_rows = [[(page + 1) % len(moved) for page in row] for row in rows]
    got = folio.attention(p.q, p.k_pages, moved, **lists, page_table=rows, v_page_table=v_rows)
    oracle.assert_close(got, want, "a table of its own for V")


def test_strides(backend):
    """K and V as halves of one buffer, q with gaps, out and lse inside larger arrays, a table with a row stride."""
    p = oracle.problem(6, **RAGGED)
    both = np.stack([p.k_pages, p.v_pages], axis=1)  # [P, 2, S, H, D]
    q = np.full((p.q.shape[0], 9, 16), np.nan, np.float32)[:, 2:6]
    q[:] = p.q
    big_out, big_lse = np.full((p.q.shape[0], 7, 20), 7.0, np.float32), np.full((p.q.shape[0], 9), 7.0, np.float32)
    out, lse = big_out[:, 1:5, :16], big_lse[:, ::2][:, :4]
    wide = np.full((5, p.page_table.shape[1] + 5), 99, np.int32)
    wide[:, : p.page_table.shape[1]] = p.page_table
    got = folio.attention(q, both[:, 0], both[:, 1], kv_lens=p.kv_lens, page_table=wide[:, : p.page_table.shape[1]],
                          q_indptr=p.q_indptr, out=out, lse=lse, return_lse=True, backend=backend)
    assert got[0] is out and got[1] is lse
    want_out, want_lse = oracle.expect(p)
    oracle.assert_close(np.ascontiguousarray(out), want_out)
    oracle.assert_close(np.ascontiguousarray(lse), want_lse)
    out[:], lse[:] = 7.0, 7.0
    assert (big_out == 7).all() and (big_lse == 7).all(), "written outside of out or lse"


def test_queries_of_four_dims(backend):
    """[batch, heads, q_len, dim] in memory, its heads and rows exchanged: in place, and the bits of three dims."""
    p = oracle.problem(7, kv_lens=[9, 0, 23], q_lens=[5, 5, 5])
    arrays, keywords = p.in_layout("NHD")
    keywords |= {"backend": backend, "return_lse": True}
    by_head = np.full((3, *p.q.shape[1:2], 6, p.q.shape[2]), np.nan, np.float32)
    q = by_head[:, :, :5].swapaxes(1, 2)
    q[:] = p.q.reshape(q.shape)
    want, want_lse = folio.attention(*arrays, **keywords)
    out, lse = folio.attention(q, *arrays[1:], **keywords)
    assert out.shape == (*q.shape[:3], want.shape[-1]) and lse.shape == want_lse.shape
    assert out.tobytes() == want.tobytes() and lse.tobytes() == want_lse.tobytes()
    keywords.pop("return_lse")
    given = np.full((3, p.q.shape[1], 6, want.shape[-1]), 7.0, np.float32)
    view = given[:, :, :5].swapaxes(1, 2)
    planned = folio.plan(q, *arrays[1:], **keywords).run(q, *arrays[1:], out=view)
    assert planned is view and np.ascontiguousarray(view).tobytes() == want.tobytes() and (given[:, :, 5] == 7).all()
    assert "15 tokens" in folio.explain(q, *arrays[1:], **keywords)


def test_nothing_to_do(backend):
    pages = np.zeros((2, 4, 1, 8), np.float32)
    empty = folio.attention(np.zeros((0, 2, 8), np.float32), pages, pages, kv_lens=[], page_table=[], backend=backend)
    assert empty.shape == (0, 2, 8)
    q = np.ones((2, 2, 8), np.float32)
    out, lse = folio.attention(q, None, None, kv_lens=[0, 0], page_table=[[], []], return_lse=True, backend=backend)
    assert (out == 0).all() and (lse == -np.inf).all()
    sinks = np.array([0.5, -2.0], np.float32)
    out, lse = folio.attention(q, pages, pages, kv_lens=[0, 0], page_table=[[], []], sinks=sinks, return_lse=True,
                               backend=backend)
    assert (out == 0).all() and (lse == sinks).all()


def test_out_and_lse_given_alone(backend):
    p = oracle.problem(7, **DECODE)
    out, lse = np.empty_like(p.q), np.empty(p.q.shape[:2], np.float32)
    assert folio.attention(p.q, p.k_pages, p.v_pages, **p.arguments(), out=out, lse=lse, backend=backend) is out
    want_out, want_lse = oracle.expect(p)
    oracle.assert_close(out, want_out)
    oracle.assert_close(lse, want_lse)


def test_same_bits_for_any_threads_and_batch_mates():
    p = oracle.problem(8, kv_lens=[700, 3, 1500], q_lens=[40, 1, 3], page_size=16)
    one = folio.attention(p.q, p.k_pages, p.v_pages, **p.arguments(), num_threads=1)
    for threads in (2, 3):
        many = folio.attention(p.q, p.k_pages, p.v_pages, **p.arguments(), num_threads=threads)
        assert many.tobytes() == one.tobytes()
    last = folio.attention(p.q[41:], p.k_pages, p.v_pages, kv_lens=p.kv_lens[2:], page_table=p.page_table[2:],
                           q_indptr=[0, 3])
    assert last.tobytes() == one[41:].tobytes()


def test_explain_names_the_kernels_or_the_fault():
    p = oracle.problem(9, **DECODE)
    assert "ref" in folio.explain(p.q, p.k_pages, p.v_pages, **p.arguments(), backend="ref")
    text = folio.explain(p.q[:, :3], p.k_pages, p.v_pages, **p.arguments())
    assert "multiple" in text and "3" in text
