/* SPDX-License-Identifier: Apache-2.0
 * libnvrtc.c: a compiler that compiles nothing, and fails with the log that the fake driver was told. */
#include <dlfcn.h>
#include <string.h>

#include "fake_cuda/fake_cuda.h"

#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wmissing-prototypes"

enum { SUCCESS = 0, COMPILATION = 6, CODE_BYTES = 16 };

static struct fake_cuda *fake(void)
{
    void *driver = dlopen(FAKE_CUDA_DIR "/libcuda.so.1", RTLD_NOW), *symbol = dlsym(driver, "fake_cuda");
    fake_cuda_fn *get;
    memcpy(&get, &symbol, sizeof get);
    return get();
}

int nvrtcVersion(int *major, int *minor)
{
    *major = 13, *minor = 0;
    return SUCCESS;
}

const char *nvrtcGetErrorString(int result)
{
    return "as told";
}

int nvrtcCreateProgram(void **program, const char *source, const char *name, int n_headers, const char *const *texts,
                       const char *const *names)
{
    *program = fake();
    return SUCCESS;
}

int nvrtcDestroyProgram(void **program)
{
    return SUCCESS;
}

int nvrtcCompileProgram(void *program, int n_options, const char *const *options)
{
    fake()->n_compiled++;
    return fake()->compile_log ? COMPILATION : SUCCESS;
}

int nvrtcGetProgramLogSize(void *program, size_t *bytes)
{
    *bytes = fake()->compile_log ? strlen(fake()->compile_log) + 1 : 1;
    return SUCCESS;
}

int nvrtcGetProgramLog(void *program, char *log)
{
    strcpy(log, fake()->compile_log ? fake()->compile_log : "");
    return SUCCESS;
}

int nvrtcGetCUBINSize(void *program, size_t *bytes)
{
    *bytes = CODE_BYTES;
    return SUCCESS;
}

int nvrtcGetCUBIN(void *program, char *code)
{
    memset(code, 1, CODE_BYTES);
    return SUCCESS;
}
