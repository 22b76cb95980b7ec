"""The probes: each is made for one mistake.

Unless a probe is about the length of episodes, the actions of a state lead to equally many further steps, so that it
does not matter whether a learner's entropy is relative to the prior. No two best actions are tied in a state that is
acted in, so that a learner of returns has one answer.
"""

from collections.abc import Sequence

from cai.verification.probe import Outcome, Probe

Row = dict[str, Sequence[Outcome]]
SOFT = frozenset({"VARIATIONAL", "POSTERIOR"})
AVERAGED = frozenset({"VARIATIONAL", "HARD"})
END = "end"


def ends(reward: float) -> list[Outcome]:
    """Return the one outcome of an action that ends the episode."""
    return [(1.0, END, reward, True)]


def leads(state: str, reward: float = 0.0) -> list[Outcome]:
    """Return the one outcome of an action that leads to a state."""
    return [(1.0, state, reward, False)]


def lottery(*prizes: tuple[float, float]) -> list[Outcome]:
    """Return the outcomes of an action that pays at random and ends the episode; a prize is (probability, reward)."""
    return [(p, END, reward, True) for p, reward in prizes]


def closed(rows: dict[str, Row]) -> dict[str, Row]:
    """Return rows with the end, where nobody acts: a state whose actions end the episode without a reward."""
    actions = dict.fromkeys(action for row in rows.values() for action in row)
    return {**rows, END: {action: ends(0.0) for action in actions}}


def bandit(**rewards: float) -> Row:
    """Return a state each of whose actions pays and ends the episode."""
    return {action: ends(reward) for action, reward in rewards.items()}


def _fork(left: Sequence[Outcome], right: Sequence[Outcome], **later: Row) -> dict[str, Row]:
    return closed({"fork": {"left": left, "right": right}, **later})


_TRUNCATION = Probe(
    "truncation",
    catches="truncation ends",
    words="The good state is a step away, and every episode is cut off after one step.",
    rows={
        "low": {"stay": leads("low", -1.0), "go": leads("high", -1.5)},
        "high": {"stay": leads("high", 0.0), "go": leads("low", -1.5)},
    },
    start={"low": 0.8, "high": 0.2},
    cut=1,
    discount=0.8,
    needs=frozenset({"bootstrap"}),
    rules=AVERAGED,
)
_TERMINATION = Probe(
    "termination",
    catches="termination goes on",
    words="Each step ends the episode with probability 1/2, whatever is done, and a good state is shown then, too.",
    rows=_fork(
        left=[(0.5, "poor", 1.4, False), (0.5, "poor", 1.4, True)],
        right=[(0.5, "rich", 0.0, False), (0.5, "rich", 0.0, True)],
        poor=bandit(left=0.0, right=-0.5),
        rich=bandit(left=1.5, right=2.0),
    ),
    start={"fork": 1.0},
    rules=AVERAGED,
)
_DISCOUNT = Probe(
    "discount",
    catches="no discount",
    words="A reward now is worth more than a larger one later.",
    rows=_fork(
        left=leads("poor", 1.5),
        right=leads("rich", 0.0),
        poor=bandit(left=0.0, right=-0.5),
        rich=bandit(left=1.5, right=2.0),
    ),
    start={"fork": 1.0},
    discount=0.5,
    rules=AVERAGED,
)
_DISCOUNT_ONCE = Probe(
    "discount-once",
    catches="discount twice",
    words="A reward now is worth less than a larger one later.",
    rows=_fork(
        left=leads("poor", 0.7),
        right=leads("rich", 0.0),
        poor=bandit(left=0.0, right=-0.5),
        rich=bandit(left=1.5, right=2.0),
    ),
    start={"fork": 1.0},
    discount=0.5,
    rules=AVERAGED,
)
_FIRST_REWARD = Probe(
    "first-reward",
    catches="reward discounted",
    words="One step, and a small discount that must not touch its reward.",
    rows=closed({"here": bandit(left=1.0, right=0.0)}),
    start={"here": 1.0},
    discount=0.25,
    rules=SOFT,
)
_TRANSITION = Probe(
    "transition",
    catches="next state for state",
    words="Three states in a row, and what is good in one is bad in the next.",
    rows=closed(
        {
            "first": {"left": leads("second", 1.0), "right": leads("second", 0.0)},
            "second": {"left": leads("third", 0.0), "right": leads("third", 1.0)},
            "third": bandit(left=1.0, right=0.0),
        }
    ),
    start={"first": 1.0},
    discount=0.5,
    rules=AVERAGED,
)
_MASKS = Probe(
    "masks",
    catches="masks ignored",
    words="The action that pays best is forbidden.",
    rows=closed({"here": bandit(left=1.0, right=0.0, across=2.0)}),
    start={"here": 1.0},
    prior={"here": {"left": 0.5, "right": 0.5}},
    needs=frozenset({"masks"}),
)
_TARGET = Probe(
    "target",
    catches="stale target",
    words="What pays now costs more later.",
    rows=_fork(
        left=leads("poor", 0.8),
        right=leads("rich", 0.0),
        poor=bandit(left=0.0, right=-0.5),
        rich=bandit(left=1.3, right=1.8),
    ),
    start={"fork": 1.0},
)
_LAST_REWARD = Probe(
    "last-reward",
    catches="last reward lost",
    words="Only the last step pays.",
    rows=_fork(
        left=leads("poor", 0.1),
        right=leads("rich", 0.0),
        poor=bandit(left=0.0, right=-1.0),
        rich=bandit(left=0.0, right=1.0),
    ),
    start={"fork": 1.0},
)
_CLIPPING = Probe(
    "clipping",
    catches="reward clipped",
    words="A rare large reward is worth more than a sure one.",
    rows=closed({"here": {"left": lottery((0.5, 2.6), (0.5, 0.0)), "right": ends(0.8)}}),
    start={"here": 1.0},
)
_WIDE = {"left": 1.0, "middle": 0.9, "right": 1.1}
_ENTROPY_TO_GO = Probe(
    "entropy-to-go",
    catches="later entropy missing",
    words="One way is later worth more, the other leaves more choice.",
    rows=closed(
        {
            "fork": {
                "left": leads("narrow", 0.0),
                "middle": leads("narrow", -1.0),
                "right": leads("wide", 0.5),
            },
            "narrow": {
                "left": leads("narrower", 1.4),
                "middle": leads("narrower", -1.0),
                "right": leads("narrower", -1.0),
            },
            "narrower": bandit(left=1.5, middle=-1.0, right=-1.0),
            "wide": {action: leads("wider", reward - 0.2) for action, reward in _WIDE.items()},
            "wider": bandit(**{action: reward - 0.2 for action, reward in _WIDE.items()}),
        }
    ),
    start={"fork": 1.0},
    rules=SOFT,
)
_ENTROPY_SIGN = Probe(
    "entropy-sign",
    catches="later entropy negative",
    words="Of two ways that are worth the same without entropy one leaves more choice.",
    rows=closed(
        {
            "fork": {"left": leads("narrow", 0.0), "middle": leads("narrow", -0.5), "right": leads("wide", 0.1)},
            "narrow": bandit(left=-1.0, middle=1.0, right=-1.0),
            "wide": bandit(**_WIDE),
        }
    ),
    start={"fork": 1.0},
    rules=SOFT,
)
_BEST_ACTION = Probe(
    "best-action",
    catches="best action",
    words="One way leads to choices between good and bad, the other to choices between near equals.",
    rows=closed(
        {
            "fork": {"left": leads("mixed", 0.0), "middle": leads("mixed", -1.0), "right": leads("even", 0.0)},
            "mixed": {"left": leads("mixed2", 0.0), "middle": leads("mixed2", 0.1), "right": leads("mixed2", 1.4)},
            "mixed2": bandit(left=1.4, middle=0.1, right=0.0),
            "even": {"left": leads("even2", 1.0), "middle": leads("even2", 1.1), "right": leads("even2", 0.9)},
            "even2": bandit(left=0.9, middle=1.0, right=1.1),
        }
    ),
    start={"fork": 1.0},
    temperature=1.0,
    rules=SOFT,
)
_ENTROPY = Probe(
    "entropy",
    catches="no entropy",
    words="Two actions are nearly as good as each other.",
    rows=closed({"here": bandit(left=1.0, right=0.9)}),
    start={"here": 1.0},
    rules=SOFT,
)
_TEMPERATURE = Probe(
    "temperature",
    catches="temperature x 2",
    words="Two states in a row, three actions of different worth: the temperature is read off.",
    rows=closed(
        {
            "first": {"left": leads("second", 0.0), "middle": leads("second", 0.6), "right": leads("second", 1.2)},
            "second": bandit(left=1.2, middle=0.0, right=0.6),
        }
    ),
    start={"first": 1.0},
    needs=frozenset({"temperature"}),
    rules=SOFT,
)
_SURPRISE = Probe(
    "surprise",
    catches="entropy negative",
    words="The less probable an action is a priori, the more it costs.",
    rows=closed({"here": bandit(left=1.0, right=0.7)}),
    start={"here": 1.0},
    prior={"here": {"left": 0.8, "right": 0.2}},
    needs=frozenset({"prior"}),
    rules=SOFT,
)
_PRIOR = Probe(
    "prior",
    catches="prior ignored",
    words="The action prior is not uniform.",
    rows=closed({"here": bandit(left=0.4, middle=0.3, right=0.5)}),
    start={"here": 1.0},
    prior={"here": {"left": 0.7, "middle": 0.2, "right": 0.1}},
    needs=frozenset({"prior"}),
    rules=SOFT,
)
_LENGTH = Probe(
    "length",
    catches="prior not normalised",
    words="One way is longer, and entropy is relative to the prior.",
    rows=closed(
        {
            "fork": {"stop": ends(0.4), "go": leads("first", 0.0)},
            "first": {"stop": leads("second", 0.1), "go": leads("second", 0.0)},
            "second": bandit(stop=0.1, go=0.0),
        }
    ),
    start={"fork": 1.0},
    needs=frozenset({"prior"}),
    rules=SOFT,
)
_LUCK = Probe(
    "luck",
    catches="optimistic",
    words="A gamble that is worth less than what is sure.",
    rows=closed({"here": {"gamble": lottery((0.5, 1.2), (0.5, -1.2)), "sure": ends(0.2)}}),
    start={"here": 1.0},
    rules=AVERAGED,
)
_RARE_LUCK = Probe(
    "rare-luck",
    catches="best outcome",
    words="A gamble with a rare prize.",
    rows=closed({"here": {"gamble": lottery((0.1, 1.5), (0.9, -0.2)), "sure": ends(0.6)}}),
    start={"here": 1.0},
)
_RISK = Probe(
    "risk",
    catches="cautious",
    words="A gamble that is worth more than what is sure.",
    rows=closed({"here": {"gamble": lottery((0.5, 1.4), (0.5, -0.6)), "sure": ends(0.1)}}),
    start={"here": 1.0},
)
_SPREAD = Probe(
    "spread",
    catches="most probable",
    words="Four outcomes that all pay well, beside one that is sure and pays less.",
    rows=closed(
        {
            "here": {
                "spread": lottery((0.25, 0.7), (0.25, 0.8), (0.25, 0.9), (0.25, 1.0)),
                "sure": ends(0.4),
            }
        }
    ),
    start={"here": 1.0},
)
_NOISY = Probe(
    "noisy-reward",
    catches="reward averaged",
    words="The same action pays more or less by the state that it leads to: an optimist's q is no mean.",
    rows=closed(
        {
            "here": {"gamble": [(0.5, "up", 1.0, False), (0.5, "down", -1.0, False)], "sure": leads("up", 0.2)},
            "up": bandit(gamble=0.0, sure=0.2),
            "down": bandit(gamble=0.0, sure=0.2),
        }
    ),
    start={"here": 1.0},
    needs=frozenset({"optimism"}),
    rules=frozenset({"POSTERIOR"}),
)
_PRIOR_VALUES = Probe(
    "own-policy",
    catches="values of the prior",
    words="One way is good for who chooses well there, the other for who chooses at random.",
    rows=_fork(
        left=leads("choice"),
        right=leads("calm"),
        choice=bandit(left=1.5, right=-1.5),
        calm=bandit(left=0.4, right=0.6),
    ),
    start={"fork": 1.0},
)
_SMALL_STAKES = Probe(
    "small-stakes",
    catches="advantages normalised",
    words="Little is at stake: rewards differ by less than the temperature.",
    rows=closed({"here": {"left": lottery((0.5, 0.4), (0.5, 0.0)), "right": lottery((0.5, 0.2), (0.5, -0.2))}}),
    start={"here": 1.0},
    needs=frozenset({"temperature"}),
    rules=SOFT,
)
_TIME = Probe(
    "time",
    catches="values without time",
    words="To invest pays unless it is the last step.",
    rows={
        "low": {"invest": leads("high", -0.5), "consume": leads("low", 0.5)},
        "high": {"invest": leads("low", 1.8), "consume": leads("low", 2.0)},
    },
    start={"low": 1.0},
    horizon=3,
    needs=frozenset({"time"}),
    rules=AVERAGED,
)
_DEADLINE = Probe(
    "deadline",
    catches="policy without time",
    words="What is right in the first step is wrong in the last.",
    rows={
        "here": {"build": leads("built", -0.4), "rest": leads("here", 0.1)},
        "built": {"build": leads("here", 1.2), "rest": leads("built", 1.5)},
    },
    start={"here": 1.0},
    horizon=3,
    needs=frozenset({"time"}),
    rules=SOFT,
)

PROBES: dict[str, Probe] = {
    one.name: one
    for one in (
        _TRUNCATION, _TERMINATION, _DISCOUNT, _DISCOUNT_ONCE, _FIRST_REWARD, _TRANSITION, _MASKS, _TARGET, _LAST_REWARD,
        _CLIPPING, _ENTROPY_TO_GO, _ENTROPY_SIGN, _BEST_ACTION, _ENTROPY, _TEMPERATURE, _SURPRISE, _PRIOR, _LENGTH,
        _LUCK, _RARE_LUCK, _RISK, _SPREAD, _NOISY, _PRIOR_VALUES, _SMALL_STAKES, _TIME, _DEADLINE,
    )
}  # fmt: skip
