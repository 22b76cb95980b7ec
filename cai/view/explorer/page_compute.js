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
    return this.once("world", key, () =>
      makeWorld(this.data, Engine.edited(base, asEdits(this.data, state.edits)), state.edits),
    );
  }

  /** The messages of a rule; of POSTERIOR given what was observed, unless `plain`. */
  messages(state, rule, plain = false) {
    const { model } = this.world(state);
    const observed =
      rule === "POSTERIOR" && !plain && state.observed ? [observation(this.world(state), state.observed)] : [];
    const options = { temperature: state.alpha, eta: state.eta, horizon: state.T, observed };
    return this.once(`messages ${rule} ${plain}`, this.settings(state, rule, observed), () =>
      Engine.solve(model, rule, options),
    );
  }

  settings(state, rule, observed) {
    const eta = rule === "RISK" ? state.eta : "";
    const alpha = rule === "HARD" ? "" : state.alpha; // HARD knows no temperature
    return [state.variant, writeEdits(state.edits), alpha, eta, state.T, JSON.stringify(observed)].join("|");
  }

  /** p(s_t) under the policy of a rule: in the world as it is, or as the rule itself imagines it. */
  visits(state, rule, dynamics = state.dynamics) {
    const messages = this.messages(state, rule);
    if (!messages.possible) return new Float64Array((messages.T + 1) * messages.model.S);
    return this.once(`visits ${rule} ${dynamics}`, messages, () =>
      dynamics === "own" ? Engine.ownVisits(messages) : Engine.push(messages),
    );
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
  return {
    walls: of("wall").map(({ cell }) => cell),
    rewards: rewarded("reward"),
    goals: rewarded("goal"),
    start: start ?? null,
  };
}

function observation(world, { t, place }) {
  return { t, states: world.statesAt(place) };
}

function expectedReturn({ model, policy, T }, visits) {
  const { S, A } = model;
  let total = 0;
  const rewards = model.slices.map((slice) => meanRewards(slice, S * A));
  for (let t = 0; t < T; t++) {
    const reward = rewards[model.slices.indexOf(Engine.sliceOf(model, t))];
    for (let s = 0; s < S; s++) {
      const mass = visits[t * S + s];
      if (mass === 0 || model.ended[s]) continue;
      for (let a = 0; a < A; a++) total += mass * weighted(policy[(t * S + s) * A + a], reward[s * A + a]);
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

/** What the inspector shows of one state at one time under one rule. */
function accountOf(answers, state, rule, s, t) {
  const messages = answers.messages(state, rule);
  const { model } = messages;
  const row = (t * model.S + s) * model.A;
  const { prior } = Engine.sliceOf(model, t);
  const actions = answers.world(state).actions.map((name, a) => ({
    a,
    name,
    prior: prior[s * model.A + a],
    q: messages.q[row + a],
    pi: messages.policy[row + a],
  }));
  const lost = Engine.local(messages, yardsticks(answers, state), t, s);
  return {
    rule,
    t,
    s,
    alpha: state.alpha,
    eta: state.eta,
    discount: model.discount,
    v: messages.v[t * model.S + s],
    actions,
    ...lost,
    visited: answers.visits(state, rule)[t * model.S + s],
  };
}

/** What a policy is measured against. */
function yardsticks(answers, state) {
  const [VARIATIONAL, POSTERIOR, HARD] = ["VARIATIONAL", "POSTERIOR", "HARD"].map((rule) =>
    answers.messages(state, rule, true),
  );
  return { VARIATIONAL, POSTERIOR, HARD };
}

/** The least number of steps from the start to a state of a set, Infinity where none leads there. */
function stepsTo(model, states) {
  const wanted = new Set(states);
  let front = [...model.logInitial.keys()].filter((s) => model.logInitial[s] > -Infinity);
  const seen = new Set(front);
  for (let steps = 0; front.length > 0; steps++) {
    if (front.some((s) => wanted.has(s))) return steps;
    front = front.flatMap((s) => successorsOf(model, s)).filter((s) => !seen.has(s) && seen.add(s));
  }
  return Infinity;
}

function successorsOf({ A, slices }, s) {
  const after = ({ offset, successor, prob }) =>
    [...successor.subarray(offset[s * A], offset[(s + 1) * A])].filter((_, i) => prob[offset[s * A] + i] > 0);
  return slices.flatMap(after);
}
