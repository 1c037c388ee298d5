# SPDX-License-Identifier: Apache-2.0
"""PyTorch callables as mods: translated, called tile by tile, and in PyTorch's own flex_attention: one answer."""
import gc

import folio
import pytest
import torch
from folio import _mods
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from torch_mods import (
    BIAS,
    CAP,
    DOC,
    HEADS,
    LIMIT,
    PREFIX,
    SLOPES,
    TABLE,
    attend,
    of_arrays,
    problem,
    same,
    way,
)


def make_scores():
    nested_slopes = SLOPES * 2

    def outer(scale):
        def inner(x):
            return x * scale + nested_slopes[0]
        return inner

    helper = outer(0.5)

    def alibi(score, b, h, q, kv):
        return score + SLOPES[h] * (kv - q)

    def softcap(score, b, h, q, kv):
        return CAP * torch.tanh(score / CAP)

    def relative(score, b, h, q, kv):
        return score + (q - kv)

    def masked(score, b, h, q, kv):
        return torch.where((kv % 2 == 0) | (q - kv < LIMIT), score, -float("inf"))

    def captured_bias(score, b, h, q, kv):
        return score + BIAS[b, h, q, kv] + BIAS[0][h][0, kv]

    def negative(score, b, h, q, kv):
        return score + SLOPES[-h - 1] * SLOPES[-1]

    def half(score, b, h, q, kv):
        return score + BIAS.bfloat16()[b, h, q, kv] + SLOPES.half()[h]

    def of_doubles(score, b, h, q, kv):
        return score + SLOPES.double()[h] * PREFIX.to(torch.int16)[b]

    def derived(score, b, h, q, kv):
        return score + (SLOPES * 2).exp()[h] + BIAS[1:, :, 2].transpose(0, 1)[h, 0, kv]

    def closures(score, b, h, q, kv):
        return helper(score)

    def exponent(score, b, h, q, kv):
        return score + torch.exp2(-((h + 1) * 8.0 / HEADS)) * (kv - q)

    def buckets(score, b, h, q, kv):
        distance = torch.clamp(kv - q, min=0)
        far = 16 + (torch.log(distance.clamp(min=16).float() / 16) * 8).to(torch.int64)
        return score + TABLE[h, torch.where(distance < 16, distance, torch.minimum(far, torch.tensor(31)))]

    def bits(score, b, h, q, kv):
        return score + ((q & 3) | (kv ^ 5)).float() * 0.01 + (~q) % 3 + (q << 1) // 3 + (kv >> 2)

    def numbers(score, b, h, q, kv):
        x = torch.maximum(q, torch.tensor(3)) + (1 - q) + q / 2 - torch.remainder(kv, 5) ** 2
        return score.abs() ** 1.5 + x * torch.tensor(0.01) - torch.sigmoid(score) + score.sin() * score.cos()

    def rounding(score, b, h, q, kv):
        return torch.floor(score) + torch.ceil(score / 2) + torch.trunc(score) + torch.div(kv, 3, rounding_mode="trunc")

    def signs(score, b, h, q, kv):
        return torch.sign(score) * torch.sqrt(score.abs() + 1) * torch.rsqrt(kv + 1.0) - torch.relu(score) + (-kv).abs()

    def logic(score, b, h, q, kv):
        keep = torch.logical_and(kv > 3, torch.logical_not(q == kv)) ^ (kv < q)
        return torch.where(keep, score, score.new_full((), -2.0)) + keep.int() + torch.zeros_like(score)

    def unchanged(score, b, h, q, kv):
        return score

    return [v for v in locals().values() if callable(v) and v.__name__ not in ("inner", "outer")]


def make_masks():
    def causal(b, h, q, kv):
        return q >= kv

    def window(b, h, q, kv):
        return (kv <= q + 20) & (q - kv < LIMIT)

    def documents(b, h, q, kv):
        return DOC[b, kv] == DOC[b, q]

    def prefix(b, h, q, kv):
        return (kv < PREFIX[b]) | (kv <= q)

    def dilated(b, h, q, kv):
        return (q + kv) % 3 == 0

    def everything(b, h, q, kv):
        return b.new_ones((), dtype=torch.bool)

    def number(b, h, q, kv):
        return kv - q

    def of_composition(b, h, q, kv):
        return prefix(b, h, q, kv) & ~documents(b, h, q, kv)

    return list(locals().values())


SCORES = {f.__name__: f for f in make_scores()}
MASKS = {f.__name__: f for f in make_masks()}


@pytest.mark.parametrize("name", SCORES)
def test_scores(name):
    function, p = SCORES[name], problem()
    for mod in (function, _mods.Tiles(function)):
        same(p, attend(p, score_mod=mod, causal="bottom_right"), score_mod=of_arrays(function), causal="bottom_right")
    assert way(p, "score_mod", score_mod=function).startswith("traced by torch to a text:\n")


@pytest.mark.parametrize("name", MASKS)
def test_masks(name):
    function, p = MASKS[name], problem()
    want = of_arrays(lambda *a: function(*a) != 0)
    for mod in (function, _mods.Tiles(function)):
        same(p, attend(p, mask_mod=mod), mask_mod=want)
    assert way(p, "mask_mod", mask_mod=function).startswith("traced by torch to a text:\n")


# -- beside flex_attention -------------------------------------------------------------------------------------------


def dense(seed, batch=2, heads=(4, 4), n=96, d=16):
    """The same problem in flex_attention's tensors [B, H, n, d] and in pages."""
    g = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(batch, h, n, d, generator=g) for h in (heads[0], heads[1], heads[1]))
    pages = [x.transpose(1, 2).reshape(batch * n // 16, 16, heads[1], d).contiguous() for x in (k, v)]
    rows = q.transpose(1, 2).reshape(batch * n, heads[0], d).contiguous()
    keywords = {"kv_lens": [n] * batch, "page_table": torch.arange(batch * n // 16).view(batch, -1),
                "q_indptr": [n * i for i in range(batch + 1)]}
    return (q, k, v), (rows, *pages), keywords


@pytest.mark.parametrize("heads", [(4, 4), (4, 2)])
@pytest.mark.parametrize("name", ["alibi", "softcap", "relative", "masked", "exponent", "buckets", "derived"])
def test_flex_attention_agrees(name, heads):
    torch_arrays, arrays, keywords = dense(2, heads=heads, n=80)

    def score_mod(score, b, h, q, kv):
        return SCORES[name](score, b, h, q % 9, kv)

    want = flex_attention(*torch_arrays, score_mod=score_mod, enable_gqa=heads[0] != heads[1])
    got = folio.attention(*arrays, **keywords, score_mod=score_mod).view(2, 80, heads[0], 16).transpose(1, 2)
    assert torch.allclose(got, want, atol=3e-5), (got - want).abs().max()


@pytest.mark.parametrize("block", [128, 32, (64, 16)])
@pytest.mark.parametrize("name", MASKS)
def test_block_masks_of_torch(name, block):
    """create_block_mask's object, its own sizes whatever the page size."""
    torch_arrays, arrays, keywords = dense(3, n=80)
    function = MASKS[name]
    block_mask = create_block_mask(lambda b, h, q, kv: function(b, h, q, kv) != 0, 2, None, 80, 80, device="cpu",
                                   BLOCK_SIZE=block)
    assert isinstance(block_mask, BlockMask)
    want = flex_attention(*torch_arrays, block_mask=block_mask)
    plan = folio.plan(*arrays, **keywords, block_mask=block_mask)
    del block_mask
    gc.collect()
    got = plan.run(*arrays).view(2, 80, 4, 16).transpose(1, 2)
    assert torch.allclose(got, want, atol=2e-5)


def test_block_mask_of_other_sizes_is_refused():
    _, arrays, keywords = dense(4, n=96)
    for sizes, words in (((3, None, 96, 96), "batch 3"), ((1, 3, 96, 96), "3 heads"), ((1, 1, 80, 96), "80 query rows"),
                         ((1, 1, 96, 80), "80 keys")):
        with pytest.raises(ValueError, match=f"block_mask.*{words}"):
            folio.attention(*arrays, **keywords, block_mask=create_block_mask(
                MASKS["causal"], *sizes, device="cpu", BLOCK_SIZE=16))
