# SPDX-License-Identifier: Apache-2.0
"""cuDNN frontend's scaled dot product attention with paged K and V, on any machine: import folio.compat.cudnn as cudnn.

    graph = cudnn.pygraph(io_data_type=cudnn.data_type.HALF)     a description: nothing is computed
    q = graph.tensor_like(q_array); ...                          shapes, strides, types
    o, stats = graph.sdpa(q=q, k=container_k, v=container_v, ...)
    o.set_output(True).set_dim(dims).set_stride(strides)
    graph.validate(); graph.build_operation_graph()
    graph.create_execution_plans([cudnn.heur_mode.A]); graph.check_support()
    graph.build_plans()                                          one folio plan
    graph.execute({q: q_array, ..., o: o_array}, workspace)      arrays by tensor, as often as wanted

Arrays are NumPy's (ml_dtypes' bfloat16 too) or PyTorch's, on a CPU or on a CUDA device. What sdpa() does not do raises
cudnnGraphNotSupportedError with the option's name. docs/compat.md lists what works and what differs.
"""
from folio.compat.cudnn._graph import pygraph
from folio.compat.cudnn._names import (
    Handle,
    backend_version,
    backend_version_string,
    build_plan_policy,
    create_handle,
    cudnnGraphNotSupportedError,
    data_type,
    destroy_handle,
    diagonal_alignment,
    get_stream,
    heur_mode,
    set_stream,
)
from folio.compat.cudnn._tensor import tensor

__all__ = [
    "Handle",
    "backend_version",
    "backend_version_string",
    "build_plan_policy",
    "create_handle",
    "cudnnGraphNotSupportedError",
    "data_type",
    "destroy_handle",
    "diagonal_alignment",
    "get_stream",
    "heur_mode",
    "pygraph",
    "set_stream",
    "tensor",
]
