# SPDX-License-Identifier: Apache-2.0
"""Paged attention: page tables, and exact attention over them, on any CPU.

    cache = folio.Cache(n_pages, page_size)        which pages belong to whom
    folio.append, gather, copy_pages               where K and V land
    folio.attention, folio.plan                    attention over pages
    folio.merge, pages_from_contiguous, explain

Arrays may be NumPy (with ml_dtypes' bfloat16), PyTorch, JAX, or anything with __dlpack__ or a buffer; results are of
the kind that was given. Errors are Python's own classes and the three below.
"""
from folio._ext import (
    Cache,
    DeviceError,
    NoPagesError,
    Plan,
    StateError,
    __version__,
    append,
    attention,
    copy_pages,
    explain,
    gather,
    merge,
    pages_from_contiguous,
    plan,
)
from folio import _torch_hook
from folio._mods import BlockMask, Mod

__all__ = [
    "BlockMask",
    "Cache",
    "DeviceError",
    "Mod",
    "NoPagesError",
    "Plan",
    "StateError",
    "__version__",
    "append",
    "attention",
    "copy_pages",
    "explain",
    "gather",
    "merge",
    "pages_from_contiguous",
    "plan",
]

_torch_hook.watch()
