/* Element-wise parts of a training step, each in one pass over memory. float32 only; see kernels.py for the build.
 *
 * Every sum is taken in an order that does not depend on the number of threads, so that a resumed run gives the same
 * bits. NaN and infinities behave as in the torch operations: nothing here may be compiled with -ffinite-math-only.
 */
#include "kernels.h"

#define ROWS_PER_BLOCK 256 /* rows whose weight gradients are summed together; kernels.py allocates one row a block */
#define ELEMENTS_PER_BLOCK 4096

/* y = x * weight / sqrt(mean(x^2) + eps) for each row; scale keeps 1 / sqrt(...). */
void rms_norm_forward(const float *restrict x, const float *restrict weight, float *restrict y, float *restrict scale,
                      i64 rows, i64 width, float eps, int threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (i64 row = 0; row < rows; row++) {
        const float *restrict in = x + row * width;
        float *restrict out = y + row * width;
        float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
        for (i64 j = 0; j < width; j++) sum += in[j] * in[j];
        const float s = 1.0f / sqrtf(sum / (float)width + eps);
        scale[row] = s;
#pragma omp simd
        for (i64 j = 0; j < width; j++) out[j] = in[j] * s * weight[j];
    }
}

/* grad_x of each row, and grad_weight by way of one partial sum a block of rows: partial is [blocks, width]. */
void rms_norm_backward(const float *restrict grad_y, const float *restrict x, const float *restrict weight,
                       const float *restrict scale, float *restrict grad_x, float *restrict partial,
                       float *restrict grad_weight, i64 rows, i64 width, int threads) {
    const i64 blocks = (rows + ROWS_PER_BLOCK - 1) / ROWS_PER_BLOCK;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (i64 block = 0; block < blocks; block++) {
        const i64 first = block * ROWS_PER_BLOCK;
        const i64 last = first + ROWS_PER_BLOCK < rows ? first + ROWS_PER_BLOCK : rows;
        float *restrict sums = partial + block * width;
        memset(sums, 0, (size_t)width * sizeof *sums);
        for (i64 row = first; row < last; row++) {
            const float *restrict g = grad_y + row * width;
            const float *restrict in = x + row * width;
            float *restrict out = grad_x + row * width;
            const float s = scale[row];
            float dot = 0.0f;
#pragma omp simd reduction(+ : dot)
            for (i64 j = 0; j < width; j++) {
                const float product = g[j] * (in[j] * s);
                sums[j] += product;
                dot += product * weight[j];
            }
            const float mean = dot / (float)width;
#pragma omp simd
            for (i64 j = 0; j < width; j++) out[j] = s * (g[j] * weight[j] - in[j] * s * mean);
        }
    }
    memset(grad_weight, 0, (size_t)width * sizeof *grad_weight);
    for (i64 block = 0; block < blocks; block++)
        for (i64 j = 0; j < width; j++) grad_weight[j] += partial[block * width + j];
}

/* y = silu(gate) * up. Threads share fixed blocks: where vectors end never depends on their number. */
void swiglu_forward(const float *restrict gate, const float *restrict up, float *restrict y, i64 count, int threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (i64 first = 0; first < count; first += ELEMENTS_PER_BLOCK) {
        const i64 last = first + ELEMENTS_PER_BLOCK < count ? first + ELEMENTS_PER_BLOCK : count;
#pragma omp simd
        for (i64 i = first; i < last; i++) y[i] = gate[i] / (1.0f + exp_f32(-gate[i])) * up[i];
    }
}

void swiglu_backward(const float *restrict grad_y, const float *restrict gate, const float *restrict up,
                     float *restrict grad_gate, float *restrict grad_up, i64 count, int threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (i64 first = 0; first < count; first += ELEMENTS_PER_BLOCK) {
        const i64 last = first + ELEMENTS_PER_BLOCK < count ? first + ELEMENTS_PER_BLOCK : count;
#pragma omp simd
        for (i64 i = first; i < last; i++) {
            const float sigmoid = 1.0f / (1.0f + exp_f32(-gate[i]));
            grad_up[i] = grad_y[i] * (gate[i] * sigmoid);
            grad_gate[i] = grad_y[i] * up[i] * (sigmoid * (1.0f + gate[i] * (1.0f - sigmoid)));
        }
    }
}

/* y = x * cos + swap_halves(x) * sin over the last axis of [batch, heads, time, width]; its transpose for `backward`.
 * x and y have strides (batch, head, time) in floats; tables are [batch or 1, time, width], `table_batch` floats apart. */
void rotate(const float *restrict x, float *restrict y, const float *restrict cosines, const float *restrict sines,
            i64 batch, i64 heads, i64 time, i64 width, i64 table_batch, i64 x_batch, i64 x_head, i64 x_time, i64 y_batch,
            i64 y_head, i64 y_time, int backward, int threads) {
    const i64 half = width / 2;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (i64 position = 0; position < batch * time; position++) {
        const i64 b = position / time, t = position % time;
        const float *restrict cos_low = cosines + b * table_batch + t * width;
        const float *restrict cos_high = cos_low + half;
        const float *restrict sin_row = sines + b * table_batch + t * width;
        const float *restrict sin_low = backward ? sin_row + half : sin_row;
        const float *restrict sin_high = backward ? sin_row : sin_row + half;
        for (i64 h = 0; h < heads; h++) {
            const float *restrict low = x + b * x_batch + h * x_head + t * x_time;
            const float *restrict high = low + half;
            float *restrict out_low = y + b * y_batch + h * y_head + t * y_time;
            float *restrict out_high = out_low + half;
#pragma omp simd
            for (i64 j = 0; j < half; j++) {
                out_low[j] = low[j] * cos_low[j] + high[j] * sin_low[j];
                out_high[j] = high[j] * cos_high[j] + low[j] * sin_high[j];
            }
        }
    }
}

/* Of softmax(scale * logits), row by row: log-probability of the target, log of the normaliser, entropy in nats. */
void softmax_statistics(const float *restrict logits, const i64 *restrict targets, float *restrict logprobs,
                        float *restrict normalisers, float *restrict entropies, i64 rows, i64 width, float scale,
                        int threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (i64 row = 0; row < rows; row++) {
        const float *restrict in = logits + row * width;
        float largest = -INFINITY; /* a NaN may be passed over here; the sum below becomes NaN with it */
#pragma omp simd reduction(max : largest)
        for (i64 j = 0; j < width; j++) largest = in[j] > largest ? in[j] : largest;
        const float shift = isinf(largest) ? 0.0f : largest * scale;
        float sum = 0.0f, weighted = 0.0f;
#pragma omp simd reduction(+ : sum, weighted)
        for (i64 j = 0; j < width; j++) {
            const float centred = in[j] * scale - shift;
            const float e = exp_f32(centred);
            sum += e;
            weighted += e > 0.0f ? e * centred : 0.0f; /* 0 log 0 = 0 */
        }
        const float log_sum = logf(sum);
        normalisers[row] = shift + log_sum;
        logprobs[row] = in[targets[row]] * scale - normalisers[row];
        entropies[row] = log_sum - weighted / sum;
    }
}

/* In place: logits become the gradient of sum(grads * logprobs) with respect to scale * logits. */
void softmax_gradient(float *restrict logits, const i64 *restrict targets, const float *restrict normalisers,
                      const float *restrict grads, i64 rows, i64 width, float scale, int threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (i64 row = 0; row < rows; row++) {
        float *restrict in = logits + row * width;
        const float normaliser = normalisers[row], grad = grads[row];
#pragma omp simd
        for (i64 j = 0; j < width; j++) in[j] = exp_f32(in[j] * scale - normaliser) * -grad;
        in[targets[row]] += grad;
    }
}
