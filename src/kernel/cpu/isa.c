/* SPDX-License-Identifier: Apache-2.0
 * isa.c: cpuid and xgetbv, once; and the system's permission to use tiles. */
#include "kernel/cpu/isa.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/types.h"
#include "kernel/kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

enum {
    XCR0_YMM = 0x06,     /* SSE and AVX state */
    XCR0_ZMM = 0xe6,     /* and opmask, upper zmm */
    XCR0_TILE = 0x60000, /* AMX configuration and data */
};

struct cpuid_regs {
    u32 eax, ebx, ecx, edx;
};

static struct cpuid_regs cpuid(u32 leaf, u32 subleaf)
{
    struct cpuid_regs r = { 0 };
    if (!__get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx))
        return (struct cpuid_regs){ 0 };
    return r;
}

/* The register state that the operating system saves. */
static u64 enabled_state(void)
{
    u32 lo, hi;
    __asm__("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (u64)hi << 32 | lo;
}

static bool all(u32 flags, u32 wanted)
{
    return (flags & wanted) == wanted;
}

static bool core_has_tiles(void)
{
    return all(cpuid(7, 0).edx, 1u << 22 | 1u << 24 | 1u << 25); /* AMX bf16, tile, int8 */
}

static bool system_saves_tiles(void)
{
    return all(cpuid(1, 0).ecx, bit_OSXSAVE) && (enabled_state() & XCR0_TILE) == XCR0_TILE;
}

/* Bit i = level i. */
static u32 detect(void)
{
    const u32 c_only = 1u << FOLIO_ISA_C;
    const struct cpuid_regs one = cpuid(1, 0), seven = cpuid(7, 0), seven_1 = cpuid(7, 1);
    if (!all(one.ecx, bit_OSXSAVE | bit_AVX | bit_FMA | bit_F16C) || !all(seven.ebx, bit_AVX2))
        return c_only;
    const u64 state = enabled_state();
    if ((state & XCR0_YMM) != XCR0_YMM)
        return c_only;
    u32 levels = c_only | 1u << FOLIO_ISA_AVX2;
    if (!all(seven.ebx, bit_AVX512F | bit_AVX512DQ | bit_AVX512BW | bit_AVX512VL) || (state & XCR0_ZMM) != XCR0_ZMM)
        return levels;
    levels |= 1u << FOLIO_ISA_AVX512;
    if (!all(seven_1.eax, 1u << 5) ||
        !all(seven.ecx, 1u << 11)) /* AVX512_BF16, AVX512_VNNI: all that have the former */
        return levels;
    levels |= 1u << FOLIO_ISA_AVX512_BF16;
    if (core_has_tiles() && (state & XCR0_TILE) == XCR0_TILE)
        levels |= 1u << FOLIO_ISA_AMX;
    return levels;
}

/* Tiles are 8 KB more to save a thread, so Linux has a process ask first: once, for all threads, and only when a
 * question about level amx comes up. Refused where the kernel is older than 5.16 or a signal stack is too small.
 * 0 = granted, else errno. */
static int permit_tiles(void)
{
#if defined(__linux__) && defined(SYS_arch_prctl)
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
    errno = 0;
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0 ? 0 : errno;
#else
    return ENOSYS;
#endif
}

/* VDPBF16PS does twice the products of an FMA at the FMA's rate on AMD's cores, at a quarter of it on Intel's. */
static bool bf16_pays(void)
{
    const struct cpuid_regs vendor = cpuid(0, 0);
    return vendor.ebx == signature_AMD_ebx && vendor.ecx == signature_AMD_ecx && vendor.edx == signature_AMD_edx;
}
#else
static u32 detect(void)
{
    return 1u << FOLIO_ISA_C;
}

static bool core_has_tiles(void)
{
    return false;
}

static bool system_saves_tiles(void)
{
    return false;
}

static int permit_tiles(void)
{
    return ENOSYS;
}

static bool bf16_pays(void)
{
    return false;
}
#endif

static const char *const names[] = { "auto", "c", "avx2", "avx512", "avx512_bf16", "amx", "neon", "amx_emulated" };

static pthread_once_t once = PTHREAD_ONCE_INIT, tiles_once = PTHREAD_ONCE_INIT;
static int tiles_refusal; /* errno; 0 = permitted */
static u32 machine_levels;
static folio_isa cap;
static const char *cap_text;

static void read_once(void)
{
    machine_levels = detect();
    const char *text = getenv("FOLIO_ISA");
    if (!text || !*text)
        return;
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (strcmp(text, names[i]) == 0) {
            cap = (folio_isa)i;
            return;
        }
    cap_text = text;
}

static void ask_once(void)
{
    tiles_refusal = permit_tiles();
}

bool folio__isa_machine_has(folio_isa isa)
{
    pthread_once(&once, read_once);
    if (isa < FOLIO_ISA_C || isa > FOLIO_ISA_NEON || !(machine_levels >> isa & 1u))
        return false;
    if (isa != FOLIO_ISA_AMX)
        return true;
    pthread_once(&tiles_once, ask_once);
    return tiles_refusal == 0;
}

const char *folio__tiles_missing(bool core_has, bool system_saves, int refusal)
{
    if (!core_has)
        return "the CPU has no AMX (tiles, bf16 and int8 products)";
    if (!system_saves)
        return "the CPU has AMX, but the operating system or the hypervisor does not save its tiles";
    if (refusal == ENOMEM || refusal == ENOSPC)
        return "the kernel refused arch_prctl(ARCH_REQ_XCOMP_PERM): a thread's signal stack is too small for tiles";
    if (refusal)
        return "the kernel refused arch_prctl(ARCH_REQ_XCOMP_PERM): older than Linux 5.16, or forbidden here";
    return NULL;
}

const char *folio__isa_missing(folio_isa isa)
{
    if (folio__isa_machine_has(isa))
        return NULL;
    if (isa != FOLIO_ISA_AMX)
        return "the CPU or the operating system lacks it";
    const char *why = folio__tiles_missing(core_has_tiles(), system_saves_tiles(), tiles_refusal);
    return why ? why : "the machine lacks avx512_bf16, which AMX's kernels use beside tiles";
}

bool folio__isa_pays(folio_isa isa)
{
    return isa != FOLIO_ISA_AVX512_BF16 || bf16_pays();
}

folio_isa folio__isa_cap(const char **text)
{
    pthread_once(&once, read_once);
    *text = cap_text;
    return cap;
}

const char *folio_isa_name(folio_isa isa)
{
    const u32 i = (u32)isa;
    return i < COUNT_OF(names) ? names[i] : "unknown";
}
