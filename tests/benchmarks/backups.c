// Backups as a person would write them by hand, for the states low … high-1 of S.
// E, A, K are set by the compiler's command line.
#include <math.h>
#include <stdint.h>

#define BLOCK 256   // states whose numbers stay near while a vector loop runs along them
#define AHEAD 64    // states ahead that memory is asked for

// beta(s) = scale * sum over e of m(s, e) beta'(to(s, e)); returns the largest.
double exp_space(double *out, const double *beta, const uint32_t *to, const double *m, double scale, long low, long high) {
    double most = 0;
    for (long s = low; s < high; s++) {
        const uint32_t *t = to + s * E;
        const double *w = m + s * E;
        __builtin_prefetch(w + AHEAD * E);
        __builtin_prefetch(t + AHEAD * E);
        double sum = 0;
#pragma GCC unroll 16
        for (int e = 0; e < E; e++) sum += w[e] * beta[t[e]];
        out[s] = scale * sum;
        most = out[s] > most ? out[s] : most;
    }
    return most;
}

// u(s) = log sum over e of exp(log_m(s, e) + u'(to(s, e)))
double log_space(double *out, const double *u, const uint32_t *to, const double *log_m, long low, long high) {
    double x[E][BLOCK], top[BLOCK], sum[BLOCK];
    for (long first = low; first < high; first += BLOCK) {
        int n = high - first < BLOCK ? high - first : BLOCK;
        for (int i = 0; i < n; i++) {
            long s = first + i;
            __builtin_prefetch(log_m + (s + AHEAD) * E);
            __builtin_prefetch(to + (s + AHEAD) * E);
#pragma GCC unroll 16
            for (int e = 0; e < E; e++) x[e][i] = log_m[s * E + e] + u[to[s * E + e]];
        }
        for (int i = 0; i < n; i++) top[i] = x[0][i], sum[i] = 0;
        for (int e = 1; e < E; e++)
            for (int i = 0; i < n; i++) top[i] = x[e][i] > top[i] ? x[e][i] : top[i];
        for (int e = 0; e < E; e++)
            for (int i = 0; i < n; i++) sum[i] += exp(x[e][i] - top[i]);
        for (int i = 0; i < n; i++) out[first + i] = top[i] + log(sum[i]);
    }
    return 0;
}

// q(s, a) = r(s, a) + sum over k of p(s, a, k) v'(to(s, a, k)),  v(s) = alpha log sum over a of exp(prior(s, a) + q/alpha)
double variational(double *out, const double *v, const uint32_t *to, const double *p, const double *r, const double *prior,
                 double alpha, long low, long high) {
    double q[A][BLOCK], top[BLOCK], sum[BLOCK];
    for (long first = low; first < high; first += BLOCK) {
        int n = high - first < BLOCK ? high - first : BLOCK;
        for (int i = 0; i < n; i++) {
            long s = first + i;
            __builtin_prefetch(p + (s + AHEAD) * A * K);
            __builtin_prefetch(p + (s + AHEAD) * A * K + 8);
            __builtin_prefetch(to + (s + AHEAD) * A * K);
            __builtin_prefetch(r + (s + AHEAD) * A);
            for (int a = 0; a < A; a++) {
                double mean = r[s * A + a];
                for (int k = 0; k < K; k++) mean += p[(s * A + a) * K + k] * v[to[(s * A + a) * K + k]];
                q[a][i] = mean / alpha + prior[a];
            }
        }
        for (int i = 0; i < n; i++) top[i] = q[0][i], sum[i] = 0;
        for (int a = 1; a < A; a++)
            for (int i = 0; i < n; i++) top[i] = q[a][i] > top[i] ? q[a][i] : top[i];
        for (int a = 0; a < A; a++)
            for (int i = 0; i < n; i++) sum[i] += exp(q[a][i] - top[i]);
        for (int i = 0; i < n; i++) out[first + i] = alpha * (top[i] + log(sum[i]));
    }
    return 0;
}
