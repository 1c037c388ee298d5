# SPDX-License-Identifier: Apache-2.0
"""The public surface: names, signatures and defaults are a contract; stubs and docstrings agree with it."""
import ast
import importlib.metadata
import inspect
import pathlib
import re
import subprocess
import sys

import folio
import pytest

ATTEND = """q, k_pages, v_pages, *, kv_lens, page_table=None, v_page_table=None, kv_indptr=None, kv_indices=None,
    q_indptr=None, layout="NHD", page_size=None, causal=None, align=None, scale=None, window=(-1, -1), softcap=0.0,
    alibi_slopes=None, sinks=None, mask=None, bias=None, score_mod=None, mask_mod=None, block_mask=None, captures=None,
    k_scale=None, v_scale=None, out=None, lse=None, return_lse=False, max_q_len=0, max_kv_len=0, cascade=False,
    num_splits=0, num_threads=0, stream=None, backend="auto\""""

SIGNATURES = {
    "attention": ATTEND,
    "plan": ATTEND,
    "explain": ATTEND,
    "append": 'k, v, k_pages, v_pages, slots, layout="NHD", *, page_size=None, k_scale=None, v_scale=None',
    "gather": 'k_pages, v_pages, page_row, kv_len, layout="NHD", *, page_size=None, k_scale=None, v_scale=None, '
              "dtype=None",
    "copy_pages": 'k_pages, v_pages, copies, layout="NHD", *, page_size=None',
    "pages_from_contiguous": "x, page_size",
    "merge": "outs, lses",
    "BlockMask": "kv_num_blocks, kv_indices, full_kv_num_blocks, full_kv_indices, block_size, mask_mod=None",
    "Mod": "text, captures=None",
    "Cache": "n_pages, page_size, max_seqs=256, prefix=False, *, lifo=False, use_page_0=False",
    "Plan.run": "self, /, q, k_pages, v_pages, *, out=None, lse=None, return_lse=False, stream=None",
    "Plan.update": "self, /, kv_lens=None, page_table=None, q_indptr=None, stream=None",
    "Plan.check": "self, /",
    "Cache.open": "self, /",
    "Cache.reserve": "self, /, seq, n_tokens",
    "Cache.append": "self, /, seq, n_new",
    "Cache.truncate": "self, /, seq, n_tokens",
    "Cache.fork": "self, /, seq",
    "Cache.close": "self, /, seq",
    "Cache.take_copies": "self, /",
    "Cache.page_table": "self, /, seqs",
    "Cache.kv_lens": "self, /, seqs",
    "Cache.slots": "self, /, seqs, positions",
    "Cache.free_pages": "self, /",
    "Cache.stats": "self, /",
    "Cache.check": "self, /",
}


def look_up(path):
    found = folio
    for name in path.split("."):
        found = getattr(found, name)
    return found


def of_text(text):
    scope = {}
    exec(f"def function({text}): pass", scope)
    return inspect.signature(scope["function"])


@pytest.mark.parametrize("path", SIGNATURES)
def test_signature(path):
    assert inspect.signature(look_up(path)) == of_text(SIGNATURES[path])


def test_every_public_name_is_in_the_table_or_an_error():
    errors = {"DeviceError", "NoPagesError", "StateError", "__version__", "Plan"}
    assert {name for name in folio.__all__} == {name for name in SIGNATURES if "." not in name} | errors
    for owner in (folio.Plan, folio.Cache):
        public = {f"{owner.__name__}.{name}" for name in vars(owner) if not name.startswith("_")}
        assert public == {path for path in SIGNATURES if path.startswith(owner.__name__ + ".")}


@pytest.mark.parametrize("path", [*SIGNATURES, "Plan", "DeviceError", "NoPagesError", "StateError"])
def test_docstring(path):
    """Every public name says what it is; every parameter of a function is spoken of, there or in attention()."""
    doc = look_up(path).__doc__
    assert doc and len(doc) > 30
    parameters = inspect.signature(look_up(path)).parameters if path in SIGNATURES else ()
    for parameter in set(parameters) - {"self", "seq", "seqs"}:
        told = doc + folio.attention.__doc__ if "attention() takes" in doc or path == "explain" else doc
        assert re.search(rf"\b{parameter}\b", told), f"{path}: {parameter} is not in its docstring"


def test_errors_are_pythons_own_kinds():
    assert folio.NoPagesError.__bases__ == (MemoryError,)
    assert folio.StateError.__bases__ == (RuntimeError,)
    assert folio.DeviceError.__bases__ == (RuntimeError,)
    for error in (folio.NoPagesError, folio.StateError, folio.DeviceError):
        assert error.__module__ == "folio"


def signatures_of_stub(path):
    """name or Class.name -> the signature in a stub file, annotations left out."""
    found = {}

    def visit(body, prefix):
        for node in body:
            if isinstance(node, ast.ClassDef):
                visit(node.body, node.name + ".")
            if isinstance(node, ast.FunctionDef):  # of overloads, the last one has the defaults
                for argument in ast.walk(node.args):
                    if isinstance(argument, ast.arg):
                        argument.annotation = None
                found[prefix + node.name] = ast.unparse(node.args)

    visit(ast.parse(path.read_text()).body, "")
    return found


def test_stubs_say_the_same():
    folder = pathlib.Path(folio.__file__).parent
    assert (folder / "py.typed").exists()
    stubs = signatures_of_stub(folder / "_ext.pyi")
    for path, text in SIGNATURES.items():
        if path in ("BlockMask", "Mod"):
            continue
        is_class = path == "Cache"
        stub = stubs["Cache.__new__" if is_class else path]
        assert of_text(stub) == of_text("cls, " + text if is_class else text.replace("self, /", "self")), path


def test_import_brings_neither_torch_nor_jax():
    code = "import folio, sys; print([m for m in ('torch', 'jax', 'cupy', 'ml_dtypes') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_version_is_that_of_the_distribution():
    assert folio.__version__ == importlib.metadata.version("folio-attention")
    assert re.fullmatch(r"\d+\.\d+\.\d+", folio.__version__)
