# SPDX-License-Identifier: Apache-2.0
"""table.py: the JSON lines of the peers' scripts on stdin -> one table on stdout, a section for each case and number of
threads, then what was left out and why. A line 'left out: NAME: REASON' is a peer that failed; others are not read.
Exit status 1: nothing was measured."""
import json
import sys

HEAD = ("", "type", "page", "peer ms", "share", "folio ms", "share", "folio is", "[p10", "p90]", "fastest", "")
LEGEND = """ms: medians. share: of what the probe between the turns read (decode) or multiplied (prefill).
folio is: so many times as fast, the median of the ratios within a turn; fastest: the ratio of the shortest calls."""


def cells(line):
    names = (line["peer"], line["type"])
    if "unsupported" in line:
        return (*names, *["–"] * 9, line["unsupported"])
    notes = [line["note"]] if line["note"] else []
    if line.get("fast"):
        notes.append(f"{len(line['ratios'])} turns at {line['fast']:g} GFLOP/s")
    if line["probe_moved"] > 0.1:
        notes.append(f"probe moved by {line['probe_moved']:.0%}")
    peer, ours = line["peer_times"], line["folio_times"]
    return (*names, str(line["page_size"]), f"{peer[0]:.3f}", f"{line['peer_share']:.0%}", f"{ours[0]:.3f}",
            f"{line['folio_share']:.0%}", *(f"{x:.2f}" for x in line["ratio"][:3]), f"{peer[3] / ours[3]:.2f}",
            "; ".join(notes))


def sections(lines):
    """{"decode 1 x 4096, 2 threads": [line]}, cases in their order, peers in theirs."""
    cases = list(dict.fromkeys(line["case"] for line in lines))
    made = {}
    for line in sorted(lines, key=lambda x: (cases.index(x["case"]), x["threads"])):
        name = f"{line['case']}, {line['threads']} thread{'s' * (line['threads'] > 1)}"
        made.setdefault(name, []).append(line)
    return made


def show(rows_of):
    rows = [HEAD] + [row for rows in rows_of.values() for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    widths[0] = max([widths[0], *(len(name) for name in rows_of)])
    text = lambda row: "  ".join(x.ljust(w) if i in (0, 1, 11) else x.rjust(w)  # noqa: E731
                                 for i, (x, w) in enumerate(zip(row, widths))).rstrip()
    for i, (name, rows) in enumerate(rows_of.items()):
        print(name if i else name + text(HEAD)[len(name):])
        print(*(text(row) for row in rows), "", sep="\n")


texts = sys.stdin.read().splitlines()
lines = [json.loads(text) for text in texts if text.startswith("{")]
show({name: [cells(line) for line in group] for name, group in sections(lines).items()})
measured = [line for line in lines if "unsupported" not in line]
left_out = [f"{x['peer']}, {x['case']}, {x['type']}: {x['unsupported']}" for x in lines if "unsupported" in x]
left_out += [text.removeprefix("left out: ") for text in texts if text.startswith("left out: ")]
if measured:
    print(LEGEND)
    print(f"Largest error of an output against float64: peers {max(x['peer_error'] for x in measured):.1e}, folio "
          f"{max(x['folio_error'] for x in measured):.1e}.")
print(f"rows: {len(measured)}, peers: {len({x['peer'] for x in measured})}, left out: {len(left_out)}")
for text in left_out:
    print("  " + text)
sys.exit(not measured)
