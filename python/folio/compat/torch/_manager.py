# SPDX-License-Identifier: Apache-2.0
"""PagedAttention: PyTorch's page manager over folio.Cache.

    reserve, erase ──► folio.Cache (LIFO, page 0 in use) ──► page_table, capacity, physical_to_logical: tensors on the
                                                             device, written in place, so that mods see them change
    assign ──────────► Cache.slots ──► folio.append
    forward ─────────► _flex.paged_attention ──► folio.attention, in logical indices

    n_pages 8, page_size 4                 page_table            physical_to_logical      empty_pages
    reserve(0, 9)                     row 0  2  1  0 -1 ...        2  1  0 -1 -1 ...      7 6 5 4 3
"""
import folio
import torch
from folio.compat.torch import _flex
from torch.nn.attention.flex_attention import BlockMask, _identity, noop_mask


class OutOfPagesError(folio.NoPagesError, AssertionError):
    """reserve() asked for more pages than are empty. An AssertionError too, as PyTorch's class raises."""


class PagedAttention:
    """Which pages of a flat K and V cache [1, H, n_pages * page_size, D] belong to which row of a batch.

    n_pages          pages in the pool, page 0 included
    page_size        tokens a page
    max_batch_size   rows
    device           of the tensors below; None = cuda where there is one, else cpu

    page_table            [max_batch_size, n_pages] int64: logical page -> physical page, -1 = none
    capacity              [max_batch_size] int64: tokens reserved
    physical_to_logical   [max_batch_size, n_pages] int64: the inverse of page_table, -1 = not this row's
    empty_pages           list of int: the free pages; the last are handed out first

    The tensors are for reading: the pages themselves are kept by a folio.Cache. A call that raises has changed nothing.
    """

    def __init__(self, n_pages, page_size, max_batch_size, device=None):
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.n_pages, self.page_size = n_pages, page_size
        self._cache = folio.Cache(n_pages, page_size, max_batch_size, lifo=True, use_page_0=True)
        self._seqs = [self._cache.open() for _ in range(max_batch_size)]
        self._n_reserved = [0] * max_batch_size  # pages a row has: capacity, on the host
        self.page_table = torch.full((max_batch_size, n_pages), -1, dtype=torch.int64, device=device)
        self._columns = self.page_table[:, :0]  # those in use: as many as the longest row has
        self.physical_to_logical = torch.full_like(self.page_table, -1)
        self.capacity = torch.zeros(max_batch_size, dtype=torch.int64, device=device)

    @property
    def empty_pages(self):
        """The free pages as a new list of ints, in the order of PyTorch's."""
        return self._cache.free_pages().tolist()

    def reserve(self, batch_idx, seq_len):
        """Give row batch_idx room for at least seq_len tokens; it never shrinks here.

        batch_idx, seq_len: tensors of one element, [1] or 0-d, or ints.
        Raises OutOfPagesError (all or nothing), IndexError (no such row).
        """
        row, = self._rows(batch_idx, one=True)
        before, seq_len = self._n_reserved[row], int(seq_len)
        if seq_len <= before * self.page_size:
            return
        try:
            self._cache.reserve(self._seqs[row], seq_len)
        except folio.NoPagesError as error:
            shortage = OutOfPagesError(
                f"requested {error.needed} pages but there are only {error.free} empty pages")
            shortage.needed, shortage.free, shortage.can_fit = error.needed, error.free, error.can_fit
            raise shortage from None
        after = -(-seq_len // self.page_size)
        columns = torch.arange(before, after, device="cpu")  # whatever the default device is
        slots = self._cache.slots(self._seqs[row:row + 1], (columns * self.page_size)[None])
        pages = (torch.from_numpy(slots)[0] // self.page_size).to(self.page_table.device)
        self.page_table[row, before:after] = pages
        self.physical_to_logical[row, pages] = columns.to(pages.device)
        self.capacity[row] = after * self.page_size
        self._n_reserved[row] = after
        self._columns = self.page_table[:, :max(self._n_reserved)]

    def erase(self, batch_idx):
        """Take the pages of the rows batch_idx [n] away. A row without pages is left as it is.

        Raises IndexError (no such row; a 0-d tensor, as PyTorch's class does).
        """
        if getattr(batch_idx, "ndim", 1) == 0:
            raise IndexError("batch_idx: 0-d; must be [n]")
        for row in self._rows(batch_idx):
            self._cache.truncate(self._seqs[row], 0)
            self.page_table[row] = -1
            self.physical_to_logical[row] = -1
            self.capacity[row] = 0
            self._n_reserved[row] = 0
        self._columns = self.page_table[:, :max(self._n_reserved, default=0)]

    def assign(self, batch_idx, input_pos, k_val, v_val, k_cache, v_cache):
        """Write new K and V to their places in the cache.

        batch_idx   [B]: rows
        input_pos   [B, S] ints: logical positions, all of them reserved
        k_val       [B, H, S, K_D] of any float dtype; v_val likewise with V_D
        k_cache     [1, H, n_pages * page_size, K_D] float32, float16, bfloat16; v_cache likewise with V_D

        Raises RuntimeError as PyTorch's class does; StateError, which is one, for a position that is not reserved.
        """
        _check_values(batch_idx, input_pos, k_val, v_val, k_cache, v_cache)
        seqs = [self._seqs[row] for row in self._rows(batch_idx)]
        positions = input_pos.to("cpu", torch.int64).contiguous()
        try:
            slots = self._cache.slots(seqs, positions)
        except IndexError as error:
            raise folio.StateError(f"input_pos: {error}") from None
        slots = torch.from_numpy(slots).view(-1).to(k_cache.device)
        folio.append(_by_token(k_val), _by_token(v_val), k_cache, v_cache, slots, "FLAT", page_size=self.page_size)

    def convert_logical_block_mask(self, block_mask, batch_idx=None, kv_len=None):
        """PyTorch's BlockMask in physical blocks, for torch's own flex_attention over the cache.

        block_mask   over logical blocks, kv_indices [B, H, rows, cols]; its key block is page_size
        batch_idx    [B]: the row of each batch entry; None = 0 .. B - 1
        kv_len       [B]: tokens to look at; None = all that is reserved

        Indices of blocks without a page are -1. folio.compat.torch.flex_attention knows where such a mask came from and
        goes by the logical one. Raises RuntimeError (another block size; B), IndexError (no such row).
        """
        B = block_mask.kv_indices.shape[0]
        if block_mask.BLOCK_SIZE[1] != self.page_size:
            raise RuntimeError("Expect block_mask has the same column block size as page_size"
                               f"but got size={block_mask.BLOCK_SIZE[1]} and size={self.page_size}")
        batch_idx = self._batch(batch_idx, B)
        table = self.page_table[batch_idx]
        full = block_mask.full_kv_num_blocks
        if full is not None and block_mask.full_kv_indices is None:
            raise AssertionError(
                "block_mask.full_kv_indices must not be None when full_kv_num_blocks is not None")
        converted = BlockMask.from_kv_blocks(
            block_mask.kv_num_blocks.clone(),
            self._physical(table, block_mask.kv_indices),
            None if full is None else full.clone(),
            None if full is None else self._physical(table, block_mask.full_kv_indices),
            block_mask.BLOCK_SIZE,
            self.get_mask_mod(block_mask.mask_mod, kv_len, batch_idx),
            seq_lengths=(block_mask.seq_lengths[0], self.n_pages * self.page_size),
        )
        converted.folio_source = _flex.Source(self, block_mask, batch_idx, kv_len)
        return converted

    def get_mask_mod(self, mask_mod, kv_len=None, batch_idx=None):
        """mask_mod(b, h, q_idx, kv_idx) of logical positions as one of physical positions; None keeps the row's.

        Keys of other rows' pages, and those at or past kv_len[b], are dropped. Pages are looked up in row batch_idx[b],
        or b; kv_len stays by batch position.
        """
        mask_mod = noop_mask if mask_mod is None else mask_mod

        def physical_mask_mod(b, h, q_idx, physical_kv_idx):
            kv_idx, is_live = self._logical(b, physical_kv_idx, kv_len, batch_idx)
            return torch.where(is_live, mask_mod(b, h, q_idx, kv_idx), False)

        return physical_mask_mod

    def get_score_mod(self, score_mod, kv_len=None, batch_idx=None):
        """score_mod(score, b, h, q_idx, kv_idx) likewise; dropped keys score -inf."""
        logical_mod = _identity if score_mod is None else score_mod

        def physical_score_mod(score, b, h, q_idx, physical_kv_idx):
            kv_idx, is_live = self._logical(b, physical_kv_idx, kv_len, batch_idx)
            return torch.where(is_live, logical_mod(score, b, h, q_idx, kv_idx), float("-inf"))

        physical_score_mod.folio_source = _flex.Source(self, score_mod, batch_idx, kv_len)
        return physical_score_mod

    def forward(self, query, k_cache, v_cache, kv_lens, block_mask=None, batch_indices=None, score_mod=None, scale=None,
                enable_gqa=False):
        """Attention over the pages: [B, H, Q_LEN, V_D].

        query           [B, H, Q_LEN, D]
        k_cache         [1, Hkv, n_pages * page_size, D]; v_cache likewise with V_D
        kv_lens         [B]: tokens to look at; what is not reserved is not there
        block_mask      logical; None = query i sees keys 0 .. i
        batch_indices   [B]: the row of each batch entry; None = 0 .. B - 1
        score_mod       over logical positions
        scale           None = 1 / sqrt(D)
        enable_gqa      allow H to be a multiple of Hkv

        Raises ValueError as torch's flex_attention does.
        """
        return _flex.paged_attention(self, query, k_cache, v_cache, score_mod, block_mask, scale, enable_gqa, False,
                                     kv_lens, batch_indices, "top_left" if block_mask is None else None)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _rows(self, batch_idx, one=False):
        """Row numbers as ints, all of them rows there are."""
        rows = batch_idx.reshape(-1).tolist() if isinstance(batch_idx, torch.Tensor) else batch_idx
        rows = [rows] if isinstance(rows, int) else list(rows)
        if one and len(rows) != 1:
            raise ValueError(f"batch_idx: {len(rows)} rows; must be one")
        for i, row in enumerate(rows):
            if not 0 <= row < len(self._seqs):
                raise IndexError(f"batch_idx[{i}] {row}: must be 0 .. {len(self._seqs) - 1}")
        return rows

    def _batch(self, batch_idx, n):
        """[n] row numbers on the device."""
        if batch_idx is None:
            batch_idx = torch.arange(n, device=self.page_table.device)
        if batch_idx.shape != (n,):
            raise RuntimeError(f"Expect batch_idx to have one row for each of the batch "
                               f"but got shape {tuple(batch_idx.shape)} and B={n}")
        if batch_idx.device.type == "cpu":  # on a device, the lookup itself judges
            self._rows(batch_idx)
        return batch_idx.to(self.page_table.device, torch.int64)

    def _physical(self, table, indices):
        """Block indices [B, H, rows, cols] -> pages [B, H, rows, n_pages] int32, behind cols 0. table [B, n_pages]."""
        B, H, rows, cols = indices.shape
        pages = torch.zeros((B, H, rows, self.n_pages), dtype=torch.int32, device=indices.device)
        pages[..., :cols] = table.gather(1, indices.reshape(B, -1).to(torch.int64)).view(indices.shape)
        return pages

    def _logical(self, b, physical_kv_idx, kv_len, batch_idx):
        """(logical position, is it one of b's keys)."""
        page, position = physical_kv_idx // self.page_size, physical_kv_idx % self.page_size
        block = self.physical_to_logical[b if batch_idx is None else batch_idx[b], page]
        kv_idx = block * self.page_size + position
        is_live = block >= 0
        return kv_idx, is_live if kv_len is None else is_live & (kv_idx < kv_len[b])


def _by_token(values):
    """[B, H, S, D] -> [B * S, H, D]; a view where it can be one."""
    B, H, S, D = values.shape
    return values.transpose(1, 2).reshape(B * S, H, D)


def _check_values(batch_idx, input_pos, k_val, v_val, k_cache, v_cache):
    """The refusals of PyTorch's class, in its words."""
    if k_val.requires_grad or v_val.requires_grad:
        raise RuntimeError("val must not require gradient")
    B, H, S, K_D = k_val.shape
    if v_val.shape[:3] != (B, H, S):
        raise RuntimeError(f"Expect k_val and v_val has the same batch size, heads and length but got "
                           f"{tuple(k_val.shape[:3])} and {tuple(v_val.shape[:3])}.")
    V_D = v_val.shape[3]
    for what, name, got, has in (
        ("val and batch_idx have the same batch size", "B", B, batch_idx.shape[0]),
        ("val and cache has the same number of heads", "H", H, k_cache.shape[1]),
        ("val and input_pos has the same length", "S", S, input_pos.shape[1]),
        ("val and input_pos have the same batch size", "B", B, input_pos.shape[0]),
        ("k_val and k_cache has the same hidden dim", "D", K_D, k_cache.shape[3]),
        ("v_val and v_cache has the same hidden dim", "D", V_D, v_cache.shape[3]),
    ):
        if got != has:
            raise RuntimeError(f"Expect {what} but got {name}={got} and {name}={has}.")
