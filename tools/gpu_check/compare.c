/* SPDX-License-Identifier: Apache-2.0
 * compare.c: the device's memory after a run against the host's. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "case.h"

/* Of a norm of differences to a norm of values, for a row of out. Inputs are exact on both sides: what is left is the
 * rounding of the output and, in kernels that multiply in 16 bits, of the weights. */
static double tolerance(enum dtype dtype)
{
    return dtype == DTYPE_F32 ? 2e-5 : dtype == DTYPE_F16 ? 1.5e-3 : 1e-2;
}

struct difference {
    char text[256];
    bool found;
};

static void note(struct difference *diff, const char *format, i64 token, i64 head, double want, double got)
{
    if (!diff->found)
        snprintf(diff->text, sizeof diff->text, format, (long long)token, (long long)head, want, got);
    diff->found = true;
}

static void compare_row(struct rig *rig, struct difference *diff, const struct made_case *m, const u8 *got, i64 token,
                        i64 head, bool is_poisoned)
{
    const struct tensor_spec *out = &m->out;
    double error = 0, norm = 0;
    for (i64 d = 0; d < out->shape[2]; d++) {
        const double want = folio__load_float(out->dtype, element(out, m->twin.host, token, head, d, 0));
        const double have = folio__load_float(out->dtype, element(out, (u8 *)(uintptr_t)got, token, head, d, 0));
        if (is_poisoned ? !isnan(have) : isnan(want) != isnan(have))
            note(diff, "out[%lld, %lld]: %g, got %g", token, head, is_poisoned ? NAN : want, have);
        if (is_poisoned || isnan(want))
            continue;
        error += (want - have) * (want - have);
        norm += want * want;
    }
    /* ALiBi makes scores of hundreds, whose own rounding in f32 moves weights by more than the rest; case_random's
     * scale makes a hundred: there the CPU alone is up to 4e-5 from float64 (seed 1271, size 2), as may be the GPU. */
    const double larger = m->c.alibi ? 8 : m->c.has_scale && out->dtype == DTYPE_F32 ? 4 : 1;
    const double limit = (tolerance(out->dtype) * sqrt(norm) + 1e-6) * larger;
    if (!(sqrt(error) <= limit))
        note(diff, "out[%lld, %lld]: norm %g, difference %g", token, head, sqrt(norm), sqrt(error));
    rig->worst = fmax(rig->worst, sqrt(error) / limit);
}

static void compare_lse(struct rig *rig, struct difference *diff, const struct made_case *m, const u8 *got, i64 token,
                        i64 head, bool is_poisoned)
{
    float want, have;
    memcpy(&want, element(&m->lse, m->twin.host, token, head, 0, 0), 4);
    memcpy(&have, element(&m->lse, (u8 *)(uintptr_t)got, token, head, 0, 0), 4);
    const double limit = (m->c.q_dtype == DTYPE_F32 ? 1e-5 : 2e-4) * fmax(1.0, fabs((double)want));
    const bool good = is_poisoned       ? isnan(have)
                      : !isfinite(want) ? want == have || (isnan(want) && isnan(have))
                                        : fabs((double)want - have) <= limit;
    if (!good)
        note(diff, "lse[%lld, %lld]: %.9g, got %.9g", token, head, want, have);
    if (good && isfinite(want) && !is_poisoned)
        rig->worst = fmax(rig->worst, fabs((double)want - have) / limit);
}

const char *case_compare(struct rig *rig, const struct made_case *m, const u8 *got, const bool *poisoned)
{
    static struct difference diff;
    diff = (struct difference){ 0 };
    i64 token = 0;
    for (i32 b = 0; b < m->c.batch; b++)
        for (i32 i = 0; i < m->c.q_lens[b]; i++, token++)
            for (i64 head = 0; head < m->out.shape[1]; head++) {
                compare_row(rig, &diff, m, got, token, head, poisoned && poisoned[b]);
                if (m->c.lse)
                    compare_lse(rig, &diff, m, got, token, head, poisoned && poisoned[b]);
            }
    const size_t element_bytes = (size_t)folio__dtype_bytes(m->out.dtype);
    const size_t out_bytes = (size_t)(m->n_tokens * m->out.shape[1] * m->out.shape[2]) * element_bytes;
    const size_t lse_bytes = m->c.lse ? (size_t)(m->n_tokens * m->out.shape[1]) * 4 : 0;
    const size_t out_end = m->out.offset + out_bytes;
    const size_t lse_at = m->c.lse ? m->lse.offset : out_end;
    if (memcmp(got, m->twin.host, m->out.offset) != 0)
        note(&diff, "memory before out was written (%lld %lld)", 0, 0, 0, 0);
    if (memcmp(got + out_end, m->twin.host + out_end, lse_at - out_end) != 0 ||
        memcmp(got + lse_at + lse_bytes, m->twin.host + lse_at + lse_bytes, m->twin.used - lse_at - lse_bytes) != 0)
        note(&diff, "a red zone round out or lse was written (%lld %lld)", 0, 0, 0, 0);
    return diff.found ? diff.text : NULL;
}
