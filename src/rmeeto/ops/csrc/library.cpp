// The entry points: pick the best kernels this processor can run, and call them.
#include <cstring>

#include "block.h"
#include "kernels.h"
#include "reduction.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace rmeeto {

#if defined(__x86_64__)
namespace avx512 {
extern const Kernels kernels;
}
namespace avx2 {
extern const Kernels kernels;
}
#endif
namespace portable {
extern const Kernels kernels;
}

namespace {

bool can_run(const Kernels& kernels) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (&kernels == &avx512::kernels)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (&kernels == &avx2::kernels) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    return &kernels == &portable::kernels;
}

// The best one first.
const Kernels* const ALL[] = {
#if defined(__x86_64__)
    &avx512::kernels,
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

EXPORT int rmeeto_interface_version() { return INTERFACE_VERSION; }

EXPORT const char* rmeeto_instruction_set() { return chosen()->name; }

// Null for the best one. Returns false, and changes nothing, if this processor cannot run it.
EXPORT bool rmeeto_use_instruction_set(const char* name) {
    const rmeeto::Kernels* const kernels = rmeeto::find(name);
    if (kernels) chosen() = kernels;
    return kernels != nullptr;
}

EXPORT bool rmeeto_scan_forward(const Scan* scan, int threads) { return chosen()->scan_forward(scan, 1, threads); }
EXPORT bool rmeeto_scan_both(const Scan* walks, int threads) { return chosen()->scan_forward(walks, 2, threads); }
EXPORT bool rmeeto_scan_backward(const Scan* scan, int threads) { return chosen()->scan_backward(*scan, threads); }
EXPORT bool rmeeto_conv_forward(const Conv* conv, int threads) { return chosen()->conv_forward(conv, 1, threads); }
EXPORT bool rmeeto_conv_backward(const Conv* conv, int threads) { return chosen()->conv_backward(*conv, threads); }
EXPORT bool rmeeto_norm_forward(const Norm* norm, int threads) { return chosen()->norm_forward(*norm, threads); }
EXPORT bool rmeeto_norm_backward(const Norm* norm, int threads) { return chosen()->norm_backward(*norm, threads); }
EXPORT bool rmeeto_nearest(const Nearest* problem, int threads) { return chosen()->nearest(*problem, threads); }
EXPORT int rmeeto_merge(const Merge* problem, int threads) { return chosen()->merge(*problem, threads); }
EXPORT int rmeeto_merge_backward(const Merge* problem, int threads) { return chosen()->merge_backward(*problem, threads); }
EXPORT int rmeeto_lay_out(const Layout* layout, int threads) { return chosen()->lay_out(*layout, threads); }
EXPORT int rmeeto_pairs(const Pairs* problem, int threads) { return chosen()->pairs(*problem, threads); }
EXPORT int rmeeto_reduce(const Reduction* reduction, int threads) {
    return rmeeto::reduce(*chosen(), *reduction, threads);
}

// Blocks that are frozen.

EXPORT bool rmeeto_block_norm(const FrozenBlock* block, int64_t batch, int64_t tokens, void* x, int64_t x_storage,
                              float* residual, float* stream, void* normed, int threads) {
    return chosen()->norm_forward(
        rmeeto::norm_of(*block, batch, tokens, x, x_storage, residual, stream, normed), threads);
}

EXPORT bool rmeeto_block_conv(const FrozenBlock* block, int64_t batch, int64_t tokens, void* projected, void* u,
                              int threads) {
    const Conv walks[] = {rmeeto::conv_of(*block, batch, tokens, projected, u, 0),
                          rmeeto::conv_of(*block, batch, tokens, projected, u, 1)};
    return chosen()->conv_forward(walks, 2, threads);
}

EXPORT bool rmeeto_block_scan(const FrozenBlock* block, int64_t batch, int64_t tokens, void* projected, void* u,
                              void* delta, void* mixed, void* out, int threads) {
    const Scan walks[] = {rmeeto::scan_of(*block, batch, tokens, projected, u, delta, mixed, out, 0),
                          rmeeto::scan_of(*block, batch, tokens, projected, u, delta, mixed, out, 1)};
    return chosen()->scan_forward(walks, 2, threads);
}
