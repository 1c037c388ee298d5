# SPDX-License-Identifier: Apache-2.0
"""append, gather, copy_pages, pages_from_contiguous and merge, in every layout and dtype."""
import folio
import numpy as np
import oracle
import pytest

LAYOUTS = ["NHD", "HND", "FLAT"]
PAGE = 4


def pools(layout, dtype, n_pages=6, heads=2, dims=(8, 5)):
    """K and V pages full of a mark, in a layout."""
    return [oracle.to_layout(np.full((n_pages, PAGE, heads, d), -9, oracle.DTYPES[dtype]), layout) for d in dims]


def tokens(seed, n, dtype, heads=2, dims=(8, 5)):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((n, heads, d)).astype(oracle.DTYPES[dtype]) for d in dims]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", oracle.DTYPES)
def test_what_is_appended_can_be_gathered(layout, dtype):
    k_pages, v_pages = pools(layout, dtype)
    k, v = tokens(1, 7, dtype)
    row = [3, 1]
    slots = [row[j // PAGE] * PAGE + j % PAGE for j in range(6)]
    folio.append(k, v, k_pages, v_pages, [*slots, -1], layout, page_size=PAGE)
    got_k, got_v = folio.gather(k_pages, v_pages, row, 6, layout, page_size=PAGE)
    assert got_k.dtype == k.dtype and got_k.tobytes() == k[:6].tobytes() and got_v.tobytes() == v[:6].tobytes()
    assert (k_pages.astype(np.float32) == -9).sum() == k_pages.size - 6 * 2 * 8, "another slot was written"


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
def test_append_rounds_and_gather_converts(dtype):
    k_pages, v_pages = pools("NHD", dtype)
    k, v = tokens(2, 5, "f32")
    slots = np.arange(PAGE, PAGE + 5)
    folio.append(k, v, k_pages, v_pages, slots)
    narrow = oracle.DTYPES[dtype]
    for wanted in ("float32", np.float32, np.dtype("float32")):
        got_k, got_v = folio.gather(k_pages, v_pages, np.array([1, 2], np.int32), 5, dtype=wanted)
        assert got_k.dtype == np.float32
        assert (got_k == k.astype(narrow).astype(np.float32)).all()
        assert (got_v == v.astype(narrow).astype(np.float32)).all()


def test_gather_of_nothing():
    k_pages, v_pages = pools("NHD", "f32")
    k, v = folio.gather(k_pages, v_pages, [], 0)
    assert k.shape == (0, 2, 8) and v.shape == (0, 2, 5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_copies_happen_in_order(layout):
    k_pages, v_pages = pools(layout, "f32")
    k, v = tokens(3, PAGE, "f32")
    folio.append(k, v, k_pages, v_pages, list(range(PAGE)), layout, page_size=PAGE)
    folio.copy_pages(k_pages, v_pages, [(0, 2), (2, 5)], layout, page_size=PAGE)
    for page in (2, 5):
        got_k, got_v = folio.gather(k_pages, v_pages, [page], PAGE, layout, page_size=PAGE)
        assert (got_k == k).all() and (got_v == v).all()
    before = k_pages.copy()
    folio.copy_pages(k_pages, None, np.zeros((0, 2), np.int64), layout, page_size=PAGE)
    folio.copy_pages(k_pages, None, [], layout, page_size=PAGE)
    assert (k_pages == before).all()


@pytest.mark.parametrize("dtype", oracle.DTYPES)
@pytest.mark.parametrize("n_tokens", [0, 1, 8, 10])
def test_pages_from_contiguous(dtype, n_tokens):
    x = np.random.default_rng(4).standard_normal((3, 2, n_tokens, 8)).astype(oracle.DTYPES[dtype])
    container, table = folio.pages_from_contiguous(x, PAGE)
    per_sequence = -(-n_tokens // PAGE)
    assert container.shape == (3 * per_sequence, 2, PAGE, 8) and container.dtype == x.dtype
    assert table.shape == (3, 1, per_sequence, 1) and table.dtype == np.int32
    assert (table.ravel() == np.arange(3 * per_sequence)).all()
    for b in range(3):
        k, _ = folio.gather(container, container, table[b, 0, :, 0], n_tokens, "HND")
        assert (k.swapaxes(0, 1) == x[b]).all()
    filled = n_tokens * 3 * 2 * 8
    assert np.count_nonzero(container.astype(np.float32)) <= filled, "slots behind the tokens are zero"


@pytest.mark.parametrize("dtype", oracle.DTYPES)
def test_merge_of_partials_is_the_whole(dtype):
    whole = oracle.problem(5, kv_lens=[9, 12, 4], q_lens=[2, 1, 3], dtype=dtype, q_dtype="f32")
    first = np.minimum(whole.kv_lens, [0, 8, 4])  # whole pages; one empty partial on either side
    rest_table = [row[n // PAGE :] for row, n in zip(whole.page_table.tolist(), first)]
    parts = [
        folio.attention(whole.q, whole.k_pages, whole.v_pages, kv_lens=lens, page_table=table, q_indptr=whole.q_indptr,
                        return_lse=True)
        for lens, table in ((first, whole.page_table), (whole.kv_lens - first, rest_table))
    ]
    outs, lses = zip(*parts)
    want_out, want_lse = oracle.expect(whole)
    for arguments in ((list(outs), list(lses)), (np.stack(outs), np.stack(lses))):
        out, lse = folio.merge(*arguments)
        oracle.assert_close(out, want_out)
        oracle.assert_close(lse, want_lse)


def test_merge_of_empties_is_empty():
    out, lse = folio.merge(np.full((2, 1, 1, 4), 5.0, np.float32), np.full((2, 1, 1), -np.inf, np.float32))
    assert (out == 0).all() and (lse == -np.inf).all()
