# SPDX-License-Identifier: Apache-2.0
"""block_mask= with NumPy: blocks of any size, absent ones unread, and what is refused."""
import gc
import re

import folio
import numpy as np
import oracle
import pytest
from test_mods import attend, problem, same

ONE = np.ones((1, 1, 1), np.int32)
ZERO = np.zeros((1, 1, 1, 4), np.int32)


def blocks(keep, q_block, kv_block):
    """The four arrays of a bool mask [B, H, m, n]: blocks kept whole, and those kept in part."""
    b, h, m, n = keep.shape
    rows, cols = -(-m // q_block), -(-n // kv_block)
    padded = np.zeros((b, h, rows * q_block, cols * kv_block), bool)
    padded[:, :, :m, :n] = keep
    tiles = padded.reshape(b, h, rows, q_block, cols, kv_block)
    some, whole = tiles.any((3, 5)), tiles.all((3, 5))

    def lists(chosen):
        order = np.argsort(~chosen, axis=-1, kind="stable").astype(np.int32)
        return chosen.sum(-1).astype(np.int32), order

    return *lists(some & ~whole), *lists(whole)


def causal_mask(m, n, offset):
    return (np.arange(n) <= np.arange(m)[:, None] + offset)[None, None]


@pytest.mark.parametrize("q_block, kv_block", [(1, 1), (4, 8), (3, 5), (128, 128), (16, 7)])
def test_block_masks_of_any_size(q_block, kv_block, backend):
    p = problem()
    keep = causal_mask(9, 70, 30)
    arrays = blocks(keep, q_block, kv_block)
    block_mask = folio.BlockMask(*arrays, (q_block, kv_block), "kv <= q + 30")
    want = {"mask_mod": lambda b, h, i, j: j <= i + 30}
    same(p, attend(p, block_mask=block_mask, backend=backend), "text", **want)
    block_mask = folio.BlockMask(*arrays, (q_block, kv_block), lambda b, h, i, j: j <= i + 30)
    same(p, attend(p, block_mask=block_mask, backend=backend), "callable", **want)
    plan = folio.plan(p.q, p.k_pages, p.v_pages, **p.arguments(), block_mask=block_mask, mask_mod="kv % 2 == 0")
    del block_mask, arrays
    gc.collect()
    same(p, plan.run(p.q, p.k_pages, p.v_pages, return_lse=True), "both",
         mask_mod=lambda b, h, i, j: (j <= i + 30) & (j % 2 == 0))


def test_absent_blocks_are_not_read():
    p = oracle.problem(5, kv_lens=[64], q_lens=[8], page_size=4)
    num, indices = np.array([[[2]]], np.int32), np.array([[[[7, 1] + [-1] * 6]]], np.int32)
    keep = lambda b, h, i, j: (j // 8 == 1) | (j // 8 == 7)  # noqa: E731
    want = oracle.expect(p, mask_mod=lambda *at: np.broadcast_to(keep(*at), (8, 64)))
    for page in range(16):
        if page // 2 not in (1, 7):
            p.k_pages[p.page_table[0, page]] = p.v_pages[p.page_table[0, page]] = np.nan
    got = attend(p, block_mask=folio.BlockMask(num, indices, None, None, (8, 8)))
    oracle.assert_close(got[0], want[0])
    full = folio.BlockMask(np.zeros_like(num), np.zeros_like(indices), num, indices, 8, "false")
    oracle.assert_close(attend(p, block_mask=full)[0], want[0])


def counted(text):
    """(read, of) bytes of K and V, as explain() counts them."""
    found = re.search(r"masks: (\d+) of (\d+) bytes of K and V are read, (\d+) are not", text)
    read, all_of_them, saved = map(int, found.groups())
    assert read + saved == all_of_them
    return read, all_of_them


@pytest.mark.parametrize("kept", [[], [0], [3], [7], [1, 6], [0, 2, 4, 6], list(range(8))], ids=str)
@pytest.mark.parametrize("full", [False, True], ids=["partial", "full"])
def test_explain_counts_the_bytes_that_absent_blocks_save(kept, full):
    p = oracle.problem(6, kv_lens=[64, 50], q_lens=[8, 8], heads=(4, 2), page_size=4)
    num, indices = np.array([[[len(kept)]]], np.int32), np.array([[[kept + [0] * (8 - len(kept))]]], np.int32)
    nothing = np.zeros_like(num), np.zeros_like(indices)
    block_mask = folio.BlockMask(*(nothing + (num, indices) if full else (num, indices) + nothing), (8, 8))
    given = p.q, p.k_pages, p.v_pages
    read, of = counted(folio.explain(*given, **p.arguments(), block_mask=block_mask))
    key_bytes = 2 * 16 * 4 * 2  # K and V, head_dim 16, float32, kv heads
    assert of == (64 + 50) * key_bytes
    assert read == sum(min(8 * i + 8, n) - min(8 * i, n) for i in kept for n in (64, 50)) * key_bytes
    assert "masks:" not in folio.explain(*given, **p.arguments())


def test_explain_counts_what_a_windowed_mod_saves():
    p = oracle.problem(7, kv_lens=[4096], page_size=64, heads=(2, 1))
    text = folio.explain(p.q, p.k_pages, p.v_pages, **p.arguments(), mask_mod="pos - kv < 256")
    read, of = counted(text)
    assert of == 4096 * 2 * 16 * 4 and of // 16 <= read <= of // 8


@pytest.mark.parametrize("error, words, arguments", [
    (TypeError, "kv_num_blocks", (None, ZERO, None, None, 128)),
    (TypeError, "kv_num_blocks.*f32", (ONE.astype(np.float32), ZERO, None, None, 128)),
    (ValueError, "kv_indices", (ONE, ZERO[0], None, None, 128)),
    (ValueError, "kv_indices", (ONE, np.zeros((1, 1, 2, 4), np.int32), None, None, 128)),
    (ValueError, "full_kv", (ONE, ZERO, ONE, None, 128)),
    (ValueError, "q_block.*0", (ONE, ZERO, None, None, (0, 128))),
    (TypeError, "block_size.*1.5", (ONE, ZERO, None, None, 1.5)),
    (TypeError, "block_size", (ONE, ZERO, None, None, (1, 2, 3))),
    (IndexError, "kv_indices.*4", (ONE, ZERO + 4, None, None, 128)),
    (IndexError, "kv_indices.*-1", (ONE, ZERO - 1, None, None, 128)),
    (IndexError, "kv_num_blocks.*5", (ONE * 5, ZERO, None, None, 128)),
    (IndexError, "full_kv_num_blocks.*-1", (ONE, ZERO, -ONE, ZERO, 128)),
    (TypeError, "mask_mod", (ONE, ZERO, None, None, 128, 3)),
])
def test_malformed_block_masks(error, words, arguments):
    with pytest.raises(error, match=words) as caught:
        folio.BlockMask(*arguments)
    assert caught.type is error


@pytest.mark.parametrize("error, words, block_mask", [
    (ValueError, "block_mask: batch 3", lambda: folio.BlockMask(ONE.repeat(3, 0), ZERO.repeat(3, 0), None, None, 128)),
    (ValueError, "block_mask: 3 heads", lambda: folio.BlockMask(ONE.repeat(3, 1), ZERO.repeat(3, 1), None, None, 128)),
    (ValueError, "block_mask.*8 query rows.*9", lambda: folio.BlockMask(ONE, ZERO, None, None, (8, 128))),
    (ValueError, "block_mask.*64 keys.*70", lambda: folio.BlockMask(ONE, ZERO, None, None, (128, 16))),
    (TypeError, "block_mask.*ndarray", lambda: ONE),
    (ValueError, "text: line 1", lambda: folio.BlockMask(ONE, ZERO, None, None, 128, "kv +")),
])
def test_block_masks_of_another_call(error, words, block_mask):
    p = problem()
    with pytest.raises(error, match=words):
        attend(p, block_mask=block_mask())


WINDOWS = {  # text: (mask of i and j, (left, right))
    "kv <= q": (lambda i, j: j <= i, (-1, 0)),
    "q + 30 >= kv": (lambda i, j: j <= i + 30, (-1, 30)),
    "kv <= q + 3 && q - kv < 5": (lambda i, j: (j <= i + 3) & (i - j < 5), (4, 3)),
    "true": (lambda i, j: j >= i - 1000, (-1, -1)),
}


def window_mask(text, m=9, n=70, sizes=(4, 8)):
    """(BlockMask of a window, its mask [1, 1, m, n])."""
    keep = WINDOWS[text][0](np.arange(m)[:, None], np.arange(n))[None, None]
    return folio.BlockMask(*blocks(keep, *sizes), sizes, text), keep


@pytest.mark.parametrize("text", WINDOWS)
@pytest.mark.parametrize("long", [False, True], ids=["short", "tiles"])
def test_a_block_mask_that_is_a_window_runs_as_one(text, long):
    q_lens, kv_lens = ([200, 77], [300, 150]) if long else ([9, 1], [70, 66])
    p = oracle.problem(8, kv_lens=kv_lens, q_lens=q_lens)
    block_mask, _ = window_mask(text, max(q_lens), max(kv_lens), (16, 32))
    window = WINDOWS[text][1]
    got, built_in = attend(p, block_mask=block_mask), attend(p, window=window, align="top_left")
    assert all(np.array_equal(*both) for both in zip(got, built_in, strict=True))
    assert "runs instead" in folio.explain(p.q, p.k_pages, p.v_pages, **p.arguments(), block_mask=block_mask)
    same(p, got, text, mask_mod=lambda b, h, i, j: WINDOWS[text][0](i, j))


@pytest.mark.parametrize("text", WINDOWS)
@pytest.mark.parametrize("options", [{}, {"causal": "top_left"}, {"causal": "bottom_right"}, {"window": (6, 2)},
                                     {"alibi_slopes": np.array([.1, .2, .3, .4], np.float32)}, {"softcap": 2.0},
                                     {"align": "top_left", "window": (6, -1)}, {"score_mod": "score + 0.1 * f32(pos)"},
                                     {"score_mod": "score + 0.1 * f32(q)"}, {"mask_mod": "kv <= pos"}], ids=str)
def test_beside_other_options_it_means_the_same(text, options):
    p = problem()
    block_mask, keep = window_mask(text)
    mask = np.concatenate([keep[0, 0, :n] for n in np.diff(p.q_indptr)])[:, None]
    plain = attend(p, mask=np.ascontiguousarray(mask), **options)
    for got in (attend(p, block_mask=block_mask, **options),
                attend(p, block_mask=block_mask, backend="ref", **options)):
        oracle.assert_close(got[0], plain[0], "out")
        oracle.assert_close(got[1], plain[1], "lse")


def test_a_block_dropped_or_kept_whole_is_obeyed():
    p = problem()
    _, keep = window_mask("kv <= q")
    for name, row, count in (("some", 1, 0), ("whole", 0, 1)):
        num, indices, full, full_indices = blocks(keep, 4, 8)
        {"some": num, "whole": full}[name][0, 0, row] = count
        block_mask = folio.BlockMask(num, indices, full, full_indices, (4, 8), "kv <= q")
        text = folio.explain(p.q, p.k_pages, p.v_pages, **p.arguments(), block_mask=block_mask)
        assert "runs instead" not in text
        got, want = (attend(p, block_mask=block_mask, backend=backend) for backend in ("cpu", "ref"))
        oracle.assert_close(got[0], want[0])
        assert not np.array_equal(got[0], attend(p, window=(-1, 0), align="top_left")[0])


def test_a_plan_of_a_window_takes_no_other_mask():
    p = problem()
    block_mask, _ = window_mask("kv <= q")
    plan = folio.plan(p.q, p.k_pages, p.v_pages, **p.arguments(), block_mask=block_mask)
    p.kv_lens -= p.kv_lens > 0
    plan.update(kv_lens=p.kv_lens)
    got = plan.run(p.q, p.k_pages, p.v_pages)
    assert np.array_equal(got, attend(p, window=(-1, 0), align="top_left")[0])
    with pytest.raises(ValueError, match="block_mask: made for 72 keys; a sequence has 73"):
        plan.update(kv_lens=p.kv_lens * 0 + 73)
