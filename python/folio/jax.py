# SPDX-License-Identifier: Apache-2.0
"""folio under jax.jit: attention, append and gather as XLA FFI handlers on the CPU.

    out = folio.jax.attention(q, k_pages, v_pages, kv_lens=..., page_table=...)
    k_pages, v_pages = folio.jax.append(k, v, k_pages, v_pages, slots, donate=True)
    k, v = folio.jax.gather(k_pages, v_pages, page_row, kv_len)

Arrays may be traced. Everything that is no array (windows, scales, maxima, words) is a constant of the compiled
program: a traced one is a TypeError that says what to do. Errors that only the values show (a page id or a slot out of
range, a length beyond the table) surface as JAX's runtime error with folio's message, when the result is waited for.
jax.vmap calls once an item, one after the other. There are no gradients, this is inference: differentiating is a
TypeError. A compiled program belongs to its process: folio refuses to run in another one that loaded it.

The handlers are registered with JAX at the first call; `import folio` alone never imports JAX.
"""
import functools
import operator

import jax
import numpy as np

from folio import _ext, _jax_mods

__all__ = ["append", "attention", "gather"]

# The order of ffi_attention.c.
ARRAYS = ("q", "k_pages", "v_pages", "kv_lens", "page_table", "v_page_table", "kv_indptr", "kv_indices", "q_indptr",
          "alibi_slopes", "sinks", "mask", "bias", "k_scale", "v_scale")
LAYOUTS = {"NHD": 0, "HND": 1, "FLAT": 2}
SIDES = {None: 0, "top_left": 1, "bottom_right": 2}
BACKENDS = {"auto": 1, "cpu": 1, "ref": 3}
CPU = 1
QUANTISED = ("int8", "float8_e4m3fn", "float8_e5m2")
SCALE_IS_SET, WINDOW_IS_SET = 1, 2
INDICES = {"int32", "int64"}


@functools.cache
def _register():
    for name, capsule in _ext.ffi_targets().items():
        jax.ffi.register_ffi_target(name, capsule, platform="cpu")


@functools.cache
def _context(backend, num_threads):
    """Attributes that name a context of the library, with threads of its own; it then lives as long as the process."""
    if not 0 <= num_threads < 2**31:
        raise ValueError(f"num_threads: {num_threads}; must be >= 0, 0 = all")
    context, process = _ext._ffi_context(int(backend), int(num_threads))
    return {"context": np.int64(context), "process": np.int64(process)}


def _constant(name, value, read):
    """value as a plain number; a traced one is refused with what to do about it."""
    if isinstance(value, jax.core.Tracer):
        raise TypeError(f"{name}: a traced value; it must be known when tracing: pass a Python number, as in "
                        f"{name}=..., or name it in static_argnames of jax.jit")
    try:
        return read(value)
    except TypeError:
        raise TypeError(f"{name}: {value!r}; must be a number") from None


def _i64(name, value):
    number = _constant(name, value, operator.index)
    if not -2**63 <= number < 2**63:
        raise ValueError(f"{name}: {number}; must fit 64 bits")
    return np.int64(number)


def _word(name, value, words):
    if isinstance(value, jax.core.Tracer) or value not in words:
        raise ValueError(f"{name}: {value!r}; must be one of {', '.join(map(repr, words))}")
    return np.int64(words[value])


def _array(name, value, dtypes=None):
    """value as what jax.jit takes as it is: a JAX array, or NumPy's of a dtype that JAX would not narrow."""
    if isinstance(value, (list, tuple)):
        value = np.asarray(value, np.int64 if dtypes is INDICES else None)
    if hasattr(value, "dtype") and not isinstance(value, jax.Array | np.ndarray):
        value = jax.numpy.asarray(value)  # PyTorch's, say
    dtype = getattr(value, "dtype", None)
    if dtype is None:
        raise TypeError(f"{name}: {type(value).__name__}; must be an array")
    if dtypes and dtype.name not in dtypes:
        raise TypeError(f"{name}: dtype {dtype}; must be {' or '.join(sorted(dtypes))}")
    if isinstance(value, jax.Array):
        return value
    if dtype.itemsize == 8 and not jax.config.jax_enable_x64:
        return _narrow(name, value)
    return value


def _scale(name, value):
    """k_scale or v_scale as an array, of a number or numbers too; None stays."""
    if isinstance(value, int | float | list | tuple):
        value = np.atleast_1d(np.asarray(value, np.float32))
    return None if value is None else _array(name, value)


def _scales(k_scale, v_scale):
    """(which are given: 1 k_scale, 2 v_scale; those)"""
    both = _scale("k_scale", k_scale), _scale("v_scale", v_scale)
    given = [i for i in range(2) if both[i] is not None]
    return np.int64(sum(1 << i for i in given)), [both[i] for i in given]


def _narrow(name, value):
    """int64 indices as int32, where they fit."""
    if value.dtype != np.int64:
        raise TypeError(f"{name}: dtype {value.dtype}; folio takes float32, float16, bfloat16")
    narrow = value.astype(np.int32)
    if (narrow != value).any():
        raise IndexError(f"{name}: {value[narrow != value].flat[0]}; must fit int32, or set jax_enable_x64")
    return narrow


def _pages_shape(name, pages, layout, page_size):
    """(n_pages, page_size, n_kv_heads, head_dim) of pages in that layout."""
    if pages.ndim != 4:
        raise ValueError(f"{name}: {pages.ndim} dims; must have 4")
    if layout == "FLAT":
        if not page_size:
            raise ValueError('page_size: layout "FLAT" needs it')
        one, heads, slots, dim = pages.shape
        if one != 1 or slots % page_size:
            raise ValueError(f'{name}: shape {pages.shape}; layout "FLAT" is [1, H, n_pages * page_size, D], here '
                             f"with page_size {page_size}")
        return slots // page_size, page_size, heads, dim
    shape = pages.shape if layout == "NHD" else tuple(pages.shape[i] for i in (0, 2, 1, 3))
    if page_size and page_size != shape[1]:
        raise ValueError(f"page_size: {page_size}; {name} has pages of {shape[1]} slots")
    return shape


def _layout(layout, page_size):
    """(attributes, page_size)"""
    word = _word("layout", layout, LAYOUTS)
    size = np.int64(0) if page_size is None else _i64("page_size", page_size)
    if page_size is not None and size < 1:
        raise ValueError(f"page_size: {size}; must be >= 1")
    return {"layout": word, "page_size": size}, int(size)


def attention(q, k_pages, v_pages, *, kv_lens, page_table=None, v_page_table=None, kv_indptr=None, kv_indices=None,
              q_indptr=None, layout="NHD", page_size=None, causal=None, align=None, scale=None, window=(-1, -1),
              softcap=0.0, alibi_slopes=None, sinks=None, mask=None, bias=None, score_mod=None, mask_mod=None,
              block_mask=None, captures=None, k_scale=None, v_scale=None, return_lse=False, max_q_len=0,
              max_kv_len=0, num_splits=0, num_threads=0, backend="auto"):
    """Attention over pages: folio.attention for traced arrays.

    q                     [n_tokens, n_q_heads, head_dim] float32, float16, bfloat16
    k_pages, v_pages      [n_pages, page_size, n_kv_heads, head_dim], or as layout says
    kv_lens               [batch] int32, tokens to attend; may be traced
    page_table            [batch, max_pages] int32; or kv_indptr [batch + 1] and kv_indices [n]; may be traced
    q_indptr              [batch + 1] int32, or None: one row a sequence
    mask, bias            broadcastable to [n_tokens, n_q_heads, n]; n at least the longest kv_len
    score_mod, mask_mod   a str with captures=, a folio.Mod, or a JAX callable that can be translated: compiled when
                          the call is traced. What they capture may be traced
    block_mask            folio.BlockMask or whatever has its attributes; its arrays may be traced
    k_scale, v_scale      of quantised pages: a number, [n_kv_heads], or [n_pages, page_size, n_kv_heads]
    the other keywords    constants, as in folio.attention, whose docstring has their ranges and defaults
    max_q_len, max_kv_len 0 = from shapes; only for an earlier refusal of what is too long

    Returns out [n_tokens, n_q_heads, head_dim_v] of q's dtype, or (out, lse [n_tokens, n_q_heads] float32).
    Raises TypeError, ValueError, when tracing; JAX's runtime error for what only the values show.
    """
    given = dict(q=q, k_pages=k_pages, v_pages=v_pages, kv_lens=kv_lens, page_table=page_table,
                 v_page_table=v_page_table, kv_indptr=kv_indptr, kv_indices=kv_indices, q_indptr=q_indptr,
                 alibi_slopes=alibi_slopes, sinks=sinks, mask=mask, bias=bias, k_scale=_scale("k_scale", k_scale),
                 v_scale=_scale("v_scale", v_scale))
    needed, index = {"q", "k_pages", "v_pages", "kv_lens"}, set(ARRAYS[3:9])
    arrays = {name: _array(name, given[name], INDICES if name in index else None)
              for name in ARRAYS if given[name] is not None or name in needed}
    attributes, size = _layout(layout, page_size)
    if arrays["q"].ndim != 3:
        raise ValueError(f"q: {arrays['q'].ndim} dims; must have 3: [n_tokens, n_q_heads, head_dim]")
    _pages_shape("k_pages", arrays["k_pages"], layout, size)
    head_dim_v = _pages_shape("v_pages", arrays["v_pages"], layout, size)[3]
    try:
        left, right = window
    except TypeError:
        raise TypeError(f"window: {window!r}; must be a pair (left, right) of ints, -1 = none") from None
    attributes |= {
        "arrays": np.int64(sum(1 << i for i, name in enumerate(ARRAYS) if name in arrays)),
        "causal": _word("causal", causal, SIDES),
        "align": _word("align", align, SIDES),
        "scale": np.float64(0 if scale is None else _constant("scale", scale, float)),
        "softcap": np.float64(_constant("softcap", softcap, float)),
        "window_left": _i64("window[0]", left),
        "window_right": _i64("window[1]", right),
        "max_q_len": _i64("max_q_len", max_q_len),
        "max_kv_len": _i64("max_kv_len", max_kv_len),
        "num_splits": _i64("num_splits", num_splits),
        "flags": np.int64(WINDOW_IS_SET | (0 if scale is None else SCALE_IS_SET)),
        **_context(_word("backend", backend, BACKENDS), _i64("num_threads", num_threads)),
    }
    of_mods, operands = _jax_mods.read(score_mod, mask_mod, block_mask, captures,
                                       lambda name, value, is_index: _array(name, value, INDICES if is_index else None))
    rows = arrays["q"].shape[:2]
    results = [jax.ShapeDtypeStruct((*rows, head_dim_v), arrays["q"].dtype)]
    if return_lse:
        results.append(jax.ShapeDtypeStruct(rows, np.float32))
    out = _call("folio_attention", results, {}, attributes | of_mods, *arrays.values(), *operands)
    return tuple(out) if return_lse else out[0]


def append(k, v, k_pages, v_pages, slots, layout="NHD", *, page_size=None, k_scale=None, v_scale=None, donate=False,
           num_threads=0):
    """New tokens into their slots: (k_pages, v_pages), the arrays passed in with those slots replaced.

    k, v               [n_tokens, n_kv_heads, head_dim]; rounded to the pages' dtype
    k_pages, v_pages   [n_pages, page_size, n_kv_heads, head_dim], or as layout says
    slots              [n_tokens] int32, page_id * page_size + position; -1 skips the token; none twice
    k_scale, v_scale   of quantised pages: a number or [n_kv_heads]; or one a slot, float32 [n_pages, page_size,
                       n_kv_heads]: then each new token gets its own, and the result is (k_pages, v_pages, k_scale,
                       v_scale)
    donate             outside jit: give the pages (and scales by slot) passed in away, so that nothing is copied; they
                       are deleted. Inside jit it changes nothing: there XLA copies the pages unless the jitted
                       function's own arguments are donated (donate_argnums) or made inside

    One handler call, whatever n_tokens. Raises TypeError, ValueError; JAX's runtime error for a slot out of range or
    named twice, and then no slot has been written (donated pages are gone all the same: a donation is final).
    """
    attributes, size = _layout(layout, page_size)
    pages = [_array(name, value) for name, value in (("k_pages", k_pages), ("v_pages", v_pages))]
    for name, array in zip(("k_pages", "v_pages"), pages):
        _pages_shape(name, array, layout, size)
    attributes["arrays"], scales = _scales(k_scale, v_scale)
    attributes |= _context(CPU, _i64("num_threads", num_threads))
    arrays = [*pages, _array("k", k), _array("v", v), _array("slots", slots, INDICES), *scales]
    written = [0, 1, *(5 + i for i, scale in enumerate(scales) if scale.ndim == 3)]
    if len(written) == 3:
        raise ValueError("k_scale, v_scale: one is by slot; must both be, or neither")
    return tuple(_call("folio_append", [jax.ShapeDtypeStruct(arrays[i].shape, arrays[i].dtype) for i in written],
                       {place: i for i, place in enumerate(written)}, attributes, *arrays,
                       donated=_donated(arrays, written) if donate else ()))


def _donated(arrays, places):
    """The places to be donated: none when one is traced."""
    given = [arrays[i] for i in places]
    if any(isinstance(array, jax.core.Tracer) for array in given):
        return ()
    names = "k_pages", "v_pages", "k_scale", "v_scale"
    for i in range(1, len(given), 2):
        if given[i] is given[i - 1]:
            raise ValueError(f"{names[i]}: the same array as {names[i - 1]}; one array can't be donated twice")
    return tuple(places)


def gather(k_pages, v_pages, page_row, kv_len, layout="NHD", *, page_size=None, k_scale=None, v_scale=None,
           max_kv_len=None, dtype=None, num_threads=0):
    """A sequence's K and V back from its pages: (k, v), each [kv_len, n_kv_heads, head_dim].

    k_pages, v_pages   [n_pages, page_size, n_kv_heads, head_dim], or as layout says
    page_row           [n] int32, the sequence's row of the page table
    kv_len             tokens. Traced: then max_kv_len= must say how many rows the results have; the rows behind
                       kv_len are zero
    k_scale, v_scale   of quantised pages, as for append; the result is times them
    dtype              of the results: float32, float16, bfloat16; None = the pages', of quantised pages float32

    Raises TypeError, ValueError; JAX's runtime error for a page id out of range or kv_len beyond the row.
    """
    attributes, size = _layout(layout, page_size)
    pages = {"k_pages": _array("k_pages", k_pages), "v_pages": _array("v_pages", v_pages)}
    shapes = [_pages_shape(name, array, layout, size) for name, array in pages.items()]
    if max_kv_len is None:
        if isinstance(kv_len, jax.core.Tracer):
            raise TypeError("kv_len: a traced value, and the results' shape depends on it: pass max_kv_len=..., the "
                            "rows to make, or a Python int")
        max_kv_len = kv_len
    rows = _i64("max_kv_len", max_kv_len)
    if rows < 0:
        raise ValueError(f"kv_len: {rows}; must be >= 0")
    if not isinstance(kv_len, jax.core.Tracer):
        kv_len = np.asarray(_i64("kv_len", kv_len), np.int32)
    attributes["arrays"], scales = _scales(k_scale, v_scale)
    attributes |= _context(CPU, _i64("num_threads", num_threads))
    results = [jax.ShapeDtypeStruct((int(rows), *shape[2:]), dtype or _gathered(array.dtype))
               for shape, array in zip(shapes, pages.values())]
    return tuple(_call("folio_gather", results, {}, attributes, *pages.values(),
                       _array("page_row", page_row, INDICES), _array("kv_len", kv_len, INDICES), *scales))


def _gathered(dtype):
    return np.float32 if dtype.name in QUANTISED else dtype


# -- calls ---------------------------------------------------------------------------------------------------------


def _bind(target, results, aliases, attributes, *arrays):
    """One FFI call. aliases: (argument, result) whose memory is the same."""
    call = jax.ffi.ffi_call(target, results, vmap_method="sequential", input_output_aliases=dict(aliases))
    name = target.replace("folio_", "folio.jax.")

    def run(*arrays):
        return tuple(call(*arrays, **dict(attributes)))

    def refuse(primals, tangents):
        raise TypeError(f"{name}: no gradients; folio is for inference only: put it outside what is differentiated, or "
                        "jax.lax.stop_gradient around its arguments")

    run = jax.custom_jvp(run)
    run.defjvp(refuse)
    return run(*arrays)


@functools.cache
def _jitted(donated):
    """_bind under jit; donated: places among the arrays."""
    return jax.jit(_bind, static_argnums=(0, 1, 2, 3), donate_argnums=tuple(4 + i for i in donated))


def _call(target, results, aliases, attributes, *arrays, donated=()):
    _register()
    return _jitted(donated)(target, tuple(results), tuple(aliases.items()), tuple(attributes.items()), *arrays)
