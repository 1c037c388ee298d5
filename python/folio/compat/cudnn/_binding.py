# SPDX-License-Identifier: Apache-2.0
"""One folio plan for a graph, and the arrays of each execution bound to it.

    q [B, H, S, D], any strides  ->  rows [B * S, H, D]: a view of [B, S, H, D] in memory, else a copy
    sequence b                   ->  rows b * S ... + seq_len_q[b], and, behind them, a sequence without keys for the
                                     rows of padding: its out is 0, its lse -inf
    tables, lengths, bias, sink  ->  arrays of ours that the plan keeps; each execution fills them and updates the plan
"""
import threading

import folio
import numpy as np
from folio.compat.cudnn import _arrays
from folio.compat.cudnn._arrays import Place, fill, permuted, spread
from folio.compat.cudnn._names import cudnnGraphNotSupportedError, data_type
from folio.compat.cudnn._sdpa import alibi_slopes


class Binding:
    """Makes the plan when the graph tells where its arrays live, else at the first execution."""

    def __init__(self, s):
        self._s, self._lock = s, threading.Lock()
        self._place = self._plan = None
        place = next((t._place for _, t in s.inputs() if t._place is not None), None)
        if place is not None and place.is_host:
            self._make_plan(place, *(place.stand_in(t._dim, t._stride, t._type) for t in (s.q, s.k, s.v, s.o)))

    # -- the plan ------------------------------------------------------------------------------------------------------

    def _make_plan(self, place, q, k, v, o):
        """q, k, v, o: arrays, or what stands in for them, as the graph describes them."""
        s = self._s
        self._place = place
        self._is_rows = {name: _is_rows(t) for name, t in (("q", s.q), ("o", s.o))}
        self._is_rows["q"] = self._is_rows["q"] and s.o._type is s.q._type  # else q is widened, which copies it
        batch, heads, rows, _ = s.q._dim
        padded = s.seq_len_q is not None
        n_seqs = 2 * batch if padded else batch
        self._kv_lens = self._filled((n_seqs,), data_type.INT64, 0)
        self._q_indptr = self._filled((n_seqs + 1,), data_type.INT64, 0)
        fill(self._q_indptr, self._starts(batch, rows, padded))
        if not padded:
            fill(self._kv_lens, self._host(np.full(batch, s.k._dim[2], np.int64)))
        self._tables = self._make_tables(batch, n_seqs)
        self._sinks = self._filled((heads,), data_type.FLOAT, 0) if s.sink_token else None
        self._slopes = None
        if s.use_alibi_mask:
            self._slopes = place.empty((heads,), data_type.FLOAT)
            fill(self._slopes, self._host(np.array(alibi_slopes(heads), np.float32)))
        self._bias = self._make_bias(batch, heads, rows)
        try:
            self._plan = folio.plan(
                self._rows_of("q", q, s.q._dim[3]), k, v, kv_lens=self._kv_lens, page_table=self._tables[0],
                v_page_table=self._tables[1], q_indptr=self._q_indptr, layout="HND", alibi_slopes=self._slopes,
                sinks=self._sinks, bias=self._bias, out=self._rows_of("o", o, s.v._dim[3]),
                return_lse=s.stats is not None, **s.keywords())
        except NotImplementedError as error:
            raise cudnnGraphNotSupportedError(str(error)) from error

    def _host(self, x):
        """A NumPy array as one of the place's framework, on the host."""
        if self._place.device is None:
            return x
        import torch

        return torch.from_numpy(x)

    def _filled(self, shape, kind, value):
        made = self._place.empty(shape, kind)
        made[...] = value
        return made

    def _starts(self, batch, rows, padded):
        """q_indptr when every row counts. [n_seqs + 1]"""
        starts = np.arange(batch + 1, dtype=np.int64) * rows
        return self._host(np.repeat(starts, 2)[1:] if padded else starts)

    def _make_tables(self, batch, n_seqs):
        """(K's, V's), [n_seqs, n]: row 2b is sequence b's. Without pages each sequence is one page of its own."""
        s = self._s
        if not s.is_paged:
            table = self._place.empty((batch, 1), data_type.INT32)
            fill(table, self._host(np.arange(batch, dtype=np.int32)[:, None]))
            return self._doubled(table, n_seqs), None
        given = (s.paged_attention_k_table, s.paged_attention_v_table)
        return tuple(self._filled((n_seqs, t._dim[2]), t._type, 0) for t in given)

    def _doubled(self, table, n_seqs):
        made = self._filled((n_seqs, table.shape[1]), data_type.INT32, 0)
        fill(made[:: n_seqs // max(table.shape[0], 1) or 1], table)
        return made

    def _make_bias(self, batch, heads, rows):
        """[B * Sq, 1 | Hq, 1 | max kv], what the plan reads."""
        if self._s.bias is None:
            return None
        dim = self._s.bias._dim
        return self._filled((batch * rows, dim[1], dim[3]), self._s.bias._type, 0)

    # -- rows ----------------------------------------------------------------------------------------------------------

    def _rows_of(self, name, x, head_dim):
        """q or o [B, H, S, D] as rows [B * S, H, D]: a view, or new memory where there is none."""
        batch, heads, rows, _ = self._s.q._dim
        if not self._is_rows[name]:
            return self._place.empty((batch * rows, heads, head_dim), self._s.o._type)
        x = permuted(x, (0, 2, 1, 3))
        if _arrays.is_torch(x):
            return x.flatten(0, 1)
        stride = x.strides[1] if rows > 1 else x.strides[0]
        return np.lib.stride_tricks.as_strided(x, (batch * rows, heads, head_dim), (stride, *x.strides[2:]))

    def _in_batches(self, x):
        """[B * S, H, ...] as [B, H, S, ...]: a view."""
        batch, heads, rows, _ = self._s.q._dim
        order = (0, 2, 1, *range(3, x.ndim + 1))
        return permuted(x.reshape(batch, rows, heads, *x.shape[2:]), order)

    # -- executing -----------------------------------------------------------------------------------------------------

    def execute(self, arrays, stream):
        """arrays: {tensor: array}. See pygraph.execute."""
        s = self._s
        bound = {name: self._find(arrays, name, t) for name, t in s.inputs()}
        outputs = {"o": self._find(arrays, "o", s.o)}
        if s.stats is not None and s.stats._is_output:
            outputs["stats"] = self._find(arrays, "stats", s.stats)
        place = Place(_arrays.device_of(bound["q"]))
        for name, x in (bound | outputs).items():
            if Place(_arrays.device_of(x)) != place:
                raise ValueError(f"{name}: {Place(_arrays.device_of(x))}, q is {place}; all must be one of them")
        with self._lock:
            if self._plan is None or self._place != place:
                self._make_plan(place, bound["q"], bound["k"], bound["v"], outputs["o"])
            self._fill(bound)
            self._run(bound, outputs, {} if place.is_host else {"stream": stream})

    def _find(self, arrays, name, t):
        if t not in arrays:
            raise ValueError(f'variant_pack: nothing for {name} (tensor "{t._name}", uid {t._uid})')
        x = _arrays.as_array(name, arrays[t])
        if _arrays.type_of(name, x) is not t._type:
            raise TypeError(f"{name}: dtype {x.dtype}; the graph says {t._type.name}")
        strides = _arrays.strides_of(x)
        same = all(have == want for have, want, n in zip(strides, t._stride, t._dim) if n > 1)
        if tuple(x.shape) == t._dim and (same or 0 in t._dim):
            return x
        if len(x.shape) != 1:
            raise ValueError(f"{name}: shape {list(x.shape)}, strides {list(strides)}; the graph says {list(t._dim)} "
                             f"and {list(t._stride)}. One-dimensional memory that holds them would do")
        return _shaped(name, x, t)

    def _fill(self, bound):
        """The plan's own arrays, from this execution's."""
        s = self._s
        batch, heads, rows, _ = s.q._dim
        if s.seq_len_q is not None:
            self._check_lengths("seq_len_q", bound["seq_len_q"], rows)
            self._check_lengths("seq_len_kv", bound["seq_len_kv"], s.max_kv_len)
            fill(self._kv_lens[0::2], bound["seq_len_kv"].reshape(batch))
            fill(self._q_indptr[1::2], self._q_indptr[0:-1:2] + bound["seq_len_q"].reshape(batch))
        if s.is_paged:
            for table, name in zip(self._tables, ("paged_attention_k_table", "paged_attention_v_table")):
                fill(table[0::2], bound[name][:, 0, :, 0])
        if self._sinks is not None:
            fill(self._sinks, bound["sink_token"].reshape(heads))
        if self._bias is not None:
            dim = self._bias.shape
            spread_bias = spread(permuted(bound["bias"], (0, 2, 1, 3)), (batch, rows, dim[1], dim[2]))
            fill(self._bias.reshape(batch, rows, dim[1], dim[2]), spread_bias)

    def _check_lengths(self, name, x, most):
        """On a device nothing waits for its lengths; the plan finds what is wrong there."""
        if not self._place.is_host or not x.shape[0]:
            return
        for bad in (int(x.min()), int(x.max())):
            if not 0 <= bad <= most:
                raise ValueError(f"{name}: got {bad}; must be 0 ... {most}")

    def _run(self, bound, outputs, stream):
        q = self._rows_of("q", bound["q"], self._s.q._dim[3])
        if not self._is_rows["q"]:
            fill(self._in_batches(q), bound["q"])
        out = self._rows_of("o", outputs["o"], self._s.v._dim[3])
        self._plan.update(**stream)
        result = self._plan.run(q, bound["k"], bound["v"], out=out, return_lse="stats" in outputs, **stream)
        if not self._is_rows["o"]:
            fill(outputs["o"], self._in_batches(out))
        if "stats" in outputs:
            fill(outputs["stats"][..., 0], self._in_batches(result[1]))


def _is_rows(t):
    """Whether a tensor [B, H, S, D] is rows [B * S, H, D] without a copy."""
    batch, _, rows, _ = t._dim
    return t._stride[3] == 1 and (batch <= 1 or rows <= 1 or t._stride[0] == rows * t._stride[2])


def _shaped(name, x, t):
    """One run of memory x [n] seen with a tensor's shape and strides; ValueError when it is too short."""
    need = 1 + sum((n - 1) * stride for n, stride in zip(t._dim, t._stride)) if 0 not in t._dim else 0
    if x.shape[0] < need or (x.shape[0] > 1 and _arrays.strides_of(x)[0] != 1):
        raise ValueError(f"{name}: {x.shape[0]} elements; its shape and strides need {need} in a row")
    if _arrays.is_torch(x):
        return x.as_strided(t._dim, t._stride)
    return np.lib.stride_tricks.as_strided(x, t._dim, [n * x.itemsize for n in t._stride])
