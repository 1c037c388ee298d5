# SPDX-License-Identifier: Apache-2.0
"""folio.plan: made once a step, run in every layer, updated for the next step."""
import folio
import numpy as np
import oracle
import pytest


def test_a_plan_serves_layers_with_other_memory(backend):
    layers = [oracle.problem(seed, kv_lens=[5, 0, 9], q_lens=[2, 1, 3], spare_pages=2) for seed in range(3)]
    first = layers[0]
    plan = folio.plan(first.q, first.k_pages, first.v_pages, kv_lens=first.kv_lens, page_table=first.page_table,
                      q_indptr=first.q_indptr, causal="bottom_right", backend=backend)
    for layer in layers:
        first.page_table[:] = layer.page_table  # the plan looks at its table at every run
        out, lse = plan.run(layer.q, layer.k_pages, layer.v_pages, return_lse=True)
        want_out, want_lse = oracle.expect(layer, causal="bottom_right")
        oracle.assert_close(out, want_out)
        oracle.assert_close(lse, want_lse)
    plan.check()


def test_arrays_it_keeps_are_read_at_every_run(backend):
    p = oracle.problem(3, kv_lens=[7, 9])
    kept = {"sinks": np.zeros(4, np.float32), "alibi_slopes": np.zeros(4, np.float32),
            "bias": np.zeros((2, 4, 9), np.float32), "mask": np.ones((2, 4, 9), bool)}
    plan = folio.plan(p.q, p.k_pages, p.v_pages, **p.arguments(), **kept, backend=backend)
    rng = np.random.default_rng(3)
    for name, array in kept.items():
        array[...] = rng.random(array.shape) < 0.5 if name == "mask" else rng.standard_normal(array.shape)
        oracle.assert_close(plan.run(p.q, p.k_pages, p.v_pages), oracle.expect(p, **kept)[0], name)


def test_update_takes_new_lengths_and_tables(backend):
    long = oracle.problem(4, kv_lens=[30, 20])
    arrays, keywords = long.in_layout("NHD")
    table = long.page_table.copy()
    plan = folio.plan(*arrays, kv_lens=[1, 1], page_table=table, backend=backend)
    for lens in ([30, 20], [0, 3], [29, 0]):
        plan.update(kv_lens=lens)
        want, _ = oracle.attention(*arrays, kv_lens=lens, page_table=table.tolist())
        oracle.assert_close(plan.run(*arrays), want, lens)
    swapped = table[::-1].copy()
    plan.update([20, 30], swapped)
    want, _ = oracle.attention(*arrays, kv_lens=[20, 30], page_table=swapped.tolist())
    oracle.assert_close(plan.run(*arrays), want)


def test_update_without_arguments_looks_again(backend):
    p = oracle.problem(5, kv_lens=[12, 12])
    lens = np.array([1, 2], np.int32)
    plan = folio.plan(p.q, p.k_pages, p.v_pages, kv_lens=lens, page_table=p.page_table, backend=backend)
    lens[:] = 12, 7
    before, _ = oracle.attention(p.q, p.k_pages, p.v_pages, kv_lens=[1, 2], page_table=p.page_table.tolist())
    oracle.assert_close(plan.run(p.q, p.k_pages, p.v_pages), before, "lengths count only at update")
    plan.update()
    after, _ = oracle.attention(p.q, p.k_pages, p.v_pages, kv_lens=[12, 7], page_table=p.page_table.tolist())
    oracle.assert_close(plan.run(p.q, p.k_pages, p.v_pages), after)


def test_a_failing_update_changes_nothing(backend):
    p = oracle.problem(6, kv_lens=[5, 9], q_lens=[2, 2])
    plan = folio.plan(p.q, p.k_pages, p.v_pages, **p.arguments(), backend=backend)
    before = plan.run(p.q, p.k_pages, p.v_pages)
    for error, arguments in ((ValueError, {"kv_lens": [-1, 2]}), (ValueError, {"kv_lens": [1, 2, 3]}),
                             (ValueError, {"q_indptr": [0, 3, 1]}), (TypeError, {"kv_lens": [0.5, 1]}),
                             (TypeError, {"page_table": np.zeros((2, 4))}), (IndexError, {"kv_lens": [5, 10**6]})):
        with pytest.raises(error):
            plan.update(**arguments)
        assert plan.run(p.q, p.k_pages, p.v_pages).tobytes() == before.tobytes()


def test_run_wants_what_was_planned(backend):
    p = oracle.problem(7, kv_lens=[5, 9])
    plan = folio.plan(p.q, p.k_pages, p.v_pages, **p.arguments(), backend=backend)
    with pytest.raises(ValueError, match="q"):
        plan.run(p.q[:1], p.k_pages, p.v_pages)
    with pytest.raises((TypeError, ValueError), match="q"):
        plan.run(p.q.astype(np.float16), p.k_pages, p.v_pages)
    with pytest.raises(ValueError, match="k_pages"):
        plan.run(p.q, p.k_pages.swapaxes(1, 2).copy().swapaxes(1, 2), p.v_pages)
    with pytest.raises(TypeError, match="missing required argument 'v_pages'"):
        plan.run(p.q, p.k_pages)


def test_a_bad_page_id_shows_at_run(backend):
    p = oracle.problem(8, kv_lens=[5, 9])
    table = p.page_table.copy()
    plan = folio.plan(p.q, p.k_pages, p.v_pages, kv_lens=p.kv_lens, page_table=table, backend=backend)
    table[1, 2] = 77
    out = np.full_like(p.q, 3.0)
    with pytest.raises(IndexError, match=r"(?s)1.*2.*77"):
        plan.run(p.q, p.k_pages, p.v_pages, out=out)
    assert (out == 3).all()
    table[1, 2] = p.page_table[1, 2]
    oracle.assert_close(plan.run(p.q, p.k_pages, p.v_pages, out=out), oracle.expect(p)[0])


def test_return_lse_of_the_plan_is_the_default_of_run():
    p = oracle.problem(9, kv_lens=[5, 9])
    plan = folio.plan(p.q, p.k_pages, p.v_pages, **p.arguments(), return_lse=True)
    assert isinstance(plan.run(p.q, p.k_pages, p.v_pages), tuple)
    assert isinstance(plan.run(p.q, p.k_pages, p.v_pages, return_lse=False), np.ndarray)
