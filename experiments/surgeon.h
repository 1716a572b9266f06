/* Attention, its derivatives and the doctor, for C and whatever can call C: libsurgeon.so.

   Every function returns 0, or -1 when it refuses; surgeon_error() then says why, in one sentence. Inputs are read in
   place, without a copy; results are written once, to memory of the caller's. Nothing is kept between calls, and calls
   from several threads do not disturb each other. */
#ifndef SURGEON_H
#define SURGEON_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SURGEON_API __attribute__((visibility("default")))

typedef enum { SURGEON_FLOAT32 = 0, SURGEON_FLOAT64 = 1 } surgeon_dtype;

/* softmax(scale Q K^T) V. All tensors are contiguous: Q [batch, heads, Tq, d_k], K [batch, kv_heads, Tk, d_k],
   V [batch, kv_heads, Tk, d_v], output [batch, heads, Tq, d_v]. kv_heads divides heads. */
typedef struct {
  surgeon_dtype dtype;
  int64_t batch, heads, kv_heads, Tq, Tk, d_k, d_v;
  const void *Q, *K, *V;
  const uint8_t* mask;     /* 1 = may attend; NULL: everything. [mask_batch, mask_heads, Tq, Tk], each 1 or the full size */
  int64_t mask_batch, mask_heads;
  const void* bias;        /* [bias_batch, bias_heads, Tq, Tk], added to the scores; NULL: none */
  int64_t bias_batch, bias_heads;
  double scale;            /* nan: 1/sqrt(d_k) */
  int32_t causal;          /* query i sees keys 0 .. i + Tk - Tq */
  int64_t window;          /* only keys fewer than this many places away; 0: all */
  double soft_cap;         /* 0: none */
} surgeon_problem;

/* For each query, [batch, heads, Tq]: its largest score, log-sum-exp, entropy, and the norm of softmax's Jacobian. */
SURGEON_API int surgeon_rows(const surgeon_problem*, void* largest, void* logsumexp, void* entropy, void* jacobian);
SURGEON_API int surgeon_attention(const surgeon_problem*, void* output);
/* The gradients of sum(dO * output). A result that is NULL is not wanted. */
SURGEON_API int surgeon_vjp(const surgeon_problem*, const void* dO, void* dQ, void* dK, void* dV);
/* The derivative of the output along (Q_dot, K_dot, V_dot). */
SURGEON_API int surgeon_jvp(const surgeon_problem*, const void* Q_dot, const void* K_dot, const void* V_dot,
                            void* output_dot);
/* The Hessian of sum(dO * output) with respect to (Q, K, V), times (vQ, vK, vV). With surgeon_jvp of the same vectors,
   which is the part by dO, it is all that double backward needs. */
SURGEON_API int surgeon_hvp(const surgeon_problem*, const void* dO, const void* vQ, const void* vK, const void* vV,
                            void* hQ, void* hK, void* hV);

/* What somebody computed, for the doctor; NULL where nothing was kept. weights, dP, dS [batch, heads, Tq, Tk]. */
typedef struct {
  const void *output, *weights, *dO, *dP, *dS, *dQ, *dK, *dV;
} surgeon_kept;
/* Writes a JSON object: {"findings": [{"kind", "name", "sentence", "where", "found", "expected", "allowed", "certainty",
   "evidence", "cure"}], "observations": [the same, true of healthy layers too], "held": [...], "unchecked": [...]}, with
   a 0 at the end. When it does not fit, nothing is written and the return value is the size it needs; else 0. */
SURGEON_API int64_t surgeon_doctor(const surgeon_problem*, const surgeon_kept*, char* json, size_t size);

SURGEON_API const char* surgeon_error(void);        /* of this thread's last call that returned -1 */
SURGEON_API int surgeon_set_threads(int threads);   /* at least 1 */
SURGEON_API int surgeon_threads(void);

#ifdef __cplusplus
}
#endif
#endif
