// A frozen block's calls, spelt out as the problems that the kernels solve. All tensors are contiguous:
// x, residual, stream and normed are (batch, tokens, dim), projected (batch, tokens, 2 * inner) with the gate behind
// what the scans walk over, u and delta (2, batch, tokens, inner), mixed (2, batch, tokens, rank + 2 * states) with B
// and C behind the part that delta is projected from, and out (batch, tokens, inner).
#pragma once

#include "interface.h"

namespace rmeeto {

// Part `part` of a (parts, batch, tokens, width) tensor, from `channel` on.
inline Tokens tokens_at(const FrozenBlock& block, int64_t batch, int64_t tokens, void* data, int64_t width,
                        int64_t part = 0, int64_t channel = 0) {
    const int64_t bytes = block.storage == BFLOAT16 ? 2 : 4;
    const int64_t first = part * batch * tokens * width + channel;
    return {static_cast<char*>(data) + first * bytes, tokens * width, width};
}

inline Norm norm_of(const FrozenBlock& block, int64_t batch, int64_t tokens, void* x, int64_t x_storage,
                    float* residual, float* stream, void* normed) {
    const auto rows = [&](void* data) { return Tokens{data, tokens * block.dim, block.dim}; };
    Norm norm{};
    norm.batch = batch, norm.tokens = tokens, norm.channels = block.dim;
    norm.x_storage = x_storage, norm.out_storage = block.storage, norm.eps = block.eps;
    norm.x = rows(x), norm.residual = rows(residual), norm.stream = rows(stream), norm.out = rows(normed);
    norm.weight = block.norm_weight;
    return norm;
}

inline Conv conv_of(const FrozenBlock& block, int64_t batch, int64_t tokens, void* projected, void* u, int direction) {
    Conv conv{};
    conv.batch = batch, conv.tokens = tokens, conv.channels = block.inner, conv.width = block.width;
    conv.storage = block.storage, conv.silu = true, conv.reverse = direction;
    conv.x = tokens_at(block, batch, tokens, projected, 2 * block.inner);
    conv.out = tokens_at(block, batch, tokens, u, block.inner, direction);
    conv.weight = block.conv_weight + direction * block.inner * block.width;
    conv.bias = block.conv_bias + direction * block.inner;
    return conv;
}

inline Scan scan_of(const FrozenBlock& block, int64_t batch, int64_t tokens, void* projected, void* u, void* delta,
                    void* mixed, void* out, int direction) {
    const int64_t width = block.rank + 2 * block.states;
    Scan scan{};
    scan.batch = batch, scan.tokens = tokens, scan.channels = block.inner, scan.states = block.states;
    scan.storage = block.storage, scan.delta_softplus = true, scan.reverse = direction;
    scan.u = tokens_at(block, batch, tokens, u, block.inner, direction);
    scan.delta = tokens_at(block, batch, tokens, delta, block.inner, direction);
    if (direction) scan.gate = tokens_at(block, batch, tokens, projected, 2 * block.inner, 0, block.inner);
    scan.B = tokens_at(block, batch, tokens, mixed, width, direction, block.rank);
    scan.C = tokens_at(block, batch, tokens, mixed, width, direction, block.rank + block.states);
    scan.out = tokens_at(block, batch, tokens, out, block.inner);
    scan.A = block.A + direction * block.inner * block.states;
    scan.skip = block.skip + direction * block.inner;
    scan.delta_bias = block.delta_bias + direction * block.inner;
    return scan;
}

}  // namespace rmeeto
