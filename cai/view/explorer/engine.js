// The backward sweep, on a model of model.js. Pure functions on typed arrays, no document. Values in reward units.
//
//   Engine.RULES      the names: POSTERIOR, VARIATIONAL, HARD, MAP, PLANNING, RISK
//   Engine.solve(model, name, { temperature, eta, horizon, observed }) -> Messages
//        horizon: T, the model's own unless given; eta: of RISK, ±Infinity averages
//        observed: [{ t, states: [s] }], s_t is one of these: a factor of 0 elsewhere
//   Messages  { model, rule, alpha, T, observed, v [(T+1)·S], q [T·S·A], logPolicy [T·S·A], value (start value),
//               nats (value / α: log Z of POSTERIOR, ELBO* of VARIATIONAL), possible, words }
//        v of time t begins at t·S, q and logPolicy at t·S·A; -Infinity is a value, NaN is none;
//        where nothing is possible `words` say so, else they are empty
//   Engine.backup(messages, t) -> { next [S]: c(s_{t+1}), what the backup of time t read, after survival }
//
// account.js goes on: the forward pass, and where the nats go.

"use strict";

Object.assign(Engine, (() => {
  const EPS = Number.EPSILON;
  const TIE = 32; // units in the last place within which choices are tied (cai/exact/rules.py)
  const DRIFT = 4; // and as many a step to go, by which symmetric choices drift apart (cai/exact/rounding.py)

  // ---- means of x[0 … n-1] under weights w [from …]; `tilt` [to …] receives the logarithms of the tilted weights

  /** η log Σ w exp(x/η), tilted by exp(x/η). Risk-averse where η < 0: one x of -∞ rules. */
  function soft(x, n, logW, w, from, eta, tilt, to) {
    let best = eta > 0 ? -Infinity : Infinity;
    for (let i = 0; i < n; i++) {
      if (logW[from + i] > -Infinity && (eta > 0 ? x[i] > best : x[i] < best)) best = x[i];
    }
    if (best === -Infinity || best === Infinity) return nothing(n, logW, from, tilt, to);
    let top = -Infinity;
    for (let i = 0; i < n; i++) {
      tilt[to + i] = logW[from + i] + (x[i] - best) / eta;
      if (tilt[to + i] > top) top = tilt[to + i];
    }
    let sum = 0;
    for (let i = 0; i < n; i++) sum += Math.exp(tilt[to + i] - top);
    let total = top + Math.log(sum);
    if (total > -0.25 && total < 0.25) total = nearZero(x, n, w, from, eta, best, total);
    for (let i = 0; i < n; i++) tilt[to + i] -= total;
    return best + eta * total;
  }

  /** log Σ w exp(gain) near 0, where the logarithm of a sum near 1 loses digits: log1p(Σ w expm1(gain)). */
  function nearZero(x, n, w, from, eta, best, total) {
    let sum = 0;
    let defect = -1;
    for (let i = 0; i < n; i++) {
      defect += w[from + i];
      if (w[from + i] > 0) sum += w[from + i] * Math.expm1((x[i] - best) / eta);
    }
    return Math.abs(defect) < 64 * EPS ? Math.log1p(sum) : total;
  }

  /** Σ w x: nothing is tilted, and an entry of weight zero does not count. */
  function expect(x, n, logW, w, from, eta, tilt, to) {
    let sum = 0;
    for (let i = 0; i < n; i++) {
      if (w[from + i] > 0) sum += w[from + i] * x[i];
      tilt[to + i] = logW[from + i];
    }
    return sum;
  }

  /** max x over w > 0; what falls short of it by `slack` is tied, and shares as w does. */
  function best(x, n, logW, w, from, eta, tilt, to, slack = 0) {
    for (let i = 0; i < n; i++) tilt[to + i] = logW[from + i] > -Infinity ? x[i] : -Infinity;
    return maximum(n, logW, w, from, tilt, to, slack);
  }

  /** max (η log w + x), tied the same way. */
  function viterbi(x, n, logW, w, from, eta, tilt, to, slack = 0) {
    for (let i = 0; i < n; i++) tilt[to + i] = eta * logW[from + i] + x[i];
    return maximum(n, logW, w, from, tilt, to, slack);
  }

  function maximum(n, logW, w, from, tilt, to, slack) {
    let value = -Infinity;
    for (let i = 0; i < n; i++) if (tilt[to + i] > value) value = tilt[to + i];
    if (value === -Infinity) return nothing(n, logW, from, tilt, to);
    const least = value - slack - TIE * EPS * Math.abs(value - slack);
    let shared = 0;
    for (let i = 0; i < n; i++) if (tilt[to + i] >= least) shared += w[from + i];
    for (let i = 0; i < n; i++) tilt[to + i] = tilt[to + i] >= least ? logW[from + i] - Math.log(shared) : -Infinity;
    return value;
  }

  /** Nothing is possible: -∞, and the weights stay as they are. */
  function nothing(n, logW, from, tilt, to) {
    for (let i = 0; i < n; i++) tilt[to + i] = logW[from + i];
    return -Infinity;
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

  /** Room for the outcomes of one (s, a), or for the actions of one s. */
  function roomFor(model) {
    const most = Math.max(model.A, 2, ...model.slices.map((slice) => slice.most));
    return { x: new Float64Array(most), tilt: new Float64Array(most) };
  }

  /** c(s') = mean over { go on: v(s'), end: 0 } with weights γ, 1-γ; `logOn` receives log p(go on) under the rule. */
  function survive(model, rule, v, c, logOn) {
    const { discount } = model;
    if (discount === 1) {
      c.set(v);
      logOn.fill(0);
      return;
    }
    const w = Float64Array.of(discount, 1 - discount);
    const logW = w.map(Math.log);
    const [x, tilt] = [new Float64Array(2), new Float64Array(2)];
    for (let s = 0; s < c.length; s++) {
      x[0] = v[s];
      c[s] = rule.overOutcomes(x, 2, logW, w, 0, rule.eta, tilt, 0);
      logOn[s] = tilt[0];
    }
  }

  /** One backup:  q(s,a) = mean over outcomes of r + c(s'),  v(s) = mean over actions of q(s,a). */
  function backUp(model, rule, slice, slack, c, into, room) {
    const { S, A } = model;
    const { logPrior, prior, offset, logProb, prob, successor, reward } = slice;
    const { overOutcomes, overActions, alpha, eta } = rule;
    const { x, tilt } = room;
    const { v, q, logPolicy } = into;
    for (let s = 0; s < S; s++) {
      for (let a = 0; a < A; a++) {
        const from = offset[s * A + a];
        const n = offset[s * A + a + 1] - from;
        for (let k = 0; k < n; k++) x[k] = reward[from + k] + c[successor[from + k]];
        q[s * A + a] = n === 1 ? x[0] : overOutcomes(x, n, logProb, prob, from, eta, tilt, 0);
      }
      for (let a = 0; a < A; a++) x[a] = q[s * A + a];
      v[s] = overActions(x, A, logPrior, prior, s * A, alpha, logPolicy, s * A, slack);
    }
  }

  /** What was seen at time t: elsewhere nothing is possible, and the policy is the prior. */
  function observe(model, slice, states, { v, q, logPolicy }) {
    const { S, A } = model;
    const seen = new Set(states);
    for (let s = 0; s < S; s++) {
      if (seen.has(s)) continue;
      v[s] = -Infinity;
      if (q === undefined) continue;
      q.fill(-Infinity, s * A, (s + 1) * A);
      logPolicy.set(slice.logPrior.subarray(s * A, (s + 1) * A), s * A);
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
    const { S, A } = model;
    const T = horizon;
    const rule = ruleOf(name, temperature, eta);
    const [v, q, logPolicy] = [(T + 1) * S, T * S * A, T * S * A].map((size) => new Float64Array(size));
    const [c, logOn, room] = [new Float64Array(S), new Float64Array(S), roomFor(model)];
    const at = (t) => ({
      v: v.subarray(t * S, (t + 1) * S),
      q: q.subarray(t * S * A, (t + 1) * S * A),
      logPolicy: logPolicy.subarray(t * S * A, (t + 1) * S * A),
    });
    v.set(model.terminal, T * S);
    for (const { t, states } of observed) if (t === T) observe(model, null, states, { v: at(T).v });
    for (let t = T - 1; t >= 0; t--) {
      const [slice, next, now] = [sliceOf(model, t), at(t + 1).v, at(t)];
      survive(model, rule, next, c, logOn);
      const size = rule.overActions === soft ? 0 : Math.max(slice.largest, largest(next));
      backUp(model, rule, slice, DRIFT * (T - t) * EPS * size, c, now, room);
      for (const seen of observed) if (seen.t === t) observe(model, slice, seen.states, now);
    }
    const { value } = startOf(model, rule, v);
    const possible = value > -Infinity;
    const words = possible ? "" : whyNot(name, observed);
    return { model, rule, alpha: temperature, T, observed, v, q, logPolicy, value, nats: value / temperature, possible, words };
  }

  /** The start, as one more slice: its mean over s_0, and log p(s_0) under the rule, nats, [S]. */
  function startOf(model, rule, v) {
    const { S, logInitial } = model;
    const logStart = new Float64Array(S);
    const value = rule.overOutcomes(v, S, logInitial, logInitial.map(Math.exp), 0, rule.eta, logStart, 0);
    return { value, logStart };
  }

  function whyNot(name, observed) {
    const seen = observed.length > 0;
    if (name === "VARIATIONAL" || name === "HARD") {
      if (seen) return `${name} asks for the best policy, and no policy makes certain what was observed. Ask POSTERIOR.`;
      return `Under ${name} the start value is −∞: every policy risks a forbidden reward.`;
    }
    if (seen) return "The evidence is zero: what was observed happens on no trajectory that can be optimal.";
    return "The evidence is zero: no trajectory can be optimal.";
  }

  return { RULES, solve, sliceOf, roomFor, survive, startOf };
})());
