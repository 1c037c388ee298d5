# SPDX-License-Identifier: Apache-2.0
"""PyTorch for the peers that are made of it, and arrays of the harness as tensors."""
import numpy as np
import torch

KINDS = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def set_up(n_threads):
    torch.set_num_threads(n_threads)
    torch.set_grad_enabled(False)
    return torch


def tensor(x, kind):
    """A float32 array as a tensor of a type that holds it exactly."""
    return torch.from_numpy(x).to(KINDS[kind])


def output(x):
    """[B, Q, H, D] float32 of a tensor."""
    return np.ascontiguousarray(x.float().numpy())
