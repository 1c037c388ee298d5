# SPDX-License-Identifier: Apache-2.0
"""The Python examples run, and say with what they agree."""
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def case(path):
    """An example, marked with the packages that it imports."""
    imports = path.read_text()
    marks = [getattr(pytest.mark, name) for name in ("torch", "jax") if f"\nimport {name}" in imports]
    return pytest.param(path, id=path.name, marks=marks)


@pytest.mark.parametrize("example", [case(path) for path in sorted((ROOT / "examples").glob("*.py"))])
def test_example_runs(example):
    run = subprocess.run([sys.executable, example], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("\n") == 1 and " agree" in run.stdout
    assert len(example.read_text().splitlines()) < 80
