# SPDX-License-Identifier: Apache-2.0
"""When torch.compile is first used (torch._dynamo is imported), folio._torch_ops is imported too; until then folio
knows nothing of PyTorch."""
import importlib
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.util import find_spec

_MODULE = "torch._dynamo"


def _register():
    importlib.import_module("folio._torch_ops")


class _RegisterAfter(Loader):
    """The module's own loader, and then ours."""

    def __init__(self, loader):
        self.loader = loader

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        self.loader.exec_module(module)
        _register()


class _Finder(MetaPathFinder):
    """Sees torch._dynamo being imported, once."""

    def find_spec(self, name, path=None, target=None):
        if name != _MODULE:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None:
            spec.loader = _RegisterAfter(spec.loader)
        return spec


def watch():
    """Register now if torch.compile has been used already, else when it first is."""
    if _MODULE in sys.modules:
        _register()
    else:
        sys.meta_path.insert(0, _Finder())
