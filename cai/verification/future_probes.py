"""Probes of ends, discounts, transitions, masks and time: what a state is worth later."""

from cai.verification.probe import Probe
from cai.verification.probe_rows import AVERAGED, SOFT, bandit, closed, fork, leads

TRUNCATION = Probe(
    "truncation",
    catches="truncation ends",
    words="The good state is a step away, and every episode is cut off after one step.",
    rows={
        "low": {"stay": leads("low", -1.0), "go": leads("high", -1.4)},
        "high": {"stay": leads("high", 0.0), "go": leads("low", -1.5)},
    },
    start={"low": 0.8, "high": 0.2},
    cut=1,
    discount=0.7,
    needs=frozenset({"bootstrap"}),
    rules=AVERAGED,
)
TERMINATION = Probe(
    "termination",
    catches="termination goes on",
    words="Each step ends the episode with probability 1/2, whatever is done, and a good state is shown then, too.",
    rows=fork(
        left=[(0.5, "poor", 1.4, False), (0.5, "poor", 1.4, True)],
        right=[(0.5, "rich", 0.0, False), (0.5, "rich", 0.0, True)],
        poor=bandit(left=0.0, right=-0.5),
        rich=bandit(left=1.5, right=2.0),
    ),
    start={"fork": 1.0},
    rules=AVERAGED,
)
DISCOUNT = Probe(
    "discount",
    catches="no discount",
    words="A reward now is worth more than a larger one later.",
    rows=fork(
        left=leads("poor", 1.5),
        right=leads("rich", 0.0),
        poor=bandit(left=0.0, right=-0.5),
        rich=bandit(left=1.5, right=2.0),
    ),
    start={"fork": 1.0},
    discount=0.5,
    rules=AVERAGED,
)
DISCOUNT_ONCE = Probe(
    "discount-once",
    catches="discount twice",
    words="A reward now is worth less than a larger one later.",
    rows=fork(
        left=leads("poor", 1.1),
        right=leads("rich", 0.0),
        poor=bandit(left=0.0, right=-0.5),
        rich=bandit(left=2.5, right=3.0),
    ),
    start={"fork": 1.0},
    discount=0.5,
    rules=AVERAGED,
)
FIRST_REWARD = Probe(
    "first-reward",
    catches="reward discounted",
    words="One step, and a small discount that must not touch its reward.",
    rows=closed({"here": bandit(left=1.0, right=0.0)}),
    start={"here": 1.0},
    discount=0.25,
    rules=SOFT,
)
TRANSITION = Probe(
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
MASKS = Probe(
    "masks",
    catches="masks ignored",
    words="The action that pays best is forbidden.",
    rows=closed({"here": bandit(left=1.0, right=0.0, across=2.0)}),
    start={"here": 1.0},
    prior={"here": {"left": 0.5, "right": 0.5}},
    needs=frozenset({"masks"}),
)
TARGET = Probe(
    "target",
    catches="stale target",
    words="What pays now costs more later.",
    rows=fork(
        left=leads("poor", 0.8),
        right=leads("rich", 0.0),
        poor=bandit(left=0.0, right=-0.5),
        rich=bandit(left=1.3, right=1.8),
    ),
    start={"fork": 1.0},
)
LAST_REWARD = Probe(
    "last-reward",
    catches="last reward lost",
    words="Only the last step pays.",
    rows=fork(
        left=leads("poor", 0.1),
        right=leads("rich", 0.0),
        poor=bandit(left=0.0, right=-1.0),
        rich=bandit(left=0.0, right=1.0),
    ),
    start={"fork": 1.0},
)
PRIOR_VALUES = Probe(
    "own-policy",
    catches="values of the prior",
    words="One way is good for who chooses well there, the other for who chooses at random.",
    rows=fork(
        left=leads("choice"),
        right=leads("calm"),
        choice=bandit(left=1.5, right=-1.5),
        calm=bandit(left=0.4, right=0.6),
    ),
    start={"fork": 1.0},
)
TIME = Probe(
    "time",
    catches="values without time",
    words="To sell is right in the last step alone.",
    rows={
        "owner": {"keep": leads("owner", 1.2), "sell": leads("sold", 2.0)},
        "sold": {"keep": leads("sold", -0.9), "sell": leads("sold", -0.4)},
    },
    start={"owner": 0.8, "sold": 0.2},
    horizon=3,
    needs=frozenset({"time"}),
    rules=AVERAGED,
)
DEADLINE = Probe(
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
    rules=frozenset({"VARIATIONAL"}),
)
