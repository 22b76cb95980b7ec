"""Probes of entropy, temperature and the action prior: what a soft learner is made of."""

from cai.verification.probe import Probe
from cai.verification.probe_rows import SOFT, bandit, closed, ends, leads, lottery

WIDE = {"left": 1.0, "middle": 0.9, "right": 1.1}
ENTROPY_TO_GO = Probe(
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
            "wide": {action: leads("wider", reward - 0.2) for action, reward in WIDE.items()},
            "wider": bandit(**{action: reward - 0.2 for action, reward in WIDE.items()}),
        }
    ),
    start={"fork": 1.0},
    rules=SOFT,
)
ENTROPY_SIGN = Probe(
    "entropy-sign",
    catches="later entropy negative",
    words="Of two ways that are worth the same without entropy one leaves more choice.",
    rows=closed(
        {
            "fork": {"left": leads("narrow", 0.0), "middle": leads("narrow", -0.5), "right": leads("wide", 0.1)},
            "narrow": bandit(left=-1.0, middle=1.0, right=-1.0),
            "wide": bandit(**WIDE),
        }
    ),
    start={"fork": 1.0},
    rules=SOFT,
)
BEST_ACTION = Probe(
    "best-action",
    catches="best action",
    words="One way leads to choices between good and bad, the other to choices between near equals.",
    rows=closed(
        {
            "fork": {"left": leads("mixed", 0.0), "middle": leads("mixed", -1.5), "right": leads("even", 0.0)},
            "mixed": {"left": leads("mixed2", 0.0), "middle": leads("mixed2", 0.1), "right": leads("mixed2", 1.4)},
            "mixed2": {"left": leads("mixed3", 1.4), "middle": leads("mixed3", 0.1), "right": leads("mixed3", 0.0)},
            "mixed3": bandit(left=0.0, middle=1.4, right=0.1),
            "even": {"left": leads("even2", 0.9), "middle": leads("even2", 1.1), "right": leads("even2", 0.8)},
            "even2": {"left": leads("even3", 0.9), "middle": leads("even3", 0.8), "right": leads("even3", 1.1)},
            "even3": bandit(left=0.8, middle=0.9, right=1.1),
        }
    ),
    start={"fork": 1.0},
    temperature=1.0,
    rules=SOFT,
)
ENTROPY = Probe(
    "entropy",
    catches="no entropy",
    words="Two actions are nearly as good as each other.",
    rows=closed({"here": bandit(left=1.0, right=0.9)}),
    start={"here": 1.0},
    rules=SOFT,
)
TEMPERATURE = Probe(
    "temperature",
    catches="temperature x 2",
    words="Three states in a row, three actions of different worth: the temperature is read off.",
    rows=closed(
        {
            "first": {"left": leads("second", 0.0), "middle": leads("second", 0.6), "right": leads("second", 1.2)},
            "second": {"left": leads("third", 0.2), "middle": leads("third", 1.8), "right": leads("third", 0.0)},
            "third": bandit(left=1.2, middle=0.0, right=0.6),
        }
    ),
    start={"first": 1.0},
    needs=frozenset({"temperature"}),
    rules=SOFT,
)
SMALL_STAKES = Probe(
    "small-stakes",
    catches="advantages normalised",
    words="Little is at stake: rewards differ by less than the temperature.",
    rows=closed(
        {
            "here": {
                "left": [(0.5, "there", 0.4, False), (0.5, "there", 0.0, False)],
                "right": [(0.5, "there", 0.2, False), (0.5, "there", -0.2, False)],
            },
            "there": {"left": lottery((0.5, 0.2), (0.5, -0.2)), "right": lottery((0.5, 0.4), (0.5, 0.0))},
        }
    ),
    start={"here": 1.0},
    needs=frozenset({"temperature"}),
    rules=SOFT,
)
SURPRISE = Probe(
    "surprise",
    catches="entropy negative",
    words="The less probable an action is a priori, the more it costs.",
    rows=closed({"here": bandit(left=1.0, right=0.7)}),
    start={"here": 1.0},
    prior={"here": {"left": 0.8, "right": 0.2}},
    needs=frozenset({"prior"}),
    rules=SOFT,
)
PRIOR = Probe(
    "prior",
    catches="prior ignored",
    words="The action prior is not uniform.",
    rows=closed({"here": bandit(left=0.4, middle=0.3, right=0.5)}),
    start={"here": 1.0},
    prior={"here": {"left": 0.7, "middle": 0.2, "right": 0.1}},
    needs=frozenset({"prior"}),
    rules=SOFT,
)
LENGTH = Probe(
    "length",
    catches="prior not normalised",
    words="One way is longer, and entropy is relative to the prior.",
    rows=closed(
        {
            "fork": {"stop": ends(0.7), "go": leads("first", 0.0)},
            "first": {"stop": leads("second", 0.1), "go": leads("second", 0.0)},
            "second": {"stop": leads("third", 0.1), "go": leads("third", 0.0)},
            "third": bandit(stop=0.1, go=0.0),
        }
    ),
    start={"fork": 1.0},
    needs=frozenset({"prior"}),
    rules=SOFT,
)
