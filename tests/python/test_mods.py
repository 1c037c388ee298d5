# SPDX-License-Identifier: Apache-2.0
"""score_mod= and mask_mod= with NumPy: every way in gives the float64 oracle's answer."""
import gc
import threading

import folio
import numpy as np
import oracle
import pytest
from folio import _mods

KV_LENS, Q_LENS = [37, 0, 9, 70], [5, 1, 9, 2]
SLOPES = np.array([0.5, -0.25, 0.125, 1.0], np.float32)
DOC = (np.arange(4 * 80).reshape(4, 80) // 7 % 3).astype(np.int32)
BIAS = np.random.default_rng(9).standard_normal((4, 80)).astype(np.float32)
PREFIX = np.array([3, 0, 2, 60], np.int64)


def problem(seed=1, **options):
    return oracle.problem(seed, kv_lens=KV_LENS, q_lens=Q_LENS, **options)


def attend(p, **options):
    return folio.attention(p.q, p.k_pages, p.v_pages, **p.arguments(), return_lse=True, **options)


# name: (score text, function of arrays); captures by name
SCORES = {
    "alibi": ("score + slopes[h] * (kv - q)", lambda s, b, h, i, j: s + SLOPES[h] * (j - i)),
    "soft cap": ("2 * tanh(score / 2)", lambda s, b, h, i, j: 2 * np.tanh(s / 2)),
    "bias": ("score + bias[h, kv]", lambda s, b, h, i, j: s + BIAS[h, j]),
    "only where": ("where(kv % 3 == 0, score, score - 1)", lambda s, b, h, i, j: np.where(j % 3 == 0, s, s - 1)),
    "of a row": ("score * f32(q + 1)", lambda s, b, h, i, j: s * (i + 1)),
    "constant": ("0", lambda s, b, h, i, j: 0 * s),
}
MASKS = {
    "causal": ("kv <= q", lambda b, h, i, j: j <= i),
    "window": ("kv <= q + 20 && q - kv < 4", lambda b, h, i, j: (j <= i + 20) & (i - j < 4)),
    "documents": ("doc[b, kv] == doc[b, q]", lambda b, h, i, j: DOC[b, j] == DOC[b, i]),
    "prefix": ("kv < prefix[b] || kv <= q", lambda b, h, i, j: (j < PREFIX[b]) | (j <= i)),
    "heads": ("(h + kv) % 2 == 0", lambda b, h, i, j: (h + j) % 2 == 0),
    "none": ("false", lambda b, h, i, j: np.zeros((i.size, j.size), bool)),
}
CAPTURES = {"slopes": SLOPES, "doc": DOC, "bias": BIAS, "prefix": PREFIX}


def same(p, got, what, **options):
    want = oracle.expect(p, **options)
    oracle.assert_close(got[0], want[0], f"{what}: out")
    oracle.assert_close(got[1], want[1], f"{what}: lse")


@pytest.mark.parametrize("name", SCORES)
def test_scores_as_text_and_called(name, backend):
    text, function = SCORES[name]
    p = problem()
    options = {"causal": "bottom_right", "softcap": 3.0}
    same(p, attend(p, score_mod=text, captures=CAPTURES, backend=backend, **options), name,
         score_mod=function, **options)
    same(p, attend(p, score_mod=function, backend=backend, **options), name, score_mod=function, **options)


@pytest.mark.parametrize("name", MASKS)
def test_masks_as_text_and_called(name, backend):
    text, function = MASKS[name]
    p = problem()
    options = {"window": (30, 5), "alibi_slopes": SLOPES}
    for mod in (folio.Mod(text, CAPTURES), function):
        same(p, attend(p, mask_mod=mod, backend=backend, **options), name, mask_mod=function, **options)


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
def test_both_at_once_in_a_plan(dtype):
    p = problem(dtype=dtype)
    (score, score_function), (mask, mask_function) = SCORES["alibi"], MASKS["documents"]
    for mods in ({"score_mod": score, "mask_mod": mask, "captures": CAPTURES},
                 {"score_mod": score_function, "mask_mod": mask_function},
                 {"score_mod": folio.Mod(score, CAPTURES), "mask_mod": mask_function}):
        plan = folio.plan(p.q, p.k_pages, p.v_pages, **p.arguments(), **mods)
        for _ in range(2):
            got = plan.run(p.q, p.k_pages, p.v_pages, return_lse=True)
            same(p, got, dtype, score_mod=score_function, mask_mod=mask_function)
        plan.update(kv_lens=p.kv_lens)
        same(p, plan.run(p.q, p.k_pages, p.v_pages, return_lse=True), dtype, score_mod=score_function,
             mask_mod=mask_function)


def test_captures_are_kept_and_read_at_every_run():
    p = problem()
    slopes = SLOPES.copy()
    plan = folio.plan(p.q, p.k_pages, p.v_pages, **p.arguments(), score_mod="score + slopes[h] * (kv - q) * half",
                      captures={"slopes": slopes, "half": 0.5})
    for _ in range(3):
        slopes += 0.25
        gc.collect()
        same(p, plan.run(p.q, p.k_pages, p.v_pages, return_lse=True), "slopes",
             score_mod=lambda s, b, h, i, j: s + slopes[h] / 2 * (j - i))
    del slopes
    gc.collect()
    plan.run(p.q, p.k_pages, p.v_pages)


def test_one_text_of_both_kinds_and_numbers_as_captures():
    p = problem()
    mod = folio.Mod("kv - q > -limit", {"limit": 3})
    same(p, attend(p, mask_mod=mod), "limit", mask_mod=lambda b, h, i, j: j - i > -3)
    with pytest.raises(ValueError, match=r"line 1, column 1.*bool"):
        attend(p, score_mod=mod)
    same(p, attend(p, score_mod=folio.Mod("flag ? score : gain", {"flag": True, "gain": np.float64(2.5)})), "numbers")


# -- called a tile at a time ---------------------------------------------------------------------------------------


def test_what_a_callable_gets():
    p = problem()
    seen = []

    def score_mod(score, b, h, q_idx, kv_idx):
        seen.append((score.shape, q_idx.shape, kv_idx.shape, int(b), int(h)))
        assert score.dtype == np.float32 and q_idx.dtype == kv_idx.dtype == np.int64
        score[...] = np.nan  # a copy
        return (q_idx + kv_idx).astype(np.float16)

    got = attend(p, score_mod=score_mod)
    same(p, got, "indices", score_mod=lambda s, b, h, i, j: i + j)
    covered = sum(rows * keys for (rows, keys), *_ in seen)
    assert covered >= 4 * sum(m * n for m, n in zip(Q_LENS, KV_LENS, strict=True))
    assert all(q == (s[0], 1) and k == (1, s[1]) for s, q, k, *_ in seen)
    assert {h for *_, h in seen} == {0, 1, 2, 3} and {b for *_, b, h in seen} == {0, 2, 3}


def test_whole_rows():
    """_mods.Tiles(whole=True): a function that needs all keys of a row, such as its own normalisation."""
    p = problem()
    calls = []

    def centred(score, b, h, q_idx, kv_idx):
        calls.append((int(b), int(h), score.shape))
        return score - score.sum(1, keepdims=True) / max(score.shape[1], 1)

    got = attend(p, score_mod=_mods.Tiles(centred, whole=True))
    in_calls, calls = calls, []
    same(p, got, "whole rows", score_mod=centred)
    assert set(in_calls) == set({(b, h, (Q_LENS[b], KV_LENS[b])) for b in (0, 2, 3) for h in range(4)})


def test_results_are_broadcast_and_cast():
    p = problem()
    for result in (0, 1.5, np.float64(2), np.ones((1, 1)), True, np.array([[3]], np.int8)):
        same(p, attend(p, score_mod=lambda *_, r=result: r), repr(result),
             score_mod=lambda s, b, h, i, j, r=result: 0 * s + np.asarray(r, np.float64))
    for result in (1, 0, np.array(True), np.array([[0.5]])):
        same(p, attend(p, mask_mod=lambda *_, r=result: r), repr(result),
             mask_mod=lambda b, h, i, j, r=result: np.full((i.size, j.size), bool(r)))


@pytest.mark.parametrize("result, error, words", [
    (np.ones((2, 3, 4)), ValueError, r"score_mod: the callable gave shape \(2, 3, 4\); must broadcast to"),
    (np.ones(1000), ValueError, r"score_mod: the callable gave shape \(1000,\)"),
    ("text", TypeError, "score_mod: the callable gave dtype <U4"),
    (None, TypeError, "score_mod: the callable gave dtype object"),
    (1j, TypeError, "score_mod: the callable gave dtype complex128"),
])
def test_wrong_results(result, error, words):
    p = problem()
    with pytest.raises(error, match=words):
        attend(p, score_mod=lambda *_: result)


def test_nan_stays_in_its_row():
    p = problem()
    out, lse = attend(p, score_mod=lambda s, b, h, i, j: np.where((h == 1) & (i == 2), np.nan, s))
    rows = np.isnan(lse)
    starts = np.cumsum([0, *Q_LENS])
    want = np.zeros_like(rows)
    want[[starts[b] + 2 for b in (0, 2)], 1] = True
    assert (rows == want).all() and (np.isnan(out).any(2) == want).all()


@pytest.mark.parametrize("backend", ["cpu", "ref"])
@pytest.mark.parametrize("rows", [1, 3, 60])
@pytest.mark.parametrize("num_splits", [0, 3])
def test_a_row_whose_every_score_is_nan_is_nan(rows, num_splits, backend):
    """By a mod, and by q itself; in both families, whole and in splits; with a sink too."""
    p = oracle.problem(11, kv_lens=[150, 70], q_lens=[rows, rows])
    arrays, keywords = p.in_layout("NHD")
    keywords |= dict(backend=backend, num_splits=num_splits, return_lse=True)
    poisoned = arrays[0].copy()
    poisoned[rows - 1, 1] = np.nan
    for q, mod in ((arrays[0], f"b == 0 && h == 1 && q == {rows - 1} ? inf - inf : score"), (poisoned, None)):
        for sinks in (None, np.zeros(arrays[0].shape[1], np.float32)):
            out, lse = folio.attention(q, *arrays[1:], **keywords, score_mod=mod, sinks=sinks)
            want = np.zeros(lse.shape, bool)
            want[rows - 1, 1] = True
            assert (np.isnan(lse) == want).all() and (np.isnan(out).all(2) == want).all()
            assert (np.isnan(out).any(2) == want).all()


class Mine(Exception):
    pass


@pytest.mark.parametrize("error", [Mine("why"), KeyboardInterrupt(), SystemExit(3)])
@pytest.mark.parametrize("threads", [1, 4])
def test_what_a_callable_raises_comes_through(error, threads):
    """The very object, with its traceback; the next call works."""
    p = oracle.problem(3, kv_lens=[2000, 300], q_lens=[40, 30])

    def raising(score, b, h, q_idx, kv_idx):
        raise error

    for call in (lambda: attend(p, score_mod=raising, num_threads=threads),
                 folio.plan(p.q, p.k_pages, p.v_pages, **p.arguments(), score_mod=raising, num_threads=threads).run):
        with pytest.raises(type(error)) as caught:
            call(p.q, p.k_pages, p.v_pages) if call.__name__ == "run" else call()
        assert caught.value is error and "raising" in {frame.name for frame in caught.traceback}
    function = SCORES["soft cap"][1]
    same(p, attend(p, score_mod=function, num_threads=threads), "the next call", score_mod=function)


def test_callables_in_many_threads_at_once():
    """One plan, one callable: its tiles come on the library's threads, of several calls at a time."""
    p = problem()
    function = SCORES["alibi"][1]
    plan = folio.plan(p.q, p.k_pages, p.v_pages, **p.arguments(), score_mod=function, num_threads=3)
    want = plan.run(p.q, p.k_pages, p.v_pages)
    wrong = []

    def work():
        for _ in range(10):
            if not np.array_equal(plan.run(p.q, p.k_pages, p.v_pages), want):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_callable_may_attend_itself():
    p = problem()
    inner = oracle.problem(2, kv_lens=[4])

    def nested(score, b, h, q_idx, kv_idx):
        return score + folio.attention(inner.q, inner.k_pages, inner.v_pages, **inner.arguments()).sum() * 0

    same(p, attend(p, score_mod=nested), "nested")


def test_callables_within_callables_and_beside_short_calls():
    """All with four threads: nobody waits for threads that wait for the interpreter."""
    p = oracle.problem(3, kv_lens=[300, 200, 200, 100], q_lens=[40, 30, 20, 20])
    small = oracle.problem(2, kv_lens=[40, 30, 20], q_lens=[3, 4, 5])
    function = SCORES["soft cap"][1]
    made_outside = folio.plan(small.q, small.k_pages, small.v_pages, **small.arguments(), score_mod=function,
                              num_threads=4)
    same_small = oracle.expect(small, score_mod=function)
    done = threading.Event()

    def nested(score, b, h, q_idx, kv_idx):
        plan = folio.plan(small.q, small.k_pages, small.v_pages, **small.arguments(), score_mod=function, num_threads=4)
        oracle.assert_close(plan.run(small.q, small.k_pages, small.v_pages), same_small[0])
        same(small, attend(small, score_mod=function, num_threads=4), "within", score_mod=function)
        with pytest.raises(folio.StateError, match="within"):
            made_outside.run(small.q, small.k_pages, small.v_pages)
        return function(score, b, h, q_idx, kv_idx)

    def short_calls():
        while not done.is_set():
            attend(small, num_threads=4, backend="ref")
            attend(small, num_threads=4)

    beside = threading.Thread(target=short_calls)
    beside.start()
    try:
        got = attend(p, score_mod=nested, num_threads=4)
    finally:
        done.set()
        beside.join()
    same(p, got, "nested", score_mod=function)
    oracle.assert_close(made_outside.run(small.q, small.k_pages, small.v_pages), same_small[0])


# -- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error, words, options", [
    (ValueError, r"text: line 1, column 9: ", {"score_mod": "score + "}),
    (ValueError, "slopes", {"score_mod": "score + slopes[h]"}),
    (ValueError, "mask mod", {"mask_mod": "score > 0"}),
    (TypeError, "score_mod.*int.*must be a str, a folio.Mod or a callable", {"score_mod": 3}),
    (TypeError, "mask_mod.*ndarray", {"mask_mod": np.ones(3, bool)}),
    (ValueError, "captures", {"captures": {"x": SLOPES}}),
    (ValueError, "captures", {"captures": {"x": SLOPES}, "score_mod": lambda s, *_: s}),
    (TypeError, "captures.*list", {"captures": [SLOPES], "score_mod": "score"}),
    (TypeError, "captures.*name 3", {"captures": {3: SLOPES}, "score_mod": "score"}),
    (TypeError, "capture x.*float64", {"captures": {"x": SLOPES.astype(float)}, "score_mod": "score"}),
    (TypeError, "capture x.*i8", {"captures": {"x": SLOPES.astype(np.int8)}, "score_mod": "score"}),
    (TypeError, "capture x.*list", {"captures": {"x": [1.0]}, "score_mod": "score"}),
    (ValueError, "captures.*'q'", {"captures": {"q": SLOPES}, "score_mod": "score"}),
    (ValueError, "capture x.*6", {"captures": {"x": SLOPES[(None,) * 5]}, "score_mod": "score"}),
    (ValueError, "captures.*65", {"captures": {f"x{i}": SLOPES for i in range(65)}, "score_mod": "score"}),
    (IndexError, "slopes", {"captures": {"slopes": SLOPES[:3]}, "score_mod": "score + slopes[h]"}),
])
def test_malformed_mods(error, words, options):
    p = problem()
    with pytest.raises(error, match=words) as caught:
        attend(p, **options)
    assert caught.type is error
    same(p, attend(p), "the next call")


def test_a_bad_text_is_refused_when_made():
    for text, words in [("score +", "column 8"), ("kv <", "column 5"), ("nothing", "nothing"), ("q ? 1 : 2", "bool")]:
        with pytest.raises(ValueError, match=words):
            folio.Mod(text)
    with pytest.raises(TypeError, match="text.*3"):
        folio.Mod(3)
    assert repr(folio.Mod("score")) == "folio.Mod('score')"


def test_explain_says_which_way_a_mod_went():
    p = problem()
    one, zero = np.ones((1, 1, 1), np.int32), np.zeros((1, 1, 1, 1), np.int32)
    block_mask = folio.BlockMask(one, zero, None, None, 128, lambda b, h, i, j: j <= i)
    text = folio.explain(p.q, p.k_pages, p.v_pages, **p.arguments(), score_mod="score * 2",
                         mask_mod=lambda b, h, i, j: j <= i, block_mask=block_mask)
    assert "\nway of score_mod: text\n" in text
    assert "\nway of mask_mod: called with a tile at a time, numpy arrays" in text
    assert "\nway of block_mask: blocks of 128 x 128; mask_mod called" in text


def test_mods_leak_nothing():
    p = problem()
    slopes = SLOPES.copy()
    import sys
    before = sys.getrefcount(slopes)

    def score_mod(s, b, h, i, j):
        return s + slopes[h]

    held = sys.getrefcount(slopes)
    for _ in range(3):
        attend(p, score_mod="score + x[h]", captures={"x": slopes})
        attend(p, score_mod=score_mod)
        folio.plan(p.q, p.k_pages, p.v_pages, **p.arguments(), score_mod=folio.Mod("score + x[h]", {"x": slopes}))
        with pytest.raises(ZeroDivisionError):
            attend(p, score_mod=lambda s, *_: s / (1 // 0))
    gc.collect()
    assert (sys.getrefcount(slopes), before) == (held, before)
