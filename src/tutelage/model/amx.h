/* Products of bfloat16 matrices with float32 sums by the tile unit (AMX) of an x86 processor.
 *
 * The right factor W [outputs, depth] is packed once, in panels of 32 outputs, [outputs/32][depth/32][2][16][16][2]: as
 * the unit reads it, in order. Depth is a multiple of 32 and the left factor comes in blocks of 16 or 32 whole rows:
 * what is missing is filled with zeros by whoever calls. A sum's order does not depend on the rows beside it.
 *
 * Every thread brackets its products with amx_begin and amx_end, after amx_ready has said yes.
 */
#ifndef TUTELAGE_AMX_H
#define TUTELAGE_AMX_H
#include "kernels.h"

#define AMX_BLOCK 32 /* rows, outputs and depth that go together */

static inline i64 amx_padded(i64 n) { return (n + AMX_BLOCK - 1) / AMX_BLOCK * AMX_BLOCK; }

#if defined(__AMX_BF16__) && defined(__AVX512BF16__) && defined(__linux__)
#define AMX 1
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Whether this process may use the unit: Linux gives its 8 KB of registers only to those who ask. */
static inline int amx_ready(void) {
    const int request_permission = 0x1023, tile_data = 18;
    static int answer = -1; /* two threads may ask at once: both hear the same */
    if (answer < 0) answer = syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
    return answer;
}

typedef struct {
    uint8_t palette, start, reserved[14];
    uint16_t bytes_a_row[16];
    uint8_t rows[16];
} TileConfig;

/* Eight registers of 16 rows of 64 bytes. Constant: gcc's intrinsic does not say that it reads all of it. */
static inline void amx_begin(void) {
    static const TileConfig config = {1, 0, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
    _tile_loadconfig(&config);
}

/* Nor do gcc's loads of tiles say that they read memory: what was written before must be there. */
static inline void amx_written(void) { __asm__ volatile("" ::: "memory"); }

static inline void amx_end(void) { _tile_release(); }

/* Adds x [32, depth] times one panel to four registers. */
static inline void amx_multiply_32(const bf16 *x, i64 stride, const bf16 *panel, i64 depth) {
    const bf16 *low = x + 16 * stride;
    amx_written();
    for (i64 k = 0; k < depth; k += AMX_BLOCK, panel += AMX_BLOCK * AMX_BLOCK) {
        _tile_loadd(4, x + k, stride * 2);
        _tile_loadd(5, low + k, stride * 2);
        _tile_loadd(6, panel, 64);
        _tile_loadd(7, panel + 512, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
}

static inline void amx_store_32(float *out, i64 out_stride) {
    _tile_stored(0, out, out_stride * 4);
    _tile_stored(1, out + 16, out_stride * 4);
    _tile_stored(2, out + 16 * out_stride, out_stride * 4);
    _tile_stored(3, out + 16 * out_stride + 16, out_stride * 4);
}

/* out [32, 32] = x [32, depth] times one panel; strides count elements. */
static inline void amx_product_32(const bf16 *x, i64 stride, const bf16 *panel, i64 depth, float *out, i64 out_stride) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    amx_multiply_32(x, stride, panel, depth);
    amx_store_32(out, out_stride);
}

/* The same added to what is in out. */
static inline void amx_add_product_32(const bf16 *x, i64 stride, const bf16 *panel, i64 depth, float *out,
                                      i64 out_stride) {
    amx_written();
    _tile_loadd(0, out, out_stride * 4);
    _tile_loadd(1, out + 16, out_stride * 4);
    _tile_loadd(2, out + 16 * out_stride, out_stride * 4);
    _tile_loadd(3, out + 16 * out_stride + 16, out_stride * 4);
    amx_multiply_32(x, stride, panel, depth);
    amx_store_32(out, out_stride);
}

/* out [16, 32] = x [16, depth] times one panel. */
static inline void amx_product_16(const bf16 *x, i64 stride, const bf16 *panel, i64 depth, float *out, i64 out_stride) {
    amx_written();
    _tile_zero(0);
    _tile_zero(1);
    for (i64 k = 0; k < depth; k += AMX_BLOCK, panel += AMX_BLOCK * AMX_BLOCK) {
        _tile_loadd(4, x + k, stride * 2);
        _tile_loadd(6, panel, 64);
        _tile_loadd(7, panel + 512, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
    }
    _tile_stored(0, out, out_stride * 4);
    _tile_stored(1, out + 16, out_stride * 4);
}
#else
#define AMX 0
static inline int amx_ready(void) { return 0; }
static inline void amx_begin(void) {}
static inline void amx_end(void) {}
static inline void amx_product_32(const bf16 *x, i64 stride, const bf16 *panel, i64 depth, float *out, i64 out_stride) {
    (void)x, (void)stride, (void)panel, (void)depth, (void)out, (void)out_stride;
}
#define amx_product_16 amx_product_32
#define amx_add_product_32 amx_product_32
#endif

typedef uint32_t Pairs __attribute__((vector_size(64), aligned(2), may_alias)); /* 16 pairs of bf16 */

/* Exchanges squares of `step` pairs beside the diagonal: low and high say what of rows i and i + step goes where. */
#define AMX_EXCHANGE(step, low, high)                                                                                  \
    _Pragma("GCC unroll 16") for (int i = 0; i < 16; i++) if (!(i & step)) {                                           \
        const Pairs a = rows[i], b = rows[i + step];                                                                   \
        rows[i] = __builtin_shufflevector(a, b, AMX_LIST low);                                                         \
        rows[i + step] = __builtin_shufflevector(a, b, AMX_LIST high);                                                 \
    }
#define AMX_LIST(...) __VA_ARGS__

/* The transpose of 16 rows of 16 pairs, in place. */
static inline __attribute__((always_inline)) void amx_transpose(Pairs rows[16]) {
    AMX_EXCHANGE(1, (0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30),
                 (1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31))
    AMX_EXCHANGE(2, (0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29),
                 (2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31))
    AMX_EXCHANGE(4, (0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27),
                 (4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31))
    AMX_EXCHANGE(8, (0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23),
                 (8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31))
}

/* Two rows of 16, element by element beside each other. */
static inline void amx_interleave(const bf16 *even, const bf16 *odd, Pairs *to) {
    for (int j = 0; j < 16; j++) (*to)[j] = even[j] | (uint32_t)odd[j] << 16;
}

/* One panel from its outputs' rows, of which there may be fewer than 32: W [outputs, depth], depth elements apart. */
static inline void amx_pack_panel(const bf16 *w, i64 outputs, i64 depth, bf16 *panel) {
    for (i64 k = 0; k < depth; k += AMX_BLOCK)
        for (i64 first = 0; first < AMX_BLOCK; first += 16, panel += 512) {
            Pairs rows[16];
            for (i64 j = 0; j < 16; j++)
                rows[j] = first + j < outputs ? *(const Pairs *)(w + (first + j) * depth + k) : (Pairs){0};
            amx_transpose(rows);
            memcpy(panel, rows, sizeof rows);
        }
}

/* All panels of the transpose of x [depth, outputs], both multiples of 32. */
static inline void amx_pack_transposed(const bf16 *x, i64 outputs, i64 depth, bf16 *panels) {
    for (i64 first = 0; first < outputs; first += AMX_BLOCK)
        for (i64 k = 0; k < depth; k += AMX_BLOCK)
            for (i64 half = 0; half < AMX_BLOCK; half += 16)
                for (i64 pair = 0; pair < 16; pair++, panels += AMX_BLOCK) {
                    const bf16 *even = x + (k + 2 * pair) * outputs + first + half, *odd = even + outputs;
                    amx_interleave(even, odd, (Pairs *)panels);
                }
}

#endif
