/* Attention of one query over a sequence's keys and values in the cache, in float32 or in bfloat16.
 *
 * What limits it is memory: while keys are used the values are called from it, while values are used the next keys.
 */
#ifndef TUTELAGE_ATTEND_H
#define TUTELAGE_ATTEND_H
#include "amx.h"

typedef float v8 __attribute__((vector_size(32), aligned(4), may_alias));

typedef struct {
    void *keys, *values; /* float or bf16 [layers, slots, kv_heads, capacity, head_dim] */
    i64 slots, capacity;
} Cache;

static inline void call(const void *from, i64 bytes) {
    for (i64 line = 0; line < bytes; line += 64) __builtin_prefetch((const char *)from + line, 0, 3);
}

/* Neighbours added: {a0+a1, a2+a3, b0+b1, b2+b3, a4+a5, a6+a7, b4+b5, b6+b7}. */
static inline v8 add_neighbours(v8 a, v8 b) {
    return __builtin_shufflevector(a, b, 0, 2, 8, 10, 4, 6, 12, 14) +
           __builtin_shufflevector(a, b, 1, 3, 9, 11, 5, 7, 13, 15);
}

/* The sum of each of eight vectors. */
static inline v8 sums_of(const v8 sum[8]) {
    const v8 low = add_neighbours(add_neighbours(sum[0], sum[1]), add_neighbours(sum[2], sum[3]));
    const v8 high = add_neighbours(add_neighbours(sum[4], sum[5]), add_neighbours(sum[6], sum[7]));
    return __builtin_shufflevector(low, high, 0, 1, 2, 3, 8, 9, 10, 11) +
           __builtin_shufflevector(low, high, 4, 5, 6, 7, 12, 13, 14, 15);
}

/* The dot products of q with 8 keys, of which those from `count` on are copies of the last. width: a multiple of 8. */
static inline v8 dots_f32(const float *q, const float *keys, i64 count, i64 width, const float *ahead) {
    const float *key[8];
    v8 sum[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        key[i] = keys + (i < count ? i : count - 1) * width;
        sum[i] = (v8){0};
    }
    for (i64 j = 0; j < width; j += 8) {
        const v8 part = *(const v8 *)(q + j);
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) sum[i] += part * *(const v8 *)(key[i] + j);
        call(ahead + 8 * j, 256);
    }
    return sums_of(sum);
}

/* out [8 * vectors] = sum of values, weighted. */
static inline __attribute__((always_inline)) void part_f32(const int vectors, const float *values, const float *weights,
                                                           i64 length, i64 width, float share, float *out,
                                                           const float *ahead) {
    v8 sum[8];
#pragma GCC unroll 8
    for (int i = 0; i < vectors; i++) sum[i] = (v8){0};
    for (i64 s = 0; s < length; s++) {
        const float weight = weights[s];
        call(ahead + s * width, 32 * vectors);
#pragma GCC unroll 8
        for (int i = 0; i < vectors; i++) sum[i] += weight * *(const v8 *)(values + s * width + 8 * i);
    }
#pragma GCC unroll 8
    for (int i = 0; i < vectors; i++) *(v8 *)(out + 8 * i) = sum[i] * share;
}

static void mix_f32(const float *values, const float *weights, i64 length, i64 width, float share, float *out,
                    const float *ahead) {
    i64 j = 0;
    for (; j + 64 <= width; j += 64) part_f32(8, values + j, weights, length, width, share, out + j, ahead + j);
    for (; j < width; j += 8) part_f32(1, values + j, weights, length, width, share, out + j, ahead + j);
}

#if AMX
/* The same in bfloat16, products summed in float32. width: a multiple of 32. */
static inline v8 dots_bf16(const bf16 *q, const bf16 *keys, i64 count, i64 width, const bf16 *ahead) {
    const bf16 *key[8];
    __m512 sum[8];
    v8 halves[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        key[i] = keys + (i < count ? i : count - 1) * width;
        sum[i] = _mm512_setzero_ps();
    }
    for (i64 j = 0; j < width; j += 32) {
        const __m512bh part = (__m512bh)_mm512_loadu_si512(q + j);
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++)
            sum[i] = _mm512_dpbf16_ps(sum[i], part, (__m512bh)_mm512_loadu_si512(key[i] + j));
        call(ahead + 8 * j, 512);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        halves[i] = (v8)(_mm512_castps512_ps256(sum[i]) + _mm512_extractf32x8_ps(sum[i], 1));
    return sums_of(halves);
}

/* out [32 * blocks] = sum of values, weighted: two positions at a time, their weights in bfloat16, too. */
static inline __attribute__((always_inline)) void part_bf16(const int blocks, const bf16 *values, const float *weights,
                                                            i64 length, i64 width, float share, float *out,
                                                            const bf16 *ahead) {
    const __m512i first = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
    const __m512i second = _mm512_add_epi32(first, _mm512_set1_epi32(8));
    __m512 low[2], high[2];
    uint32_t pairs[8];
    for (int i = 0; i < blocks; i++) low[i] = high[i] = _mm512_setzero_ps();
    for (i64 s = 0; s < length; s += 2) {
        if (s % 16 == 0) _mm256_storeu_si256((__m256i *)pairs, (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(weights + s)));
        const __m512bh weight = (__m512bh)_mm512_set1_epi32((int)pairs[s % 16 / 2]);
        const bf16 *one = values + s * width, *two = s + 1 < length ? one + width : one;
        call(ahead + s * width, 64 * blocks), call(ahead + (s + 1) * width, 64 * blocks);
#pragma GCC unroll 2
        for (int i = 0; i < blocks; i++) {
            const __m512i a = _mm512_loadu_si512(one + 32 * i), b = _mm512_loadu_si512(two + 32 * i);
            low[i] = _mm512_dpbf16_ps(low[i], weight, (__m512bh)_mm512_unpacklo_epi16(a, b));
            high[i] = _mm512_dpbf16_ps(high[i], weight, (__m512bh)_mm512_unpackhi_epi16(a, b));
        }
    }
    for (int i = 0; i < blocks; i++) {
        const __m512 shares = _mm512_set1_ps(share);
        _mm512_storeu_ps(out + 32 * i, shares * _mm512_permutex2var_ps(low[i], first, high[i]));
        _mm512_storeu_ps(out + 32 * i + 16, shares * _mm512_permutex2var_ps(low[i], second, high[i]));
    }
}

static void mix_bf16(const bf16 *values, const float *weights, i64 length, i64 width, float share, float *out,
                     const bf16 *ahead) {
    i64 j = 0;
    for (; j + 64 <= width; j += 64) part_bf16(2, values + j, weights, length, width, share, out + j, ahead + j);
    if (j < width) part_bf16(1, values + j, weights, length, width, share, out + j, ahead + j);
}
#else
static inline v8 dots_bf16(const bf16 *q, const bf16 *keys, i64 count, i64 width, const bf16 *ahead) {
    (void)q, (void)keys, (void)count, (void)width, (void)ahead;
    return (v8){0};
}
static inline void mix_bf16(const bf16 *values, const float *weights, i64 length, i64 width, float share, float *out,
                            const bf16 *ahead) {
    (void)values, (void)weights, (void)length, (void)width, (void)share, (void)out, (void)ahead;
}
#endif

#define ROOM(length) ((length) + 16) /* floats of `weights` below: whole vectors are read and written */
#define WIDEST 512                   /* heads in bfloat16 */

/* One query head over `length` keys and values from element `place` on, out [width]; the next call's are at `next`. */
static void attend(int bfloat16, const float *q, const Cache *cache, i64 place, i64 next, i64 length, i64 width,
                   float *weights, float *out) {
    const float scale = 1.0f / sqrtf((float)width);
    const float *keys = cache->keys, *values = cache->values;
    const bf16 *half_keys = cache->keys, *half_values = cache->values;
    float most = -INFINITY, sum = 0.0f;
    bf16 half_q[WIDEST];
    if (bfloat16)
        for (i64 j = 0; j < width; j++) half_q[j] = to_bf16(q[j]);
    for (i64 s = 0; s < length; s += 8) {
        const i64 at = place + s * width, count = length - s;
        *(v8 *)(weights + s) = scale * (bfloat16 ? dots_bf16(half_q, half_keys + at, count, width, half_values + at)
                                                 : dots_f32(q, keys + at, count, width, values + at));
    }
#pragma omp simd reduction(max : most)
    for (i64 s = 0; s < length; s++) most = weights[s] > most ? weights[s] : most;
#pragma omp simd reduction(+ : sum)
    for (i64 s = 0; s < length; s++) {
        weights[s] = exp_f32(weights[s] - most);
        sum += weights[s];
    }
    memset(weights + length, 0, 16 * sizeof *weights);
    if (bfloat16) mix_bf16(half_values + place, weights, length, width, 1.0f / sum, out, half_keys + next);
    else mix_f32(values + place, weights, length, width, 1.0f / sum, out, keys + next);
}

#endif
