# SPDX-License-Identifier: Apache-2.0
"""pygraph: a description of one sdpa(), step by step as cuDNN's users take them."""
import folio
from folio.compat.cudnn import _names, _sdpa, _tensor
from folio.compat.cudnn._binding import Binding
from folio.compat.cudnn._names import build_plan_policy, cudnnGraphNotSupportedError, data_type

# sdpa()'s options in cuDNN that are not here: None and False leave them out.
_ABSENT = frozenset((
    "block_mask", "dropout", "rng_dump", "score_mod", "score_max", "score_sum_exp", "implementation", "unfuse_fma",
    "use_deterministic_algorithm",
))


class pygraph:
    """A graph of one sdpa().

    name                     for messages
    io_data_type             of tensors whose type is not set; NOT_SET = q's
    intermediate_data_type   NOT_SET or FLOAT: scores and weights are FLOAT
    compute_data_type        NOT_SET or FLOAT
    handle                   of executions that are given none
    Other arguments (sm_count, kernel_cache, ...) raise cudnnGraphNotSupportedError unless they are None.
    """

    def __init__(self, name="", io_data_type=data_type.NOT_SET, intermediate_data_type=data_type.NOT_SET,
                 compute_data_type=data_type.NOT_SET, handle=None, **others):
        _refuse(others)
        for option, kind in (("intermediate_data_type", intermediate_data_type),
                             ("compute_data_type", compute_data_type)):
            if kind not in (data_type.NOT_SET, data_type.FLOAT):
                raise cudnnGraphNotSupportedError(f"{option}: {kind}; only FLOAT is supported")
        self._name, self._io_type = name, io_data_type
        self._handle = None if handle is None else _names._require_open(handle)
        self._tensors, self._sdpa, self._binding = [], None, None
        self._is_valid = self._is_operation_graph = self._has_modes = False

    # -- describing ----------------------------------------------------------------------------------------------------

    def tensor(self, dim, stride, data_type=data_type.NOT_SET, name="", uid=0, **others):
        """A tensor by its shape (4 ints), strides (4 ints, elements) and type."""
        _refuse(others)
        kind = self._io_type if data_type is _names.data_type.NOT_SET else data_type
        made = self._keep(_tensor.tensor(name, uid=uid or self._next_uid()))
        return made.set_dim(dim).set_stride(stride).set_data_type(kind)

    def tensor_like(self, like, name="", uid=0):
        """A tensor with the shape, strides and type of an array (NumPy, PyTorch, __dlpack__) or another tensor."""
        return self._keep(_tensor.like(like, name, uid or self._next_uid()))

    def sdpa(self, q, k, v, *, name="", is_inference=None, attn_scale=None, bias=None, use_alibi_mask=False,
             use_padding_mask=False, seq_len_q=None, seq_len_kv=None, use_causal_mask=False,
             use_causal_mask_bottom_right=False, sliding_window_length=None,
             diagonal_alignment=_names.diagonal_alignment.TOP_LEFT, diagonal_band_left_bound=None,
             diagonal_band_right_bound=None, paged_attention_k_table=None, paged_attention_v_table=None,
             paged_attention_max_seq_len_kv=None, compute_data_type=data_type.NOT_SET, generate_stats=None,
             sink_token=None, **others):
        """Attention of q over k and v: (o, stats).

        B batch, Hq query heads, Hk kv heads, n table columns; p is where a row stands: i (TOP_LEFT), or i + the
        sequence's keys - its rows (BOTTOM_RIGHT).

        q            [B, Hq, Sq, D] FLOAT, HALF, BFLOAT16; any strides but the last dim's. [B, Sq, Hq, D] in memory
                     saves a copy
        k, v         paged: containers [n_blocks, Hk, block, D]; else [B, Hk, Skv, D]. Hk divides Hq
        attn_scale   float; None = 1: cuDNN does not scale by itself
        bias         [1 | B, 1 | Hq, 1 | Sq, 1 | Skv], added to the scaled scores
        use_alibi_mask   + slope_h * (j - p) with the usual slopes
        use_padding_mask, seq_len_q, seq_len_kv   [B, 1, 1, 1] INT32 or INT64: rows and keys of each sequence; rows past
                     seq_len_q give 0, their stats are -inf (the sink, where there is one)
        use_causal_mask  keys j <= i; use_causal_mask_bottom_right: j <= i + keys - rows
        diagonal_alignment, diagonal_band_left_bound L, diagonal_band_right_bound R   keys p - L < j <= p + R; None = no
                     bound. sliding_window_length is L's older name
        paged_attention_k_table, _v_table   [B, 1, n, 1] INT32 or INT64: block ids; needs use_padding_mask
        paged_attention_max_seq_len_kv   int; None = n * block
        sink_token   [1, Hq, 1, 1] FLOAT: a logit a head that joins the softmax, without a value
        is_inference, generate_stats   stats is a tensor with generate_stats=True, or, when that is None, with
                     is_inference=False; else None. [B, Hq, Sq, 1] FLOAT, natural log-sum-exp with the sink

        Raises TypeError, ValueError, and cudnnGraphNotSupportedError naming any other option that is used.
        """
        options = {key: value for key, value in locals().items() if key not in ("self", "others")}
        _refuse(others)
        if self._sdpa is not None:
            raise cudnnGraphNotSupportedError("sdpa: a second one in one graph is not supported")
        s = _sdpa.Sdpa(**options)
        _sdpa.check_options(s)
        for option, t in s.inputs():
            if t not in self._tensors:
                raise ValueError(f"{option}: a tensor of another graph")
        s.o = self._keep(_tensor.tensor(f"{name or 'sdpa'}::O", uid=self._next_uid()))
        if s.wants_stats:
            s.stats = self._keep(_tensor.tensor(f"{name or 'sdpa'}::Stats", uid=self._next_uid()))
        self._sdpa = s
        return s.o, s.stats

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        raise _AbsentOperation(f"{name}: not supported; this graph does sdpa")

    # -- building ------------------------------------------------------------------------------------------------------

    def validate(self):
        """Check that the tensors fit together, and fill in what was not set of o and stats."""
        s = self._sdpa
        if s is None:
            raise ValueError("graph: empty; call sdpa() first")
        if not s.o._is_output:
            raise ValueError("o: no output; call o.set_output(True)")
        self._infer(s)
        _sdpa.check_shapes(s)
        self._is_valid = True

    def build_operation_graph(self):
        """cuDNN's next step after validate(); nothing is left to do."""
        self._need(self._is_valid, "build_operation_graph", "validate")
        self._is_operation_graph = True

    def create_execution_plans(self, heur_modes):
        """heur_modes: cudnn.heur_mode's, a list of at least one; they all mean the same here."""
        self._need(self._is_operation_graph, "create_execution_plans", "build_operation_graph")
        modes = list(heur_modes)
        if not modes or not all(isinstance(mode, _names.heur_mode) for mode in modes):
            raise TypeError(f"heur_modes: got {modes}; must be a list of cudnn.heur_mode")
        self._has_modes = True

    def check_support(self):
        """Raise cudnnGraphNotSupportedError if the graph can't be executed: makes the plan to find out."""
        self._need(self._has_modes, "check_support", "create_execution_plans")
        if self._binding is None:
            self._binding = Binding(self._sdpa)

    def build_plans(self, policy=build_plan_policy.HEURISTICS_CHOICE):
        """Make the folio plan. Tensors on a CUDA device, and graphs without any tensor_like(), have theirs made by the
        first execute(), which sees the arrays."""
        self.check_support()

    def build(self, heur_modes):
        """All steps from validate() to build_plans()."""
        self.validate()
        self.build_operation_graph()
        self.create_execution_plans(heur_modes)
        self.build_plans()

    def get_workspace_size(self):
        """Bytes of workspace that execute() needs: 0, the plan has its own."""
        self._need(self._binding is not None, "get_workspace_size", "build_plans")
        return 0

    def execute(self, variant_pack, workspace=None, handle=None):
        """Compute o, and stats where it is an output.

        variant_pack   {tensor or its uid: array}: every input of sdpa() and every output; more is ignored. An array
                       has its tensor's shape and strides, or is one run of memory that holds them
        workspace      anything; not used
        handle         of create_handle(); its stream counts on CUDA

        Raises ValueError (an array missing or not as described, a length out of range), IndexError (a block id out of
        range), TypeError (dtype). One execution of a graph at a time: another thread waits.
        """
        self._need(self._binding is not None, "execute", "build_plans")
        handle = self._handle if handle is None else handle
        stream = None if handle is None else _names.get_stream(handle)
        by_uid = {t._uid: t for t in self._tensors}
        arrays = {by_uid.get(key) if isinstance(key, int) else key: x for key, x in variant_pack.items()}
        self._binding.execute(arrays, stream)

    # -- parts ---------------------------------------------------------------------------------------------------------

    def _keep(self, t):
        self._tensors.append(t)
        return t

    def _next_uid(self):
        return max((t._uid for t in self._tensors), default=0) + 1

    def _need(self, done, step, before):
        if not done:
            raise folio.StateError(f"{step}: call {before}() first")

    def _infer(self, s):
        """Shapes, strides and types of outputs that the user left open: o as q lies in memory, stats row-major."""
        if len(s.q._dim) != 4 or len(s.v._dim) != 4 or len(s.q._stride) != 4:
            return  # the shapes' check says so
        batch, heads, rows, _ = s.q._dim
        s.o._dim = s.o._dim or (batch, heads, rows, s.v._dim[3])
        s.o._stride = s.o._stride or _strides_in_order(s.o._dim, s.q._stride)
        if s.o._type is data_type.NOT_SET:
            s.o._type = s.q._type if self._io_type is data_type.NOT_SET else self._io_type
        if s.stats is not None:
            s.stats._dim = s.stats._dim or (batch, heads, rows, 1)
            s.stats._stride = s.stats._stride or _strides_in_order(s.stats._dim, (3, 2, 1, 0))
            if s.stats._type is data_type.NOT_SET:
                s.stats._type = data_type.FLOAT


class _AbsentOperation(cudnnGraphNotSupportedError, AttributeError):
    """An operation that cuDNN's graphs have and these don't; an AttributeError too, so that hasattr() says False."""


def _refuse(others):
    for option, value in others.items():
        if value is not None and value is not False or option not in _ABSENT:
            raise cudnnGraphNotSupportedError(f"{option}: not supported; got {value!r}")


def _strides_in_order(dim, order):
    """Strides of a packed tensor whose dims lie in memory as those with the strides `order` do."""
    strides, size = [0] * len(dim), 1
    for i in sorted(range(len(dim)), key=lambda i: (order[i], -i)):
        strides[i], size = size, size * max(dim[i], 1)
    return tuple(strides)
