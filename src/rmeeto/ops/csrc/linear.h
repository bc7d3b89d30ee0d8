// Embedding and classifier of a frozen model, each in one call. A forward pass streams all weights through the caches, so
// code that runs once per image runs cold. These two run the same code as the blocks.
#pragma once

#include <new>

#include "interface.h"
#include "kernels.h"
#include "norm.h"
#include "parallel.h"
#include "positions.h"
#include "product.h"
#include "vector.h"

namespace rmeeto::RMEETO_ISA {

template <class T>
struct PackedLinear {
    int64_t columns, depth;
    Buffer memory;

    PackedLinear(int64_t columns, int64_t depth)
        : columns(columns), depth(depth), memory(sizeof(T) * packed_size<T>(columns, depth), Pages::LARGE) {}
    T* weight() const { return static_cast<T*>(memory.data()); }
};

template <class T>
static void* pack_linear(const void* weight, int64_t columns, int64_t depth) {
    PackedLinear<T>* const packed = new (std::nothrow) PackedLinear<T>(columns, depth);
    if (packed && packed->weight()) {
        pack_weight(static_cast<const T*>(weight), columns, depth, packed->weight());
        return packed;
    }
    delete packed;
    return nullptr;
}

// ---- patches

// Rows are places of tokens, counted over all images.
template <class T>
struct EmbeddingJob {
    const Embedding& embedding;
    int64_t first, depth, dim;
    T* patches;   // (row, depth), from the first row on
    T* products;  // (row, dim)
};

// What is multiplied at a place: its patch, or zeros where the token is learned.
template <class T>
static void cut_patch(const void* pointer, int64_t item, void*) {
    const EmbeddingJob<T>& job = *static_cast<const EmbeddingJob<T>*>(pointer);
    const Embedding& of = job.embedding;
    const int64_t row = job.first + item, image = row / of.tokens, patch = of.patch_at[row % of.tokens];
    T* to = job.patches + item * job.depth;
    if (patch < 0) {
        for (int64_t i = 0; i < job.depth; i++) to[i] = T{};
        return;
    }
    const int64_t across = of.width / of.wide, in_frame = across * (of.height / of.high);
    const int64_t frame = patch / in_frame * of.tubelet, top = patch % in_frame / across * of.high;
    for (int64_t channel = image * of.channels; channel < (image + 1) * of.channels; channel++)
        for (int64_t time = frame; time < frame + of.tubelet; time++)
            for (int64_t y = top; y < top + of.high; y++, to += of.wide) {
                const float* const line = of.images + ((channel * of.frames + time) * of.height + y) * of.width;
                for (int64_t x = 0; x < of.wide; x += LANES) {
                    const int count = (int)smaller(LANES, of.wide - x);
                    store(to + x, load(line + patch % across * of.wide + x, count), count);
                }
            }
}

template <class T>
static void place_token(const void* pointer, int64_t item, void*) {
    const EmbeddingJob<T>& job = *static_cast<const EmbeddingJob<T>*>(pointer);
    const int64_t row = job.first + item;
    const float* const table = job.embedding.table + row % job.embedding.tokens * job.dim;
    const T* const product = job.products + item * job.dim;
    for (int64_t c = 0; c < job.dim; c += LANES) {
        const int count = (int)smaller(LANES, job.dim - c);
        store(job.embedding.out + row * job.dim + c, load(product + c, count) + load(table + c, count), count);
    }
}

template <class T>
static bool embed(const void* pointer, const Embedding& embedding, int threads) {
    constexpr int64_t ROWS = 1024;  // at a time: a clip's patches are as large as the clip
    const PackedLinear<T>& packed = *static_cast<const PackedLinear<T>*>(pointer);
    const int64_t all = embedding.batch * embedding.tokens, depth = packed.depth, dim = packed.columns;
    const int64_t most = smaller(ROWS, all);
    const Buffer workspace(sizeof(T) * most * (depth + dim));
    T* const patches = static_cast<T*>(workspace.data());
    if (!patches) return false;
    for (int64_t first = 0; first < all; first += ROWS) {
        const int64_t rows = smaller(ROWS, all - first);
        const EmbeddingJob<T> job{embedding, first, depth, dim, patches, patches + most * depth};
        const Product<T> product{patches, depth, packed.weight(), nullptr, job.products, dim, rows, depth, dim, false};
        if (!for_each(rows, threads, 0, cut_patch<T>, &job) || !multiply(product, threads) ||
            !for_each(rows, threads, 0, place_token<T>, &job))
            return false;
    }
    return true;
}

// ---- logits

template <class T>
static int classify(const void* pointer, const Classification& of, int threads) {
    if (!stays_within(of.token_at, of.batch, 1, of.tokens)) return OUTSIDE;
    const PackedLinear<T>& packed = *static_cast<const PackedLinear<T>*>(pointer);
    const int64_t dim = packed.depth, x_bytes = of.x_storage == BFLOAT16 ? sizeof(bfloat16) : sizeof(float);
    const Buffer workspace((sizeof(float) + sizeof(T)) * of.batch * dim);
    float* const streams = static_cast<float*>(workspace.data());
    if (!streams) return OUT_OF_MEMORY;
    T* const normed = reinterpret_cast<T*>(streams + of.batch * dim);
    for (int64_t image = 0; image < of.batch; image++) {
        const int64_t from = (image * of.tokens + position(of.token_at, image, 0)) * dim, to = image * dim;
        Norm norm{};
        norm.batch = norm.tokens = 1, norm.channels = dim, norm.eps = of.eps;
        norm.x_storage = of.x_storage, norm.out_storage = sizeof(T) == sizeof(float) ? FLOAT32 : BFLOAT16;
        norm.x.data = static_cast<char*>(of.x) + from * x_bytes;
        norm.residual.data = of.residual ? of.residual + from : nullptr;
        norm.stream.data = streams + to, norm.out.data = normed + to, norm.weight = of.norm_weight;
        if (!add_norm(norm, 1)) return OUT_OF_MEMORY;
    }
    T* const logits = static_cast<T*>(of.out);
    const Product<T> product{normed, dim, packed.weight(), of.bias, logits, packed.columns, of.batch, dim, packed.columns,
                             false};
    return multiply(product, threads) ? DONE : OUT_OF_MEMORY;
}

// By storage.
template <class T>
constexpr LinearKernels LINEAR_KERNELS_OF = {
    pack_linear<T>, embed<T>, classify<T>, [](void* packed) { delete static_cast<PackedLinear<T>*>(packed); }};
constexpr LinearKernels LINEAR_KERNELS[] = {LINEAR_KERNELS_OF<float>, LINEAR_KERNELS_OF<bfloat16>};

}  // namespace rmeeto::RMEETO_ISA
