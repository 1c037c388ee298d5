# SPDX-License-Identifier: Apache-2.0
"""PyTorch's PagedAttention as its users write it, in its two forms; only the import and the device are other."""
import torch
import torch.nn.functional as F
from folio.compat.torch import PagedAttention
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

torch.manual_seed(0)
device = "cpu"
BATCH_SIZE, NUM_HEADS, HEAD_DIM, PAGE_SIZE, N_PAGES, Q_LEN = 4, 6, 64, 16, 100, 12

paged = PagedAttention(n_pages=N_PAGES, page_size=PAGE_SIZE, max_batch_size=BATCH_SIZE, device=device)
k_cache, v_cache = torch.zeros(2, 1, NUM_HEADS, N_PAGES * PAGE_SIZE, HEAD_DIM, device=device)
kv_lengths = torch.randint(Q_LEN + 5, 80, (BATCH_SIZE,), device=device)
queries = torch.randn(BATCH_SIZE, NUM_HEADS, Q_LEN, HEAD_DIM, device=device)

# fill the rows, one after another
truth = []
for i in range(BATCH_SIZE):
    length = kv_lengths[i].item()
    k, v = torch.randn(2, 1, NUM_HEADS, length, HEAD_DIM, device=device)
    truth.append((k, v))
    batch_idx = torch.tensor([i], device=device)
    paged.reserve(batch_idx, torch.tensor([length], device=device))
    input_pos = torch.arange(0, length, device=device).unsqueeze(0)
    paged.assign(batch_idx=batch_idx, input_pos=input_pos, k_val=k, v_val=v, k_cache=k_cache, v_cache=v_cache)


def causal(b, h, q_idx, kv_idx):
    return q_idx >= kv_idx


# the first form: a logical mask and score mod, converted, in torch's own flex_attention
slopes = torch.tensor([2.0 ** -(h + 1) for h in range(NUM_HEADS)], device=device)


def alibi(score, b, h, q_idx, kv_idx):
    return score + slopes[h] * (kv_idx - q_idx)


mask = create_block_mask(causal, BATCH_SIZE, NUM_HEADS, Q_LEN, 80, device=device, BLOCK_SIZE=PAGE_SIZE)
physical = paged.convert_logical_block_mask(mask, kv_len=kv_lengths)
flex = torch.compile(flex_attention, backend="aot_eager")
biased = flex(queries, k_cache, v_cache, block_mask=physical, score_mod=paged.get_score_mod(alibi, kv_lengths))

# the second form: forward(), causal by itself
plain = paged.forward(query=queries, k_cache=k_cache, v_cache=v_cache, kv_lens=kv_lengths, scale=HEAD_DIM**-0.5)

worst = 0.0
for i, (k, v) in enumerate(truth):
    keep = torch.arange(Q_LEN)[:, None] >= torch.arange(k.shape[2])[None]
    distance = torch.arange(k.shape[2])[None] - torch.arange(Q_LEN)[:, None]
    bias = torch.zeros(keep.shape).masked_fill(~keep, float("-inf"))
    for got, added in ((plain, bias), (biased, bias + slopes[:, None, None] * distance)):
        want = F.scaled_dot_product_attention(queries[i:i + 1], k, v, attn_mask=added)
        worst = max(worst, (got[i] - want[0]).abs().max().item())
assert worst < 1e-5, worst

# a row goes, another takes its pages
paged.erase(torch.tensor([1], device=device))
paged.reserve(torch.tensor([1], device=device), torch.tensor([PAGE_SIZE], device=device))
assert (paged.physical_to_logical[1] >= 0).sum() == 1
print("PyTorch's PagedAttention over folio agrees with PyTorch: both forms,",
      kv_lengths.tolist(), f"tokens, {worst:.1e}")
