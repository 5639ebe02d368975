/* The gradient of a linear map's weight in float32 from bfloat16 gradients and inputs. */
#include "amx.h"

#define DEPTH 512             /* tokens together: the panels of their inputs stay in the cache */
#define APART (DEPTH + 32) /* no power of two: rows must not fall into the same set of the cache */

/* Whether this machine and this process can. */
void amx_answer(int *yes) { *yes = amx_ready(); }

/* to [32, APART] = from [depth, 32]^T, whose rows are `stride` apart: pairs of tokens at once. */
static void turn(const bf16 *from, i64 stride, i64 depth, bf16 *to) {
    for (i64 first = 0; first < depth; first += AMX_BLOCK)
        for (i64 half = 0; half < AMX_BLOCK; half += 16) {
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
        for (i64 output = 0; output < outputs; output += AMX_BLOCK) {
            bf16 turned[AMX_BLOCK * APART] __attribute__((aligned(64)));
            turn(grad + first * outputs + output, outputs, depth, turned);
            amx_begin();
            for (i64 input = 0; input < inputs; input += AMX_BLOCK)
                amx_add_product_32(turned, APART, panels + input * depth, depth, sums + output * inputs + input, inputs);
            amx_end();
        }
    }
}
