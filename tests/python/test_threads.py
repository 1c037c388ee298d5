# SPDX-License-Identifier: Apache-2.0
"""Long calls let other Python threads run, short ones do not bother; calls from many threads give the same bits."""
import contextlib
import sys
import threading
import time

import folio
import numpy as np
import oracle
import pytest


def long_call():
    """Arguments of a call that takes some tens of milliseconds."""
    rng = np.random.default_rng(1)
    pages = rng.standard_normal((64, 16, 2, 64)).astype(np.float32)
    q = rng.standard_normal((1024, 8, 64)).astype(np.float32)
    return (q, pages, pages), {"kv_lens": [1024], "page_table": [list(range(64))], "q_indptr": [0, 1024],
                               "num_threads": 1}


@contextlib.contextmanager
def counter():
    """Another thread that counts while it holds the interpreter. With an endless switch interval it only ever gets it
    from a thread that lets go by itself."""
    count, stop = [0], threading.Event()

    def body():
        while not stop.is_set():
            count[0] += 1
            time.sleep(0)

    interval = sys.getswitchinterval()
    thread = threading.Thread(target=body)
    sys.setswitchinterval(1000)
    try:
        thread.start()
        yield count
    finally:
        stop.set()
        sys.setswitchinterval(interval)
        thread.join()


def lets_others_run(call, tries=100):
    """Does another thread's count move during call()? Only once in a few tries on a busy machine."""
    with counter() as count:
        while count[0] == 0:
            time.sleep(0.001)
        for _ in range(tries):
            before = count[0]
            call()
            if count[0] != before:
                return True
    return False


def test_long_calls_let_others_run():
    arrays, keywords = long_call()
    plan = folio.plan(*arrays, **keywords)
    tokens, slots, row = np.ones((4096, 2, 64), np.float32), np.arange(4096), list(range(256))
    k_pages, v_pages = np.ones((256, 16, 2, 64), np.float32), np.ones((256, 16, 2, 64), np.float32)
    assert lets_others_run(lambda: folio.attention(*arrays, **keywords))
    assert lets_others_run(lambda: plan.run(*arrays))
    assert lets_others_run(lambda: folio.append(tokens, tokens, k_pages, v_pages, slots))
    assert lets_others_run(lambda: folio.gather(k_pages, v_pages, row, 4096))


def test_short_calls_do_not_let_go():
    p = oracle.problem(2, kv_lens=[5, 9])
    plan = folio.plan(p.q, p.k_pages, p.v_pages, **p.arguments())
    out = np.empty_like(p.q)
    assert not lets_others_run(lambda: plan.run(p.q, p.k_pages, p.v_pages, out=out))


def in_threads(n, body):
    """body(i) in n threads at once; the first exception of any comes through."""
    failures = []

    def guarded(i):
        try:
            body(i)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def test_one_plan_in_many_threads():
    arrays, keywords = long_call()
    q, pages, _ = arrays
    plan = folio.plan(*arrays, **keywords | {"num_threads": 2})
    queries = [q * (1 + i / 7) for i in range(4)]
    want = [plan.run(x, pages, pages).tobytes() for x in queries]

    def body(i):
        for _ in range(3):
            assert plan.run(queries[i], pages, pages).tobytes() == want[i]

    in_threads(4, body)


def test_many_calls_at_once():
    problems = [oracle.problem(seed, kv_lens=[40, 9, 0, 77], q_lens=[3, 9, 1, 40]) for seed in range(4)]
    want = [folio.attention(p.q, p.k_pages, p.v_pages, **p.arguments()).tobytes() for p in problems]

    def body(i):
        p = problems[i]
        for n in range(20):
            got = folio.attention(p.q, p.k_pages, p.v_pages, **p.arguments(), num_threads=n % 3)
            assert got.tobytes() == want[i]
            bad = p.arguments() | {"page_table": np.full_like(p.page_table, 1000 + i)}
            with pytest.raises(IndexError, match=str(1000 + i)):
                folio.attention(p.q, p.k_pages, p.v_pages, **bad)

    in_threads(4, body)


def test_no_update_while_it_runs():
    arrays, keywords = long_call()
    plan = folio.plan(*arrays, **keywords)
    stop, refused = threading.Event(), []

    def body(i):
        if i == 0:
            while not stop.is_set():
                plan.run(*arrays)
            return
        for _ in range(1000):
            try:
                plan.update()
            except folio.StateError as error:
                refused.append(str(error))
                break
            time.sleep(0.001)
        stop.set()

    in_threads(2, body)
    assert refused and "in flight" in refused[0]
    plan.update()
    assert plan.run(*arrays).tobytes() == folio.attention(*arrays, **keywords).tobytes()
