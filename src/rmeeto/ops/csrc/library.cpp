// The entry points: pick the best kernels this processor can run, and call them.
#include <cstring>

#include "kernels.h"
#include "network.h"
#include "merging.h"
#include "watch.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

// A library for others than Python keeps them to itself, and shows what native/rmeeto.h declares.
#if defined(RMEETO_HIDES_KERNELS)
#define EXPORT extern "C"
#define RMEETO_SOURCES ""
#else
#define EXPORT extern "C" __attribute__((visibility("default")))
#endif

namespace rmeeto {

// Those that this library was built with.
#define DECLARE(name)             \
    namespace name {              \
    extern const Kernels kernels; \
    }
#if defined(RMEETO_HAS_AVX512_BF16)
DECLARE(avx512_bf16)
#endif
#if defined(RMEETO_HAS_AVX512)
DECLARE(avx512)
#endif
#if defined(RMEETO_HAS_AVX2)
DECLARE(avx2)
#endif
DECLARE(portable)

namespace {

#if defined(RMEETO_HAS_AVX512)
bool has_avx512() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

bool can_run(const Kernels& kernels) {
#if defined(__x86_64__)
    __builtin_cpu_init();
#endif
#if defined(RMEETO_HAS_AVX512_BF16)
    if (&kernels == &avx512_bf16::kernels) return has_avx512() && __builtin_cpu_supports("avx512bf16");
#endif
#if defined(RMEETO_HAS_AVX512)
    if (&kernels == &avx512::kernels) return has_avx512();
#endif
#if defined(RMEETO_HAS_AVX2)
    if (&kernels == &avx2::kernels) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    return &kernels == &portable::kernels;
}

// The best one first.
const Kernels* const ALL[] = {
#if defined(RMEETO_HAS_AVX512_BF16)
    &avx512_bf16::kernels,
#endif
#if defined(RMEETO_HAS_AVX512)
    &avx512::kernels,
#endif
#if defined(RMEETO_HAS_AVX2)
    &avx2::kernels,
#endif
    &portable::kernels,
};

const Kernels* find(const char* name) {
    for (const Kernels* kernels : ALL)
        if (can_run(*kernels) && (!name || !std::strcmp(name, kernels->name))) return kernels;
    return nullptr;
}

const Kernels*& chosen() {
    static const Kernels* kernels = find(nullptr);
    return kernels;
}

}  // namespace
}  // namespace rmeeto

using rmeeto::chosen;

// Fingerprint of the sources that this library was built from: rmeeto/ops/impl/cpp/sources.py.
EXPORT const char* rmeeto_sources() { return RMEETO_SOURCES; }

EXPORT const char* rmeeto_instruction_set() { return chosen()->name; }

// Null for the best one. Returns false, and changes nothing, if this processor cannot run it.
EXPORT bool rmeeto_use_instruction_set(const char* name) {
    const rmeeto::Kernels* const kernels = rmeeto::find(name);
    if (kernels) chosen() = kernels;
    return kernels != nullptr;
}

// Each of these returns an Outcome; those that read no positions are never OUTSIDE.
EXPORT int rmeeto_selective_scan(const Scan* scan, int threads) { return chosen()->selective_scan(scan, 1, threads); }
EXPORT int rmeeto_bidirectional_scan(const Scan* walks, int threads) {
    return chosen()->selective_scan(walks, 2, threads);
}
EXPORT int rmeeto_selective_scan_backward(const Scan* scan, int threads) {
    return chosen()->selective_scan_backward(*scan, threads);
}
EXPORT int rmeeto_causal_conv(const Conv* conv, int threads) { return chosen()->causal_conv(*conv, threads); }
EXPORT int rmeeto_causal_conv_backward(const Conv* conv, int threads) {
    return chosen()->causal_conv_backward(*conv, threads);
}
EXPORT int rmeeto_add_norm(const Norm* norm, int threads) { return chosen()->add_norm(*norm, threads); }
EXPORT int rmeeto_add_norm_backward(const Norm* norm, int threads) {
    return chosen()->add_norm_backward(*norm, threads);
}
EXPORT int rmeeto_find_nearest(const Nearest* problem, int threads) {
    return chosen()->find_nearest(*problem, threads);
}
EXPORT int rmeeto_merge_rows(const Merge* problem, int threads) { return chosen()->merge_rows(*problem, threads); }
EXPORT int rmeeto_merge_rows_backward(const Merge* problem, int threads) {
    return chosen()->merge_rows_backward(*problem, threads);
}
EXPORT int rmeeto_lay_out(const Layout* layout, int threads) { return chosen()->lay_out(*layout, threads); }
EXPORT int rmeeto_closest_pairs(const Pairs* problem, int threads) {
    return chosen()->closest_pairs(*problem, threads);
}
EXPORT int rmeeto_merge_closest(const Merging* merging, int threads) {
    return rmeeto::merge_closest(*chosen(), *merging, threads);
}

EXPORT int rmeeto_mamba_block(const BlockWeights* weights, const BlockTokens* tokens, int threads) {
    return chosen()->mamba_block(*weights, *tokens, threads);
}
EXPORT int rmeeto_mamba_block_backward(const BlockWeights* weights, const BlockGradients* tokens, int threads) {
    return chosen()->mamba_block_backward(*weights, *tokens, threads);
}

// Whether this processor multiplies bfloat16 in whole tiles (AMX), as other libraries do and these kernels do not.
EXPORT bool rmeeto_has_matrix_registers() {
#if defined(__x86_64__)
    unsigned eax, ebx, ecx, edx;
    constexpr unsigned AMX_BF16 = 1u << 22;
    return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (edx & AMX_BF16);
#else
    return false;
#endif
}

// Frozen blocks: each with the kernels that packed it.
using rmeeto::FrozenBlock;

// Null if memory ran out. What the pointers point to is copied.
EXPORT FrozenBlock* rmeeto_block_pack(const BlockWeights* weights) {
    const rmeeto::BlockKernels& kernels = chosen()->blocks[weights->storage];
    void* const packed = kernels.pack(*weights);
    return packed ? new FrozenBlock{kernels, packed} : nullptr;
}

// Bytes of the workspace that a call needs.
EXPORT int64_t rmeeto_block_workspace(const FrozenBlock* block, BlockTokens* tokens, int64_t cache, int threads) {
    return (int64_t)block->kernels.assign(block->packed, *tokens, cache, threads, nullptr);
}

EXPORT int rmeeto_block_run(const FrozenBlock* block, BlockTokens* tokens, int64_t cache, void* workspace,
                            int threads) {
    block->kernels.assign(block->packed, *tokens, cache, threads, workspace);
    return block->kernels.run(block->packed, *tokens, threads);
}

EXPORT void rmeeto_block_release(FrozenBlock* block) {
    block->kernels.release(block->packed);
    delete block;
}

// Weights of embedding and classifier, likewise.
using rmeeto::FrozenLinear;

EXPORT FrozenLinear* rmeeto_linear_pack(const void* weight, int64_t storage, int64_t columns, int64_t depth) {
    const rmeeto::LinearKernels& kernels = chosen()->linears[storage];
    void* const packed = kernels.pack(weight, columns, depth);
    return packed ? new FrozenLinear{kernels, packed} : nullptr;
}

EXPORT int rmeeto_embed(const FrozenLinear* linear, const Embedding* embedding, int threads) {
    return linear->kernels.embed(linear->packed, *embedding, threads);
}

EXPORT int rmeeto_classify(const FrozenLinear* linear, const Classification* classification, int threads) {
    return linear->kernels.classify(linear->packed, *classification, threads);
}

EXPORT void rmeeto_linear_release(FrozenLinear* linear) {
    linear->kernels.release(linear->packed);
    delete linear;
}

EXPORT int rmeeto_network(const Network* network, int threads) {
    return rmeeto::run_network(*chosen(), *network, threads);
}

// Both while Python's lock is held. Objects may be null: they count as the same.
EXPORT void rmeeto_sample(const WatchedTensors* tensors) { rmeeto::sample(*tensors); }

EXPORT int rmeeto_compare(const WatchedObjects* objects, const WatchedTensors* tensors, int threads) {
    return rmeeto::compare(objects, *tensors, threads);
}
