// The card of a question: guess first, then see.

/** The question of the state, or the next one that makes sense in this world. */
function questionNow(scene = sceneNow()) {
  let number = page.state.question;
  while (QUESTIONS[number].ask(scene) === null) number = (number + 1) % QUESTIONS.length;
  return number;
}

/** Whether the maps are hidden because the question asks for what they show. */
function hides() {
  return page.state.asking && !page.revealed && QUESTIONS[questionNow()].hides;
}

function sceneNow() {
  return { answers: page.answers, state: page.state, world: page.answers.world(page.state) };
}

function showQuestion() {
  const scene = sceneNow();
  const question = questionNow(scene);
  const { variant, edits, alpha, T, t } = page.state;
  const key = [question, page.state.asking, page.revealed, page.guess, variant, writeEdits(edits), alpha, T, t].join();
  const box = byId("question");
  if (box.dataset.key === key) return;
  box.dataset.key = key;
  const asked = QUESTIONS[question];
  const below = page.state.asking
    ? guessForm(asked, scene)
    : row(`<button type="button" class="primary" id="ask-me">Let me guess</button>`);
  box.innerHTML = `<p class="prompt">${escaped(asked.ask(scene))}</p>${below}`;
}

/** The buttons below a question; one always goes to the next. */
function row(buttons) {
  return `<div class="row">${buttons}<button type="button" id="next">Another question</button></div>`;
}

function guessForm(asked, scene) {
  const choices = asked.choices(scene).map(
    (text, i) =>
      `<label><input type="radio" name="guess" value="${i}" ${page.guess === i ? "checked" : ""}
          ${page.revealed ? "disabled" : ""}>${escaped(text)}</label>`,
  );
  const buttons = page.revealed
    ? ""
    : `<button type="button" class="primary" id="reveal" ${page.guess === null ? "disabled" : ""}>Show the answer</button>`;
  return `<fieldset><legend class="unseen">Your guess</legend>${choices.join("")}</fieldset>
    ${page.revealed ? answerOf(asked, scene) : ""}${row(buttons)}`;
}

function answerOf(asked, scene) {
  const { right, words } = asked.truth(scene);
  const told = right.map((i) => asked.choices(scene)[i]).join(" or ");
  const verdict = right.includes(page.guess) ? "Right." : `No: ${told}.`;
  return `<div class="answer"><b>${escaped(verdict)}</b>${escaped(words)}</div>`;
}

function nextQuestion() {
  const next = (questionNow() + 1) % QUESTIONS.length;
  Object.assign(page, { guess: null, revealed: false });
  change({ question: next, asking: 0 });
}
