# SPDX-License-Identifier: Apache-2.0
"""cascade=True: shared prefixes are computed once; what comes out is what comes out without."""
import folio
import numpy as np
import pytest

HEADS, KV_HEADS, DIM, PAGE, SHARED, OWN, BATCH = 4, 2, 32, 16, 320, 40, 5


def call(seed=1):
    rng = np.random.default_rng(seed)
    n_shared, n_own = SHARED // PAGE, -(-OWN // PAGE)
    n_pages = n_shared + BATCH * n_own
    ids = rng.permutation(n_pages).astype(np.int32)
    table = np.concatenate([np.tile(ids[:n_shared], (BATCH, 1)), ids[n_shared:].reshape(BATCH, n_own)], 1)
    q = rng.standard_normal((BATCH, HEADS, DIM)).astype(np.float32)
    k, v = (rng.standard_normal((n_pages, PAGE, KV_HEADS, DIM)).astype(np.float32) for _ in range(2))
    return (q, k, v), {"page_table": table, "kv_lens": [SHARED + OWN] * BATCH}


@pytest.mark.parametrize("options", [{}, {"causal": "bottom_right"}, {"window": (330, -1)}, {"window": (100, -1)},
                                     {"alibi_slopes": np.linspace(0.1, 0.4, HEADS, dtype=np.float32)},
                                     {"sinks": np.zeros(HEADS, np.float32)}, {"softcap": 5.0},
                                     {"mask_mod": "kv % 3 == 0"}], ids=str)
def test_results_are_those_without(options):
    arrays, arguments = call()
    arguments |= options | {"return_lse": True}
    out, lse = folio.attention(*arrays, **arguments)
    shared, shared_lse = folio.attention(*arrays, **arguments, cascade=True)
    assert np.abs(out - shared).max() < 2e-6 and np.abs(lse - shared_lse).max() < 4e-6
    one, _ = folio.attention(*arrays, **arguments, cascade=True, num_threads=1)
    assert (one == shared).all()
    says = "keys once for 5 sequences" in folio.explain(*arrays, **arguments, cascade=True)
    assert says == (options.get("window") is None and "mask_mod" not in options)


def test_a_plan_follows_its_table():
    arrays, arguments = call()
    plan = folio.plan(*arrays, **arguments, cascade=True)
    want = plan.run(*arrays)
    assert np.abs(want - folio.attention(*arrays, **arguments)).max() < 2e-6
    table = arguments["page_table"].copy()
    table[1, 3] = table[1, -1]
    plan.update(page_table=table)
    expected = folio.attention(*arrays, page_table=table, kv_lens=arguments["kv_lens"])
    assert np.abs(plan.run(*arrays) - expected).max() < 2e-6
    table[2, 0] = table[2, -1]
    with pytest.raises(ValueError, match="page_table: not what it was"):
        plan.run(*arrays)
