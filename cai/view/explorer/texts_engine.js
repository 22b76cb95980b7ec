// Texts in the browser: a reference writes, a pattern pays, and five policies are solved backward. Pure functions.
//
//   Texts.reference(data) -> Reference                        the numbers of the page
//   Texts.world(reference, word, T, ends) -> World            reference × the automaton of the word, reachable pairs only
//   Texts.solve(world, kind, alpha) -> Float64Array           log π_t(x | state), nats, [T·S·V]
//   Texts.account(world, policy, alpha, best) -> Account      the exact numbers of a policy; `best` is the optimum
//   Texts.sample(world, policy, uniforms) -> [letter]         one text; the same uniforms for every policy
//
// Reference { M, V, start, logNext [M·V], next [M·V] }        a finite memory, such as the last letter
// World     { T, S, V, logRef [S·V], next [S·V], final [S] }  the start is state 0; `final` in reward units
// Account   { accepted, kl, elbo, gap, entropy, lost [T] }    a probability, nats, …; `lost` by position, nats
//
// With Q the next state's v, and ref the reference; cai.kl_fixed_point has the same equations:
//
//   optimum   k1 in the reward              π = ref exp((Q − v)/α)     v = α log Σ ref exp(Q/α)
//   k2        k2 or ratio × k3 in the loss  π ∝ ref exp(Q/α)           v = Σ π Q
//   k3        k3 in the loss                π = ref α/(λ − Q)          v = Σ π Q, λ makes π sum to 1
//   k1        k1 in the loss                ref on the maximisers      v = max Q
//   reference                               π = ref                    v = Σ π Q

"use strict";

const Texts = (() => {
  const STEPS = 60;
  const CLOSE = 1e-14;
  const TIED = 1e-12;

  function reference(data) {
    return {
      M: data.memories,
      V: data.letters.length,
      start: data.start,
      logNext: Float64Array.from(data.probability, Math.log),
      next: Int32Array.from(data.following),
    };
  }

  /** The automaton that looks for a word (Knuth, Morris & Pratt 1977): how much of it is found, [Q·V]. */
  function search(word, V, ends) {
    const rows = [];
    let back = 0;
    for (let i = 0; i <= word.length; i++) {
      const row = i === 0 ? new Int32Array(V) : rows[back].slice();
      if (i < word.length) {
        row[word[i]] = i + 1;
        back = i ? rows[back][word[i]] : 0;
      }
      rows.push(row);
    }
    if (!ends) rows[word.length].fill(word.length);
    return rows;
  }

  function world(ref, word, T, ends) {
    const { V } = ref;
    const automaton = search(word, V, ends);
    const Q = automaton.length;
    const number = new Map([[ref.start * Q, 0]]);
    const pairs = [ref.start * Q];
    const next = [];
    for (let s = 0; s < pairs.length; s++) {
      const m = Math.floor(pairs[s] / Q);
      const q = pairs[s] % Q;
      for (let x = 0; x < V; x++) {
        const pair = ref.next[m * V + x] * Q + automaton[q][x];
        if (!number.has(pair)) {
          number.set(pair, pairs.length);
          pairs.push(pair);
        }
        next.push(number.get(pair));
      }
    }
    const logRef = new Float64Array(pairs.length * V);
    pairs.forEach((pair, s) => {
      const m = Math.floor(pair / Q);
      logRef.set(ref.logNext.subarray(m * V, (m + 1) * V), s * V);
    });
    const final = Float64Array.from(pairs, (pair) => (pair % Q === Q - 1 ? 1 : 0));
    return { T, S: pairs.length, V, logRef, next: Int32Array.from(next), final };
  }

  /** Make `out`, logarithms up to a constant, sum to 1 in place; returns the logarithm of what the sum was. */
  function normalise(out) {
    let top = -Infinity;
    for (let x = 0; x < out.length; x++) if (out[x] > top) top = out[x];
    let sum = 0;
    for (let x = 0; x < out.length; x++) sum += Math.exp(out[x] - top);
    const total = top + Math.log(sum);
    for (let x = 0; x < out.length; x++) out[x] -= total;
    return total;
  }

  function mean(out, q) {
    let sum = 0;
    for (let x = 0; x < q.length; x++) if (out[x] > -Infinity) sum += Math.exp(out[x]) * q[x];
    return sum;
  }

  function highest(q, ref) {
    let top = -Infinity;
    for (let x = 0; x < q.length; x++) if (ref[x] > -Infinity && q[x] > top) top = q[x];
    return top;
  }

  /** π ∝ ref exp(q/α) into `out`; returns log Σ ref exp(q/α). */
  function exponential(q, ref, alpha, out) {
    for (let x = 0; x < q.length; x++) out[x] = ref[x] + q[x] / alpha;
    return normalise(out);
  }

  /** π = ref α/(λ − q) into `out`: Newton on 1/Σ − 1, concave and rising in z, the distance of λ from the highest q. */
  function polynomial(q, ref, alpha, out) {
    const top = highest(q, ref);
    let z = Number.MIN_VALUE;
    for (let x = 0; x < q.length; x++) {
      if (ref[x] > -Infinity) z = Math.max(z, alpha * Math.exp(ref[x]) - (top - q[x]));
    }
    for (let n = 0; n < STEPS; n++) {
      let total = 0;
      let slope = 0;
      for (let x = 0; x < q.length; x++) {
        if (ref[x] === -Infinity) continue;
        const share = (alpha * Math.exp(ref[x])) / (z + top - q[x]);
        total += share;
        slope += share / (z + top - q[x]);
      }
      const step = (total * (total - 1)) / slope;
      z += step;
      if (!(step > CLOSE * z)) break;
    }
    for (let x = 0; x < q.length; x++) out[x] = ref[x] === -Infinity ? ref[x] : ref[x] + Math.log(alpha / (z + top - q[x]));
    normalise(out);
  }

  /** From the values q of the next states and log ref [V]: log π into `out`, and v is returned. */
  const TILTS = {
    reference(q, ref, alpha, out) {
      out.set(ref);
      return mean(out, q);
    },
    optimum: (q, ref, alpha, out) => alpha * exponential(q, ref, alpha, out),
    k2(q, ref, alpha, out) {
      exponential(q, ref, alpha, out);
      return mean(out, q);
    },
    k3(q, ref, alpha, out) {
      polynomial(q, ref, alpha, out);
      return mean(out, q);
    },
    k1(q, ref, alpha, out) {
      const top = highest(q, ref);
      for (let x = 0; x < q.length; x++) out[x] = q[x] >= top - TIED ? ref[x] : -Infinity;
      normalise(out);
      return top;
    },
  };

  function solve({ T, S, V, logRef, next, final }, kind, alpha) {
    const policy = new Float64Array(T * S * V);
    const tilt = TILTS[kind];
    const q = new Float64Array(V);
    let v = final;
    for (let t = T - 1; t >= 0; t--) {
      const before = new Float64Array(S);
      for (let s = 0; s < S; s++) {
        for (let x = 0; x < V; x++) q[x] = v[next[s * V + x]];
        const place = (t * S + s) * V;
        before[s] = tilt(q, logRef.subarray(s * V, (s + 1) * V), alpha, policy.subarray(place, place + V));
      }
      v = before;
    }
    return policy;
  }

  function account({ T, S, V, logRef, next, final }, policy, alpha, best) {
    let mu = new Float64Array(S);
    mu[0] = 1;
    let kl = 0;
    let entropy = 0;
    const lost = new Float64Array(T);
    for (let t = 0; t < T; t++) {
      const after = new Float64Array(S);
      for (let s = 0; s < S; s++) {
        if (mu[s] === 0) continue;
        for (let x = 0; x < V; x++) {
          const at = (t * S + s) * V + x;
          const log = policy[at];
          if (log === -Infinity) continue;
          const p = mu[s] * Math.exp(log);
          kl += p * (log - logRef[s * V + x]);
          entropy -= p * log;
          lost[t] += p * (log - best[at]);
          after[next[s * V + x]] += p;
        }
      }
      mu = after;
    }
    const accepted = mu.reduce((sum, p, s) => sum + p * final[s], 0);
    return { accepted, kl, elbo: accepted / alpha - kl, gap: lost.reduce((a, b) => a + b, 0), entropy: entropy / T, lost };
  }

  /** The state after a prefix. */
  function after({ V, next }, letters) {
    return letters.reduce((s, x) => next[s * V + x], 0);
  }

  function sample({ T, S, V, next }, policy, uniforms) {
    const letters = [];
    let s = 0;
    for (let t = 0; t < T; t++) {
      let left = uniforms[t];
      let chosen = -1;
      for (let x = 0; x < V; x++) {
        const p = Math.exp(policy[(t * S + s) * V + x]);
        if (p === 0) continue;
        chosen = x;
        left -= p;
        if (left < 0) break;
      }
      letters.push(chosen);
      s = next[s * V + chosen];
    }
    return letters;
  }

  return { reference, world, solve, account, after, sample };
})();
