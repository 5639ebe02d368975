/* Norm, SwiGLU and rotation for one type of ELEMENT: kernels.c includes this once for each. Arithmetic is float32. */

#ifndef ROWS_PER_BLOCK
#define ROWS_PER_BLOCK 256 /* rows whose weight gradients are summed together; kernels.py allocates one row a block */
#define ELEMENTS_PER_BLOCK 4096
#endif

/* y = x * weight / sqrt(mean(x^2) + eps) for each row; scale keeps 1 / sqrt(...). */
void NAME(rms_norm_forward)(const ELEMENT *restrict x, const float *restrict weight, ELEMENT *restrict y,
                            float *restrict scale, i64 rows, i64 width, float eps, int threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (i64 row = 0; row < rows; row++) {
        const ELEMENT *restrict in = x + row * width;
        ELEMENT *restrict out = y + row * width;
        float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
        for (i64 j = 0; j < width; j++) sum += LOAD(in[j]) * LOAD(in[j]);
        const float s = 1.0f / sqrtf(sum / (float)width + eps);
        scale[row] = s;
#pragma omp simd
        for (i64 j = 0; j < width; j++) out[j] = STORE(LOAD(in[j]) * s * weight[j]);
    }
}

/* grad_x of each row, and grad_weight by way of one partial sum a block of rows: partial is [blocks, width]. */
void NAME(rms_norm_backward)(const ELEMENT *restrict grad_y, const ELEMENT *restrict x, const float *restrict weight,
                             const float *restrict scale, ELEMENT *restrict grad_x, float *restrict partial,
                             float *restrict grad_weight, i64 rows, i64 width, int threads) {
    const i64 blocks = (rows + ROWS_PER_BLOCK - 1) / ROWS_PER_BLOCK;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (i64 block = 0; block < blocks; block++) {
        const i64 first = block * ROWS_PER_BLOCK;
        const i64 last = first + ROWS_PER_BLOCK < rows ? first + ROWS_PER_BLOCK : rows;
        float *restrict sums = partial + block * width;
        memset(sums, 0, (size_t)width * sizeof *sums);
        for (i64 row = first; row < last; row++) {
            const ELEMENT *restrict g = grad_y + row * width;
            const ELEMENT *restrict in = x + row * width;
            ELEMENT *restrict out = grad_x + row * width;
            const float s = scale[row];
            float dot = 0.0f;
#pragma omp simd reduction(+ : dot)
            for (i64 j = 0; j < width; j++) {
                const float product = LOAD(g[j]) * (LOAD(in[j]) * s);
                sums[j] += product;
                dot += product * weight[j];
            }
            const float mean = dot / (float)width;
#pragma omp simd
            for (i64 j = 0; j < width; j++) out[j] = STORE(s * (LOAD(g[j]) * weight[j] - LOAD(in[j]) * s * mean));
        }
    }
    memset(grad_weight, 0, (size_t)width * sizeof *grad_weight);
    for (i64 block = 0; block < blocks; block++)
        for (i64 j = 0; j < width; j++) grad_weight[j] += partial[block * width + j];
}

/* y = silu(gate) * up. Threads share fixed blocks: where vectors end never depends on their number. */
void NAME(swiglu_forward)(const ELEMENT *restrict gate, const ELEMENT *restrict up, ELEMENT *restrict y, i64 count,
                          int threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (i64 first = 0; first < count; first += ELEMENTS_PER_BLOCK) {
        const i64 last = first + ELEMENTS_PER_BLOCK < count ? first + ELEMENTS_PER_BLOCK : count;
#pragma omp simd
        for (i64 i = first; i < last; i++) {
            const float a = LOAD(gate[i]);
            y[i] = STORE(a / (1.0f + exp_f32(-a)) * LOAD(up[i]));
        }
    }
}

void NAME(swiglu_backward)(const ELEMENT *restrict grad_y, const ELEMENT *restrict gate, const ELEMENT *restrict up,
                           ELEMENT *restrict grad_gate, ELEMENT *restrict grad_up, i64 count, int threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (i64 first = 0; first < count; first += ELEMENTS_PER_BLOCK) {
        const i64 last = first + ELEMENTS_PER_BLOCK < count ? first + ELEMENTS_PER_BLOCK : count;
#pragma omp simd
        for (i64 i = first; i < last; i++) {
            const float grad = LOAD(grad_y[i]), a = LOAD(gate[i]), b = LOAD(up[i]);
            const float sigmoid = 1.0f / (1.0f + exp_f32(-a));
            grad_up[i] = STORE(grad * (a * sigmoid));
            grad_gate[i] = STORE(grad * b * (sigmoid * (1.0f + a * (1.0f - sigmoid))));
        }
    }
}

/* y = x * cos + swap_halves(x) * sin over the last axis of [batch, heads, time, width]; its transpose for `backward`.
 * x and y have strides (batch, head, time) in elements; tables are [batch or 1, time, width], `table_batch` apart. */
void NAME(rotate)(const ELEMENT *restrict x, ELEMENT *restrict y, const float *restrict cosines,
                  const float *restrict sines, i64 batch, i64 heads, i64 time, i64 width, i64 table_batch, i64 x_batch,
                  i64 x_head, i64 x_time, i64 y_batch, i64 y_head, i64 y_time, int backward, int threads) {
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
            const ELEMENT *restrict low = x + b * x_batch + h * x_head + t * x_time;
            const ELEMENT *restrict high = low + half;
            ELEMENT *restrict out_low = y + b * y_batch + h * y_head + t * y_time;
            ELEMENT *restrict out_high = out_low + half;
#pragma omp simd
            for (i64 j = 0; j < half; j++) {
                const float a = LOAD(low[j]), c = LOAD(high[j]);
                out_low[j] = STORE(a * cos_low[j] + c * sin_low[j]);
                out_high[j] = STORE(c * cos_high[j] + a * sin_high[j]);
            }
        }
    }
}
