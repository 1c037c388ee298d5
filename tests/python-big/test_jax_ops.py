# SPDX-License-Identifier: Apache-2.0
"""folio.jax: the same answers traced as eager, pages that donation keeps in place, and errors that say what to do."""
import pathlib
import sys
import threading

import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "python"))
import oracle  # noqa: E402

jax = pytest.importorskip("jax")
import folio.jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

FAILURES = (RuntimeError, ValueError)  # JAX's runtime error; newer versions raise ValueError for some of its codes
SHAPES = dict(kv_lens=[5, 0, 9, 4], q_lens=[2, 1, 3, 4])


def jitted(p, **options):
    """attention under jit with every array traced."""
    given = {"q": p.q, "k_pages": p.k_pages, "v_pages": p.v_pages, **p.arguments()}
    return jax.jit(lambda arrays: folio.jax.attention(**arrays, **options))(given)


def failing(match, call):
    with pytest.raises(FAILURES, match=match):
        jax.block_until_ready(call())


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
@pytest.mark.parametrize("options", [
    {"causal": "bottom_right"},
    {"causal": "top_left", "softcap": 2.0},
    {"window": (2, 1), "scale": -0.25},
    {"align": "top_left", "window": (3, -1), "num_splits": 3},
], ids=str)
def test_attention_traced(dtype, options):
    p = oracle.problem(1, dtype=dtype, **SHAPES)
    out, lse = jitted(p, return_lse=True, **options)
    known = {name: value for name, value in options.items() if name != "num_splits"}
    want, want_lse = oracle.expect(p, **known)
    assert out.dtype == p.q.dtype and lse.dtype == jnp.float32
    oracle.assert_close(out, want)
    oracle.assert_close(lse, want_lse)
    eager = folio.attention(p.q, p.k_pages, p.v_pages, **p.arguments(), **options)
    assert np.asarray(out).tobytes() == np.asarray(eager).tobytes()


def test_optional_arrays_reach_their_places():
    p = oracle.problem(2, **SHAPES)
    rng = np.random.default_rng(2)
    n_tokens, n_heads = p.q.shape[:2]
    extra = {
        "alibi_slopes": rng.standard_normal(n_heads).astype(np.float32),
        "sinks": rng.standard_normal(n_heads).astype(np.float32),
        "mask": rng.random((n_tokens, 1, 9)) < 0.7,
        "bias": rng.standard_normal((n_heads, 9)).astype(np.float32),
    }
    for names in (("sinks",), ("mask",), ("bias", "alibi_slopes"), tuple(extra)):
        chosen = {name: extra[name] for name in names}
        out = jax.jit(lambda chosen: folio.jax.attention(p.q, p.k_pages, p.v_pages, **p.arguments(), **chosen))(chosen)
        oracle.assert_close(out, oracle.expect(p, **chosen)[0], names)


@pytest.mark.parametrize("layout", ["NHD", "HND", "FLAT"])
def test_layouts(layout):
    p = oracle.problem(3, **SHAPES)
    k_pages, v_pages = (oracle.to_layout(pages, layout) for pages in (p.k_pages, p.v_pages))
    size = p.k_pages.shape[1]
    out = folio.jax.attention(p.q, k_pages, v_pages, **p.arguments(), layout=layout, page_size=size)
    oracle.assert_close(out, oracle.expect(p)[0])
    k, v = np.random.default_rng(3).standard_normal((2, 3, 2, 16)).astype(np.float32)
    got = folio.jax.append(k, v, k_pages, v_pages, [0, -1, 5], layout, page_size=size)
    want = np.array(k_pages), np.array(v_pages)
    folio.append(k, v, *want, [0, -1, 5], layout, page_size=size)
    assert all(np.asarray(g).tobytes() == w.tobytes() for g, w in zip(got, want))
    row = p.page_table[2]
    gathered = folio.jax.gather(k_pages, v_pages, row, 9, layout, page_size=size)
    want = folio.gather(k_pages, v_pages, row, 9, layout, page_size=size)
    assert all(np.asarray(g).tobytes() == w.tobytes() for g, w in zip(gathered, want))


def test_csr_and_v_page_table():
    p = oracle.problem(4, kv_lens=[5, 9])
    want = oracle.expect(p)[0]
    counts = [-(-int(n) // 4) for n in p.kv_lens]
    indices = np.concatenate([row[:n] for row, n in zip(p.page_table, counts)])
    csr = {"kv_indptr": np.cumsum([0, *counts]), "kv_indices": indices}
    oracle.assert_close(folio.jax.attention(p.q, p.k_pages, p.v_pages, kv_lens=[5, 9], **csr), want)
    flipped = np.ascontiguousarray(p.v_pages[::-1])
    used = np.arange(p.page_table.shape[1]) < np.array(counts)[:, None]
    v_table = np.where(used, len(flipped) - 1 - p.page_table, p.page_table).astype(np.int32)
    out = folio.jax.attention(p.q, p.k_pages, flipped, **p.arguments(), v_page_table=v_table)
    oracle.assert_close(out, want)


def test_quantised_pages():
    p = oracle.problem(5, kv_lens=[5, 9])
    pages = [np.clip(np.nan_to_num(a) * 30, -127, 127).astype(np.int8) for a in (p.k_pages, p.v_pages)]
    scales = {"k_scale": np.full(2, 1 / 30, np.float32), "v_scale": np.full(1, 1 / 30, np.float32)}
    got = jax.jit(lambda s: folio.jax.attention(p.q, *pages, **p.arguments(), **s))(scales)
    want = folio.attention(p.q, *pages, **p.arguments(), **scales)
    assert np.asarray(got).tobytes() == want.tobytes()


def test_vmap_is_a_call_an_item():
    p = oracle.problem(6, **SHAPES)
    batch = jnp.stack([p.q, 2 * p.q, -p.q])
    out = jax.vmap(lambda q: folio.jax.attention(q, p.k_pages, p.v_pages, **p.arguments()))(batch)
    for got, factor in zip(out, (1, 2, -1)):
        oracle.assert_close(got, oracle.expect(p, scale=factor * 0.25)[0])


def test_append_leaves_what_was_passed_in():
    pages = jnp.arange(4 * 4 * 2 * 8, dtype=jnp.float32).reshape(4, 4, 2, 8)
    before = np.array(pages)
    k = jnp.ones((2, 2, 8))
    k_pages, v_pages = folio.jax.append(k, 2 * k, pages, pages, [3, 14])
    assert (np.asarray(pages) == before).all()
    for got, value in ((k_pages, 1), (v_pages, 2)):
        want = before.copy()
        want.reshape(16, 2, 8)[[3, 14]] = value
        assert (np.asarray(got) == want).all()


def test_donated_pages_stay_where_they_are():
    k = jnp.ones((1, 2, 8))
    pages = [jnp.zeros((64, 4, 2, 8)) + i for i in range(2)]
    places = [a.unsafe_buffer_pointer() for a in pages]
    given = tuple(pages)
    for step in range(4):
        pages = folio.jax.append(k, k, *pages, np.array([step * 5], np.int32), donate=True)
    assert [a.unsafe_buffer_pointer() for a in pages] == places
    assert all(a.is_deleted() for a in given)
    assert float(pages[0].sum()) == 4 * 16

    step = jax.jit(lambda pages, slots: folio.jax.append(k, k, *pages, slots), donate_argnums=0)
    pages = step(tuple(pages), jnp.array([100]))
    assert [a.unsafe_buffer_pointer() for a in pages] == places
    with pytest.raises(ValueError, match="donated twice"):
        folio.jax.append(k, k, pages[0], pages[0], [0], donate=True)


def test_a_decode_step_in_one_program():
    """append, then attend, inside a scan: what serving on JAX does."""
    rng = np.random.default_rng(7)
    k, v, q = (rng.standard_normal((6, 1, heads, 16)).astype(np.float32) for heads in (2, 2, 4))
    table = np.array([[2, 0]], np.int32)

    def step(state, token):
        pages, n = state
        slot = table[0][n // 4] if isinstance(n, int) else jnp.asarray(table)[0, n // 4]
        pages = folio.jax.append(token[0], token[1], *pages, (slot * 4 + n % 4)[None])
        out = folio.jax.attention(token[2], *pages, kv_lens=(n + 1)[None], page_table=table)
        return (pages, n + 1), out

    empty = jnp.full((3, 4, 2, 16), jnp.nan)
    _, outs = jax.jit(lambda: jax.lax.scan(step, ((empty, empty), jnp.int32(0)), (k, v, q)))()
    for n in range(6):
        pool = np.zeros((1, n + 1, 2, 16), np.float32), np.zeros((1, n + 1, 2, 16), np.float32)
        pool[0][0], pool[1][0] = k[: n + 1, 0], v[: n + 1, 0]
        want, _ = oracle.attention(q[n], *pool, kv_lens=[n + 1], page_table=[[0]])
        oracle.assert_close(outs[n], want, f"step {n}")


def test_gather_with_a_traced_length():
    p = oracle.problem(8, kv_lens=[9])
    gather = jax.jit(lambda n: folio.jax.gather(p.k_pages, p.v_pages, p.page_table[0], n, max_kv_len=12))
    for n in (0, 1, 4, 9):
        k, v = gather(n)
        want_k, want_v = folio.gather(p.k_pages, p.v_pages, p.page_table[0], n)
        assert (np.asarray(k)[:n] == want_k).all() and (np.asarray(v)[:n] == want_v).all()
        assert k.shape == (12, 2, 16) and not np.asarray(k)[n:].any()
    failing("kv_len: 13 tokens; max_kv_len is 12", lambda: gather(13))
    k, _ = folio.jax.gather(p.k_pages, p.v_pages, p.page_table[0], 5, dtype=jnp.bfloat16)
    assert k.shape == (5, 2, 16) and k.dtype == jnp.bfloat16


def test_values_that_are_wrong_fail_at_run_time_and_the_next_call_works():
    p = oracle.problem(9, kv_lens=[5, 9])
    arguments = p.arguments()
    bad = p.page_table.copy()
    bad[1, 2] = -7
    call = jax.jit(lambda table, lens: folio.jax.attention(p.q, p.k_pages, p.v_pages, page_table=table, kv_lens=lens))
    failing("page_table: row 1, column 2: page -7", lambda: call(bad, p.kv_lens))
    failing(r"kv_lens\[0\]", lambda: call(p.page_table, np.array([-1, 9], np.int32)))
    failing("kv_lens.*1000", lambda: call(p.page_table, np.array([5, 1000], np.int32)))
    oracle.assert_close(call(p.page_table, arguments["kv_lens"]), oracle.expect(p)[0])
    k, pages = jnp.ones((2, 2, 16)), jnp.zeros((3, 4, 2, 16))
    failing(r"slots\[1\]: 12", lambda: folio.jax.append(k, k, pages, pages + 1, [0, 12]))
    failing("slots", lambda: folio.jax.append(k, k, pages, pages + 1, [4, 4]))
    failing("page_row", lambda: folio.jax.gather(pages, pages, [0, 3], 8))


@pytest.mark.parametrize("name", ["softcap", "scale", "max_q_len", "max_kv_len", "num_splits", "page_size"])
def test_a_traced_constant_is_refused_by_name(name):
    p = oracle.problem(10, kv_lens=[5])
    with pytest.raises(TypeError, match=f"{name}: a traced value.*{name}=.*static_argnames"):
        jax.jit(lambda x: folio.jax.attention(p.q, p.k_pages, p.v_pages, **p.arguments(), **{name: x}))(1)


def test_what_is_wrong_when_tracing():
    p = oracle.problem(11, kv_lens=[5])
    pages = p.k_pages, p.v_pages

    def attention(q=p.q, pages=pages, **options):
        return folio.jax.attention(q, *pages, **{**p.arguments(), **options})

    for error, match, call in [
        (TypeError, "kv_len: a traced value.*max_kv_len",
         lambda: jax.jit(lambda n: folio.jax.gather(*pages, [0], n))(3)),
        (TypeError, "q: a traced array; under jax.jit use folio.jax",
         lambda: jax.jit(lambda q: folio.attention(q, *pages, **p.arguments()))(p.q)),
        (ValueError, "q: 2 dims", lambda: attention(p.q[0])),
        (TypeError, "q: NoneType", lambda: attention(None)),
        (TypeError, "q: dtype float64", lambda: attention(p.q.astype(float))),
        (TypeError, "kv_lens: dtype float32", lambda: attention(kv_lens=np.ones(1, np.float32))),
        (IndexError, "page_table: 1099511627776", lambda: attention(page_table=np.array([[2**40, 0]]))),
        (ValueError, "causal: True", lambda: attention(causal=True)),
        (ValueError, "layout: 'NDH'", lambda: attention(layout="NDH")),
        (ValueError, "page_size: 5; k_pages has pages of 4", lambda: attention(page_size=5)),
        (TypeError, "window: 3", lambda: attention(window=3)),
        (ValueError, "backend: 'cuda'", lambda: attention(backend="cuda")),
    ]:
        with pytest.raises(error, match=match):
            call()


def test_what_only_the_library_refuses():
    p = oracle.problem(12, kv_lens=[5], heads=(4, 2))

    def attention(q=p.q, **options):
        return folio.jax.attention(q, p.k_pages, p.v_pages, **{**p.arguments(), **options})

    failing("softcap", lambda: attention(softcap=-1))
    failing("multiple", lambda: attention(p.q[:, :3]))
    failing("window", lambda: attention(window=(-5, 0)))
    failing("q: dtype f16", lambda: attention(p.q.astype(np.float16)))
    failing("kv_lens", lambda: attention(kv_lens=[5, 5]))


def test_importing_folio_imports_no_jax():
    import subprocess
    code = "import folio, sys; assert 'jax' not in sys.modules; import folio.jax; assert 'jax' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_program_of_another_process_is_refused():
    """What a program that was saved, and loaded elsewhere, would say."""
    pages = jnp.zeros((3, 4, 2, 16))
    folio.jax.gather(pages, pages, [0], 4)  # registers the handlers
    result = jax.ShapeDtypeStruct((4, 2, 16), np.float32)
    call = jax.ffi.ffi_call("folio_gather", [result, result])
    for attributes in ({}, {"context": np.int64(4096), "process": np.int64(1)}):
        failing("compiled in another process",
                lambda: call(pages, pages, np.array([0], np.int32), np.int32(4), **attributes))


def test_any_number_of_threads_counts():
    """Each has a context of its own; there is no limit to how many."""
    p = oracle.problem(13, kv_lens=[5, 9])
    want = oracle.expect(p)[0]
    for n in range(1, 20):
        oracle.assert_close(folio.jax.attention(p.q, p.k_pages, p.v_pages, **p.arguments(), num_threads=n), want)
    with pytest.raises(ValueError, match="num_threads: -1"):
        folio.jax.attention(p.q, p.k_pages, p.v_pages, **p.arguments(), num_threads=-1)


def test_eager_and_traced_calls_share_threads():
    """Both use the context of num_threads, from several Python threads at once: no deadlock, the same bits."""
    p = oracle.problem(14, kv_lens=[5, 9, 900, 30], page_size=16)
    want = np.asarray(folio.attention(p.q, p.k_pages, p.v_pages, **p.arguments())).tobytes()
    traced = jax.jit(lambda q: folio.jax.attention(q, p.k_pages, p.v_pages, **p.arguments()))
    wrong = []

    def work(call):
        for _ in range(100):
            if np.asarray(call()).tobytes() != want:
                wrong.append(call)

    calls = [lambda: traced(p.q), lambda: folio.attention(p.q, p.k_pages, p.v_pages, **p.arguments())] * 2
    threads = [threading.Thread(target=work, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong and not any(thread.is_alive() for thread in threads)
