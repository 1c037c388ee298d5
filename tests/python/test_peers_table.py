# SPDX-License-Identifier: Apache-2.0
"""bench/peers/table.py: every line of the peers' scripts is a row or counted with its reason."""
import json
import pathlib
import subprocess
import sys

TABLE = pathlib.Path(__file__).parents[2] / "bench" / "peers" / "table.py"


def line(peer, case, threads, ratio, moved=0.0, fast=0):
    quantiles = [ratio, ratio - 0.25, ratio + 0.25, ratio - 0.5]
    return json.dumps({"peer": peer, "case": case, "type": "bf16", "threads": threads, "page_size": 32,
                       "note": "no pages", "peer_times": [2 * x for x in quantiles],
                       "folio_times": [2.0, 1.5, 2.5, 1.0], "ratio": quantiles, "peer_share": 0.25, "folio_share": 0.5,
                       "probe_moved": moved, "fast": fast, "ratios": [ratio] * 3,
                       "peer_error": 3e-3, "folio_error": 2e-4})


def table(*lines, status=0):
    done = subprocess.run([sys.executable, TABLE], input="\n".join(lines), capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    return done.stdout


def test_rows_by_case_and_threads_and_peers_in_their_order():
    out = table(line("slow", "decode 1", 2, 3.5), line("slow", "prefill", 1, 5.5),
                line("near", "decode 1", 2, 1.25, 0.5), "what a library prints", line("near", "decode 1", 1, 1.75))
    heads = [x for x in ("decode 1, 1 thread", "decode 1, 2 threads", "prefill, 1 thread") if x in out]
    assert len(heads) == 3 and [out.index(x) for x in heads] == sorted(out.index(x) for x in heads), out
    rows = [x.split() for x in out.splitlines() if x.startswith(("slow", "near"))]
    assert [(x[0], x[7:11]) for x in rows] == [("near", ["1.75", "1.50", "2.00", "2.50"]),
                                               ("slow", ["3.50", "3.25", "3.75", "6.00"]),
                                               ("near", ["1.25", "1.00", "1.50", "1.50"]),
                                               ("slow", ["5.50", "5.25", "5.75", "10.00"])], out
    assert out.count("probe moved by 50%") == 1 and "library prints" not in out
    assert "peers 3.0e-03, folio 2.0e-04" in out and "rows: 4, peers: 2, left out: 0" in out


def test_what_is_left_out_is_counted_with_its_reason():
    unsupported = {"peer": "odd", "case": "prefill", "type": "f32", "threads": 1, "unsupported": "no such type"}
    out = table("left out: absent: ModuleNotFoundError: No module named 'absent'", json.dumps(unsupported),
                line("near", "decode", 1, 2))
    assert "rows: 1, peers: 1, left out: 2" in out
    assert "  odd, prefill, f32: no such type" in out
    assert "  absent: ModuleNotFoundError: No module named 'absent'" in out


def test_the_first_title_is_whole_and_turns_of_one_speed_are_counted():
    out = table(line("x", "a case whose name is long", 1, 2, fast=2000))
    assert out.splitlines()[0].startswith("a case whose name is long, 1 thread  type  page"), out
    assert out.splitlines()[1].endswith("no pages; 3 turns at 2000 GFLOP/s"), out


def test_nothing_measured():
    out = table("left out: all: OSError", status=1)
    assert out.splitlines()[-2:] == ["rows: 0, peers: 0, left out: 1", "  all: OSError"]
