# SPDX-License-Identifier: Apache-2.0
"""The options of sdpa(): what they may be, and what they are in folio's words."""
import dataclasses
import math
import numbers

from folio.compat.cudnn._names import cudnnGraphNotSupportedError, data_type, diagonal_alignment
from folio.compat.cudnn._tensor import tensor

FLOATS = (data_type.FLOAT, data_type.HALF, data_type.BFLOAT16)
INDICES = (data_type.INT32, data_type.INT64)


@dataclasses.dataclass
class Sdpa:
    """One sdpa() as it was called; o and stats are its outputs. B batch, Hq and Hk heads, n table columns."""

    q: tensor  # [B, Hq, Sq, D]
    k: tensor  # [n_pages, Hk, page_size, D], or [B, Hk, Skv, D] without tables
    v: tensor  # the same with its own head dim
    name: str = ""
    is_inference: bool | None = None
    attn_scale: float | None = None
    bias: tensor | None = None  # [1 | B, 1 | Hq, 1 | Sq, 1 | max kv]
    use_alibi_mask: bool = False
    use_padding_mask: bool = False
    seq_len_q: tensor | None = None  # [B, 1, 1, 1]
    seq_len_kv: tensor | None = None  # [B, 1, 1, 1]
    use_causal_mask: bool = False
    use_causal_mask_bottom_right: bool = False
    sliding_window_length: int | None = None
    diagonal_alignment: diagonal_alignment = diagonal_alignment.TOP_LEFT
    diagonal_band_left_bound: int | None = None
    diagonal_band_right_bound: int | None = None
    paged_attention_k_table: tensor | None = None  # [B, 1, n, 1]
    paged_attention_v_table: tensor | None = None  # [B, 1, n, 1]
    paged_attention_max_seq_len_kv: int | None = None
    compute_data_type: data_type = data_type.NOT_SET
    generate_stats: bool | None = None
    sink_token: tensor | None = None  # [1, Hq, 1, 1] FLOAT
    o: tensor = None  # [B, Hq, Sq, Dv]
    stats: tensor | None = None  # [B, Hq, Sq, 1] FLOAT

    @property
    def is_paged(self):
        return self.paged_attention_k_table is not None

    @property
    def wants_stats(self):
        return self.generate_stats if self.generate_stats is not None else self.is_inference is False

    @property
    def max_kv_len(self):
        """Keys of the longest sequence: what is given, else what the tables or K itself hold."""
        if not self.is_paged:
            return self.k._dim[2]
        return self.paged_attention_max_seq_len_kv or self.paged_attention_k_table._dim[2] * self.k._dim[2]

    def inputs(self):
        """(option, tensor) of what execute() must be given."""
        names = ("q", "k", "v", "bias", "seq_len_q", "seq_len_kv", "paged_attention_k_table",
                 "paged_attention_v_table", "sink_token")
        return [(name, getattr(self, name)) for name in names if getattr(self, name) is not None]

    def band(self):
        """(alignment, left, right) of the diagonal band: j > p - left, j <= p + right; None = no bound."""
        align, right = self.diagonal_alignment, self.diagonal_band_right_bound
        left = self.diagonal_band_left_bound
        if self.sliding_window_length is not None:
            left = self.sliding_window_length
        if self.use_causal_mask or self.use_causal_mask_bottom_right:
            right = 0
        if self.use_causal_mask_bottom_right:
            align = diagonal_alignment.BOTTOM_RIGHT
        return align, left, right

    def keywords(self):
        """The options among folio.plan's keywords."""
        align, left, right = self.band()
        corner = align.name.lower()
        is_causal = right == 0
        return {
            "causal": corner if is_causal else None,
            "align": corner,
            "window": (-1 if left is None else left - 1, -1 if right is None or is_causal else right),
            "scale": 1.0 if self.attn_scale is None else float(self.attn_scale),  # cuDNN's default is no scale
            "max_kv_len": self.max_kv_len,
            "max_q_len": self.q._dim[2],
        }


# -- checks ------------------------------------------------------------------------------------------------------------


def check_options(s):
    """What is wrong whatever the shapes are. TypeError, ValueError, cudnnGraphNotSupportedError."""
    for field in dataclasses.fields(s):
        value = getattr(s, field.name)
        is_tensor = field.name not in ("o", "stats") and "tensor" in str(field.type)
        if is_tensor and value is not None and not isinstance(value, tensor):
            raise TypeError(f"{field.name}: got {type(value).__name__}; must be a tensor of the graph")
    for name in ("q", "k", "v"):
        if getattr(s, name) is None:
            raise TypeError(f"{name}: None; must be a tensor of the graph")
    if isinstance(s.attn_scale, tensor):
        raise cudnnGraphNotSupportedError("attn_scale: a tensor is not supported; give a float")
    if s.attn_scale is not None and not isinstance(s.attn_scale, numbers.Real):
        raise TypeError(f"attn_scale: got {type(s.attn_scale).__name__}; must be a float or None")
    if s.attn_scale is not None and not math.isfinite(s.attn_scale):
        raise ValueError(f"attn_scale: got {s.attn_scale}; must be finite")
    if s.compute_data_type not in (data_type.NOT_SET, data_type.FLOAT):
        raise cudnnGraphNotSupportedError(f"compute_data_type: {s.compute_data_type.name}; only FLOAT is supported")
    if not isinstance(s.diagonal_alignment, diagonal_alignment):
        raise TypeError("diagonal_alignment: must be a cudnn.diagonal_alignment")
    _check_band(s)
    _check_pairs(s)


def _check_band(s):
    if s.use_causal_mask and s.use_causal_mask_bottom_right:
        raise ValueError("use_causal_mask: given beside use_causal_mask_bottom_right; give one of them")
    if s.use_causal_mask and s.diagonal_alignment is diagonal_alignment.BOTTOM_RIGHT:
        raise ValueError("use_causal_mask: aligned TOP_LEFT; diagonal_alignment is BOTTOM_RIGHT")
    if s.sliding_window_length is not None and s.diagonal_band_left_bound is not None:
        raise ValueError("sliding_window_length: given beside diagonal_band_left_bound; give one of them")
    least = {"sliding_window_length": 1, "diagonal_band_left_bound": 1, "diagonal_band_right_bound": 0,
             "paged_attention_max_seq_len_kv": 1}
    for name, bound in least.items():
        value = getattr(s, name)
        if value is not None and (not isinstance(value, numbers.Integral) or value < bound):
            raise ValueError(f"{name}: got {value!r}; must be an int >= {bound} or None")
    if (s.use_causal_mask or s.use_causal_mask_bottom_right) and s.diagonal_band_right_bound:
        raise ValueError(f"diagonal_band_right_bound: got {s.diagonal_band_right_bound}; a causal mask's is 0")


def _check_pairs(s):
    pairs = (("seq_len_q", "seq_len_kv"), ("paged_attention_k_table", "paged_attention_v_table"))
    for first, second in pairs:
        if (getattr(s, first) is None) != (getattr(s, second) is None):
            missing, given = (first, second) if getattr(s, first) is None else (second, first)
            raise ValueError(f"{missing}: None beside {given}; give both or neither")
    if s.use_padding_mask and s.seq_len_q is None:
        raise ValueError("use_padding_mask: needs seq_len_q and seq_len_kv")
    if s.seq_len_q is not None and not s.use_padding_mask:
        raise ValueError("seq_len_q: needs use_padding_mask=True")
    if s.is_paged and not s.use_padding_mask:
        raise ValueError("paged_attention_k_table: needs use_padding_mask=True with seq_len_q and seq_len_kv")
    if s.paged_attention_max_seq_len_kv is not None and not s.is_paged:
        raise ValueError("paged_attention_max_seq_len_kv: needs paged_attention_k_table")


def check_shapes(s):
    """Whether the tensors fit together. ValueError, cudnnGraphNotSupportedError; the message names the option."""
    for name, t in s.inputs() + [("o", s.o)] + ([("stats", s.stats)] if s.stats else []):
        if len(t._dim) != 4 or len(t._stride) != 4:
            raise ValueError(f"{name}: dim {list(t._dim)}, stride {list(t._stride)}; both must have 4 ints")
        allowed = INDICES if "seq_len" in name or "table" in name else FLOATS
        if t._type not in allowed:
            raise cudnnGraphNotSupportedError(
                f"{name}: data type {t._type.name}; supported: {', '.join(x.name for x in allowed)}")
    batch, heads, rows, head_dim = s.q._dim
    k, v = s.k._dim, s.v._dim
    if k[1] != v[1]:
        raise cudnnGraphNotSupportedError(f"v: {v[1]} heads, k has {k[1]}; different numbers are not supported")
    if k[1] == 0 or heads % k[1]:
        raise ValueError(f"q: {heads} heads; must be a multiple of k's {k[1]}")
    if k[3] != head_dim:
        raise ValueError(f"k: head dim {k[3]}; must be q's, {head_dim}")
    if s.v._type is not s.k._type or s.q._type not in (s.k._type, data_type.FLOAT):
        raise cudnnGraphNotSupportedError(f"q: {s.q._type.name} with k {s.k._type.name} and v {s.v._type.name}; k and "
                                          "v must be of one type, q of the same or FLOAT")
    _check_pages(s)
    keys = s.max_kv_len
    _require(s, "o", (batch, heads, rows, v[3]))
    _require(s, "stats", (batch, heads, rows, 1))
    _require(s, "seq_len_q", (batch, 1, 1, 1))
    _require(s, "seq_len_kv", (batch, 1, 1, 1))
    _require(s, "sink_token", (1, heads, 1, 1))
    for extent, most, dim in zip(s.bias._dim if s.bias else (), (batch, heads, rows, keys), "BHSK"):
        if extent not in (1, most):
            raise ValueError(f"bias: dim {list(s.bias._dim)}; must spread over {[batch, heads, rows, keys]}")
    for name in ("stats", "sink_token"):
        t = getattr(s, name)
        if t is not None and t._type is not data_type.FLOAT:
            raise cudnnGraphNotSupportedError(f"{name}: data type {t._type.name}; only FLOAT is supported")
    if s.o._type not in (s.q._type, data_type.FLOAT):
        raise cudnnGraphNotSupportedError(f"o: data type {s.o._type.name}; must be q's, {s.q._type.name}, or FLOAT")


def _require(s, name, dim):
    t = getattr(s, name)
    if t is not None and t._dim != dim:
        raise ValueError(f"{name}: dim {list(t._dim)}; must be {list(dim)}")


def _check_pages(s):
    k, v, batch = s.k._dim, s.v._dim, s.q._dim[0]
    if not s.is_paged:
        if (k[0], k[2]) != (v[0], v[2]) or k[0] != batch:
            raise ValueError(f"k: dim {list(k)}, v: dim {list(v)}; both must have q's batch {batch} and one length")
        return
    if k[2] != v[2]:
        raise cudnnGraphNotSupportedError(
            f"v: blocks of {v[2]} slots, k has blocks of {k[2]}; different block sizes are not supported")
    for name in ("paged_attention_k_table", "paged_attention_v_table"):
        dim = getattr(s, name)._dim
        if (dim[0], dim[1], dim[3]) != (batch, 1, 1):
            raise ValueError(f"{name}: dim {list(dim)}; must be [{batch}, 1, blocks, 1]")
        if s.max_kv_len > dim[2] * k[2]:
            raise ValueError(f"paged_attention_max_seq_len_kv: got {s.max_kv_len}; {name} holds {dim[2]} blocks of "
                             f"{k[2]} slots, {dim[2] * k[2]} in all")


def alibi_slopes(n_heads):
    """The usual slopes, as a list of floats: m = the power of two below, 2^(-8(i+1)/m), then the odd steps between."""
    m = 2 ** math.floor(math.log2(n_heads))
    return [2.0 ** (-8 * (i + 1) / m) for i in range(m)] + [2.0 ** (-4 * (2 * t + 1) / m) for t in range(n_heads - m)]
