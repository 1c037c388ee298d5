# SPDX-License-Identifier: Apache-2.0
"""Mods, block masks and quantised pages in traced calls: the bits of the eager call, and errors that say what to do."""
import pathlib
import sys

import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "python"))
import oracle  # noqa: E402

jax = pytest.importorskip("jax")
import folio.jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

FAILURES = (RuntimeError, ValueError)
SLOPES = np.linspace(0.1, 0.7, 4).astype(np.float32)
DOCUMENTS = np.array([[0, 0, 1, 1, 1, 0, 0, 0, 0], [0] * 9, [0, 0, 0, 0, 1, 1, 1, 2, 2], [5, 5, 6, 6, 0, 0, 0, 0, 0]])


def problem(seed):
    return oracle.problem(seed, kv_lens=[5, 0, 9, 4], q_lens=[2, 1, 3, 4])


def eager(p, **options):
    return folio.attention(p.q, p.k_pages, p.v_pages, **p.arguments(), return_lse=True, **options)


def traced(p, *given, options):
    """The call under jit; options(*given) makes its keywords of what is traced."""
    def call(q, k_pages, v_pages, arguments, given):
        return folio.jax.attention(q, k_pages, v_pages, **arguments, return_lse=True, **options(*given))

    return jax.jit(call)(p.q, p.k_pages, p.v_pages, p.arguments(), given)


def assert_same_bits(got, want):
    for g, w in zip(got, want, strict=True):
        assert np.asarray(g).dtype == np.asarray(w).dtype and np.asarray(g).tobytes() == np.asarray(w).tobytes()


@pytest.mark.parametrize("options", [
    {"score_mod": "score + slopes[h] * (kv - pos)", "captures": {"slopes": SLOPES}},
    {"mask_mod": "kv <= pos && doc[b, kv] == doc[b, pos]", "captures": {"doc": DOCUMENTS}},
    {"score_mod": folio.Mod("score * scale + bias[kv]", {"scale": 0.5, "bias": np.arange(9, dtype=np.float16)}),
     "mask_mod": folio.Mod("kv != 1")},
    {"score_mod": "score * 0.5", "causal": "bottom_right", "window": (3, -1), "softcap": 3.0},
], ids=["alibi", "documents", "two Mods", "with built-in options"])
def test_texts(options):
    p = problem(1)
    assert_same_bits(traced(p, options=lambda: options), eager(p, **options))


def test_captures_may_be_traced():
    p, text = problem(2), "score + slopes[h] * (kv - pos)"
    call = jax.jit(lambda slopes: folio.jax.attention(p.q, p.k_pages, p.v_pages, **p.arguments(), return_lse=True,
                                                      score_mod=text, captures={"slopes": slopes}))
    for slopes in (SLOPES, -SLOPES):
        assert_same_bits(call(slopes), eager(p, score_mod=text, captures={"slopes": slopes}))


def test_callables():
    p, slopes = problem(3), jnp.asarray(SLOPES)
    documents = jnp.asarray(DOCUMENTS, jnp.int32)

    def alibi(score, b, h, q, kv):
        return score + slopes[h] * (kv - q)

    def same_document(b, h, q, kv):
        return documents[b, kv] == documents[b, q]

    text = {"score_mod": "score + slopes[h] * (kv - q)", "mask_mod": "doc[b, kv] == doc[b, q]",
            "captures": {"slopes": SLOPES, "doc": DOCUMENTS}}
    # Each twice: the second time from memory, and traced anew by JAX.
    for _ in range(2):
        got = traced(p, options=lambda: {"score_mod": alibi, "mask_mod": same_document})
        for mine, texts in zip(got, eager(p, **text)):
            oracle.assert_close(mine, texts)
        as_jax = tuple(map(jnp.asarray, (p.q, p.k_pages, p.v_pages)))
        assert_same_bits(got, folio.attention(*as_jax, **p.arguments(), return_lse=True, score_mod=alibi,
                                              mask_mod=same_document))


def test_a_callable_may_close_over_what_is_traced():
    p = problem(4)

    def call(slopes, start):
        halved = slopes / 2
        return folio.jax.attention(p.q, p.k_pages, p.v_pages, **p.arguments(), return_lse=True,
                                   score_mod=lambda score, b, h, q, kv: score + halved[h] * kv,
                                   mask_mod=lambda b, h, q, kv: kv >= start)

    for slopes, start in ((SLOPES, 1), (3 * SLOPES, 2)):
        want = eager(p, score_mod="score + slopes[h] * kv", mask_mod="kv >= start",
                     captures={"slopes": slopes / 2, "start": start})
        assert_same_bits(jax.jit(call)(slopes, start), want)


@pytest.mark.parametrize("full", [False, True], ids=["partial", "full and partial"])
def test_block_masks(full):
    p = problem(5)
    number, indices = np.ones((4, 1, 2), np.int32), np.zeros((4, 1, 2, 3), np.int32)
    indices[2] = 2
    wholes = (np.ones((4, 1, 2), np.int32), np.ones((4, 1, 2, 3), np.int32)) if full else (None, None)
    blocks = folio.BlockMask(number, indices, *wholes, (2, 4), mask_mod="kv % 3 != off")
    blocks.mask_mod = folio.Mod("kv % 3 != off", {"off": 1})
    want = eager(p, block_mask=blocks)
    assert not np.isnan(want[0]).any()
    assert_same_bits(traced(p, options=lambda: {"block_mask": blocks}), want)

    def of_traced(number, indices, wholes):
        return {"block_mask": folio.BlockMask(number, indices, *wholes, (2, 4), mask_mod=blocks.mask_mod)}

    assert_same_bits(traced(p, number, indices, wholes, options=of_traced), want)
    with pytest.raises(FAILURES, match="kv_indices"):
        jax.block_until_ready(traced(p, number, indices + 9, wholes, options=of_traced))


def test_block_masks_and_captures_of_torch():
    torch = pytest.importorskip("torch")
    from torch.nn.attention.flex_attention import create_block_mask
    p = problem(9)
    blocks = create_block_mask(lambda b, h, q, kv: q >= kv, 4, 1, 4, 9, device="cpu", BLOCK_SIZE=(2, 4))
    blocks.mask_mod = folio.Mod("q >= kv - w[h]", {"w": torch.tensor([0, 1, 0, 2])})
    assert_same_bits(traced(p, options=lambda: {"block_mask": blocks}), eager(p, block_mask=blocks))


def test_what_a_callable_raises_is_the_cause():
    p = problem(10)
    with pytest.raises(TypeError, match="score_mod: tracing it raised ZeroDivisionError") as caught:
        traced(p, options=lambda: {"score_mod": lambda score, b, h, q, kv: 1 / 0})
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("is_traced", [False, True])
def test_a_zero_in_a_name_is_refused(is_traced):
    p, options = problem(11), {"score_mod": "score", "captures": {"a\0b": SLOPES}}
    with pytest.raises(ValueError, match="captures: name 'a.x00b'"):
        traced(p, options=lambda: options) if is_traced else eager(p, **options)


def test_what_is_refused_when_tracing():
    p = problem(6)
    table = jnp.asarray(SLOPES)
    for error, match, options in [
        (ValueError, "line 1, column 9", {"score_mod": "score + "}),
        (ValueError, "score", {"mask_mod": "score > 0"}),
        (ValueError, "captures: given without", {"captures": {"a": SLOPES}}),
        (TypeError, "score_mod.*int.*must be a str", {"score_mod": 3}),
        (TypeError, "score_mod: an array of shape.*folio.Mod.*outside jax.jit",
         {"score_mod": lambda score, b, h, q, kv: score + jnp.sort(table * kv)[0]}),
        (TypeError, "block_mask.*without kv_num_blocks", {"block_mask": SLOPES}),
    ]:
        with pytest.raises(error, match=match):
            traced(p, options=lambda options=options: options)


def test_a_capture_read_out_of_range_fails_when_it_runs():
    p = problem(7)
    options = {"score_mod": "score + a[kv]", "captures": {"a": SLOPES}}
    with pytest.raises(IndexError, match="a"):
        eager(p, **options)
    with pytest.raises(FAILURES, match="capture a"):
        jax.block_until_ready(traced(p, options=lambda: options))


def test_gradients_are_refused():
    p = problem(8)
    k = jnp.ones((1, 2, 16))
    pages = jnp.zeros((3, 4, 2, 16))
    for name, call in [
        ("attention", lambda x: folio.jax.attention(x * p.q, p.k_pages, p.v_pages, **p.arguments()).sum()),
        ("append", lambda x: folio.jax.append(x * k, k, pages, pages, [4])[0].sum()),
        ("gather", lambda x: folio.jax.gather(x * pages, pages, [0], 4)[0].sum()),
    ]:
        with pytest.raises(TypeError, match=f"folio.jax.{name}: no gradients"):
            jax.grad(call)(1.0)
        with pytest.raises(TypeError, match=f"folio.jax.{name}: no gradients"):
            jax.jit(jax.grad(call))(1.0)


# -- quantised pages -------------------------------------------------------------------------------------------------

DTYPES = [jnp.int8, jnp.float8_e4m3fn, jnp.float8_e5m2]
N_PAGES, SIZE, HEADS, DIM = 5, 4, 2, 16


def tokens(seed, n):
    return np.random.default_rng(seed).standard_normal((2, n, HEADS, DIM)).astype(np.float32)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
@pytest.mark.parametrize("scale", [0.25, [0.5, 2.0], "by slot"], ids=str)
def test_append_attend_and_gather_quantised(dtype, scale):
    k, v = tokens(1, 7)
    slots = np.array([12, 13, -1, 14, 15, 4, 5])
    by_slot = scale == "by slot"

    def scales():
        made = [np.full((N_PAGES, SIZE, HEADS), np.nan, np.float32) for _ in "kv"] if by_slot else [scale, scale]
        return dict(zip(("k_scale", "v_scale"), made))

    pages, mine = [np.zeros((N_PAGES, SIZE, HEADS, DIM), dtype) for _ in "kv"], scales()
    folio.append(k, v, *pages, slots, **mine)

    def step(k, v, pages, slots, given):
        given = given or scales()
        got = folio.jax.append(k, v, *pages, slots, **given)
        if by_slot:
            given = {"k_scale": got[2], "v_scale": got[3]}
        table = jnp.array([[3, 1]], jnp.int32)
        out = folio.jax.attention(k[:1], *got[:2], kv_lens=[6], page_table=table, **given)
        return got, out, folio.jax.gather(*got[:2], table[0], 6, **given)

    empty = [np.zeros((N_PAGES, SIZE, HEADS, DIM), dtype) for _ in "kv"]
    got, out, gathered = jax.jit(step)(k, v, empty, slots.astype(np.int32), scales() if by_slot else None)
    assert_same_bits(got, [*pages, *mine.values()] if by_slot else pages)
    assert_same_bits([out], [folio.attention(k[:1], *pages, kv_lens=[6], page_table=[[3, 1]], **mine)])
    assert_same_bits(gathered, folio.gather(*pages, [3, 1], 6, **mine))


def test_scales_by_slot_are_donated():
    k, v = tokens(2, 2)
    state = [jnp.zeros((N_PAGES, SIZE, HEADS, DIM), jnp.int8) for _ in "kv"]
    state += [jnp.ones((N_PAGES, SIZE, HEADS)) + i for i in range(2)]
    places = [a.unsafe_buffer_pointer() for a in state]
    for step in range(3):
        given = state
        state = folio.jax.append(k, v, *state[:2], [2 * step, 2 * step + 1], k_scale=state[2], v_scale=state[3],
                                 donate=True)
    assert [a.unsafe_buffer_pointer() for a in state] == places and all(a.is_deleted() for a in given)
    with pytest.raises(ValueError, match="v_scale: the same array as k_scale"):
        folio.jax.append(k, v, *state[:2], [0, 1], k_scale=state[2], v_scale=state[2], donate=True)


def test_scales_that_are_wrong():
    k, v = tokens(3, 1)
    pages = [jnp.zeros((N_PAGES, SIZE, HEADS, DIM), jnp.int8) for _ in "kv"]
    by_slot = jnp.ones((N_PAGES, SIZE, HEADS))
    with pytest.raises(ValueError, match="k_scale, v_scale: one is by slot"):
        folio.jax.append(k, v, *pages, [0], k_scale=by_slot, v_scale=1.0)
    for scale in (np.ones(3, np.float32), -1.0):
        with pytest.raises(FAILURES, match="k_scale"):
            jax.block_until_ready(folio.jax.append(k, v, *pages, [0], k_scale=scale, v_scale=1.0))
