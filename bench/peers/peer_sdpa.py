# SPDX-License-Identifier: Apache-2.0
"""PyTorch's scaled_dot_product_attention: contiguous K and V [B, H, kv, D], no pages."""
import harness
from with_torch import output, set_up, tensor

options = harness.arguments()
torch = set_up(options.threads)


def prepare(case, kind, q, k, v, n_layers):
    q, k, v = (tensor(x, kind).transpose(1, 2).contiguous() for x in (q, k, v))
    copies = [(k.clone(), v.clone()) for _ in range(n_layers)]
    how = {"scale": harness.SCALE, "enable_gqa": True}
    if case.q_len == case.kv_len:
        how["is_causal"] = True
    elif case.q_len > 1:
        ones = torch.ones(case.q_len, case.kv_len, dtype=torch.bool)
        how["attn_mask"] = ones.tril(case.kv_len - case.q_len)
    last = []

    def run(i):
        last[:] = [torch.nn.functional.scaled_dot_product_attention(q, *copies[i], **how)]

    return harness.Ready(run, lambda: output(last[0].transpose(1, 2)), note="no pages")


harness.run(f"PyTorch {torch.__version__} SDPA", ["bf16", "f32"], prepare, options)
