// Calls every entry point of the kernels' library once, on small fixed inputs, and prints the name of each call:
//
//     instruction_counts LIBRARY INSTRUCTION_SET
//
// tests/instruction_counts.py runs it under callgrind, which counts what each call executes. Sizes leave a remainder
// in every loop: 104 channels are six and a half vectors of 16, and 131 tokens are no multiple of any block.
#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>

#include "interface.h"

// What callgrind is told to count. It sees a function end at its return, which must not have become a jump.
extern "C" __attribute__((noinline)) void counted(const std::function<void()>& work) {
    work();
    asm volatile("");
}

namespace {

constexpr int64_t BATCH = 2, TOKENS = 131, CHANNELS = 104, STATES = 16, WIDTH = 4, FIXED = 1, REMOVED = 33;
constexpr int THREADS = 1;  // who takes which item would be up to chance

void* library;

template <class Problem, class... Operands>
void call(const char* function, const char* what, const Problem& problem, Operands... operands) {
    using Entry = int (*)(const Problem*, Operands..., int);
    const Entry entry = reinterpret_cast<Entry>(dlsym(library, function));
    int outcome = OUT_OF_MEMORY;
    if (entry) counted([&] { outcome = entry(&problem, operands..., THREADS); });
    if (outcome != DONE) {
        std::fprintf(stderr, "%s failed\n", function);
        std::exit(1);
    }
    std::printf("%s %s\n", function + std::strlen("rmeeto_"), what);
}

// The same numbers on every machine, in (-1, 1).
float draw() {
    static uint32_t seed = 1;
    seed = seed * 1664525u + 1013904223u;
    return static_cast<float>(seed >> 8) / 8388608.0f - 1.0f;
}

// Aligned, because copying takes other instructions elsewhere; never released.
template <class T>
T* room(int64_t count) {
    constexpr size_t ALIGNMENT = 64;
    return static_cast<T*>(std::aligned_alloc(ALIGNMENT, (count * sizeof(T) / ALIGNMENT + 1) * ALIGNMENT));
}

float* numbers(int64_t count, float scale = 1.0f, float shift = 0.0f) {
    float* const values = room<float>(count);
    for (int64_t i = 0; i < count; i++) values[i] = shift + scale * draw();
    return values;
}

Tokens tokens(int64_t length, int64_t channels) {
    return {numbers(BATCH * length * channels), length * channels, channels};
}

// The upper halves of the numbers above.
void* narrow_numbers(int64_t count) {
    uint16_t* const values = room<uint16_t>(count);
    const auto* wide = reinterpret_cast<const uint32_t*>(numbers(count));
    for (int64_t i = 0; i < count; i++) values[i] = static_cast<uint16_t>(wide[i] >> 16);
    return values;
}

Tokens narrow_tokens(int64_t length, int64_t channels) {
    return {narrow_numbers(BATCH * length * channels), length * channels, channels};
}

// One row of positions for each batch.
Tokens positions(int64_t count, int64_t first, int64_t step) {
    int64_t* const values = room<int64_t>(BATCH * count);
    for (int64_t i = 0; i < BATCH * count; i++) values[i] = first + step * (i % count);
    return {values, count, 1};
}

int64_t* places(int64_t count) { return static_cast<int64_t*>(positions(count, 0, 1).data); }

Scan forward_scan(Storage storage, bool reverse) {
    const auto make = storage == FLOAT32 ? tokens : narrow_tokens;
    Scan problem{};
    problem.batch = BATCH, problem.tokens = TOKENS, problem.channels = CHANNELS, problem.states = STATES;
    problem.storage = storage, problem.delta_softplus = true, problem.reverse = reverse;
    for (Tokens* x : {&problem.u, &problem.delta, &problem.gate, &problem.out}) *x = make(TOKENS, CHANNELS);
    for (Tokens* x : {&problem.B, &problem.C}) *x = make(TOKENS, STATES);
    problem.A = numbers(CHANNELS * STATES, 1.0f, -2.0f);
    problem.skip = numbers(CHANNELS), problem.delta_bias = numbers(CHANNELS);
    return problem;
}

void scan(Storage storage, bool reverse, const char* what) {
    const auto make = storage == FLOAT32 ? tokens : narrow_tokens;
    Scan problem = forward_scan(storage, reverse);
    call("rmeeto_selective_scan", what, problem);

    for (Tokens* x : {&problem.grad, &problem.du, &problem.ddelta, &problem.dgate}) *x = make(TOKENS, CHANNELS);
    for (Tokens* x : {&problem.dB, &problem.dC}) *x = make(TOKENS, STATES);
    problem.dA = numbers(CHANNELS * STATES);
    problem.dskip = numbers(CHANNELS), problem.ddelta_bias = numbers(CHANNELS);
    call("rmeeto_selective_scan_backward", what, problem);
}

// Both walks add up to one output, which the second one gates.
void scan_both(Storage storage, const char* what) {
    Scan walks[] = {forward_scan(storage, false), forward_scan(storage, true)};
    walks[0].gate = {};
    walks[0].out = walks[1].out;
    call("rmeeto_bidirectional_scan", what, walks);
}

void conv(Storage storage, bool reverse, const char* what) {
    const auto make = storage == FLOAT32 ? tokens : narrow_tokens;
    Conv problem{};
    problem.batch = BATCH, problem.tokens = TOKENS, problem.channels = CHANNELS, problem.width = WIDTH;
    problem.storage = storage, problem.silu = true, problem.reverse = reverse;
    for (Tokens* x : {&problem.x, &problem.out, &problem.grad, &problem.dx}) *x = make(TOKENS, CHANNELS);
    problem.weight = numbers(CHANNELS * WIDTH), problem.bias = numbers(CHANNELS);
    call("rmeeto_causal_conv", what, problem);

    problem.dweight = numbers(CHANNELS * WIDTH), problem.dbias = numbers(CHANNELS);
    call("rmeeto_causal_conv_backward", what, problem);
}

void norm(Storage storage, const char* what) {
    const auto make = storage == FLOAT32 ? tokens : narrow_tokens;
    Norm problem{};
    problem.batch = BATCH, problem.tokens = TOKENS, problem.channels = CHANNELS;
    problem.x_storage = storage, problem.out_storage = storage, problem.eps = 1e-5;
    for (Tokens* x : {&problem.x, &problem.out, &problem.grad}) *x = make(TOKENS, CHANNELS);
    for (Tokens* x : {&problem.residual, &problem.stream}) *x = tokens(TOKENS, CHANNELS);
    problem.weight = numbers(CHANNELS);
    call("rmeeto_add_norm", what, problem);

    for (Tokens* x : {&problem.grad_stream, &problem.dstream}) *x = tokens(TOKENS, CHANNELS);
    problem.dweight = numbers(CHANNELS);
    call("rmeeto_add_norm_backward", what, problem);
}

void nearest(Distance distance, int64_t reach, const char* what) {
    Nearest problem{};
    problem.batch = BATCH, problem.rows = TOKENS, problem.columns = TOKENS, problem.width = CHANNELS;
    problem.storage = FLOAT32, problem.distance = distance, problem.nth = 1, problem.reach = reach;
    problem.a = tokens(TOKENS, CHANNELS), problem.b = tokens(TOKENS, CHANNELS);
    problem.similarity = numbers(BATCH * TOKENS), problem.index = places(TOKENS);
    call("rmeeto_find_nearest", what, problem);
}

// Each row sees the 32 columns about its own.
void nearest_seen(const char* what) {
    constexpr int64_t SEEN = 32;
    Nearest problem{};
    problem.batch = BATCH, problem.rows = TOKENS, problem.columns = TOKENS, problem.width = CHANNELS;
    problem.storage = FLOAT32, problem.distance = COSINE, problem.nth = 1, problem.reach = TOKENS;
    problem.a = tokens(TOKENS, CHANNELS), problem.b = tokens(TOKENS, CHANNELS);
    problem.similarity = numbers(BATCH * TOKENS), problem.index = places(TOKENS);
    problem.low = positions(TOKENS, 0, 1), problem.high = positions(TOKENS, SEEN, 1);
    for (const Tokens& bound : {problem.low, problem.high})
        for (int64_t i = 0; i < BATCH * TOKENS; i++) static_cast<int64_t*>(bound.data)[i] -= i % TOKENS % SEEN;
    call("rmeeto_find_nearest", what, problem);
}

void pairs(const char* what) {
    constexpr int64_t TARGETS = (TOKENS - FIXED) / 2, CANDIDATES = TOKENS - FIXED - TARGETS;
    Pairs problem{};
    problem.batch = BATCH, problem.tokens = TOKENS, problem.protected_count = FIXED, problem.removed = REMOVED;
    problem.width = CHANNELS, problem.storage = FLOAT32, problem.distance = COSINE;
    problem.nth = 1, problem.reach = TOKENS;
    problem.features = tokens(TOKENS, CHANNELS), problem.protected_at = positions(FIXED, TOKENS / 2, 1);
    problem.source = places(REMOVED), problem.target = places(REMOVED);
    problem.ranked = places(CANDIDATES), problem.targets = places(TARGETS);
    call("rmeeto_closest_pairs", what, problem);
}

// Tokens 1, 3, 5 … 65 leave, and each is merged into one of the rows that stay.
void merge(const char* what) {
    constexpr int64_t LEFT = TOKENS - REMOVED;
    Merge problem{};
    problem.batch = BATCH, problem.tokens = TOKENS, problem.left = LEFT, problem.removed = REMOVED;
    problem.channels = CHANNELS, problem.storage = FLOAT32;
    problem.values = tokens(TOKENS, CHANNELS), problem.out = tokens(LEFT, CHANNELS);
    problem.kept = positions(LEFT, 0, 2);
    int64_t* const kept = static_cast<int64_t*>(problem.kept.data);
    for (int64_t i = 0; i < BATCH * LEFT; i++)
        if (i % LEFT > REMOVED) kept[i] = REMOVED + i % LEFT;
    problem.source = positions(REMOVED, 1, 2), problem.target = positions(REMOVED, 0, 2);
    problem.share = {numbers(BATCH * REMOVED, 0.0f, 0.5f), REMOVED, 1};
    call("rmeeto_merge_rows", what, problem);
    call("rmeeto_merge_rows_backward", what, problem);
}

// The same tokens leave.
void lay_out(const char* what) {
    Layout problem{};
    problem.batch = BATCH, problem.tokens = TOKENS, problem.removed = REMOVED;
    problem.source = positions(REMOVED, 1, 2), problem.target = positions(REMOVED, 0, 2);
    problem.kept = places(TOKENS - REMOVED), problem.place = places(TOKENS);
    call("rmeeto_lay_out", what, problem);
}

void reduce(Pairing pairing, const char* what) {
    constexpr int64_t LEFT = TOKENS - REMOVED;
    Merging problem{};
    problem.batch = BATCH, problem.tokens = TOKENS, problem.protected_count = FIXED, problem.removed = REMOVED;
    problem.width = CHANNELS, problem.channels = CHANNELS;
    problem.features_storage = FLOAT32, problem.storage = FLOAT32;
    problem.pairing = pairing, problem.guard = 2;
    problem.distance = COSINE, problem.nth = 1, problem.reach = TOKENS;
    problem.features = numbers(BATCH * TOKENS * CHANNELS), problem.x = numbers(BATCH * TOKENS * CHANNELS);
    problem.residual = numbers(BATCH * TOKENS * CHANNELS), problem.size = numbers(BATCH * TOKENS, 0.5f, 2.0f);
    problem.protected_at = static_cast<int64_t*>(positions(FIXED, TOKENS / 2, 1).data);
    problem.x_left = numbers(BATCH * LEFT * CHANNELS), problem.residual_left = numbers(BATCH * LEFT * CHANNELS);
    problem.size_left = numbers(BATCH * LEFT), problem.protected_left_at = places(FIXED);
    problem.kept = places(LEFT), problem.source = places(REMOVED);
    problem.place = places(TOKENS), problem.target = places(REMOVED);
    call("rmeeto_merge_closest", what, problem);
}

// ---- whole blocks

constexpr int64_t DIM = CHANNELS / 2, RANK = 6, CACHE = 1 << 22;

void* stored_as(int64_t storage, int64_t count) {
    return storage == BFLOAT16 ? static_cast<void*>(narrow_numbers(count)) : numbers(count);
}

BlockWeights weights_of_a_block(int64_t storage) {
    BlockWeights weights{};
    weights.storage = storage, weights.dim = DIM, weights.inner = CHANNELS, weights.states = STATES;
    weights.rank = RANK, weights.width = WIDTH, weights.eps = 1e-5, weights.scale = 1;
    weights.norm_weight = numbers(DIM);
    weights.in_proj = stored_as(storage, 2 * CHANNELS * DIM), weights.out_proj = stored_as(storage, DIM * CHANNELS);
    for (BlockDirection& side : weights.directions) {
        side.conv_weight = numbers(CHANNELS * WIDTH), side.conv_bias = numbers(CHANNELS);
        side.A = numbers(CHANNELS * STATES, 1.0f, -2.0f);
        side.skip = numbers(CHANNELS), side.delta_bias = numbers(CHANNELS);
        side.x_proj = stored_as(storage, (RANK + 2 * STATES) * CHANNELS);
        side.dt_proj = stored_as(storage, CHANNELS * RANK);
    }
    return weights;
}

BlockTokens tokens_of_a_block(int64_t storage) {
    constexpr int64_t ALL = BATCH * TOKENS;
    BlockTokens tokens{};
    tokens.batch = BATCH, tokens.tokens = TOKENS, tokens.group = BATCH, tokens.x_storage = storage;
    tokens.x = stored_as(storage, ALL * DIM), tokens.out = stored_as(storage, ALL * DIM);
    tokens.residual = numbers(ALL * DIM), tokens.stream = numbers(ALL * DIM);
    tokens.b_and_c = numbers(2 * ALL * 2 * STATES), tokens.dt = stored_as(storage, 2 * ALL * RANK);
    tokens.normed = stored_as(storage, ALL * DIM), tokens.projected = stored_as(storage, ALL * 2 * CHANNELS);
    tokens.u = stored_as(storage, 2 * ALL * CHANNELS);
    return tokens;
}

template <class Problem>
void run_block(const char* name, const BlockWeights& weights, const Problem& problem) {
    using Entry = int (*)(const BlockWeights*, const Problem*, int);
    const Entry run = reinterpret_cast<Entry>(dlsym(library, name));
    int outcome = OUT_OF_MEMORY;
    counted([&] { outcome = run(&weights, &problem, THREADS); });
    if (outcome != DONE) std::exit(1);
    std::printf("%s float32\n", name + std::strlen("rmeeto_"));
}

using PackBlock = void* (*)(const BlockWeights*);

// A frozen block; packing it does not count.
void block(int64_t storage, const char* what) {
    const BlockWeights weights = weights_of_a_block(storage);
    BlockTokens tokens = tokens_of_a_block(storage);
    const auto pack = reinterpret_cast<PackBlock>(dlsym(library, "rmeeto_block_pack"));
    const auto room = reinterpret_cast<int64_t (*)(void*, BlockTokens*, int64_t, int)>(dlsym(library, "rmeeto_block_workspace"));
    const auto run =
        reinterpret_cast<int (*)(void*, BlockTokens*, int64_t, void*, int)>(dlsym(library, "rmeeto_block_run"));
    void* const packed = pack(&weights);
    void* const memory = std::aligned_alloc(64, (size_t)room(packed, &tokens, CACHE, THREADS));
    bool is_done = false;
    counted([&] { is_done = run(packed, &tokens, CACHE, memory, THREADS); });
    if (!is_done) std::exit(1);
    std::printf("block_run %s\n", what);
}

// A step of training: packing counts.
void training() {
    const BlockWeights weights = weights_of_a_block(FLOAT32);
    BlockTokens tokens = tokens_of_a_block(FLOAT32);
    tokens.walked = numbers(BATCH * TOKENS * CHANNELS);
    run_block("rmeeto_mamba_block", weights, tokens);

    constexpr int64_t ALL = BATCH * TOKENS;
    const auto kept = [](void* data) { return static_cast<const float*>(data); };
    BlockGradients gradients{};
    gradients.batch = BATCH, gradients.tokens = TOKENS;
    gradients.stream = tokens.stream, gradients.b_and_c = tokens.b_and_c, gradients.dt = kept(tokens.dt);
    gradients.normed = kept(tokens.normed), gradients.projected = kept(tokens.projected);
    gradients.walked = tokens.walked;
    gradients.grad = numbers(ALL * DIM), gradients.grad_stream = numbers(ALL * DIM);
    gradients.dstream = numbers(ALL * DIM), gradients.dnorm_weight = numbers(DIM);
    gradients.din_proj = numbers(2 * CHANNELS * DIM), gradients.dout_proj = numbers(DIM * CHANNELS);
    for (auto& side : gradients.directions) {
        side.conv_weight = numbers(CHANNELS * WIDTH), side.conv_bias = numbers(CHANNELS);
        side.A = numbers(CHANNELS * STATES), side.skip = numbers(CHANNELS), side.delta_bias = numbers(CHANNELS);
        side.x_proj = numbers((RANK + 2 * STATES) * CHANNELS), side.dt_proj = numbers(CHANNELS * RANK);
    }
    run_block("rmeeto_mamba_block_backward", weights, gradients);
}

// Embedding and classifier, likewise; 3 channels in patches of 5 x 6, of which 130 are an image.
constexpr int64_t DEPTH = 3 * 5 * 6, CLASSES = 70;

void* packed_linear(int64_t storage, int64_t columns, int64_t depth) {
    using Pack = void* (*)(const void*, int64_t, int64_t, int64_t);
    const Pack pack = reinterpret_cast<Pack>(dlsym(library, "rmeeto_linear_pack"));
    return pack(stored_as(storage, columns * depth), storage, columns, depth);
}

Embedding images_to_embed(int64_t dim) {
    Embedding embedding{};
    embedding.batch = BATCH, embedding.channels = 3, embedding.frames = 1, embedding.height = 50, embedding.width = 78;
    embedding.tubelet = 1, embedding.high = 5, embedding.wide = 6, embedding.tokens = TOKENS;
    int64_t* const patch_at = room<int64_t>(TOKENS);
    for (int64_t i = 0; i < TOKENS; i++) patch_at[i] = i - 1;
    embedding.images = numbers(BATCH * 3 * 50 * 78), embedding.patch_at = patch_at;
    embedding.table = numbers(TOKENS * dim);
    return embedding;
}

Classification logits_to_find(int64_t storage, int64_t dim) {
    Classification classification{};
    classification.eps = 1e-5, classification.norm_weight = numbers(dim);
    classification.bias = numbers(CLASSES), classification.out = stored_as(storage, BATCH * CLASSES);
    return classification;
}

void embedding_and_classifier(int64_t storage, const char* what) {
    constexpr int64_t ALL = BATCH * TOKENS;
    const auto run = [&](const char* name, const void* linear, const auto& problem) {
        const auto entry = reinterpret_cast<int (*)(const void*, const void*, int)>(dlsym(library, name));
        int outcome = 0;
        counted([&] { outcome = entry(linear, &problem, THREADS); });
        if (outcome != DONE) std::exit(1);
        std::printf("%s %s\n", name + std::strlen("rmeeto_"), what);
    };
    Embedding embedding = images_to_embed(CHANNELS);
    embedding.out = numbers(ALL * CHANNELS);
    run("rmeeto_embed", packed_linear(storage, CHANNELS, DEPTH), embedding);

    Classification classification = logits_to_find(storage, CHANNELS);
    classification.batch = BATCH, classification.tokens = TOKENS, classification.x_storage = storage;
    classification.x = stored_as(storage, ALL * CHANNELS), classification.residual = numbers(ALL * CHANNELS);
    classification.token_at = positions(1, TOKENS / 2, 1);
    run("rmeeto_classify", packed_linear(storage, CLASSES, CHANNELS), classification);
}

// Both around three blocks, and a reduction before the second.
void network(int64_t storage, const char* what) {
    static constexpr int64_t BLOCKS = 3, removed[BLOCKS] = {0, REMOVED, 0}, protected_at[FIXED] = {TOKENS / 2};
    const auto pack = reinterpret_cast<PackBlock>(dlsym(library, "rmeeto_block_pack"));
    const BlockWeights weights = weights_of_a_block(storage);
    void* blocks[BLOCKS];
    for (void*& packed : blocks) packed = pack(&weights);
    Network problem{};
    problem.depth = BLOCKS, problem.dim = DIM, problem.protected_count = FIXED, problem.storage = storage;
    problem.distance = COSINE, problem.nth = 1, problem.reach = TOKENS, problem.cache = CACHE;
    problem.embedder = packed_linear(storage, DIM, DEPTH), problem.classifier = packed_linear(storage, CLASSES, DIM);
    problem.blocks = blocks, problem.removed = removed, problem.protected_at = protected_at;
    problem.embedding = images_to_embed(DIM), problem.classification = logits_to_find(storage, DIM);
    call("rmeeto_network", what, problem);
}

}  // namespace

int main(int, char** arguments) {
    library = dlopen(arguments[1], RTLD_NOW);
    if (!library) {
        std::fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    const auto use = reinterpret_cast<bool (*)(const char*)>(dlsym(library, "rmeeto_use_instruction_set"));
    if (!use(arguments[2])) {
        std::fprintf(stderr, "no %s here\n", arguments[2]);
        return 1;
    }
    scan(FLOAT32, false, "float32");
    scan(FLOAT32, true, "float32 reverse");
    scan(BFLOAT16, false, "bfloat16");
    scan_both(FLOAT32, "float32");
    conv(FLOAT32, false, "float32");
    conv(BFLOAT16, true, "bfloat16 reverse");
    norm(FLOAT32, "float32");
    norm(BFLOAT16, "bfloat16");
    nearest(COSINE, TOKENS, "cosine");
    nearest(L1, TOKENS, "l1");
    nearest(L2, 4, "l2 reach=4");
    nearest_seen("cosine seen");
    pairs("cosine");
    merge("float32");
    lay_out("positions");
    reduce(WITHIN_REACH, "float32");
    reduce(BESIDE, "neighbours");
    block(FLOAT32, "float32");
    block(BFLOAT16, "bfloat16");
    training();
    embedding_and_classifier(FLOAT32, "float32");
    embedding_and_classifier(BFLOAT16, "bfloat16");
    network(FLOAT32, "float32");
    network(BFLOAT16, "bfloat16");
    return 0;
}
