"""The question at the end of a page: one that its numbers raise, and where to look for the answer."""

from collections.abc import Callable, Iterator

from cai.evaluation.comparison import Comparison
from cai.evaluation.losses import state_label
from cai.evaluation.rows import Row
from cai.support.numbers import rounded, show
from cai.view.real_readings import is_real
from cai.view.reports.sections import Fold, Request, Section, Words
from cai.view.summary import promise_gap


def asked(text: str, where: str, hint: str) -> Section:
    """Return the section of a question, with a hint that opens."""
    parts = (Words(text, "loud"), Fold("Where to look", where, (Words(hint),)))
    return Section("question", "A question to end with", parts, "A question")


def question(request: Request) -> Iterator[Section]:
    """Ask the first question that the numbers of a comparison raise."""
    found = (ask(request) for ask in QUESTIONS)
    yield from [section for section in found if section is not None][:1]


def _of_twins(request: Request) -> Section | None:
    gap = promise_gap(request.each[0])
    if request.twin is None or not gap:
        return None
    text = (
        f"Somebody shows you log Z alone, and says that it measures how good a world is. In {request.title} no policy "
        f"can have {show(gap)} nats of it. Which number would you ask for instead, and why?"
    )
    hint = "log Z averages over what the prior does. Look for a cell in which an action is safe in one world only."
    return asked(text, "the two ELBO*, and the arrows on both maps", hint)


def _of_luck(request: Request) -> Section | None:
    """Ask why the posterior's own policy earns less than the best one, where it does."""
    comparison: Comparison = request.each[0]
    posterior, best = _row(comparison, "POSTERIOR"), _row(comparison, "VARIATIONAL")
    if posterior is None or best is None or not promise_gap(comparison):
        return None
    lost = rounded(best.expected_return - posterior.expected_return, best.expected_return) or 0.0
    if lost <= 0:
        return None
    text = (
        f"The posterior promises log Z = {show(comparison.log_evidence)} nats, more than any policy reaches. Yet to "
        f"act as it does earns {show(posterior.expected_return)}, and VARIATIONAL earns {show(best.expected_return)}. "
        "What does the posterior count on that the world does not give?"
    )
    return asked(text, "its luck nats", _place_of_luck(comparison))


def _place_of_luck(comparison: Comparison) -> str:
    evaluation = comparison.evaluations["POSTERIOR"]
    gap, luck = show(evaluation.evidence_gap), comparison.row("POSTERIOR").estimate("luck_nats")
    if luck is None:  # as on mixed worlds, where the parts of the gap have no closed form
        return f"Between log Z and its ELBO there are {gap} nats. Compare p(· | O) with the marginals of its policy."
    text = f"Of the {gap} nats between log Z and its ELBO, {show(luck.value)} are luck nats."
    if len(evaluation.parts) > 1:
        return text
    if is_real(evaluation):
        return f"{text} The tubes show p(· | O) beside the marginals of POSTERIOR's policy under the true dynamics."
    by_state = evaluation.luck_nats.reshape(-1, evaluation.model.states.size).sum(0)
    worst = int(by_state.argmax())
    place = f"{show(float(by_state[worst]))} of them lie in {state_label(evaluation.model, worst)}"
    return f"{text} {place}, the most in one state: compare there what POSTERIOR and VARIATIONAL do."


def _of_certainty(request: Request) -> Section | None:
    """Ask where the posterior and the best policy would part, where they do not."""
    comparison: Comparison = request.each[0]
    if promise_gap(comparison) != 0:
        return None
    text = (
        f"Here log Z = ELBO* = {show(comparison.elbo_star)} nats: the posterior and the best policy are the same. "
        "Which small change of the world would pull them apart?"
    )
    hint = "log Z − ELBO* is made of start nats and luck nats. Which of the two does chance in the dynamics change?"
    return asked(text, "start and luck", hint)


def _of_price(request: Request) -> Section | None:
    """Ask what the highest return costs, where it is not the highest ELBO."""
    hard = _row(request.each[0], "HARD")
    gap = None if hard is None else rounded(hard.optimality_gap, request.each[0].elbo_star)
    if hard is None or not gap or gap == float("inf"):
        return None
    text = (
        f"HARD earns the most, {show(hard.expected_return)}, and is {show(gap)} nats below ELBO*. What does it pay "
        "these nats for, and at which temperature would they no longer matter?"
    )
    hint = "ELBO = return/α − KL to the prior: the colder, the less the second term weighs."
    return asked(text, "KL to the prior", hint)


def _of_learners(request: Request) -> Section | None:
    """Ask whether what was learned is good, where nothing exact says so."""
    known = (
        (name, run.history[-1].stochastic_return)
        for comparison in request.each
        for name, (run, *_) in comparison.runs.items()
    )
    name, last = next(((name, last) for name, last in known if last is not None), ("", None))
    if last is None:
        return None
    text = (
        f"{name} returns {show(last)} at the end. How would you find out how far that is from the best there is, or "
        "whether it was the seed?"
    )
    hint = (
        "Write the world as a small model of its own (cai new my_world.py): there log Z, ELBO* and the regret are "
        "exact. Compare learners over many seeds (cai compare --learn)."
    )
    return asked(text, "exact answers, and seeds", hint)


def _of_temperature(request: Request) -> Section | None:
    comparison: Comparison = request.each[0]
    alpha = show(comparison.temperature)
    text = (
        f"All numbers here are at α = {alpha}. Which of them would stay the same at half of it, and which would double?"
    )
    return asked(
        text, "the units", "A return is in reward units. log Z, ELBO and KL are in nats, of α reward units each."
    )


def _row(comparison: Comparison, name: str) -> Row | None:
    return next((row for row in comparison.rows if row.name == name), None)


QUESTIONS: tuple[Callable[[Request], Section | None], ...] = (
    _of_twins,
    _of_luck,
    _of_certainty,
    _of_price,
    _of_learners,
    _of_temperature,
)
"""The questions, that which tells the most first; each is None where its numbers are not there."""
