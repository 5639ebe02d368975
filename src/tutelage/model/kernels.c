/* Element-wise parts of a training step, each in one pass over memory; see kernels.py for the build.
 *
 * Every sum is taken in an order that does not depend on the number of threads, so that a resumed run gives the same
 * bits. NaN and infinities behave as in the torch operations: nothing here may be compiled with -ffinite-math-only.
 */
#include "kernels.h"

#define ELEMENT float
#define NAME(name) name##_float32
#define LOAD(x) (x)
#define STORE(x) (x)
#include "layers.h"

#undef ELEMENT
#undef NAME
#undef LOAD
#undef STORE
#define ELEMENT bf16
#define NAME(name) name##_bfloat16
#define LOAD(x) from_bf16(x)
#define STORE(x) to_bf16(x)
#include "layers.h"

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
