// SPDX-License-Identifier: Apache-2.0
// kernels.cpp: one device source (SOURCE) for the host, a launch of its kernels by name, and their parameters' sizes.
#include "words.h"
#include SOURCE

#include <type_traits>
#include <utility>

static void **parameters;

template <class... Types, size_t... I> static void call(void (*kernel)(Types...), std::index_sequence<I...>)
{
    kernel(*(std::remove_const_t<Types> *)parameters[I]...);
}

template <class... Types> static void call_with_all(void (*kernel)(Types...))
{
    call(kernel, std::index_sequence_for<Types...>());
}

/* Sizes of the parameters, then a 0. */
template <class... Types> static const unsigned *sizes_of(void (*)(Types...))
{
    static const unsigned sizes[] = { (unsigned)sizeof(Types)..., 0 };
    return sizes;
}

#define KERNEL(name)                                              \
    if (!strcmp(wanted, #name)) {                                 \
        run_grid([] { call_with_all(name); }, grid_x, grid_y, n); \
        return true;                                              \
    }

extern "C" __attribute__((visibility("default"))) bool launch(const char *wanted, unsigned grid_x, unsigned grid_y,
                                                              unsigned n, void **values)
{
    parameters = values;
    KERNELS
    return false;
}

#undef KERNEL
#define KERNEL(name)            \
    if (!strcmp(wanted, #name)) \
        return sizes_of(name);

extern "C" __attribute__((visibility("default"))) const unsigned *parameter_sizes(const char *wanted)
{
    KERNELS
    return nullptr;
}
