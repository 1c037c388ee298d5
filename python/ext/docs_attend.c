/* SPDX-License-Identifier: Apache-2.0
 * docs_attend.c: what help() says about attention, plans and explain. */
#include "functions.h"

#define ATTEND_SIGNATURE                                                                                  \
    "(q, k_pages, v_pages, *, kv_lens, page_table=None, v_page_table=None, kv_indptr=None, "              \
    "kv_indices=None,\n    q_indptr=None, layout=\"NHD\", page_size=None, causal=None, align=None, "      \
    "scale=None, window=(-1, -1), softcap=0.0,\n    alibi_slopes=None, sinks=None, mask=None, "           \
    "bias=None, score_mod=None, mask_mod=None, block_mask=None,\n    captures=None, k_scale=None, "       \
    "v_scale=None, out=None, lse=None, return_lse=False, max_q_len=0, max_kv_len=0,\n    cascade=False, " \
    "num_splits=0, num_threads=0, stream=None, backend=\"auto\")\n--\n\n"

const char ext_doc_attention[] =
    "attention" ATTEND_SIGNATURE "Exact attention of query rows over keys and values that lie in pages.\n"
    "\n"
    "Sequence b has kv_lens[b] keys; key j is slot j % page_size of page page_table[b, j // page_size]. Query row i\n"
    "of a sequence with m rows stands at p = i + kv_len - m (bottom-right) or p = i (top-left).\n"
    "  score = scale * (q . k); with softcap c: c * tanh(score / c); + alibi_slopes[h] * (j - p) + bias\n"
    "  out = sum softmax(score) * v over the keys that causal, window and mask leave\n"
    "A row without keys gives 0 (lse -inf, or the sink). What lies in slots past kv_len, in table entries past\n"
    "ceil(kv_len / page_size) and in pages nobody names is never used: NaN there does no harm.\n"
    "\n"
    "Arrays may be NumPy (ml_dtypes' bfloat16 too), PyTorch, JAX, or anything with __dlpack__ or a buffer; the result\n"
    "is of q's framework and dtype. Indices may be lists of ints. Any strides, last dim contiguous; nothing is "
    "copied.\n"
    "\n"
    "q              [n_tokens, n_q_heads, head_dim] float32, float16, bfloat16: the pages' dtype, or float32;\n"
    "               any of the three over quantised pages. Or [runs, run, n_q_heads, head_dim]: tokens one run\n"
    "               behind the other, out then likewise; so [batch, heads, q_len, dim] needs no copy, only its\n"
    "               transpose(1, 2) (CPU)\n"
    "k_pages        pages of K, see layout; n_q_heads is a multiple of n_kv_heads. None if all kv_lens are 0\n"
    "v_pages        pages of V; head_dim may differ from K's\n"
    "kv_lens        [batch] int32 or int64: keys of each sequence, 0 or more\n"
    "page_table     [batch, max_pages] int32 or int64. Or CSR: row b is kv_indices[kv_indptr[b] : kv_indptr[b + 1]]\n"
    "v_page_table   the same for V; None = page_table\n"
    "kv_indptr      [batch + 1]; kv_indices [n]: instead of page_table\n"
    "q_indptr       [batch + 1]: sequence b has query rows q_indptr[b] ... q_indptr[b + 1] - 1; None = one row each\n"
    "layout         \"NHD\" [n_pages, page_size, H, D], \"HND\" [n_pages, H, page_size, D], or\n"
    "               \"FLAT\" [1, H, n_pages * page_size, D] (needs page_size)\n"
    "page_size      slots a page; None = from the shape\n"
    "causal         None = every key; \"top_left\" keeps j <= i, \"bottom_right\" keeps j <= i + kv_len - m\n"
    "align          where rows stand, for window and ALiBi: \"top_left\", \"bottom_right\", None = causal's, else the\n"
    "               latter\n"
    "scale          None = 1 / sqrt(head_dim)\n"
    "window         (left, right), both inclusive, -1 = none: keeps p - left <= j <= p + right\n"
    "softcap        0 = off\n"
    "alibi_slopes   [n_q_heads] float32\n"
    "sinks          [n_q_heads] float32, natural log: joins each row's denominator once\n"
    "mask           bool, false removes the key; broadcastable to [n_tokens, n_q_heads, max(kv_lens)]\n"
    "bias           float32, float16 or bfloat16, likewise\n"
    "out            where to write: [n_tokens, n_q_heads, head_dim_v], q's dtype; it is also what is returned\n"
    "lse            where to write the log-sum-exp (natural): [n_tokens, n_q_heads] float32\n"
    "return_lse     give (out, lse)\n"
    "max_q_len, max_kv_len   bounds; 0 = from the shapes. A longer sequence is a ValueError\n"
    "num_splits     pieces a sequence's keys are cut into; 0 = automatic. Results agree within rounding\n"
    "num_threads    0 = the CPUs this process may use. Results are the same bits for any number\n"
    "stream         GPU only: a CUstream handle (int), torch.cuda.Stream or cupy.cuda.Stream; None = the one that\n"
    "               q's framework is working on\n"
    "backend        \"auto\" = where the tensors are; \"cpu\", \"cuda\", \"ref\" (double precision, slow)\n"
    "score_mod      changes a score: a str in folio's language (docs/mods.md), such as \"score + slopes[h] * (kv - "
    "q)\",\n"
    "               a folio.Mod, or a callable f(score, b, h, q_idx, kv_idx)\n"
    "mask_mod       keeps a key (true) or drops it: a str such as \"kv <= q\", a folio.Mod, or f(b, h, q_idx, kv_idx)\n"
    "block_mask     a folio.BlockMask or PyTorch's: blocks it lacks are dropped, and their pages not read\n"
    "captures       the arrays a str names, by name\n"
    "k_scale, v_scale   quantised pages (int8, float8_e4m3fn, float8_e5m2): a value is what is stored times its scale, "
    "a\n"
    "               number or float32 [1], [n_kv_heads] or [n_pages, page_size, n_kv_heads] in every layout; None = 1\n"
    "cascade        sequences with a few query rows whose tables begin with the same pages share one pass over them: "
    "within\n"
    "               rounding the same results, but their bits depend on the batch. A plan reads the table when it is "
    "made\n"
    "               and in update(). CPU only\n"
    "\n"
    "Raises TypeError (dtype or kind of an argument, a tensor that requires grad), ValueError (shape, value, device),\n"
    "IndexError (a page id out of range, with row and column), MemoryError, NotImplementedError, and whatever a "
    "callable\n"
    "raises. A call that raises has written nothing, unless a callable raised. Other Python threads run while a long\n"
    "call works.";

const char ext_doc_plan[] =
    "plan" ATTEND_SIGNATURE
    "Plan one step, to run it in every layer: p = plan(...); out = p.run(q, k_pages, v_pages).\n"
    "\n"
    "Takes what attention() takes. Of q, k_pages, v_pages, out and lse only shape, dtype and strides count, and run()\n"
    "must be given the same ones. The plan keeps references to the other arrays. It reads kv_lens, q_indptr and\n"
    "kv_indptr here and in update(); page_table, kv_indices, mask, bias, sinks, slopes and scales at every run.\n"
    "\n"
    "Returns a Plan. Raises what attention() raises.";

const char ext_doc_explain[] =
    "explain" ATTEND_SIGNATURE
    "What attention() would do with these arguments: the kernel chosen, or every reason why it can't, as text.\n"
    "\n"
    "Computes nothing. Arguments that can't be looked at at all raise as in attention().";

const char ext_doc_plan_type[] =
    "The work of one step, made by plan(). One plan may run in several threads at once, but not while update() runs.";

const char ext_doc_run[] =
    "run($self, q, k_pages, v_pages, *, out=None, lse=None, return_lse=False, stream=None)\n--\n\n"
    "Attention with the plan's lengths and options.\n"
    "\n"
    "q, k_pages, v_pages   as in plan(): the same shapes, dtypes and strides, other memory\n"
    "out, lse              where to write; None = new arrays of q's framework\n"
    "return_lse            give (out, lse); not given = as in plan()\n"
    "stream                as attention()'s\n"
    "\n"
    "Raises ValueError and TypeError (not what was planned), IndexError (a page id out of range).";

const char ext_doc_update[] =
    "update($self, kv_lens=None, page_table=None, q_indptr=None, stream=None)\n--\n\n"
    "The next step: read the lengths again.\n"
    "\n"
    "kv_lens, page_table, q_indptr   replace the plan's; they must have the same shapes and dtypes. None = look again\n"
    "                                at the one it has, whose contents may have changed\n"
    "stream                          as attention()'s\n"
    "\n"
    "Raises what plan() raises, and StateError while the plan runs in another thread; then the plan is as it was.";

const char ext_doc_check[] =
    "check($self)\n--\n\n"
    "Wait for the plan's device, then raise what it found wrong in earlier runs. On a CPU, run() has\n"
    "said so at once.";
