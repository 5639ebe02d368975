/* The gradient of a linear map's weight in float32 from bfloat16 gradients and inputs. */
#include "amx.h"

#define DEPTH 512             /* tokens together: the panels of their inputs stay in the cache */
#define TOGETHER 64        /* outputs whose gradients are turned together: a row's next to each other in memory */
#define APART (DEPTH + 32)    /* no power of two: rows must not fall into the same set of the cache */

/* Whether this machine and this process can. */
void amx_answer(int *yes) { *yes = amx_ready(); }

/* to [count, APART] = from [depth, count]^T, whose rows are `stride` apart: pairs of tokens at once. */
static void turn(const bf16 *from, i64 stride, i64 depth, i64 count, bf16 *to) {
    for (i64 first = 0; first < depth; first += AMX_BLOCK)
        for (i64 half = 0; half < count; half += 16) {
            Pairs rows[16];
            for (i64 pair = 0; pair < 16; pair++) {
                const bf16 *even = from + (first + 2 * pair) * stride + half;
                amx_interleave(even, even + stride, rows + pair);
            }
            amx_transpose(rows);
            for (i64 j = 0; j < 16; j++) *(Pairs *)(to + (half + j) * APART + first) = rows[j];
        }
}

/* sums [outputs, inputs] += grad [tokens, outputs]^T x [tokens, inputs]; all three are multiples of 32.
 * panels: room for inputs * min(tokens, 512). */
void add_weight_gradient(const bf16 *grad, const bf16 *x, float *sums, bf16 *panels, i64 tokens, i64 outputs,
                         i64 inputs, int threads) {
    for (i64 first = 0; first < tokens; first += DEPTH) {
        const i64 depth = first + DEPTH < tokens ? DEPTH : tokens - first;
        amx_pack_transposed(x + first * inputs, inputs, depth, panels);
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
        for (i64 output = 0; output < outputs; output += TOGETHER) {
            const i64 end = output + TOGETHER < outputs ? output + TOGETHER : outputs;
            bf16 turned[TOGETHER * APART] __attribute__((aligned(64)));
            turn(grad + first * outputs + output, outputs, depth, end - output, turned);
            amx_begin();
            for (i64 input = 0; input < inputs; input += AMX_BLOCK)
                for (i64 o = output; o < end; o += AMX_BLOCK)
                    amx_add_product_32(turned + (o - output) * APART, APART, panels + input * depth, depth,
                                       sums + o * inputs + input, inputs);
            amx_end();
        }
    }
}
