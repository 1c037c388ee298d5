# SPDX-License-Identifier: Apache-2.0
"""ejKernel's page_attention, on a CPU: change the import and keep the call.

    from folio.compat.ejkernel import page_attention

JAX, NumPy or PyTorch arrays; under jax.jit too. What differs from the original is in docs/compat.md.
"""
import operator
import re
import sys

import folio

__all__ = ["DEFAULT_MASK_VALUE", "page_attention"]

_NAMES = {"q": "query", "k_pages": "key_cache", "v_pages": "value_cache", "kv_lens": "context_lens",
          "page_table": "block_tables", "scale": "attn_scale", "max_kv_len": "max_context_len"}  # folio's: ejKernel's
_NAME = re.compile(rf"\b({'|'.join(_NAMES)})\b")

DEFAULT_MASK_VALUE = -0.7 * 3.4028234663852886e38  # as the original's; see mask_value


def page_attention(
    query, key_cache, value_cache, context_lens, block_tables, attn_scale=None, max_context_len=None, num_splits=0, *,
    mask_value=DEFAULT_MASK_VALUE, attn_logits_soft_cap=None, pages_per_compute_block=None, megacore_mode=None,
    inline_seq_dim=True, sliding_window=None, layout="HND",
):
    """One query row of each sequence over its paged K and V: [num_seqs, num_heads, head_dim] of query's dtype.

    query                   [num_seqs, num_heads, head_dim] float32, float16, bfloat16; num_heads a multiple of
                            num_kv_heads
    key_cache, value_cache  [num_blocks, num_kv_heads, block_size, head_dim] (layout "HND"), query's dtype
    context_lens            [num_seqs] int32 or int64, tokens to attend; 0 gives zeros
    block_tables            [num_seqs, max_blocks] int32 or int64; entries past ceil(context_len / block_size) may be
                            anything
    attn_scale              None = 1 / sqrt(head_dim)
    max_context_len         None = max_blocks * block_size, also under jit; a longer sequence is an error
    num_splits              0 = automatic, 1 = one part, n = at least n; the result is the same but for rounding
    mask_value              a number; accepted, but a masked key contributes exactly nothing
    attn_logits_soft_cap    c > 0: scores become c * tanh(score / c); None or 0 = off
    pages_per_compute_block any int >= 1: a hint, without effect
    megacore_mode           None, "kv_head" or "batch": two cores of a TPU; without effect
    inline_seq_dim          without effect
    sliding_window          W >= 1: the newest W keys of each sequence; None = all
    layout                  "HND"; "NHD" [num_blocks, block_size, num_kv_heads, head_dim]; "HPD" [num_kv_heads,
                            num_blocks, block_size, head_dim], the axes that the original's annotation names

    Raises TypeError, ValueError, IndexError (a block out of range, a length beyond the table). Under jax.jit these
    come as JAX's runtime error where only the values show them, with folio's names for the arguments; scale, cap,
    window and the numbers must be constants.
    """
    _check_hints(mask_value, pages_per_compute_block, megacore_mode, inline_seq_dim)
    options = {
        "scale": attn_scale,
        "softcap": _soft_cap(attn_logits_soft_cap),
        "window": _window(sliding_window),
        "max_kv_len": 0 if max_context_len is None else _int("max_context_len", max_context_len, 1),
        "num_splits": _int("num_splits", num_splits, 0),
    }
    key_cache, value_cache, options["layout"], options["page_size"] = _pages(key_cache, value_cache, layout)
    arrays = query, key_cache, value_cache
    attention = _attention(*arrays, context_lens, block_tables)
    try:
        return attention(*arrays, kv_lens=context_lens, page_table=block_tables, **options)
    except (TypeError, ValueError, IndexError) as error:
        if type(error) not in (TypeError, ValueError, IndexError):
            raise
        raise type(error)(_NAME.sub(lambda name: _NAMES[name[0]], str(error))) from error


def _attention(*arrays):
    """folio's door for these arrays: the traced one where one of them is traced."""
    if not any(map(_is_traced, arrays)):
        return folio.attention
    from folio.jax import attention
    return attention


def _is_traced(value):
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(value, jax.core.Tracer)


def _int(name, value, least):
    if _is_traced(value):
        raise TypeError(f"{name}: a traced value; pass a Python int, or name it in static_argnames of jax.jit")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: {value!r}; must be an int >= {least}") from None
    if number < least:
        raise ValueError(f"{name}: {number}; must be >= {least}")
    return number


def _window(sliding_window):
    return (-1, -1) if sliding_window is None else (_int("sliding_window", sliding_window, 1) - 1, 0)


def _soft_cap(cap):
    if cap is None:
        return 0.0
    if _is_traced(cap):
        raise TypeError("attn_logits_soft_cap: a traced value; pass a Python number")
    if not 0 <= cap < float("inf"):
        raise ValueError(f"attn_logits_soft_cap: {cap}; must be None or finite and >= 0")
    return float(cap)


def _check_hints(mask_value, pages_per_compute_block, megacore_mode, inline_seq_dim):
    """What has no effect here must still be what the original takes."""
    if not _is_traced(mask_value):
        float(mask_value)
    if pages_per_compute_block is not None:
        _int("pages_per_compute_block", pages_per_compute_block, 1)
    if megacore_mode not in (None, "kv_head", "batch"):
        raise ValueError(f"megacore_mode: {megacore_mode!r}; must be None, 'kv_head' or 'batch'")
    if not isinstance(inline_seq_dim, bool):
        raise TypeError(f"inline_seq_dim: {inline_seq_dim!r}; must be a bool")


def _pages(key_cache, value_cache, layout):
    """(keys, values, layout, page_size) as folio takes them; nothing is copied."""
    if layout not in ("HND", "NHD", "HPD"):
        raise ValueError(f"layout: {layout!r}; must be 'HND', 'NHD' or 'HPD'")
    if layout != "HPD":
        return key_cache, value_cache, layout, None
    caches = []
    for name, cache in (("key_cache", key_cache), ("value_cache", value_cache)):
        if len(cache.shape) != 4:
            raise ValueError(f"{name}: {len(cache.shape)} dims; must have 4")
        heads, blocks, size, dim = cache.shape
        caches.append(cache.reshape((1, heads, blocks * size, dim)))
    return *caches, "FLAT", key_cache.shape[2]
