# SPDX-License-Identifier: Apache-2.0
"""JAX on the CPU: JAX in, JAX out; its arrays are read, never written."""
import folio
import numpy as np
import oracle
import pytest

pytestmark = pytest.mark.jax
jnp = None


@pytest.fixture(autouse=True)
def import_jax():
    global jnp
    import jax.numpy as jnp


def arrays_of(p):
    return tuple(map(jnp.asarray, (p.q, p.k_pages, p.v_pages))), {n: jnp.asarray(a) for n, a in p.arguments().items()}


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
def test_jax_in_jax_out(dtype):
    p = oracle.problem(1, kv_lens=[5, 0, 9], q_lens=[2, 1, 3], dtype=dtype)
    arrays, arguments = arrays_of(p)
    out, lse = folio.attention(*arrays, **arguments, causal="bottom_right", return_lse=True)
    assert isinstance(out, type(arrays[0])) and out.dtype == arrays[0].dtype and lse.dtype == jnp.float32
    want_out, want_lse = oracle.expect(p, causal="bottom_right")
    oracle.assert_close(out, want_out)
    oracle.assert_close(lse, want_lse)
    plan = folio.plan(*arrays, **arguments, causal="bottom_right")
    assert np.asarray(plan.run(*arrays)).tobytes() == np.asarray(out).tobytes()


def test_gather_merge_and_pages():
    x = jnp.arange(2 * 3 * 10 * 8, dtype=jnp.float32).reshape(2, 3, 10, 8)
    container, table = folio.pages_from_contiguous(x, 4)
    assert isinstance(container, type(x)) and isinstance(table, type(x)) and table.dtype == jnp.int32
    k, _ = folio.gather(container, container, table[1, 0, :, 0], 10, "HND")
    assert isinstance(k, type(x)) and (k.swapaxes(0, 1) == x[1]).all()
    out, _ = folio.merge([x[0], x[0]], [jnp.zeros((3, 10))] * 2)
    assert isinstance(out, type(x)) and jnp.allclose(out, x[0])


def test_nothing_of_jax_is_written():
    pages, k = jnp.zeros((4, 4, 2, 16)), jnp.ones((1, 2, 16))
    with pytest.raises(TypeError, match="folio.jax.append"):
        folio.append(k, k, pages, pages, [4])
    with pytest.raises(TypeError, match="immutable"):
        folio.copy_pages(pages, None, [(0, 1)])
    p = oracle.problem(2, kv_lens=[5, 9])
    arrays, arguments = arrays_of(p)
    with pytest.raises(TypeError, match="out.*immutable"):
        folio.attention(*arrays, **arguments, out=jnp.zeros_like(arrays[0]))
    assert (pages == 0).all()


def test_tracers_are_refused():
    import jax

    p = oracle.problem(3, kv_lens=[5, 9])
    arrays, arguments = arrays_of(p)
    with pytest.raises(TypeError, match="q"):
        jax.jit(lambda q: folio.attention(q, *arrays[1:], **arguments))(arrays[0])
