"""The rules: how a backward sweep takes the mean over outcomes and over actions, as values handed to it."""

from dataclasses import dataclass
from typing import Any

import torch

from cai.errors import fault
from cai.exact.rule_means import Best, Expect, Mean, Soft, Viterbi, assumption
from cai.support.wording import meant


@dataclass(frozen=True)
class Rule:
    """A rule of inference: how a backup averages over outcomes, and how over actions.

    Each is a mean: one of cai's, or your own.

    Attributes:
        name: the rule's name.
        over_outcomes: the mean over outcomes; it also serves the start and survival.
        over_actions: the mean over actions.

    Raises:
        WorldError: one of them is not a mean.
    """

    name: str
    over_outcomes: Mean
    over_actions: Mean

    def __post_init__(self) -> None:
        for where, mean in (("over_outcomes", self.over_outcomes), ("over_actions", self.over_actions)):
            if isinstance(mean, type) or not isinstance(mean, Mean):
                expected = "an object with value, log_weights, by_log_w and by_alpha"
                raise fault(f"rule {self.name!r}, {where}", f"{mean!r}", expected)

    def __hash__(self) -> int:
        return hash(self.name)  # a mean of the user's need not be hashable

    def __str__(self) -> str:
        return self.name

    @property
    def averages(self) -> bool:
        """Whether outcomes are averaged under the true dynamics."""
        known = assumption(self.over_outcomes)
        return known is not None and known.kind == "averaged"

    @property
    def is_known(self) -> bool:
        """Whether both means declare their properties."""
        return assumption(self.over_outcomes) is not None and assumption(self.over_actions) is not None

    @property
    def lost_by_one(self) -> bool:
        """Whether a single outcome of -inf, however unlikely, makes the mean -inf."""
        half = torch.tensor([0.5, 0.5], dtype=torch.float64)
        x = torch.tensor([0.0, -torch.inf], dtype=torch.float64)
        return bool(self.over_outcomes.value(x, half.log(), half.sum()) == -torch.inf)


POSTERIOR = Rule("POSTERIOR", Soft(), Soft())
"""Exact β-messages of p(τ|O=1) (Levine 2018, section 2.3): v = α log β; optimistic where dynamics are stochastic."""
VARIATIONAL = Rule("VARIATIONAL", Expect(), Soft())
"""Max-ent control (Levine 2018, section 3): the best ELBO over policies with the dynamics held fixed."""
HARD = Rule("HARD", Expect(), Best())
"""Bellman optimality: the limit α → 0 of VARIATIONAL."""
MAP = Rule("MAP", Viterbi(), Viterbi())
"""The most probable trajectory (Viterbi), each slice's latents included: two outcomes with one successor compete."""
PLANNING = Rule("PLANNING", Soft(), Viterbi())
"""The best α log E exp(return/α), each action's prior paid (Lázaro-Gredilla et al. 2024); optimistic about luck."""

NAMED: dict[str, Rule] = {name: rule for name, rule in globals().items() if isinstance(rule, Rule)}
"""The rules that a name alone says."""


def require_a_rule(rule: Any) -> None:
    """Raise a ``WorldError`` where something is no rule."""
    if not isinstance(rule, Rule):
        near = meant(rule, NAMED).replace("mean ", "mean cai.") if isinstance(rule, str) else ""
        raise fault("rule", f"{rule!r}", f"cai.{', '.join(NAMED)} or RISK(eta){near}")


def RISK(eta: float) -> Rule:  # noqa: N802 — a rule, written as the design writes it
    """Return the rule ``η log Σ p exp((r+v')/η)``: η = α is POSTERIOR, η → ±∞ VARIATIONAL, η < 0 is risk-averse.

    Args:
        eta: η in reward units; ±inf gives the expectation.

    Raises:
        WorldError: η is 0 or NaN.
    """
    if isinstance(eta, bool) or not isinstance(eta, int | float) or eta == 0 or eta != eta:
        raise fault("RISK, eta", f"{eta!r}", "a number other than 0")
    over_outcomes: Mean = Expect() if abs(eta) == float("inf") else Soft(float(eta))
    return Rule(f"RISK({eta:g})", over_outcomes, Soft())
