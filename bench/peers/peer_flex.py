# SPDX-License-Identifier: Apache-2.0
"""PyTorch's flex_attention, compiled, over its own PagedAttention with pages of 128."""
import harness
from with_torch import output, set_up, tensor

options = harness.arguments()
torch = set_up(options.threads)
import torch._functorch.config  # noqa: E402
import torch._inductor.config  # noqa: E402
from torch.nn.attention.experimental._paged_attention import PagedAttention  # noqa: E402
from torch.nn.attention.flex_attention import create_block_mask, flex_attention  # noqa: E402

PAGE = 128
# The compiler tries each instruction set in a process of its own, which can't load a torch without its CUDA libraries.
torch._inductor.config.cpp.vec_isa_ok = True
# Its cache on disk doesn't know how many threads a kernel was made for, and one made for fewer writes past its buffers.
torch._inductor.config.fx_graph_cache = False
torch._functorch.config.enable_autograd_cache = False


def cache(case, kind, k, v, n_layers):
    """(manager, [(K, V)]): [1, H, pages * PAGE, D] each."""
    n = case.batch * case.kv_len
    manager = PagedAttention(n // PAGE, PAGE, case.batch, device="cpu")
    for b in range(case.batch):
        manager.reserve(torch.tensor(b), torch.tensor(case.kv_len))
    positions = torch.arange(case.kv_len).expand(case.batch, case.kv_len).contiguous()
    pools = []
    for _ in range(n_layers):
        pools.append([torch.zeros(1, harness.KV_HEADS, n, harness.DIM, dtype=k.dtype) for _ in range(2)])
        manager.assign(torch.arange(case.batch), positions, k, v, *pools[-1])
    return manager, pools


def prepare(case, kind, q, k, v, n_layers):
    q, k, v = (tensor(x, kind).transpose(1, 2).contiguous() for x in (q, k, v))
    manager, pools = cache(case, kind, k, v, n_layers)
    behind = case.kv_len - case.q_len
    mask = create_block_mask(lambda b, h, i, j: j <= i + behind, case.batch, None, case.q_len, case.kv_len,
                             device="cpu", BLOCK_SIZE=PAGE)
    how = {"block_mask": manager.convert_logical_block_mask(mask), "score_mod": manager.get_score_mod(None),
           "enable_gqa": True, "scale": harness.SCALE}
    torch._dynamo.reset()
    compiled = torch.compile(flex_attention, dynamic=False)
    last = []

    def run(i):
        last[:] = [compiled(q, *pools[i], **how)]

    try:
        run(0)
    except Exception as error:  # the compiler's own, many kinds
        raise harness.Unsupported(f"{type(error).__name__}: {error}".splitlines()[0][:160]) from error
    return harness.Ready(run, lambda: output(last[0].transpose(1, 2)), PAGE)


harness.run(f"PyTorch {torch.__version__} flex, paged", ["bf16"], prepare, options)
