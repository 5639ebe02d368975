/* A whole forward of a decoder over a few rows, each one token of one sequence with a key-value cache.
 *
 * Weights are packed in panels, so that a product reads them once and in order: of 16 outputs, [N/16][K][16], in float32,
 * or as amx.h has them in bfloat16. Then the left side of a product is rounded to bfloat16, too, and so are keys and
 * values in the cache; sums and all else are float32. Every number is computed by the same additions in the same order,
 * however many rows or threads there are: a batch's composition cannot change a reply by a single bit. See decoding.py
 * for the build of the arguments.
 */
#include "attend.h"

#define PANEL 16
#define TILE 6 /* rows by 16 columns: twelve sums in registers, enough to hide the latency of a multiply-add */

typedef struct {
    const void *panels; /* float or bf16, as the model says */
    const float *bias;
} Linear;

typedef struct {
    const float *norm, *q_norm, *k_norm, *mlp_norm;
    Linear qkv, out, gate_up, down;
} Layer;

typedef struct {
    i64 layers, hidden, heads, kv_heads, head_dim, inner, vocab;
    const float *embeddings, *norm, *cosines, *sines; /* tables [positions, head_dim] */
    Linear head;
    const Layer *layer;
    float eps;
    int threads, bfloat16;
} Model;

enum Store { PLAIN, ADD, SWIGLU };

/* What becomes of one row of a panel's sums. SWIGLU: the panel is 8 gates, then their 8 ups. */
static inline void store(enum Store mode, const float *sums, float *y, i64 count) {
    if (mode == SWIGLU)
        for (i64 j = 0; j < count; j++) y[j] = sums[j] / (1.0f + exp_f32(-sums[j])) * sums[j + 8];
    else if (mode == ADD)
        for (i64 j = 0; j < count; j++) y[j] += sums[j];
    else
        for (i64 j = 0; j < count; j++) y[j] = sums[j];
}

static i64 columns(enum Store mode) { return mode == SWIGLU ? PANEL / 2 : PANEL; }

/* The same; what is as wide as a panel, in whole vectors. */
static inline void store_panel(enum Store mode, const float *sums, float *y, i64 count) {
    if (count < columns(mode)) store(mode, sums, y, count);
    else if (mode == SWIGLU) store(SWIGLU, sums, y, 8);
    else if (mode == ADD) store(ADD, sums, y, PANEL);
    else store(PLAIN, sums, y, PANEL);
}

static inline __attribute__((always_inline)) void tile(const int rows, const float *x, i64 stride, const float *w,
                                                       i64 depth, const float *bias, const char *ahead, i64 pace,
                                                       float sums[TILE][PANEL]) {
    v8 sum[TILE][2];
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++) {
        sum[i][0] = bias ? *(const v8 *)bias : (v8){0};
        sum[i][1] = bias ? *(const v8 *)(bias + 8) : (v8){0};
    }
    for (i64 k = 0; k < depth; k++) {
        __builtin_prefetch(ahead + k * pace, 0, 2);
        const v8 low = *(const v8 *)(w + k * PANEL), high = *(const v8 *)(w + k * PANEL + 8);
#pragma GCC unroll 6
        for (int i = 0; i < rows; i++) {
            const float a = x[i * stride + k];
            sum[i][0] += a * low;
            sum[i][1] += a * high;
        }
    }
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++) {
        *(v8 *)sums[i] = sum[i][0];
        *(v8 *)(sums[i] + 8) = sum[i][1];
    }
}

/* Meanwhile `pace` bytes a step of the next panel are called from memory, beginning at `ahead`. */
static void tile_of(i64 rows, const float *x, i64 stride, const float *w, i64 depth, const float *bias,
                    const char *ahead, i64 pace, float sums[TILE][PANEL]) {
    switch (rows) {
    case 1: tile(1, x, stride, w, depth, bias, ahead, pace, sums); break;
    case 2: tile(2, x, stride, w, depth, bias, ahead, pace, sums); break;
    case 3: tile(3, x, stride, w, depth, bias, ahead, pace, sums); break;
    case 4: tile(4, x, stride, w, depth, bias, ahead, pace, sums); break;
    case 5: tile(5, x, stride, w, depth, bias, ahead, pace, sums); break;
    default: tile(6, x, stride, w, depth, bias, ahead, pace, sums);
    }
}

static void product_f32(enum Store mode, const float *x, i64 x_stride, Linear linear, float *y, i64 y_stride, i64 rows,
                        i64 depth, i64 width, int threads) {
    if (rows == 0) return; /* the logits of a part of a long prompt, in which no prompt ends */
    const float *packed = linear.panels, *bias = linear.bias;
    const i64 step = columns(mode);
    const i64 panels = (width + step - 1) / step, tiles = (rows + TILE - 1) / TILE;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(dynamic, 4)
    for (i64 panel = 0; panel < panels; panel++) {
        const i64 first = panel * step, count = first + step < width ? step : width - first;
        const float *w = packed + panel * PANEL * depth;
        const i64 pace = (PANEL * sizeof *w + tiles - 1) / tiles;
        const char *next = (const char *)(w + (panel + 1 < panels ? PANEL * depth : 0));
        float sums[TILE][PANEL] __attribute__((aligned(32)));
        for (i64 t = 0; t < tiles; t++) { /* tiles of nearly equal height */
            const i64 from = t * rows / tiles, to = (t + 1) * rows / tiles;
            tile_of(to - from, x + from * x_stride, x_stride, w, depth, bias ? bias + panel * PANEL : 0,
                    next + t * pace * depth, pace, sums);
            for (i64 row = from; row < to; row++)
                store_panel(mode, sums[row - from], y + row * y_stride + first, count);
        }
    }
}

/* Room for `rows` left sides of a product, in bfloat16; rows of tiles are no power of two apart, either. */
static i64 bf16_stride(i64 depth) { return amx_padded(depth) + AMX_BLOCK; }

static void round_rows(const float *x, i64 x_stride, bf16 *y, i64 rows, i64 depth) {
    const i64 stride = bf16_stride(depth);
    memset(y + rows * stride, 0, (amx_padded(rows) - rows) * stride * sizeof *y);
    for (i64 row = 0; row < rows; row++, x += x_stride, y += stride) {
        for (i64 k = 0; k < depth; k++) y[k] = to_bf16(x[k]);
        memset(y + depth, 0, (stride - depth) * sizeof *y);
    }
}

static void store_rows(enum Store mode, float sums[AMX_BLOCK][AMX_BLOCK], const float *bias, float *y, i64 y_stride,
                       i64 rows, i64 count) {
    const i64 step = columns(mode);
    for (i64 row = 0; row < rows; row++, y += y_stride) {
        if (bias)
            for (i64 j = 0; j < AMX_BLOCK; j++) sums[row][j] += bias[j];
        store_panel(mode, sums[row], y, count < step ? count : step);
        if (count > step) store_panel(mode, sums[row] + PANEL, y + step, count - step);
    }
}

static void product_bf16(enum Store mode, const float *x, i64 x_stride, Linear linear, float *y, i64 y_stride, i64 rows,
                         i64 depth, i64 width, int threads, bf16 *left) {
    const i64 step = 2 * columns(mode), panels = (width + step - 1) / step;
    const i64 deep = amx_padded(depth), stride = bf16_stride(depth);
    round_rows(x, x_stride, left, rows, depth);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        float sums[AMX_BLOCK][AMX_BLOCK] __attribute__((aligned(64)));
        amx_begin();
#pragma omp for schedule(dynamic, 4)
        for (i64 panel = 0; panel < panels; panel++) {
            const i64 column = panel * step, count = width - column < step ? width - column : step;
            const bf16 *w = (const bf16 *)linear.panels + panel * AMX_BLOCK * deep;
            const float *bias = linear.bias ? linear.bias + panel * AMX_BLOCK : 0;
            for (i64 row = 0; row < rows; row += AMX_BLOCK) {
                const i64 tall = rows - row < AMX_BLOCK ? rows - row : AMX_BLOCK;
                const bf16 *x_rows = left + row * stride;
                if (tall > AMX_BLOCK / 2) amx_product_32(x_rows, stride, w, deep, *sums, AMX_BLOCK);
                else amx_product_16(x_rows, stride, w, deep, *sums, AMX_BLOCK);
                store_rows(mode, sums, bias, y + row * y_stride + column, y_stride, tall, count);
            }
        }
        amx_end();
    }
}

/* y [rows, width] = x [rows, depth] times packed weights, plus bias; `width` counts what is stored of each row.
 * Rows are a stride apart that is no power of two: six rows at once must not fall into the same set of the cache. */
static void product(const Model *m, enum Store mode, const float *x, i64 x_stride, Linear linear, float *y, i64 y_stride,
                    i64 rows, i64 depth, i64 width, bf16 *left) {
    if (m->bfloat16)
        product_bf16(mode, x, x_stride, linear, y, y_stride, rows, depth, width, m->threads, left);
    else
        product_f32(mode, x, x_stride, linear, y, y_stride, rows, depth, width, m->threads);
}

static void normalise(const float *x, const float *weight, float *y, i64 width, float eps) {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (i64 j = 0; j < width; j++) sum += x[j] * x[j];
    const float scale = 1.0f / sqrtf(sum / (float)width + eps);
#pragma omp simd
    for (i64 j = 0; j < width; j++) y[j] = x[j] * scale * weight[j];
}

static void turn(const float *x, float *y, const float *cosine, const float *sine, i64 width) {
    const i64 half = width / 2;
#pragma omp simd
    for (i64 j = 0; j < half; j++) {
        const float low = x[j], high = x[j + half];
        y[j] = low * cosine[j] + high * sine[j];
        y[j + half] = high * cosine[j + half] + low * sine[j + half];
    }
}

static i64 apart(i64 width) { return width + 16; }

/* One head's keys or values to element `place` of the cache. */
static void keep(int bfloat16, void *cache, i64 place, const float *head, i64 width) {
    if (!bfloat16)
        memcpy((float *)cache + place, head, width * sizeof *head);
    else
        for (i64 j = 0; j < width; j++) ((bf16 *)cache + place)[j] = to_bf16(head[j]);
}

/* Queries and keys are normalised and turned where they are, keys and values go to their place in the cache. */
static void remember(const Model *m, const Layer *l, const Cache *cache, i64 layer, float *qkv, const i64 *slots,
                     const i64 *positions, i64 rows) {
    const i64 E = m->head_dim, H = m->heads, K = m->kv_heads, a_head = cache->capacity * E;
    for (i64 row = 0; row < rows; row++, qkv += apart((H + 2 * K) * E)) {
        const i64 place = (layer * cache->slots + slots[row]) * K * a_head + positions[row] * E;
        const float *cosine = m->cosines + positions[row] * E, *sine = m->sines + positions[row] * E;
        for (i64 h = 0; h < H + K; h++) {
            float *head = qkv + h * E;
            const float *norm = h < H ? l->q_norm : l->k_norm;
            if (norm) normalise(head, norm, head, E, m->eps);
            turn(head, head, cosine, sine, E);
        }
        for (i64 k = 0; k < K; k++) {
            keep(m->bfloat16, cache->keys, place + k * a_head, qkv + (H + k) * E, E);
            keep(m->bfloat16, cache->values, place + k * a_head, qkv + (H + K + k) * E, E);
        }
    }
}

/* Where in the cache the keys and values of a unit begin, which is one key head of one row. */
static i64 start_of(const Model *m, const Cache *cache, i64 layer, const i64 *slots, i64 unit) {
    const i64 K = m->kv_heads;
    return ((layer * cache->slots + slots[unit / K]) * K + unit % K) * cache->capacity * m->head_dim;
}

static void attention(const Model *m, const Cache *cache, i64 layer, const float *qkv, float *out, const i64 *slots,
                      const i64 *positions, i64 rows, float *weights) {
    const i64 E = m->head_dim, H = m->heads, K = m->kv_heads, G = H / K, width = (H + 2 * K) * E;
#pragma omp parallel for num_threads(m->threads) if (m->threads > 1) schedule(dynamic, 4)
    for (i64 unit = 0; unit < rows * K; unit++) {
        const i64 row = unit / K, k = unit % K, start = start_of(m, cache, layer, slots, unit);
        const i64 after = unit + 1 < rows * K ? start_of(m, cache, layer, slots, unit + 1) : start;
        float *room = weights + unit * ROOM(cache->capacity);
        for (i64 h = k * G; h < (k + 1) * G; h++)
            attend(m->bfloat16, qkv + row * apart(width) + h * E, cache, start, h + 1 < (k + 1) * G ? start : after,
                   positions[row] + 1, E, room, out + row * apart(H * E) + h * E);
    }
}

static void normalise_rows(const float *x, const float *weight, float *y, i64 rows, i64 width, float eps) {
    for (i64 row = 0; row < rows; row++) normalise(x + row * apart(width), weight, y + row * apart(width), width, eps);
}

/* From here on only the rows numbered in `kept`, which rise. */
static void compact(float *x, i64 stride, const i64 *kept, i64 count) {
    for (i64 n = 0; n < count; n++)
        if (kept[n] != n) memmove(x + n * stride, x + kept[n] * stride, stride * sizeof *x);
}

/* How many bytes of scratch decode_rows needs. */
void decode_scratch(const Model *m, i64 rows, i64 capacity, i64 *bytes) {
    const i64 HE = m->heads * m->head_dim, width = HE + 2 * m->kv_heads * m->head_dim;
    const i64 deepest = m->inner > HE ? m->inner : HE, depth = deepest > m->hidden ? deepest : m->hidden;
    const i64 left = m->bfloat16 ? amx_padded(rows) * bf16_stride(depth) * (i64)sizeof(bf16) : 0;
    const i64 floats = 2 * apart(m->hidden) + apart(width) + apart(HE) + apart(m->inner) + m->kv_heads * ROOM(capacity);
    *bytes = left + rows * floats * (i64)sizeof(float);
}

/* logits [wanted, vocab] after the rows numbered in `last`, rising; rows of one sequence come in the order of positions.
 * `slots` and `positions` are used up. */
void decode_rows(const Model *m, const Cache *cache, const i64 *tokens, i64 *slots, i64 *positions, i64 rows,
                 const i64 *last, i64 wanted, float *logits, void *scratch) {
    const i64 D = m->hidden, HE = m->heads * m->head_dim, width = HE + 2 * m->kv_heads * m->head_dim;
    const i64 d = apart(D), w = apart(width), he = apart(HE), inner_stride = apart(m->inner);
    float *x = scratch, *normed = x + rows * d, *qkv = normed + rows * d, *mixed = qkv + rows * w;
    float *inner = mixed + rows * he, *weights = inner + rows * inner_stride;
    bf16 *left = (bf16 *)(weights + rows * m->kv_heads * ROOM(cache->capacity));
    for (i64 row = 0; row < rows; row++) memcpy(x + row * d, m->embeddings + tokens[row] * D, D * sizeof *x);
    for (i64 layer = 0; layer < m->layers; layer++) {
        const Layer *l = m->layer + layer;
        normalise_rows(x, l->norm, normed, rows, D, m->eps);
        product(m, PLAIN, normed, d, l->qkv, qkv, w, rows, D, width, left);
        remember(m, l, cache, layer, qkv, slots, positions, rows);
        if (layer == m->layers - 1 && wanted < rows) { /* of the others only keys and values were wanted */
            compact(x, d, last, wanted);
            compact(qkv, w, last, wanted);
            for (i64 n = 0; n < wanted; n++) slots[n] = slots[last[n]], positions[n] = positions[last[n]];
            rows = wanted;
        }
        attention(m, cache, layer, qkv, mixed, slots, positions, rows, weights);
        product(m, ADD, mixed, he, l->out, x, d, rows, HE, D, left);
        normalise_rows(x, l->mlp_norm, normed, rows, D, m->eps);
        product(m, SWIGLU, normed, d, l->gate_up, inner, inner_stride, rows, D, m->inner, left);
        product(m, ADD, inner, inner_stride, l->down, x, d, rows, m->inner, D, left);
    }
    normalise_rows(x, m->norm, normed, rows, D, m->eps);
    product(m, PLAIN, normed, d, m->head, logits, m->vocab, rows, D, m->vocab, left);
}
