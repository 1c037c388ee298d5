/* SPDX-License-Identifier: Apache-2.0
 * made_mod.h: a mod from a text that must be right. */
#ifndef FOLIO_TESTS_MADE_MOD_H
#define FOLIO_TESTS_MADE_MOD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "folio/mod.h"

static inline folio_mod *made_mod(folio_mod_kind kind, const char *text, const folio_mod_capture *captures,
                                  int32_t n_captures)
{
    folio_mod *mod = NULL;
    assert_int_equal(folio_mod_create(&mod, kind, text, captures, n_captures), FOLIO_OK);
    return mod;
}

#endif
