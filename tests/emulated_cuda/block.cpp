// SPDX-License-Identifier: Apache-2.0
// block.cpp: coroutines on stacks of their own, by the C library's contexts and a switch that makes no system call.
#include "block.h"

#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ucontext.h>

dim3_words threadIdx, blockIdx, blockDim, gridDim;
alignas(1024) unsigned char shared_memory[SHARED_BYTES];

enum { STACK_BYTES = 256 * 1024, MAX_IDLE_ROUNDS = 100000, MAX_DEEDS = 4096 };

struct thread {
    jmp_buf place;
    char *stack;
    bool is_new, is_done;
};

static struct warp {
    unsigned n_here, turn;
    warp_slot slots[2][32]; /* of this exchange and the one before */
} warps[MAX_THREADS / 32];

enum { MAX_PARTS = 16 };

static struct part {
    unsigned n_here, turn;
} parts[MAX_PARTS];

struct deed {
    void (*run)(const void *what);
    alignas(16) unsigned char what[192];
};

static deed deeds[MAX_DEEDS];
static unsigned n_deeds, slowness; /* a turn does one of them one time in `slowness` */
static unsigned long long chance_state = 88172645463325252ull;
static thread threads[MAX_THREADS];
static unsigned current, n_threads, n_live, n_synced, sync_turn;
static unsigned long n_idle;
static void (*running)(void);
static jmp_buf after_block;
static ucontext_t starter;

void misuse(const char *what)
{
    fprintf(stderr, "block %u, thread %u: %s\n", blockIdx.x, threadIdx.x, what);
    abort();
}

/* 0 .. n - 1 */
static unsigned chance(unsigned n)
{
    chance_state ^= chance_state << 13;
    chance_state ^= chance_state >> 7;
    chance_state ^= chance_state << 17;
    return (unsigned)(chance_state >> 32) % n;
}

void do_later(void (*run)(const void *what), const void *what, size_t n)
{
    if (n_deeds == MAX_DEEDS || n > sizeof deeds[0].what)
        misuse("more under way than there is room for");
    deed *d = &deeds[n_deeds++];
    d->run = run;
    memcpy(d->what, what, n);
}

static void do_one(void)
{
    deed *chosen = &deeds[chance(n_deeds)];
    const deed d = *chosen;
    *chosen = deeds[--n_deeds];
    d.run(d.what);
}

void something_happened(void)
{
    n_idle = 0;
}

static void first_turn(void);

/* Never returns to the caller: it was saved before, or is done. */
[[noreturn]] static void go_on(unsigned next)
{
    current = next;
    threadIdx.x = next;
    thread *t = &threads[next];
    if (!t->is_new)
        longjmp(t->place, 1);
    t->is_new = false;
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = t->stack;
    context.uc_stack.ss_size = STACK_BYTES;
    context.uc_link = nullptr;
    makecontext(&context, first_turn, 0);
    setcontext(&context);
    misuse("no context");
}

/* Lanes one after another; behind the last of a warp, now and then any other warp. */
static unsigned next_live(void)
{
    unsigned next = current;
    if (next % 32 == 31 && chance(4) == 0)
        next = chance(n_threads / 32) * 32 + 31;
    do
        next = next + 1 == n_threads ? 0 : next + 1;
    while (threads[next].is_done);
    return next;
}

static void first_turn(void)
{
    running();
    threads[current].is_done = true;
    something_happened();
    if (--n_live == 0) {
        if (n_deeds)
            misuse("the block ends with copies under way");
        longjmp(after_block, 1);
    }
    go_on(next_live());
}

void give_turn(void)
{
    if (++n_idle > (unsigned long)MAX_IDLE_ROUNDS * n_threads)
        misuse("all threads wait for each other");
    if (n_deeds && (chance(slowness) == 0 || n_idle > 4 * n_threads))
        do_one();
    const unsigned next = next_live();
    if (next != current && !setjmp(threads[current].place))
        go_on(next);
}

const warp_slot *warp_exchange(const void *mine, size_t n)
{
    warp *w = &warps[threadIdx.x / 32];
    const unsigned turn = w->turn;
    if (n > sizeof(warp_slot))
        misuse("too much for an exchange");
    memcpy(w->slots[turn & 1][threadIdx.x & 31], mine, n);
    if (++w->n_here == 32) {
        w->n_here = 0;
        w->turn++;
        something_happened();
    }
    while (*(volatile unsigned *)&w->turn == turn)
        give_turn();
    return w->slots[turn & 1];
}

void warp_sync(void)
{
    const char nothing = 0;
    warp_exchange(&nothing, 1);
}

void block_sync(void)
{
    const unsigned turn = sync_turn;
    if (++n_synced == n_live) {
        n_synced = 0;
        sync_turn++;
        something_happened();
    }
    while (*(volatile unsigned *)&sync_turn == turn)
        give_turn();
}

void part_sync(unsigned which, unsigned n)
{
    struct part *p = &parts[which % MAX_PARTS];
    const unsigned turn = p->turn;
    if (++p->n_here == n) {
        p->n_here = 0;
        p->turn++;
        something_happened();
    }
    while (*(volatile unsigned *)&p->turn == turn)
        give_turn();
}

static void run_block(void)
{
    n_live = n_threads;
    n_synced = 0;
    n_idle = 0;
    slowness = 32u << 2 * chance(8); /* of memory: from at once to when nothing else goes on */
    memset(warps, 0, sizeof warps);
    memset(parts, 0, sizeof parts);
    memset(shared_memory, 0xff, sizeof shared_memory);
    for (unsigned i = 0; i < n_threads; i++) {
        threads[i].is_new = true;
        threads[i].is_done = false;
        if (!threads[i].stack && !(threads[i].stack = (char *)malloc(STACK_BYTES)))
            misuse("no memory for stacks");
    }
    if (!setjmp(after_block))
        go_on(0);
}

void run_grid(void (*kernel)(void), unsigned grid_x, unsigned grid_y, unsigned n)
{
    if (n > MAX_THREADS || n % 32)
        misuse("threads of a block");
    running = kernel;
    n_threads = n;
    gridDim = { grid_x, grid_y, 1 };
    blockDim = { n, 1, 1 };
    const unsigned n_blocks = grid_x * grid_y, first = chance(n_blocks ? n_blocks : 1), step = 7919; /* a prime */
    for (unsigned i = 0; i < n_blocks; i++) {
        const unsigned b = (unsigned)((first + (unsigned long)i * (n_blocks % step ? step : 1)) % n_blocks);
        blockIdx = { b % grid_x, b / grid_x, 0 };
        run_block();
    }
}
