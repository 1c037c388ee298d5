/* SPDX-License-Identifier: Apache-2.0
 * check_big_pool.c: pages beyond 2^31 elements: the sequences of a small case lie at the end of a pool of 2.3 *
 * 10^9. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "case.h"

static void run(struct rig *rig)
{
    static const i32 lengths[] = { 900, 33, 4000 };
    struct problem_case c = case_plain(3, 21);
    c.n_kv_heads = 8;
    memcpy(c.kv_lens, lengths, sizeof lengths);
    struct made_case m;
    cu_ptr pool[2];
    const i64 n_pages = 140001, page_bytes = 16 * 8 * 128 * 2;
    if (rig->is_small) {
        rig->n_skipped++;
        return;
    }
    case_make(rig, &m, &c);
    for (i32 side = 0; side < 2; side++) {
        if (rig->api->mem_alloc(&pool[side], (size_t)(n_pages * page_bytes)) != CU_SUCCESS) {
            printf("  skip  no %lld bytes of device memory\n", (long long)(n_pages * page_bytes));
            rig->n_skipped++;
            return;
        }
        MUST_CU(rig, set_u32, (pool[side], 0xffffffff, (size_t)(n_pages * page_bytes / 4), rig->stream));
        const u8 *from = m.twin.host + (side ? m.v.offset : m.k.offset);
        for (i64 p = 0; p < m.n_pages; p++)
            MUST_CU(rig, to_device,
                    (pool[side] + (u64)((n_pages - 1 - p) * page_bytes), from + p * page_bytes, (size_t)page_bytes,
                     rig->stream));
    }
    i32 *ids = (i32 *)(void *)(m.twin.host + m.table.offset);
    const i64 n = m.table.shape[0] * m.table.shape[1];
    case_run_cpu(rig, &m);
    for (i64 i = 0; i < n; i++)
        ids[i] = ids[i] < m.n_pages ? (i32)(n_pages - 1) - ids[i] : ids[i];
    twin_upload(rig, &m.twin);
    DLTensor k = *m.device_args.k_pages, v = *m.device_args.v_pages;
    i64 shape[] = { n_pages, 16, 8, 128 };
    folio_attend_args args = m.device_args;
    k.data = (void *)(uintptr_t)pool[0], v.data = (void *)(uintptr_t)pool[1];
    k.shape = v.shape = shape, k.byte_offset = v.byte_offset = 0;
    args.k_pages = &k, args.v_pages = &v;
    u8 *got = malloc(m.twin.bytes);
    MUST_CU(rig, set_u32, (m.twin.device + m.out.offset, 0xffffffff, (m.twin.used - m.out.offset) / 4, rig->stream));
    MUST(folio_attend(rig->gpu, NULL, &args, rig->stream));
    twin_download(rig, &m.twin, got);
    memset(got + m.out.offset - 256, 0xff, 256);
    const char *difference = case_compare(rig, &m, got, NULL);
    expect(rig, !difference, "a pool of %lld elements: %s", (long long)(n_pages * page_bytes / 2),
           difference ? difference : "agrees with the CPU");
    free(got);
    rig->api->mem_free(pool[0]);
    rig->api->mem_free(pool[1]);
    case_free(rig, &m);
}

const struct check check_big_pool = { "big_pool", "pages beyond 2^31 elements", run };
