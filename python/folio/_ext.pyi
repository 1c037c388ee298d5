# SPDX-License-Identifier: Apache-2.0
"""Types of the C side. Array: NumPy, PyTorch, JAX, CuPy, or anything with __dlpack__ or a buffer."""
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, TypeVar, final, overload

import numpy as np
import numpy.typing as npt

Array = TypeVar("Array")
AnyArray: TypeAlias = Any
Indices: TypeAlias = AnyArray | Sequence[int]
Table: TypeAlias = AnyArray | Sequence[Sequence[int]]
Layout: TypeAlias = Literal["NHD", "HND", "FLAT"]
Corner: TypeAlias = Literal["top_left", "bottom_right"] | None
Backend: TypeAlias = Literal["auto", "cpu", "cuda", "ref"]

__version__: str

class NoPagesError(MemoryError):
    needed: int
    free: int
    can_fit: bool

class StateError(RuntimeError): ...
class DeviceError(RuntimeError): ...

def attention(
    q: Array, k_pages: AnyArray, v_pages: AnyArray, *, kv_lens: Indices, page_table: Table | None = None,
    v_page_table: Table | None = None, kv_indptr: Indices | None = None, kv_indices: Indices | None = None,
    q_indptr: Indices | None = None, layout: Layout = "NHD", page_size: int | None = None, causal: Corner = None,
    align: Corner = None, scale: float | None = None, window: tuple[int, int] = (-1, -1), softcap: float = 0.0,
    alibi_slopes: AnyArray | None = None, sinks: AnyArray | None = None, mask: AnyArray | None = None,
    bias: AnyArray | None = None, score_mod: Any = None, mask_mod: Any = None, block_mask: Any = None,
    captures: Any = None, k_scale: Any = None, v_scale: Any = None, out: AnyArray | None = None,
    lse: AnyArray | None = None, return_lse: bool = False, max_q_len: int = 0, max_kv_len: int = 0,
    cascade: bool = False, num_splits: int = 0, num_threads: int = 0, stream: Any = None, backend: Backend = "auto",
) -> Any: ...  # Array, or with return_lse (Array, Array)

def plan(
    q: AnyArray, k_pages: AnyArray, v_pages: AnyArray, *, kv_lens: Indices, page_table: Table | None = None,
    v_page_table: Table | None = None, kv_indptr: Indices | None = None, kv_indices: Indices | None = None,
    q_indptr: Indices | None = None, layout: Layout = "NHD", page_size: int | None = None, causal: Corner = None,
    align: Corner = None, scale: float | None = None, window: tuple[int, int] = (-1, -1), softcap: float = 0.0,
    alibi_slopes: AnyArray | None = None, sinks: AnyArray | None = None, mask: AnyArray | None = None,
    bias: AnyArray | None = None, score_mod: Any = None, mask_mod: Any = None, block_mask: Any = None,
    captures: Any = None, k_scale: Any = None, v_scale: Any = None, out: AnyArray | None = None,
    lse: AnyArray | None = None, return_lse: bool = False, max_q_len: int = 0, max_kv_len: int = 0,
    cascade: bool = False, num_splits: int = 0, num_threads: int = 0, stream: Any = None, backend: Backend = "auto",
) -> Plan: ...

def explain(
    q: AnyArray, k_pages: AnyArray, v_pages: AnyArray, *, kv_lens: Indices, page_table: Table | None = None,
    v_page_table: Table | None = None, kv_indptr: Indices | None = None, kv_indices: Indices | None = None,
    q_indptr: Indices | None = None, layout: Layout = "NHD", page_size: int | None = None, causal: Corner = None,
    align: Corner = None, scale: float | None = None, window: tuple[int, int] = (-1, -1), softcap: float = 0.0,
    alibi_slopes: AnyArray | None = None, sinks: AnyArray | None = None, mask: AnyArray | None = None,
    bias: AnyArray | None = None, score_mod: Any = None, mask_mod: Any = None, block_mask: Any = None,
    captures: Any = None, k_scale: Any = None, v_scale: Any = None, out: AnyArray | None = None,
    lse: AnyArray | None = None, return_lse: bool = False, max_q_len: int = 0, max_kv_len: int = 0,
    cascade: bool = False, num_splits: int = 0, num_threads: int = 0, stream: Any = None, backend: Backend = "auto",
) -> str: ...

@final
class Plan:
    def run(
        self, q: Array, k_pages: AnyArray, v_pages: AnyArray, *, out: AnyArray | None = None,
        lse: AnyArray | None = None, return_lse: bool = False, stream: Any = None,
    ) -> Any: ...  # Array, or with return_lse (Array, Array)
    def update(
        self, kv_lens: Indices | None = None, page_table: Table | None = None, q_indptr: Indices | None = None,
        stream: Any = None,
    ) -> None: ...
    def check(self) -> None: ...

def append(
    k: AnyArray, v: AnyArray, k_pages: AnyArray, v_pages: AnyArray, slots: Indices, layout: Layout = "NHD", *,
    page_size: int | None = None, k_scale: Any = None, v_scale: Any = None,
) -> None: ...

def gather(
    k_pages: Array, v_pages: Array, page_row: Indices, kv_len: int, layout: Layout = "NHD", *,
    page_size: int | None = None, k_scale: Any = None, v_scale: Any = None, dtype: Any = None,
) -> tuple[Array, Array]: ...

def copy_pages(
    k_pages: AnyArray, v_pages: AnyArray | None, copies: AnyArray | Sequence[tuple[int, int]],
    layout: Layout = "NHD", *, page_size: int | None = None,
) -> None: ...

def pages_from_contiguous(x: Array, page_size: int) -> tuple[Array, Array]: ...
def merge(outs: Array | Sequence[Array], lses: Array | Sequence[Array]) -> tuple[Array, Array]: ...

@final
class Cache:
    def __init__(self, n_pages: int, page_size: int, max_seqs: int = 256, prefix: bool = False) -> None: ...
    def open(self) -> int: ...
    def reserve(self, seq: int, n_tokens: int) -> None: ...
    def append(self, seq: int, n_new: int) -> npt.NDArray[np.int64]: ...
    def truncate(self, seq: int, n_tokens: int) -> None: ...
    def fork(self, seq: int) -> int: ...
    def close(self, seq: int) -> None: ...
    def take_copies(self) -> npt.NDArray[np.int64]: ...
    def page_table(self, seqs: Sequence[int]) -> npt.NDArray[np.int32]: ...
    def kv_lens(self, seqs: Sequence[int]) -> npt.NDArray[np.int64]: ...
    def stats(self) -> dict[str, int]: ...
    def check(self) -> None: ...
