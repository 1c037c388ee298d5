# SPDX-License-Identifier: Apache-2.0
"""What the tests of PyTorch callables as mods share: a problem, tensors to capture, the oracle's answer."""
import pathlib
import sys

import folio
import numpy as np
import torch

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "python"))
import oracle  # noqa: E402

KV_LENS, Q_LENS, HEADS = [37, 0, 9, 70], [5, 1, 9, 2], 4
SLOPES = torch.tensor([0.5, -0.25, 0.125, 1.0])
BIAS = torch.randn(4, HEADS, 9, 80, generator=torch.Generator().manual_seed(1))
DOC = torch.arange(4 * 80).view(4, 80) // 7 % 3
PREFIX = torch.tensor([3, 0, 2, 60], dtype=torch.int32)
TABLE = torch.linspace(-1, 1, HEADS * 32).view(HEADS, 32)
CAP, LIMIT = 2.0, 5


def tensors(p):
    return [torch.from_numpy(a) for a in (p.q, p.k_pages, p.v_pages)], {
        name: torch.from_numpy(a) for name, a in p.arguments().items()}


def problem(seed=1, **options):
    return oracle.problem(seed, kv_lens=KV_LENS, q_lens=Q_LENS, **options)


def attend(p, **options):
    arrays, arguments = tensors(p)
    return folio.attention(*arrays, **arguments, return_lse=True, **options)


def way(p, name, **options):
    """What explain() says of one argument."""
    arrays, arguments = tensors(p)
    return folio.explain(*arrays, **arguments, **options).split(f"\nway of {name}: ")[1]


def of_arrays(function):
    """The same function for the oracle: on float64 scores and broadcast indices."""
    def call(*arguments):
        *score, b, h, i, j = arguments
        i, j = np.broadcast_arrays(i, j)
        given = [torch.from_numpy(np.array(a)) for a in (*score, b, h, i, j)]
        with torch.no_grad():
            return np.broadcast_to(torch.as_tensor(function(*given)).numpy(), i.shape)
    return call


def same(p, got, **options):
    want = oracle.expect(p, **options)
    for name, a, b in zip(("out", "lse"), got, want, strict=True):
        oracle.assert_close(a.numpy(), b, name)
