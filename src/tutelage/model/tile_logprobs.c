/* The output head in bfloat16: what a loss needs of float32 logits, computed while they are in the cache.
 *
 * hidden is [rows, depth] with whole blocks of 32 both ways, filled with zeros; panels are the packed weight [width,
 * depth]. The logits of 32 rows and 256 outputs exist at a time; the backward pass computes them again.
 */
#include "amx.h"

#define ROWS_TOGETHER 256   /* rows that one thread takes: their hidden states and a part's panels stay in the cache */
#define PANELS_TOGETHER 8
#define PART (PANELS_TOGETHER * AMX_BLOCK)

void amx_pack(const bf16 *weight, bf16 *panels, i64 outputs, i64 depth, int threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (i64 first = 0; first < outputs; first += AMX_BLOCK)
        amx_pack_panel(weight + first * depth, outputs - first, depth, panels + first * depth);
}

/* Float32 logits of 32 rows and the outputs from `first` on; returns how many outputs there are. */
static i64 part_of(const bf16 *hidden, const bf16 *panels, i64 first, i64 depth, i64 width, float logits[][PART]) {
    const i64 count = first + PART < width ? PART : width - first;
    for (i64 j = 0; j < count; j += AMX_BLOCK)
        amx_product_32(hidden, depth, panels + (first + j) * depth, depth, logits[0] + j, PART);
    return count;
}

/* Of one row's scaled logits so far: the largest, sum of e^(z - shift), and that weighted with z - shift. */
typedef struct {
    float largest, sum, weighted;
} Running;

static float shift_of(float largest) { return isinf(largest) ? 0.0f : largest; }

static void take_in(Running *row, const float *logits, i64 count, float scale) {
    float largest = row->largest; /* a NaN may be passed over here; the sum below becomes NaN with it */
#pragma omp simd reduction(max : largest)
    for (i64 j = 0; j < count; j++) largest = logits[j] * scale > largest ? logits[j] * scale : largest;
    const float shift = shift_of(largest), moved = shift_of(row->largest) - shift, factor = exp_f32(moved);
    float sum = 0.0f, weighted = 0.0f;
#pragma omp simd reduction(+ : sum, weighted)
    for (i64 j = 0; j < count; j++) {
        const float centred = logits[j] * scale - shift;
        const float e = exp_f32(centred);
        sum += e;
        weighted += e > 0.0f ? e * centred : 0.0f; /* 0 log 0 = 0 */
    }
    if (row->sum != 0.0f) { /* what was summed so far, as if it had been shifted by the same */
        weighted += factor > 0.0f ? factor * (row->weighted + row->sum * moved) : 0.0f;
        sum += row->sum * factor;
    }
    *row = (Running){largest, sum, weighted};
}

/* Of softmax(scale * logits), row by row, as softmax_statistics. */
void head_statistics(const bf16 *hidden, const bf16 *panels, const i64 *targets, float *logprobs, float *normalisers,
                     float *entropies, i64 rows, i64 depth, i64 width, float scale, int threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(dynamic)
    for (i64 first = 0; first < rows; first += ROWS_TOGETHER) {
        const i64 last = first + ROWS_TOGETHER < rows ? first + ROWS_TOGETHER : rows;
        Running running[ROWS_TOGETHER];
        float logits[AMX_BLOCK][PART] __attribute__((aligned(64)));
        for (i64 row = 0; row < ROWS_TOGETHER; row++) running[row] = (Running){-INFINITY, 0.0f, 0.0f};
        amx_begin();
        for (i64 output = 0; output < width; output += PART)
            for (i64 block = first; block < last; block += AMX_BLOCK) {
                const i64 count = part_of(hidden + block * depth, panels, output, depth, width, logits);
                for (i64 row = block; row < last && row < block + AMX_BLOCK; row++) {
                    take_in(running + row - first, logits[row - block], count, scale);
                    if (targets[row] >= output && targets[row] < output + count)
                        logprobs[row] = logits[row - block][targets[row] - output] * scale;
                }
            }
        amx_end();
        for (i64 row = first; row < last; row++) {
            const Running r = running[row - first];
            normalisers[row] = shift_of(r.largest) + logf(r.sum);
            logprobs[row] -= normalisers[row];
            entropies[row] = logf(r.sum) - r.weighted / r.sum;
        }
    }
}

/* grad_logits [rows, width] of sum(grads * logprobs) with respect to scale * logits, rounded once, when stored. */
void head_gradient(const bf16 *hidden, const bf16 *panels, const i64 *targets, const float *normalisers,
                   const float *grads, bf16 *restrict grad_logits, i64 rows, i64 depth, i64 width, float scale,
                   int threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(dynamic)
    for (i64 first = 0; first < rows; first += ROWS_TOGETHER) {
        const i64 last = first + ROWS_TOGETHER < rows ? first + ROWS_TOGETHER : rows;
        float logits[AMX_BLOCK][PART] __attribute__((aligned(64)));
        amx_begin();
        for (i64 output = 0; output < width; output += PART)
            for (i64 block = first; block < last; block += AMX_BLOCK) {
                const i64 count = part_of(hidden + block * depth, panels, output, depth, width, logits);
                for (i64 row = block; row < last && row < block + AMX_BLOCK; row++) {
                    const float *in = logits[row - block];
                    const float normaliser = normalisers[row], grad = grads[row];
                    bf16 *restrict out = grad_logits + row * width + output;
#pragma omp simd
                    for (i64 j = 0; j < count; j++) out[j] = to_bf16(exp_f32(in[j] * scale - normaliser) * -grad);
                    const i64 target = targets[row] - output;
                    if (target >= 0 && target < count)
                        out[target] = to_bf16(exp_f32(in[target] * scale - normaliser) * -grad + grad);
                }
            }
        amx_end();
    }
}
