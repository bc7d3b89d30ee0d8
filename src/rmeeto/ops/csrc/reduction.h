// A whole reduction of tokens in one call: the kernels for its parts, one after the other.
#pragma once

#include "kernels.h"
#include "parallel.h"

namespace rmeeto {

// What takes too little time for more than one thread: sizes, shares of groups, places.
inline void weigh(const Reduction& reduction, int64_t image, float* share) {
    const int64_t left = reduction.tokens - reduction.removed;
    const float* const size = reduction.size ? reduction.size + image * reduction.tokens : nullptr;
    const int64_t* const place = reduction.place + image * reduction.tokens;
    float* const size_left = reduction.size_left + image * left;
    for (int64_t row = 0; row < left; row++) size_left[row] = 0;
    for (int64_t row = 0; row < reduction.tokens; row++) size_left[place[row]] += size ? size[row] : 1;
    for (int64_t i = image * reduction.removed; i < (image + 1) * reduction.removed; i++) {
        const int64_t row = reduction.source[i];
        reduction.target[i] = place[row];
        share[i] = (size ? size[row] : 1) / size_left[place[row]];
    }
    for (int64_t i = image * reduction.fixed; i < (image + 1) * reduction.fixed; i++)
        reduction.fixed_left_at[i] = place[reduction.fixed_at[i]];
}

inline int reduce(const Kernels& kernels, const Reduction& reduction, int threads) {
    const int64_t batch = reduction.batch, tokens = reduction.tokens, removed = reduction.removed;
    const int64_t left = tokens - removed, patches = tokens - reduction.fixed, targets = patches / 2;
    const Buffer positions(sizeof(int64_t) * batch * (removed + patches)), shares(sizeof(float) * batch * removed);
    if (!positions.data() || !shares.data()) return OUT_OF_MEMORY;
    int64_t* const target_row = static_cast<int64_t*>(positions.data());  // among the rows that there were
    float* const share = static_cast<float*>(shares.data());

    Pairs pairs{};
    pairs.batch = batch, pairs.tokens = tokens, pairs.fixed = reduction.fixed, pairs.removed = removed;
    pairs.features = reduction.features, pairs.storage = reduction.features_storage;
    pairs.distance = reduction.distance, pairs.nth = reduction.nth, pairs.reach = reduction.reach;
    pairs.values = {reduction.values, tokens * reduction.features, reduction.features};
    pairs.fixed_at = {reduction.fixed_at, reduction.fixed, 1};
    pairs.source = reduction.source, pairs.target = target_row;
    pairs.targets = target_row + batch * removed, pairs.ranked = pairs.targets + batch * targets;
    if (const int outcome = kernels.pairs(pairs, threads); outcome != DONE) return outcome;

    const Tokens source{reduction.source, removed, 1};
    const Layout layout{batch, tokens, removed, source, {target_row, removed, 1}, reduction.kept, reduction.place};
    if (const int outcome = kernels.lay_out(layout, threads); outcome != DONE) return outcome;
    for (int64_t image = 0; image < batch; image++) weigh(reduction, image, share);

    Merge merge{batch, tokens, left, removed, reduction.channels, reduction.storage, {}, {}, {}, {}, {}, {}};
    merge.kept = {reduction.kept, left, 1}, merge.source = source;
    merge.target = {reduction.target, removed, 1}, merge.share = {share, removed, 1};
    const auto move = [&](void* from, void* to) {
        merge.values = {from, tokens * reduction.channels, reduction.channels};
        merge.out = {to, left * reduction.channels, reduction.channels};
        return kernels.merge(merge, threads);
    };
    const int outcome = move(reduction.x, reduction.x_left);
    if (outcome != DONE || !reduction.residual) return outcome;
    merge.storage = FLOAT32;
    return move(reduction.residual, reduction.residual_left);
}

}  // namespace rmeeto
