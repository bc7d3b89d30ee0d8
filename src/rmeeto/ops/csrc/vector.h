// One vector of float32 lanes, as wide as the instruction set this file is compiled for, and the few functions on it
// that the kernels need. Arithmetic is the compilers' vector extension (GCC, Clang); intrinsics stand only where the
// extension has no word for an instruction.
//
// Everything is in a namespace per instruction set and nothing comes from the standard library's templates: the
// linker merges equal inline functions of different object files, and would otherwise be free to give the portable
// code a copy that was compiled for AVX-512.
#pragma once

#include <cstdint>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))
#define INLINE_MEMBER inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

namespace rmeeto::RMEETO_ISA {

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX2__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;  // SSE2 on x86-64, NEON on ARM
#endif

typedef float Vec __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef uint32_t Bits __attribute__((vector_size(4 * LANES)));
typedef uint16_t Halves __attribute__((vector_size(2 * LANES)));

// 0 ... LANES - 1 as template arguments.
template <int... I>
struct Index {};
#if defined(__AVX512F__)
using Lanes = Index<0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15>;
#elif defined(__AVX2__)
using Lanes = Index<0, 1, 2, 3, 4, 5, 6, 7>;
#else
using Lanes = Index<0, 1, 2, 3>;
#endif

INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
INLINE Vec splat(float x) { return Vec{} + x; }
INLINE float total(Vec x) {
    float sum = 0;
    for (int i = 0; i < LANES; i++) sum += x[i];
    return sum;
}

// ---- selecting and clamping: a NaN in x comes out as that NaN

INLINE Vec at_least(Vec x, Vec low) {
#if defined(__AVX512F__)
    return (Vec)_mm512_max_ps((__m512)low, (__m512)x);
#elif defined(__AVX2__)
    return (Vec)_mm256_max_ps((__m256)low, (__m256)x);
#else
    return x < low ? low : x;
#endif
}

INLINE Vec at_most(Vec x, Vec high) {
#if defined(__AVX512F__)
    return (Vec)_mm512_min_ps((__m512)high, (__m512)x);
#elif defined(__AVX2__)
    return (Vec)_mm256_min_ps((__m256)high, (__m256)x);
#else
    return x > high ? high : x;
#endif
}

INLINE Vec absolute(Vec x) { return (Vec)((Bits)x & 0x7fffffffu); }

// ---- memory: float32 and bfloat16 storage, the last `count` < LANES channels of an odd width included

INLINE Vec load(const float* from, int count) {
    Vec x{};
    if (count == LANES)
        __builtin_memcpy(&x, from, sizeof x);
    else
        for (int i = 0; i < count; i++) x[i] = from[i];
    return x;
}

INLINE void store(float* to, Vec x, int count) {
    if (count == LANES)
        __builtin_memcpy(to, &x, sizeof x);
    else
        for (int i = 0; i < count; i++) to[i] = x[i];
}

struct bfloat16 {
    uint16_t bits;
};

INLINE Vec load(const bfloat16* from, int count) {
    Halves x{};
    if (count == LANES)
        __builtin_memcpy(&x, from, sizeof x);
    else
        for (int i = 0; i < count; i++) x[i] = from[i].bits;
    return (Vec)(__builtin_convertvector(x, Bits) << 16);
}

INLINE void store(bfloat16* to, Vec x, int count) {
    const Bits bits = (Bits)x;
    const Bits rounded = bits + 0x7fffu + ((bits >> 16) & 1u);  // to nearest, ties to even
    const Bits quiet = bits | 0x400000u;                        // rounding could carry a NaN into infinity
    const Halves halves = __builtin_convertvector((x == x ? rounded : quiet) >> 16, Halves);
    if (count == LANES)
        __builtin_memcpy(to, &halves, sizeof halves);
    else
        for (int i = 0; i < count; i++) to[i].bits = halves[i];
}

// ---- 2^x

// 2^x = 2^(r/16) * 2^f with r = round(16 x) and |f| <= 1/32, so that a cubic reaches float32's own error. The sixteen
// powers 2^(j/16) are one register; j is the low four bits of r, and the rest of r is added to the exponent (the
// table has j << 19 taken off, because r << 19 brings it along). Eight lanes hold eight powers and need a quartic.
// Without a fast permutation: a polynomial of degree six on |f| <= 1/2. All are minimax in the relative error, which
// stays below 2e-9 before rounding: systematic errors would add up along the tokens.
//
// x must be within [LOWEST, HIGHEST] or NaN, which comes out as NaN.

constexpr float LOWEST = -126.0f, HIGHEST = 127.4f;  // rounded up to 128, it would be infinite

#if defined(__AVX2__)
constexpr int STEPS_LOG2 = LANES == 16 ? 4 : 3;
constexpr int EXPONENT_SHIFT = 23 - STEPS_LOG2;

// 2^(j/16) as float32.
constexpr uint32_t ROOTS[16] = {
    0x3f800000, 0x3f85aac3, 0x3f8b95c2, 0x3f91c3d3, 0x3f9837f0, 0x3f9ef532, 0x3fa5fed7, 0x3fad583f,
    0x3fb504f3, 0x3fbd08a4, 0x3fc5672a, 0x3fce248c, 0x3fd744fd, 0x3fe0ccdf, 0x3feac0c7, 0x3ff5257d,
};

struct Powers {
    alignas(4 * LANES) uint32_t bits[LANES];
    constexpr Powers() : bits() {
        for (int j = 0; j < LANES; j++) bits[j] = ROOTS[j * (16 / LANES)] - ((uint32_t)j << EXPONENT_SHIFT);
    }
};
constexpr Powers POWERS;

INLINE Bits step_powers() {
    Bits table;
    __builtin_memcpy(&table, POWERS.bits, sizeof table);
    return table;
}

INLINE Bits permute(Bits table, Bits index) {
#if defined(__AVX512F__)
    return (Bits)_mm512_permutexvar_epi32((__m512i)index, (__m512i)table);
#else
    return (Bits)_mm256_permutevar8x32_epi32((__m256i)table, (__m256i)index);
#endif
}

INLINE Vec exp2_rounded(Vec rounding, Vec f) {
    const Bits r = (Bits)rounding;
    const Vec power = (Vec)(permute(step_powers(), r) + (r << EXPONENT_SHIFT));
#if defined(__AVX512F__)
    const Vec slope = 0.6931471826666531f + f * (0.24023428804693714f + f * 0.05550213649463178f);
#else
    const Vec slope =
        0.6931471742815225f +
        f * (0.2402265102763841f + f * (0.055510595164773344f + f * 0.009617653402221477f));
#endif
    return power + (power * f) * slope;
}
#else
constexpr int STEPS_LOG2 = 0;

INLINE Vec exp2_rounded(Vec rounding, Vec f) {
    const Vec power = (Vec)(((Bits)rounding << 23) + 0x3f800000u);
    const Vec series =
        0.6931472028552129f +
        f * (0.2402264791361567f +
             f * (0.0555033247078194f +
                  f * (0.009618437358230607f + f * (0.0013398874557728388f + f * 0.00015353362065176042f))));
    return power + (power * f) * series;
}
#endif

// Adding this leaves round(x * 2^STEPS_LOG2) in the low bits of the sum.
constexpr float ROUND = 12582912.0f / (1 << STEPS_LOG2);

INLINE Vec exp2(Vec x) {
    const Vec rounding = x + ROUND;
    return exp2_rounded(rounding, x - (rounding - ROUND));
}

// e^x for any x. The multiple of log(2) is taken off in two parts (Cody and Waite), the first exact, so that the
// relative error does not grow with |x|, with and without fused multiply-add.
INLINE Vec exp(Vec x) {
    constexpr float LOG2E = 1.44269504f, LN2_HIGH = 0.693359375f, LN2_LOW = -2.12194440e-4f;
    x = at_most(at_least(x, splat(LOWEST / 1.4427f)), splat(HIGHEST / 1.4427f));
    const Vec rounding = x * LOG2E + ROUND, r = rounding - ROUND;
    return exp2_rounded(rounding, ((x - r * LN2_HIGH) - r * LN2_LOW) * LOG2E);
}

// ---- what follows from it

// log(1 + z) for 0 <= z <= 1: 2 atanh(z / (2 + z)) as an odd polynomial, so that tiny z keep all their bits.
INLINE Vec log1p(Vec z) {
    const Vec s = z / (2.0f + z), q = s * s;
    const Vec series =
        q * (0.3333320812620506f +
             q * (0.2001076471784176f + q * (0.14000882612350757f + q * 0.14006101226464449f)));
    return 2.0f * (s + s * series);
}

// softplus(x), and its slope, the logistic function of x. No threshold: above 20 the logarithm adds nothing.
INLINE Vec softplus(Vec x, Vec& slope) {
    const Vec z = exp(-absolute(x)), share = 1.0f / (1.0f + z);
    slope = x < 0.0f ? z * share : share;
    return at_least(x, splat(0.0f)) + log1p(z);
}

INLINE Vec softplus(Vec x) { return at_least(x, splat(0.0f)) + log1p(exp(-absolute(x))); }

INLINE Vec sigmoid(Vec x) { return 1.0f / (1.0f + exp(-x)); }

INLINE Vec silu(Vec x) { return x * sigmoid(x); }

// silu(x), and its slope.
INLINE Vec silu(Vec x, Vec& slope) {
    const Vec share = sigmoid(x);
    slope = share * (1.0f + x * (1.0f - share));
    return x * share;
}

// ---- sums over lanes

INLINE bool all(Ints truth) {
    int32_t every = -1;
    for (int i = 0; i < LANES; i++) every &= truth[i];
    return every != 0;
}

// Both hold partial sums; in the result, lanes with bit HALF clear go on with a's, the others with b's. Merging the
// vectors of a tree with HALF = 1, 2, 4, ... leaves in lane i the sum over vector i: three instructions a merge.
template <int HALF, int... I>
INLINE Vec merge(Vec a, Vec b, Index<I...>) {
#if defined(__clang__)
    return __builtin_shufflevector(a, b, ((I & HALF) ? I + LANES : I)...) +
           __builtin_shufflevector(a, b, ((I & HALF) ? (I ^ HALF) + LANES : I ^ HALF)...);
#else
    return __builtin_shuffle(a, b, Ints{((I & HALF) ? I + LANES : I)...}) +
           __builtin_shuffle(a, b, Ints{((I & HALF) ? (I ^ HALF) + LANES : I ^ HALF)...});
#endif
}

// ---- transposing LANES vectors

// Swap the upper half of each run of 2 * HALF lanes of a with the lower half of b's.
template <int HALF, int... I>
INLINE void exchange(Vec& a, Vec& b, Index<I...>) {
    const Vec x = a, y = b;
#if defined(__clang__)
    a = __builtin_shufflevector(x, y, ((I & HALF) ? (I ^ HALF) + LANES : I)...);
    b = __builtin_shufflevector(x, y, ((I & HALF) ? I + LANES : I ^ HALF)...);
#else
    a = __builtin_shuffle(x, y, Ints{((I & HALF) ? (I ^ HALF) + LANES : I)...});
    b = __builtin_shuffle(x, y, Ints{((I & HALF) ? I + LANES : I ^ HALF)...});
#endif
}

template <int HALF = 1>
INLINE void transpose(Vec* square) {
    if constexpr (HALF < LANES) {
        for (int i = 0; i < LANES; i++)
            if (!(i & HALF)) exchange<HALF>(square[i], square[i + HALF], Lanes{});
        transpose<2 * HALF>(square);
    }
}

}  // namespace rmeeto::RMEETO_ISA
