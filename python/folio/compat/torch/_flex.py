# SPDX-License-Identifier: Apache-2.0
"""flex_attention over a PagedAttention's pages: logical masks and mods go to folio's kernels.

    query [B, H, Q, D] ─ rows [B * Q, H, D] ─┐
    manager: page_table, capacity ───────────┼─► folio.attention(layout="FLAT") ─► out [B, H, Q, V_D], lse [B, H, Q]
    block_mask, score_mod (logical) ─────────┘
"""
from typing import Any, NamedTuple

import folio
import torch
from torch.nn.attention import flex_attention as torch_flex


class Source(NamedTuple):
    """What a converted mask or mod was made from; hangs on it as folio_source."""

    manager: Any
    logical: Any    # BlockMask or score_mod
    batch_idx: Any  # [B] or None
    kv_len: Any     # [B] or None


@torch.compiler.disable
def flex_attention(query, key, value, score_mod=None, block_mask=None, scale=None, enable_gqa=False, return_lse=False,
                   *, paged=None, kv_len=None, batch_idx=None):
    """torch's flex_attention, over the pages of a PagedAttention.

    query        [B, H, Q, D] float32, float16, bfloat16
    key, value   [1, Hkv, n_pages * page_size, D | V_D]: the paged caches
    score_mod    (score, b, h, q_idx, kv_idx) over logical positions
    block_mask   torch's BlockMask over logical blocks, of any block size; None = all keys
    paged        the PagedAttention
    kv_len       [B]: tokens to look at; None = all that is reserved; what is not reserved is not there
    batch_idx    [B]: the row of each batch entry; None = 0 .. B - 1

    Without paged, a block_mask from paged.convert_logical_block_mask (and a score_mod from get_score_mod) brings it
    along; anything else goes to torch's own flex_attention. Returns out [B, H, Q, V_D], with return_lse (out, lse
    [B, H, Q] float32, natural log). Raises ValueError as torch does. Inference only: TypeError for what requires grad.
    """
    if paged is None:
        source = getattr(block_mask, "folio_source", None)
        mod = None if score_mod is None else getattr(score_mod, "folio_source", None)
        if source is None or (score_mod is not None and (mod is None or mod.manager is not source.manager)):
            return torch_flex.flex_attention(query, key, value, score_mod, block_mask, scale, enable_gqa, return_lse)
        paged, block_mask, batch_idx = source[:3]
        kv_len = source.kv_len
        if mod is not None:
            score_mod = mod.logical
            kv_len = _shorter(kv_len, mod.kv_len)
    return _attend(paged, query, key, value, score_mod, block_mask, scale, enable_gqa, return_lse, kv_len, batch_idx)


def _attend(manager, query, key, value, score_mod, block_mask, scale, enable_gqa, return_lse, kv_len, batch_idx,
            causal=None):
    """The body of flex_attention and of PagedAttention.forward, which has causal "top_left" for its missing mask.

    Between two calls the caches are full of K and V, and each step here is slow: few of them, and lengths are taken as
    they are until they turn out to be too long.
    """
    B, _, Q, _ = shape = query.shape
    _check(shape, key.shape, enable_gqa)
    table, capacity = manager._columns, manager.capacity
    if batch_idx is not None or len(manager._n_reserved) != B:
        batch_idx = manager._batch(batch_idx, B)
        table, capacity = table[batch_idx], capacity[batch_idx]
    if block_mask is not None:
        _check_block_mask(block_mask, query, key)
    arguments = manager, query, key, value, score_mod, block_mask, scale, return_lse, table, causal
    lens = capacity if kv_len is None else _lens("kv_len", kv_len, capacity)
    if lens.device.type != "cpu":
        return _run(*arguments, _clipped(lens, capacity, block_mask))
    try:
        return _run(*arguments, lens)
    except (IndexError, ValueError):
        clipped = _clipped(lens, capacity, block_mask)
        if torch.equal(clipped, lens):
            raise
    return _run(*arguments, clipped)


def _clipped(lens, capacity, block_mask):
    """[B] lengths without what is not reserved, or not covered by the mask."""
    lens = torch.minimum(lens, capacity)
    return lens if block_mask is None else lens.clamp(max=block_mask.seq_lengths[1])


def _run(manager, query, key, value, score_mod, block_mask, scale, return_lse, table, causal, lens):
    B, H, Q, _ = query.shape
    out = _empty_out(query, value.shape[-1])
    rows = _rows(out)
    result = folio.attention(
        _rows(query if query.stride(-1) == 1 else query.contiguous()), key, value, layout="FLAT",
        page_size=manager.page_size, page_table=table, kv_lens=lens,
        q_indptr=None if Q == 1 else Q * torch.arange(B + 1, device=lens.device), max_q_len=Q, causal=causal,
        scale=scale, score_mod=score_mod, block_mask=block_mask, out=rows, return_lse=return_lse)
    if out.device.type != "cpu" and rows.data_ptr() != out.data_ptr():
        out.copy_(rows.view(B, Q, H, -1).transpose(1, 2))
    return (out, result[1].view(B, Q, H).transpose(1, 2).contiguous()) if return_lse else out


paged_attention = torch.compiler.disable(_attend)


def _empty_out(query, dim):
    """[B, H, Q, dim] with dims in memory in the order of the query's, as torch's flex_attention gives them."""
    B, H, Q, _ = query.shape
    by_token = not query.is_contiguous() and query.transpose(1, 2).is_contiguous()
    return query.new_empty((B, Q, H, dim)).transpose(1, 2) if by_token else query.new_empty((B, H, Q, dim))


def _rows(x):
    """[B, H, Q, D] as folio takes it: [B, Q, H, D] in place; on a GPU [B * Q, H, D], copied where that is no view."""
    x = x.transpose(1, 2)
    return x if x.device.type == "cpu" else x.reshape(-1, *x.shape[2:])


def _shorter(a, b):
    return b if a is None else a if b is None else torch.minimum(a, b)


def _lens(name, lens, like):
    """[B] lengths, as like [B] has them: int64 on its device."""
    if (type(lens) is torch.Tensor and lens.dtype is like.dtype and lens.shape == like.shape
            and lens.device == like.device):
        return lens
    lens = lens if isinstance(lens, torch.Tensor) else torch.as_tensor(lens, device=like.device)
    if lens.shape != like.shape:
        raise ValueError(f"{name}: shape {tuple(lens.shape)}; must be {tuple(like.shape)}, one for each of the batch")
    if lens.is_floating_point() or lens.is_complex() or lens.dtype is torch.bool:
        raise TypeError(f"{name}: {lens.dtype}; must be int32 or int64")
    return lens.to(like.device, like.dtype)


def _check(query, key, enable_gqa):
    """The refusals of torch's flex_attention, in its words. query, key: shapes."""
    Hq, Hkv = query[-3], key[-3]
    if not enable_gqa and Hq != Hkv:
        raise ValueError(f"Expect query and key/value to have the same number of heads but got Hq={Hq} and Hkv={Hkv}. "
                         "Try setting enable_gqa=True for GQA.")
    if Hkv and Hq % Hkv:
        raise ValueError("Expect number of query heads to be a multiple of kv heads for GQA "
                         f"but got Hq={Hq} and Hkv={Hkv}.")
    if query[-1] != key[-1]:
        raise ValueError("Expect query and key/value to have the same embedding dimension "
                         f"but got E={query[-1]} and E={key[-1]}.")


def _check_block_mask(block_mask, query, key):
    if block_mask.seq_lengths[0] != query.shape[-2]:
        raise ValueError(f"block_mask was created for block_mask.shape={tuple(block_mask.shape)} but got "
                         f"q_len={query.shape[-2]} and kv_len={key.shape[-2]}. "
                         "You likely need to create a new block mask.")
