# SPDX-License-Identifier: Apache-2.0
"""Arrays that are no NumPy arrays: bare DLPack exporters, buffers, __array_struct__; what they get; who is let go."""
import array
import ctypes
import gc
import sys
import weakref

import folio
import numpy as np
import oracle
import pytest


class Versioned:
    """A bare exporter of today's protocol."""

    def __init__(self, base):
        self.base = base

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        return self.base.__dlpack__(max_version=max_version)

    def __dlpack_device__(self):
        return (1, 0)


class Unversioned(Versioned):
    """One from before versions: no keyword."""

    def __dlpack__(self):
        return self.base.__dlpack__()


class StructOnly:
    """Nothing but __array_struct__."""

    def __init__(self, base):
        self.base = base

    @property
    def __array_struct__(self):
        return self.base.__array_struct__


def view(base):
    return memoryview(base)


EXPORTERS = [Versioned, Unversioned, StructOnly, view]


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("dtype", ["f32", "f16"])
def test_every_argument_may_come_that_way(exporter, dtype):
    p = oracle.problem(1, kv_lens=[5, 0, 9], q_lens=[2, 1, 3], dtype=dtype)
    sinks, mask = np.array([0.5, -1, 0, 2], np.float32), np.random.default_rng(1).random((6, 1, 9)) < 0.7
    out, lse = np.empty_like(p.q), np.empty(p.q.shape[:2], np.float32)
    given_out = exporter(out)
    got = folio.attention(*map(exporter, (p.q, p.k_pages, p.v_pages)), kv_lens=exporter(p.kv_lens),
                          page_table=exporter(p.page_table), q_indptr=exporter(p.q_indptr), sinks=exporter(sinks),
                          mask=exporter(mask), out=given_out, lse=exporter(lse))
    assert got is given_out
    want_out, want_lse = oracle.expect(p, sinks=sinks, mask=mask)
    oracle.assert_close(out, want_out)
    oracle.assert_close(lse, want_lse)
    made = folio.attention(exporter(p.q), p.k_pages, p.v_pages, **p.arguments(), sinks=sinks, mask=mask)
    assert type(made) is np.ndarray and made.tobytes() == out.tobytes()


def test_python_and_ctypes_arrays_as_indices():
    p = oracle.problem(2, kv_lens=[5, 9])
    want, _ = oracle.expect(p)
    for lens in (array.array("i", [5, 9]), array.array("q", [5, 9]), array.array("l", [5, 9]),
                 (ctypes.c_int32 * 2)(5, 9), (ctypes.c_int64 * 2)(5, 9), (5, 9), [np.int32(5), np.uint8(9)]):
        got = folio.attention(p.q, p.k_pages, p.v_pages, kv_lens=lens, page_table=p.page_table)
        oracle.assert_close(got, want, lens)
    for lens in (array.array("I", [5, 9]), array.array("h", [5, 9]), array.array("d", [5, 9]), b"\5\11"):
        with pytest.raises(TypeError, match="kv_lens"):
            folio.attention(p.q, p.k_pages, p.v_pages, kv_lens=lens, page_table=p.page_table)


def test_subclasses_of_ndarray():
    class Mine(np.ndarray):
        pass

    p = oracle.problem(3, kv_lens=[5, 9])
    got = folio.attention(p.q.view(Mine), p.k_pages.view(Mine), p.v_pages, **p.arguments())
    oracle.assert_close(got, oracle.expect(p)[0])


@pytest.mark.parametrize("exporter", [Versioned, view])
def test_read_only_memory_may_be_read_but_not_written(exporter):
    p = oracle.problem(4, kv_lens=[5, 9])
    for a in (p.q, p.k_pages, p.v_pages):
        a.flags.writeable = False
    got = folio.attention(*map(exporter, (p.q, p.k_pages, p.v_pages)), **p.arguments())
    oracle.assert_close(got, oracle.expect(p)[0])
    with pytest.raises(ValueError, match="read-only"):
        folio.attention(p.q, p.k_pages, p.v_pages, **p.arguments(), out=exporter(p.q))
    with pytest.raises(ValueError, match="k_pages.*read-only"):
        folio.append(np.ones((1, 2, 16), np.float32), np.ones((1, 2, 16), np.float32), exporter(p.k_pages),
                     exporter(p.v_pages), [0])


class Refusing:
    def __dlpack__(self, **keywords):
        raise BufferError("no, never")

    def __dlpack_device__(self):
        return (1, 0)


class Lying(Refusing):
    def __dlpack__(self, **keywords):
        return "no capsule"


class Interrupted(Refusing):
    def __dlpack__(self, **keywords):
        raise KeyboardInterrupt


def test_exporters_that_fail():
    p = oracle.problem(5, kv_lens=[5])
    with pytest.raises(TypeError, match="q.*no, never") as caught:
        folio.attention(Refusing(), p.k_pages, p.v_pages, **p.arguments())
    assert isinstance(caught.value.__cause__, BufferError)
    with pytest.raises(TypeError, match="q.*capsule"):
        folio.attention(Lying(), p.k_pages, p.v_pages, **p.arguments())
    with pytest.raises(KeyboardInterrupt):
        folio.attention(Interrupted(), p.k_pages, p.v_pages, **p.arguments())


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("kv_lens", [[5, 9], [5, -1]], ids=["good", "bad"])
def test_what_was_lent_is_given_back(exporter, kv_lens):
    """After a call, good or bad, the exporter's memory is free to go."""
    p = oracle.problem(6, kv_lens=[5, 9])
    arrays = [a.copy() for a in (p.q, p.k_pages, p.v_pages)]
    counts = [sys.getrefcount(a) for a in arrays]
    try:
        folio.attention(*map(exporter, arrays), kv_lens=kv_lens, page_table=p.page_table)
    except ValueError:
        assert kv_lens == [5, -1]
    gc.collect()
    assert [sys.getrefcount(a) for a in arrays] == counts


def test_a_plan_keeps_what_it_reads_and_nothing_else():
    p = oracle.problem(7, kv_lens=[5, 9])
    arrays = {"q": p.q.copy(), "k": p.k_pages.copy(), "v": p.v_pages.copy(), "table": p.page_table.copy()}
    dead = {name: weakref.ref(a) for name, a in arrays.items()}
    plan = folio.plan(arrays["q"], arrays["k"], arrays["v"], kv_lens=[5, 9], page_table=arrays["table"])
    arrays.clear()
    gc.collect()
    assert {name: ref() is None for name, ref in dead.items()} == {"q": True, "k": True, "v": True, "table": False}
    oracle.assert_close(plan.run(p.q, p.k_pages, p.v_pages), oracle.expect(p)[0])
    del plan
    gc.collect()
    assert dead["table"]() is None


class OnGpu(Versioned):
    """Says that it lies on a GPU, and remembers which stream it was told."""

    def __init__(self, base):
        super().__init__(base)
        self.streams = []

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        self.streams.append(stream)
        return self.base.__dlpack__(max_version=max_version)

    def __dlpack_device__(self):
        return (2, 0)


class Handle:
    """torch.cuda.Stream's way to say its handle."""

    cuda_stream = 77


@pytest.mark.parametrize("stream, told", [(None, -1), (7, 7), (0, 1), (Handle(), 77)])
def test_exporters_on_a_gpu_are_told_the_stream(stream, told):
    p = oracle.problem(1, kv_lens=[5, 9])
    q = OnGpu(p.q)
    if stream is None:
        folio.attention(q, p.k_pages, p.v_pages, **p.arguments())
    else:
        with pytest.raises(ValueError, match="stream: given, but the tensors are not on a GPU; must be None"):
            folio.attention(q, p.k_pages, p.v_pages, **p.arguments(), stream=stream)
    assert q.streams == [told]


def test_jax_arrays_on_a_gpu_are_refused_before_they_are_asked():
    """JAX knows its stream only inside a jitted function, and what it says to -1 is about a handle nobody gave."""

    class Array(OnGpu):
        __module__ = "jaxlib._jax"

    p = oracle.problem(1, kv_lens=[5, 9])
    q = Array(p.q)
    with pytest.raises(TypeError, match="q: a JAX array on a GPU: .*move it to the CPU, or use PyTorch or CuPy"):
        folio.attention(q, p.k_pages, p.v_pages, **p.arguments())
    assert q.streams == []


@pytest.mark.parametrize("stream, error", [("s", TypeError), (1.5, TypeError), (-1, ValueError), (1 << 64, ValueError)])
def test_no_stream(stream, error):
    p = oracle.problem(1, kv_lens=[5])
    plan = folio.plan(p.q, p.k_pages, p.v_pages, **p.arguments())
    with pytest.raises(error):
        folio.attention(p.q, p.k_pages, p.v_pages, **p.arguments(), stream=stream)
    with pytest.raises(error):
        plan.run(p.q, p.k_pages, p.v_pages, stream=stream)
    with pytest.raises(error):
        plan.update(stream=stream)
