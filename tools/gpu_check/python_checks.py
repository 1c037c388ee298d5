# SPDX-License-Identifier: Apache-2.0
"""python_checks.py [EXAMPLES]: the Python package on tensors of a GPU: PyTorch's and CuPy's, compared with the CPU.

EXAMPLES: a folder; its *_paged.py, the scenarios of the systems that folio.compat replaces, are run with PyTorch's
default device, and a `device = "cpu"` of their own, set to the GPU. The last line counts: passed, failed, skipped.
"""
import importlib.util
import pathlib
import runpy
import statistics
import sys
import tempfile
import time
import traceback

import folio
import numpy as np
import torch

DEVICE = torch.device("cuda", 0)
TOLERANCE = {torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def problem(kv_lens, q_lens, dtype, heads=8, kv_heads=2, dim=64, page=16, seed=0):
    """The arguments of folio.attention on the CPU; NaN in every slot that no sequence has."""
    gen = torch.Generator().manual_seed(seed)
    n = [-(-kv // page) for kv in kv_lens]
    order = torch.randperm(sum(n) + 3, generator=gen).to(torch.int32)
    table = torch.full((len(n), max(max(n), 1)), 2147480000, dtype=torch.int32)
    k, v = (torch.full((len(order), page, kv_heads, dim), float("nan"), dtype=dtype) for _ in range(2))
    at = 0
    for b, kv in enumerate(kv_lens):
        table[b, : n[b]] = order[at : at + n[b]]
        at += n[b]
        for j in range(kv):
            for pages in (k, v):
                pages[table[b, j // page], j % page] = torch.randn(kv_heads, dim, generator=gen).to(dtype)
    q = torch.randn(sum(q_lens), heads, dim, generator=gen).to(dtype)
    indptr = torch.tensor(np.cumsum([0, *q_lens]), dtype=torch.int32)
    return dict(q=q, k_pages=k, v_pages=v, kv_lens=torch.tensor(kv_lens, dtype=torch.int32), page_table=table,
                q_indptr=indptr, max_q_len=max(q_lens), causal="bottom_right")


def moved(arguments, device=DEVICE):
    return {name: x.to(device) if isinstance(x, torch.Tensor) else x for name, x in arguments.items()}


def close(got, want, dtype, what):
    torch.testing.assert_close(got.cpu().float(), want.float(), atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype], msg=(
        lambda text: f"{what}: {text}"))


@check
def attention_of_torch_tensors():
    for dtype in TOLERANCE:
        for kv_lens, q_lens in (([1, 17, 0, 300], [1, 1, 1, 1]), ([40, 5, 129], [7, 5, 64])):
            a = problem(kv_lens, q_lens, dtype)
            want, want_lse = folio.attention(**a, return_lse=True)
            out, lse = folio.attention(**moved(a), return_lse=True)
            assert out.device == DEVICE and out.dtype == dtype and lse.device == DEVICE
            close(out, want, dtype, f"{dtype} {kv_lens}")
            close(lse, want_lse, torch.float16, f"lse {dtype} {kv_lens}")


@check
def attention_of_cupy_arrays():
    if not importlib.util.find_spec("cupy"):
        return "CuPy is not here"
    import cupy

    a = problem([33, 1, 200], [1, 1, 1], torch.float16)
    del a["q_indptr"]
    want = folio.attention(**a)
    on_gpu = {name: cupy.asarray(x.numpy()) if isinstance(x, torch.Tensor) else x for name, x in a.items()}
    out = folio.attention(**on_gpu)
    assert isinstance(out, cupy.ndarray), type(out)
    close(torch.from_numpy(cupy.asnumpy(out)), want, torch.float16, "CuPy")
    with cupy.cuda.Stream(non_blocking=True):
        again = folio.attention(**on_gpu)
    cupy.cuda.Device().synchronize()
    assert cupy.array_equal(again, out), "another stream gave other bits"


@check
def plan_run_and_update():
    a = problem([100, 17, 64], [1, 1, 1], torch.bfloat16)
    del a["q_indptr"]
    g = moved(a)
    plan = folio.plan(**g)
    first = plan.run(g["q"], g["k_pages"], g["v_pages"])
    close(first, folio.attention(**a), torch.bfloat16, "run")
    shorter = torch.tensor([50, 3, 1], dtype=torch.int32)
    plan.update(kv_lens=shorter.to(DEVICE))
    out = torch.empty_like(g["q"])
    assert plan.run(g["q"], g["k_pages"], g["v_pages"], out=out) is out
    close(out, folio.attention(**{**a, "kv_lens": shorter}), torch.bfloat16, "after update")
    plan.check()
    g["kv_lens"] = [100, 17, 64]  # on the host
    plan = folio.plan(**g)
    plan.update(kv_lens=[50, 3, 1])
    close(plan.run(g["q"], g["k_pages"], g["v_pages"]), out.cpu(), torch.bfloat16, "lengths on the host")


@check
def streams():
    a = problem([500, 900], [1, 1], torch.bfloat16)
    del a["q_indptr"]
    g = moved(a)
    want = folio.attention(**g)
    side = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(side):
        torch.cuda._sleep(20_000_000)
        g["q"].mul_(1)  # ordered before, on the side stream
        inside = folio.attention(**g)
    given = folio.attention(**g, stream=side)
    by_handle = folio.attention(**g, stream=side.cuda_stream)
    torch.cuda.synchronize()
    for got in (inside, given, by_handle):
        assert torch.equal(got, want)


@check
def a_graph_of_steps():
    """append, update and run in one captured graph, replayed with other lengths and slots in the same memory."""
    page, kv_heads, dim, n_steps = 16, 2, 64, 40
    a = problem([60, 33], [1, 1], torch.bfloat16, page=page)
    del a["q_indptr"]
    a["k_pages"].nan_to_num_(), a["v_pages"].nan_to_num_()
    width = -(-(60 + n_steps) // page)
    a["page_table"] = torch.arange(2 * width, dtype=torch.int32).reshape(2, width)
    a["k_pages"], a["v_pages"] = (torch.randn(2 * width, page, kv_heads, dim).bfloat16() for _ in range(2))
    g = moved(a)
    k, v = (torch.zeros(2, kv_heads, dim, dtype=torch.bfloat16, device=DEVICE) for _ in range(2))
    slots, out = torch.zeros(2, dtype=torch.int64, device=DEVICE), torch.empty_like(g["q"])
    plan = folio.plan(**g, max_kv_len=width * page)

    def step():
        folio.append(k, v, g["k_pages"], g["v_pages"], slots)
        plan.update()
        plan.run(g["q"], g["k_pages"], g["v_pages"], out=out)

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        slots.fill_(-1)
        step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=side):
        step()
    gen = torch.Generator().manual_seed(5)
    for _ in range(n_steps):
        new_k, new_v, new_q = (torch.randn(x.shape, generator=gen).bfloat16() for x in (k, v, a["q"]))
        at = a["kv_lens"].long()
        new_slots = a["page_table"][torch.arange(2), at // page].long() * page + at % page
        a["kv_lens"] += 1
        a["q"] = new_q
        folio.append(new_k, new_v, a["k_pages"], a["v_pages"], new_slots)
        for to, new in ((k, new_k), (v, new_v), (slots, new_slots), (g["q"], new_q), (g["kv_lens"], a["kv_lens"])):
            to.copy_(new)
        graph.replay()
        close(out, folio.attention(**a), torch.bfloat16, f"kv_lens {a['kv_lens'].tolist()}")
    plan.check()


@check
def pages_move():
    a = moved(problem([40, 70], [1, 1], torch.float32))
    row = a["page_table"][1, :5].contiguous()
    k, v = folio.gather(a["k_pages"], a["v_pages"], row, 70)
    assert k.device == DEVICE and not k.isnan().any()
    ks, vs = torch.zeros_like(a["k_pages"]), torch.zeros_like(a["v_pages"])
    j = torch.arange(70, device=DEVICE)
    slots = row.long()[j // 16] * 16 + j % 16
    folio.append(k, v, ks, vs, slots)
    k2, v2 = folio.gather(ks, vs, row, 70)
    assert torch.equal(k, k2) and torch.equal(v, v2)
    to = int(next(p for p in range(len(ks)) if p not in row.tolist()))
    folio.copy_pages(ks, vs, torch.tensor([[int(row[0]), to]], device=DEVICE))
    assert torch.equal(ks[to], ks[row[0]]) and torch.equal(vs[to], vs[row[0]])


@check
def merge_of_parts():
    outs, lses = torch.randn(3, 5, 4, 32), torch.randn(3, 5, 4)
    want, want_lse = folio.merge(outs, lses)
    out, lse = folio.merge(outs.to(DEVICE), lses.to(DEVICE))
    close(out, want, torch.float32, "merge")
    close(lse, want_lse, torch.float32, "lse")


def raises(error, words, call):
    try:
        call()
    except error as e:
        assert words in str(e), f"{type(e).__name__}: {e}; wanted: {words}"
    else:
        raise AssertionError(f"no {error.__name__}")


@check
def bad_input():
    a = problem([40, 70], [1, 1], torch.float16)
    del a["q_indptr"]
    g = moved(a)
    raises(ValueError, "k_pages", lambda: folio.attention(**{**g, "k_pages": a["k_pages"]}))
    raises(ValueError, "out", lambda: folio.attention(**g, out=torch.empty_like(a["q"])))
    raises(TypeError, "requires grad", lambda: folio.attention(**{**g, "q": g["q"].clone().requires_grad_()}))
    raises(NotImplementedError, "score_mod", lambda: folio.attention(**g, score_mod="score * 2"))
    plan = folio.plan(**g)
    bad = g["page_table"].clone()
    bad[1, 0] = 10**6
    plan.update(page_table=bad)
    out = plan.run(g["q"], g["k_pages"], g["v_pages"])
    raises(IndexError, "page", plan.check)
    close(out[:1], folio.attention(**a)[:1], torch.float16, "the other sequence")
    assert out[1].isnan().all(), "a sequence with a bad page must be NaN"


@check
def cost_of_a_call():
    """Not judged: a time is printed."""
    a = problem([64], [1], torch.bfloat16)
    del a["q_indptr"]
    g = moved(a)
    plan, out = folio.plan(**g), torch.empty_like(g["q"])
    q, k, v = g["q"], g["k_pages"], g["v_pages"]
    times = []
    for _ in range(30):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(100):
            plan.run(q, k, v, out=out)
        times.append((time.perf_counter() - start) / 100)
        torch.cuda.synchronize()
    print(f"  p.run(out=): {1e6 * statistics.median(times):.2f} us of the host")


@check
def ejkernel_of_torch_tensors():
    """The scenario itself is written with JAX arrays; the same call, on PyTorch's."""
    from folio.compat.ejkernel import page_attention

    gen = torch.Generator().manual_seed(3)
    q, k, v = (torch.randn(shape, generator=gen) for shape in ((4, 8, 64), (100, 8, 16, 64), (100, 8, 16, 64)))
    lens = torch.tensor([32, 64, 48, 80], dtype=torch.int32)
    tables = torch.tensor([[0, 1, -1, -1, -1], [2, 3, 4, 5, -1], [6, 7, 8, -1, -1], [9, 10, 11, 12, 13]],
                          dtype=torch.int32)
    for options in ({}, {"sliding_window": 20}, {"attn_logits_soft_cap": 30.0, "attn_scale": 0.2}):
        got = page_attention(*(x.to(DEVICE) for x in (q, k, v, lens, tables)), **options)
        assert got.device == DEVICE
        close(got, page_attention(q, k, v, lens, tables, **options), torch.float32, f"page_attention {options}")


@check
def jax_arrays_on_a_gpu_are_refused():
    if not importlib.util.find_spec("jax"):
        return "JAX is not here"
    import jax

    if jax.default_backend() != "gpu":
        return "JAX has no GPU backend here"
    a = problem([40], [1], torch.float32)
    del a["q_indptr"]
    q = jax.numpy.asarray(a["q"].numpy())
    raises(TypeError, "q: a JAX array on a GPU", lambda: folio.attention(**{**moved(a), "q": q}))


def scenario(path):
    text = path.read_text()

    def run():
        if "import jax" in text:
            return "its arrays are JAX's, which folio takes on the CPU only"
        torch.set_default_device(DEVICE)
        try:
            with tempfile.TemporaryDirectory() as folder:
                copy = pathlib.Path(folder, path.name)
                copy.write_text(text.replace('device = "cpu"', 'device = "cuda"'))
                runpy.run_path(str(copy), run_name="__main__")
        finally:
            torch.set_default_device("cpu")

    run.__name__ = path.name
    return run


def main():
    if not torch.cuda.is_available():
        print("skip: PyTorch sees no GPU")
        return 77
    if len(sys.argv) > 1:
        CHECKS.extend(scenario(path) for path in sorted(pathlib.Path(sys.argv[1]).glob("*_paged.py")))
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for function in CHECKS:
        try:
            why = function()
            verdict = "skipped" if why else "passed"
        except Exception:
            why, verdict = traceback.format_exc(limit=-3), "failed"
        counts[verdict] += 1
        print(f"{verdict}: {function.__name__}{': ' + why if why else ''}", flush=True)
    print("python: " + ", ".join(f"{n} {verdict}" for verdict, n in counts.items()))
    return 1 if counts["failed"] else 0


sys.exit(main())
