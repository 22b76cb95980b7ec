// The inspector: one state at one time under one rule, with its numbers put into the equations.

/** Show a cell; `facts` come from accountOf, `outcomes` from the engine. */
function showInspector(box, world, account, outcomes) {
  const parts = [leadOf(account), factsOf(account), formula(equationOfV(account), "The value with its numbers")];
  const chosen = account.actions[account.chosen];
  parts.push(actionTable(account));
  parts.push(`<h3>What can come of ${escaped(chosen.name)}</h3>`);
  if (chosen.prior > 0) {
    const named = outcomes.map((outcome) => ({ ...outcome, name: stateName(world, outcome.successor) }));
    parts.push(formula(equationOfQ(account, chosen, named), `The value of ${chosen.name} with its numbers`));
    if (account.discount < 1) parts.push(survivalNote(account));
    parts.push(outcomeTable(account, chosen, named));
  } else {
    parts.push("<p>The world forbids this action here: its prior is 0.</p>");
  }
  box.innerHTML = parts.join("");
}

/** The last time, a wall, or an answer that is hidden: one sentence. */
function showRemark(box, sentence) {
  box.innerHTML = `<p class="lead">${escaped(sentence)}</p>`;
}

function leadOf({ rule, v, alpha, actions }) {
  const best = actions.reduce((one, other) => (other.pi > one.pi + 1e-9 ? other : one));
  const level = actions.every((action) => Math.abs(action.pi - action.prior) < 1e-6);
  const does = level
    ? "It is indifferent here: its policy is the prior."
    : `It goes <b>${escaped(best.name)}</b> with probability ${show(best.pi, 3)}.`;
  const soft = FORMS[rule].actions === "soft" && FORMS[rule].outcomes === "soft" && rule !== "RISK";
  const chance = soft ? ` In nats that is log β = ${show(v / alpha)}.` : "";
  return `<p class="lead">Under ${rule} this state is worth ${show(v)} reward units from here on.${chance} ${does}</p>`;
}

function factsOf({ visited, policyNats, luckNats, regret }) {
  const fact = (name, value, unit, why) =>
    `<div title="${escaped(why)}"><dt>${name}</dt><dd>${value} <small>${unit}</small></dd></div>`;
  return `<dl class="facts">${[
    fact("is here at this time", showPercent(visited), "", "The probability p(s_t) under this rule's policy."),
    fact(
      "policy nats here",
      show(policyNats),
      "nats",
      "KL of this policy from VARIATIONAL's, the best one for the ELBO.",
    ),
    fact("luck nats here", show(luckNats), "nats", "KL of the true outcomes from those that POSTERIOR imagines."),
    fact("regret here", show(regret), "reward units", "What HARD’s best action would earn more, in expectation."),
  ].join("")}</dl>
    <p class="small">Policy nats: what this policy loses to VARIATIONAL’s, in ELBO. Luck nats: how far POSTERIOR tilts chance from
    the truth. Regret: what it loses to HARD, in reward. All three count the choice at this state and time only.</p>`;
}

function formula(math, label) {
  return `<div class="formula" tabindex="0" role="region" aria-label="${escaped(label)}">${math}</div>`;
}

function survivalNote({ rule, t, discount }) {
  const words = `Discount γ = ${show(discount)}: each step is the last with probability 1 ${MINUS} γ, so`;
  return `<p class="small">${words} ${lawOfSurvival(rule, t)}</p>`;
}

function actionTable({ actions, chosen }) {
  const rows = actions.map(
    (action) => `<tr class="${action.a === chosen ? "chosen" : ""}">
      <th scope="row"><button type="button" data-action="${action.a}"
        aria-pressed="${action.a === chosen}">${escaped(action.name)}</button></th>
      <td>${show(action.prior, 3)}</td><td>${action.prior > 0 ? show(action.q) : "forbidden"}</td>
      <td>${show(action.pi, 3)}${bar(action.pi)}</td></tr>`,
  );
  return `<div class="scroll" tabindex="0" role="region" aria-label="Actions"><table>
    <caption>Choose an action to see what can come of it.</caption>
    ${heads("action", "prior p(a|s)", "q, reward units", "policy π(a|s)")}
    <tbody>${rows.join("")}</tbody></table></div>`;
}

function outcomeTable({ rule }, action, outcomes) {
  const rows = outcomes.map(
    (o) => `<tr><th scope="row">${escaped(o.name)}</th><td>${show(o.p, 3)}${bar(o.p, "true")}</td>
      <td>${show(o.tilted, 3)}${bar(o.tilted)}</td><td>${show(o.reward)}</td><td>${show(o.next)}</td></tr>`,
  );
  return `<div class="scroll" tabindex="0" role="region" aria-label="Outcomes of ${escaped(action.name)}"><table>
    <caption>${tiltedWords(rule, outcomes)}</caption>
    ${heads("next state", "true p", `as ${rule} has it`, "reward", "still to come")}
    <tbody>${rows.join("")}</tbody></table></div>`;
}

function tiltedWords(rule, outcomes) {
  const tilts = outcomes.some((o) => Math.abs(o.p - o.tilted) > 1e-6);
  if (outcomes.length === 1) return "Only one outcome: no chance is left to tilt.";
  return tilts
    ? `${rule} gives the better outcomes more probability than they have. Rewards in reward units.`
    : `${rule} leaves chance as it is here. Rewards in reward units.`;
}

function heads(...names) {
  return `<thead><tr>${names.map((name) => `<th scope="col">${name}</th>`).join("")}</tr></thead>`;
}

function bar(share, kind = "") {
  return `<span class="share" aria-hidden="true"><i class="${kind}" style="width:${(100 * Math.min(1, share)).toFixed(1)}%"></i></span>`;
}
