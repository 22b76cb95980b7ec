"""Probes of rewards and outcomes that are drawn: where the mean belongs."""

from cai.verification.probe import Probe
from cai.verification.probe_rows import AVERAGED, bandit, closed, ends, leads, lottery

LUCK = Probe(
    "luck",
    catches="optimistic",
    words="A gamble that is worth less than what is sure.",
    rows=closed({"here": {"gamble": lottery((0.5, 1.4), (0.5, -1.4)), "sure": ends(0.4)}}),
    start={"here": 1.0},
    rules=AVERAGED,
)
RARE_LUCK = Probe(
    "rare-luck",
    catches="best outcome",
    words="A gamble with a rare prize.",
    rows=closed({"here": {"gamble": lottery((0.1, 1.5), (0.9, -0.2)), "sure": ends(0.6)}}),
    start={"here": 1.0},
)
RISK = Probe(
    "risk",
    catches="cautious",
    words="A gamble that is worth more than what is sure.",
    rows=closed({"here": {"gamble": lottery((0.5, 1.6), (0.5, -0.8)), "sure": ends(0.0)}}),
    start={"here": 1.0},
)
SPREAD = Probe(
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
NOISY = Probe(
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
CLIPPING = Probe(
    "clipping",
    catches="reward clipped",
    words="A rare large reward is worth more than a sure one.",
    rows=closed({"here": {"left": lottery((0.5, 2.6), (0.5, 0.0)), "right": ends(0.8)}}),
    start={"here": 1.0},
)
