// The gradients of a block, from its weights and what its forward pass left behind.
//
// What is cheap to have again is not kept: the convolutions' outputs, the steps, what the gate let through. Each image
// goes the way back through gate, scans and convolutions by itself, while its tokens are in the caches. It leaves behind
// its summands of all gradients but those of the two large weights, which are smaller than the tokens they come from;
// the large ones are summed over all images at once. Sums have one order, whatever the threads.
#pragma once

#include "block.h"
#include "conv.h"
#include "interface.h"
#include "norm.h"
#include "parallel.h"
#include "product.h"
#include "scan_backward.h"
#include "weight_product.h"

namespace rmeeto::RMEETO_ISA {

// Floats handed out piece by piece, each on a line of its own: first from null, to count them, then from where they are.
class Pieces {
public:
    explicit Pieces(float* base) : base_(base) {}
    float* take(int64_t count) {
        const int64_t before = taken_;
        taken_ += divide_up(count, 16) * 16;
        return base_ ? base_ + before : nullptr;
    }
    int64_t taken() const { return taken_; }

private:
    float* base_;
    int64_t taken_ = 0;
};

// Packed for the way back, and dt_proj for the way there as well.
struct WeightsBackward {
    float *in_proj, *out_proj;
    struct {
        float *x_proj, *dt_proj, *dt_proj_ahead;
    } directions[2];

    int64_t lay_out(float* base, const BlockWeights& shape) {
        Pieces pieces(base);
        in_proj = pieces.take(packed_size<float>(shape.dim, 2 * shape.inner));
        out_proj = pieces.take(packed_size<float>(shape.inner, shape.dim));
        for (auto& side : directions) {
            side.x_proj = pieces.take(packed_size<float>(shape.inner, shape.rank + 2 * shape.states));
            side.dt_proj = pieces.take(packed_size<float>(shape.rank, shape.inner));
            side.dt_proj_ahead = pieces.take(packed_size<float>(shape.inner, shape.rank));
        }
        return pieces.taken();
    }
    void pack(const BlockWeights& weights) const {
        const auto given = [](const void* weight) { return static_cast<const float*>(weight); };
        pack_transposed(given(weights.in_proj), weights.dim, 2 * weights.inner, in_proj);
        pack_transposed(given(weights.out_proj), weights.inner, weights.dim, out_proj);
        for (int k = 0; k < 2; k++) {
            const BlockDirection& side = weights.directions[k];
            pack_transposed(given(side.x_proj), weights.inner, weights.rank + 2 * weights.states, directions[k].x_proj);
            pack_transposed(given(side.dt_proj), weights.rank, weights.inner, directions[k].dt_proj);
            pack_weight(given(side.dt_proj), weights.inner, weights.rank, directions[k].dt_proj_ahead);
        }
    }
};

// One image's summands of the gradients of one direction.
struct DirectionSums {
    float *conv_weight, *conv_bias, *A, *skip, *delta_bias, *x_proj;
    float* dt_proj;  // (rank, inner), transposed

    int64_t lay_out(float* base, const BlockWeights& shape) {
        Pieces pieces(base);
        conv_weight = pieces.take(shape.inner * shape.width);
        conv_bias = pieces.take(shape.inner);
        A = pieces.take(shape.inner * shape.states);
        skip = pieces.take(shape.inner);
        delta_bias = pieces.take(shape.inner);
        x_proj = pieces.take((shape.rank + 2 * shape.states) * shape.inner);
        dt_proj = pieces.take(shape.rank * shape.inner);
        return pieces.taken();
    }
};

// What one image needs on its way back, and nobody after it.
struct ImageRoom {
    float *dy, *du, *u, *ddelta;  // (token, inner)
    float* dmixed;                // (token, rank + 2 * states)

    int64_t lay_out(float* base, const BlockWeights& shape, int64_t tokens) {
        Pieces pieces(base);
        dy = pieces.take(tokens * shape.inner);
        du = pieces.take(tokens * shape.inner);
        u = pieces.take(tokens * shape.inner);
        ddelta = pieces.take(tokens * shape.inner);
        dmixed = pieces.take(tokens * (shape.rank + 2 * shape.states));
        return pieces.taken();
    }
};

// What all images leave behind.
struct BackwardRoom {
    float *gated, *dprojected, *dnormed;  // (image, token): inner, 2 * inner, dim
    float* sums;                          // (direction, image): DirectionSums
    float* dt_proj;                       // (direction): their sums, (rank, inner)
    float* images;                        // (worker): ImageRoom

    int64_t lay_out(float* base, const BlockWeights& shape, const BlockGradients& tokens, int64_t workers) {
        Pieces pieces(base);
        const int64_t rows = tokens.batch * tokens.tokens;
        gated = pieces.take(rows * shape.inner);
        dprojected = pieces.take(rows * 2 * shape.inner);
        dnormed = pieces.take(rows * shape.dim);
        sums = pieces.take(2 * tokens.batch * DirectionSums{}.lay_out(nullptr, shape));
        dt_proj = pieces.take(2 * shape.rank * shape.inner);
        images = pieces.take(workers * ImageRoom{}.lay_out(nullptr, shape, tokens.tokens));
        return pieces.taken();
    }
};

struct BlockBackwardJob {
    const BlockWeights& weights;
    const WeightsBackward& packed;
    const BlockGradients& tokens;
    const BackwardRoom& room;

    int64_t mixed() const { return weights.rank + 2 * weights.states; }
    int64_t row(int64_t image) const { return image * tokens.tokens; }
    int64_t row(int direction, int64_t image) const { return row(direction * tokens.batch + image); }
    DirectionSums sums(int direction, int64_t image) const {
        DirectionSums sums{};
        const int64_t size = sums.lay_out(nullptr, weights);
        sums.lay_out(room.sums + (direction * tokens.batch + image) * size, weights);
        return sums;
    }
    ImageRoom image_room(int64_t worker) const {
        ImageRoom image{};
        const int64_t size = image.lay_out(nullptr, weights, tokens.tokens);
        image.lay_out(room.images + worker * size, weights, tokens.tokens);
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

// From the gradient of what was gated to that of the scans' sum, in its place, and that of the gate.
static void gate_backward(const BlockBackwardJob& job, int64_t image, float* dy) {
    const int64_t inner = job.weights.inner;
    const float scale = (float)job.weights.scale;
    for (int64_t row = job.row(image); row < job.row(image + 1); row++, dy += inner) {
        const float* const walked = job.tokens.walked + row * inner;
        const float* const gate = job.tokens.projected + (2 * row + 1) * inner;
        prefetch_row(walked + inner, inner);
        prefetch_row(gate + 2 * inner, inner);
        for (int64_t c = 0; c < inner; c += LANES) {
            const int count = (int)smaller(LANES, inner - c);
            const Vec y = load(walked + c, count), grad = scale * load(dy + c, count);
            Vec slope;
            const Vec open = silu(load(gate + c, count), slope);
            store(job.room.gated + row * inner + c, scale * y * open, count);
            store(job.room.dprojected + (2 * row + 1) * inner + c, grad * y * slope, count);
            store(dy + c, grad * open, count);
        }
    }
}

static bool direction_backward(const BlockBackwardJob& job, int direction, int64_t image, const ImageRoom& room,
                               int threads) {
    const BlockWeights& weights = job.weights;
    const BlockDirection& side = weights.directions[direction];
    const auto& packed = job.packed.directions[direction];
    const DirectionSums sums = job.sums(direction, image);
    const int64_t inner = weights.inner, states = weights.states, rank = weights.rank, length = job.tokens.tokens;
    const int64_t row = job.row(direction, image), mixed = job.mixed();
    const float* const b_and_c = job.tokens.b_and_c + row * B_AND_C;
    const float* const dt = job.tokens.dt + row * rank;
    float* const delta = room.ddelta;  // its gradient takes its place

    Conv conv{};
    conv.batch = 1, conv.tokens = length, conv.channels = inner, conv.width = weights.width;
    conv.silu = true, conv.reverse = direction;
    conv.x = one_image(job.tokens.projected + job.row(image) * 2 * inner, 2 * inner);
    conv.out = one_image(room.u, inner), conv.grad = one_image(room.du, inner);
    conv.dx = one_image(job.room.dprojected + job.row(image) * 2 * inner, 2 * inner), conv.is_added = direction;
    conv.weight = side.conv_weight, conv.bias = side.conv_bias;
    conv.dweight = sums.conv_weight, conv.dbias = sums.conv_bias;

    Scan scan{};
    scan.batch = 1, scan.tokens = length, scan.channels = inner, scan.states = states;
    scan.delta_softplus = true, scan.reverse = direction;
    scan.u = conv.out, scan.delta = scan.ddelta = one_image(delta, inner);
    scan.B = one_image(b_and_c, B_AND_C), scan.C = one_image(b_and_c + STATES, B_AND_C);
    scan.A = side.A, scan.skip = side.skip, scan.delta_bias = side.delta_bias;
    scan.grad = one_image(room.dy, inner), scan.du = conv.grad;
    scan.dB = one_image(room.dmixed + rank, mixed), scan.dC = one_image(room.dmixed + rank + states, mixed);
    scan.dA = sums.A, scan.dskip = sums.skip, scan.ddelta_bias = sums.delta_bias;

    const Product<float> steps{dt, rank, packed.dt_proj_ahead, nullptr, delta, inner, length, rank, inner, false};
    const Product<float> of_dt{delta, inner, packed.dt_proj, nullptr, room.dmixed, mixed, length, inner, rank, false};
    const Product<float> of_u{room.dmixed, mixed, packed.x_proj, nullptr, room.du, inner, length, mixed, inner, true};
    // The few rows are those of dt, and the many columns those of Δ: transposed.
    const WeightProduct of_dt_proj{dt, rank, delta, inner, sums.dt_proj, length, rank, inner};
    const WeightProduct of_x_proj{room.dmixed, mixed, room.u, inner, sums.x_proj, length, mixed, inner};
    return conv_forward(conv, threads) && multiply(steps, threads) &&
           scan_backward_of(scan, job.tokens.batch, threads) && multiply(of_dt, threads) &&
           multiply_tokens(of_dt_proj, threads) && multiply_tokens(of_x_proj, threads) && multiply(of_u, threads) &&
           conv_backward(conv, threads);
}

static bool image_backward(const BlockBackwardJob& job, int64_t image, int64_t worker, int threads) {
    const int64_t inner = job.weights.inner, dim = job.weights.dim, length = job.tokens.tokens;
    const ImageRoom room = job.image_room(worker);
    const float* const grad = job.tokens.grad + job.row(image) * dim;
    const Product<float> out{grad, dim, job.packed.out_proj, nullptr, room.dy, inner, length, dim, inner, false};
    if (!multiply(out, threads)) return false;
    gate_backward(job, image, room.dy);
    return direction_backward(job, 0, image, room, threads) && direction_backward(job, 1, image, room, threads);
}

struct ImageShares {
    const BlockBackwardJob& job;
    int64_t count;
    bool* failed;  // each share's own
};

static void share_backward(const void* pointer, int64_t share, void*) {
    const ImageShares& shares = *static_cast<const ImageShares*>(pointer);
    const int64_t batch = shares.job.tokens.batch, end = (share + 1) * batch / shares.count;
    bool is_done = true;
    for (int64_t image = share * batch / shares.count; image < end; image++)
        is_done = is_done && image_backward(shares.job, image, share, 1);
    shares.failed[share] = !is_done;
}

static bool images_backward(const BlockBackwardJob& job, int64_t workers, int threads) {
    if (workers == 1) {
        for (int64_t image = 0; image < job.tokens.batch; image++)
            if (!image_backward(job, image, 0, threads)) return false;
        return true;
    }
    const Buffer outcomes(sizeof(bool) * workers);
    bool* const failed = static_cast<bool*>(outcomes.data());
    if (!failed) return false;
    const ImageShares shares{job, workers, failed};
    if (!for_each(workers, threads, 0, share_backward, &shares)) return false;
    for (int64_t share = 0; share < workers; share++)
        if (failed[share]) return false;
    return true;
}

// ---- all of them together

// The images' summands in their order.
struct SumOfImages {
    const BlockBackwardJob& job;
    int direction;

    void operator()(float* DirectionSums::*piece, float* total, int64_t count) const {
        for (int64_t c = 0; c < count; c += LANES) {
            const int present = (int)smaller(LANES, count - c);
            Vec x{};
            for (int64_t image = 0; image < job.tokens.batch; image++)
                x += load(job.sums(direction, image).*piece + c, present);
            store(total + c, x, present);
        }
    }
};

static void sum_direction(const void* pointer, int64_t direction, void*) {
    const BlockBackwardJob& job = *static_cast<const BlockBackwardJob*>(pointer);
    const auto& total = job.tokens.directions[direction];
    const int64_t inner = job.weights.inner, rank = job.weights.rank;
    const SumOfImages sum{job, (int)direction};
    float* const dt_proj = job.room.dt_proj + direction * rank * inner;
    sum(&DirectionSums::conv_weight, total.conv_weight, inner * job.weights.width);
    sum(&DirectionSums::conv_bias, total.conv_bias, inner);
    sum(&DirectionSums::A, total.A, inner * job.weights.states);
    sum(&DirectionSums::skip, total.skip, inner);
    sum(&DirectionSums::delta_bias, total.delta_bias, inner);
    sum(&DirectionSums::x_proj, total.x_proj, job.mixed() * inner);
    sum(&DirectionSums::dt_proj, dt_proj, rank * inner);
    for (int64_t i = 0; i < inner; i++)
        for (int64_t j = 0; j < rank; j++) total.dt_proj[i * rank + j] = dt_proj[j * inner + i];
}

static bool weights_backward(const BlockBackwardJob& job, int threads) {
    const BlockGradients& tokens = job.tokens;
    const int64_t dim = job.weights.dim, inner = job.weights.inner, rows = job.row(tokens.batch);
    const WeightProduct out_proj{tokens.grad, dim, job.room.gated, inner, tokens.dout_proj, rows, dim, inner};
    const WeightProduct in_proj{job.room.dprojected, 2 * inner, tokens.normed, dim, tokens.din_proj, rows, 2 * inner, dim};
    return for_each(2, threads, 0, sum_direction, &job) && multiply_tokens(out_proj, threads) &&
           multiply_tokens(in_proj, threads);
}

static bool stream_backward(const BlockBackwardJob& job, int threads) {
    const BlockGradients& tokens = job.tokens;
    const int64_t dim = job.weights.dim, inner = job.weights.inner;
    const Product<float> in{job.room.dprojected, 2 * inner, job.packed.in_proj, nullptr, job.room.dnormed, dim,
                            job.row(tokens.batch), 2 * inner, dim, false};
    const auto rows_of = [&](const float* data) { return Tokens{const_cast<float*>(data), tokens.tokens * dim, dim}; };
    Norm norm{};
    norm.batch = tokens.batch, norm.tokens = tokens.tokens, norm.channels = dim, norm.eps = job.weights.eps;
    norm.stream = rows_of(tokens.stream), norm.weight = job.weights.norm_weight;
    norm.grad = rows_of(job.room.dnormed), norm.grad_stream = rows_of(tokens.grad_stream);
    norm.dstream = rows_of(tokens.dstream), norm.dweight = tokens.dnorm_weight;
    return multiply(in, threads) && norm_backward(norm, threads);
}

static bool block_backward(const BlockWeights& weights, const BlockGradients& tokens, int threads) {
    const bool is_even = tokens.batch % threads == 0 || tokens.batch >= 4 * threads;
    const int64_t workers = tokens.batch >= threads && is_even ? threads : 1;
    WeightsBackward packed{};
    BackwardRoom room{};
    const Buffer packed_memory(sizeof(float) * packed.lay_out(nullptr, weights));
    const Buffer room_memory(sizeof(float) * room.lay_out(nullptr, weights, tokens, workers));
    if (!packed_memory.data() || !room_memory.data()) return false;
    packed.lay_out(static_cast<float*>(packed_memory.data()), weights);
    room.lay_out(static_cast<float*>(room_memory.data()), weights, tokens, workers);
    packed.pack(weights);
    const BlockBackwardJob job{weights, packed, tokens, room};
    return images_backward(job, workers, threads) && weights_backward(job, threads) && stream_backward(job, threads);
}

}  // namespace rmeeto::RMEETO_ISA
