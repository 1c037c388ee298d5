# SPDX-License-Identifier: Apache-2.0
"""folio.compat.torch beside torch's own PagedAttention: one script of operations through both; then what ours mends,
what it refuses, forward(), and flex_attention over pages."""
import random

import folio
import numpy as np
import pytest
import torch
from folio.compat.torch import OutOfPagesError, PagedAttention, flex_attention
from torch.nn.attention import flex_attention as torch_flex
from torch.nn.attention.experimental._paged_attention import PagedAttention as Original
from torch.nn.attention.flex_attention import create_block_mask

pytestmark = [pytest.mark.filterwarnings("ignore:flex_attention called without"),
              pytest.mark.filterwarnings("ignore:return_lse is deprecated")]
PAGES, PAGE, ROWS, HEADS, K_D, V_D = 24, 4, 5, 2, 16, 8
LOGICAL = 48  # keys the logical masks reach
SLOPES = torch.tensor([0.5, 0.25])


class Mended(Original):
    """torch's class, whose erase() clears physical_to_logical too, as it means to: it writes to a copy."""

    def erase(self, batch_idx):
        super().erase(batch_idx)
        self.physical_to_logical[batch_idx] = -1


def causal(b, h, q, k):
    return q + 20 >= k


def documents(b, h, q, k):
    return (k // 5 + b + h) % 2 == 0


def alibi(score, b, h, q, k):
    return score + SLOPES[h] * (k - q)


def caches(dtype=torch.float32, pages=PAGES, page=PAGE, heads=HEADS):
    """Fresh K and V, with NaN wherever nothing was assigned."""
    return [torch.full((1, heads, pages * page, d), float("nan"), dtype=dtype) for d in (K_D, V_D)]


def tensor(*values):
    return torch.tensor(values)


def fill(manager, memory, row, n, seed=0):
    """Reserve n tokens for a row and write them all: K, V [1, H, n, D]."""
    g = torch.Generator().manual_seed(seed * 100 + row)
    k, v = (torch.randn(1, m.shape[1], n, m.shape[3], generator=g).to(m.dtype) for m in memory)
    manager.reserve(tensor(row), tensor(n))
    if n:
        manager.assign(tensor(row), torch.arange(n)[None], k, v, *memory)
    return k, v


def same_state(ours, theirs):
    for name in ("page_table", "capacity", "physical_to_logical"):
        a, b = getattr(ours, name), getattr(theirs, name)
        assert torch.equal(a, b) and a.dtype == b.dtype, name
    assert ours.empty_pages == theirs.empty_pages and type(ours.empty_pages) is list


def same_mask(ours, theirs):
    for name in ("kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices", "q_num_blocks", "q_indices",
                 "full_q_num_blocks", "full_q_indices"):
        a, b = getattr(ours, name), getattr(theirs, name)
        assert (a is None) == (b is None) and (a is None or (torch.equal(a, b) and a.dtype == b.dtype)), name
    assert ours.BLOCK_SIZE == theirs.BLOCK_SIZE and ours.seq_lengths == theirs.seq_lengths


def finite(memory):
    """torch's kernel multiplies masked values by 0: there may be no NaN where nothing was assigned."""
    return [m.nan_to_num(0.0) for m in memory]


class Script:
    """Random operations, each through both classes."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.ours, self.theirs = PagedAttention(PAGES, PAGE, ROWS, "cpu"), Mended(PAGES, PAGE, ROWS, "cpu")
        self.memory = caches(), caches()
        self.n_refused = self.n_attended = 0

    def reserve(self):
        row, n = self.random.randrange(ROWS), self.random.choice([0, 1, PAGE, PAGE + 1, 9, 30, 47])
        index, n = (tensor(row), tensor(n)) if self.random.random() < 0.5 else (torch.tensor(row), torch.tensor(n))
        told = []
        for manager in (self.ours, self.theirs):
            try:
                manager.reserve(index, n)
            except AssertionError as error:
                told.append(str(error))
        assert len(told) != 1 and len(set(told)) < 2, told
        self.n_refused += len(told) // 2

    def erase(self):
        rows = torch.tensor(self.random.sample(range(ROWS), self.random.randrange(1, 3)))
        for manager in (self.ours, self.theirs):
            manager.erase(rows)

    def assign(self):
        rows = [r for r in range(ROWS) if self.ours.capacity[r] > 0]
        if not rows:
            return
        rows = self.random.sample(rows, self.random.randrange(1, len(rows) + 1))
        n = int(self.ours.capacity[rows].min())
        first = self.random.randrange(n)
        positions = torch.tensor([self.random.sample(range(first, n), n - first) for _ in rows])
        k, v = (torch.randn(len(rows), HEADS, n - first, d) for d in (K_D, V_D))
        dtype = self.random.choice([torch.int32, torch.int64])
        for manager, memory in zip((self.ours, self.theirs), self.memory, strict=True):
            manager.assign(torch.tensor(rows), positions.to(dtype), k, v, *memory)
        for a, b in zip(*self.memory, strict=True):
            assert a.numpy().tobytes() == b.numpy().tobytes()

    def mask(self, n_queries=8, rows=ROWS):
        mod = self.random.choice([causal, documents])
        return create_block_mask(mod, rows, HEADS, n_queries, LOGICAL, device="cpu", BLOCK_SIZE=(8, PAGE))

    def convert(self):
        rows = self.random.sample(range(ROWS), self.random.randrange(1, ROWS + 1))
        mask = self.mask(rows=len(rows))
        if self.random.random() < 0.3:
            mask.full_kv_num_blocks = mask.full_kv_indices = None
        same_mask(*(m.convert_logical_block_mask(mask, torch.tensor(rows)) for m in (self.ours, self.theirs)))

    def attend(self):
        mask, score_mod = self.mask(), self.random.choice([None, alibi])
        kv_len = torch.tensor([self.random.randrange(int(c) + 2) for c in self.ours.capacity])
        q, memory = torch.randn(ROWS, HEADS, 8, K_D), finite(self.memory[0])
        outs = []
        for manager in (self.theirs, self.ours):
            converted = manager.convert_logical_block_mask(mask, kv_len=kv_len)
            same_mask(converted, self.theirs.convert_logical_block_mask(mask, kv_len=kv_len))
            outs.append(torch_flex.flex_attention(q, *memory, manager.get_score_mod(score_mod, kv_len), converted))
        assert torch.equal(*outs)
        fast = flex_attention(q, *memory, self.ours.get_score_mod(score_mod, kv_len), converted)
        direct = flex_attention(q, *memory, score_mod, mask, paged=self.ours, kv_len=kv_len)
        torch.testing.assert_close(fast, outs[0], atol=3e-6, rtol=1e-5)
        assert torch.equal(fast, direct) and fast.shape == outs[0].shape and fast.is_contiguous()
        self.n_attended += 1


@pytest.mark.parametrize("seed", range(2))
def test_500_operations_through_both(seed):
    torch.manual_seed(seed)
    script = Script(seed)
    for step in range(500):
        kind = script.random.choices(["reserve", "erase", "assign", "convert", "attend"], [40, 12, 20, 6, 2])[0]
        try:
            getattr(script, kind)()
            same_state(script.ours, script.theirs)
        except Exception as error:
            raise AssertionError(f"seed {seed}, step {step}, {kind}: {error}") from error
    assert script.n_refused > 5 and script.n_attended > 3


def test_the_first_pages_are_torchs():
    ours = PagedAttention(8, 2, 3, "cpu")
    ours.reserve(tensor(0), tensor(6))
    assert ours.page_table[0].tolist() == [2, 1, 0, -1, -1, -1, -1, -1] and ours.empty_pages == [7, 6, 5, 4, 3]
    assert ours.physical_to_logical[0].tolist() == [2, 1, 0, -1, -1, -1, -1, -1] and ours.capacity.tolist() == [6, 0, 0]
    assert (ours.n_pages, ours.page_size) == (8, 2)
    table = ours.page_table
    ours.erase(tensor(0))
    assert ours.page_table is table and (table == -1).all(), "tensors are kept true in place"
    assert (ours.physical_to_logical == -1).all() and ours.empty_pages == [7, 6, 5, 4, 3, 2, 1, 0]
    ours.erase(tensor(0, 0))
    assert ours.empty_pages == [7, 6, 5, 4, 3, 2, 1, 0]


def test_no_pages():
    ours = PagedAttention(4, 2, 2, "cpu")
    ours.reserve(tensor(0), tensor(3))
    for n, needed in ((7, 4), (2**40, 2**39), (2**62, 2**61)):
        with pytest.raises(AssertionError) as caught:
            ours.reserve(tensor(1), tensor(n))
        assert str(caught.value) == f"requested {needed} pages but there are only 2 empty pages"
        assert isinstance(caught.value, MemoryError) and type(caught.value) is OutOfPagesError
        assert caught.value.needed == needed and caught.value.free == 2
    assert ours.empty_pages == [3, 2] and ours.capacity.tolist() == [4, 0] and (ours.page_table[1] == -1).all()
    ours.reserve(tensor(1), tensor(-5))
    ours.reserve(1, 4)
    assert ours.page_table[1].tolist() == [3, 2, -1, -1]


def assign(ours, memory, rows=(0,), positions=((0, 1),), shape=(1, HEADS, 2), k_d=K_D, v_d=V_D, grad=False):
    k, v = torch.randn(*shape, k_d), torch.randn(*shape, v_d)
    ours.assign(torch.tensor(rows), torch.tensor(positions), k.requires_grad_() if grad else k, v, *memory)


REFUSED = {
    "grad": ({"grad": True}, RuntimeError, "val must not require gradient"),
    "batch": ({"rows": (0, 1)}, RuntimeError,
              "Expect val and batch_idx have the same batch size but got B=1 and B=2."),
    "heads": ({"shape": (1, 3, 2)}, RuntimeError,
              "Expect val and cache has the same number of heads but got H=3 and H=2."),
    "length": ({"positions": ((0, 1, 2),)}, RuntimeError,
               "Expect val and input_pos has the same length but got S=2 and S=3."),
    "k dim": ({"k_d": 8}, RuntimeError, "Expect k_val and k_cache has the same hidden dim but got D=8 and D=16."),
    "v dim": ({"v_d": 4}, RuntimeError, "Expect v_val and v_cache has the same hidden dim but got D=4 and D=8."),
    "unreserved": ({"positions": ((0, 4),)}, folio.StateError,
                   "input_pos: positions[0, 1] 4: not allocated; must be 0 .. 3, what the sequence has reserved"),
    "negative": ({"positions": ((-1, 0),)}, folio.StateError,
                 "input_pos: positions[0, 0] -1: not allocated; must be 0 .. 3, what the sequence has reserved"),
    "empty row": ({"rows": (1,)}, folio.StateError,
                  "input_pos: positions[0, 0] 0: not allocated; must be 0 .. -1, what the sequence has reserved"),
    "row": ({"rows": (5,)}, IndexError, "batch_idx[0] 5: must be 0 .. 4"),
    "negative row": ({"rows": (-1,)}, IndexError, "batch_idx[0] -1: must be 0 .. 4"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_assign_refuses(name):
    spoil, error, text = REFUSED[name]
    ours, memory = PagedAttention(PAGES, PAGE, ROWS, "cpu"), caches()
    ours.reserve(tensor(0), tensor(4))
    with pytest.raises(error) as caught:
        assign(ours, memory, **spoil)
    assert str(caught.value) == text
    assert all(m.isnan().all() for m in memory)
    assign(ours, memory)
    assert not memory[0][:, :, :2].isnan().any() and memory[0][:, :, 2:].isnan().all()


def test_rows_and_masks_refused():
    ours = PagedAttention(PAGES, PAGE, ROWS, "cpu")
    for call in (lambda: ours.reserve(tensor(5), tensor(1)), lambda: ours.erase(tensor(0, -1)),
                 lambda: ours.erase(torch.tensor(0))):
        with pytest.raises(IndexError, match="batch_idx"):
            call()
    with pytest.raises(ValueError, match="batch_idx: 2 rows; must be one"):
        ours.reserve(tensor(0, 1), tensor(1))
    mask = create_block_mask(causal, ROWS, 1, 8, LOGICAL, device="cpu", BLOCK_SIZE=8)
    with pytest.raises(RuntimeError) as caught:
        ours.convert_logical_block_mask(mask)
    assert str(caught.value) == "Expect block_mask has the same column block size as page_sizebut got size=8 and size=4"
    with pytest.raises(IndexError, match=r"batch_idx\[1\] 7"):
        paged = create_block_mask(causal, 2, 1, 8, LOGICAL, device="cpu", BLOCK_SIZE=(8, PAGE))
        ours.convert_logical_block_mask(paged, tensor(0, 7))
    for bad in ((0, 4, 2), (4, 0, 2), (4, 4, 0)):
        with pytest.raises(ValueError):
            PagedAttention(*bad, "cpu")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_assign_of_float32_rounds_as_torch_does(dtype):
    """torch's class refuses another dtype than the cache's; ours rounds as .to() does."""
    managers = PagedAttention(PAGES, PAGE, ROWS, "cpu"), Original(PAGES, PAGE, ROWS, "cpu")
    written = []
    for manager in managers:
        memory = caches(dtype)
        manager.reserve(tensor(3), tensor(7))
        torch.manual_seed(1)
        k, v = torch.randn(1, HEADS, 7, K_D), torch.randn(1, HEADS, 7, V_D)
        if type(manager) is Original:
            k, v = k.to(dtype), v.to(dtype)
        manager.assign(tensor(3), torch.arange(7)[None], k, v, *memory)
        written.append([m.view(torch.int16) for m in memory])
    assert torch.equal(written[0][0], written[1][0]) and torch.equal(written[0][1], written[1][1])


def reference(q, k, v, keep, scale=None, mod=None, b=0):
    """float64: q [H, m, D], k, v [Hkv, n, D], keep [m, n] -> [H, m, V_D]; rows without keys are 0."""
    group = q.shape[0] // k.shape[0]
    k, v = (x.double().repeat_interleave(group, 0) for x in (k, v))
    scores = q.double() @ k.transpose(1, 2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if mod is not None:
        h, i, j = (torch.arange(n) for n in scores.shape)
        scores = mod(scores, torch.tensor(b), h[:, None, None], i[None, :, None], j[None, None])
    return torch.softmax(scores.masked_fill(~keep, float("-inf")), -1).nan_to_num(0.0) @ v


def test_rows_by_batch_idx():
    """Batch entry b is row batch_idx[b]: in forward, in flex_attention, and in the mods for torch's own."""
    ours, memory = PagedAttention(PAGES, PAGE, ROWS, "cpu"), caches()
    lens = {3: 9, 0: 14, 4: 1}
    values = {row: fill(ours, memory, row, n) for row, n in lens.items()}
    rows, q = torch.tensor(list(lens)), torch.randn(3, HEADS, 5, K_D)
    kv_len = torch.tensor(list(lens.values()))
    want = torch.stack([
        reference(q[b], values[row][0][0], values[row][1][0], torch.arange(n)[None] <= torch.arange(5)[:, None], None,
                  alibi, b) for b, (row, n) in enumerate(lens.items())])
    assert (ours.forward(q, *memory, kv_len, batch_indices=rows, score_mod=alibi) - want).abs().max() < 1e-5
    mask = create_block_mask(lambda b, h, i, j: j <= i, 3, 1, 5, LOGICAL, device="cpu", BLOCK_SIZE=PAGE)
    got, lse = flex_attention(q, *memory, alibi, mask, return_lse=True, paged=ours, kv_len=kv_len, batch_idx=rows)
    assert (got - want).abs().max() < 1e-5 and lse.shape == (3, HEADS, 5) and lse.dtype == torch.float32
    converted = ours.convert_logical_block_mask(mask, rows, kv_len)
    theirs, their_lse = torch_flex.flex_attention(
        q, *finite(memory), ours.get_score_mod(alibi, kv_len, rows), converted, return_lse=True)
    assert (theirs - want).abs().max() < 1e-5
    torch.testing.assert_close(lse, their_lse, atol=1e-5, rtol=1e-5)


def test_out_has_the_dims_of_query_in_memory():
    ours, memory, query = PagedAttention(PAGES, PAGE, ROWS, "cpu"), caches(), torch.randn(3, HEADS, 5, K_D)
    mask = create_block_mask(causal, 3, 1, 5, LOGICAL, device="cpu", BLOCK_SIZE=PAGE)
    _ = [fill(ours, memory, row, 9) for row in range(3)]
    given = *finite(memory), ours.get_score_mod(None), ours.convert_logical_block_mask(mask)
    for q in (query, query.transpose(1, 2).contiguous().transpose(1, 2)):
        ours_and_theirs = flex_attention(q, *given), torch_flex.flex_attention(q, *given)
        torch.testing.assert_close(*ours_and_theirs, atol=1e-5, rtol=1e-5, check_stride=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("n_queries", [1, 12])
def test_forward(dtype, n_queries):
    """Top-left causal, GQA only when asked for, kv_lens short of and past what is reserved, an empty row."""
    ours, memory = PagedAttention(PAGES, PAGE, ROWS, "cpu"), caches(dtype)
    lens = [9, 0, 16, 20]
    values = [fill(ours, memory, row, n) for row, n in enumerate(lens)]
    q = torch.randn(4, 2 * HEADS, n_queries, K_D).to(dtype)
    kv_lens = torch.tensor([9, 0, 3, 200])
    with pytest.raises(ValueError) as caught:
        ours.forward(q, *memory, kv_lens)
    assert str(caught.value) == ("Expect query and key/value to have the same number of heads but got Hq=4 and Hkv=2. "
                                 "Try setting enable_gqa=True for GQA.")
    got = ours.forward(q, *memory, kv_lens, scale=0.3, enable_gqa=True)
    assert got.dtype == dtype and got.shape == (4, 2 * HEADS, n_queries, V_D) and (got[1] == 0).all()
    bound = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}[dtype]
    for b, n in enumerate((9, 0, 3, 20)):
        keep = torch.arange(n)[None] <= torch.arange(n_queries)[:, None]
        want = reference(q[b], values[b][0][0, :, :n], values[b][1][0, :, :n], keep, 0.3)
        assert (got[b] - want).abs().max() < bound


def test_a_block_mask_of_ones_own_is_not_causal():
    ours, memory = PagedAttention(PAGES, PAGE, ROWS, "cpu"), caches()
    k, v = fill(ours, memory, 0, 11)
    q, everything = torch.randn(1, HEADS, 3, K_D), torch.ones(3, 11, dtype=torch.bool)
    mask = create_block_mask(lambda b, h, i, j: j >= 0, 1, 1, 3, LOGICAL, device="cpu", BLOCK_SIZE=PAGE)
    got = ours.forward(q, *memory, tensor(11), mask)
    assert (got[0] - reference(q[0], k[0], v[0], everything)).abs().max() < 1e-5
    fill(ours, memory, 0, 12)
    assert flex_attention(q, *memory, paged=ours, kv_len=tensor(11), batch_idx=tensor(0)).shape == got.shape
    short = create_block_mask(lambda b, h, i, j: j >= 0, 1, 1, 3, 5, device="cpu", BLOCK_SIZE=PAGE)
    torch.testing.assert_close(flex_attention(q, *memory, None, short, paged=ours, batch_idx=tensor(0)),
                               flex_attention(q, *memory, paged=ours, kv_len=tensor(5), batch_idx=tensor(0)))


def test_flex_attention_refuses():
    ours, memory = PagedAttention(PAGES, PAGE, ROWS, "cpu"), caches()
    fill(ours, memory, 0, 5)
    q = torch.randn(1, HEADS, 3, K_D)
    mask = create_block_mask(causal, 1, 1, 4, LOGICAL, device="cpu", BLOCK_SIZE=PAGE)
    for spoil, error, words in (
        ({"query": torch.randn(1, 3, 3, K_D), "enable_gqa": True}, ValueError,
         "Expect number of query heads to be a multiple of kv heads for GQA but got Hq=3 and Hkv=2."),
        ({"query": torch.randn(1, 2, 3, 8)}, ValueError, "same embedding dimension but got E=8 and E=16."),
        ({"block_mask": mask}, ValueError, "block_mask was created for block_mask.shape="),
        ({"kv_len": tensor(1, 2)}, ValueError, "kv_len: shape"),
        ({"kv_len": torch.tensor([0.5])}, TypeError, "kv_len: torch.float32"),
        ({"kv_len": tensor(-1)}, ValueError, "kv_lens"),
        ({"batch_idx": tensor(9)}, IndexError, "batch_idx"),
        ({"query": q.clone().requires_grad_()}, TypeError, "grad"),
    ):
        arguments = {"query": q, "key": memory[0], "value": memory[1], "paged": ours, "kv_len": tensor(5),
                     "batch_idx": tensor(0)} | spoil
        with pytest.raises(error) as caught:
            flex_attention(**arguments)
        assert words in str(caught.value), (spoil, caught.value)


def test_without_pages_it_is_torchs():
    q, k, v = (torch.randn(1, 2, 8, 16) for _ in range(3))
    mask = create_block_mask(causal, 1, 1, 8, 8, device="cpu")
    assert torch.equal(flex_attention(q, k, v, alibi, mask), torch_flex.flex_attention(q, k, v, alibi, mask))


def test_torch_compiles_its_own_kernel_over_our_mask():
    """The converted mask and mods are ordinary torch code: compiled they do what they do eagerly."""
    ours, memory = PagedAttention(PAGES, PAGE, ROWS, "cpu"), caches()
    _ = [fill(ours, memory, row, 9 + row) for row in range(2)]
    q, kv_len = torch.randn(2, HEADS, 8, K_D), tensor(9, 10)
    mask = create_block_mask(causal, 2, 1, 8, LOGICAL, device="cpu", BLOCK_SIZE=(8, PAGE))
    converted = ours.convert_logical_block_mask(mask, tensor(0, 1), kv_len)
    call = torch.compile(torch_flex.flex_attention, backend="aot_eager")
    got = call(q, *finite(memory), ours.get_score_mod(alibi, kv_len), converted)
    want = flex_attention(q, *memory, alibi, mask, paged=ours, kv_len=kv_len, batch_idx=tensor(0, 1))
    assert np.allclose(got.numpy(), want.numpy(), atol=1e-5)


def test_no_tensor_of_its_own_is_on_the_default_device():
    """As with torch.set_default_device("cuda") and a manager on the CPU: here the default holds no numbers at all."""
    manager, memory = PagedAttention(PAGES, PAGE, ROWS, device="cpu"), caches()
    q = torch.randn(2, HEADS, 3, K_D)
    kv_len, batch_idx, at = tensor(9, 6), [tensor(0), tensor(1)], torch.arange(9)[None]
    values = [torch.randn(1, HEADS, 9, d) for d in (K_D, V_D)]
    with torch.device("meta"):
        for row in batch_idx:
            manager.reserve(row, 9)
            manager.assign(row, at, *values, *memory)
        got = manager.forward(q, *memory, kv_len)
    assert torch.equal(got, manager.forward(q, *memory, kv_len)) and got.isfinite().all()
