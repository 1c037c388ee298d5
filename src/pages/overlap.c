/* SPDX-License-Identifier: Apache-2.0
 * overlap.c: do strided tensors share memory, with themselves or with each other?
 *
 * A tensor is a tree of blocks: its dims by stride, widest first; the innermost block is a run of bytes.
 *
 *   K and V in one buffer   [K0 V0][K1 V1][K2 V2] ...     same page stride, blocks apart: fine
 *   V = a part of K         [K0   ][K1   ]                same strides, blocks overlap
 *                            [V0]   [V1]                                                        */
#include "base/status.h"
#include "pages/operand.h"

struct block {
    i64 extent[TENSOR_MAX_DIM], stride[TENSOR_MAX_DIM]; /* strides descend; extents are > 1 */
    i64 span[TENSOR_MAX_DIM + 1];                       /* bytes of the block from dim i inwards */
    i32 n;
};

/* Of a tensor with at least one element. */
static struct block block_of(const struct tensor *t)
{
    struct block b = { 0 };
    for (i32 i = 0; i < t->ndim; i++) {
        if (t->shape[i] == 1)
            continue;
        i32 at = b.n++;
        for (; at > 0 && b.stride[at - 1] < t->stride[i]; at--) {
            b.stride[at] = b.stride[at - 1];
            b.extent[at] = b.extent[at - 1];
        }
        b.stride[at] = t->stride[i];
        b.extent[at] = t->shape[i];
    }
    b.span[b.n] = folio__dtype_bytes(t->dtype);
    for (i32 i = b.n - 1; i >= 0; i--)
        b.span[i] = b.span[i + 1] + (b.extent[i] - 1) * b.stride[i];
    return b;
}

static folio_status require_disjoint(const char *name, const struct tensor *t)
{
    if (tensor_is_absent(t) || folio__tensor_count(t) == 0)
        return FOLIO_OK;
    const struct block b = block_of(t);
    for (i32 i = 0; i < b.n; i++)
        FOLIO_REQUIRE(b.stride[i] >= b.span[i + 1], FOLIO_EINVAL,
                      "%s: elements share memory (a stride of %lld bytes inside %lld); a written tensor must not", name,
                      (long long)b.stride[i], (long long)b.span[i + 1]);
    return FOLIO_OK;
}

folio_status folio__require_disjoint(const char *name, const DLTensor *src)
{
    struct tensor t;
    FOLIO_TRY(folio__tensor_read(&t, name, src));
    return require_disjoint(name, &t);
}

folio_status folio__operand_require_disjoint(const struct operand *operand)
{
    return require_disjoint(operand->name, &operand->t);
}

/* Do the blocks of a and b from dim i inwards meet, when b begins `shift` bytes behind a? */
static bool blocks_meet(const struct block *a, const struct block *b, i32 i, i64 shift)
{
    if (shift >= a->span[i] || shift <= -b->span[i])
        return false;
    if (i == a->n || i == b->n || a->stride[i] != b->stride[i])
        return true;
    const i64 stride = a->stride[i];
    if (a->span[i + 1] > stride || b->span[i + 1] > stride) /* not a row of blocks apart */
        return true;
    const i64 floor = shift / stride - (shift % stride < 0);
    for (i64 steps = floor; steps <= floor + 1; steps++) /* b's element j stands beside a's element j + steps */
        if (steps < a->extent[i] && steps > -b->extent[i] && blocks_meet(a, b, i + 1, shift - steps * stride))
            return true;
    return false;
}

folio_status folio__operands_require_apart(const struct operand *operand, const struct operand *other)
{
    const struct tensor *a = &operand->t, *b = &other->t;
    if (a->data == operand->end || b->data == other->end || operand->end <= b->data || other->end <= a->data)
        return FOLIO_OK;
    const struct block in_a = block_of(a), in_b = block_of(b);
    const i64 shift = (i64)((uintptr_t)b->data - (uintptr_t)a->data);
    FOLIO_REQUIRE(!blocks_meet(&in_a, &in_b, 0, shift), FOLIO_EINVAL, "%s: shares memory with %s; must not",
                  operand->name, other->name);
    return FOLIO_OK;
}

folio_status folio__require_apart(const char *name, const DLTensor *src, const char *other_name, const DLTensor *other)
{
    struct operand a = { .name = name }, b = { .name = other_name };
    FOLIO_TRY(folio__tensor_read(&a.t, name, src));
    FOLIO_TRY(folio__tensor_read(&b.t, other_name, other));
    a.end = a.t.data ? a.t.data + folio__tensor_span(&a.t) : NULL;
    b.end = b.t.data ? b.t.data + folio__tensor_span(&b.t) : NULL;
    return folio__operands_require_apart(&a, &b);
}
