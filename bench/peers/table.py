# SPDX-License-Identifier: Apache-2.0
"""table.py: the JSON lines of the peers' scripts on stdin -> one table on stdout, sorted by case and threads."""
import json
import sys

HEAD = ("case", "threads", "peer", "type", "page", "peer ms", "[p10", "p90]", "share", "folio ms", "[p10", "p90]",
        "share", "folio is", "[p10", "p90]", "by the fastest", "errors, peer and folio", "")


def cells(line):
    names = (line["case"], str(line["threads"]), line["peer"], line["type"])
    if "unsupported" in line:
        return (*names, *["–"] * 14, line["unsupported"])
    notes = [line["note"]] if line["note"] else []
    if line["probe_moved"] > 0.1:
        notes.append(f"probe moved by {line['probe_moved']:.0%}")
    peer, ours = line["peer_times"], line["folio_times"]
    return (*names, str(line["page_size"]), *(f"{x:.3f}" for x in peer[:3]), f"{line['peer_share']:.0%}",
            *(f"{x:.3f}" for x in ours[:3]), f"{line['folio_share']:.0%}", f"{line['ratio'][0]:.2f} x as fast",
            *(f"{x:.2f}" for x in line["ratio"][1:3]), f"{peer[3] / ours[3]:.2f} x",
            f"{line['peer_error']:.1e} {line['folio_error']:.1e}", "; ".join(notes))


lines = [json.loads(text) for text in sys.stdin if text.startswith("{")]
cases = list(dict.fromkeys(line["case"] for line in lines))
lines.sort(key=lambda line: (cases.index(line["case"]), line["threads"]))  # stable: peers stay in their order
rows = [HEAD] + [cells(line) for line in lines]
widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
for row in rows:
    left = (0, 2, 3, 17, 18)
    print("  ".join(x.ljust(w) if i in left else x.rjust(w) for i, (x, w) in enumerate(zip(row, widths))).rstrip())
