/* SPDX-License-Identifier: Apache-2.0
 * claim.cuh: (sequence, kv head)s that belong to no block until one claims them (work.h). The first K producer claims
 * when it has asked for all it had, and tells the other producers and the clerk through a ring; consumers and mergers
 * hear of it by jobs. Claims are whole sequences, so that nothing of them is cut. */
#pragma once
#include "kernel/cuda/device/ring.cuh"

/* By one warp. Every block claims in vain once, and the last to do so sets the count back. */
DEVICE void tell_claim(struct shared *sh, const struct place *place, const struct cuda_work *work, i32 n_kv_heads,
                       i32 n_claims)
{
    if ((threadIdx.x & 31) == 0) {
        barrier_wait(&sh->claim_empty[place->slot], place->phase ^ 1);
        struct claim *claim = &sh->claims[place->slot];
        const i32 i = (i32)add_relaxed(work->claims, 1);
        claim->head = i < n_claims ? i % n_kv_heads : -1;
        if (i < n_claims) {
            const i32 seq = work->n_groups + i / n_kv_heads;
            const struct walk walk = { work->seqs[seq], seq, seq + 1, 0, 0 };
            claim->walk = walk;
        }
        if (i == n_claims + work->n_groups * n_kv_heads - 1)
            *work->claims = 0;
        barrier_arrive(&sh->claim_full[place->slot]);
    }
    __syncwarp();
}

/* By one warp. False when there are no more. */
DEVICE bool hear_claim(struct walk *walk, i32 *head, struct shared *sh, struct place *place)
{
    barrier_wait(&sh->claim_full[place->slot], place->phase);
    const struct claim *claim = &sh->claims[place->slot];
    const bool is_one = claim->head >= 0;
    if (is_one) {
        *walk = claim->walk;
        *head = claim->head;
    }
    warp_arrive(&sh->claim_empty[place->slot]);
    place_next(place, N_CLAIMS);
    return is_one;
}
