# SPDX-License-Identifier: Apache-2.0
"""Causal attention over paged K and V as cuDNN frontend's users write it; only the import and the device are other."""
import math

import folio.compat.cudnn as cudnn
import torch

torch.manual_seed(42)
handle = cudnn.create_handle()
assert cudnn.backend_version() >= 90500

batch, heads, length, dim, block = 4, 12, 1024, 64, 64
scale = 1.0 / math.sqrt(dim)

# [batch, heads, length, dim] in the order batch, length, heads, dim in memory
shape, strides = (batch, heads, length, dim), (length * heads * dim, dim, heads * dim, 1)
q_array, k_array, v_array, o_array = (
    torch.randn(batch * length * heads * dim).half().as_strided(shape, strides) for _ in range(4))
rows_array, keys_array = (torch.full((batch, 1, 1, 1), length) for _ in range(2))


def cut(tensor):
    """[batch, heads, length, dim] -> blocks [n, heads, block, dim], table [batch, 1, n / batch, 1]."""
    n = length // block
    table = torch.linspace(0, batch * n - 1, batch * n, dtype=torch.int32).reshape(n, 1, batch, 1).transpose(0, 2)
    return torch.cat(tensor.clone().chunk(n, dim=2), dim=0), table


k_blocks, k_table_array = cut(k_array)
v_blocks, v_table_array = cut(v_array)

graph = cudnn.pygraph(io_data_type=cudnn.data_type.HALF, intermediate_data_type=cudnn.data_type.FLOAT,
                      compute_data_type=cudnn.data_type.FLOAT)
q, k, v = graph.tensor_like(q_array), graph.tensor_like(k_blocks), graph.tensor_like(v_blocks)
k_table, v_table = graph.tensor_like(k_table_array), graph.tensor_like(v_table_array)
rows, keys = graph.tensor_like(rows_array), graph.tensor_like(keys_array)
o, _ = graph.sdpa(name="sdpa", q=q, k=k, v=v, is_inference=True, attn_scale=scale, use_causal_mask=True,
                  use_padding_mask=True, seq_len_q=rows, seq_len_kv=keys, paged_attention_k_table=k_table,
                  paged_attention_v_table=v_table, paged_attention_max_seq_len_kv=length)
o.set_output(True).set_dim(shape).set_stride(strides)

graph.validate()
graph.build_operation_graph()
graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
graph.check_support()
graph.build_plans()

workspace = torch.empty(graph.get_workspace_size(), dtype=torch.uint8)
graph.execute({q: q_array, k: k_blocks, v: v_blocks, k_table: k_table_array, v_table: v_table_array, rows: rows_array,
               keys: keys_array, o: o_array}, workspace)
cudnn.destroy_handle(handle)

expected = torch.nn.functional.scaled_dot_product_attention(
    q_array.float(), k_array.float(), v_array.float(), is_causal=True, scale=scale)
torch.testing.assert_close(expected, o_array.float(), atol=5e-3, rtol=3e-3)
print("paged attention through cuDNN's calls agrees with PyTorch:", tuple(o_array.shape), o_array.dtype)
