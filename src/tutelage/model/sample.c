/* The next token of every row: softmax, filters and the inverse of the cumulative distribution in a few passes.
 *
 * The rules are those of generation/sampling.py, which is the reference; each row's result depends on that row alone.
 */
#include "kernels.h"
#include <stdlib.h>

#define BLOCK 256 /* chances summed together in float32; sums of blocks are added in float64 */

/* Chances (not normalised) above a threshold: their sum and their number. */
static double above(const float *chances, i64 width, float threshold, i64 *count) {
    double total = 0.0;
    i64 found = 0;
    for (i64 first = 0; first < width; first += BLOCK) {
        const i64 last = first + BLOCK < width ? first + BLOCK : width;
        float sum = 0.0f;
        int32_t number = 0;
#pragma omp simd reduction(+ : sum, number)
        for (i64 j = first; j < last; j++) {
            sum += chances[j] > threshold ? chances[j] : 0.0f;
            number += chances[j] > threshold;
        }
        total += sum;
        found += number;
    }
    *count = found;
    return total;
}

/* In the order of falling chances, ties by number, the tokens kept are those above `threshold` and `ties` at it. */
typedef struct {
    float threshold;
    i64 ties;
} Prefix;

/* The longest prefix whose tokens are each preceded by less than `mass` and by fewer than `most` others. */
static Prefix longest_prefix(const float *chances, i64 width, double mass, i64 most) {
    uint32_t low = 0, high = to_bits(1.0f); /* chances are in [0, 1], where floats are ordered as their bits are */
    i64 count;
    while (low < high) { /* the least threshold with too little above it to end the prefix */
        const uint32_t middle = low + (high - low) / 2;
        if (above(chances, width, from_bits(middle), &count) < mass && count < most)
            high = middle;
        else
            low = middle + 1;
    }
    const float threshold = from_bits(low);
    double before = above(chances, width, threshold, &count);
    i64 ties = 0;
    while (count + ties < most && before < mass && ties < width) {
        ties++;
        before += threshold;
        if (threshold == 0.0f) ties = width; /* no chance of being drawn: all or none */
    }
    return (Prefix){threshold, ties > 0 ? ties : 1};
}

static void filter(float *chances, i64 width, double total, i64 top_k, double top_p, float least) {
    Prefix prefix = {0.0f, width};
    if (top_k > 0 || top_p < 1.0)
        prefix = longest_prefix(chances, width, top_p < 1.0 ? top_p * total : INFINITY, top_k > 0 ? top_k : width);
    for (i64 j = 0; j < width; j++) {
        int kept = chances[j] > prefix.threshold;
        if (chances[j] == prefix.threshold && prefix.ties > 0) kept = 1, prefix.ties--;
        if (!kept || chances[j] < least) chances[j] = 0.0f;
    }
}

static i64 first_above(const float *chances, i64 width, double threshold) {
    double before = 0.0;
    i64 likely = width - 1;
    for (i64 first = 0; first < width; first += BLOCK) {
        const i64 last = first + BLOCK < width ? first + BLOCK : width;
        float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
        for (i64 j = first; j < last; j++) sum += chances[j];
        if (before + sum > threshold) {
            double reached = before;
            for (i64 j = first; j < last; j++) {
                reached += chances[j];
                if (chances[j] > 0.0f) likely = j;
                if (reached > threshold) return j;
            }
            return likely; /* the two sums were rounded differently */
        }
        before += sum;
    }
    while (likely > 0 && chances[likely] == 0.0f) likely--;
    return likely;
}

/* The last if there is none: where all are NaN. */
static i64 first_equal(const float *x, i64 width, float wanted) {
    for (i64 first = 0; first < width; first += BLOCK) {
        const i64 last = first + BLOCK < width ? first + BLOCK : width;
        int found = 0;
#pragma omp simd reduction(| : found)
        for (i64 j = first; j < last; j++) found |= x[j] == wanted;
        for (i64 j = first; found && j < last; j++)
            if (x[j] == wanted) return j;
    }
    return width - 1;
}

/* tokens and their log-probabilities under softmax(logits / temperature); temperature 0: the likeliest, at 1. */
void draw_rows(const float *logits, const double *uniforms, const float *temperatures, const i64 *top_k,
               const double *top_p, const double *min_p, i64 *tokens, float *logprobs, i64 rows, i64 width,
               int threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(dynamic)
    for (i64 row = 0; row < rows; row++) {
        const float *x = logits + row * width;
        float *chances = malloc(width * sizeof *chances);
        const float scale = temperatures[row] > 0.0f ? 1.0f / temperatures[row] : 1.0f;
        float largest = -INFINITY;
#pragma omp simd reduction(max : largest)
        for (i64 j = 0; j < width; j++) largest = x[j] > largest ? x[j] : largest;
        double total = 0.0;
        for (i64 first = 0; first < width; first += BLOCK) {
            const i64 last = first + BLOCK < width ? first + BLOCK : width;
            float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
            for (i64 j = first; j < last; j++) {
                chances[j] = exp_f32((x[j] - largest) * scale);
                sum += chances[j];
            }
            total += sum;
        }
        i64 token = 0;
        if (temperatures[row] > 0.0f) {
            if (top_k[row] > 0 || top_p[row] < 1.0 || min_p[row] > 0.0) {
                filter(chances, width, total, top_k[row], top_p[row], (float)min_p[row]);
                i64 count;
                token = first_above(chances, width, uniforms[row] * above(chances, width, 0.0f, &count));
            } else
                token = first_above(chances, width, uniforms[row] * total);
        } else
            token = first_equal(x, width, largest);
        tokens[row] = token;
        logprobs[row] = (x[token] - largest) * scale - (float)log(total);
        free(chances);
    }
}
