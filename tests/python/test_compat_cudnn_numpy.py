# SPDX-License-Identifier: Apache-2.0
"""folio.compat.cudnn with NumPy: every option of sdpa() against float64 formulas, refusals, and one plan a graph."""
import subprocess
import sys

import folio
import folio.compat.cudnn as cudnn
import numpy as np
import pytest
from oracle import BF16

BLOCK = 4
TYPES = {"FLOAT": (np.float32, 2e-5), "HALF": (np.float16, 2e-3), "BFLOAT16": (BF16, 2e-2)}


# -- a problem, its answer, and its graph ------------------------------------------------------------------------------


def in_memory(x, order, gap=3):
    """x [B, H, S, D] as a view whose dims lie in memory in another order, with NaN between the heads or rows."""
    turned = x.transpose(order)
    room = np.full((*turned.shape[:2], turned.shape[2] + gap, turned.shape[3]), np.nan, x.dtype)
    room[:, :, : turned.shape[2]] = turned
    return room[:, :, : turned.shape[2]].transpose(np.argsort(order))


def blocks_of(rng, x, lengths):
    """x [B, H, S, D] in random blocks: (container, table). NaN in slots past the lengths and in blocks nobody names."""
    batch, heads, n, dim = x.shape
    columns = -(-n // BLOCK)
    ids = rng.permutation(batch * columns + 3)[: batch * columns].reshape(batch, columns)
    container = np.full((batch * columns + 3, heads, BLOCK, dim), np.nan, x.dtype)
    table = np.full((batch, 1, columns, 1), -1, np.int32)
    for b, length in enumerate(lengths):
        for j in range(length):
            table[b, 0, j // BLOCK, 0] = ids[b, j // BLOCK]
            container[ids[b, j // BLOCK], :, j % BLOCK] = x[b, :, j]
    return container, table


class Problem:
    def __init__(self, seed, rows=5, keys=11, heads=4, kv_heads=2, dims=(16, 8), kind="FLOAT", q_lens=None,
                 kv_lens=None, order=(0, 2, 1, 3)):
        rng = np.random.default_rng(seed)
        dtype, self.atol = TYPES[kind]
        self.kind, self.seed = kind, seed
        self.q_lens, self.kv_lens = q_lens or [rows] * 3, kv_lens or [keys] * 3
        batch = len(self.q_lens)
        normal = lambda *shape: rng.standard_normal(shape).astype(dtype)  # noqa: E731
        self.q = in_memory(normal(batch, heads, rows, dims[0]), order)
        self.k, self.v = normal(batch, kv_heads, keys, dims[0]), normal(batch, kv_heads, keys, dims[1])
        self.pages = blocks_of(rng, self.k, self.kv_lens), blocks_of(rng, self.v, self.kv_lens)
        self.bias = rng.standard_normal((1, heads, rows, keys)).astype(np.float32)
        self.sink = rng.standard_normal((1, heads, 1, 1)).astype(np.float32)
        self.o = in_memory(np.full((batch, heads, rows, dims[1]), 7, dtype), order)
        self.stats = np.full((batch, heads, rows, 1), 7, np.float32)

    def lengths(self):
        return [np.array(x, np.int32).reshape(-1, 1, 1, 1) for x in (self.q_lens, self.kv_lens)]


def slopes(heads):
    m = 1
    while 2 * m <= heads:
        m *= 2
    steps = [8 * (i + 1) / m for i in range(m)] + [4 * (2 * t + 1) / m for t in range(heads - m)]
    return np.exp2(-np.array(steps))


def expect(p, scale=1.0, corner="top_left", left=None, right=None, alibi=False, bias=None, sink=None):
    """(o, stats) in float64. left, right: p - left < j <= p + right."""
    batch, heads, rows, _ = p.q.shape
    o, stats = np.zeros((batch, heads, rows, p.v.shape[3])), np.full((batch, heads, rows, 1), -np.inf)
    for b in range(batch):
        m, n = p.q_lens[b], p.kv_lens[b]
        for h in range(heads):
            g = h // (heads // p.k.shape[1])
            k, v = p.k[b, g, :n].astype(np.float64), p.v[b, g, :n].astype(np.float64)
            for i in range(rows):
                at, j = (i if corner == "top_left" else i + n - m), np.arange(n)
                score = scale * (k @ p.q[b, h, i].astype(np.float64))
                score = score + (slopes(heads)[h] * (j - at) if alibi else 0)
                score = score + (bias[0, h, i, :n] if bias is not None else 0)
                kept = (j < n) & (left is None or j > at - left) & (right is None or j <= at + right) & (i < m)
                terms = np.append(score[kept], [] if sink is None else sink[0, h, 0, 0])
                if len(terms):
                    top = terms.max()
                    total = np.exp(terms - top).sum()
                    stats[b, h, i] = top + np.log(total)
                    o[b, h, i] = np.exp(score[kept] - top) @ v[kept] / total
    return o, stats


def graph_of(p, paged=True, padded=True, bias=False, sink=False, stats=True, **options):
    """(graph, variant pack) of a problem, built."""
    graph = cudnn.pygraph(io_data_type=cudnn.data_type[p.kind], compute_data_type=cudnn.data_type.FLOAT)
    pack = {}

    def put(x):
        t = graph.tensor_like(x)
        pack[t] = x
        return t

    (k, k_table), (v, v_table) = p.pages if paged else ((p.k, None), (p.v, None))
    given = {"q": put(p.q), "k": put(k), "v": put(v)}
    if paged:
        given |= {"paged_attention_k_table": put(k_table), "paged_attention_v_table": put(v_table),
                  "paged_attention_max_seq_len_kv": p.k.shape[2]}
    if padded:
        given |= dict(zip(("seq_len_q", "seq_len_kv"), map(put, p.lengths())), use_padding_mask=True)
    given |= {"bias": put(p.bias)} if bias else {}
    given |= {"sink_token": put(p.sink)} if sink else {}
    o, lse = graph.sdpa(name="sdpa", generate_stats=stats, **given, **options)
    pack[o.set_output(True).set_dim(p.o.shape).set_stride([s // p.o.itemsize for s in p.o.strides])] = p.o
    if stats:
        pack[lse.set_output(True)] = p.stats
    graph.build([cudnn.heur_mode.A])
    return graph, pack


def run(p, **options):
    graph, pack = graph_of(p, **options)
    graph.execute(pack, np.empty(graph.get_workspace_size(), np.uint8))


def check(p, **wanted):
    o, stats = expect(p, **wanted)
    np.testing.assert_allclose(p.o.astype(np.float64), o, atol=p.atol, rtol=p.atol, err_msg=f"seed {p.seed}")
    np.testing.assert_allclose(p.stats, stats, atol=max(p.atol, 2e-5), rtol=1e-5, err_msg=f"seed {p.seed}")


# -- answers -----------------------------------------------------------------------------------------------------------

RAGGED = {"q_lens": [5, 0, 2], "kv_lens": [11, 3, 0]}
OPTIONS = {
    "plain": ({}, {}),
    "scale": ({"attn_scale": 0.25}, {"scale": 0.25}),
    "causal": ({"use_causal_mask": True}, {"right": 0}),
    "causal bottom right": ({"use_causal_mask_bottom_right": True}, {"right": 0, "corner": "bottom_right"}),
    "left": ({"diagonal_band_left_bound": 2}, {"left": 2}),
    "right": ({"diagonal_band_right_bound": 1}, {"right": 1}),
    "band": ({"diagonal_alignment": cudnn.diagonal_alignment.BOTTOM_RIGHT, "diagonal_band_left_bound": 4,
              "diagonal_band_right_bound": 1}, {"left": 4, "right": 1, "corner": "bottom_right"}),
    "sliding window": ({"use_causal_mask": True, "sliding_window_length": 3}, {"left": 3, "right": 0}),
    "alibi": ({"use_alibi_mask": True, "use_causal_mask": True}, {"alibi": True, "right": 0}),
    "alibi, not causal": ({"use_alibi_mask": True}, {"alibi": True}),
}


@pytest.mark.parametrize("paged", [True, False], ids=["paged", "whole"])
@pytest.mark.parametrize("lengths", [{}, RAGGED], ids=["full", "ragged"])
@pytest.mark.parametrize("name", OPTIONS)
def test_options(name, lengths, paged):
    options, wanted = OPTIONS[name]
    p = Problem(1, **lengths)
    run(p, paged=paged, **options)
    check(p, **wanted)


@pytest.mark.parametrize("lengths", [{}, RAGGED], ids=["full", "ragged"])
def test_bias_and_sink(lengths):
    p = Problem(2, heads=6, kv_heads=3, **lengths)
    run(p, bias=True, sink=True, use_alibi_mask=True, attn_scale=0.5)
    check(p, bias=p.bias, sink=p.sink, alibi=True, scale=0.5)


def test_without_padding_mask_every_row_and_key_counts():
    p = Problem(3)
    run(p, paged=False, padded=False, use_causal_mask_bottom_right=True)
    check(p, right=0, corner="bottom_right")


@pytest.mark.parametrize("order", [(0, 2, 1, 3), (0, 1, 2, 3), (2, 0, 1, 3)], ids=["BSHD", "BHSD", "SBHD"])
@pytest.mark.parametrize("kind", TYPES)
def test_types_and_strides(kind, order):
    p = Problem(4, kind=kind, order=order, **RAGGED)
    room = p.o.base
    n_gaps = np.isnan(room.astype(np.float32)).sum()
    run(p, use_causal_mask=True)
    check(p, right=0)
    assert n_gaps and np.isnan(room.astype(np.float32)).sum() == n_gaps, "a gap was written"


def test_one_row_one_sequence_and_none():
    for lens in ([1], [1, 1], []):
        p = Problem(5, rows=1, q_lens=lens or None, kv_lens=[11] * len(lens) or None)
        if not lens:
            p = Problem(5, rows=1)
            for name in ("q", "k", "v", "o", "stats"):
                setattr(p, name, getattr(p, name)[:0])
            p.q_lens, p.kv_lens, p.pages = [], [], [(c, t[:0]) for c, t in p.pages]
        run(p)
        check(p)


def test_o_of_another_type_than_q():
    p = Problem(6, kind="HALF")
    p.o = p.o.astype(np.float32)
    graph, pack = graph_of(p, stats=False)
    o = next(t for t, x in pack.items() if x is p.o)
    assert o.get_data_type() is cudnn.data_type.HALF
    with pytest.raises(TypeError, match="o: dtype float32; the graph says HALF"):
        graph.execute(pack)
    p.kind = "FLOAT"  # of what is not said: o
    run(p)
    assert np.abs(p.o - expect(p)[0]).max() < 1e-4, "q is widened, so that o is more than a rounded HALF"


# -- one plan, many executions -----------------------------------------------------------------------------------------


def test_one_plan_serves_arrays_tables_and_lengths_of_every_execution(monkeypatch):
    made = []
    monkeypatch.setattr(folio, "plan", lambda *a, plan=folio.plan, **k: made.append(1) or plan(*a, **k))
    first = Problem(7, **RAGGED)
    graph, pack = graph_of(first, bias=True, sink=True, use_causal_mask=True)
    assert made == [1], "build_plans makes the plan"
    tensors = {id(x): t for t, x in pack.items()}
    names = lambda p: [p.q, *p.pages[0], *p.pages[1], p.bias, p.sink, p.o, p.stats]  # noqa: E731
    for seed, lengths in enumerate(({}, RAGGED, {"q_lens": [1, 5, 3], "kv_lens": [1, 8, 11]})):
        p = Problem(10 + seed, **lengths)
        again = {tensors[id(old)]: new for old, new in zip(names(first), names(p))}
        again |= {t: x for t, x in zip([t for t in pack if t not in again], p.lengths())}
        graph.execute({t.get_uid(): x for t, x in again.items()})
        check(p, right=0, bias=p.bias, sink=p.sink)
    assert made == [1]


def test_described_by_numbers_the_plan_is_made_at_the_first_execution():
    p = Problem(8)
    graph = cudnn.pygraph(io_data_type=cudnn.data_type.FLOAT)
    q, k, v = (graph.tensor(x.shape, [s // 4 for s in x.strides]) for x in (p.q, p.k, p.v))
    o, stats = graph.sdpa(q, k, v, is_inference=False)
    o.set_output(True)
    stats.set_output(True)
    graph.build([cudnn.heur_mode.B])
    o_array = np.empty(o.get_dim(), np.float32).ravel()
    graph.execute({q: p.q, k: p.k.ravel(), v: p.v.ravel(), o: o_array, stats: p.stats.ravel()})
    p.o = np.lib.stride_tricks.as_strided(o_array, o.get_dim(), [4 * s for s in o.get_stride()])
    check(p)


# -- refusals ----------------------------------------------------------------------------------------------------------


def refused(error, words, p=None, then=None, **options):
    """The graph is refused while it is described or built, or `then` is when called with it and its pack."""
    with pytest.raises(error, match=words):
        built = graph_of(p or Problem(9), **options)
        if then:
            then(*built)


@pytest.mark.parametrize("option, value", [
    ("dropout", (0.1, None, None)), ("score_mod", abs), ("block_mask", 1), ("rng_dump", 1),
    ("use_deterministic_algorithm", True), ("implementation", "unified"), ("an_option_of_tomorrow", 1),
    ("compute_data_type", cudnn.data_type.HALF),
])
def test_options_outside_the_list_name_themselves(option, value):
    refused(cudnn.cudnnGraphNotSupportedError, f"^{option}", **{option: value})


def test_absent_options_may_be_none():
    p = Problem(9)
    run(p, dropout=None, score_mod=None, rng_dump=None, use_deterministic_algorithm=False)
    check(p)


def test_other_parts_of_cudnn_name_themselves():
    graph = cudnn.pygraph()
    for name in ("sdpa_backward", "sdpa_fp8", "matmul"):
        assert not hasattr(graph, name)
        with pytest.raises(cudnn.cudnnGraphNotSupportedError, match=name):
            getattr(graph, name)
    with pytest.raises(cudnn.cudnnGraphNotSupportedError, match="^sm_count"):
        cudnn.pygraph(sm_count=8)
    with pytest.raises(cudnn.cudnnGraphNotSupportedError, match="^compute_data_type"):
        cudnn.pygraph(compute_data_type=cudnn.data_type.HALF)
    with pytest.raises(cudnn.cudnnGraphNotSupportedError, match="^ragged_offset"):
        graph.tensor((1, 1, 1, 1), (1, 1, 1, 1)).set_ragged_offset(None)


@pytest.mark.parametrize("words, options", [
    ("use_causal_mask: given beside", {"use_causal_mask": True, "use_causal_mask_bottom_right": True}),
    ("use_causal_mask: aligned", {"use_causal_mask": True,
                                  "diagonal_alignment": cudnn.diagonal_alignment.BOTTOM_RIGHT}),
    ("diagonal_band_left_bound: got 0", {"diagonal_band_left_bound": 0}),
    ("diagonal_band_right_bound: got -1", {"diagonal_band_right_bound": -1}),
    ("diagonal_band_right_bound: got 1; a causal", {"use_causal_mask": True, "diagonal_band_right_bound": 1}),
    ("sliding_window_length: given beside", {"sliding_window_length": 2, "diagonal_band_left_bound": 2}),
    ("attn_scale: got nan", {"attn_scale": float("nan")}),
    ("paged_attention_k_table: needs use_padding_mask", {"padded": False}),
])
def test_contradictions(words, options):
    refused(ValueError, words, **options)


def test_shapes_that_do_not_fit():
    p = Problem(9)
    p.pages = p.pages[0], (p.pages[1][0][:, :, :2], p.pages[1][1])
    refused(cudnn.cudnnGraphNotSupportedError, "^v: blocks of 2 slots, k has blocks of 4", p)
    p = Problem(9)
    p.pages = p.pages[0], (p.pages[1][0][:, :1], p.pages[1][1])
    refused(cudnn.cudnnGraphNotSupportedError, "^v: 1 heads, k has 2", p)
    refused(ValueError, "^q: 3 heads; must be a multiple of k's 2", Problem(9, heads=3))
    p = Problem(9)
    p.pages = (p.pages[0][0], p.pages[0][1][:, :, :2]), p.pages[1]
    refused(ValueError, "^paged_attention_max_seq_len_kv: got 11; paged_attention_k_table holds 2 blocks of 4", p)
    p = Problem(9)
    p.bias = p.bias[:, :, :, :7]
    refused(ValueError, r"^bias: dim \[1, 4, 5, 7\]", p, bias=True)
    p = Problem(9)
    p.q = p.q.astype(np.float16)
    refused(cudnn.cudnnGraphNotSupportedError, "^q: HALF with k FLOAT", p)


def test_arrays_that_are_not_as_described_change_nothing():
    p = Problem(9)
    graph, pack = graph_of(p)
    q, o = next(t for t, x in pack.items() if x is p.q), next(t for t, x in pack.items() if x is p.o)
    before = p.o.copy()
    for key, x, error, words in [
        (q, None, ValueError, "variant_pack: nothing for q"),
        (q, p.q[:, :, :2], ValueError, "^q: shape"),
        (q, np.zeros(4, np.float32), ValueError, "^q: 4 elements; its shape and strides need"),
        (q, p.q.astype(np.float64), TypeError, "^q: dtype float64; the graph says FLOAT"),
        (o, [1.0], TypeError, "^o: got list"),
    ]:
        bad = {t: x if t is key else y for t, y in pack.items() if not (t is key and x is None)}
        with pytest.raises(error, match=words):
            graph.execute(bad)
    assert (p.o == before).all()


@pytest.mark.parametrize("name, bad", [("seq_len_q", 6), ("seq_len_q", -1), ("seq_len_kv", 12), ("seq_len_kv", -1)])
def test_lengths_out_of_range(name, bad):
    p = Problem(9)
    {"seq_len_q": p.q_lens, "seq_len_kv": p.kv_lens}[name][1] = bad
    p.pages = Problem(9).pages
    refused(ValueError, f"^{name}: got {bad}; must be 0", p, lambda graph, pack: graph.execute(pack))


def test_block_ids_out_of_range():
    for pool in (0, 1):
        p = Problem(9)
        p.pages[pool][1][1, 0, 2, 0] = 99
        refused(IndexError, "99", p, lambda graph, pack: graph.execute(pack))


def test_steps_in_order():
    graph = cudnn.pygraph()
    with pytest.raises(ValueError, match="sdpa"):
        graph.validate()
    for step, arguments in (("build_operation_graph", ()), ("create_execution_plans", ([cudnn.heur_mode.A],)),
                            ("check_support", ()), ("build_plans", ()), ("get_workspace_size", ()), ("execute", ({},))):
        with pytest.raises(folio.StateError, match="first"):
            getattr(graph, step)(*arguments)


def test_handles():
    handle = cudnn.create_handle()
    cudnn.set_stream(handle=handle, stream=5)
    assert cudnn.get_stream(handle) == 5 and cudnn.backend_version() >= 90500
    assert cudnn.backend_version_string().count(".") == 2
    cudnn.destroy_handle(handle)
    for call in (cudnn.destroy_handle, cudnn.get_stream):
        with pytest.raises(folio.StateError, match="handle"):
            call(handle)
    with pytest.raises(TypeError, match="handle"):
        cudnn.destroy_handle(None)


def test_the_demo_runs():
    run = subprocess.run([sys.executable, "-m", "folio.compat.cudnn", "--demo", "--length", "60", "--block", "16"],
                         capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert float(run.stdout.splitlines()[1].split()[-1]) < 2e-3
