# SPDX-License-Identifier: Apache-2.0
"""Malformed calls, one row each: the class, the words of the message, no output byte changed, the next call works."""
import folio
import numpy as np
import oracle
import pytest
from numpy.lib.stride_tricks import as_strided

N_PAGES, PAGE, HEADS, KV_HEADS, DIM = 8, 4, 4, 2, 16
F32, F64, I32, I64 = np.float32, np.float64, np.int32, np.int64


def good():
    """The call that every row spoils: positional arrays and keywords in one dict."""
    p = oracle.problem(1, kv_lens=[5, 0, 9], q_lens=[2, 1, 3], heads=(HEADS, KV_HEADS), dims=(DIM, DIM))
    return {"q": p.q, "k_pages": p.k_pages, "v_pages": p.v_pages, "kv_lens": p.kv_lens, "page_table": p.page_table,
            "q_indptr": p.q_indptr, "out": np.full_like(p.q, 7), "lse": np.full(p.q.shape[:2], 7, F32)}


def array(*shape, dtype=F32):
    return np.ones(shape, dtype)


def changed(name, change):
    """A spoiler that rewrites one argument."""
    return lambda call: call.update({name: change(call[name])})


def put(index, value, name="page_table", dtype=None):
    """A spoiler that puts a value into an index array."""
    def spoil(call):
        call[name] = call[name].astype(dtype or call[name].dtype)
        call[name][index] = value
    return spoil


def given(**arguments):
    return lambda call: call.update(arguments)


def both_pages(change):
    return lambda call: call.update(k_pages=change(call["k_pages"]), v_pages=change(call["v_pages"]))


def misaligned(a):
    """The same values one byte off."""
    raw = np.zeros(a.nbytes + 1, np.uint8)[1:]
    moved = raw.view(a.dtype).reshape(a.shape)
    moved[...] = a
    return moved


def packed(a):
    """A field of a packed record: its stride is no multiple of its size."""
    record = np.zeros(a.shape, np.dtype([("x", a.dtype), ("y", "u1")]))
    record["x"] = a
    return record["x"]


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def overlapping_out(call):
    """out begins in the middle of q's memory."""
    n = call["q"].size
    memory = np.zeros(2 * n, F32)
    memory[:n] = call["q"].ravel()
    call["q"], call["out"] = memory[:n].reshape(call["q"].shape), memory[n // 2 : n // 2 + n].reshape(call["q"].shape)


def csr_too(call):
    call.update(kv_indptr=[0, 2, 2, 5], kv_indices=[0, 1, 2, 3, 4])


class Opaque:
    pass


ROWS = {
    # types
    "11 q float64": (TypeError, "q.*float64", changed("q", lambda a: a.astype(F64))),
    "12 q float16 over float32 pages": (TypeError, "q.*f16.*f32", lambda c: c.update(q=c["q"].astype(np.float16),
                                                                                    out=c["out"].astype(np.float16))),
    "13 q complex": (TypeError, "q.*complex64", changed("q", lambda a: a.astype(np.complex64))),
    "13 q bool": (TypeError, "q.*bool", changed("q", lambda a: a.astype(bool))),
    "13 q object": (TypeError, "q.*object", changed("q", lambda a: a.astype(object))),
    "13 q str": (TypeError, "q", given(q="q")),
    "13 v_pages float16": (TypeError, "v_pages.*f16", changed("v_pages", lambda a: a.astype(np.float16))),
    "14 page_table float": (TypeError, "page_table", changed("page_table", lambda a: a.astype(F32))),
    "15 page_table uint32": (TypeError, "page_table.*uint32", changed("page_table", lambda a: a.astype(np.uint32))),
    "15 page_table int16": (TypeError, "page_table.*int16", changed("page_table", lambda a: a.astype(np.int16))),
    "16 kv_lens of floats": (TypeError, r"kv_lens\[0\].*5\.0", given(kv_lens=[5.0, 0, 9])),
    "16 kv_lens an int": (TypeError, "kv_lens", given(kv_lens=5)),
    "16 page_table with a float": (TypeError, r"page_table\[0\]\[1\]", given(page_table=[[0, 1.5], [], [1, 2, 3]])),
    "16 page_table of rows and ints": (TypeError, r"page_table\[1\]", given(page_table=[[0, 1], 2, [1, 2, 3]])),
    "16 kv_lens past 64 bits": (ValueError, r"kv_lens\[1\]", given(kv_lens=[5, 2**64, 9])),
    "20 q None": (TypeError, "q.*None", given(q=None)),
    "21 q big-endian": (TypeError, "q.*>f4", changed("q", lambda a: a.astype(">f4"))),
    "21 kv_lens big-endian": (TypeError, "kv_lens.*>i4", changed("kv_lens", lambda a: a.astype(">i4"))),
    "21 q misaligned": (ValueError, "q.*align", changed("q", misaligned)),
    "21 q packed": (ValueError, "q.*stride", changed("q", packed)),
    "22 out read-only": (ValueError, "out.*read-only", changed("out", read_only)),
    "22 lse read-only": (ValueError, "lse.*read-only", changed("lse", read_only)),
    "23 q opaque": (TypeError, "q.*Opaque", given(q=Opaque())),
    "23 q masked array": (TypeError, "q.*MaskedArray", changed("q", np.ma.masked_array)),
    "23 q nested list": (TypeError, "q.*list", changed("q", np.ndarray.tolist)),
    # shapes
    "25 q 2-D": (ValueError, "q.*2 dims", changed("q", lambda a: a[:, 0])),
    "25 q 5-D": (ValueError, "q.*5 dims", changed("q", lambda a: a[None, None])),
    "25 q 4-D of other tokens": (ValueError, "out: .*must be q's|q_indptr", changed("q", lambda a: np.stack([a, a]))),
    "25 q 9-D": (ValueError, "q.*9 dims", changed("q", lambda a: a[(None,) * 6])),
    "25 k_pages 3-D": (ValueError, "k_pages.*3 dims", changed("k_pages", lambda a: a[0])),
    "25 v_pages 5-D": (ValueError, "v_pages.*5 dims", changed("v_pages", lambda a: a[None])),
    "26 head_dim of q": (ValueError, "head_dim.*8.*16|head_dim.*16.*8", changed("q", lambda a: a[:, :, :8].copy())),
    "27 heads": (ValueError, "multiple", changed("q", lambda a: a[:, :3].copy())),
    "28 kv heads of K and V": (NotImplementedError, "heads", changed("v_pages", lambda a: a[:, :, :1].copy())),
    "29 pages of K and V": (ValueError, "v_pages", changed("v_pages", lambda a: a[:-1])),
    "30 page_size of K and V": (ValueError, "page_size", changed("v_pages", lambda a: a[:, :3].copy())),
    "31 kv_lens too few": (ValueError, "kv_lens|page_table|q_indptr", changed("kv_lens", lambda a: a[:2])),
    "31 kv_lens 2-D": (ValueError, "kv_lens", changed("kv_lens", lambda a: a[None])),
    "32 page_table too few rows": (ValueError, "page_table", changed("page_table", lambda a: a[:2])),
    "32 page_table 1-D": (ValueError, "page_table", changed("page_table", lambda a: a[0])),
    "33 q_indptr ends elsewhere": (ValueError, "q_indptr.*7|q_indptr.*6", put(3, 7, "q_indptr")),
    "34 q_indptr starts elsewhere": (ValueError, "q_indptr", put(0, 1, "q_indptr")),
    "35 q_indptr falls": (ValueError, "q_indptr", put(1, 4, "q_indptr")),
    "36 out shape": (ValueError, "out", changed("out", lambda a: a[:, :2])),
    "36 out dtype": (TypeError, "out.*f16", changed("out", lambda a: a.astype(np.float16))),
    "37 lse shape": (ValueError, "lse", changed("lse", lambda a: a[:4])),
    "37 lse dtype": (TypeError, "lse", changed("lse", lambda a: a.astype(np.float16))),
    "38 mask shape": (ValueError, "mask", given(mask=array(2, 3, 9, dtype=bool))),
    "38 mask dtype": (TypeError, "mask", given(mask=array(9))),
    "38 bias shape": (ValueError, "bias", given(bias=array(6, 3, 9))),
    "38 bias dtype": (TypeError, "bias", given(bias=array(9, dtype=I32))),
    "39 alibi_slopes of kv heads": (ValueError, "alibi_slopes", given(alibi_slopes=array(KV_HEADS))),
    "39 alibi_slopes float64": (TypeError, "alibi_slopes.*float64", given(alibi_slopes=array(HEADS, dtype=F64))),
    "40 sinks": (ValueError, "sinks", given(sinks=array(HEADS + 1))),
    "41 head_dim 0": (ValueError, "q.*dim 0", lambda c: c.update(q=c["q"][..., :0], k_pages=c["k_pages"][..., :0])),
    "41 kv heads 0": (ValueError, "heads", both_pages(lambda a: a[:, :, :0])),
    "41 page_size 0": (ValueError, "page_size", both_pages(lambda a: a[:, :0])),
    "41 page_size= 0": (ValueError, "page_size", given(page_size=0)),
    "41 page_size= other": (ValueError, "page_size.*5.*4", given(page_size=5)),
    "42 head_dim": (NotImplementedError, "1024", lambda c: c.update(q=array(6, 4, 1025),
                                                                      k_pages=array(8, 4, 2, 1025))),
    # values
    "43 kv_len negative": (ValueError, "kv_lens.*-1", put(1, -1, "kv_lens")),
    "44 kv_len past the table": (IndexError, "page.table", put(1, 17, "kv_lens")),
    "45 page id negative": (IndexError, r"(?s)2.*1.*-1", put((2, 1), -1)),
    "46 page id = n_pages": (IndexError, r"(?s)0.*1.*8", put((0, 1), N_PAGES)),
    "47 page id 2^31 - 1": (IndexError, "2147483647", put((0, 1), 2**31 - 1)),
    "47 page id 2^40": (IndexError, "1099511627776", put((0, 1), 2**40, dtype=I64)),
    "47 page id 2^32": (IndexError, "4294967296", put((0, 1), 2**32, dtype=I64)),
    "50 window left": (ValueError, "window.*-5", given(window=(-5, 0))),
    "50 window right": (ValueError, "window.*-2", given(window=(0, -2))),
    "50 window of three": (ValueError, "window", given(window=(0, 0, 0))),
    "50 window an int": (TypeError, "window", given(window=4)),
    "50 window of floats": (TypeError, "window", given(window=(1.5, 0))),
    "50 window None": (TypeError, "window", given(window=None)),
    "51 softcap negative": (ValueError, "softcap.*-1", given(softcap=-1.0)),
    "51 softcap NaN": (ValueError, "softcap", given(softcap=np.nan)),
    "51 softcap inf": (ValueError, "softcap", given(softcap=np.inf)),
    "51 softcap str": (TypeError, "softcap", given(softcap="1")),
    "52 scale NaN": (ValueError, "scale", given(scale=np.nan)),
    "52 scale inf": (ValueError, "scale", given(scale=-np.inf)),
    "54 num_splits negative": (ValueError, "num_splits.*-1", given(num_splits=-1)),
    "54 num_splits huge": (ValueError, "num_splits.*1000000000", given(num_splits=10**9)),
    "54 num_splits past 32 bits": (ValueError, "num_splits", given(num_splits=2**40)),
    "54 num_threads negative": (ValueError, "threads.*-1", given(num_threads=-1)),
    "54 max_kv_len too small": (ValueError, "max_kv_len", given(max_kv_len=8)),
    "54 max_q_len too small": (ValueError, "max_q_len", given(max_q_len=2)),
    "54 max_kv_len negative": (ValueError, "max_kv_len", given(max_kv_len=-1)),
    # words
    "layout": (ValueError, "layout.*NHD.*HND.*FLAT", given(layout="HDN")),
    "layout None": (TypeError, "layout", given(layout=None)),
    "layout FLAT without page_size": (ValueError, "page_size", given(layout="FLAT")),
    "layout FLAT of 4-D pages": (ValueError, "k_pages.*FLAT", given(layout="FLAT", page_size=4)),
    "causal word": (ValueError, "causal.*top_left.*bottom_right", given(causal="lower")),
    "causal True": (TypeError, "causal.*True", given(causal=True)),
    "align against causal": (ValueError, "align", given(causal="top_left", align="bottom_right")),
    "backend": (ValueError, "backend.*auto", given(backend="gpu")),
    # strides and memory
    "55 q dim stride": (ValueError, "q.*stride", changed("q", lambda a: np.repeat(a, 2, 2)[:, :, ::2])),
    "55 k_pages dim stride": (ValueError, "k_pages.*stride", changed("k_pages", lambda a: a.repeat(2, 3)[..., ::2])),
    "56 page stride negative": (ValueError, "k_pages.*stride", changed("k_pages", lambda a: a[::-1])),
    "56 page stride zero": (ValueError, "k_pages", changed("k_pages", lambda a: np.broadcast_to(a[:1], a.shape))),
    "57 out is q": (ValueError, "out.*q", lambda c: c.update(out=c["q"])),
    "57 out overlaps q": (ValueError, "out.*q", overlapping_out),
    "57 out in k_pages": (ValueError, "out.*k_pages", lambda c: c.update(out=c["k_pages"].reshape(-1, 4, 16)[:6])),
    "57 lse in out": (ValueError, "lse.*out", lambda c: c.update(lse=c["out"].ravel()[:24].reshape(6, 4))),
    "57 out's rows overlap": (ValueError, "out", changed("out", lambda a: as_strided(a, a.shape, (64, 64, 4)))),
    "58 pages past 63 bits": (ValueError, "k_pages", changed("k_pages", lambda a: as_strided(
        a, (2**40, 4, 2, 16), (2**40, 128, 64, 4), writeable=False))),
    # tables
    "no table": (ValueError, "page_table", given(page_table=None)),
    "a table and CSR": (ValueError, "page_table|kv_ind", csr_too),
    "kv_indptr alone": (ValueError, "kv_ind", given(page_table=None, kv_indptr=[0, 1, 1, 2])),
    "kv_indptr falls": (ValueError, "kv_indptr", given(page_table=None, kv_indptr=[0, 2, 1, 5], kv_indices=[0] * 5)),
    "kv_indptr past the end": (ValueError, "kv_ind", given(page_table=None, kv_indptr=[0, 2, 2, 6],
                                                           kv_indices=[0] * 5)),
    # later
    "score_mod": (ValueError, "text: line 1, column 8", given(score_mod="score +")),
    "score_mod of what is none": (TypeError, "score_mod.*Opaque", given(score_mod=Opaque())),
    "mask_mod": (ValueError, "text: line 1", given(mask_mod="q >= ")),
    "block_mask": (TypeError, "block_mask.*Opaque", given(block_mask=Opaque())),
    "captures": (ValueError, "captures", given(captures={})),
    "53 k_scale without quantised pages": (ValueError, "k_scale: given with pages of f32", given(k_scale=1.0)),
    "53 v_scale without quantised pages": (ValueError, "v_scale: given with pages of f32", given(v_scale=array(2))),
    "53 k_scale, text": (TypeError, "k_scale", given(k_scale="1")),
    "53 k_scale, a list of text": (TypeError, "k_scale: '1'; must be a number", given(k_scale=["1"])),
    "unknown keyword": (TypeError, "unexpected keyword argument 'casual'", given(casual="top_left")),
    "kv_lens missing": (TypeError, "missing required argument 'kv_lens'", lambda c: c.pop("kv_lens")),
}


def attention(call):
    return folio.attention(**call)


def plan_and_run(call):
    arrays = [call[name] for name in ("q", "k_pages", "v_pages")]
    return folio.plan(**call).run(*arrays, out=call["out"], lse=call["lse"])


@pytest.mark.parametrize("enter", [attention, plan_and_run])
@pytest.mark.parametrize("row", ROWS)
def test_malformed_call(row, enter, backend):
    error, words, spoil = ROWS[row]
    call = good()
    if "backend" not in row:
        call["backend"] = backend
    spoil(call)
    arrays = [a for a in call.values() if isinstance(a, np.ndarray) and a.size < 10**6]
    before = [a.tobytes() for a in arrays]
    with pytest.raises(error, match=words) as caught:
        enter(call)
    assert caught.type is error, f"{caught.type.__name__}: {caught.value}"
    assert [a.tobytes() for a in arrays] == before, "an array was written"
    check_a_good_call(backend)


def check_a_good_call(backend):
    call = good()
    out = folio.attention(**call, backend=backend)
    p = oracle.Problem(*(call[name] for name in ("q", "k_pages", "v_pages", "page_table", "kv_lens", "q_indptr")))
    oracle.assert_close(out, oracle.expect(p)[0])


def test_what_looks_bad_but_is_good(backend):
    """Capacity used to the last slot, garbage behind it, K and V in one place, repeated pages, extents of one."""
    call = good() | {"backend": backend}
    call["kv_lens"] = np.array([5, 0, 16], I32)
    call["page_table"][2] = [1, 2, 2, 1]
    call["page_table"][1] = 2**31 - 1
    call["k_pages"] = call["v_pages"] = np.ones_like(call["k_pages"])
    call["out"] = call["out"][:, :, :]
    assert np.allclose(folio.attention(**call)[[0, 1, 3, 4, 5]], 1)
    one = folio.attention(np.ones((1, 2, 8), F32)[:, ::-1][:, :1], np.ones((1, 1, 1, 8), F32),
                          np.ones((1, 1, 1, 8), F32), kv_lens=[1], page_table=[[0]], backend=backend)
    assert (one == 1).all()


def test_a_gpu_that_is_not_there():
    with pytest.raises((NotImplementedError, folio.DeviceError), match="(?i)cuda"):
        folio.attention(**good(), backend="cuda")


PAGE_ROWS = {
    "49 slot past the pool": (IndexError, r"slots\[1\].*32", {"slots": [4, 32]}),
    "49 slot below -1": (IndexError, r"slots\[0\].*-2", {"slots": [-2, 4]}),
    "49 slot named twice": (ValueError, "slots", {"slots": [4, 4]}),
    "slots too few": (ValueError, "slots", {"slots": [4]}),
    "slots of floats": (TypeError, "slots", {"slots": [4, 5.0]}),
    "slots uint32": (TypeError, "slots.*uint32", {"slots": np.array([4, 5], np.uint32)}),
    "k float64": (TypeError, "k.*float64", {"k": array(2, KV_HEADS, DIM, dtype=F64)}),
    "k heads": (ValueError, "k", {"k": array(2, 1, DIM)}),
    "v head_dim": (ValueError, "v", {"v": array(2, KV_HEADS, 8)}),
    "k None": (ValueError, "k", {"k": None}),
    "k_pages read-only": (ValueError, "k_pages.*read-only", {"k_pages": read_only(array(8, 4, 2, 16))}),
    "k_pages list": (TypeError, "k_pages", {"k_pages": [[1.0]]}),
    "layout": (ValueError, "layout", {"layout": "nhd"}),
    "k_scale": (ValueError, "k_scale: given with pages of f32", {"k_scale": 1.0}),
    "v_scale": (ValueError, "v_scale: given with pages of f32", {"v_scale": [1.0, 2]}),
    "k_scale, text": (TypeError, "k_scale", {"k_scale": "1"}),
}


@pytest.mark.parametrize("row", PAGE_ROWS)
def test_malformed_append(row):
    error, words, arguments = PAGE_ROWS[row]
    call = {"k": array(2, KV_HEADS, DIM), "v": array(2, KV_HEADS, DIM), "k_pages": np.full((8, 4, 2, 16), 3, F32),
            "v_pages": np.full((8, 4, 2, 16), 3, F32), "slots": [4, 5]} | arguments
    with pytest.raises(error, match=words) as caught:
        folio.append(**call)
    assert caught.type is error
    for name in ("k_pages", "v_pages"):
        if name not in arguments:
            assert (call[name] == 3).all()


@pytest.mark.parametrize("error, words, call", [
    (IndexError, "kv_len", lambda k: folio.gather(k, k, [1], 5)),
    (IndexError, "page_row.*9", lambda k: folio.gather(k, k, [9], 3)),
    (IndexError, "page_row.*-1", lambda k: folio.gather(k, k, [-1], 3)),
    (ValueError, "kv_len.*-1", lambda k: folio.gather(k, k, [1], -1)),
    (IndexError, "kv_len", lambda k: folio.gather(k, k, [1], 2**62)),
    (TypeError, "kv_len", lambda k: folio.gather(k, k, [1], 1.0)),
    (TypeError, "dtype", lambda k: folio.gather(k, k, [1], 1, dtype="int7")),
    (TypeError, "k_pages", lambda k: folio.gather(None, k, [1], 1)),
    (ValueError, "k_scale: given", lambda k: folio.gather(k, k, [1], 1, k_scale=2.0)),
    (IndexError, "copies.*8", lambda k: folio.copy_pages(k, None, [(0, 8)])),
    (IndexError, "copies.*-1", lambda k: folio.copy_pages(k, None, [(0, 1), (-1, 2)])),
    (ValueError, "copies", lambda k: folio.copy_pages(k, None, [1, 2])),
    (TypeError, "copies", lambda k: folio.copy_pages(k, None, np.zeros((1, 2)))),
    (ValueError, "read-only", lambda k: folio.copy_pages(read_only(k), None, [(0, 1)])),
    (ValueError, "page_size", lambda k: folio.pages_from_contiguous(k, 0)),
    (ValueError, "x.*3 dims", lambda k: folio.pages_from_contiguous(k[0], 4)),
    (TypeError, "x", lambda k: folio.pages_from_contiguous(None, 4)),
    (TypeError, "x.*float64", lambda k: folio.pages_from_contiguous(k.astype(F64), 4)),
    (ValueError, "outs", lambda k: folio.merge(k[0], k[0, 0])),
    (ValueError, "outs", lambda k: folio.merge([], [])),
    (ValueError, "lses", lambda k: folio.merge(k, k[:1, :, :, 0].copy())),
    (TypeError, "lses", lambda k: folio.merge(k, None)),
])
def test_malformed_pages_call(error, words, call):
    pages = np.random.default_rng(1).standard_normal((8, 4, 2, 16)).astype(F32)
    before = pages.tobytes()
    with pytest.raises(error, match=words) as caught:
        call(pages)
    assert caught.type is error and pages.tobytes() == before
