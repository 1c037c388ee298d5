# SPDX-License-Identifier: Apache-2.0
"""cuDNN's names: enumerations, handles, versions and the error of what is not supported."""
import enum

import folio

_VERSION = (9, 14, 0)  # the cuDNN whose meanings are followed: rows past seq_len_q give 0 and -inf since 9.14


class cudnnGraphNotSupportedError(NotImplementedError):
    """The graph asks for what this module can't do; the message begins with the option's or tensor's name."""


class data_type(enum.Enum):
    """Element types. Attention takes FLOAT, HALF and BFLOAT16; tables and lengths are INT32 or INT64."""

    NOT_SET = enum.auto()
    FLOAT = enum.auto()
    DOUBLE = enum.auto()
    HALF = enum.auto()
    BFLOAT16 = enum.auto()
    INT8 = enum.auto()
    UINT8 = enum.auto()
    INT32 = enum.auto()
    INT64 = enum.auto()
    BOOLEAN = enum.auto()
    FP8_E4M3 = enum.auto()
    FP8_E5M2 = enum.auto()


class heur_mode(enum.Enum):
    """How cuDNN searches for engines. There is one engine here, so that all of them mean the same."""

    A = enum.auto()
    B = enum.auto()
    FALLBACK = enum.auto()


class build_plan_policy(enum.Enum):
    """Which of the plans found are built: the one there is."""

    HEURISTICS_CHOICE = enum.auto()
    ALL = enum.auto()


class diagonal_alignment(enum.Enum):
    """Where query row i stands among n keys, of m rows: TOP_LEFT at i, BOTTOM_RIGHT at i + n - m."""

    TOP_LEFT = enum.auto()
    BOTTOM_RIGHT = enum.auto()


class Handle:
    """What create_handle gives. It carries a CUDA stream (an int; None = the framework's current one), nothing else."""

    def __init__(self):
        self.stream = None
        self.is_open = True


def create_handle():
    """A new Handle. Never fails: no device is needed."""
    return Handle()


def _require_open(handle):
    if not isinstance(handle, Handle):
        raise TypeError(f"handle: got {type(handle).__name__}; must come from create_handle()")
    if not handle.is_open:
        raise folio.StateError("handle: destroyed; create another one")
    return handle


def destroy_handle(handle):
    """End a handle's use. Raises StateError for one that was destroyed before, TypeError for what is no handle."""
    _require_open(handle).is_open = False


def set_stream(handle, stream):
    """Let executions with this handle use a CUDA stream: stream is an int, or None for the framework's current one."""
    _require_open(handle).stream = stream


def get_stream(handle):
    """The stream that set_stream gave the handle, or None."""
    return _require_open(handle).stream


def backend_version():
    """The version of cuDNN whose meanings are followed, as cuDNN counts: major * 10000 + minor * 100 + patch."""
    major, minor, patch = _VERSION
    return major * 10000 + minor * 100 + patch


def backend_version_string():
    """The same as text: "major.minor.patch"."""
    return ".".join(map(str, _VERSION))
