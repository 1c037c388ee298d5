# SPDX-License-Identifier: Apache-2.0
"""JAX callables as mods: translated from their jaxprs, or called tile by tile: one answer, the float64 oracle's."""
import gc
import logging
import pathlib
import sys
import weakref

import folio
import jax
import numpy as np
import pytest
from folio import _mods, _translations
from jax import lax
from jax import numpy as jnp

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "python"))
import oracle  # noqa: E402

KV_LENS, Q_LENS, HEADS = [37, 0, 9, 70], [5, 1, 9, 2], 4
SLOPES = jnp.array([0.5, -0.25, 0.125, 1.0])
BIAS = jax.random.normal(jax.random.key(1), (4, HEADS, 9, 80))
DOC = jnp.arange(4 * 80).reshape(4, 80) // 7 % 3
PREFIX = jnp.array([3, 0, 2, 60], jnp.int32)
TABLE = jnp.linspace(-1, 1, HEADS * 32).reshape(HEADS, 32)
CAP, LIMIT = 2.0, 5


def problem(seed=1):
    return oracle.problem(seed, kv_lens=KV_LENS, q_lens=Q_LENS)


def arrays(p):
    return [jnp.asarray(a) for a in (p.q, p.k_pages, p.v_pages)], {n: jnp.asarray(a) for n, a in p.arguments().items()}


def attend(p, **options):
    positional, keywords = arrays(p)
    return folio.attention(*positional, **keywords, return_lse=True, **options)


def way(p, name, **options):
    positional, keywords = arrays(p)
    return folio.explain(*positional, **keywords, **options).split(f"\nway of {name}: ")[1]


def each(function):
    """The function for the oracle: at every element by itself, as it is defined. 720 at a time: one compilation."""
    mapped = jax.jit(jax.vmap(function))

    def call(*arguments):
        *score, b, h, i, j = arguments
        i, j = np.broadcast_arrays(i, j)
        flat = [np.resize(np.broadcast_to(a, i.shape), 720).astype(t) if i.size else np.zeros(720, t) for a, t in zip(
            (*score, b, h, i, j), [np.float32] * len(score) + [np.int32] * 4, strict=True)]
        return np.asarray(mapped(*flat))[: i.size].reshape(i.shape)
    return call


def make_scores():
    twice = SLOPES * 2

    def alibi(score, b, h, q, kv):
        return score + SLOPES[h] * (kv - q)

    def softcap(score, b, h, q, kv):
        return CAP * jnp.tanh(score / CAP)

    def masked(score, b, h, q, kv):
        return jnp.where((kv % 2 == 0) | (q - kv < LIMIT), score, -jnp.inf)

    def finite(score, b, h, q, kv):
        return jnp.where(kv <= q + 60, score, jnp.finfo(score.dtype).min)

    def captured_bias(score, b, h, q, kv):
        return score + BIAS[b, h, q, kv] + BIAS[b][h][q, kv] + BIAS[0, h, 0, kv]

    def negative(score, b, h, q, kv):
        return score + SLOPES[-h - 1] * SLOPES[-1]

    def half(score, b, h, q, kv):
        return score + BIAS.astype(jnp.bfloat16)[b, h, q, kv] + SLOPES.astype(jnp.float16)[h]

    def derived(score, b, h, q, kv):
        return score + jnp.exp(twice)[h] + BIAS[1:, :, 2].swapaxes(0, 1)[h, 0, kv]

    def taken(score, b, h, q, kv):
        return score + jnp.take(SLOPES, h) + lax.dynamic_index_in_dim(TABLE, h, keepdims=False)[kv % 32]

    def past_the_end(score, b, h, q, kv):
        return score + SLOPES[h + 1] + SLOPES[h - 6]

    def clamped(score, b, h, q, kv):
        return score + lax.dynamic_slice(TABLE, (h, kv), (1, 1))[0, 0] + SLOPES.at[kv].get(mode="clip")

    def filled(score, b, h, q, kv):
        return score + jnp.nan_to_num(TABLE.at[h, kv].get(mode="fill"))

    def exponent(score, b, h, q, kv):
        return score + jnp.exp2(-((h + 1) * 8.0 / HEADS)) * (kv - q)

    def buckets(score, b, h, q, kv):
        distance = jnp.clip(kv - q, 0, None)
        far = 16 + (jnp.log(jnp.maximum(distance, 16) / 16) * 8).astype(jnp.int32)
        return score + TABLE[h, jnp.where(distance < 16, distance, jnp.minimum(far, 31))]

    def bits(score, b, h, q, kv):
        return score + ((q & 3) | (kv ^ 5)) * 0.01 + (~q) % 3 + (q << 1) // 3 + (kv >> 2) - (q - kv) // 4

    def numbers(score, b, h, q, kv):
        x = jnp.maximum(q, 3) + (1 - q) + q / 2 - (kv % 5) ** 2
        waves = jnp.sin(score) * jnp.cos(score)
        return jnp.abs(score) ** 1.5 + 0.01 * x - jax.nn.sigmoid(score) + waves + (kv + 1.0) ** -2

    def rounding(score, b, h, q, kv):
        return jnp.floor(score) + jnp.ceil(score / 2) + jnp.sign(score) * jnp.sqrt(jnp.abs(score)) + lax.rsqrt(kv + 1.0)

    @jax.jit
    def jitted(score, b, h, q, kv):
        return alibi(jax.nn.relu(score), b, h, q, kv)

    def of_rank_four(score, b, h, q, kv):
        score, h, q, kv = (x.reshape(1, 1, 1, 1) for x in (score, h, q, kv))
        return (score + SLOPES[h] * (kv - q).astype(score.dtype)).reshape(())

    def unchanged(score, b, h, q, kv):
        return score

    return [v for v in locals().values() if callable(v)]


def make_masks():
    def causal(b, h, q, kv):
        return q >= kv

    def window(b, h, q, kv):
        return (kv <= q + 20) & (q - kv < LIMIT)

    def documents(b, h, q, kv):
        return DOC[b, kv] == DOC[b, q]

    def prefix(b, h, q, kv):
        return jnp.logical_or(kv < PREFIX[b], kv <= q)

    def dilated(b, h, q, kv):
        return (q + kv) % 3 == 0

    def everything(b, h, q, kv):
        return True

    def of_composition(b, h, q, kv):
        return prefix(b, h, q, kv) & ~documents(b, h, q, kv)

    return list(locals().values())


SCORES = {f.__name__: f for f in make_scores()}
MASKS = {f.__name__: f for f in make_masks()}


def same(p, got, **options):
    want = oracle.expect(p, **options)
    for name, a, b in zip(("out", "lse"), got, want, strict=True):
        oracle.assert_close(np.asarray(a), b, name)


@pytest.mark.parametrize("name", SCORES)
def test_scores(name):
    function, p = SCORES[name], problem()
    got = attend(p, score_mod=function, causal="bottom_right")
    assert isinstance(got[0], jax.Array)
    same(p, got, score_mod=each(function), causal="bottom_right")
    assert way(p, "score_mod", score_mod=function).startswith("traced by jax to a text:\n")


@pytest.mark.parametrize("name", MASKS)
def test_masks(name):
    function, p = MASKS[name], problem()
    want = each(lambda *a: jnp.asarray(function(*a)))
    same(p, attend(p, mask_mod=function), mask_mod=lambda *a: want(*a) != 0)
    assert way(p, "mask_mod", mask_mod=function).startswith("traced by jax to a text:\n")


def test_called_tile_by_tile():
    p = problem()

    def score_mod(score, b, h, q, kv):
        assert all(isinstance(x, jax.Array) for x in (score, b, h, q, kv))
        assert score.dtype == jnp.float32 and q.dtype == jnp.int32 and b.ndim == 0
        assert (q.shape, kv.shape) == ((score.shape[0], 1), (1, score.shape[1]))
        return (score * 2 + SLOPES[h] * (kv - q)).astype(jnp.bfloat16) * 0

    same(p, attend(p, score_mod=_mods.Tiles(score_mod)), score_mod=lambda s, *_: s * 0)
    same(p, attend(p, score_mod=_mods.Tiles(SCORES["alibi"])), score_mod=each(SCORES["alibi"]))
    same(p, attend(p, mask_mod=_mods.Tiles(MASKS["documents"])), mask_mod=each(MASKS["documents"]))


def test_fallback_is_logged_once_and_explained(caplog):
    p = problem()
    numpy_slopes = np.asarray(SLOPES)

    def error_function(score, b, h, q, kv):
        return lax.erf(score)

    def of_numpy(score, b, h, q, kv):
        return score + numpy_slopes[h]

    with caplog.at_level(logging.WARNING, "folio"):
        for function, words, want in ((error_function, "erf", each(error_function)), (
                of_numpy, "TracerArrayConversionError", lambda s, b, h, *_: s + numpy_slopes[h])):
            caplog.clear()
            for _ in range(2):
                same(p, attend(p, score_mod=function), score_mod=want)
            (record,) = [r for r in caplog.records if r.name == "folio"]
            assert words in record.getMessage() and function.__name__ in record.getMessage()
            assert words in way(p, "score_mod", score_mod=function)


def test_errors_of_the_callable():
    p = problem()

    def missing(score, b, h, q, kv):
        return score + undefined_name  # noqa: F821

    def branching(score, b, h, q, kv):
        return score if q > kv else -score

    for function, error, words in ((branching, ValueError, "ambiguous"), (missing, NameError, "undefined_name"),
                                   (lambda *_: jnp.ones((3, 1, 2)), ValueError, r"score_mod.*\(3, 1, 2\)")):
        with pytest.raises(error, match=words):
            attend(p, score_mod=function)
    same(p, attend(p))


def test_translations_are_remembered_while_true():
    slopes = SLOPES * 1

    def score_mod(score, b, h, q, kv):
        return score + slopes[h]

    made = [_translations.translate(score_mod, False, "jax") for _ in range(2)]
    assert made[0] is made[1]
    slopes = slopes + 1
    assert _translations.translate(score_mod, False, "jax") is not made[0]
    p = problem()
    same(p, attend(p, score_mod=score_mod), score_mod=each(score_mod))
    alive = weakref.ref(score_mod)
    del score_mod, made
    gc.collect()
    assert alive() is None


def test_text_and_block_mask_with_jax_arrays():
    p = problem()
    same(p, attend(p, score_mod="score + x[h] * kv", captures={"x": SLOPES}),
         score_mod=lambda s, b, h, i, j: s + float(SLOPES[h]) * j)
    columns = jnp.array([[[[0, 2, 0, 0]]]], jnp.int32)
    block_mask = folio.BlockMask(jnp.full((1, 1, 1), 2, jnp.int32), columns, None, None, (128, 32),
                                 lambda b, h, q, kv: kv % 2 == 0)
    same_mask = _mods.Tiles(lambda b, h, q, kv: (kv % 2 == 0) & (kv // 32 != 1))
    got, want = (attend(p, **{name: mask}) for name, mask in (("block_mask", block_mask), ("mask_mod", same_mask)))
    assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(got, want, strict=True))


@pytest.mark.parametrize("function", [
    lambda s, b, h, q, kv: jax.lax.fori_loop(0, 3, lambda i, x: x * 0.5, s),
    lambda s, b, h, q, kv: jax.lax.scan(lambda x, _: (x * 0.5, None), s, None, length=3)[0],
], ids=["fori_loop", "scan"])
def test_loops_are_not_taken_for_calls(function):
    """A scan holds a jaxpr, as a call does, and repeats it."""
    from folio import _emit, _trace_jax
    with pytest.raises(_emit.Untranslatable, match="scan"):
        _trace_jax.translate(function, False, {})
