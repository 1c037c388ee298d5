# SPDX-License-Identifier: Apache-2.0
"""folio.Cache: its numbers, its errors, and whole steps over real pages: append, fork, copies, attention."""
import folio
import numpy as np
import oracle
import pytest

HEADS, DIM, PAGE = 2, 8, 4


def test_a_sequences_life():
    cache = folio.Cache(8, PAGE)
    s = cache.open()
    assert isinstance(s, int) and hash(s) is not None
    cache.reserve(s, 6)
    slots = cache.append(s, 6)
    assert slots.dtype == np.int64 and slots.tolist() == [4, 5, 6, 7, 8, 9], "page 0 is never handed out"
    assert cache.page_table([s]).tolist() == [[1, 2]] and cache.page_table([s]).dtype == np.int32
    assert cache.kv_lens([s]).tolist() == [6]
    t = cache.fork(s)
    cache.truncate(t, 2)
    assert cache.page_table([s, t]).tolist() == [[1, 2], [1, -1]]
    cache.close(s)
    cache.close(t)
    stats = cache.stats()
    assert stats["n_free"] == stats["n_pages"] == 7 and stats["n_seqs"] == 0 and stats["peak_held"] == 2
    assert cache.page_table([]).shape == (0, 0) and cache.kv_lens([]).shape == (0,)
    cache.check()


def test_handles_are_never_reused():
    cache = folio.Cache(4, PAGE, max_seqs=1)
    seen = set()
    for _ in range(100):
        s = cache.open()
        assert s not in seen
        seen.add(s)
        cache.close(s)
        for call in (cache.close, cache.fork, lambda s: cache.append(s, 1), lambda s: cache.page_table([s])):
            with pytest.raises(folio.StateError, match="seq"):
                call(s)


def test_shortage_has_numbers_and_changes_nothing():
    cache = folio.Cache(5, PAGE, max_seqs=2)
    s, t = cache.open(), cache.open()
    cache.append(s, 9)
    before = cache.stats()
    with pytest.raises(folio.NoPagesError, match="2.*1|1.*2") as caught:
        cache.append(t, 8)
    assert (caught.value.needed, caught.value.free, caught.value.can_fit) == (2, 1, True)
    for call in (lambda: cache.reserve(t, 2**62), lambda: cache.append(t, 2**62), lambda: cache.append(s, 2**63 - 1)):
        with pytest.raises(folio.NoPagesError) as caught:
            call()
        assert caught.value.can_fit is False
    with pytest.raises(folio.StateError, match="2"):
        cache.open()
    assert cache.stats() == before
    cache.check()


BAD_CALLS = {
    "n_pages 0": (ValueError, lambda c, s: folio.Cache(0, 4)),
    "page_size 0": (ValueError, lambda c, s: folio.Cache(4, 0)),
    "max_seqs 0": (ValueError, lambda c, s: folio.Cache(4, 4, 0)),
    "n_pages negative": (ValueError, lambda c, s: folio.Cache(-1, 4)),
    "n_pages float": (TypeError, lambda c, s: folio.Cache(4.0, 4)),
    "n_pages huge": (ValueError, lambda c, s: folio.Cache(2**70, 4)),
    "n_pages missing": (TypeError, lambda c, s: folio.Cache()),
    "unknown keyword": (TypeError, lambda c, s: folio.Cache(4, 4, pages=2)),
    "prefix": (NotImplementedError, lambda c, s: folio.Cache(4, 4, prefix=True)),
    "append negative": (ValueError, lambda c, s: c.append(s, -1)),
    "reserve negative": (ValueError, lambda c, s: c.reserve(s, -1)),
    "truncate negative": (ValueError, lambda c, s: c.truncate(s, -1)),
    "truncate past the length": (ValueError, lambda c, s: c.truncate(s, 4)),
    "append str": (TypeError, lambda c, s: c.append(s, "1")),
    "append float": (TypeError, lambda c, s: c.append(s, 1.0)),
    "append None": (TypeError, lambda c, s: c.append(s, None)),
    "handle str": (TypeError, lambda c, s: c.append("s", 1)),
    "handle None": (TypeError, lambda c, s: c.close(None)),
    "handle unknown": (folio.StateError, lambda c, s: c.append(s + 1, 1)),
    "handle negative": (folio.StateError, lambda c, s: c.append(-1, 1)),
    "handle huge": (folio.StateError, lambda c, s: c.append(2**80, 1)),
    "handle zero": (folio.StateError, lambda c, s: c.close(0)),
    "table of an int": (TypeError, lambda c, s: c.page_table(s)),
    "table of a str": (TypeError, lambda c, s: c.page_table("ab")),
    "table with a stale one": (folio.StateError, lambda c, s: c.page_table([s, 12345])),
    "lens with a stale one": (folio.StateError, lambda c, s: c.kv_lens([s, 12345])),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_call(name):
    error, call = BAD_CALLS[name]
    cache = folio.Cache(6, PAGE)
    s = cache.open()
    cache.append(s, 3)
    before = cache.stats(), cache.page_table([s]).tolist()
    with pytest.raises(error) as caught:
        call(cache, s)
    assert str(caught.value), "an error says what is wrong"
    assert (cache.stats(), cache.page_table([s]).tolist()) == before
    cache.append(s, 1)
    cache.check()


class Engine:
    """A cache with one layer's pages, and beside it what every sequence should hold."""

    def __init__(self, seed, n_pages):
        self.rng = np.random.default_rng(seed)
        self.cache = folio.Cache(n_pages, PAGE, max_seqs=8)
        self.k_pages, self.v_pages = (np.full((n_pages, PAGE, HEADS, DIM), np.nan, np.float32) for _ in range(2))
        self.truth = {}  # handle -> (k [n, H, D], v)

    def open(self):
        self.truth[self.cache.open()] = [np.zeros((0, HEADS, DIM), np.float32)] * 2

    def append(self, s):
        n = int(self.rng.integers(1, 7))
        slots = self.cache.append(s, n)
        folio.copy_pages(self.k_pages, self.v_pages, self.cache.take_copies())
        new = [self.rng.standard_normal((n, HEADS, DIM)).astype(np.float32) for _ in range(2)]
        folio.append(*new, self.k_pages, self.v_pages, slots)
        self.truth[s] = [np.concatenate(pair) for pair in zip(self.truth[s], new)]

    def fork(self, s):
        self.truth[self.cache.fork(s)] = list(self.truth[s])

    def truncate(self, s):
        n = int(self.rng.integers(0, len(self.truth[s][0]) + 1))
        self.cache.truncate(s, n)
        self.truth[s] = [a[:n] for a in self.truth[s]]

    def close(self, s):
        self.cache.close(s)
        del self.truth[s]

    def check(self):
        """Attention over the pages is attention over the truth."""
        seqs = list(self.truth)
        q = self.rng.standard_normal((len(seqs), 2 * HEADS, DIM)).astype(np.float32)
        out = folio.attention(q, self.k_pages, self.v_pages, kv_lens=self.cache.kv_lens(seqs),
                              page_table=self.cache.page_table(seqs))
        for i, s in enumerate(seqs):
            k, v = (a[None] for a in self.truth[s])
            n = k.shape[1]
            want = np.zeros((1, 2 * HEADS, DIM))
            if n:
                want, _ = oracle.attention(q[i : i + 1], k, v, kv_lens=[n], page_table=[[0]])
            oracle.assert_close(out[i : i + 1], want, f"sequence {i} of {len(seqs)}, {n} tokens")
        self.cache.check()


@pytest.mark.parametrize("seed", range(4))
def test_random_traffic_over_real_pages(seed):
    engine = Engine(seed, n_pages=24)
    steps = ["open", "append", "append", "append", "fork", "truncate", "close"]
    for step in range(120):
        action = str(engine.rng.choice(steps))
        seqs = list(engine.truth)
        try:
            if action == "open":
                engine.open()
            elif seqs:
                getattr(engine, action)(int(engine.rng.choice(np.array(seqs, dtype=np.uint64))))
        except folio.NoPagesError:
            engine.close(seqs[0])
        except folio.StateError:
            assert len(seqs) == 8, "only max_seqs can be in the way"
        if step % 10 == 9:
            engine.check()


def test_slots_and_free_pages():
    """The order of PyTorch's PagedAttention, and slots of any positions of what is reserved."""
    cache = folio.Cache(8, 3, lifo=True, use_page_0=True)
    a, b = cache.open(), cache.open()
    assert cache.free_pages().tolist() == [7, 6, 5, 4, 3, 2, 1, 0] and cache.free_pages().dtype == np.int32
    cache.reserve(a, 7)
    cache.append(b, 1)
    assert cache.free_pages().tolist() == [7, 6, 5, 4]
    slots = cache.slots([b, a], np.array([[2, 0], [8, 3]]))
    assert slots.tolist() == [[11, 9], [2, 3]] and slots.dtype == np.int64
    assert cache.slots([b], [[1]]).tolist() == [[10]] and cache.slots([a], np.empty((1, 0), np.int64)).shape == (1, 0)
    for positions, error, words in [
        ([[3]], IndexError, r"positions\[0, 0\] 3: not allocated; must be 0 .. 2"),
        ([[-1]], IndexError, "positions"),
        ([[0], [0]], ValueError, "positions"),
        (np.zeros((1, 4), np.int64)[:, ::2], ValueError, "compact"),
        (np.zeros((1, 1), np.int32), TypeError, "int64"),
        ([[0.5]], TypeError, "positions"),
    ]:
        with pytest.raises(error, match=words):
            cache.slots([b], positions)
    with pytest.raises(folio.StateError):
        cache.close(a) or cache.slots([a], [[0]])
    assert cache.free_pages().tolist() == [7, 6, 5, 4, 2, 1, 0]
    with pytest.raises(TypeError):
        folio.Cache(8, 3, 256, False, True)
