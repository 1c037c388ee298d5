# SPDX-License-Identifier: Apache-2.0
"""PyTorch's experimental PagedAttention, and flex_attention over its pages, on folio.

    from folio.compat.torch import PagedAttention, flex_attention

PagedAttention   the class of torch.nn.attention.experimental._paged_attention, with the forward() that others gave it
flex_attention   torch's own, with paged=, kv_len= and batch_idx=: the fast way, in folio's kernels

docs/compat.md says where they differ from the originals. `python -m folio.compat.torch --demo` shows them at work.
"""
from folio.compat.torch._flex import flex_attention
from folio.compat.torch._manager import OutOfPagesError, PagedAttention

__all__ = ["OutOfPagesError", "PagedAttention", "flex_attention"]
