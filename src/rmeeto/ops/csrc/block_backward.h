// The gradients of a block, from its weights and what its forward pass left behind.
//
// What is cheap to have again is not kept: the convolutions' outputs, the steps, what the gate let through. Each image
// goes the way back through gate, scans and convolutions by itself, while its tokens are in the caches. It leaves behind
// its summands of all gradients but those of the two large weights, which are smaller than the tokens they come from;
// the large ones are summed over all images at once. Sums have one order, whatever the threads.
#pragma once

#include "block.h"
#include "block_workspace.h"
#include "conv.h"
#include "interface.h"
#include "norm.h"
#include "parallel.h"
#include "product.h"
#include "scan_backward.h"
#include "weight_product.h"

namespace rmeeto::RMEETO_ISA {

struct BlockBackwardJob {
    const BlockWeights& weights;
    const WeightsBackward& packed;
    const BlockGradients& tokens;
    const BackwardWorkspace& workspace;

    int64_t mixed() const { return weights.rank + 2 * weights.states; }
    int64_t row(int64_t image) const { return image * tokens.tokens; }
    int64_t row(int direction, int64_t image) const { return row(direction * tokens.batch + image); }
    DirectionSums sums(int direction, int64_t image) const {
        DirectionSums sums{};
        sums.assign(workspace.sums + (direction * tokens.batch + image) * workspace.sums_size, weights);
        return sums;
    }
    ImageWorkspace image_workspace(int64_t worker) const {
        ImageWorkspace image{};
        const int64_t bytes = (int64_t)image.assign(nullptr, weights, tokens.tokens);
        image.assign(workspace.images + worker * bytes, weights, tokens.tokens);
        return image;
    }
};

// ---- one image

// Images by themselves have no batch stride.
INLINE Tokens one_image(const float* data, int64_t token_stride) {
    return Tokens{const_cast<float*>(data), 0, token_stride};
}

// Asks for a row that was written long ago, while the one before it is worked on.
INLINE void prefetch_row(const float* row, int64_t count) {
    for (int64_t c = 0; c < count; c += LINE<float>) __builtin_prefetch(row + c);
}

struct GateJob {
    const BlockBackwardJob& job;
    int64_t image;
    float* dy;  // of this image
};

constexpr int64_t GATE_TOKENS = 32;  // in an item of work

// From the gradient of what was gated to that of the scans' sum, in its place, and that of the gate.
static void gate_backward(const void* pointer, int64_t item, void*) {
    const GateJob& gate = *static_cast<const GateJob*>(pointer);
    const BlockBackwardJob& job = gate.job;
    const int64_t inner = job.weights.inner, end = smaller((item + 1) * GATE_TOKENS, job.tokens.tokens);
    const float scale = (float)job.weights.scale;
    for (int64_t token = item * GATE_TOKENS; token < end; token++) {
        const int64_t row = job.row(gate.image) + token;
        const float* const walked = job.tokens.walked + row * inner;
        const float* const gates = job.tokens.projected + (2 * row + 1) * inner;
        float* const dy = gate.dy + token * inner;
        prefetch_row(walked + inner, inner);
        prefetch_row(gates + 2 * inner, inner);
        for (int64_t c = 0; c < inner; c += LANES) {
            const int count = (int)smaller(LANES, inner - c);
            const Vec y = load(walked + c, count), grad = scale * load(dy + c, count);
            Vec slope;
            const Vec open = silu(load(gates + c, count), slope);
            store(job.workspace.gated + row * inner + c, scale * y * open, count);
            store(job.workspace.dprojected + (2 * row + 1) * inner + c, grad * y * slope, count);
            store(dy + c, grad * open, count);
        }
    }
}

static bool direction_backward(const BlockBackwardJob& job, int direction, int64_t image,
                               const ImageWorkspace& workspace, int threads) {
    const BlockWeights& weights = job.weights;
    const BlockDirection& side = weights.directions[direction];
    const auto& packed = job.packed.directions[direction];
    const DirectionSums sums = job.sums(direction, image);
    const int64_t inner = weights.inner, states = weights.states, rank = weights.rank, length = job.tokens.tokens;
    const int64_t row = job.row(direction, image), mixed = job.mixed();
    const float* const b_and_c = job.tokens.b_and_c + row * B_AND_C;
    const float* const dt = job.tokens.dt + row * rank;
    float* const delta = workspace.ddelta;  // its gradient takes its place
    float* const dmixed = workspace.dmixed;

    Conv conv{};
    conv.batch = 1, conv.tokens = length, conv.channels = inner, conv.width = weights.width;
    conv.silu = true, conv.reverse = direction;
    conv.x = one_image(job.tokens.projected + job.row(image) * 2 * inner, 2 * inner);
    conv.out = one_image(workspace.u, inner), conv.grad = one_image(workspace.du, inner);
    conv.dx = one_image(job.workspace.dprojected + job.row(image) * 2 * inner, 2 * inner), conv.is_added = direction;
    conv.weight = side.conv_weight, conv.bias = side.conv_bias;
    conv.dweight = sums.conv_weight, conv.dbias = sums.conv_bias;

    Scan scan{};
    scan.batch = 1, scan.tokens = length, scan.channels = inner, scan.states = states;
    scan.delta_softplus = true, scan.reverse = direction;
    scan.u = conv.out, scan.delta = scan.ddelta = one_image(delta, inner);
    scan.B = one_image(b_and_c, B_AND_C), scan.C = one_image(b_and_c + STATES, B_AND_C);
    scan.A = side.A, scan.skip = side.skip, scan.delta_bias = side.delta_bias;
    scan.grad = one_image(workspace.dy, inner), scan.du = conv.grad;
    scan.dB = one_image(dmixed + rank, mixed), scan.dC = one_image(dmixed + rank + states, mixed);
    scan.dA = sums.A, scan.dskip = sums.skip, scan.ddelta_bias = sums.delta_bias;

    const Product<float> steps{dt, rank, packed.dt_proj_ahead, nullptr, delta, inner, length, rank, inner, false};
    const Product<float> of_dt{delta, inner, packed.dt_proj, nullptr, dmixed, mixed, length, inner, rank, false};
    const Product<float> of_u{dmixed, mixed, packed.x_proj, nullptr, workspace.du, inner, length, mixed, inner, true};
    // The few rows are those of dt, and the many columns those of Δ: transposed.
    const WeightProduct of_dt_proj{dt, rank, delta, inner, sums.dt_proj, length, rank, inner};
    const WeightProduct of_x_proj{dmixed, mixed, workspace.u, inner, sums.x_proj, length, mixed, inner};
    return causal_conv(conv, threads) && multiply(steps, threads) &&
           scan_backward_of(scan, job.tokens.batch, threads) && multiply(of_dt, threads) &&
           multiply_tokens(of_dt_proj, threads) && multiply_tokens(of_x_proj, threads) && multiply(of_u, threads) &&
           causal_conv_backward(conv, threads);
}

static bool image_backward(const BlockBackwardJob& job, int64_t image, int64_t worker, int threads) {
    const int64_t inner = job.weights.inner, dim = job.weights.dim, length = job.tokens.tokens;
    const ImageWorkspace workspace = job.image_workspace(worker);
    const float* const grad = job.tokens.grad + job.row(image) * dim;
    const Product<float> out{grad, dim, job.packed.out_proj, nullptr, workspace.dy, inner, length, dim, inner, false};
    const GateJob gate{job, image, workspace.dy};
    return multiply(out, threads) &&
           for_each(divide_up(length, GATE_TOKENS), threads, 0, gate_backward, &gate) &&
           direction_backward(job, 0, image, workspace, threads) &&
           direction_backward(job, 1, image, workspace, threads);
}

struct ImageShares {
    const BlockBackwardJob& job;
    int64_t count;
};

static bool share_backward(const void* pointer, int64_t share) {
    const ImageShares& shares = *static_cast<const ImageShares*>(pointer);
    const int64_t batch = shares.job.tokens.batch, end = (share + 1) * batch / shares.count;
    for (int64_t image = share * batch / shares.count; image < end; image++)
        if (!image_backward(shares.job, image, share, 1)) return false;
    return true;
}

static bool images_backward(const BlockBackwardJob& job, int64_t workers, int threads) {
    if (workers > 1) {
        const ImageShares shares{job, workers};
        return for_all(workers, threads, share_backward, &shares);
    }
    for (int64_t image = 0; image < job.tokens.batch; image++)
        if (!image_backward(job, image, 0, threads)) return false;
    return true;
}

// ---- all of them together

constexpr int64_t SUMMED = 1 << 12;  // floats, in an item of work

// The images' summands in their order, into the first one's.
static void sum_images(const void* pointer, int64_t item, void*) {
    const BlockBackwardJob& job = *static_cast<const BlockBackwardJob*>(pointer);
    const int64_t size = job.workspace.sums_size, chunks = divide_up(size, SUMMED);
    float* const first = job.workspace.sums + item / chunks * job.tokens.batch * size;
    const int64_t begin = item % chunks * SUMMED, end = smaller(begin + SUMMED, size);
    for (int64_t c = begin; c < end; c += LANES) {
        Vec x = load(first + c, LANES);
        for (int64_t image = 1; image < job.tokens.batch; image++) x += load(first + image * size + c, LANES);
        store(first + c, x, LANES);
    }
}

static void hand_out_sums(const BlockBackwardJob& job, int direction) {
    const DirectionSums sums = job.sums(direction, 0);
    const auto& wanted = job.tokens.directions[direction];
    const int64_t inner = job.weights.inner, rank = job.weights.rank;
    const auto copy = [](float* to, const float* from, int64_t count) {
        __builtin_memcpy(to, from, sizeof(float) * count);
    };
    copy(wanted.conv_weight, sums.conv_weight, inner * job.weights.width);
    copy(wanted.conv_bias, sums.conv_bias, inner);
    copy(wanted.A, sums.A, inner * job.weights.states);
    copy(wanted.skip, sums.skip, inner);
    copy(wanted.delta_bias, sums.delta_bias, inner);
    copy(wanted.x_proj, sums.x_proj, job.mixed() * inner);
    for (int64_t i = 0; i < inner; i++)
        for (int64_t j = 0; j < rank; j++) wanted.dt_proj[i * rank + j] = sums.dt_proj[j * inner + i];
}

static bool weights_backward(const BlockBackwardJob& job, int threads) {
    const BlockGradients& tokens = job.tokens;
    const int64_t dim = job.weights.dim, inner = job.weights.inner, rows = job.row(tokens.batch);
    const WeightProduct out_proj{tokens.grad, dim, job.workspace.gated, inner, tokens.dout_proj, rows, dim, inner};
    const WeightProduct in_proj{job.workspace.dprojected, 2 * inner, tokens.normed, dim, tokens.din_proj,
                                rows, 2 * inner, dim};
    if (!for_each(2 * divide_up(job.workspace.sums_size, SUMMED), threads, 0, sum_images, &job)) return false;
    for (int direction = 0; direction < 2; direction++) hand_out_sums(job, direction);
    return multiply_tokens(out_proj, threads) && multiply_tokens(in_proj, threads);
}

static bool stream_backward(const BlockBackwardJob& job, int threads) {
    const BlockGradients& tokens = job.tokens;
    const int64_t dim = job.weights.dim, inner = job.weights.inner;
    const Product<float> in{job.workspace.dprojected, 2 * inner, job.packed.in_proj, nullptr, job.workspace.dnormed, dim,
                            job.row(tokens.batch), 2 * inner, dim, false};
    const auto rows_of = [&](const float* data) { return Tokens{const_cast<float*>(data), tokens.tokens * dim, dim}; };
    Norm norm{};
    norm.batch = tokens.batch, norm.tokens = tokens.tokens, norm.channels = dim, norm.eps = job.weights.eps;
    norm.stream = rows_of(tokens.stream), norm.weight = job.weights.norm_weight;
    norm.grad = rows_of(job.workspace.dnormed), norm.grad_stream = rows_of(tokens.grad_stream);
    norm.dstream = rows_of(tokens.dstream), norm.dweight = tokens.dnorm_weight;
    return multiply(in, threads) && add_norm_backward(norm, threads);
}

// One image per thread, unless that would leave threads idle; then several threads share an image.
static int64_t count_workers(int64_t batch, int threads) {
    constexpr int A_FEW = 4;
    const bool is_even = batch % threads == 0 || batch >= 4 * threads;
    return is_even || (threads > A_FEW && 2 * batch >= threads) ? smaller(batch, threads) : 1;
}

static bool mamba_block_backward(const BlockWeights& weights, const BlockGradients& tokens, int threads) {
    const int64_t workers = count_workers(tokens.batch, threads);
    WeightsBackward packed{};
    BackwardWorkspace workspace{};
    const Buffer packed_memory(packed.assign(nullptr, weights));
    const Buffer workspace_memory(workspace.assign(nullptr, weights, tokens, workers));
    if (!packed_memory.data() || !workspace_memory.data()) return false;
    packed.assign(packed_memory.data(), weights);
    workspace.assign(workspace_memory.data(), weights, tokens, workers);
    packed.pack(weights);
    const BlockBackwardJob job{weights, packed, tokens, workspace};
    return images_backward(job, workers, threads) && weights_backward(job, threads) && stream_backward(job, threads);
}

}  // namespace rmeeto::RMEETO_ISA
