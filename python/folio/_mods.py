# SPDX-License-Identifier: Apache-2.0
"""The places of two features to come: a user's own score and mask functions, and block masks."""


class Mod:
    """A score or mask function in folio's own small language: not there yet, NotImplementedError.

    text       one expression, such as "score - slopes[h] * f32(q - kv)"
    captures   the arrays it names, by name
    """

    def __init__(self, text, captures=None):
        raise NotImplementedError("Mod: score and mask functions are not there yet")


class BlockMask:
    """Which blocks of queries look at which blocks of keys, as PyTorch's BlockMask: not there yet, NotImplementedError.

    kv_num_blocks, kv_indices             [B, H, rows], [B, H, rows, cols]: blocks that mask_mod decides
    full_kv_num_blocks, full_kv_indices   likewise: blocks that are wholly kept
    block_size                            (queries, keys) a block
    mask_mod                              the mask within a block
    """

    def __init__(self, kv_num_blocks, kv_indices, full_kv_num_blocks, full_kv_indices, block_size, mask_mod=None):
        raise NotImplementedError("BlockMask: block masks are not there yet")
