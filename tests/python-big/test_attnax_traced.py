# SPDX-License-Identifier: Apache-2.0
"""attnax's mods become texts, and the texts say what the mods say, whatever the shapes have in common."""
import re

import jax
import numpy as np
import pytest

attnax = pytest.importorskip("attnax")
import folio.compat.attnax as ours  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from attnax import kernels, paged_cache  # noqa: E402
from folio.compat.attnax import _mods  # noqa: E402
from folio._mods import Tiles  # noqa: E402

HEADS, DIM, BLOCK = 4, 8, 4


def cache_of(lengths, seed=1):
    rng = np.random.default_rng(seed)
    cache = ours.init_paged_kv_cache(num_blocks=32, block_size=BLOCK, num_kv_heads=2, head_dim=DIM,
                                     batch_size=len(lengths), max_blocks_per_seq=8, dtype=jnp.float32)
    free = jnp.asarray(rng.permutation(32), jnp.int32)
    for index, n in enumerate(lengths):
        cache, used = ours.allocate_blocks(cache, sequence_idx=index, num_new_tokens=n, free_block_ids=free)
        free = free[used:]
        k, v = rng.standard_normal((2, n, 2, DIM)).astype(np.float32)
        cache = ours.append_kv(cache, index, jnp.asarray(k), jnp.asarray(v))
    return cache


def by_attnax(query, cache, mod):
    theirs = paged_cache.PagedKVCache(cache.key_pool, cache.value_pool, cache.block_table, cache.seq_lengths)
    return kernels.paged_attention(query, theirs, 0, score_mod=mod)


def query_of(*shape, seed=2):
    return jnp.asarray(np.random.default_rng(seed).standard_normal((*shape, DIM)), jnp.float32)


def random(*shape):
    return jnp.asarray(np.random.default_rng(3).standard_normal(shape), jnp.float32)


def mods(m, n):
    table, sides, documents = random(HEADS, 40), random(1, HEADS, m, n), jnp.arange(40) // 3
    per_head = jnp.arange(HEADS)
    return {
        "alibi": attnax.alibi_mod(HEADS),
        "causal": attnax.causal_mod(),
        "window": attnax.sliding_window_mod(3),
        "symmetric": attnax.sliding_window_mod(3, causal=False),
        "prefix": attnax.prefix_lm_mod(jnp.array([4])),
        "document": attnax.document_mask_mod(documents[None]),
        "bias": attnax.additive_bias_mod(sides),
        "bias of keys": attnax.additive_bias_mod(sides[:, :1, :1]),
        "of a mask": attnax.mask_mod_to_score_mod(lambda b, h, q, kv: (q + kv + h) % 2 == 0),
        "composed": attnax.compose_score_mods(attnax.causal_mod(), attnax.alibi_mod(HEADS), None),
        "table of head and key": lambda s, b, h, q, kv: s + table[h, kv],
        "table of head by vectors": lambda s, b, h, q, kv: s + table[h[0, :, 0, 0], 3][None, :, None, None],
        "negative index": lambda s, b, h, q, kv: s + table[-1 - h, q],
        "iota": lambda s, b, h, q, kv: s * jnp.arange(s.shape[-1]) + jnp.arange(s.shape[-2])[:, None],
        "last keys": lambda s, b, h, q, kv: jnp.where(kv >= s.shape[-1] - 2, s, -1e30),
        "clipped": lambda s, b, h, q, kv: jnp.clip(s, -0.5, 0.5) ** 2 + jnp.tanh(s),
        "heads compared": lambda s, b, h, q, kv: jnp.where(h == per_head[None, :, None, None], s, 0.0),
        "there and back": lambda s, b, h, q, kv: jnp.swapaxes(jnp.swapaxes(s, 2, 3) + jnp.swapaxes(kv, 2, 3), 2, 3),
        "jitted": jax.jit(lambda s, b, h, q, kv: s - 0.1 * (q - kv)),
    }


def problem(m, n):
    return cache_of([n]), query_of(HEADS, m)


@pytest.mark.parametrize("m, n", [(1, 13), (5, 13), (4, 4), (1, 1)])
@pytest.mark.parametrize("name", mods(1, 1))
def test_texts_and_mods_agree(name, m, n):
    """(4, 4): rows, keys and heads as many as each other, so that an axis taken for another would fit."""
    cache, query = problem(m, n)
    mod = mods(m, n)[name]
    text = _mods.adapt(mod, HEADS, 1, m, [n])
    assert not isinstance(text, Tiles), text.why
    got = ours.paged_attention(query, cache, 0, score_mod=mod)
    np.testing.assert_allclose(got, by_attnax(query, cache, mod), atol=3e-6, rtol=3e-6)


@pytest.mark.parametrize("m, n", [(5, 13), (4, 4)])
@pytest.mark.parametrize("mod", [
    lambda s, b, h, q, kv: jnp.swapaxes(s, 2, 3) if s.shape[2] == s.shape[3] else jnp.sort(s),
    lambda s, b, h, q, kv: s[..., ::-1],
    lambda s, b, h, q, kv: jnp.flip(s, 2),
    lambda s, b, h, q, kv: s - s.max(-1, keepdims=True),
    lambda s, b, h, q, kv: jnp.roll(s, 1, -1),
    lambda s, b, h, q, kv: s + jnp.cumsum(kv, -1),
    lambda s, b, h, q, kv: jax.lax.fori_loop(0, 3, lambda i, x: x * 0.5, s),
], ids=["transposed", "reversed", "flipped", "reduced", "rolled", "summed", "looped"])
def test_what_mixes_scores_is_called(mod, m, n):
    cache, query = problem(m, n)
    assert isinstance(_mods.adapt(mod, HEADS, 1, m, [n]), Tiles)
    got, want = ours.paged_attention(query, cache, 0, score_mod=mod), by_attnax(query, cache, mod)
    np.testing.assert_allclose(got, want, atol=3e-6, rtol=3e-6)


def test_batches_of_several_lengths():
    lengths = [13, 4, 7]
    cache, query = cache_of(lengths), query_of(3, HEADS, 2)
    starts = jnp.array([1, 2, 3])

    def same_at_all(s, b, h, q, kv):
        return jnp.where(kv >= q, s, -1.0)

    def by_length(s, b, h, q, kv):
        return jnp.where(kv < s.shape[-1] - 1, s, -1e30)

    def by_sequence(s, b, h, q, kv):
        return s + starts[b] * kv

    def by_size(s, b, h, q, kv):
        return s * 2 if s.shape[-1] == 7 else s

    for mod, is_text in ((same_at_all, True), (by_length, True), (by_sequence, True), (by_size, False)):
        assert isinstance(_mods.adapt(mod, HEADS, 3, 2, lengths), Tiles) != is_text
        out = ours.paged_attention_batched(query, cache, score_mod=mod)
        for index in (0, 1, 2):
            one = by_sequence_of(mod, index) if mod is by_sequence else mod
            want = ours.paged_attention(query[index], cache, index, score_mod=one)
            np.testing.assert_allclose(out[index], want, atol=3e-6, rtol=3e-6)


def by_sequence_of(mod, index):
    """mod as it is for that sequence, whatever b it is told."""
    return lambda s, b, h, q, kv: mod(s, jnp.full_like(b, index), h, q, kv)


def test_a_text_is_made_once_and_made_anew_when_a_capture_changes():
    bias = random(1, HEADS, 1, 1)

    def mod(s, b, h, q, kv):
        return s + bias

    first = _mods.adapt(mod, HEADS, 1, 1, [5])
    assert _mods.adapt(mod, HEADS, 1, 1, [5]) is first
    bias = bias + 1
    cache, query = problem(1, 5)
    again = _mods.adapt(mod, HEADS, 1, 1, [5])
    assert again is not first
    got = ours.paged_attention(query, cache, 0, score_mod=mod)
    np.testing.assert_allclose(got, ours.paged_attention(query, cache, 0, score_mod=attnax.additive_bias_mod(bias)))


def test_one_text_for_all_lengths():
    """A batch of more lengths than are tried one by one, and a sequence that grows."""
    lengths = list(range(1, 2 + _mods.MAX_LENGTHS))
    cache, query = cache_of(lengths), query_of(len(lengths), HEADS, 2)
    for name in ("causal", "iota", "last keys"):
        mod = mods(2, 1)[name]
        text = _mods.adapt(mod, HEADS, 9, 2, lengths)
        assert not isinstance(text, Tiles), (name, text.why)
        assert text is _mods.adapt(mod, HEADS, 9, 2, [n + 20 for n in lengths]) is _mods.adapt(mod, HEADS, 1, 2, [99])
        out = ours.paged_attention_batched(query, cache, score_mod=mod)
        for index in range(len(lengths)):
            want = ours.paged_attention(query[index], cache, index, score_mod=called(mod))
            np.testing.assert_allclose(out[index], want, atol=3e-6, rtol=3e-6, err_msg=f"{name}, sequence {index}")


def called(mod):
    """mod as one that can't be translated."""
    def with_numpy(s, b, h, q, kv):
        assert isinstance(np.asarray(s), np.ndarray)
        return mod(s, b, h, q, kv)

    return with_numpy


@pytest.mark.parametrize("name", mods(1, 1))
def test_callables_under_jit(name):
    m, n = 3, 13
    cache, query = problem(m, n)
    mod = mods(m, n)[name]
    call = jax.jit(lambda query, cache: ours.paged_attention(query, cache, 0, score_mod=mod))
    if name in ("bias", "bias of keys"):  # arrays of n fit one number of keys
        with pytest.raises(TypeError, match="score_mod: tracing it raised TypeError, and under jax.jit"):
            call(query, cache)
        return
    np.testing.assert_allclose(call(query, cache), by_attnax(query, cache, mod), atol=3e-6, rtol=3e-6)


def test_batches_and_traced_captures_under_jit():
    cache, query, table = cache_of([13, 4, 7]), query_of(3, HEADS, 2), random(HEADS, 40)

    def run(query, cache, table):
        return ours.paged_attention_batched(query, cache, score_mod=lambda s, b, h, q, kv: s + table[h, kv] * (b + 1))

    np.testing.assert_allclose(jax.jit(run)(query, cache, table), run(query, cache, table), atol=3e-6, rtol=3e-6)


@pytest.mark.parametrize("mod, why", [
    (lambda s, b, h, q, kv: s - s.max(-1, keepdims=True), "reduce_max"),
    (lambda s, b, h, q, kv: s if s.shape[-1] != 4 else s * 2, "it compares sizes"),
    (lambda s, b, h, q, kv: s if s.shape[-1] > 4 else s * 2, "tracing it raised InconclusiveDimensionOperation"),
    (lambda s, b, h, q, kv: s + np.asarray(s).sum(), "tracing it raised TracerArrayConversionError"),
    (lambda s, b, h, q, kv: s / jnp.cumsum(jnp.arange(s.shape[-1]) + 1), "cumsum"),
    (lambda s, b, h, q, kv: s / (s.shape[-1] * s.shape[-1]), "the size n^2"),
], ids=["reduced", "compared", "ordered", "called", "summed", "squared"])
def test_what_is_no_text_for_any_length_is_refused_under_jit(mod, why):
    cache, query = problem(2, 13)
    with pytest.raises(TypeError, match=re.escape(f"score_mod: {why}")) as refused:
        jax.jit(lambda query, cache: ours.paged_attention(query, cache, 0, score_mod=mod))(query, cache)
    assert "under jax.jit it must become a text" in str(refused.value)
    got = ours.paged_attention(query, cache, 0, score_mod=mod)  # outside it works
    if why != "tracing it raised TracerArrayConversionError":  # which attnax itself traces
        np.testing.assert_allclose(got, by_attnax(query, cache, mod), atol=3e-6, rtol=3e-6)


def test_texts_under_jit():
    cache, query = problem(3, 13)
    text = "kv <= q ? score : -3.4e38"
    call = jax.jit(lambda query, cache: ours.paged_attention(query, cache, 0, score_mod=text))
    want = ours.paged_attention(query, cache, 0, score_mod=attnax.causal_mod())
    np.testing.assert_allclose(call(query, cache), want, atol=3e-6)


def operations(arrays, table, ids):
    """What a random mod is made of: f(x, b, h, q, kv)."""
    return [
        lambda x, b, h, q, kv: x + arrays[0],
        lambda x, b, h, q, kv: x * arrays[1],
        lambda x, b, h, q, kv: jnp.where(q >= kv, x, arrays[2]),
        lambda x, b, h, q, kv: x + table[h, kv],
        lambda x, b, h, q, kv: x - jnp.abs(q - kv) * 0.1,
        lambda x, b, h, q, kv: jnp.maximum(x, arrays[0] - arrays[2]),
        lambda x, b, h, q, kv: jnp.where(ids[kv] == ids[q], x, -2.0),
        lambda x, b, h, q, kv: jnp.swapaxes(jnp.swapaxes(x, 1, 2) * 2, 1, 2),
        lambda x, b, h, q, kv: x + jnp.squeeze(kv, (0, 1)) * 0.01,
        lambda x, b, h, q, kv: x + (q % 3 == kv // 2),
        lambda x, b, h, q, kv: x + table[h[0, :, 0, 0]][None, :, None, :1],
        lambda x, b, h, q, kv: x + jnp.arange(x.shape[-1]) * 0.1,
        lambda x, b, h, q, kv: jnp.clip(x, -1, arrays[1]),
        lambda x, b, h, q, kv: x.reshape(1, x.shape[1], -1).reshape(x.shape) + 1,
        lambda x, b, h, q, kv: x + table.sum(1)[None, :, None, None] * 0.01,
    ]


@pytest.mark.parametrize("seed", range(16))
def test_random_mods(seed):
    rng = np.random.default_rng(seed)
    m, n = (4, 4) if seed % 4 == 0 else (int(rng.integers(1, 6)), int(rng.integers(1, 14)))
    arrays = [jnp.asarray(rng.standard_normal([extent if rng.random() < 0.5 else 1 for extent in (1, HEADS, m, n)]),
                          jnp.float32) for _ in range(3)]
    chosen = rng.integers(0, 15, 4)
    steps = operations(arrays, random(HEADS, 16), jnp.asarray(rng.integers(0, 4, 16), jnp.int32))

    def mod(x, b, h, q, kv):
        for i in chosen:
            x = steps[i](x, b, h, q, kv)
        return x

    cache, query = problem(m, n)
    got = ours.paged_attention(query, cache, 0, score_mod=mod)
    np.testing.assert_allclose(got, by_attnax(query, cache, mod), atol=1e-5, rtol=1e-5,
                               err_msg=f"seed {seed}, operations {chosen}, rows {m}, keys {n}")
