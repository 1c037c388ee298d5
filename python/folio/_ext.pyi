# SPDX-License-Identifier: Apache-2.0
"""Types of the C side. Arrays: NumPy, PyTorch, JAX, CuPy, or anything with __dlpack__ or a buffer."""
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Self, TypeAlias, TypeVar, final, overload

import numpy as np
import numpy.typing as npt
from folio._mods import Mod

_Array = TypeVar("_Array")
_AnyArray: TypeAlias = Any
_Indices: TypeAlias = _AnyArray | Sequence[int]
_Table: TypeAlias = _AnyArray | Sequence[Sequence[int]]
_Layout: TypeAlias = Literal["NHD", "HND", "FLAT"]
_Corner: TypeAlias = Literal["top_left", "bottom_right"] | None
_Mod: TypeAlias = str | Mod | Callable[..., Any] | None
_Backend: TypeAlias = Literal["auto", "cpu", "cuda", "ref"]

__version__: str

class NoPagesError(MemoryError):
    needed: int
    free: int
    can_fit: bool

class StateError(RuntimeError): ...
class DeviceError(RuntimeError): ...

@overload
def attention(
    q: _Array, k_pages: _AnyArray, v_pages: _AnyArray, *, kv_lens: _Indices, page_table: _Table | None = None,
    v_page_table: _Table | None = None, kv_indptr: _Indices | None = None, kv_indices: _Indices | None = None,
    q_indptr: _Indices | None = None, layout: _Layout = "NHD", page_size: int | None = None, causal: _Corner = None,
    align: _Corner = None, scale: float | None = None, window: tuple[int, int] = (-1, -1), softcap: float = 0.0,
    alibi_slopes: _AnyArray | None = None, sinks: _AnyArray | None = None, mask: _AnyArray | None = None,
    bias: _AnyArray | None = None, score_mod: _Mod = None, mask_mod: _Mod = None, block_mask: Any = None,
    captures: Mapping[str, Any] | None = None, k_scale: Any = None, v_scale: Any = None, out: _AnyArray | None = None,
    lse: _AnyArray | None = None, return_lse: Literal[True], max_q_len: int = 0, max_kv_len: int = 0,
    cascade: bool = False, num_splits: int = 0, num_threads: int = 0, stream: Any = None, backend: _Backend = "auto",
) -> tuple[_Array, _Array]: ...
@overload
def attention(
    q: _Array, k_pages: _AnyArray, v_pages: _AnyArray, *, kv_lens: _Indices, page_table: _Table | None = None,
    v_page_table: _Table | None = None, kv_indptr: _Indices | None = None, kv_indices: _Indices | None = None,
    q_indptr: _Indices | None = None, layout: _Layout = "NHD", page_size: int | None = None, causal: _Corner = None,
    align: _Corner = None, scale: float | None = None, window: tuple[int, int] = (-1, -1), softcap: float = 0.0,
    alibi_slopes: _AnyArray | None = None, sinks: _AnyArray | None = None, mask: _AnyArray | None = None,
    bias: _AnyArray | None = None, score_mod: _Mod = None, mask_mod: _Mod = None, block_mask: Any = None,
    captures: Mapping[str, Any] | None = None, k_scale: Any = None, v_scale: Any = None, out: _AnyArray | None = None,
    lse: _AnyArray | None = None, return_lse: Literal[False] = False, max_q_len: int = 0, max_kv_len: int = 0,
    cascade: bool = False, num_splits: int = 0, num_threads: int = 0, stream: Any = None, backend: _Backend = "auto",
) -> _Array: ...

def plan(
    q: _AnyArray, k_pages: _AnyArray, v_pages: _AnyArray, *, kv_lens: _Indices, page_table: _Table | None = None,
    v_page_table: _Table | None = None, kv_indptr: _Indices | None = None, kv_indices: _Indices | None = None,
    q_indptr: _Indices | None = None, layout: _Layout = "NHD", page_size: int | None = None, causal: _Corner = None,
    align: _Corner = None, scale: float | None = None, window: tuple[int, int] = (-1, -1), softcap: float = 0.0,
    alibi_slopes: _AnyArray | None = None, sinks: _AnyArray | None = None, mask: _AnyArray | None = None,
    bias: _AnyArray | None = None, score_mod: _Mod = None, mask_mod: _Mod = None, block_mask: Any = None,
    captures: Mapping[str, Any] | None = None, k_scale: Any = None, v_scale: Any = None, out: _AnyArray | None = None,
    lse: _AnyArray | None = None, return_lse: bool = False, max_q_len: int = 0, max_kv_len: int = 0,
    cascade: bool = False, num_splits: int = 0, num_threads: int = 0, stream: Any = None, backend: _Backend = "auto",
) -> Plan: ...

def explain(
    q: _AnyArray, k_pages: _AnyArray, v_pages: _AnyArray, *, kv_lens: _Indices, page_table: _Table | None = None,
    v_page_table: _Table | None = None, kv_indptr: _Indices | None = None, kv_indices: _Indices | None = None,
    q_indptr: _Indices | None = None, layout: _Layout = "NHD", page_size: int | None = None, causal: _Corner = None,
    align: _Corner = None, scale: float | None = None, window: tuple[int, int] = (-1, -1), softcap: float = 0.0,
    alibi_slopes: _AnyArray | None = None, sinks: _AnyArray | None = None, mask: _AnyArray | None = None,
    bias: _AnyArray | None = None, score_mod: _Mod = None, mask_mod: _Mod = None, block_mask: Any = None,
    captures: Mapping[str, Any] | None = None, k_scale: Any = None, v_scale: Any = None, out: _AnyArray | None = None,
    lse: _AnyArray | None = None, return_lse: bool = False, max_q_len: int = 0, max_kv_len: int = 0,
    cascade: bool = False, num_splits: int = 0, num_threads: int = 0, stream: Any = None, backend: _Backend = "auto",
) -> str: ...

@final
class Plan:
    def run(
        self, q: _Array, k_pages: _AnyArray, v_pages: _AnyArray, *, out: _AnyArray | None = None,
        lse: _AnyArray | None = None, return_lse: bool = False, stream: Any = None,
    ) -> Any: ...  # _Array; (_Array, _Array) with return_lse, here or in plan()
    def update(
        self, kv_lens: _Indices | None = None, page_table: _Table | None = None, q_indptr: _Indices | None = None,
        stream: Any = None,
    ) -> None: ...
    def check(self) -> None: ...

def append(
    k: _AnyArray, v: _AnyArray, k_pages: _AnyArray, v_pages: _AnyArray, slots: _Indices, layout: _Layout = "NHD", *,
    page_size: int | None = None, k_scale: Any = None, v_scale: Any = None,
) -> None: ...

def gather(
    k_pages: _Array, v_pages: _Array, page_row: _Indices, kv_len: int, layout: _Layout = "NHD", *,
    page_size: int | None = None, k_scale: Any = None, v_scale: Any = None, dtype: Any = None,
) -> tuple[_Array, _Array]: ...

def copy_pages(
    k_pages: _AnyArray, v_pages: _AnyArray | None, copies: _AnyArray | Sequence[tuple[int, int]],
    layout: _Layout = "NHD", *, page_size: int | None = None,
) -> None: ...

def pages_from_contiguous(x: _Array, page_size: int) -> tuple[_Array, _Array]: ...

def ffi_targets() -> dict[str, Any]: ...
@overload
def merge(outs: list[_Array] | tuple[_Array, ...], lses: Any) -> tuple[_Array, _Array]: ...
@overload
def merge(outs: _Array, lses: Any) -> tuple[_Array, _Array]: ...

@final
class Cache:
    def __new__(cls, n_pages: int, page_size: int, max_seqs: int = 256, prefix: bool = False, *, lifo: bool = False,
                use_page_0: bool = False) -> Self: ...
    def open(self) -> int: ...
    def reserve(self, seq: int, n_tokens: int) -> None: ...
    def append(self, seq: int, n_new: int) -> npt.NDArray[np.int64]: ...
    def truncate(self, seq: int, n_tokens: int) -> None: ...
    def fork(self, seq: int) -> int: ...
    def close(self, seq: int) -> None: ...
    def take_copies(self) -> npt.NDArray[np.int64]: ...
    def page_table(self, seqs: Sequence[int]) -> npt.NDArray[np.int32]: ...
    def kv_lens(self, seqs: Sequence[int]) -> npt.NDArray[np.int64]: ...
    def slots(self, seqs: Sequence[int], positions: _Table) -> npt.NDArray[np.int64]: ...
    def free_pages(self) -> npt.NDArray[np.int32]: ...
    def stats(self) -> dict[str, int]: ...
    def check(self) -> None: ...
