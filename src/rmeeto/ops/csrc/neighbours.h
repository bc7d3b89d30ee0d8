// The pairs of a reduction among neighbours; see merge_neighbours in rmeeto/ops/merging.py for the meaning.
//
// A candidate has two neighbours at most, so nothing is packed: its row and theirs are read where they lie, and five sums
// over the features run side by side.
#pragma once

#include "interface.h"
#include "nearest.h"
#include "pairs.h"
#include "parallel.h"

namespace rmeeto::RMEETO_ISA {

constexpr int64_t NEIGHBOUR_ROWS = 256;  // candidates in an item of work: less would not be worth waking a thread

// Patches of an image that stay: numbers [first, last) among its patches.
struct Guarded {
    int64_t first, last;
};

struct NeighboursJob {
    const PairsJob& pairs;
    int64_t chunks;
};

// Where a patch stands in the sequence.
INLINE int64_t patch_at(const PairsJob& job, int64_t image, int64_t patch) {
    return patch % 2 ? job.pairs.targets[image * job.targets + patch / 2]
                     : job.candidate_at[image * job.candidates + patch / 2];
}

// The patches nearest to the first protected row, `guard` for each of its sides; of equally near ones the earlier.
static Guarded find_guarded(const PairsJob& job, int64_t image) {
    const int64_t patches = job.candidates + job.targets;
    if (!job.pairs.guard || !job.pairs.protected_count) return {0, 0};
    const int64_t place = position(job.pairs.protected_at, image, 0);
    int64_t ahead = 0, end = patches;  // patches before the place
    while (ahead < end) {
        const int64_t middle = (ahead + end) / 2;
        if (patch_at(job, image, middle) < place)
            ahead = middle + 1;
        else
            end = middle;
    }
    Guarded guarded{ahead, ahead};
    while (guarded.last - guarded.first < smaller(patches, 2 * job.pairs.guard)) {
        const bool can_go_ahead = guarded.first > 0, can_go_on = guarded.last < patches;
        if (can_go_ahead && (!can_go_on || place - patch_at(job, image, guarded.first - 1) <=
                                               patch_at(job, image, guarded.last) - place))
            guarded.first--;
        else
            guarded.last++;
    }
    return guarded;
}

struct Cosines {
    float before, behind;
};

// Of a row with both its neighbours.
template <class T>
INLINE Cosines compare_with(const T* own, const T* before, const T* behind, int64_t width) {
    Vec with_before{}, with_behind{}, squares{}, squares_before{}, squares_behind{};
    for (int64_t c = 0; c < width; c += LANES) {
        const int count = (int)smaller(LANES, width - c);
        const Vec x = load(own + c, count), a = load(before + c, count), b = load(behind + c, count);
        with_before += x * a, with_behind += x * b;
        squares += x * x, squares_before += a * a, squares_behind += b * b;
    }
    const float scale = inverse_length(squares);
    return {total(with_before) * scale * inverse_length(squares_before),
            total(with_behind) * scale * inverse_length(squares_behind)};
}

template <class T>
static void neighbour_item(const void* pointer, int64_t item, void*) {
    const NeighboursJob& chunked = *static_cast<const NeighboursJob*>(pointer);
    const PairsJob& job = chunked.pairs;
    const int64_t image = item / chunked.chunks, begin = item % chunked.chunks * NEIGHBOUR_ROWS;
    const int64_t end = smaller(begin + NEIGHBOUR_ROWS, job.candidates), patches = job.candidates + job.targets;
    const Guarded guarded = find_guarded(job, image);
    const auto is_free = [&](int64_t patch) {
        return patch >= 0 && patch < patches && (patch < guarded.first || patch >= guarded.last);
    };
    const auto row = [&](int64_t patch) {
        return at<const T>(job.pairs.features, image, patch_at(job, image, patch), 0);
    };
    for (int64_t candidate = begin; candidate < end; candidate++) {
        const int64_t patch = 2 * candidate;
        const bool may_go = is_free(patch), has_before = may_go && is_free(patch - 1),
                   has_behind = may_go && is_free(patch + 1);
        const T* const own = row(patch);
        Cosines found = compare_with(own, has_before ? row(patch - 1) : own, has_behind ? row(patch + 1) : own,
                                     has_before || has_behind ? job.pairs.width : 0);
        if (!has_before) found.before = LEAST;
        if (!has_behind) found.behind = LEAST;
        const bool goes_on = found.behind > found.before;  // of equally similar ones, the one before
        const int64_t target = goes_on || !candidate ? candidate : candidate - 1;
        job.similarity[image * job.candidates + candidate] = goes_on ? found.behind : found.before;
        job.partner[image * job.candidates + candidate] = smaller(target, job.targets - 1);
    }
}

static int neighbour_pairs(const Pairs& pairs, int threads) {
    if (!stays_within(pairs.protected_at, pairs.batch, pairs.protected_count, pairs.tokens)) return OUTSIDE;
    const PairsRoom room(pairs);
    if (!room.is_there()) return OUT_OF_MEMORY;
    const NeighboursJob job{room.job, divide_up(room.job.candidates, NEIGHBOUR_ROWS)};
    const Body body = pairs.storage == BFLOAT16 ? neighbour_item<bfloat16> : neighbour_item<float>;
    const bool done = split_all(room.job, threads) && for_each(pairs.batch * job.chunks, threads, 0, body, &job) &&
                      rank_all(room.job, threads);
    return done ? DONE : OUT_OF_MEMORY;
}

}  // namespace rmeeto::RMEETO_ISA
