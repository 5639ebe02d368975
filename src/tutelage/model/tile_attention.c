/* Attention in bfloat16 by the tile unit, forward and backward, over blocks of 32 queries and 32 keys.
 *
 * Scores and probabilities exist for 32 rows at a time, in float32; blocks in which nothing may be attended to are
 * passed over. One thread computes all heads that share a key head, so no sum depends on the number of threads.
 */
#include "amx.h"
#include <stdlib.h>

#define BLOCK AMX_BLOCK

typedef struct {
    i64 batch, heads, kv_heads, queries, keys, width;          /* width: a multiple of 32 */
    i64 q[3], k[3], v[3], out[3], grad_out[3], grad_q[3], grad_k[3]; /* strides of batch, head, time; grad_v as grad_k */
    i64 mask_batch, mask_query;                                /* strides of the mask */
    float scale;
    int threads;
} Shape;

enum Kind { NOTHING, EVERYTHING, SOMETHING }; /* what of a block may be attended to, with nothing added */

/* Memory of one thread; queries and keys are rounded up to whole blocks. */
typedef struct {
    i64 queries, keys;
    char *start, *next;
    bf16 *q, *grad, *k, *v;                                 /* rows of one head, [time, width] */
    bf16 *q_panels, *grad_panels, *k_panels, *v_panels;     /* their panels */
    bf16 *q_turned, *grad_turned, *k_turned, *v_turned;     /* and those of their transposes */
    bf16 *probs, *grad_scores;                              /* [32, queries or keys] */
    float *scores, *grad_probs, *sums;                      /* the same, [32, width] */
    float *grad_k, *grad_v, *normalisers, *dots;
    uint8_t *kinds; /* [blocks of queries, blocks of keys] */
} Scratch;

static void *cut(Scratch *m, i64 bytes) {
    void *found = m->next;
    m->next += (bytes + 63) / 64 * 64;
    return found;
}

static void start(Scratch *m, const Shape *s) {
    const i64 Q = amx_padded(s->queries), K = amx_padded(s->keys), longest = Q > K ? Q : K, E = s->width;
    const i64 blocks = (Q / BLOCK) * (K / BLOCK), head = 2 * longest * E, part = 4 * BLOCK * longest;
    *m = (Scratch){.queries = Q, .keys = K};
    m->start = m->next = aligned_alloc(64, (12 * head + 4 * part + 4 * BLOCK * E + 4 * head + 8 * Q + blocks + 4096) / 64 * 64);
    bf16 **heads[] = {&m->q, &m->grad, &m->k, &m->v, &m->q_panels, &m->grad_panels, &m->k_panels, &m->v_panels,
                      &m->q_turned, &m->grad_turned, &m->k_turned, &m->v_turned};
    for (int i = 0; i < 12; i++) *heads[i] = cut(m, head);
    m->probs = cut(m, part), m->grad_scores = cut(m, part), m->scores = cut(m, part), m->grad_probs = cut(m, part);
    m->sums = cut(m, 4 * BLOCK * E), m->grad_k = cut(m, 2 * head), m->grad_v = cut(m, 2 * head);
    m->normalisers = cut(m, 4 * Q), m->dots = cut(m, 4 * Q), m->kinds = cut(m, blocks);
    amx_begin();
}

static void finish(Scratch *m) {
    amx_end();
    free(m->start);
}

/* One head's rows, dense and filled with zeros to whole blocks. */
static void gather(const bf16 *x, const i64 *strides, i64 b, i64 h, i64 rows, i64 width, bf16 *to) {
    const bf16 *from = x + b * strides[0] + h * strides[1];
    for (i64 row = 0; row < rows; row++) memcpy(to + row * width, from + row * strides[2], width * sizeof *to);
    memset(to + rows * width, 0, (amx_padded(rows) - rows) * width * sizeof *to);
}

static void pack(const bf16 *x, i64 rows, i64 width, bf16 *panels) {
    for (i64 row = 0; row < rows; row += BLOCK) amx_pack_panel(x + row * width, BLOCK, width, panels + row * width);
}

static void scatter(const float *restrict sums, i64 rows, i64 width, bf16 *restrict to, i64 stride) {
    for (i64 row = 0; row < rows; row++)
        for (i64 j = 0; j < width; j++) to[row * stride + j] = to_bf16(sums[row * width + j]);
}

/* What is added to the score of one query and one key. */
static inline float bias_of(const Shape *s, const bf16 *mask, i64 query, i64 key) {
    if (query >= s->queries || key >= s->keys) return -INFINITY;
    return mask ? from_bf16(mask[query * s->mask_query + key]) : key <= query ? 0.0f : -INFINITY;
}

/* The bias of a whole block. */
static void biases_of(const Shape *s, const bf16 *mask, i64 query, i64 key, float bias[BLOCK][BLOCK]) {
    const int inside = mask && query + BLOCK <= s->queries && key + BLOCK <= s->keys;
    for (i64 i = 0; i < BLOCK; i++)
        if (inside)
            for (i64 j = 0; j < BLOCK; j++) bias[i][j] = from_bf16(mask[(query + i) * s->mask_query + key + j]);
        else
            for (i64 j = 0; j < BLOCK; j++) bias[i][j] = bias_of(s, mask, query + i, key + j);
}

static enum Kind kind_of(const Shape *s, const bf16 *mask, i64 query, i64 key) {
    if (!mask && key > query) return NOTHING;
    if (!mask && key < query && query + BLOCK <= s->queries) return EVERYTHING;
    float bias[BLOCK][BLOCK];
    biases_of(s, mask, query, key, bias);
    int zeros = 0, barred = 0;
    for (i64 i = 0; i < BLOCK; i++)
        for (i64 j = 0; j < BLOCK; j++) zeros += bias[i][j] == 0.0f, barred += bias[i][j] == -INFINITY;
    return barred == BLOCK * BLOCK ? NOTHING : zeros == BLOCK * BLOCK ? EVERYTHING : SOMETHING;
}

static void find_kinds(const Shape *s, const bf16 *mask, Scratch *m) {
    for (i64 query = 0, at = 0; query < m->queries; query += BLOCK)
        for (i64 key = 0; key < m->keys; key += BLOCK) m->kinds[at++] = kind_of(s, mask, query, key);
}

/* One key head's keys and values, what of them may be attended to, and the keys' panels; returns the batch's mask. */
static const bf16 *take_keys(const Shape *s, const bf16 *mask, const bf16 *k, const bf16 *v, i64 b, i64 kv, Scratch *m) {
    const bf16 *own = mask ? mask + b * s->mask_batch : 0;
    find_kinds(s, own, m);
    gather(k, s->k, b, kv, s->keys, s->width, m->k);
    gather(v, s->v, b, kv, s->keys, s->width, m->v);
    pack(m->k, m->keys, s->width, m->k_panels);
    return own;
}

/* Block columns [first, last) of row `block` (stride 1 along it) or column (stride apart) that hold anything. */
static void bounds(const uint8_t *kinds, i64 count, i64 stride, i64 *first, i64 *last) {
    *first = 0, *last = count;
    while (*last > 0 && kinds[(*last - 1) * stride] == NOTHING) --*last;
    while (*first < *last && kinds[*first * stride] == NOTHING) ++*first;
}

/* Products of the 32 queries from `query` on with the keys of blocks [first, last): scores before the scale. */
static void scores_of(const Shape *s, const bf16 *mask, const Scratch *m, i64 query, i64 first, i64 last) {
    const uint8_t *kinds = m->kinds + query / BLOCK * (m->keys / BLOCK);
    for (i64 block = first; block < last; block++) {
        float *scores = m->scores + block * BLOCK, bias[BLOCK][BLOCK];
        amx_product_32(m->q + query * s->width, s->width, m->k_panels + block * BLOCK * s->width, s->width, scores,
                       m->keys);
        if (kinds[block] == EVERYTHING) continue;
        biases_of(s, mask, query, block * BLOCK, bias);
        for (i64 i = 0; i < BLOCK; i++)
            for (i64 j = 0; j < BLOCK; j++) scores[i * m->keys + j] += bias[i][j] / s->scale;
    }
}

/* probs = e^(scale * scores - largest); returns their sum, and in `normaliser` its logarithm plus the largest. */
static float exponentials(const float *scores, i64 count, float scale, bf16 *probs, float *normaliser) {
    float largest = -INFINITY, sum = 0.0f;
#pragma omp simd reduction(max : largest)
    for (i64 j = 0; j < count; j++) largest = scores[j] > largest ? scores[j] : largest;
    const float shift = largest == -INFINITY ? 0.0f : largest * scale;
#pragma omp simd reduction(+ : sum)
    for (i64 j = 0; j < count; j++) {
        const float e = exp_f32(scores[j] * scale - shift);
        sum += e;
        probs[j] = to_bf16(e);
    }
    *normaliser = sum == 0.0f ? INFINITY : shift + logf(sum);
    return sum;
}

/* sums [32, width] of x [32, depth of blocks first to last] times the turned panels of [depth, width]. */
static void mix(const bf16 *x, i64 stride, const bf16 *turned, i64 depth, i64 first, i64 last, i64 width, float *sums) {
    for (i64 e = 0; e < width; e += BLOCK)
        amx_product_32(x + first * BLOCK, stride, turned + e * depth + first * BLOCK * BLOCK, (last - first) * BLOCK,
                       sums + e, width);
}

static void forward_head(const Shape *s, const bf16 *mask, const Scratch *m, bf16 *out, float *normalisers) {
    const i64 E = s->width;
    for (i64 query = 0; query < s->queries; query += BLOCK) {
        i64 first, last;
        bounds(m->kinds + query / BLOCK * (m->keys / BLOCK), m->keys / BLOCK, 1, &first, &last);
        scores_of(s, mask, m, query, first, last);
        const i64 rows = s->queries - query < BLOCK ? s->queries - query : BLOCK;
        float inverse[BLOCK] = {0}, unused;
        for (i64 i = 0; i < BLOCK; i++) {
            const i64 at = i * m->keys + first * BLOCK;
            const float sum = exponentials(m->scores + at, (last - first) * BLOCK, s->scale, m->probs + at,
                                           i < rows ? normalisers + query + i : &unused);
            inverse[i] = sum == 0.0f ? 0.0f : 1.0f / sum;
        }
        mix(m->probs, m->keys, m->v_turned, m->keys, first, last, E, m->sums);
        for (i64 i = 0; i < rows; i++)
            for (i64 j = 0; j < E; j++) m->sums[i * E + j] *= inverse[i];
        scatter(m->sums, rows, E, out + query * s->out[2], s->out[2]);
    }
}

/* out and normalisers [batch, heads, queries]: log of the sum of e^score. mask: added to scores, causal if null. */
void attention_forward(const void *shape, const bf16 *q, const bf16 *k, const bf16 *v, const bf16 *mask, bf16 *out,
                       float *normalisers) {
    const Shape *s = shape;
    const i64 group = s->heads / s->kv_heads;
#pragma omp parallel num_threads(s->threads) if (s->threads > 1)
    {
        Scratch m;
        start(&m, s);
#pragma omp for schedule(dynamic)
        for (i64 unit = 0; unit < s->batch * s->kv_heads; unit++) {
            const i64 b = unit / s->kv_heads, kv = unit % s->kv_heads;
            const bf16 *own = take_keys(s, mask, k, v, b, kv, &m);
            amx_pack_transposed(m.v, s->width, m.keys, m.v_turned);
            for (i64 h = kv * group; h < (kv + 1) * group; h++) {
                gather(q, s->q, b, h, s->queries, s->width, m.q);
                forward_head(s, own, &m, out + b * s->out[0] + h * s->out[1],
                             normalisers + (b * s->heads + h) * s->queries);
            }
        }
        finish(&m);
    }
}

/* grad_q, query block by query block. */
static void backward_queries(const Shape *s, const bf16 *mask, const Scratch *m, bf16 *grad_q) {
    const i64 E = s->width;
    const float scale = s->scale;
    for (i64 query = 0; query < s->queries; query += BLOCK) {
        i64 first, last;
        bounds(m->kinds + query / BLOCK * (m->keys / BLOCK), m->keys / BLOCK, 1, &first, &last);
        scores_of(s, mask, m, query, first, last);
        for (i64 key = first * BLOCK; key < last * BLOCK; key += BLOCK)
            amx_product_32(m->grad + query * E, E, m->v_panels + key * E, E, m->grad_probs + key, m->keys);
        for (i64 i = 0; i < BLOCK; i++) {
            const float normaliser = m->normalisers[query + i], dot = m->dots[query + i];
            const float *scores = m->scores + i * m->keys, *grads = m->grad_probs + i * m->keys;
            bf16 *grad_scores = m->grad_scores + i * m->keys;
#pragma omp simd
            for (i64 j = first * BLOCK; j < last * BLOCK; j++)
                grad_scores[j] = to_bf16(exp_f32(scores[j] * scale - normaliser) * (grads[j] - dot) * scale);
        }
        mix(m->grad_scores, m->keys, m->k_turned, m->keys, first, last, E, m->sums);
        scatter(m->sums, s->queries - query < BLOCK ? s->queries - query : BLOCK, E, grad_q + query * s->grad_q[2],
                s->grad_q[2]);
    }
}

/* Of one block with keys for rows: probabilities and the gradients of scores, from the products in their place. */
static void block_of_keys(const Shape *s, const bf16 *mask, const Scratch *m, i64 key, i64 query, enum Kind kind) {
    const i64 Q = m->queries;
    const float *normalisers = m->normalisers + query, *dots = m->dots + query, scale = s->scale;
    float bias[BLOCK][BLOCK];
    if (kind != EVERYTHING) biases_of(s, mask, query, key, bias);
    for (i64 i = 0; i < BLOCK; i++) {
        const i64 at = i * Q + query;
        float *scores = m->scores + at;
        if (kind != EVERYTHING)
            for (i64 j = 0; j < BLOCK; j++) scores[j] += bias[j][i] / scale;
        const float *grads = m->grad_probs + at;
        bf16 *probs = m->probs + at, *grad_scores = m->grad_scores + at;
#pragma omp simd
        for (i64 j = 0; j < BLOCK; j++) {
            const float p = exp_f32(scores[j] * scale - normalisers[j]);
            probs[j] = to_bf16(p);
            grad_scores[j] = to_bf16(p * (grads[j] - dots[j]) * scale);
        }
    }
}

/* What one query head adds to grad_k and grad_v: the same blocks turned, rows are keys. */
static void backward_keys(const Shape *s, const bf16 *mask, const Scratch *m) {
    const i64 E = s->width, Q = m->queries, blocks = m->keys / BLOCK;
    for (i64 key = 0; key < m->keys; key += BLOCK) {
        const uint8_t *kinds = m->kinds + key / BLOCK;
        i64 first, last;
        bounds(kinds, Q / BLOCK, blocks, &first, &last);
        for (i64 query = first * BLOCK; query < last * BLOCK; query += BLOCK) {
            amx_product_32(m->k + key * E, E, m->q_panels + query * E, E, m->scores + query, Q);
            amx_product_32(m->v + key * E, E, m->grad_panels + query * E, E, m->grad_probs + query, Q);
            block_of_keys(s, mask, m, key, query, kinds[query / BLOCK * blocks]);
        }
        mix(m->probs, Q, m->grad_turned, Q, first, last, E, m->sums);
        for (i64 i = 0; i < BLOCK * E; i++) m->grad_v[key * E + i] += m->sums[i];
        mix(m->grad_scores, Q, m->q_turned, Q, first, last, E, m->sums);
        for (i64 i = 0; i < BLOCK * E; i++) m->grad_k[key * E + i] += m->sums[i];
    }
}

/* Query by query, the dot product of output and its gradient; of rows that are not there, what gives zeros. */
static void find_dots(const Shape *s, const Scratch *m, const bf16 *out, const float *normalisers) {
    for (i64 row = 0; row < m->queries; row++) {
        float dot = 0.0f;
        const bf16 *mine = out + (row < s->queries ? row : 0) * s->out[2], *grad = m->grad + row * s->width;
#pragma omp simd reduction(+ : dot)
        for (i64 j = 0; j < s->width; j++) dot += from_bf16(mine[j]) * from_bf16(grad[j]);
        m->dots[row] = row < s->queries ? dot : 0.0f;
        m->normalisers[row] = row < s->queries ? normalisers[row] : INFINITY;
    }
}

void attention_backward(const void *shape, const bf16 *q, const bf16 *k, const bf16 *v, const bf16 *mask,
                        const bf16 *out, const float *normalisers, const bf16 *grad_out, bf16 *grad_q, bf16 *grad_k,
                        bf16 *grad_v) {
    const Shape *s = shape;
    const i64 group = s->heads / s->kv_heads, E = s->width;
#pragma omp parallel num_threads(s->threads) if (s->threads > 1)
    {
        Scratch m;
        start(&m, s);
#pragma omp for schedule(dynamic)
        for (i64 unit = 0; unit < s->batch * s->kv_heads; unit++) {
            const i64 b = unit / s->kv_heads, kv = unit % s->kv_heads;
            const bf16 *own = take_keys(s, mask, k, v, b, kv, &m);
            pack(m.v, m.keys, E, m.v_panels);
            amx_pack_transposed(m.k, E, m.keys, m.k_turned);
            memset(m.grad_k, 0, m.keys * E * sizeof *m.grad_k);
            memset(m.grad_v, 0, m.keys * E * sizeof *m.grad_v);
            for (i64 h = kv * group; h < (kv + 1) * group; h++) {
                gather(q, s->q, b, h, s->queries, E, m.q);
                gather(grad_out, s->grad_out, b, h, s->queries, E, m.grad);
                pack(m.q, m.queries, E, m.q_panels);
                pack(m.grad, m.queries, E, m.grad_panels);
                amx_pack_transposed(m.q, E, m.queries, m.q_turned);
                amx_pack_transposed(m.grad, E, m.queries, m.grad_turned);
                find_dots(s, &m, out + b * s->out[0] + h * s->out[1], normalisers + (b * s->heads + h) * s->queries);
                backward_queries(s, own, &m, grad_q + b * s->grad_q[0] + h * s->grad_q[1]);
                backward_keys(s, own, &m);
            }
            scatter(m.grad_k, s->keys, E, grad_k + b * s->grad_k[0] + kv * s->grad_k[1], s->grad_k[2]);
            scatter(m.grad_v, s->keys, E, grad_v + b * s->grad_k[0] + kv * s->grad_k[1], s->grad_k[2]);
        }
        finish(&m);
    }
}
