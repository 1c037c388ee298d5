# SPDX-License-Identifier: Apache-2.0
"""tally.py: how many tests a part ran, from its output.

Reads ctest -V over cmocka programs and plain ones, pytest, or a closing line "N passed, N failed, N skipped". Never
hides a failure: a command that exits non-zero or runs nothing has failed.
"""
import re


class Counts:
    """What a part ran; `skips` says why each skipped one was, `why` holds the lines that explain a failure."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.skips, self.why = [], []

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped


def failed(why):
    """One failure, for a reason that no output shows."""
    counts = Counts()
    counts.failed, counts.why = 1, [why]
    return counts


def line(counts):
    return f"{counts.passed} passed, {counts.failed} failed, {counts.skipped} skipped"


PLAIN = re.compile(r"^(\d+) passed, (\d+) failed, (\d+) skipped$", re.M)
PYTEST = re.compile(r"^(?=.*\d+ \w+.* in [\d.]+s)(?:=+ )?(.*?) in [\d.]+s.*$", re.M)
CTEST = re.compile(r"^\s*\d+/\d+ Test\s+#(\d+): (\S+) \.+\s*\**(.*?)\s+[\d.]+ sec", re.M)
CMOCKA = re.compile(r"^(\d+): \[\s+(OK|FAILED|ERROR|SKIPPED)\s+\] (.+?)$", re.M)


def count_ctest(text, counts):
    """A cmocka program counts as its tests, any other as one. Its summary names failed and skipped ones once more."""
    tests = {}
    for number, outcome, name in CMOCKA.findall(text):
        if not re.match(r"\d+ test\(s\)|tests:|---", name):
            tests.setdefault(number, {})[name] = outcome
    for number, program, outcome in CTEST.findall(text):
        outcomes = [(o, name) for name, o in tests.get(number, {}).items()]
        failed = sum(o in ("FAILED", "ERROR") for o, _ in outcomes)
        if outcome not in ("Passed", "Skipped") and not failed:
            failed = 1
            counts.why.append(f"{program}: {outcome}")
        counts.failed += failed
        counts.passed += sum(o == "OK" for o, _ in outcomes) if outcomes else outcome == "Passed"
        counts.skipped += sum(o == "SKIPPED" for o, _ in outcomes) + (not outcomes and outcome == "Skipped")
        counts.skips += [f"{program}: {name}{reason(text, number, name)}" for o, name in outcomes if o == "SKIPPED"]
        counts.why += [f"{program}: {name}" for o, name in outcomes if o in ("FAILED", "ERROR")]


def reason(text, number, name):
    """The line a test printed before it said it was skipped."""
    lines = [l.split(": ", 1)[1] for l in text.splitlines() if l.startswith(f"{number}: ")]
    for before, now in zip(lines, lines[1:]):
        if "SKIPPED" in now and name in now and not before.startswith("["):
            return f" ({before.strip()})"
    return ""


def count_pytest(summary, counts):
    for n, what in re.findall(r"(\d+) (\w+)", summary):
        if what in ("passed", "xfailed"):
            counts.passed += int(n)
        elif what in ("failed", "error", "errors", "xpassed"):
            counts.failed += int(n)
        elif what == "skipped":
            counts.skipped += int(n)


def count(text, code, is_build=False):
    """The counts of a part that printed text and exited with code."""
    counts = Counts()
    plain, pytest, ctest = PLAIN.findall(text), PYTEST.findall(text), CTEST.findall(text)
    if is_build:
        counts.passed = int(code == 0)
    elif plain:
        counts.passed, counts.failed, counts.skipped = map(int, plain[-1])
        counts.skips = re.findall(r"^skip:? (.*)$", text, re.M)
    elif ctest:
        count_ctest(text, counts)
    elif pytest:
        for summary in pytest:
            count_pytest(summary, counts)
        counts.skips = re.findall(r"^SKIPPED (.*)$", text, re.M)
    if counts.failed == 0 and (code != 0 or counts.passed == 0):
        counts.failed = 1
        if code == 0:
            counts.why.append("ran no test")
    if counts.failed:
        lines = text.splitlines()
        counts.why += [l for l in lines[:-25] if re.search(r"FAIL|error:|Error", l)][:20] + lines[-25:]
    return counts
