// The pairs of a reduction: split the rows, find each candidate its target, rank; see closest_pairs in
// rmeeto/ops/pairs.py for the meaning.
#pragma once

#include "interface.h"
#include "nearest.h"
#include "parallel.h"
#include "positions.h"

namespace rmeeto::RMEETO_ISA {

struct PairsJob {
    const Pairs& pairs;
    int64_t candidates, targets;  // per image
    int64_t* candidate_at;        // (image, candidate)
    float* similarity;            // (image, candidate)
    int64_t* partner;             // (image, candidate)
};

// Candidates and targets alternate among the rows that nothing protects.
static void split_rows(const void* pointer, int64_t image, void* memory) {
    const PairsJob& job = *static_cast<const PairsJob*>(pointer);
    const Pairs& pairs = job.pairs;
    bool* const is_protected = static_cast<bool*>(memory);
    for (int64_t row = 0; row < pairs.tokens; row++) is_protected[row] = false;
    for (int64_t i = 0; i < pairs.protected_count; i++) is_protected[position(pairs.protected_at, image, i)] = true;
    int64_t* const candidate = job.candidate_at + image * job.candidates;
    int64_t* const target = pairs.targets + image * job.targets;
    const int64_t patches = job.candidates + job.targets;
    int64_t patch = 0;
    for (int64_t row = 0; row < pairs.tokens && patch < patches; row++) {
        if (is_protected[row]) continue;
        int64_t* const group = patch % 2 ? target : candidate;
        group[patch / 2] = row;
        patch++;
    }
}

// Numbers 0 ... count - 1 by falling score, equal ones in their order; returns whichever of both holds them.
static int32_t* rank(const float* score, int64_t count, int32_t* order, int32_t* spare) {
    for (int64_t i = 0; i < count; i++) order[i] = (int32_t)i;
    for (int64_t run = 1; run < count; run *= 2) {
        for (int64_t start = 0; start < count; start += 2 * run) {
            int64_t left = start, right = smaller(start + run, count), to = start;
            const int64_t middle = right, end = smaller(start + 2 * run, count);
            while (left < middle && right < end)
                spare[to++] = score[order[right]] > score[order[left]] ? order[right++] : order[left++];
            while (left < middle) spare[to++] = order[left++];
            while (right < end) spare[to++] = order[right++];
        }
        int32_t* const sorted = spare;
        spare = order;
        order = sorted;
    }
    return order;
}

static void rank_pairs(const void* pointer, int64_t image, void* memory) {
    const PairsJob& job = *static_cast<const PairsJob*>(pointer);
    const Pairs& pairs = job.pairs;
    const int64_t first = image * job.candidates;
    int32_t* const numbers = static_cast<int32_t*>(memory);
    const int32_t* const order = rank(job.similarity + first, job.candidates, numbers, numbers + job.candidates);
    for (int64_t i = 0; i < job.candidates; i++) {
        const int64_t row = job.candidate_at[first + order[i]];
        pairs.ranked[first + i] = row;
        if (i >= pairs.removed) continue;
        pairs.source[image * pairs.removed + i] = row;
        pairs.target[image * pairs.removed + i] = pairs.targets[image * job.targets + job.partner[first + order[i]]];
    }
}

// What is known of the pairs before they are ranked; null pointers if memory ran out.
struct PairsRoom {
    const Buffer candidate_at, similarity, partner;
    const PairsJob job;

    explicit PairsRoom(const Pairs& pairs) : PairsRoom(pairs, pairs.tokens - pairs.protected_count) {}
    bool is_there() const { return job.candidate_at && job.similarity && job.partner; }

private:
    PairsRoom(const Pairs& pairs, int64_t patches) : PairsRoom(pairs, patches - patches / 2, patches / 2) {}
    PairsRoom(const Pairs& pairs, int64_t candidates, int64_t targets)
        : candidate_at(sizeof(int64_t) * pairs.batch * candidates),
          similarity(sizeof(float) * pairs.batch * candidates),
          partner(sizeof(int64_t) * pairs.batch * candidates),
          job{pairs, candidates, targets, static_cast<int64_t*>(candidate_at.data()),
              static_cast<float*>(similarity.data()), static_cast<int64_t*>(partner.data())} {}
};

static bool split_all(const PairsJob& job, int threads) {
    return for_each(job.pairs.batch, threads, sizeof(bool) * job.pairs.tokens, split_rows, &job);
}

static bool rank_all(const PairsJob& job, int threads) {
    return for_each(job.pairs.batch, threads, 2 * sizeof(int32_t) * job.candidates, rank_pairs, &job);
}

static int closest_pairs(const Pairs& pairs, int threads) {
    if (!stays_within(pairs.protected_at, pairs.batch, pairs.protected_count, pairs.tokens)) return OUTSIDE;
    const PairsRoom room(pairs);
    if (!room.is_there()) return OUT_OF_MEMORY;
    const PairsJob& job = room.job;
    const Nearest nearest{pairs.batch, job.candidates, job.targets, pairs.width,
                          pairs.storage, pairs.distance, pairs.nth, pairs.reach,
                          pairs.features, pairs.features,
                          {job.candidate_at, job.candidates, 1}, {pairs.targets, job.targets, 1},
                          job.similarity, job.partner};
    const bool done = split_all(job, threads) && find_nearest(nearest, threads) && rank_all(job, threads);
    return done ? DONE : OUT_OF_MEMORY;
}

}  // namespace rmeeto::RMEETO_ISA
