# SPDX-License-Identifier: Apache-2.0
"""folio.attention and folio.append under torch.compile: the operators folio::attention and folio::append.

torch.compile can't look into C. When it is first used (torch._dynamo is imported), folio tells it what to put into the
graph instead of folio.attention and folio.append: two operators with fake kernels, whose real kernels call the C
functions. Eager calls go to C at once and never come here.

In a compiled function
  - lengths and indices may be tensors or lists of ints; max_q_len, layout and other options must be constants
  - score_mod and mask_mod are texts, with captures of tensors; callables, Mod and block masks are a TypeError: compile
    around them, or make a plan outside
  - out= and lse= are filled from new tensors; stream= is a TypeError: work goes to the current stream
"""
import inspect

import torch
from torch import Tensor

import folio


@torch.library.custom_op("folio::append", mutates_args=("k_pages", "v_pages"))
def append_op(k: Tensor, v: Tensor, k_pages: Tensor, v_pages: Tensor, slots: Tensor, layout: str,
              page_size: int | None, k_scale: Tensor | None, v_scale: Tensor | None) -> None:
    folio.append(k, v, k_pages, v_pages, slots, layout, page_size=page_size, k_scale=k_scale, v_scale=v_scale)


@append_op.register_fake
def _(k, v, k_pages, v_pages, slots, layout, page_size, k_scale, v_scale):
    return None


def attend(
        q: Tensor, k_pages: Tensor, v_pages: Tensor, kv_lens: Tensor, page_table: Tensor | None,
        v_page_table: Tensor | None, kv_indptr: Tensor | None, kv_indices: Tensor | None, q_indptr: Tensor | None,
        layout: str, page_size: int | None, causal: str | None, align: str | None, scale: float | None,
        window_left: int, window_right: int, softcap: float, alibi_slopes: Tensor | None, sinks: Tensor | None,
        mask: Tensor | None, bias: Tensor | None, score_mod: str | None, mask_mod: str | None, capture_names: str,
        captures: list[Tensor], k_scale: Tensor | None, v_scale: Tensor | None, return_lse: bool, max_q_len: int,
        max_kv_len: int, cascade: bool, num_splits: int, num_threads: int, backend: str) -> tuple[Tensor, Tensor]:
    names = capture_names.split(",") if capture_names else []
    result = folio.attention(
        q, k_pages, v_pages, kv_lens=kv_lens, page_table=page_table, v_page_table=v_page_table,
        kv_indptr=kv_indptr, kv_indices=kv_indices, q_indptr=q_indptr, layout=layout, page_size=page_size,
        causal=causal, align=align, scale=scale, window=(window_left, window_right), softcap=softcap,
        alibi_slopes=alibi_slopes, sinks=sinks, mask=mask, bias=bias, score_mod=score_mod, mask_mod=mask_mod,
        captures=dict(zip(names, captures)) or None, k_scale=k_scale, v_scale=v_scale, return_lse=return_lse,
        max_q_len=max_q_len, max_kv_len=max_kv_len, cascade=cascade, num_splits=num_splits,
        num_threads=num_threads, backend=backend)
    return result if return_lse else (result, q.new_empty(0, dtype=torch.float32))


attention_op = torch.library.custom_op("folio::attention", attend, mutates_args=())
_ATTEND = inspect.signature(attend)


@attention_op.register_fake
def _(*args, **keywords):
    given = _ATTEND.bind(*args, **keywords).arguments
    q, v_pages = given["q"], given["v_pages"]
    n_tokens = q.shape[0] if q.dim() == 3 else q.shape[0] * q.shape[1]
    return (q.new_empty(*q.shape[:-1], v_pages.shape[-1]),
            q.new_empty((n_tokens, q.shape[-2]) if given["return_lse"] else (0,), dtype=torch.float32))


def indices(value):
    return torch.tensor(value, dtype=torch.int64) if isinstance(value, (list, tuple)) else value


def text(name, value):
    if value is None or isinstance(value, str):
        return value
    raise TypeError(f"{name}: under torch.compile it must be a text")


@torch.compiler.substitute_in_graph(folio.append, skip_signature_check=True)
def append(k, v, k_pages, v_pages, slots, layout="NHD", *, page_size=None, k_scale=None, v_scale=None):
    torch.ops.folio.append(k, v, k_pages, v_pages, indices(slots), layout, page_size, k_scale, v_scale)


@torch.compiler.substitute_in_graph(folio.attention, skip_signature_check=True)
def attention(q, k_pages, v_pages, *, kv_lens, page_table=None, v_page_table=None, kv_indptr=None,
              kv_indices=None, q_indptr=None, layout="NHD", page_size=None, causal=None, align=None, scale=None,
              window=(-1, -1), softcap=0.0, alibi_slopes=None, sinks=None, mask=None, bias=None, score_mod=None,
              mask_mod=None, block_mask=None, captures=None, k_scale=None, v_scale=None, out=None, lse=None,
              return_lse=False, max_q_len=0, max_kv_len=0, cascade=False, num_splits=0, num_threads=0,
              stream=None, backend="auto"):
    if block_mask is not None:
        raise TypeError("block_mask: not under torch.compile; make a plan outside")
    if stream is not None:
        raise TypeError("stream: not under torch.compile; it works on the current one")
    captures = captures or {}
    wants_lse = return_lse or lse is not None
    new_out, new_lse = torch.ops.folio.attention(
        q, k_pages, v_pages, indices(kv_lens), indices(page_table), indices(v_page_table), indices(kv_indptr),
        indices(kv_indices), indices(q_indptr), layout, page_size, causal, align, scale, window[0], window[1],
        softcap, alibi_slopes, sinks, mask, bias, text("score_mod", score_mod), text("mask_mod", mask_mod),
        ",".join(captures), list(captures.values()), k_scale, v_scale, wants_lse, max_q_len, max_kv_len, cascade,
        num_splits, num_threads, backend)
    if out is not None:
        out.copy_(new_out)
        new_out = out
    if lse is not None:
        lse.copy_(new_lse)
        new_lse = lse
    return (new_out, new_lse) if return_lse else new_out
