// A whole reduction of tokens in one call: the kernels for its parts, one after the other.
#pragma once

#include "kernels.h"
#include "parallel.h"

namespace rmeeto {

// What takes too little time for more than one thread: sizes, shares of groups, places.
inline void weigh(const Merging& merging, int64_t image, float* share) {
    const int64_t left = merging.tokens - merging.removed;
    const float* const size = merging.size ? merging.size + image * merging.tokens : nullptr;
    const int64_t* const place = merging.place + image * merging.tokens;
    float* const size_left = merging.size_left + image * left;
    for (int64_t row = 0; row < left; row++) size_left[row] = 0;
    for (int64_t row = 0; row < merging.tokens; row++) size_left[place[row]] += size ? size[row] : 1;
    for (int64_t i = image * merging.removed; i < (image + 1) * merging.removed; i++) {
        const int64_t row = merging.source[i];
        merging.target[i] = place[row];
        share[i] = (size ? size[row] : 1) / size_left[place[row]];
    }
    for (int64_t i = image * merging.protected_count; i < (image + 1) * merging.protected_count; i++)
        merging.protected_left_at[i] = place[merging.protected_at[i]];
}

inline int merge_closest(const Kernels& kernels, const Merging& merging, int threads) {
    const int64_t batch = merging.batch, tokens = merging.tokens, removed = merging.removed;
    const int64_t left = tokens - removed, patches = tokens - merging.protected_count, targets = patches / 2;
    const Buffer positions(sizeof(int64_t) * batch * (removed + patches)), shares(sizeof(float) * batch * removed);
    if (!positions.data() || !shares.data()) return OUT_OF_MEMORY;
    int64_t* const target_row = static_cast<int64_t*>(positions.data());  // among the rows that there were
    float* const share = static_cast<float*>(shares.data());

    Pairs pairs{};
    pairs.batch = batch, pairs.tokens = tokens, pairs.removed = removed;
    pairs.protected_count = merging.protected_count, pairs.width = merging.width;
    pairs.storage = merging.features_storage;
    pairs.distance = merging.distance, pairs.nth = merging.nth, pairs.reach = merging.reach;
    pairs.guard = merging.guard;
    pairs.features = {merging.features, tokens * merging.width, merging.width};
    pairs.protected_at = {merging.protected_at, merging.protected_count, 1};
    pairs.source = merging.source, pairs.target = target_row;
    pairs.targets = target_row + batch * removed, pairs.ranked = pairs.targets + batch * targets;
    const auto find_pairs = merging.pairing == BESIDE ? kernels.neighbour_pairs : kernels.closest_pairs;
    if (const int outcome = find_pairs(pairs, threads); outcome != DONE) return outcome;

    const Tokens source{merging.source, removed, 1};
    const Layout layout{batch, tokens, removed, source, {target_row, removed, 1}, merging.kept, merging.place};
    if (const int outcome = kernels.lay_out(layout, threads); outcome != DONE) return outcome;
    for (int64_t image = 0; image < batch; image++) weigh(merging, image, share);

    Merge merge{batch, tokens, left, removed, merging.channels, merging.storage, {}, {}, {}, {}, {}, {}};
    merge.kept = {merging.kept, left, 1}, merge.source = source;
    merge.target = {merging.target, removed, 1}, merge.share = {share, removed, 1};
    const auto move = [&](void* from, void* to) {
        merge.values = {from, tokens * merging.channels, merging.channels};
        merge.out = {to, left * merging.channels, merging.channels};
        return kernels.merge_rows(merge, threads);
    };
    const int outcome = move(merging.x, merging.x_left);
    if (outcome != DONE || !merging.residual) return outcome;
    merge.storage = FLOAT32;
    return move(merging.residual, merging.residual_left);
}

}  // namespace rmeeto
