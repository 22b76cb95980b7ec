// What the page asks of the engine, each answer computed once and only when it is shown.

/** Answers for one setting of the sliders; `previous` lends what has not changed. */
class Answers {
  constructor(data) {
    this.data = data;
    this.kept = new Map();
  }

  /** Keep the value of `make` under a name until its key changes. */
  once(name, key, make) {
    const kept = this.kept.get(name);
    if (kept && kept.key === key) return kept.value;
    const value = make();
    this.kept.set(name, { key, value });
    return value;
  }

  world(state) {
    const key = `${state.variant}|${writeEdits(state.edits)}`;
    const base = this.once("model", state.variant, () => Engine.readModel(this.data, state.variant));
    return this.once("world", key, () => makeWorld(this.data, Engine.edited(base, asEdits(this.data, state.edits)), state.edits));
  }

  /** The messages of a rule; of POSTERIOR given what was observed, unless `plain`. */
  messages(state, rule, plain = false) {
    const { model } = this.world(state);
    const observed = rule === "POSTERIOR" && !plain && state.observed ? [observation(this.world(state), state.observed)] : [];
    const options = { temperature: state.alpha, eta: state.eta, horizon: state.T, observed };
    return this.once(`messages ${rule} ${plain}`, this.settings(state, rule, observed), () => Engine.solve(model, rule, options));
  }

  settings(state, rule, observed) {
    const eta = rule === "RISK" ? state.eta : "";
    return [state.variant, writeEdits(state.edits), state.alpha, eta, state.T, JSON.stringify(observed)].join("|");
  }

  /** p(s_t) under the policy of a rule: in the world as it is, or as the rule itself imagines it. */
  visits(state, rule, dynamics = state.dynamics) {
    const messages = this.messages(state, rule);
    if (!messages.possible) return new Float64Array((messages.T + 1) * messages.model.S);
    return this.once(`visits ${rule} ${dynamics}`, messages, () =>
      dynamics === "own" ? Engine.ownVisits(messages) : Engine.visits(messages.model, messages.logPolicy, messages.T));
  }

  /** What the policy of a rule really earns: the expected sum of rewards under the world's true dynamics. */
  earned(state, rule) {
    const messages = this.messages(state, rule);
    if (!messages.possible) return NaN;
    return this.once(`earned ${rule}`, messages, () => expectedReturn(messages, this.visits(state, rule, "true")));
  }
}

/** The page's list of edits in the engine's form. */
function asEdits(data, edits) {
  const of = (kind) => edits.filter((edit) => edit.kind === kind);
  const rewarded = (kind) => of(kind).map(({ cell, value }) => ({ cell, reward: value }));
  const start = of("start").map(({ cell }) => data.map.cell.indexOf(cell))[0];
  return { walls: of("wall").map(({ cell }) => cell), rewards: rewarded("reward"), goals: rewarded("goal"), start: start ?? null };
}

function observation(world, { t, place }) {
  return { t, states: world.statesAt(place) };
}

function expectedReturn({ model, logPolicy, T }, visits) {
  const { S, A } = model;
  let total = 0;
  const rewards = model.slices.map((slice) => meanRewards(slice, S * A));
  for (let t = 0; t < T; t++) {
    const reward = rewards[sliceNumber(model, t)];
    for (let s = 0; s < S; s++) {
      const mass = visits[t * S + s];
      if (mass === 0 || model.ended[s]) continue;
      for (let a = 0; a < A; a++) total += mass * weighted(Math.exp(logPolicy[(t * S + s) * A + a]), reward[s * A + a]);
    }
  }
  for (let s = 0; s < S; s++) total += weighted(visits[T * S + s], model.terminal[s]);
  return total;
}

/** p · x, where nothing of anything is nothing. */
function weighted(p, x) {
  return p > 0 ? p * x : 0;
}

function meanRewards({ offset, prob, reward }, rows) {
  const means = new Float64Array(rows);
  for (let row = 0; row < rows; row++) {
    for (let k = offset[row]; k < offset[row + 1]; k++) means[row] += weighted(prob[k], reward[k]);
  }
  return means;
}

function sliceNumber(model, t) {
  return model.sliceAt ? model.sliceAt[t] : 0;
}

/** What the inspector shows of one state at one time under one rule. */
function accountOf(answers, state, rule, s, t) {
  const messages = answers.messages(state, rule);
  const { model } = messages;
  const row = (t * model.S + s) * model.A;
  const { logPrior } = model.slices[sliceNumber(model, t)];
  const actions = answers.data.actions.labels.map((name, a) => ({
    a, name, prior: Math.exp(logPrior[s * model.A + a]), q: messages.q[row + a], pi: Math.exp(messages.logPolicy[row + a]),
  }));
  const nats = answers.once("nats", [messages, s, t].map(identity).join(), () => natsOf(answers, state, rule, s, t));
  return {
    rule, t, s, alpha: state.alpha, eta: state.eta, discount: model.discount, v: messages.v[t * model.S + s], actions, ...nats,
    visited: answers.visits(state, rule)[t * model.S + s],
  };
}

const identities = new WeakMap();

/** A number for each object, so that a key can name it. */
function identity(x) {
  if (typeof x !== "object") return x;
  if (!identities.has(x)) identities.set(x, `#${Math.random()}`);
  return identities.get(x);
}

/** In this state: KL(π ‖ π* of VARIATIONAL), and how far POSTERIOR's outcomes are from the true ones under π; nats. */
function natsOf(answers, state, rule, s, t) {
  const messages = answers.messages(state, rule);
  const { S, A } = messages.model;
  const best = answers.messages(state, "VARIATIONAL");
  const posterior = answers.messages(state, "POSTERIOR", true);
  let [policy, luck] = [0, 0];
  for (let a = 0; a < A; a++) {
    const here = (t * S + s) * A + a;
    const pi = Math.exp(messages.logPolicy[here]);
    if (!(pi > 0)) continue;
    policy += best.possible ? pi * (messages.logPolicy[here] - best.logPolicy[here]) : NaN;
    luck += posterior.possible ? pi * divergence(Engine.outcomes(posterior, t, s, a)) : NaN;
  }
  return { policyNats: policy, luckNats: luck };
}

/** KL(true outcomes ‖ tilted outcomes), nats. */
function divergence(outcomes) {
  let total = 0;
  for (const { p, tilted } of outcomes) if (p > 0) total += p * Math.log(p / tilted);
  return total;
}
