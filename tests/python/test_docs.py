# SPDX-License-Identifier: Apache-2.0
"""The tables of docs/ name tests that there are."""
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
FOLDERS = [ROOT / "tests/python", ROOT / "tests/python-big"]


def named():
    """(file, function) of every test in the last table of docs/compat.md: "file::name", "::name" of the same file."""
    for line in (ROOT / "docs/compat.md").read_text().splitlines():
        file = None
        for found, name in re.findall(r"`(test_\w+\.py)?::(test_\w+)`", line):
            file = found or file
            yield file, name


def has_test(file, name):
    texts = [(folder / file).read_text() for folder in FOLDERS if (folder / file).exists()]
    return any(re.search(rf"^def {name}\(", text, re.M) for text in texts)


def test_tests_in_the_tables_exist():
    places = sorted(set(named()))
    assert len(places) > 40
    missing = [place for place in places if not has_test(*place)]
    assert not missing, missing
    assert not has_test("test_docs.py", "test_of_nothing")


def test_lines_of_the_tables_name_a_test():
    text = (ROOT / "docs/compat.md").read_text()
    rows = re.findall(r"^\| .*", text.split("## Every feature")[1], re.M)[1:]
    bare = [row for row in rows if "::test_" not in row]
    assert len(rows) > 25 and not bare, bare
