// Gather the rows that stay and merge the others into them; see merge_rows in rmeeto/ops/merge.py for the meaning.
//
// Every row is read once and written once. An item of work is a few neighbouring output rows of one image; it finds
// the pairs that end in them and strings them together, in their order.
#pragma once

#include "interface.h"
#include "parallel.h"
#include "positions.h"
#include "scan.h"
#include "vector.h"

namespace rmeeto::RMEETO_ISA {

constexpr int MERGE_ROWS = 64;  // at most, in an item of work

struct MergeChunk {
    int64_t image, first;
    int count;
    int32_t head[MERGE_ROWS];  // the first pair that ends in a row, or -1
    int32_t* next;             // the pair after each, or -1
};

struct MergeJob {
    const Merge& merge;
    int64_t chunks, rows_per_chunk;
};

INLINE MergeChunk find_pairs(const MergeJob& job, int64_t item, void* memory) {
    const Merge& merge = job.merge;
    MergeChunk chunk;
    chunk.image = item / job.chunks;
    chunk.first = item % job.chunks * job.rows_per_chunk;
    chunk.count = (int)smaller(job.rows_per_chunk, merge.left - chunk.first);
    chunk.next = static_cast<int32_t*>(memory);
    for (int row = 0; row < chunk.count; row++) chunk.head[row] = -1;
    for (int64_t pair = merge.removed - 1; pair >= 0; pair--) {
        const int64_t row = position(merge.target, chunk.image, pair) - chunk.first;
        if (row < 0 || row >= chunk.count) continue;
        chunk.next[pair] = chunk.head[row];
        chunk.head[row] = (int32_t)pair;
    }
    return chunk;
}

INLINE float share_of(const Merge& merge, int64_t image, int64_t pair) { return *at<const float>(merge.share, image, pair, 0); }

template <class T>
static void merge_item(const void* pointer, int64_t item, void* memory) {
    const MergeJob& job = *static_cast<const MergeJob*>(pointer);
    const Merge& merge = job.merge;
    const MergeChunk chunk = find_pairs(job, item, memory);
    const int64_t image = chunk.image;
    for (int row = 0; row < chunk.count; row++) {
        const T* const from = at<const T>(merge.values, image, position(merge.kept, image, chunk.first + row), 0);
        T* const to = at<T>(merge.out, image, chunk.first + row, 0);
        if (chunk.head[row] < 0) {
            __builtin_memcpy(to, from, sizeof(T) * merge.channels);
            continue;
        }
        for (int64_t c = 0; c < merge.channels; c += LANES) {
            const int count = (int)smaller(LANES, merge.channels - c);
            const Vec own = load(from + c, count);
            Vec sum = own;
            for (int32_t pair = chunk.head[row]; pair >= 0; pair = chunk.next[pair]) {
                const T* const other = at<const T>(merge.values, image, position(merge.source, image, pair), c);
                sum += share_of(merge, image, pair) * (load(other, count) - own);
            }
            store(to + c, sum, count);
        }
    }
}

template <class T>
INLINE void scale_row(T* to, const T* from, int64_t channels, float factor) {
    for (int64_t c = 0; c < channels; c += LANES) {
        const int count = (int)smaller(LANES, channels - c);
        store(to + c, factor * load(from + c, count), count);
    }
}

// Here `out` is the gradient that comes in and `values` the one that goes out.
template <class T>
static void merge_backward_item(const void* pointer, int64_t item, void* memory) {
    const MergeJob& job = *static_cast<const MergeJob*>(pointer);
    const Merge& merge = job.merge;
    const MergeChunk chunk = find_pairs(job, item, memory);
    const int64_t image = chunk.image;
    for (int row = 0; row < chunk.count; row++) {
        const T* const grad = at<const T>(merge.out, image, chunk.first + row, 0);
        T* const own = at<T>(merge.values, image, position(merge.kept, image, chunk.first + row), 0);
        if (chunk.head[row] < 0) {
            __builtin_memcpy(own, grad, sizeof(T) * merge.channels);
            continue;
        }
        float rest = 1;
        for (int32_t pair = chunk.head[row]; pair >= 0; pair = chunk.next[pair]) {
            const float share = share_of(merge, image, pair);
            rest -= share;
            scale_row(at<T>(merge.values, image, position(merge.source, image, pair), 0), grad, merge.channels, share);
        }
        scale_row(own, grad, merge.channels, rest);
    }
}

INLINE int run_merge(const Merge& merge, Body body, int threads) {
    if (!stays_within(merge.kept, merge.batch, merge.left, merge.tokens) ||
        !stays_within(merge.source, merge.batch, merge.removed, merge.tokens) ||
        !stays_within(merge.target, merge.batch, merge.removed, merge.left))
        return OUTSIDE;
    // Small enough that all threads finish together, large enough that linking the pairs takes little of the time.
    const int64_t wanted = merge.left * merge.batch / (4 * threads);
    const int64_t rows = wanted < MERGE_ROWS / 8 ? MERGE_ROWS / 8 : smaller(wanted, MERGE_ROWS);
    const MergeJob job{merge, divide_up(merge.left, rows), rows};
    const bool done = for_each(merge.batch * job.chunks, threads, sizeof(int32_t) * merge.removed, body, &job);
    return done ? DONE : OUT_OF_MEMORY;
}

static int merge_rows(const Merge& merge, int threads) {
    return run_merge(merge, merge.storage == BFLOAT16 ? merge_item<bfloat16> : merge_item<float>, threads);
}

static int merge_rows_backward(const Merge& merge, int threads) {
    const Body body = merge.storage == BFLOAT16 ? merge_backward_item<bfloat16> : merge_backward_item<float>;
    return run_merge(merge, body, threads);
}

}  // namespace rmeeto::RMEETO_ISA
