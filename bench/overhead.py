#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""overhead.py [--json]: what a call from Python costs beyond its work, and what importing folio costs.

The problem is the smallest there is (one row, one head, one key), so what is left is the call. Each line is the
fastest of many short rounds, so that other work on the machine counts little; numpy.add of two such arrays stands
first, as the price of any NumPy call here. Where PyTorch is installed its tensors follow, after torch.add of two.
"""
import argparse
import importlib.util
import json
import subprocess
import sys
import time

import folio
import numpy as np


def microseconds(call, rounds=200, calls=200):
    """The fastest round's time for one call."""
    call()
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter_ns()
        for _ in range(calls):
            call()
        best = min(best, time.perf_counter_ns() - start)
    return best / calls / 1000


def tiny(dtype=np.float32):
    q, pages = np.ones((1, 1, 8), dtype), np.ones((1, 1, 1, 8), dtype)
    keywords = {"kv_lens": np.array([1], np.int32), "page_table": np.zeros((1, 1), np.int32), "num_threads": 1}
    return q, pages, pages.copy(), keywords


def calls():
    """(name, what is called), cheapest first."""
    q, k, v, keywords = tiny()
    out, lse = np.empty_like(q), np.empty((1, 1), np.float32)
    plan = folio.plan(q, k, v, **keywords)
    cache = folio.Cache(64, 16)
    seq = cache.open()
    cache.append(seq, 5)
    slots, new = np.array([0]), np.ones((1, 1, 8), np.float32)

    def append_and_truncate():
        cache.append(seq, 1)
        cache.truncate(seq, 5)

    yield "numpy.add(a, b, out)", lambda: np.add(q, q, out)
    yield "p.run(q, k, v, out=, lse=)", lambda: plan.run(q, k, v, out=out, lse=lse)
    yield "p.run(q, k, v, out=)", lambda: plan.run(q, k, v, out=out)
    yield "p.run(q, k, v)", lambda: plan.run(q, k, v)
    yield "p.update()", plan.update
    yield "attention(...)", lambda: folio.attention(q, k, v, **keywords)
    yield "append(k, v, ..., slots)", lambda: folio.append(new, new, k, v, slots)
    yield "cache.append + truncate", append_and_truncate
    yield "cache.page_table([s])", lambda: cache.page_table([seq])


def torch_calls():
    """Likewise with PyTorch's tensors; nothing where there is no PyTorch."""
    if importlib.util.find_spec("torch") is None:
        return
    import torch
    q, k, v, keywords = tiny()
    q, k, v = map(torch.from_numpy, (q, k, v))
    keywords = {name: torch.from_numpy(x) if isinstance(x, np.ndarray) else x for name, x in keywords.items()}
    out, lse = torch.empty_like(q), torch.empty(1, 1)
    plan = folio.plan(q, k, v, **keywords)
    slots, new = torch.tensor([0]), torch.ones(1, 1, 8)
    yield "torch.add(a, b, out=)", lambda: torch.add(q, q, out=out)
    yield "p.run(q, k, v, out=, lse=)", lambda: plan.run(q, k, v, out=out, lse=lse)
    yield "p.run(q, k, v, out=)", lambda: plan.run(q, k, v, out=out)
    yield "p.run(q, k, v)", lambda: plan.run(q, k, v)
    yield "attention(...)", lambda: folio.attention(q, k, v, **keywords)
    yield "append(k, v, ..., slots)", lambda: folio.append(new, new, k, v, slots)


def import_ms(rounds=9):
    """The fastest import of folio, in milliseconds, in a fresh interpreter that has imported numpy."""
    code = "import numpy, time; start = time.perf_counter(); import folio; print(time.perf_counter() - start)"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, check=True) for _ in range(rounds)]
    return min(float(run.stdout) for run in runs) * 1000


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true", help="one object a line")
    as_json = parser.parse_args().json
    rows = [(name, microseconds(call), "us") for name, call in calls()]
    rows += [(f"torch: {name}", microseconds(call), "us") for name, call in torch_calls()]
    rows.append(("import folio after numpy", import_ms(), "ms"))
    for name, value, unit in rows:
        print(json.dumps({"name": name, unit: round(value, 3)}) if as_json else f"{name:34} {value:8.2f} {unit}")


if __name__ == "__main__":
    main()
