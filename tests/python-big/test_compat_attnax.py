# SPDX-License-Identifier: Apache-2.0
"""folio.compat.attnax beside attnax 0.2.0: the same calls on the same inputs, what it lets through, and donation."""
import dataclasses

import folio
import numpy as np
import pytest

jax = pytest.importorskip("jax")
theirs = pytest.importorskip("attnax.paged_cache")
import attnax  # noqa: E402
import folio.compat.attnax as ours  # noqa: E402
import jax.numpy as jnp  # noqa: E402

FIELDS = ("key_pool", "value_pool", "block_table", "seq_lengths")
SIZES = dict(num_blocks=24, block_size=4, num_kv_heads=2, head_dim=16, batch_size=3, max_blocks_per_seq=6)
LENGTHS = (13, 0, 8)


def random(seed, *shape, dtype=np.float32):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape).astype(np.float32), dtype)


def fill(module, dtype=jnp.float32, lengths=LENGTHS, **options):
    """A cache with sequences of those lengths, in blocks that lie apart."""
    cache = module.init_paged_kv_cache(**SIZES, dtype=dtype)
    free = jnp.asarray(np.random.default_rng(1).permutation(SIZES["num_blocks"]), jnp.int32)
    for index, n in enumerate(lengths):
        cache, used = module.allocate_blocks(cache, sequence_idx=index, num_new_tokens=n, free_block_ids=free)
        free = free[used:]
        for chunk in filter(None, (n // 2, n - n // 2)):
            new = random(index + chunk, 2, chunk, 2, 16)
            cache = module.append_kv(cache, index, new[0], new[1], **options)
    return cache


def same(got, want):
    for name in FIELDS:
        a, b = getattr(got, name), getattr(want, name)
        assert a.dtype == b.dtype and np.asarray(a).tobytes() == np.asarray(b).tobytes(), name


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("options", [{}, {"donate": True}], ids=["kept", "donated"])
def test_caches_are_equal_to_the_bit(dtype, options):
    got, want = fill(ours, dtype, **options), fill(theirs, dtype)
    same(got, want)
    for index, n in enumerate(LENGTHS):
        for a, b in zip(ours.gather_kv(got, index), theirs.gather_kv(want, index)):
            assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
            assert getattr(a, "shape", ()) == getattr(b, "shape", ())
    assert got.num_blocks == 24 and got.block_size == 4 and got.num_kv_heads == 2 and got.head_dim == 16


@pytest.mark.parametrize("seq_q", [1, 5])
@pytest.mark.parametrize("heads", [2, 6])
def test_attention(seq_q, heads):
    got, want = fill(ours), fill(theirs)
    query = random(5, heads, seq_q, 16)
    for index, n in enumerate(LENGTHS):
        masks = [None]
        if n:
            rng = np.random.default_rng(index)
            masks += [jnp.asarray(rng.random(shape) < 0.7).at[..., 0].set(True)
                      for shape in ((n,), (seq_q, n), (1, seq_q, n), (heads, 1, n), (heads, seq_q, n))]
        for mask in masks:
            a = ours.paged_attention(query, got, index, mask=mask)
            b = attnax.kernels.paged_attention(query, want, index, mask=mask)
            assert a.shape == b.shape and a.dtype == b.dtype
            np.testing.assert_allclose(a, b, atol=3e-6, rtol=3e-6)


def mods(heads, seq_q, n):
    document = jnp.asarray(np.random.default_rng(3).integers(0, 2, (1, 32)))
    return {
        "alibi": attnax.alibi_mod(heads),
        "causal": attnax.causal_mod(),
        "window": attnax.sliding_window_mod(3),
        "symmetric": attnax.sliding_window_mod(3, causal=False),
        "prefix": attnax.prefix_lm_mod(jnp.array([4])),
        "document": attnax.document_mask_mod(document),
        "bias": attnax.additive_bias_mod(random(6, 1, heads, seq_q, n)),
        "one_bias": attnax.additive_bias_mod(random(6, 1, 1, 1, n)),
        "from_mask": attnax.mask_mod_to_score_mod(lambda b, h, q, kv: (q + kv + h) % 2 == 0),
        "compose": attnax.compose_score_mods(attnax.causal_mod(), attnax.alibi_mod(heads), None),
    }


@pytest.mark.parametrize("name", mods(4, 5, 13))
@pytest.mark.parametrize("seq_q", [1, 5])
def test_prebuilt_mods(name, seq_q):
    got, want = fill(ours), fill(theirs)
    query = random(7, 4, seq_q, 16)
    mod = mods(4, seq_q, 13)[name]
    for mask in (None, jnp.arange(13) != 1):
        a = ours.paged_attention(query, got, 0, score_mod=mod, mask=mask)
        b = attnax.kernels.paged_attention(query, want, 0, score_mod=mod, mask=mask)
        np.testing.assert_allclose(a, b, atol=3e-6, rtol=3e-6)


def test_rows_that_lose_every_key_to_a_finite_score_stay_finite():
    got, want = fill(ours), fill(theirs)
    mod = attnax.mask_mod_to_score_mod(lambda b, h, q, kv: (q > 0) & (kv >= 0))
    query = random(8, 4, 3, 16)
    a, b = ours.paged_attention(query, got, 0, score_mod=mod), attnax.kernels.paged_attention(query, want, 0,
                                                                                             score_mod=mod)
    np.testing.assert_allclose(a, b, atol=3e-6, rtol=3e-6)
    assert not np.asarray(ours.paged_attention(query, got, 0, mask=jnp.zeros(13, bool))).any()


def test_folio_mods_and_errors_of_mods():
    cache, query = fill(ours), random(9, 4, 5, 16)
    want = ours.paged_attention(query, cache, 0, score_mod=attnax.causal_mod())
    got = ours.paged_attention(query, cache, 0, score_mod="kv <= q ? score : -3.4028234663852886e38")
    np.testing.assert_allclose(got, want, atol=3e-6)

    def broken(*_):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        ours.paged_attention(query, cache, 0, score_mod=broken)
    with pytest.raises(ValueError, match="score_mod: gave shape"):
        ours.paged_attention(query, cache, 0, score_mod=lambda scores, *_: scores[0])
    with pytest.raises(TypeError, match="score_mod"):
        ours.paged_attention(query, cache, 0, score_mod=3)


def test_batched_is_each_sequence():
    cache = fill(ours)
    for seq_q in (1, 3):
        query = random(10, 3, 4, seq_q, 16)
        mask = jnp.asarray(np.random.default_rng(10).random((3, 4, seq_q, 13)) < 0.7)
        for options in ({}, {"mask": mask}, {"score_mod": attnax.alibi_mod(4)}):
            out = ours.paged_attention_batched(query, cache, **options)
            for index, n in enumerate(LENGTHS):
                own = {name: value[index, ..., :n] if name == "mask" else value for name, value in options.items()}
                want = ours.paged_attention(query[index], cache, index, **own)
                np.testing.assert_allclose(out[index], want, atol=2e-6)
    out = ours.paged_attention_batched(query, cache, causal="bottom_right")
    keep = jnp.arange(13) <= jnp.arange(3)[:, None] + 10
    np.testing.assert_allclose(out[0], ours.paged_attention(query[0], cache, 0, mask=keep), atol=2e-6)


def test_what_was_passed_in_stays():
    cache = fill(ours)
    before = [np.array(getattr(cache, name)) for name in FIELDS]
    query, new = random(11, 2, 1, 16), random(11, 3, 2, 16)
    grown, _ = ours.allocate_blocks(cache, sequence_idx=0, num_new_tokens=9, free_block_ids=jnp.array([3, 9]))
    ours.append_kv(grown, 0, new, new)
    ours.paged_attention(query, cache, 0)
    assert all((np.asarray(getattr(cache, name)) == was).all() for name, was in zip(FIELDS, before))


def test_donated_pools_stay_where_they_are_also_after_attention():
    cache = fill(ours)
    places = cache.key_pool.unsafe_buffer_pointer(), cache.value_pool.unsafe_buffer_pointer()
    one, query = random(12, 1, 2, 16), random(12, 2, 1, 16)
    for _ in range(3):
        ours.paged_attention(query, cache, 0)
        old, cache = cache, ours.append_kv(cache, 0, one, one, donate=True)
        assert old.key_pool.is_deleted() and not old.seq_lengths.is_deleted()
    assert places == (cache.key_pool.unsafe_buffer_pointer(), cache.value_pool.unsafe_buffer_pointer())
    assert int(cache.seq_lengths[0]) == 16
    keys, _, _ = ours.gather_kv(cache, 0)
    assert (keys[13:] == one).all()


def test_under_jit():
    cache, query = fill(ours), random(13, 4, 2, 16)
    attend = jax.jit(ours.paged_attention)
    for index in range(3):
        np.testing.assert_allclose(attend(query, cache, index), ours.paged_attention(query, cache, index), atol=2e-6)
    batch = jnp.stack([query] * 3)
    np.testing.assert_allclose(jax.jit(ours.paged_attention_batched)(batch, cache),
                               ours.paged_attention_batched(batch, cache), atol=2e-6)
    for match, call in [
        ("seq_lengths: traced.*folio.jax.append", lambda c: ours.append_kv(c, 0, query[:, :2], query[:, :2])),
        ("seq_lengths: traced.*folio.jax.gather", lambda c: ours.gather_kv(c, 0)),
        ("score_mod: .*under jax.jit it must become a text",
         lambda c: ours.paged_attention(query, c, 0, score_mod=lambda s, *where: s[..., ::-1])),
    ]:
        with pytest.raises((TypeError, ValueError), match=match):
            jax.jit(lambda c: call(c))(cache)


def test_messages_of_the_original():
    cache, free = fill(ours), jnp.arange(24)
    new = random(14, 3, 2, 16)
    allocate = dict(sequence_idx=1, num_new_tokens=9)
    for error, match, call in [
        (ValueError, "free_block_ids has 2 entries but 3 are needed",
         lambda m, c: m.allocate_blocks(c, **allocate, free_block_ids=free[:2])),
        (ValueError, r"keys_new shape \(3, 2, 16\) != values_new shape \(2, 2, 16\)",
         lambda m, c: m.append_kv(c, 0, new, new[:2])),
        (ValueError, r"block_table\[1, 0\] is unallocated; call allocate_blocks before append_kv.",
         lambda m, c: m.append_kv(c, 1, new, new)),
    ]:
        for module, held in ((ours, cache), (theirs, fill(theirs))):
            with pytest.raises(error, match=match):
                call(module, held)
    for module, held in ((ours, cache), (attnax.kernels, fill(theirs))):
        with pytest.raises(ValueError, match=r"num_heads \(3\) must be divisible by num_kv_heads \(2\)"):
            module.paged_attention(random(14, 3, 1, 16), held, 0)


def test_what_the_original_lets_through():
    cache, free = fill(ours), jnp.arange(24)
    new, query = random(15, 3, 2, 16), random(15, 2, 1, 16)

    def allocate(n=9, ids=free, index=1):
        return ours.allocate_blocks(cache, sequence_idx=index, num_new_tokens=n, free_block_ids=ids)

    full = dataclasses.replace(cache, seq_lengths=jnp.array([23, 0, 8]))
    wild = dataclasses.replace(cache, block_table=cache.block_table.at[0, 3].set(24))
    for error, match, call in [
        (ValueError, r"block_table\[1\] has 6 entries but 7 are needed", lambda: allocate(25)),
        (ValueError, "num_new_tokens: -1", lambda: allocate(-1)),
        (IndexError, "free_block_ids: 24; the pool has 24", lambda: allocate(ids=jnp.array([1, 2, 24]))),
        (IndexError, "free_block_ids: -1", lambda: allocate(ids=jnp.array([1, 2, -1]))),
        (ValueError, "an id is there twice", lambda: allocate(ids=jnp.array([1, 2, 1]))),
        (ValueError, "free_block_ids: shape", lambda: allocate(ids=free[None])),
        (IndexError, "sequence_idx: 3; the cache has 3", lambda: allocate(index=3)),
        (IndexError, "sequence_idx: 3", lambda: ours.append_kv(cache, 3, new, new)),
        (IndexError, "sequence_idx: -4", lambda: ours.gather_kv(cache, -4)),
        (IndexError, "sequence_idx: 3", lambda: ours.paged_attention(query, cache, 3)),
        (ValueError, r"block_table\[0\] has 6 entries but 7 are needed", lambda: ours.append_kv(full, 0, new, new)),
        (IndexError, "block 24; the pool has 24", lambda: ours.append_kv(wild, 0, new, new)),
        (IndexError, "row 0, column 3: page 24", lambda: ours.paged_attention(query, wild, 0)),
        (ValueError, r"keys_new shape \(3, 2, 8\)", lambda: ours.append_kv(cache, 0, new[..., :8], new[..., :8])),
        (ValueError, "block_size: 0", lambda: ours.init_paged_kv_cache(**{**SIZES, "block_size": 0},
                                                                       dtype=jnp.float32)),
        (ValueError, "query: 4 dims", lambda: ours.paged_attention(query[None], cache, 0)),
        (ValueError, "mask: 4 dims", lambda: ours.paged_attention(query, cache, 0, mask=jnp.ones((1, 1, 1, 13), bool))),
        (ValueError, "query: shape", lambda: ours.paged_attention_batched(query[None], cache)),
        (NotImplementedError, "inference", lambda: ours.paged_attention(query, cache, 0, dropout_rate=0.1,
                                                                        deterministic=False)),
    ]:
        with pytest.raises(error, match=match):
            call()
    same(cache, fill(theirs))
    assert ours.allocate_blocks(cache, sequence_idx=-1, num_new_tokens=0, free_block_ids=free[:0])[1] == 0


def test_row_slots():
    row = np.array([7, 2, -1, 9], np.int32)
    assert folio._ext._row_slots(row, 3, 4, 4).tolist() == [31, 8, 9, 10]
    assert folio._ext._row_slots(row[::-1].astype(np.int64), 0, 1, 4).tolist() == [36]
    assert folio._ext._row_slots(row, 16, 0, 4).shape == (0,)
    for error, arguments in [
        (IndexError, (row, 8, 1, 4)), (IndexError, (row, 12, 5, 4)), (ValueError, (row, -1, 1, 4)),
        (ValueError, (row, 0, 1, 0)), (ValueError, (row, 2**63 - 1, 1, 4)), (TypeError, (row[None], 0, 1, 4)),
    ]:
        with pytest.raises(error):
            folio._ext._row_slots(*arguments)


@pytest.mark.parametrize("dtypes", [("float16", "float32"), ("bfloat16", "float32"), ("float16", "bfloat16"),
                                    ("float32", "bfloat16")], ids=str)
def test_a_query_of_another_dtype_than_the_cache(dtypes):
    got, want = fill(ours, jnp.dtype(dtypes[1])), fill(theirs, jnp.dtype(dtypes[1]))
    query = random(31, 4, 3, 16, dtype=jnp.dtype(dtypes[0]))
    a, b = ours.paged_attention(query, got, 0), attnax.paged_attention(query, want, 0)
    assert a.dtype == b.dtype == jnp.float32
    np.testing.assert_allclose(a, b, atol=1e-2)
    traced = jax.jit(lambda q, cache: ours.paged_attention(q, cache, 0))(query, got)
    np.testing.assert_allclose(traced, a, atol=1e-6)
    assert ours.paged_attention_batched(query[None].repeat(3, 0), got).dtype == jnp.float32


def test_a_mask_of_integers_keeps_what_is_not_0():
    got, want = fill(ours), fill(theirs)
    query, mask = random(32, 4, 3, 16), jnp.asarray(np.random.default_rng(33).integers(0, 3, (3, 13)), jnp.int32)
    mask = mask.at[:, 0].set(1)
    np.testing.assert_allclose(ours.paged_attention(query, got, 0, mask=mask),
                               attnax.paged_attention(query, want, 0, mask=mask), atol=1e-5)
    with pytest.raises(TypeError, match="mask"):
        ours.paged_attention(query, got, 0, mask=mask.astype(jnp.float32))
