/* SPDX-License-Identifier: Apache-2.0
 * docs_cache.c: what help() says about Cache. */
#include "functions.h"

const char ext_doc_cache_type[] =
    "Cache(n_pages, page_size, max_seqs=256, prefix=False, *, lifo=False, use_page_0=False)\n--\n\n"
    "Which pages of a KV cache belong to which sequence. Metadata only: K and V are the caller's arrays.\n"
    "\n"
    "n_pages     pages in the pool; page 0 is never handed out unless use_page_0, so n_pages - 1 can be used\n"
    "page_size   tokens a page\n"
    "max_seqs    sequences open at once\n"
    "prefix      share equal prefixes by content: not there yet, NotImplementedError\n"
    "lifo        a request of k pages takes the last k of the free list, in list order, and freed pages go to its "
    "end:\n"
    "            the order of PyTorch's PagedAttention; else runs of neighbouring pages\n"
    "use_page_0  hand out page 0 too\n"
    "\n"
    "A step: s = open(); slots = append(s, n); copy_pages(k, v, take_copies()); folio.append(..., slots);\n"
    "folio.attention(..., page_table=page_table([s]), kv_lens=kv_lens([s])); at the end close(s).\n"
    "\n"
    "Handles are ints, never reused: StateError for a closed one, TypeError for what is no int. A call that raises "
    "has\n"
    "changed nothing. Use one cache from one thread at a time.";

const char ext_doc_cache_open[] = "open($self)\n--\n\n"
                                  "A new, empty sequence: its handle. StateError when max_seqs are open.";

const char ext_doc_cache_reserve[] = "reserve($self, seq, n_tokens)\n--\n\n"
                                     "Give a sequence room for n_tokens in all; its capacity never shrinks here.\n"
                                     "\n"
                                     "Raises NoPagesError (all or nothing), ValueError (negative).";

const char ext_doc_cache_append[] =
    "append($self, seq, n_new)\n--\n\n"
    "Lengthen a sequence by n_new tokens, reserving what is missing: int64 [n_new], the slot of each new token\n"
    "(page_id * page_size + position), for folio.append.\n"
    "\n"
    "Raises NoPagesError (all or nothing), ValueError (negative).";

const char ext_doc_cache_truncate[] =
    "truncate($self, seq, n_tokens)\n--\n\n"
    "Cut a sequence to its first n_tokens; pages it no longer needs go back, reserved ones too.\n"
    "\n"
    "Raises ValueError (negative, or more than the sequence has).";

const char ext_doc_cache_fork[] = "fork($self, seq)\n--\n\n"
                                  "A second sequence with the same tokens, sharing their pages: its handle. Whichever "
                                  "of the two first writes into a\n"
                                  "shared page gets its own copy of it (take_copies).\n"
                                  "\n"
                                  "Raises StateError when max_seqs are open.";

const char ext_doc_cache_close[] = "close($self, seq)\n--\n\n"
                                   "Give a sequence's pages back and forget it.";

const char ext_doc_cache_take_copies[] =
    "take_copies($self)\n--\n\n"
    "The page copies to do before anything is written to the slots handed out since: int64 [n, 2] of (from, to), in\n"
    "order, for folio.copy_pages. They are then forgotten.";

const char ext_doc_cache_slots[] =
    "slots($self, seqs, positions)\n--\n\n"
    "Where given positions of n sequences lie: int64 [n, n_positions], page_id * page_size + position in the page, "
    "for\n"
    "folio.append. positions is int64 [n, n_positions], compact, or lists; what is reserved counts, tokens or not.\n"
    "\n"
    "Raises IndexError (a position that is negative or not reserved).";

const char ext_doc_cache_free_pages[] = "free_pages($self)\n--\n\n"
                                        "int32 [n_free]: the free pages, with lifo in list order (the last go first), "
                                        "else ascending.";

const char ext_doc_cache_page_table[] = "page_table($self, seqs)\n--\n\n"
                                        "int32 [n, max_pages]: the pages of n sequences, row by row, -1 behind each "
                                        "row's last one. As wide as the longest\n"
                                        "row.";

const char ext_doc_cache_kv_lens[] = "kv_lens($self, seqs)\n--\n\n"
                                     "int64 [n]: the lengths of n sequences, in tokens.";

const char ext_doc_cache_stats[] =
    "stats($self)\n--\n\n"
    "Counters, as a dict: n_pages (that can be handed out), n_free, n_held, n_shared (by more than one sequence),\n"
    "n_seqs, n_tokens, n_slots_unused (in held pages), n_copies (waiting), peak_held, n_allocated, n_released.";

const char ext_doc_cache_check[] =
    "check($self)\n--\n\n"
    "Walk everything and compare: StateError names the first equation that does not hold. For tests; O(n_pages).";
