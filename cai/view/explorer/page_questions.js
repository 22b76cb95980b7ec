// Predict, then see: questions about the world as it stands, whose answers the engine computes when they are asked for.

/**
 * Each question: { ask(scene) -> text or null where it makes no sense, choices(scene) -> [text],
 * truth(scene) -> { right: [indices], words }, hides: whether the maps would give the answer away }.
 * `scene`: { answers, state, world }.
 */
const QUESTIONS = [
  {
    hides: true,
    ask: () => "Under which rule is the start worth most?",
    choices: () => [...MAIN_RULES, "It is worth the same under two of them or all"],
    truth: (scene) => {
      const values = MAIN_RULES.map((rule) => scene.answers.messages(scene.state, rule, true).value);
      const tops = MAIN_RULES.map((_, i) => i).filter((i) => values[i] >= Math.max(...values) - closeness(values));
      const told = MAIN_RULES.map((rule, i) => `${rule} ${show(values[i])}`).join(", ");
      const nats = (values[0] - values[1]) / scene.state.alpha;
      const words = sentences(
        `${told} reward units.`,
        `POSTERIOR lies ${show(values[0] - values[1])} reward units, or ${show(nats)} nats, above VARIATIONAL:`,
        "that much it gains by tilting chance. Without chance they are equal.",
      );
      return { right: tops.length > 1 ? [MAIN_RULES.length] : tops, words };
    },
  },
  {
    hides: true,
    ask: ({ world }) => `Where does HARD go first, from ${placeName(world, startCell(world))}?`,
    choices: ({ world }) => world.actions,
    truth: (scene) => {
      const { world, state, answers } = scene;
      const messages = answers.messages(state, "HARD");
      const s = startState(world);
      const row = [...messages.policy.slice(s * world.A, (s + 1) * world.A)];
      const right = row.map((p, a) => (p > 1e-9 ? a : -1)).filter((a) => a >= 0);
      const worth = row.map((_, a) => `${world.actions[a]} ${show(messages.q[s * world.A + a])}`).join(", ");
      return {
        right,
        words: sentences(
          `Its values q there, in reward units: ${worth}.`,
          right.length > 1 ? "The best ones are tied, and it takes any of them." : "",
        ),
      };
    },
  },
  {
    hides: true,
    ask: () => "Followed in the real world, how much of HARD’s return does POSTERIOR’s policy earn?",
    choices: () => ["Nearly all: within 5 % of what can be lost", "More than half", "Less than half"],
    truth: (scene) => {
      const [posterior, hard] = ["POSTERIOR", "HARD"].map((rule) =>
        scene.answers.earned({ ...scene.state, observed: null }, rule),
      );
      const idle = idleReturn(scene);
      const share = hard - idle > 1e-12 ? (posterior - idle) / (hard - idle) : 1;
      const words = sentences(
        `POSTERIOR’s policy earns ${show(posterior)}, HARD’s ${show(hard)},`,
        `and the prior, which chooses by chance, ${show(idle)} reward units.`,
        `Of what lies between the prior and HARD it gets ${showPercent(share)}.`,
      );
      return { right: [share > 0.95 ? 0 : share > 0.5 ? 1 : 2], words };
    },
  },
  {
    hides: false,
    ask: (scene) =>
      certainVariant(scene) === null
        ? null
        : `What happens to POSTERIOR’s policy without chance (${certainWords(scene)})?`,
    choices: () => ["It becomes VARIATIONAL’s, exactly", "It becomes HARD’s", "It differs from both"],
    truth: (scene) => {
      const state = { ...scene.state, variant: certainVariant(scene), observed: null };
      const distance = (rule) => policyDistance(new Answers(scene.world.data), state, "POSTERIOR", rule);
      const [soft, hard] = [distance("VARIATIONAL"), distance("HARD")];
      const words = sentences(
        `The largest difference of a probability to VARIATIONAL’s policy is ${show(soft)}, to HARD’s ${show(hard)}.`,
        "Where an action has one outcome, conditioning on success can change only the choice of actions.",
      );
      return { right: [soft < 1e-9 ? 0 : hard < 1e-9 ? 1 : 2], words };
    },
  },
  {
    hides: false,
    ask: () => "What happens to the gap between HARD and VARIATIONAL at the start when α is divided by 10?",
    choices: () => ["It shrinks", "It stays", "It grows"],
    truth: (scene) => {
      const fresh = new Answers(scene.world.data);
      const gap = (state) => fresh.messages(state, "HARD").value - fresh.messages(state, "VARIATIONAL").value;
      const [now, colder] = [gap(scene.state), gap({ ...scene.state, alpha: scene.state.alpha / 10 })];
      const still = Math.abs(colder - now) < 1e-9 * Math.max(1, Math.abs(now));
      const words = sentences(
        `At α = ${show(scene.state.alpha)} the gap is ${show(now)},`,
        `at α = ${show(scene.state.alpha / 10)} it is ${show(colder)} reward units.`,
        "HARD is the limit of VARIATIONAL as α goes to 0.",
      );
      return { right: [still ? 1 : colder < now ? 0 : 2], words };
    },
  },
  {
    hides: true,
    ask: ({ state }) =>
      `In how many states do POSTERIOR and HARD prefer different actions at t = ${Math.min(state.t, state.T - 1)}?`,
    choices: () => ["In none", "In up to a quarter", "In a quarter to a half", "In more than half"],
    truth: (scene) => {
      const [differ, all] = disagreement(scene);
      const share = all ? differ / all : 0;
      const words = sentences(
        `In ${differ} of the ${all} states where the choice matters.`,
        "POSTERIOR tilts chance and pays for leaving the prior; HARD does neither.",
      );
      return { right: [differ === 0 ? 0 : share <= 0.25 ? 1 : share <= 0.5 ? 2 : 3], words };
    },
  },
];

const sentences = (...parts) => parts.filter(Boolean).join(" ");

const MAIN_RULES = ["POSTERIOR", "VARIATIONAL", "HARD"];

function closeness(values) {
  return 1e-9 * Math.max(1, ...values.map(Math.abs));
}

function startState(world) {
  return world.stateOf(startCell(world));
}

/** What the prior's own policy earns, reward units. */
function idleReturn({ answers, state }) {
  const { model } = answers.world(state);
  const { S, A } = model;
  const prior = { model, T: state.T, policy: new Float64Array(state.T * S * A) };
  for (let t = 0; t < state.T; t++) prior.policy.set(Engine.sliceOf(model, t).prior, t * S * A);
  return expectedReturn(prior, Engine.push(prior));
}

/** The variant nearest to the chosen one where every action has one outcome, or null. */
function certainVariant({ answers, world, state }) {
  return answers.once("certain", state.variant, () => findCertain(world, state));
}

function findCertain(world, state) {
  const places = indicesOf(world.data, state.variant);
  for (let i = 0; i < world.data.options.length; i++) {
    for (let value = 0; value < world.data.options[i].values.length; value++) {
      const variant = variantOf(
        world.data,
        places.map((place, j) => (j === i ? value : place)),
      );
      if (isCertain(Engine.readModel(world.data, variant))) return variant;
    }
  }
  return null;
}

function isCertain({ S, A, slices }) {
  return slices.every(
    ({ offset }) => offset[S * A] <= S * A && offset.every((from, row) => row === 0 || from - offset[row - 1] <= 1),
  );
}

function certainWords(scene) {
  const places = indicesOf(scene.world.data, certainVariant(scene));
  return scene.world.data.options.map(({ name, labels }, i) => `${name} = ${labels[places[i]]}`).join(", ");
}

/** The largest difference between the probabilities of two rules, over all states that either visits. */
function policyDistance(answers, state, one, other) {
  const [first, second] = [one, other].map((rule) => answers.messages(state, rule));
  const visits = answers.visits(state, one, "true");
  let most = 0;
  for (let i = 0; i < first.policy.length; i++) {
    if (visits[Math.floor(i / first.model.A)] > 1e-12) {
      most = Math.max(most, Math.abs(first.policy[i] - second.policy[i]));
    }
  }
  return most;
}

/** In how many states where the choice matters the likeliest actions of POSTERIOR and HARD have none in common. */
function disagreement({ answers, state, world }) {
  const t = Math.min(state.t, state.T - 1);
  const [posterior, hard] = ["POSTERIOR", "HARD"].map((rule) => answers.messages(state, rule, true));
  let [differ, all] = [0, 0];
  for (let s = 0; s < world.S; s++) {
    const cell = world.data.map.cell[s];
    if (!world.chooses(s) || cell < 0 || world.stateOf(cell) !== s) continue;
    all += 1;
    const [one, other] = [posterior, hard].map((messages) => favourites(messages, world, t, s));
    differ += one.some((a) => other.includes(a)) ? 0 : 1;
  }
  return [differ, all];
}

function favourites({ policy }, { S, A }, t, s) {
  const from = (t * S + s) * A;
  const row = [...policy.slice(from, from + A)];
  return row.map((_, a) => a).filter((a) => row[a] >= Math.max(...row) - 1e-9);
}
