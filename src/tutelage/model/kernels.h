/* What the kernels share. */
#ifndef TUTELAGE_KERNELS_H
#define TUTELAGE_KERNELS_H
#if defined(__AVX512BF16__) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC target("prefer-vector-width=512") /* older processors slow down for wide vectors */
#endif
#include <math.h>
#include <stdint.h>
#include <string.h>

typedef int64_t i64;
typedef uint16_t bf16; /* the upper half of a float32 */

static inline float from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t to_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float from_bf16(bf16 x) { return from_bits((uint32_t)x << 16); }

/* To the nearest, halves to even; NaN stays NaN. */
static inline bf16 to_bf16(float x) {
    const uint32_t bits = to_bits(x);
    const uint32_t rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
    return (bf16)((x != x ? bits | 0x400000u : rounded) >> 16);
}

/* e^x = 2^n e^r with |r| <= ln(2)/2 and a minimax polynomial for e^r: relative error below 2e-7.
 * 0 below -87.3 (where float32 has no normal numbers), infinite above 88.3, NaN for NaN. */
static inline float exp_f32(float x) {
    const float round_to_integer = 12582912.0f; /* 1.5 * 2^23: adding it leaves the integer in the lowest bits */
    float bounded = x < -87.3f ? -87.3f : x;
    bounded = bounded > 88.3f ? 88.3f : bounded;
    const float shifted = bounded * 1.44269504f + round_to_integer;
    const float n = shifted - round_to_integer;
    float r = bounded - n * 0.693359375f; /* ln(2) in two parts, the first exact in few bits */
    r = r + n * 2.12194440e-4f;
    float p = 0.00138116628f;
    p = p * r + 0.00837013498f;
    p = p * r + 0.0416685268f;
    p = p * r + 0.166665092f;
    p = p * r + 0.49999994f;
    p = p * (r * r) + r + 1.0f;
    const float power = p * from_bits((to_bits(shifted) + 127u) << 23);
    const float finite = x > 88.3f ? INFINITY : power;
    return x < -87.3f ? 0.0f : finite;
}

#endif
