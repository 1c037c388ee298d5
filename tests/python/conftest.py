# SPDX-License-Identifier: Apache-2.0
"""Markers `torch` and `jax`: such tests are skipped, with the reason, where the package is not installed."""
import importlib.util
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

PACKAGES = {"torch": "torch", "jax": "jax"}


def pytest_collection_modifyitems(items):
    for marker, package in PACKAGES.items():
        if importlib.util.find_spec(package) is None:
            skip = pytest.mark.skip(reason=f"{package} is not installed")
            for item in items:
                if marker in item.keywords:
                    item.add_marker(skip)


@pytest.fixture(params=["cpu", "ref"])
def backend(request):
    return request.param
