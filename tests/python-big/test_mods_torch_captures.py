# SPDX-License-Identifier: Apache-2.0
"""PyTorch callables as mods: what is remembered of them, what they capture, and what can't be translated."""
import functools
import gc
import logging
import weakref

import folio
import pytest
import torch
from folio import _mods, _translations
from torch_mods import SLOPES, attend, of_arrays, oracle, problem, same, tensors, way

# -- what is remembered ----------------------------------------------------------------------------------------------


def test_captured_tensors_are_read_at_every_call():
    """Written in place, also by way of copies that are made before a run; and given other memory."""
    p = problem()
    slopes, doubles = SLOPES.clone(), SLOPES.double()

    def score_mod(score, b, h, q, kv):
        return score + slopes[h] * kv + (slopes * 3)[h] + doubles[h]

    arrays, arguments = tensors(p)
    plan = folio.plan(*arrays, **arguments, score_mod=score_mod)
    for step in range(3):
        slopes.add_(0.5)
        doubles.sub_(0.25)
        want = of_arrays(score_mod)
        same(p, attend(p, score_mod=score_mod), score_mod=want)
        same(p, plan.run(*arrays, return_lse=True), score_mod=want)
    slopes.data = torch.ones(8)[::2]
    same(p, attend(p, score_mod=score_mod), score_mod=of_arrays(score_mod))
    doubles = SLOPES * 0
    same(p, attend(p, score_mod=score_mod), score_mod=of_arrays(score_mod))


def test_what_a_closure_sees_may_change():
    p = problem()
    limit, box, tables = 3, [1.0], (SLOPES, {"x": 2.0})

    def by_cell(score, b, h, q, kv):
        return score * limit

    def by_list(score, b, h, q, kv):
        return score * box[0] + tables[1]["x"] * 0

    for limit in (2, 5):  # noqa: B007
        same(p, attend(p, score_mod=by_cell), score_mod=of_arrays(by_cell))
    for box[0] in (2.0, 0.5):
        same(p, attend(p, score_mod=by_list), score_mod=of_arrays(by_list))
    for factor in (0.25, 1.5):
        partial = functools.partial(lambda x, s, *_: s * x, factor)
        same(p, attend(p, score_mod=partial), score_mod=of_arrays(partial))

    class Method:
        factor = 1.0

        def __call__(self, score, b, h, q, kv):
            return score * self.factor

    method = Method()
    for method.factor in (0.5, 2.0):
        same(p, attend(p, score_mod=method), score_mod=of_arrays(method))


def test_a_closure_is_translated_once():
    p = problem()
    n_calls = 0

    def counted(score, b, h, q, kv):
        nonlocal n_calls
        n_calls += 1
        return score

    def counting_by_cache(score, b, h, q, kv, seen=torch.zeros(())):  # noqa: B008
        return score + seen

    attend(p, score_mod=counted)
    first = n_calls
    attend(p, score_mod=counted)
    assert (first, n_calls) == (1, 2)  # its own cell changed: it had to be looked at again
    made = [_translations.translate(counting_by_cache, False, "torch") for _ in range(2)]
    assert made[0] is made[1] and made[0].text


# -- what can't be translated ----------------------------------------------------------------------------------------


def test_fallback_is_logged_once_and_explained(caplog):
    p = problem()

    def error_function(score, b, h, q, kv):
        return torch.erf(score)

    def in_place(score, b, h, q, kv):
        return score.clone().mul_(2)

    def wobbly(score, b, h, q, kv):
        return score + 0 * torch.rand(())

    with caplog.at_level(logging.WARNING, "folio"):
        for function, words in ((error_function, "aten.erf"), (in_place, "aten.mul_"), (wobbly, "aten.rand")):
            caplog.clear()
            for _ in range(2):
                same(p, attend(p, score_mod=function), score_mod=of_arrays(function))
            (record,) = [r for r in caplog.records if r.name == "folio"]
            assert words in record.getMessage() and function.__name__ in record.getMessage()
            told = way(p, "score_mod", score_mod=function)
            assert told.startswith("called with a tile at a time, torch arrays") and words in told


def test_what_a_callable_gets():
    p = problem()

    def score_mod(score, b, h, q, kv):
        assert all(isinstance(x, torch.Tensor) for x in (score, b, h, q, kv))
        assert score.dtype is torch.float32 and q.dtype is torch.int64 and b.dim() == 0
        assert (q.shape, kv.shape) == ((score.shape[0], 1), (1, score.shape[1]))
        return (score * 2).bfloat16() * 0

    same(p, attend(p, score_mod=_mods.Tiles(score_mod)), score_mod=lambda s, *_: s * 0)


def test_errors_of_the_callable():
    p = problem()

    def branching(score, b, h, q, kv):
        return score if q > kv else -score

    def wrong_shape(score, b, h, q, kv):
        return torch.ones(3, 1, 2)

    def missing(score, b, h, q, kv):
        return score + undefined_name  # noqa: F821

    for function, error, words in ((branching, RuntimeError, "ambiguous"), (missing, NameError, "undefined_name"),
                                   (wrong_shape, ValueError, r"score_mod.*\(3, 1, 2\)"),
                                   (lambda s: s, TypeError, "positional argument")):
        with pytest.raises(error, match=words):
            attend(p, score_mod=function)
    same(p, attend(p))


def test_tensors_that_can_not_be_captured():
    p = problem()
    learned = torch.nn.Parameter(SLOPES.clone())

    def score_mod(score, b, h, q, kv):
        return score + learned[h]

    with pytest.raises(TypeError, match="capture learned: a tensor that requires grad"):
        attend(p, score_mod=score_mod)
    with torch.no_grad():
        same(p, attend(p, score_mod=score_mod), score_mod=of_arrays(score_mod))
    with pytest.raises(TypeError, match="capture learned: a tensor that requires grad"):
        attend(p, score_mod=score_mod)  # although it was translated in between
    for spoilt, words in ((learned, "requires grad"), (SLOPES.to_sparse(), "capture x"),
                          (SLOPES.to("meta"), "capture x"), (SLOPES.double(), "float64|f64")):
        with pytest.raises((TypeError, ValueError), match=words):
            attend(p, score_mod="score + x[h]", captures={"x": spoilt})
    with pytest.raises(IndexError, match="SLOPES"):
        attend(p, score_mod=lambda s, b, h, q, kv: s + SLOPES[h + 1])


def test_text_and_mod_with_tensors():
    p = problem()
    arrays, arguments = tensors(p)
    slopes = SLOPES.clone()
    mod = folio.Mod("score + x[h] * kv", {"x": slopes})
    want = lambda s, b, h, i, j: s + float(slopes[h]) * j  # noqa: E731
    plan = folio.plan(*arrays, **arguments, score_mod=mod)
    for _ in range(2):
        slopes.mul_(2)
        same(p, attend(p, score_mod=mod), score_mod=want)
        same(p, plan.run(*arrays, return_lse=True), score_mod=want)
    slopes.data = SLOPES.flip(0)
    same(p, attend(p, score_mod=mod), score_mod=want)
    oracle.assert_close(plan.run(*arrays).numpy(), oracle.expect(
        p, score_mod=lambda s, b, h, i, j: s + 4 * float(SLOPES[h]) * j)[0])  # the plan's own memory


def test_translations_die_with_their_functions():
    p = problem()
    slopes = SLOPES.clone()

    def score_mod(score, b, h, q, kv):
        return score + slopes[h] + (slopes * 2)[h]

    attend(p, score_mod=score_mod)
    alive = weakref.ref(score_mod), weakref.ref(slopes)
    del score_mod, slopes
    gc.collect()
    assert [ref() for ref in alive] == [None, None]


def test_what_a_mod_sees_is_looked_at_by_every_call():
    """A cell, a global, a default, the code, a tensor's place: each change makes another translation, and the same
    objects none."""
    table, limit = torch.arange(8), 3

    def mod(b, h, q_idx, kv_idx):
        return (kv_idx <= q_idx + limit) & (kv_idx < WATCHED) & (table[b] >= 0)

    def made():
        return _translations.translate(mod, True, "torch")

    first = made()
    assert made() is first and "3" in first.text and "77" in first.text
    limit = 4
    second = made()
    assert second is not first and "4" in second.text and made() is second
    globals()["WATCHED"] = 78
    try:
        third = made()
        assert third is not second and "78" in third.text and made() is third
    finally:
        globals()["WATCHED"] = 77
    table = torch.arange(8)
    fourth = made()
    assert fourth is not third and made() is fourth
    table.set_(torch.arange(9))
    assert made() is not fourth
    fifth = made()
    mod.__code__ = (lambda b, h, q_idx, kv_idx: (kv_idx <= q_idx) & (table[b] >= limit)).__code__
    last = made()
    assert last is not fifth and made() is last


def test_a_callable_that_can_be_no_key_works():
    class Slotted:
        __slots__ = ()
        __hash__ = None

        def __call__(self, score, b, h, q, kv):
            return score * 0.5

    p = problem()
    for _ in range(2):
        same(p, attend(p, score_mod=Slotted()), score_mod=lambda score, b, h, q, kv: score * 0.5)


WATCHED = 77
