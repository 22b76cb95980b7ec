// The backward sweep, on a model of model.js. Pure functions on typed arrays, no document. Values in reward units.
//
//   Engine.RULES      the names: POSTERIOR, VARIATIONAL, HARD, MAP, PLANNING, RISK
//   Engine.solve(model, name, { temperature, eta, horizon, observed }) -> Messages
//        horizon: T, the model's own unless given; eta: of RISK, ±Infinity averages
//        observed: [{ t, states: [s] }], s_t is one of these: a factor of 0 elsewhere
//   Messages  { model, rule, alpha, T, observed, v [(T+1)·S], q, policy, logPolicy [T·S·A], value (start value),
//               nats (value / α: log Z of POSTERIOR, ELBO* of VARIATIONAL), possible, words }
//        v of time t begins at t·S, q and the policy at t·S·A; -Infinity is a value, NaN is none;
//        where nothing is possible `words` say so, else they are empty
//
// account.js goes on: the forward pass, and where the nats go.

"use strict";

Object.assign(Engine, (() => {
  const EPS = Number.EPSILON;
  const TIE = 32; // units in the last place within which choices are tied (cai/exact/rule_means.py)
  const DRIFT = 4; // and as many a step to go, by which symmetric choices drift apart (cai/exact/rounding.py)

  // ---- means of n entries x [at …] under weights w [from …]; `tilted` receives the tilted weights, `log` and `p` [to …]

  /** η log Σ w exp(x/η), tilted by exp(x/η). Risk-averse where η < 0: one x of -∞ rules. */
  function soft(x, at, n, logW, w, from, eta, tilted, to) {
    const { log, p } = tilted;
    let best = eta > 0 ? -Infinity : Infinity;
    for (let i = 0; i < n; i++) {
      if (logW[from + i] > -Infinity && (eta > 0 ? x[at + i] > best : x[at + i] < best)) best = x[at + i];
    }
    if (best === -Infinity || best === Infinity) return untilted(-Infinity, n, logW, w, from, tilted, to);
    let sum = 0;
    for (let i = 0; i < n; i++) {
      const gain = (x[at + i] - best) / eta; // 0 at best, else below
      log[to + i] = logW[from + i] + gain;
      p[to + i] = gain === 0 ? w[from + i] : gain > -746 ? w[from + i] * Math.exp(gain) : 0;
      sum += p[to + i];
    }
    if (sum < 1e-290) return best + eta * unlikely(n, tilted, to);
    let total = Math.log(sum);
    if (Math.abs(eta) > 4 * Math.abs(best + eta * total)) total = nearZero(x, at, n, w, from, eta, best, total);
    for (let i = 0; i < n; i++) {
      log[to + i] -= total;
      p[to + i] /= sum;
    }
    return best + eta * total;
  }

  /** log Σ w exp(gain) where η is hot: the logarithm of a sum near 1 loses digits, log1p(Σ w expm1(gain)) keeps them. */
  function nearZero(x, at, n, w, from, eta, best, total) {
    let sum = 0;
    let defect = -1;
    for (let i = 0; i < n; i++) {
      defect += w[from + i];
      if (w[from + i] > 0 && x[at + i] !== best) sum += w[from + i] * Math.expm1((x[at + i] - best) / eta);
    }
    return sum < 0 && sum > -0.5 && Math.abs(defect) < 64 * EPS ? Math.log1p(sum) : total;
  }

  /** The same where the exponentials themselves would all be 0: what is best has hardly any weight. */
  function unlikely(n, { log, p }, to) {
    let top = -Infinity;
    for (let i = 0; i < n; i++) if (log[to + i] > top) top = log[to + i];
    let sum = 0;
    for (let i = 0; i < n; i++) sum += Math.exp(log[to + i] - top);
    const total = top + Math.log(sum);
    for (let i = 0; i < n; i++) {
      log[to + i] -= total;
      p[to + i] = Math.exp(log[to + i]);
    }
    return total;
  }

  /** Σ w x: nothing is tilted, and an entry of weight zero does not count. */
  function expect(x, at, n, logW, w, from, eta, tilted, to) {
    let sum = 0;
    for (let i = 0; i < n; i++) if (w[from + i] > 0) sum += w[from + i] * x[at + i];
    return untilted(sum, n, logW, w, from, tilted, to);
  }

  function untilted(value, n, logW, w, from, { log, p }, to) {
    for (let i = 0; i < n; i++) {
      log[to + i] = logW[from + i];
      p[to + i] = w[from + i];
    }
    return value;
  }

  /** max x over w > 0; what falls short of it by `slack` is tied, and shares as w does. */
  function best(x, at, n, logW, w, from, eta, tilted, to, slack = 0) {
    for (let i = 0; i < n; i++) tilted.p[to + i] = logW[from + i] > -Infinity ? x[at + i] : -Infinity;
    return maximum(n, logW, w, from, tilted, to, slack);
  }

  /** max (η log w + x), tied the same way. */
  function viterbi(x, at, n, logW, w, from, eta, tilted, to, slack = 0) {
    for (let i = 0; i < n; i++) tilted.p[to + i] = eta * logW[from + i] + x[at + i];
    return maximum(n, logW, w, from, tilted, to, slack);
  }

  /** The largest score; the scores lie where the tilted weights go. */
  function maximum(n, logW, w, from, tilted, to, slack) {
    const { log, p } = tilted;
    let value = -Infinity;
    for (let i = 0; i < n; i++) if (p[to + i] > value) value = p[to + i];
    if (value === -Infinity) return untilted(value, n, logW, w, from, tilted, to);
    const least = value - slack - TIE * EPS * Math.abs(value - slack);
    let shared = 0;
    for (let i = 0; i < n; i++) if (p[to + i] >= least) shared += w[from + i];
    const logShared = Math.log(shared);
    for (let i = 0; i < n; i++) {
      const tied = p[to + i] >= least;
      log[to + i] = tied ? logW[from + i] - logShared : -Infinity;
      p[to + i] = tied ? w[from + i] / shared : 0;
    }
    return value;
  }

  // ---- rules: a mean over outcomes (and over survival, and the start), and one over actions

  const MEANS = {
    POSTERIOR: [soft, soft], // β-messages of p(τ | O = 1)
    VARIATIONAL: [expect, soft], // the best ELBO, the dynamics held fixed
    HARD: [expect, best], // Bellman optimality
    MAP: [viterbi, viterbi], // the most probable trajectory
    PLANNING: [soft, viterbi], // the best α log E exp(return/α), the prior paid
    RISK: [soft, soft], // η over outcomes, α over actions
  };
  const RULES = Object.keys(MEANS);

  /** A rule at a temperature. Over outcomes η stands in the place of α, which it is but for RISK. */
  function ruleOf(name, alpha, eta) {
    const [overOutcomes, overActions] = MEANS[name];
    if (name !== "RISK") return { name, alpha, eta: alpha, overOutcomes, overActions };
    return { name, alpha, eta, overOutcomes: Number.isFinite(eta) ? soft : expect, overActions };
  }

  // ---- the backward sweep

  const sliceOf = (model, t) => model.slices[model.sliceAt === null ? 0 : model.sliceAt[t]];

  const pair = (size) => ({ log: new Float64Array(size), p: new Float64Array(size) });

  /** Room for the outcomes of one (s, a), or for the actions of one s; and what a rule has made of a slice. */
  function roomFor(model) {
    const most = Math.max(model.A, 2, ...model.slices.map((slice) => slice.most));
    return { x: new Float64Array(most), tilted: pair(most), u: new Float64Array(model.S), factors: new Map() };
  }

  /** c(s') = mean over { go on: v(s'), end: 0 } with weights γ, 1-γ; `on` receives p(go on) under the rule. */
  function survive(model, rule, v, c, on) {
    const { discount } = model;
    if (discount === 1) {
      c.set(v);
      on.fill(1);
      return;
    }
    const w = Float64Array.of(discount, 1 - discount);
    const logW = w.map(Math.log);
    const [x, tilted] = [new Float64Array(2), pair(2)];
    for (let s = 0; s < c.length; s++) {
      x[0] = v[s];
      c[s] = rule.overOutcomes(x, 0, 2, logW, w, 0, rule.eta, tilted, 0);
      on[s] = tilted.p[0];
    }
  }

  /** q(s,a) = mean over outcomes of r + c(s'), for all (s, a) of a slice. */
  function meanOutcomes(rule, slice, c, q, room) {
    const { offset, prob, successor, reward } = slice;
    if (rule.overOutcomes === expect) {
      for (let sa = 0; sa < q.length; sa++) {
        let sum = 0;
        for (let k = offset[sa]; k < offset[sa + 1]; k++) {
          if (prob[k] > 0) sum += prob[k] * (reward[k] + c[successor[k]]);
        }
        q[sa] = sum;
      }
      return;
    }
    const linear = rule.overOutcomes === soft ? linearIn(rule, slice, c, room) : null;
    for (let sa = 0; sa < q.length; sa++) {
      const sum = linear ? sumOf(linear, slice, sa) : 0;
      q[sa] = inRange(sum) ? linear.top + rule.eta * Math.log(sum) : rowMean(rule, slice, sa, c, room);
    }
  }

  /** The same for one (s, a); the tilted weights of its outcomes are left in the room. */
  function rowMean({ overOutcomes, eta }, { offset, logProb, prob, successor, reward }, sa, c, { x, tilted }) {
    const from = offset[sa];
    const n = offset[sa + 1] - from;
    for (let k = 0; k < n; k++) x[k] = reward[from + k] + c[successor[from + k]];
    return overOutcomes(x, 0, n, logProb, prob, from, eta, tilted, 0);
  }

  /**
   * β-messages are linear:  exp(q/η) = Σ p exp(r/η) exp(c(s')/η).  So an exponential for each state is enough, where one
   * for each outcome is safe but slow. `f` is p exp(r/η); `u` is exp((c - top)/η), at most 1.
   */
  function linearIn({ eta }, slice, c, { u, factors }) {
    if (!factors.has(slice)) factors.set(slice, slice.prob.map((p, k) => p * Math.exp(slice.reward[k] / eta)));
    let top = eta > 0 ? -Infinity : Infinity;
    for (let s = 0; s < c.length; s++) if (eta > 0 ? c[s] > top : c[s] < top) top = c[s];
    const hot = Math.abs(eta) > 4 * Math.max(slice.largest, largest(c)); // then a sum near 1 loses digits
    if (top === -Infinity || hot) return null;
    for (let s = 0; s < c.length; s++) u[s] = Math.exp((c[s] - top) / eta);
    return { f: factors.get(slice), u, top };
  }

  function sumOf({ f, u }, { offset, successor }, sa) {
    let sum = 0;
    for (let k = offset[sa]; k < offset[sa + 1]; k++) sum += f[k] * u[successor[k]];
    return sum;
  }

  const inRange = (sum) => sum > 1e-280 && sum < 1e280;

  /** One backup:  v(s) = mean over actions of q(s,a). */
  function backUp(model, rule, slice, slack, c, { v, q, policy }, room) {
    const { S, A } = model;
    const { logPrior, prior } = slice;
    meanOutcomes(rule, slice, c, q, room);
    for (let s = 0; s < S; s++) {
      v[s] = rule.overActions(q, s * A, A, logPrior, prior, s * A, rule.alpha, policy, s * A, slack);
    }
  }

  /** What was seen at time t: elsewhere nothing is possible, and the policy is the prior. */
  function observe(model, slice, states, { v, q, policy }) {
    const { S, A } = model;
    const seen = new Set(states);
    for (let s = 0; s < S; s++) {
      if (seen.has(s)) continue;
      v[s] = -Infinity;
      if (slice === null) continue;
      q.fill(-Infinity, s * A, (s + 1) * A);
      untilted(0, A, slice.logPrior, slice.prior, s * A, policy, s * A);
    }
  }

  function largest(values) {
    let size = 0;
    for (let i = 0; i < values.length; i++) {
      const x = Math.abs(values[i]);
      if (x > size && x < Infinity) size = x;
    }
    return size;
  }

  function solve(model, name, { temperature, eta = temperature, horizon = model.horizon, observed = [] }) {
    const [S, SA, T] = [model.S, model.S * model.A, horizon];
    const rule = ruleOf(name, temperature, eta);
    const [v, q, policy] = [new Float64Array((T + 1) * S), new Float64Array(T * SA), pair(T * SA)];
    const [c, on, room] = [new Float64Array(S), new Float64Array(S), roomFor(model)];
    const at = (array, t, size) => array.subarray(t * size, (t + 1) * size);
    v.set(model.terminal, T * S);
    for (const seen of observed) if (seen.t === T) observe(model, null, seen.states, { v: at(v, T, S) });
    for (let t = T - 1; t >= 0; t--) {
      const [slice, next] = [sliceOf(model, t), at(v, t + 1, S)];
      const now = { v: at(v, t, S), q: at(q, t, SA), policy: { log: at(policy.log, t, SA), p: at(policy.p, t, SA) } };
      const size = rule.overActions === soft ? 0 : Math.max(slice.largest, largest(next));
      survive(model, rule, next, c, on);
      backUp(model, rule, slice, DRIFT * (T - t) * EPS * size, c, now, room);
      for (const seen of observed) if (seen.t === t) observe(model, slice, seen.states, now);
    }
    const { value } = startOf(model, rule, v);
    const said = { value, nats: value / temperature, possible: value > -Infinity, words: whyNot(name, value, observed) };
    return { model, rule, alpha: temperature, T, observed, v, q, policy: policy.p, logPolicy: policy.log, ...said };
  }

  /** The start, as one more slice: its mean over s_0, and p(s_0) under the rule with its logarithm, [S]. */
  function startOf(model, rule, v) {
    const { S, logInitial } = model;
    const tilted = pair(S);
    const value = rule.overOutcomes(v, 0, S, logInitial, logInitial.map(Math.exp), 0, rule.eta, tilted, 0);
    return { value, ...tilted };
  }

  function whyNot(name, value, observed) {
    if (value > -Infinity) return "";
    const seen = observed.length > 0;
    if (name === "VARIATIONAL" || name === "HARD") {
      if (seen) return `${name} asks for the best policy, and no policy makes certain what was observed. Ask POSTERIOR.`;
      return `Under ${name} the start value is −∞: every policy risks a forbidden reward.`;
    }
    if (seen) return "The evidence is zero: what was observed happens on no trajectory that can be optimal.";
    return "The evidence is zero: no trajectory can be optimal.";
  }

  return { RULES, solve, sliceOf, roomFor, survive, startOf, rowMean, linearIn, sumOf, inRange };
})());
