/* SPDX-License-Identifier: Apache-2.0
 * check_loaders.c: pages of every small size, through the fine boxes that the plan chooses and through 16-byte copies:
 * both agree with the CPU, and with each other to the bit. */
#include <stdlib.h>
#include <string.h>

#include "case.h"
#include "run/folio_plan.h"
#include "run/plan_cuda.h"

/* The plan's kernels with another loader. */
static void use_gather(struct cuda_plan *plan)
{
    for (i32 i = 0; i < plan->n_classes; i++) {
        struct cuda_class *class = &plan->classes[i];
        struct cuda_decode_key key = folio__cuda_configs[class->config].decode;
        key.loader = LOAD_GATHER;
        class->config = folio__cuda_decode_id(&key);
        must(class->config >= 0, "a kernel that gathers");
        class->block = folio__cuda_decode_threads(&key);
        MUST(folio__cuda_function(&class->function, plan->device, class->config, 0));
    }
}

static void check_case(struct rig *rig, const struct problem_case *c, const char *kernel)
{
    struct made_case m;
    folio_plan *plan = NULL;
    case_make(rig, &m, c);
    u8 *got = malloc(m.twin.bytes), *gathered = malloc(m.twin.bytes);
    must(got && gathered, "host memory");
    MUST(folio_plan_create(&plan, rig->gpu, &m.device_args));
    MUST(folio_plan_update(plan, &m.device_args, rig->stream));
    struct cuda_plan *inner = plan->backend_data;
    const char *name = folio__cuda_plan_kernel(inner);
    expect(rig, strstr(name, kernel) != NULL, "%s: runs %s, wanted %s", case_text(c), name, kernel);
    MUST(folio_attend(rig->gpu, plan, &m.device_args, rig->stream));
    twin_download(rig, &m.twin, got);
    twin_upload(rig, &m.twin);
    use_gather(inner);
    MUST(folio_attend(rig->gpu, plan, &m.device_args, rig->stream));
    twin_download(rig, &m.twin, gathered);
    MUST(folio_plan_status(plan));
    expect(rig, memcmp(got, gathered, m.twin.used) == 0, "%s: %s and by copies: the same bits", case_text(c), name);
    case_run_cpu(rig, &m);
    const char *difference = case_compare(rig, &m, got, NULL);
    expect(rig, !difference, "%s: %s: %s", case_text(c), name, difference ? difference : "agrees with the CPU");
    folio_plan_destroy(&plan);
    free(got);
    free(gathered);
    case_free(rig, &m);
}

/* Lengths that end everywhere in a tile and in a page; rows enough for every kernel; a window that begins anywhere. */
static struct problem_case case_of(u64 seed, i32 page_size)
{
    static const i32 edges[] = { 0, 1, 127, 128, 129, 255, 256, 257, 1000 };
    struct problem_case c = { .batch = 12,
                              .group = 4,
                              .n_kv_heads = 2,
                              .d_qk = 128,
                              .d_v = 128,
                              .page_size = page_size,
                              .layout = (enum layout)(seed % LAYOUT_ODD),
                              .q_dtype = DTYPE_BF16,
                              .page_dtype = DTYPE_BF16,
                              .lse = true,
                              .causal = FOLIO_CAUSAL_BOTTOM_RIGHT,
                              .ids_are_i64 = seed % 3 == 0,
                              .v_table = seed % 4 == 1,
                              .has_window = seed % 2 == 0,
                              .window_left = 33,
                              .window_right = -1,
                              .seed = seed };
    for (i32 b = 0; b < c.batch; b++) {
        c.q_lens[b] = 1;
        c.kv_lens[b] = b < 3 ? (i32)below(&seed, 3000) : edges[b - 3];
    }
    return c;
}

static void run(struct rig *rig)
{
    static const i32 sizes[] = { 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 17, 20, 31, 37, 63, 100, 135, 333 };
    for (size_t i = 0; i < COUNT_OF(sizes); i += rig->is_small ? 7 : 1) {
        struct problem_case c = case_of(i, sizes[i]);
        const i32 box = sizes[i] == 37 ? 1 : sizes[i]; /* more than 3 tokens in all of the others */
        check_case(rig, &c, box > 1 ? "rows=8 fine" : "rows=8 gather");
        c.group = 16;
        check_case(rig, &c, box > 1 ? "rows=16 fine" : "rows=16 gather");
        c.group = 32, c.d_qk = 192;
        check_case(rig, &c, box > 3 ? "rows=32 fine" : "rows=32 gather");
        c.group = 40, c.d_qk = 128; /* many rows: by boxes, too, where pages are multiples of 8 */
        check_case(rig, &c, "wide bf16 d=128/128 gather");
        c.page_size = 8 << i % 5, c.softcap = i % 2 ? 20 : 0;
        check_case(rig, &c, i % 2 ? "wide bf16 d=128/128 boxes full" : "wide bf16 d=128/128 boxes");
        c.page_size = sizes[i], c.softcap = 0, c.group = 16;
        if (i % 4 || box <= 3)
            continue;
        c.group = 4, c.softcap = 20, c.alibi = true;
        check_case(rig, &c, "rows=8 fine full");
        c.softcap = 0, c.alibi = false, c.d_qk = 192;
        check_case(rig, &c, "d=192/128 rows=8 fine");
        c.d_qk = c.d_v = 64, c.q_dtype = c.page_dtype = DTYPE_F16;
        check_case(rig, &c, "f16 d=64/64 rows=8 fine");
    }
}

const struct check check_loaders = { "loaders", "pages of any size by boxes and by copies: the same bits", run };
