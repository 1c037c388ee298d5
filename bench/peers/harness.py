# SPDX-License-Identifier: Apache-2.0
"""One peer beside folio: the same inputs, one reference, and times taken in turn.

A peer's script calls run(name, types, prepare). For every case and type

    inputs ──► float64 reference ──► both outputs checked ──► probe folio peer  probe peer folio  ...   one JSON line

prepare(case, kind, q, k, v, n_layers) gets NumPy arrays of float32 that `kind` holds exactly, and returns a Ready; it
raises Unsupported(reason) for what the peer does not do, and the line says so. Decode turns through so many copies of K
and V that they come from memory; its probe is the read bandwidth. Prefill's probe is the multiply-adds of the peak.

A turn of one side: its threads and the other's sleep; decode calls once untimed, which wakes the threads as the layer
before would have; then two timed calls, or one of prefill. Who begins changes from turn to turn. The ratio is the
median over turns of their shortest times' ratio: a machine that changes its speed changes it for both, if not within a
turn. --fast counts only turns between two multiply-add probes of a speed.
"""
import argparse
import ctypes
import dataclasses
import functools
import json
import os
import time
from collections.abc import Callable

import folio
import ml_dtypes
import numpy as np

Q_HEADS, KV_HEADS, DIM = 32, 8, 128  # one layer of Llama 3 8B
SCALE = DIM**-0.5
COLD_BYTES = 256 << 20  # of K and V, all layers: past every cache
# Lets spinning threads go to sleep: libgomp's look 300,000 times with a pause between, which is 14 ms where a pause
# takes 140 cycles, and would hold a CPU that the other side needs.
PARK_ONE_S, PARK_S = 0.004, 0.03
TYPES = {"f32": np.dtype(np.float32), "f16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}
ALL_CPUS = os.sched_getaffinity(0)
BOUNDS = {"f32": 2e-5, "f16": 4e-3, "bf16": 3e-2}  # of an output's error, standard normal inputs


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    batch: int
    q_len: int
    kv_len: int

    @property
    def is_decode(self):
        return self.q_len == 1

    @property
    def pairs(self):
        """Visible pairs of a query row and a key, causal bottom-right, of one head."""
        return self.batch * sum(self.kv_len - self.q_len + i + 1 for i in range(self.q_len))

    def kv_bytes(self, size):
        return 2 * self.batch * self.kv_len * KV_HEADS * DIM * size

    @property
    def rows(self):
        """The query rows that are checked."""
        return sorted({0, self.q_len // 2, self.q_len - 1})


CASES = [Case("decode 1 x 4096", 1, 1, 4096), Case("decode 8 x 2048", 8, 1, 2048),
         Case("prefill 1024", 1, 1024, 1024), Case("chunk 512 on 4096", 1, 512, 4096)]
LONG_CASES = [Case("prefill 4096", 1, 4096, 4096)]  # seconds a call for the slow peers: only with --long


class Unsupported(Exception):
    """The peer does not do this case."""


@dataclasses.dataclass
class Ready:
    """What prepare gives: run(layer) once computes; output() then gives [B, Q, Hq, D] of the last run, float32."""

    run: Callable[[int], object]
    output: Callable[[], np.ndarray]
    page_size: int = 128  # the peer's own, else what folio is given
    note: str = ""


# -- inputs and the reference ------------------------------------------------------------------------------------------


def inputs(case, kind):
    """q [B, Q, Hq, D], k and v [B, KV, Hk, D] float32, exactly representable in kind."""
    rng = np.random.default_rng(1)
    for n, heads in ((case.q_len, Q_HEADS), (case.kv_len, KV_HEADS), (case.kv_len, KV_HEADS)):
        yield rng.standard_normal((case.batch, n, heads, DIM), np.float32).astype(TYPES[kind]).astype(np.float32)


def reference(case, q, k, v):
    """{row: [B, Hq, D] float64}"""
    group = Q_HEADS // KV_HEADS
    want = {}
    for i in case.rows:
        n = case.kv_len - case.q_len + i + 1
        q64 = q[:, i].reshape(case.batch, KV_HEADS, group, DIM).astype(np.float64)
        scores = SCALE * np.einsum("bhgd,bnhd->bhgn", q64, k[:, :n].astype(np.float64))
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        out = np.einsum("bhgn,bnhd->bhgd", weights / weights.sum(-1, keepdims=True), v[:, :n].astype(np.float64))
        want[i] = out.reshape(case.batch, Q_HEADS, DIM)
    return want


def error(want, got):
    return max(float(np.abs(got[:, i].astype(np.float64) - x).max()) for i, x in want.items())


def layers(case, size):
    """Copies of K and V that a case turns through."""
    return max(2, -(-COLD_BYTES // case.kv_bytes(size))) if case.is_decode else 2


# -- folio -------------------------------------------------------------------------------------------------------------


def prepare_folio(case, kind, q, k, v, n_layers, page_size, n_threads):
    """Pages [n, Hk, page, D] in random order, one plan; a Ready."""
    dtype = TYPES[kind]
    columns = -(-case.kv_len // page_size)
    table = np.random.default_rng(2).permutation(case.batch * columns).astype(np.int32).reshape(case.batch, columns)
    slots = (table[:, :, None].astype(np.int64) * page_size + np.arange(page_size)).reshape(case.batch, -1)
    pages = []
    for _ in range(n_layers):
        pair = [np.zeros((case.batch * columns, KV_HEADS, page_size, DIM), dtype) for _ in range(2)]
        folio.append(k.reshape(-1, KV_HEADS, DIM), v.reshape(-1, KV_HEADS, DIM), *pair,
                     slots[:, : case.kv_len].ravel(), "HND")
        pages.append(pair)
    rows = q.reshape(-1, Q_HEADS, DIM).astype(dtype)
    out = np.empty_like(rows)
    plan = folio.plan(rows, *pages[0], kv_lens=[case.kv_len] * case.batch, page_table=table, layout="HND",
                      q_indptr=list(range(0, len(rows) + 1, case.q_len)), causal="bottom_right", scale=SCALE,
                      num_threads=n_threads)
    return Ready(lambda i: plan.run(rows, *pages[i], out=out),
                 lambda: out.astype(np.float32).reshape(case.batch, case.q_len, Q_HEADS, DIM))


# -- times -------------------------------------------------------------------------------------------------------------


class Probe:
    """The probe of `folio bench`, from build/libfolio_probe.so: what this machine does at most, right now."""

    def __init__(self, path, n_threads):
        self._lib = ctypes.CDLL(path)
        self._lib.probe_open.restype = ctypes.c_void_p
        self._lib.probe_open.argtypes = [ctypes.c_int, ctypes.c_int]
        for name, arguments in (("probe_read_gb_s", [ctypes.c_void_p, ctypes.c_double]),
                                ("probe_peak_gflop_s", [ctypes.c_void_p, ctypes.c_bool, ctypes.c_double])):
            function = getattr(self._lib, name)
            function.restype, function.argtypes = ctypes.c_double, arguments
        self._probe = self._lib.probe_open(n_threads, 0)
        if not self._probe:
            raise MemoryError("probe_open")

    def peak(self, kind):
        """GFLOP/s"""
        return self._lib.probe_peak_gflop_s(self._probe, kind == "bf16", 0.005)

    def measure(self, case, kind):
        """GB/s for decode, GFLOP/s for prefill."""
        return self._lib.probe_read_gb_s(self._probe, 0.005) if case.is_decode else self.peak(kind)


@functools.cache
def open_probe(path, n_threads):
    """One a process: its threads are made before anything is pinned."""
    return Probe(path, n_threads)


def quantiles(values):
    """[median, p10, p90, least]: on a busy machine only the least tells sides apart that wait for all their threads."""
    return [float(np.quantile(values, x)) for x in (0.5, 0.1, 0.9, 0)]


def turn(side, case, first, n_layers, park_s):
    """ms of one side's timed calls, layers from `first` on, its threads awake where a call is short."""
    time.sleep(park_s)
    if case.is_decode:
        side.run((first - 1) % n_layers)
    times = []
    for i in range(first, first + (2 if case.is_decode else 1)):
        start = time.perf_counter()
        side.run(i % n_layers)
        times.append(1e3 * (time.perf_counter() - start))
    return times


def both(sides, case, i, n_layers, park_s):
    """{side: ms of its calls} of turn i."""
    names = list(sides)[:: -1 if i % 2 else 1]
    return {name: turn(sides[name], case, 3 * i + 1, n_layers, park_s) for name in names}


def turns(case, kind, sides, n_layers, probe, options):
    """([what the probe measured], [{side: ms}]) of the turns that count; tries 10 times as many at most."""
    park_s = PARK_S if options.threads > 1 else PARK_ONE_S
    wanted = options.reps or (20 if case.is_decode else 7)
    probes, taken = [], []
    is_fast = probe.peak(kind) >= options.fast
    for i in range(10 * wanted if options.fast else wanted):
        time.sleep(park_s)
        measured = probe.measure(case, kind)
        times = both(sides, case, i, n_layers, park_s)
        if options.fast:
            time.sleep(park_s)
            was_fast, is_fast = is_fast, probe.peak(kind) >= options.fast
            if not (was_fast and is_fast):
                continue
        probes.append(measured)
        taken.append(times)
        if len(taken) == wanted:
            break
    return probes, taken


def compare(case, kind, sides, n_layers, probe, options):
    """Times in ms, their ratio, and the shares of the probe; sides, {"folio": Ready, "peer": Ready}, take turns."""
    probes, taken = turns(case, kind, sides, n_layers, probe, options)
    if not taken:
        raise Unsupported(f"no turn at {options.fast:g} GFLOP/s")
    ratios = [min(times["peer"]) / min(times["folio"]) for times in taken]
    result = {name: quantiles([x for times in taken for x in times[name]]) for name in sides}
    speed, low, high, _ = quantiles(probes)
    size = TYPES[kind].itemsize
    work = case.kv_bytes(size) * 1e-9 if case.is_decode else 4 * DIM * Q_HEADS * case.pairs * 1e-9
    shares = {f"{name}_share": work / speed / (1e-3 * x[0]) for name, x in result.items()}
    named = {f"{name}_times": x for name, x in result.items()}
    every = {"ratios": ratios, "probes": probes}
    return named | shares | every | {"ratio": quantiles(ratios), "probe": speed, "probe_moved": high / low - 1}


# -- one peer ----------------------------------------------------------------------------------------------------------


def threads():
    return {int(x) for x in os.listdir("/proc/self/task")}


def pin(made):
    """One CPU each for threads that a side has made, the first CPU left to this one, which calls both sides."""
    for cpu, thread in zip(sorted(ALL_CPUS)[1:], sorted(made)):
        os.sched_setaffinity(thread, {cpu})


def first_run(ready, n_layers, before, options):
    """Twice, so that every thread exists and every page is mapped; pins the threads that are new since `before`."""
    for i in (0, n_layers - 1):
        ready.run(i)
    if options.pin:
        pin(threads() - before)


def measure(name, case, kind, prepare, probe, options):
    q, k, v = inputs(case, kind)
    n_layers = layers(case, TYPES[kind].itemsize)
    line = {"peer": name, "case": case.name, "type": kind, "threads": options.threads}
    before = threads()
    try:
        peer = prepare(case, kind, q, k, v, n_layers)
    except Unsupported as reason:
        return line | {"unsupported": str(reason)}
    first_run(peer, n_layers, before, options)
    before = threads()
    ours = prepare_folio(case, kind, q, k, v, n_layers, peer.page_size, options.threads)
    first_run(ours, n_layers, before, options)
    sides = {"folio": ours, "peer": peer}
    want, errors = reference(case, q, k, v), {}
    for side, ready in sides.items():
        errors[f"{side}_error"] = error(want, ready.output())
        if not errors[f"{side}_error"] < BOUNDS[kind]:
            return line | errors | {"unsupported": f"{side} is wrong by {errors[f'{side}_error']:.1e}"}
    try:
        times = compare(case, kind, sides, n_layers, probe, options)
    except Unsupported as reason:
        return line | errors | {"unsupported": str(reason)}
    return line | errors | times | {"page_size": peer.page_size, "note": peer.note, "fast": options.fast}


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--reps", type=int, default=0, help="repetitions; 0 = 20 for decode, 7 for prefill")
    parser.add_argument("--fast", type=float, default=0, metavar="GFLOP/S",
                        help="count only turns between two peaks of at least this: for a machine of two speeds")
    parser.add_argument("--cases", default="", help="only cases whose name contains one of these, by commas")
    parser.add_argument("--only", default="", help="only peers and types, 'NAME TYPE', with one of these, by commas")
    parser.add_argument("--long", action="store_true", help="prefill of 4096 tokens too")
    parser.add_argument("--pin", action="store_true", help="one CPU for each thread of a side: for an idle machine")
    parser.add_argument("--probe", required=True, help="libfolio_probe.so")
    return parser.parse_args()


def contains(name, texts):
    """Does name contain one of the texts, which stand between commas?"""
    return any(text in name for text in texts.split(","))


def run(name, kinds, prepare, options=None):
    """Every case and type of a peer; a JSON line each on stdout."""
    options = options or arguments()
    probe = open_probe(options.probe, options.threads)
    if options.pin:
        os.sched_setaffinity(0, {min(ALL_CPUS)})
    for kind in kinds:
        for case in CASES + (LONG_CASES if options.long else []):
            if contains(case.name, options.cases) and contains(f"{name} {kind}", options.only):
                print(json.dumps(measure(name, case, kind, prepare, probe, options)), flush=True)
