"""The glossary of a page, and the links to it from where a word is first used."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator

from markupsafe import Markup, escape

from cai.evaluation.columns import COLUMNS, Column
from cai.view.reports.sections import Pairs, Request, Section

Term = tuple[str, str, str, str]
"""A word, its unit (which may be empty), its anchor, and what it means."""

TERMS: tuple[Term, ...] = (
    (
        "α", "reward units", "alpha",
        "The temperature: what one nat is worth. The colder, the more reward weighs against the prior.",
    ),
    (
        "nat", "", "nat",
        "The unit of information with the natural logarithm. An event that is one nat more likely has e = "
        "2.718 times the probability.",
    ),
    (
        "policy", "", "policy",
        "π(a|s): the probability of each action in each state.",
    ),
    (
        "prior", "", "prior",
        "p(a|s): the policy that acts before rewards are looked at. Uniform unless the world says otherwise.",
    ),
    (
        "optimal", "", "optimal",
        "O_t = 1, “step t is optimal”: an event whose probability is proportional to exp(r_t/α).",
    ),
    (
        "KL", "nats", "kl",
        "KL(π ‖ p): how much one distribution differs from another. 0 where they are the same.",
    ),
    (
        "log Z", "nats", "log_evidence",
        "log p(O = 1), the evidence: the log-probability that every step is optimal when the prior acts. "
        "Where rewards are positive it may be above 0.",
    ),
    (
        "ELBO", "nats", "elbo",
        "return/α − KL to the prior: what a policy reaches. It is a lower bound of log Z.",
    ),
    (
        "ELBO*", "nats", "elbo_star",
        "The highest ELBO of any policy. Start and dynamics are the world's own.",
    ),
    (
        "J*", "reward units", "best_return",
        "The highest expected return of any policy: HARD's.",
    ),
    (
        "POSTERIOR", "", "posterior",
        "The rule that conditions on O = 1: actions, start and dynamics all bend towards success. Its policy "
        "is p(a|s, O).",
    ),
    (
        "VARIATIONAL", "", "variational",
        "The rule whose policy has the ELBO*: maximum-entropy reinforcement learning.",
    ),
    (
        "HARD", "", "hard",
        "The rule of the highest return: Bellman optimality, the limit α → 0 of VARIATIONAL.",
    ),
    (
        "MAP-plan", "", "map-plan",
        "The policy that plans the most probable trajectory, and plans anew in every state.",
    ),
    (
        "PLANNING", "", "planning",
        "The rule of the best action choices when luck is averaged as POSTERIOR does.",
    ),
    (
        "v", "reward units", "v",
        "The value of a state at a time: α times the nats that are still to come. −∞ where what is forbidden "
        "is risked.",
    ),
)  # fmt: skip


def glossary(request: Request) -> Iterator[Section]:
    """Explain the words of the page, and the columns of its tables."""
    columns: dict[str, Column] = {}
    for one in request.each:
        columns |= {column.field: column for column in getattr(one, "columns", ())}
    yield Section("glossary", "Glossary", (Pairs((*TERMS, *_of_columns(columns.values()))),))


def of_words(request: Request) -> Iterator[Section]:
    """Explain the words of a page without a comparison."""
    yield Section("glossary", "Glossary", (Pairs(TERMS),))


def _of_columns(columns: Iterable[Column]) -> Iterator[Term]:
    known = {anchor for _, _, anchor, _ in TERMS}
    for column in columns:
        if column.shown != "never" and column.field not in known:
            yield column.title, column.unit, column.field, column.meaning


FORMS = {"nats": "nat", "policies": "policy", "value": "v", "posterior": "posterior"}
"""Other forms of a word, and the anchors of their entries."""


def linker(anchors: Collection[str]) -> Callable[[str], Markup]:
    """Return a filter that links the first use of each word to the glossary; it remembers what it has linked.

    Args:
        anchors: of the entries that the page's glossary has.
    """
    terms = [*TERMS, *(term for term in _of_columns(COLUMNS) if term[0] == "regret")]
    by_anchor = {anchor: (anchor, meaning) for _, _, anchor, meaning in terms}
    forms = {word: anchor for word, _, anchor, _ in terms if word != "v"} | FORMS  # "v" alone is found too often
    entries = {word: by_anchor[anchor] for word, anchor in forms.items() if anchor in anchors}
    if not entries:
        return escape
    names = sorted(entries, key=len, reverse=True)
    pattern = re.compile("|".join(rf"(?<![\w-]){re.escape(name)}(?![\w*-])" for name in names))
    seen: set[str] = set()

    def link(text: str) -> Markup:
        def one(found: re.Match[str]) -> str:
            anchor, meaning = entries[found[0]]
            if anchor in seen:
                return found[0]
            seen.add(anchor)
            return f'\0<a class="term" href="#term-{anchor}" title="{escape(meaning)}">{escape(found[0])}</a>\0'

        pieces = pattern.sub(one, text).split("\0")
        return Markup("".join(piece if n % 2 else escape(piece) for n, piece in enumerate(pieces)))

    return link
