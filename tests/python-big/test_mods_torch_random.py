# SPDX-License-Identifier: Apache-2.0
"""Random PyTorch expressions as mods: translated they keep and score as they do when called."""
import operator
import random

import pytest
import torch
from folio import _mods
from torch_mods import BIAS, DOC, PREFIX, SLOPES, attend, problem, way

INTS = [operator.add, operator.sub, operator.mul, torch.maximum, torch.minimum, operator.and_, operator.or_,
        operator.xor, lambda a, b: a // (b.abs() + 1), lambda a, b: a % (b.abs() + 1),
        lambda a, b: torch.div(a, b.abs() + 1, rounding_mode="trunc"), lambda a, b: torch.fmod(a, b.abs() + 1)]
FLOATS = [operator.add, operator.sub, operator.mul, torch.maximum, torch.minimum, lambda a, b: a / (b.abs() + 1),
          lambda a, b: torch.tanh(a) * b, lambda a, b: torch.sigmoid(a - b),
          lambda a, b: (a * 0.1).exp().clamp(max=3) + b,
          lambda a, b: torch.sqrt(a.abs()) - torch.floor(b), lambda a, b: torch.ceil(a) + b.sin() * torch.sign(b)]
COMPARISONS = [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne]
LOGIC = [operator.and_, operator.or_, operator.xor, torch.logical_and, torch.logical_or, lambda a, b: ~a | b]


class Expression:
    """A tree drawn from a seed, evaluated on the arguments of a mod."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def pick(self, values):
        return self.random.choice(values)

    def integer(self, depth):
        if depth == 0:
            constant = self.random.randint(-9, 9)
            return self.pick([lambda s, b, h, q, kv: q, lambda s, b, h, q, kv: kv, lambda s, b, h, q, kv: h,
                              lambda s, b, h, q, kv: DOC[b, kv], lambda s, b, h, q, kv: PREFIX[b].long(),
                              lambda s, b, h, q, kv: q * 0 + constant])
        return self.binary(self.pick(INTS), self.integer(depth - 1), self.integer(depth - 1))

    def number(self, depth):
        if depth == 0:
            constant = self.random.uniform(-2, 2)
            return self.pick([lambda s, b, h, q, kv: s, lambda s, b, h, q, kv: SLOPES[h],
                              lambda s, b, h, q, kv: BIAS[b, -h - 1, q, kv], lambda s, b, h, q, kv: s * constant])
        if self.random.random() < 0.3:
            c, x, y = self.truth(depth - 1), self.number(depth - 1), self.number(depth - 1)
            return lambda *a: torch.where(c(*a), x(*a), y(*a))
        if self.random.random() < 0.2:
            i, x = self.integer(depth - 1), self.number(depth - 1)
            return lambda *a: x(*a) + i(*a) % 7
        return self.binary(self.pick(FLOATS), self.number(depth - 1), self.number(depth - 1))

    def truth(self, depth):
        if depth == 0 or self.random.random() < 0.4:
            side = self.pick([self.integer, self.number])
            return self.binary(self.pick(COMPARISONS), side(max(depth - 1, 0)), side(max(depth - 1, 0)))
        return self.binary(self.pick(LOGIC), self.truth(depth - 1), self.truth(depth - 1))

    @staticmethod
    def binary(operate, x, y):
        return lambda *a: operate(x(*a), y(*a))


@pytest.mark.parametrize("seed", range(12))
def test_translated_as_called(seed):
    p = problem(seed)
    expression = Expression(seed)
    score, keep = expression.number(4), expression.truth(3)

    def score_mod(s, b, h, q, kv):
        return score(s, b, h, q, kv).float() * 0.2

    def mask_mod(b, h, q, kv):
        return keep(torch.zeros(()), b, h, q, kv)

    for name, mod in (("score_mod", score_mod), ("mask_mod", mask_mod)):
        got, want = attend(p, **{name: mod}), attend(p, **{name: _mods.Tiles(mod)})
        text = way(p, name, **{name: mod})
        assert text.startswith("traced by torch to a text"), text
        for a, b in zip(got, want, strict=True):
            assert torch.allclose(a, b, rtol=1e-4, atol=1e-4), f"seed {seed}: {(a - b).abs().max()}\n{text}"
