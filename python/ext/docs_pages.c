/* SPDX-License-Identifier: Apache-2.0
 * docs_pages.c: what help() says about moving K and V, and about merging. */
#include "functions.h"

const char ext_doc_append[] =
    "append(k, v, k_pages, v_pages, slots, layout=\"NHD\", *, page_size=None, k_scale=None, v_scale=None)\n--\n\n"
    "Write new tokens into their slots, in place.\n"
    "\n"
    "k, v               [n_tokens, n_kv_heads, head_dim] float32, float16, bfloat16; rounded where pages are narrower\n"
    "k_pages, v_pages   pages, written; layout and page_size as in attention()\n"
    "slots              [n_tokens] int32, int64 or a list: page_id * page_size + position, as Cache.append gives;\n"
    "                   -1 = skip the token\n"
    "k_scale, v_scale   quantised pages (int8, float8_e4m3fn, float8_e5m2) only: x / scale is stored, to nearest "
    "even,\n"
    "                   saturated. A number or float32 [1] or [n_kv_heads] is the scale; float32 [n_pages, page_size,\n"
    "                   n_kv_heads] is written: each new token and head gets the scale that makes its largest |x| the\n"
    "                   dtype's largest (127, 448, 57344). None = 1\n"
    "\n"
    "Raises IndexError (a slot out of range), ValueError (a slot named twice, a shape, read-only pages), TypeError\n"
    "(dtypes; JAX arrays, which are immutable). A call that raises has written nothing.";

const char ext_doc_gather[] =
    "gather(k_pages, v_pages, page_row, kv_len, layout=\"NHD\", *, page_size=None, k_scale=None, v_scale=None,\n"
    "    dtype=None)\n--\n\n"
    "A sequence's K and V, read back from its pages: (k, v), each [kv_len, n_kv_heads, head_dim].\n"
    "\n"
    "k_pages, v_pages   pages; layout and page_size as in attention()\n"
    "page_row           [n] int32, int64 or a list: the sequence's pages; ceil(kv_len / page_size) are read\n"
    "kv_len             tokens\n"
    "k_scale, v_scale   as in attention(): results are what is stored times its scale\n"
    "dtype              of the results: \"float32\", numpy.float16, torch.bfloat16, ...; None = the pages', or "
    "float32\n"
    "                   where they are quantised\n"
    "\n"
    "Raises IndexError (a page id out of range, more tokens than the row has slots), ValueError, TypeError.";

const char ext_doc_copy_pages[] =
    "copy_pages(k_pages, v_pages, copies, layout=\"NHD\", *, page_size=None)\n--\n\n"
    "Copy whole pages, in order and in place: what Cache.take_copies asks for, before the new slots are written.\n"
    "\n"
    "k_pages, v_pages   pages, written; v_pages may be None; layout and page_size as in attention()\n"
    "copies             [n, 2] int64 or a list of pairs: (from, to)\n"
    "Scales by slot are pages of head_dim 1: copy_pages(k_scale[..., None], v_scale[..., None], copies).\n"
    "\n"
    "Raises IndexError (a page id out of range), ValueError, TypeError. A call that raises has copied nothing.";

const char ext_doc_pages_from_contiguous[] =
    "pages_from_contiguous(x, page_size)\n--\n\n"
    "Cut a contiguous tensor into pages: x [B, H, S, D] -> (container, page_table).\n"
    "\n"
    "container    [n_pages, H, page_size, D] of x's dtype, layout \"HND\"; n_pages = B * ceil(S / page_size); slots\n"
    "             behind S are zero\n"
    "page_table   [B, 1, ceil(S / page_size), 1] int32: sequence b has consecutive pages\n"
    "\n"
    "Raises ValueError (not 4 dims, page_size < 1), TypeError.";

const char ext_doc_merge[] =
    "merge(outs, lses)\n--\n\n"
    "Merge partial results over disjoint keys into one, by exact log-sum-exp weights: (out, lse).\n"
    "\n"
    "outs   [n_parts, n_tokens, n_heads, head_dim] float32, float16, bfloat16, or a list of n_parts arrays\n"
    "lses   [n_parts, n_tokens, n_heads] float32, natural log, -inf = an empty partial, or a list\n"
    "\n"
    "out has outs' dtype, lse is float32. Two empty partials give an empty one. Raises ValueError, TypeError.";

const char ext_doc_ffi_targets[] =
    "ffi_targets()\n--\n\n"
    "The XLA handlers behind folio.jax, {name: capsule}, as jax.ffi.register_ffi_target takes them (platform \"cpu\").";
