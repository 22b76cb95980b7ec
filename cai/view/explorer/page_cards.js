// What stands below the maps: the inspector, the graphical model, the posterior's answer, the table.

function showInspected(world) {
  const { state, answers } = page;
  const place = placeName(world, state.place);
  const kind = placeKind(world, state.place);
  byId("inspector-title").textContent = `${place}${kind ? `, ${kind}` : ""}, at t = ${state.t}`;
  if (byId("inspected-rule").dataset.rules !== state.rules.join()) {
    page.sync.rule = segment(
      byId("inspected-rule"),
      "inspected",
      state.rules.map((rule) => ({ value: rule, label: rule })),
      (rule) => change({ rule }),
    );
    byId("inspected-rule").dataset.rules = state.rules.join();
  }
  page.sync.rule(state.rule);
  const box = byId("inspected");
  const remark = remarkInstead(world);
  if (remark) return showRemark(box, remark);
  const account = accountOf(answers, state, state.rule, world.stateOf(state.place), state.t);
  account.chosen =
    state.action ?? account.actions.reduce((best, { pi, a }) => (pi > account.actions[best].pi + 1e-12 ? a : best), 0);
  const outcomes = Engine.outcomes(answers.messages(state, state.rule), state.t, account.s, account.chosen);
  return showInspector(box, world, account, outcomes);
}

/** Why there is nothing to inspect, or an empty text. */
function remarkInstead(world) {
  const { state, answers } = page;
  const s = world.stateOf(state.place);
  const messages = answers.messages(state, state.rule);
  if (hides()) return "Hidden until you have answered the question.";
  if (s < 0) return "A wall: the agent is never here.";
  if (state.t === state.T)
    return `The last time: no step is left, and v is ${show(messages.v[state.T * world.S + s])} reward units.`;
  if (!messages.possible) return messages.words;
  if (world.isOver(s)) return "The episode ends here: nothing more can be earned, whatever is done.";
  return "";
}

function showModel(world) {
  const { t, T, colour } = page.state;
  const observed = page.state.observed?.t ?? null;
  const flow = colour === "visits" ? "on" : "back";
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const key = [t, flow, T, observed].join();
  if (byId("graph").dataset.key === key) return;
  byId("graph").dataset.key = key;
  drawModel(byId("graph"), world.data.graph, {
    t: Math.min(t, T - 1),
    flow,
    moves: !still,
    pace: page.playing ? 0.9 / page.speed : 0.7,
    observed,
  });
  byId("graph-text").textContent = graphSentence(Math.min(t, T - 1), flow);
}

function graphSentence(t, flow) {
  if (flow === "back")
    return `β passes from t = ${t + 1} back to t = ${t}: it gathers how well step ${t} can go, and all steps after it.`;
  return `The probability of each state passes from t = ${t} on to t = ${t + 1}, through the policy and the world’s chance.`;
}

function showAsk(world) {
  const { state, answers } = page;
  const { observed } = state;
  const box = byId("ask");
  if (!observed) {
    box.innerHTML = `<p>Suppose we learn where the agent will be. Choose <b>Observe</b> above the maps, a time, and a cell:
      POSTERIOR is then conditioned on it.</p>`;
    return;
  }
  const free = answers.messages(state, "POSTERIOR", true);
  const given = answers.messages(state, "POSTERIOR");
  const where = `${escaped(placeName(world, observed.place))} at t = ${observed.t}`;
  const share = given.nats - free.nats;
  const told = given.possible
    ? `<p>Observed: ${where}. Of the trajectories on which all goes well, <b>${showPercent(Math.exp(share))}</b> pass there.</p>
       <dl class="facts"><div><dt>log p(here | all went well)</dt><dd>${show(share)} <small>nats</small></dd></div>
       <div><dt>log p(here, all went well)</dt><dd>${show(given.nats)} <small>nats</small></dd></div></dl>`
    : `<p>Observed: ${where}. <b>This is impossible.</b> ${escaped(whyImpossible(world, observed, given))}</p>`;
  box.innerHTML = `${told}<button type="button" id="forget">Forget it</button>`;
}

/** Why an observation cannot be: too far from the start, or on no trajectory that goes well. */
function whyImpossible(world, { t, place }, messages) {
  const steps = stepsTo(world.model, world.statesAt(place));
  if (steps === Infinity) return "No trajectory from the start leads there.";
  if (steps > t) return `The way from the start takes at least ${steps} steps, and this is time ${t}.`;
  return messages.words;
}

function showTable(world) {
  const { state, answers } = page;
  const rules = hides() ? [] : state.rules;
  const states = Array.from({ length: Math.min(world.S, MOST_ROWS) }, (_, s) => s);
  const cells = (s) => rules.map((rule) => tableCells(world, rule, s)).join("");
  const row = (s) => `<tr><th scope="row">${escaped(answers.data.states.labels[s])}</th>${cells(s)}</tr>`;
  const heads = rules
    .map((rule) => `<th scope="col">${rule}: v, reward units</th><th scope="col">likeliest action</th>`)
    .join("");
  const rest = world.S > MOST_ROWS ? `<p class="small">The first ${MOST_ROWS} of ${world.S} states.</p>` : "";
  byId("table-body").innerHTML = `<div class="scroll" tabindex="0" role="region" aria-label="All numbers"><table>
    <caption>At t = ${state.t}, α = ${show(state.alpha)} reward units.</caption>
    <thead><tr><th scope="col">state</th>${heads}</tr></thead>
    <tbody>${states.map(row).join("")}</tbody></table></div>${rest}`;
}

function tableCells(world, rule, s) {
  const { state, answers } = page;
  const policy = policyNow(rule)?.subarray(s * world.A, (s + 1) * world.A);
  const best = policy && world.chooses(s) ? policy.indexOf(Math.max(...policy)) : -1;
  const does = best >= 0 ? `${escaped(world.actions[best])} ${show(policy[best], 2)}` : "–";
  return `<td>${show(answers.messages(state, rule).v[state.t * world.S + s])}</td><td class="word">${does}</td>`;
}
