// The forward pass, and where the nats go: DESIGN section 1, on messages of engine.js. Losses in nats, regret in reward units.
//
//   Engine.visits(model, logPolicy, T) -> [(T+1)·S]       p(s_t, alive) under a policy and the true dynamics
//   Engine.push({ model, policy, T }) -> [(T+1)·S]         the same of probabilities, so of messages too
//   Engine.ownVisits(messages) -> [(T+1)·S]               p(s_t, alive) under the rule's own chain: p(s_t | O = 1) of POSTERIOR
//   Engine.outcomes(messages, t, s, a) -> [{ successor, cell, p, tilted, reward, next, x }]
//        next = c(s'), x = r + c(s'); `tilted` is the probability under the rule: p(outcome | s, a, O = 1) of POSTERIOR
//   Engine.account(messages, answers) -> Account          of the messages' policy; answers { VARIATIONAL, POSTERIOR, HARD }
//                                                          are messages at the same temperature and T
//   Account  { states [(T+1)·S], policyNats, actionNats, luckNats, regret: each [T·S], startNats, expectedReturn,
//              entropy, klToPrior, elbo, optimalityGap (the sum of policyNats), evidenceGap (null
//              where the answer is -∞), totalRegret }
//   Engine.local(messages, answers, t, s) -> { policyNats, actionNats, luckNats, regret }     of one visit of (t, s)
//
// A loss is Infinity where the policy does what the answer it is measured against excludes.

"use strict";

Object.assign(Engine, (() => {
  const visits = (model, logPolicy, T) => push({ model, policy: logPolicy.map(Math.exp), T });

  /** μ_0 = p(s_0);  μ_{t+1}(s') = γ Σ μ_t(s) π_t(a|s) p(outcome|s,a). */
  function push({ model, policy, T }) {
    const { S, A, discount } = model;
    const mu = new Float64Array((T + 1) * S);
    mu.set(model.logInitial.map(Math.exp));
    for (let t = 0; t < T; t++) {
      const { offset, prob, successor } = Engine.sliceOf(model, t);
      const next = (t + 1) * S;
      for (let s = 0; s < S; s++) {
        if (mu[t * S + s] === 0) continue;
        for (let a = 0; a < A; a++) {
          const p = discount * mu[t * S + s] * policy[(t * S + s) * A + a];
          if (p === 0) continue;
          for (let k = offset[s * A + a]; k < offset[s * A + a + 1]; k++) mu[next + successor[k]] += p * prob[k];
        }
      }
    }
    return mu;
  }

  /** The same with the tilted start, outcomes and survival of the rule. */
  function ownVisits(messages) {
    const { model, rule, T, v, policy } = messages;
    const { S, A } = model;
    const mu = new Float64Array((T + 1) * S);
    mu.set(Engine.startOf(model, rule, v).p);
    const look = lookAhead(messages);
    for (let t = 0; t < T; t++) {
      const { offset, successor } = Engine.sliceOf(model, t);
      const { on, tilt } = look(t);
      for (let s = 0; s < S; s++) {
        if (mu[t * S + s] === 0) continue;
        for (let a = 0; a < A; a++) {
          const p = mu[t * S + s] * policy[(t * S + s) * A + a];
          if (p === 0) continue;
          const from = offset[s * A + a];
          const tilted = tilt(s * A + a);
          for (let k = from; k < offset[s * A + a + 1]; k++) {
            mu[(t + 1) * S + successor[k]] += p * tilted[k - from] * on[successor[k]];
          }
        }
      }
    }
    return mu;
  }

  /** Return, for each time, c(s'), p(go on) and the tilted weights of the outcomes of one (s, a). */
  function lookAhead({ model, rule, v }) {
    const { S } = model;
    const [c, on, room] = [new Float64Array(S), new Float64Array(S), Engine.roomFor(model)];
    const tilted = room.tilted.p;
    return (t) => {
      const slice = Engine.sliceOf(model, t);
      Engine.survive(model, rule, v.subarray((t + 1) * S, (t + 2) * S), c, on);
      const linear = rule.name === "POSTERIOR" || rule.name === "PLANNING" ? Engine.linearIn(rule, slice, c, room) : null;
      const tilt = (sa) => {
        const sum = linear ? Engine.sumOf(linear, slice, sa) : 0;
        if (!Engine.inRange(sum)) {
          Engine.rowMean(rule, slice, sa, c, room);
          return tilted;
        }
        const from = slice.offset[sa];
        for (let k = from; k < slice.offset[sa + 1]; k++) {
          tilted[k - from] = (linear.f[k] * linear.u[slice.successor[k]]) / sum;
        }
        return tilted;
      };
      return { c, on, tilt };
    };
  }

  function outcomes(messages, t, s, a) {
    const { model } = messages;
    const { offset, successor, cell, prob, reward } = Engine.sliceOf(model, t);
    const { c, tilt } = lookAhead(messages)(t);
    const [from, to] = [offset[s * model.A + a], offset[s * model.A + a + 1]];
    const tilted = tilt(s * model.A + a);
    return Array.from({ length: to - from }, (_, i) => {
      const k = from + i;
      const next = c[successor[k]];
      return { successor: successor[k], cell: cell[k], p: prob[k], tilted: tilted[i], reward: reward[k], next, x: reward[k] + next };
    });
  }

  /** The luck of (s, a): (q - E[r] - γ E[v(s')]) / α of POSTERIOR, nats. */
  function luckOf(posterior, slice, t, s, a) {
    const { model, alpha, v, q } = posterior;
    const { S, A, discount } = model;
    let mean = 0;
    for (let k = slice.offset[s * A + a]; k < slice.offset[s * A + a + 1]; k++) {
      const p = slice.prob[k];
      if (p > 0) mean += p * (slice.reward[k] + discount * v[(t + 1) * S + slice.successor[k]]);
    }
    const promised = q[(t * S + s) * A + a];
    return promised === -Infinity ? 0 : (promised - mean) / alpha;
  }

  /** E[r | s, a] of a slice, [S·A]; of a slice that stands for many times it is computed once. */
  function rewards(model, t) {
    const slice = Engine.sliceOf(model, t);
    if (!known.has(slice)) {
      const { offset, prob, reward } = slice;
      const mean = new Float64Array(model.S * model.A);
      for (let sa = 0; sa < mean.length; sa++) {
        for (let k = offset[sa]; k < offset[sa + 1]; k++) if (prob[k] > 0) mean[sa] += prob[k] * reward[k];
      }
      known.set(slice, mean);
    }
    return known.get(slice);
  }

  const known = new WeakMap();

  /** The four losses of one visit of (t, s), each Σ_a π(a|s) of what the action gives away. */
  function local({ model, policy, logPolicy }, { VARIATIONAL, POSTERIOR, HARD }, t, s) {
    const slice = Engine.sliceOf(model, t);
    const lost = { policyNats: 0, actionNats: 0, luckNats: 0, regret: 0 };
    const best = HARD.v[t * model.S + s];
    for (let a = 0; a < model.A; a++) {
      const i = (t * model.S + s) * model.A + a;
      const p = policy[i];
      if (p === 0) continue;
      lost.policyNats += p * (logPolicy[i] - VARIATIONAL.logPolicy[i]);
      lost.actionNats += p * (logPolicy[i] - POSTERIOR.logPolicy[i]);
      lost.luckNats += p * luckOf(POSTERIOR, slice, t, s, a);
      lost.regret += best === -Infinity ? 0 : p * (best - HARD.q[i]);
    }
    return lost;
  }

  const LOSSES = ["policyNats", "actionNats", "luckNats", "regret"];

  function account(messages, answers) {
    const { model, T, alpha } = messages;
    const { S } = model;
    const states = push(messages);
    const losses = Object.fromEntries(LOSSES.map((name) => [name, new Float64Array(T * S)]));
    const sums = { expectedReturn: 0, entropy: 0, klToPrior: 0 };
    for (let t = 0; t < T; t++) {
      const paid = rewards(model, t);
      for (let s = 0; s < S; s++) {
        const mu = states[t * S + s];
        if (mu === 0) continue;
        const lost = local(messages, answers, t, s);
        for (const name of LOSSES) losses[name][t * S + s] = lost[name] === 0 ? 0 : mu * lost[name];
        addUp(sums, messages, paid, t, s, mu);
      }
    }
    for (let s = 0; s < S; s++) if (states[T * S + s] > 0) sums.expectedReturn += states[T * S + s] * model.terminal[s];
    const elbo = sums.expectedReturn / alpha - sums.klToPrior;
    return {
      states,
      ...losses,
      ...sums,
      elbo,
      startNats: startNats(answers.POSTERIOR),
      optimalityGap: gap(answers.VARIATIONAL, elbo),
      evidenceGap: gap(answers.POSTERIOR, elbo),
      totalRegret: losses.regret.reduce((sum, x) => sum + x, 0),
    };
  }

  /** How far a policy falls short of an answer, nats; null where the answer itself is -∞. */
  function gap(answer, elbo) {
    return answer.possible ? answer.nats - elbo : null;
  }

  /** Add what one (t, s) pays, and what its choice costs in nats; nobody acts where the episode has ended. */
  function addUp(sums, { model, policy, logPolicy }, paid, t, s, mu) {
    const { A, ended } = model;
    const { logPrior } = Engine.sliceOf(model, t);
    for (let a = 0; a < A; a++) {
      const i = (t * model.S + s) * A + a;
      const p = mu * policy[i];
      if (p === 0) continue;
      sums.expectedReturn += p * paid[s * A + a];
      sums.klToPrior += p * (logPolicy[i] - logPrior[s * A + a]);
      if (!ended[s]) sums.entropy -= p * logPolicy[i];
    }
  }

  /** KL(p(s_0) ‖ p(s_0 | O)), nats. */
  function startNats({ model, rule, v }) {
    const { log } = Engine.startOf(model, rule, v);
    let sum = 0;
    for (let s = 0; s < model.S; s++) {
      const p = Math.exp(model.logInitial[s]);
      if (p > 0) sum += p * (model.logInitial[s] - log[s]);
    }
    return sum;
  }

  return { visits, push, ownVisits, outcomes, local, account };
})());
