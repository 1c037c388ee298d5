/* SPDX-License-Identifier: Apache-2.0
 * table.c: the kernels' table in public: list it, compile it without a GPU, say what was found. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "folio/device.h"
#include "kernel/cuda/config.h"
#include "kernel/cuda/cubins.h"
#include "kernel/cuda/driver.h"
#include "kernel/cuda/nvrtc.h"

int32_t folio_cuda_n_kernels(void)
{
    return CUDA_N_CONFIGS;
}

const char *folio_cuda_kernel_name(int32_t row)
{
    return row >= 0 && row < CUDA_N_CONFIGS ? folio__cuda_configs[row].name : NULL;
}

/* The first number that stands before `what` and is not 0, e.g. 16 in "16 bytes spill stores". */
static i64 nonzero_before(const char *log, const char *what)
{
    for (const char *at = strstr(log, what); at; at = strstr(at + 1, what)) {
        i64 value = 0, unit = 1;
        for (const char *digit = at - 1; digit >= log && *digit >= '0' && *digit <= '9'; digit--, unit *= 10)
            value += (*digit - '0') * unit;
        if (value)
            return value;
    }
    return 0;
}

static folio_status judge(const char *name, const char *log)
{
    static const char *const amounts[] = { " bytes stack frame", " bytes spill stores", " bytes spill loads" };
    static const char *const warnings[] = { "ptxas warning", "(C75", "): warning" };
    for (size_t i = 0; i < COUNT_OF(amounts); i++) {
        const i64 bytes = nonzero_before(log, amounts[i]);
        FOLIO_REQUIRE(bytes == 0, FOLIO_ECOMPILE, "%s: %lld%s; must be 0", name, (long long)bytes, amounts[i]);
    }
    for (size_t i = 0; i < COUNT_OF(warnings); i++) {
        const char *line = strstr(log, warnings[i]);
        FOLIO_REQUIRE(!line, FOLIO_ECOMPILE, "%s: %.*s", name, (int)strcspn(line, "\n"), line);
    }
    FOLIO_REQUIRE(strstr(log, "registers"), FOLIO_ECOMPILE, "%s: ptxas reports no registers: nothing was compiled",
                  name);
    return FOLIO_OK;
}

folio_status folio_cuda_compile(int32_t row, int32_t arch, const char *const *lib_dirs, int32_t n_lib_dirs,
                                char *report, size_t n)
{
    FOLIO_REQUIRE(row >= 0 && row < CUDA_N_CONFIGS, FOLIO_EINVAL, "row %d: allowed 0 .. %d", (int)row,
                  CUDA_N_CONFIGS - 1);
    const struct cuda_config *config = &folio__cuda_configs[row];
    const i32 min_arch = config->min_arch ? config->min_arch : CUDA_MIN_ARCH;
    FOLIO_REQUIRE(arch >= min_arch && (!config->arch_specific || arch == 90), FOLIO_ENOTSUP,
                  "%s: architecture %d; allowed %s%d", config->name, (int)arch,
                  config->arch_specific ? "only " : "from ", config->arch_specific ? 90 : (int)min_arch);
    const struct cuda_search search = { .dirs = lib_dirs, .n_dirs = n_lib_dirs };
    const char *options[CUDA_MAX_OPTIONS];
    char arch_text[32];
    struct nvrtc_job job = { .file = config->file, .options = options };
    folio__cubin_options(options, &job.n_options, arch_text, row, arch, true);
    struct nvrtc_result result;
    folio_status status = folio__nvrtc_compile(&result, &job, &search);
    if (n)
        snprintf(report, n, "%s", result.log ? result.log : "");
    if (status == FOLIO_OK)
        status = judge(config->name, result.log ? result.log : "");
    folio__nvrtc_free(&result);
    return status;
}

struct lines {
    char *text; /* [n] */
    size_t n, used;
};

__attribute__((format(printf, 2, 3))) static void say(struct lines *lines, const char *format, ...)
{
    if (lines->used >= lines->n)
        return;
    va_list args;
    va_start(args, format);
    const int wrote = vsnprintf(lines->text + lines->used, lines->n - lines->used, format, args);
    va_end(args);
    lines->used += wrote > 0 ? (size_t)wrote : 0;
}

static void say_device(struct lines *lines, const struct cuda_driver *api, i32 ordinal)
{
    cu_device device;
    char name[128] = "";
    i32 major = 0, minor = 0, n_sms = 0;
    if (api->device_get(&device, ordinal) != CU_SUCCESS)
        return;
    api->device_name(name, sizeof name, device);
    api->device_attribute(&major, CU_ATTRIBUTE_CC_MAJOR, device);
    api->device_attribute(&minor, CU_ATTRIBUTE_CC_MINOR, device);
    api->device_attribute(&n_sms, CU_ATTRIBUTE_N_SMS, device);
    say(lines, "device %d: %s, compute capability %d.%d, %d multiprocessors%s\n", (int)ordinal, name, (int)major,
        (int)minor, (int)n_sms, major * 10 + minor < CUDA_MIN_ARCH ? ": too old, 8.0 is needed" : "");
}

void folio_cuda_describe(char *text, size_t n)
{
    struct lines lines = { .text = text, .n = n };
    const struct cuda_driver *api;
    char path[CUDA_PATH_BYTES];
    i32 n_devices = 0, version = 0;
    if (n)
        text[0] = '\0';
    const folio_status status = folio__cuda_driver(&api, NULL);
    if (status != FOLIO_OK) {
        say(&lines, "driver: none: %s\n", folio_last_error());
    } else {
        say(&lines, "driver: CUDA %d.%d\n", (int)(api->version / 1000), (int)(api->version % 1000 / 10));
        api->device_count(&n_devices);
        for (i32 i = 0; i < n_devices; i++)
            say_device(&lines, api, i);
    }
    if (folio__nvrtc_find(&version, path, status == FOLIO_OK ? api->version / 1000 : 0, NULL) == FOLIO_OK)
        say(&lines, "NVRTC: %d.%d, %s\n", (int)(version / 1000), (int)(version % 1000 / 10), path);
    else
        say(&lines, "NVRTC: none: %s\n", folio_last_error());
    folio__cubin_dir(path);
    say(&lines, "code cache: %s\n", path[0] ? path : "none that is ours alone to write: code is kept in memory");
    folio__cuda_searched(NULL, path, sizeof path);
    say(&lines, "searched: %s\n", path);
}
