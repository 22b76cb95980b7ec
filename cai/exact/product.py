"""Worlds of independent parts: each part has its own messages, and the values of the parts add up.

If the two-slice graph separates into parts, ``p(τ, O=1) = Π_parts p(τ_part, O_part=1)``: log Z, ELBO*, and every start
value are sums over the parts, and the policies act side by side (Koller & Friedman 2009, section 3.3).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cai.compile.factor_model import Factors
from cai.errors import Finding, IntractableError
from cai.exact.cost import Cost
from cai.exact.factors.factor_operator import FactorOperator
from cai.exact.operator import Pick
from cai.exact.product_conditionals import Parts, ProductConditionals, joined
from cai.exact.rounding import Rounding
from cai.exact.rules import Rule
from cai.exact.tables.backup import Tilt
from cai.policies.product_policy import ProductPolicy

NUMBERED = 1 << 62
"""Joint states up to which they have numbers."""


@dataclass(frozen=True, eq=False)
class ProductOperator:
    """Independent parts under a rule; see ``Operator``. Whatever is over states is a tuple, an entry a part.

    With a discount all parts end together; this couples them under every rule that does not average outcomes.

    Attributes:
        model: the whole world.
        parts: the operator of each part.
    """

    model: Factors
    parts: tuple[FactorOperator, ...]
    form: str = "separate factors"

    @property
    def batch_shape(self) -> torch.Size:
        """Empty: factors take one world at one temperature."""
        return torch.Size()

    @property
    def rule(self) -> Rule:
        """How outcomes and actions are marginalised."""
        return self.parts[0].rule

    @property
    def alpha(self) -> Tensor:
        """The temperature α, reward units."""
        return self.parts[0].alpha

    def terminal(self) -> Parts:
        """Return v_T of each part, reward units."""
        return tuple(part.terminal() for part in self.parts)

    def backup(self, t: int, v_next: Parts, out: None = None) -> Parts:
        """Return v_t of each part, reward units."""
        return tuple(part.backup(t, v) for part, v in zip(self.parts, v_next, strict=True))

    def places(self) -> list[None]:
        """Return no room."""
        return self.parts[0].places()

    def all_times(self, values: Sequence[Parts], places: list[None] | None = None) -> Parts:
        """Return what has a value at each time, of each part."""
        return tuple(torch.stack(of_part) for of_part in zip(*values, strict=True))

    def at_once(self) -> None:
        """Return None: there is the sweep alone."""

    def limit(self) -> None:
        """Return None: backups lead to the fixed point."""

    def at(self, v: Parts, t: int) -> Parts:
        """Return v of time t of each part."""
        return tuple(part.at(of_part, t) for part, of_part in zip(self.parts, v, strict=True))

    def q(self, t: int, v_next: Parts) -> Parts:
        """Return q of each part, reward units, ``[S, A]`` each."""
        return tuple(part.q(t, v) for part, v in zip(self.parts, v_next, strict=True))

    def start(self, v_0: Parts) -> Tensor:
        """Return the start value, reward units: the sum of the parts'."""
        return torch.stack([part.start(v) for part, v in zip(self.parts, v_0, strict=True)]).sum()

    def log_start(self, v_0: Parts) -> Parts:
        """Return log p(s_0) under the rule of each part, nats."""
        return tuple(part.log_start(v) for part, v in zip(self.parts, v_0, strict=True))

    def pick_start(self, v_0: Parts, n: int, pick: Pick) -> Tensor:
        """Pick start states under the rule, part by part, numbered jointly.

        Raises:
            IntractableError: there are more than 2^62 joint states.
        """
        if self.model.states.size > NUMBERED:
            seen = f"{self.model.states.size:,} joint states"
            raise IntractableError([Finding("sample", seen, "at most 2^62 joint states; sample the parts")])
        starts = [part.pick_start(v, n, pick) for part, v in zip(self.parts, v_0, strict=True)]
        return joined(self.model, [part.model for part in self.parts], starts)

    def begin(self, v_0: Parts) -> Parts:
        """Return p(s_0) under the rule of each part."""
        return tuple(part.begin(v) for part, v in zip(self.parts, v_0, strict=True))

    def initial(self) -> Parts:
        """Return p(s_0) of each part."""
        return tuple(part.initial() for part in self.parts)

    def log_prior(self, t: int) -> Parts:
        """Return log p(a|s) of each part, nats."""
        return tuple(part.log_prior(t) for part in self.parts)

    def log_policy(self, t: int, v_next: Parts, error_bound: float = 0.0) -> Parts:
        """Return the rule's own log π_t(a|s) of each part, nats."""
        return tuple(part.log_policy(t, v, error_bound) for part, v in zip(self.parts, v_next, strict=True))

    def score(self, t: int, act: Parts) -> Parts:
        """Return log π_t(a|s) of each part, nats."""
        return act

    def conditionals(self, t: int, v_next: Parts, error_bound: float = 0.0) -> ProductConditionals:
        """Return the rule's own chain at time t."""
        each = (part.conditionals(t, v, error_bound) for part, v in zip(self.parts, v_next, strict=True))
        return ProductConditionals(self.model, tuple(part.model for part in self.parts), tuple(each))

    def tilt(self, t: int, v_next: Parts, error_bound: float = 0.0) -> Tilt:
        """Refuse to list the outcomes of all joint states.

        Raises:
            IntractableError: always.
        """
        seen = f"outcomes of {self.model.states.size:,} joint states in {len(self.parts)} independent parts"
        raise IntractableError([Finding("dynamics", seen, "the parts one by one: messages.operator.parts")])

    def policy(self, v: Parts, error_bound: float) -> ProductPolicy:
        """Return the parts' policies, acting side by side."""
        own = (part.policy(of_part, error_bound) for part, of_part in zip(self.parts, v, strict=True))
        return ProductPolicy(self.model.actions, tuple(own))

    def pushing(self, v: Parts, error_bound: float) -> Callable[[int, Parts], Parts]:
        """Return a step of the rule's own chain of each part."""
        steps = [part.pushing(own, error_bound) for part, own in zip(self.parts, v, strict=True)]
        return lambda t, mu: tuple(step(t, own) for step, own in zip(steps, mu, strict=True))

    def own_visits(self, v: Parts, start: Parts, error_bound: float) -> Parts:
        """Return p(s_t, alive) of each part under the rule, summed over all times."""
        each = zip(self.parts, v, start, strict=True)
        return tuple(part.own_visits(own, mu, error_bound) for part, own, mu in each)

    def forward(self, v: Parts, states: Parts) -> Parts:
        """Return the forward messages of each part, nats."""
        return tuple(part.forward(*each) for part, *each in zip(self.parts, v, states, strict=True))

    @property
    def variables(self) -> tuple[str, ...]:
        """The names of states, actions and latents."""
        return tuple(name for part in self.parts for name in part.variables)

    def state_marginal(self, t: int, mu: Parts, names: Sequence[str]) -> Tensor:
        """Return the marginal of some state variables, an axis each; alive, parts are independent."""
        each = zip(self.parts, mu, strict=True)
        return self._product(t, names, [partial(part.state_marginal, t, own) for part, own in each])

    def marginal(self, t: int, mu: Parts, v_next: Parts, names: Sequence[str], error_bound: float) -> Tensor:
        """Return the marginal of some variables of a slice, an axis each; alive, parts are independent."""
        each = zip(self.parts, mu, v_next, strict=True)
        of = [partial(part.marginal, t, own, v, error_bound=error_bound) for part, own, v in each]
        return self._product(t, names, of)

    def _product(self, t: int, names: Sequence[str], of: Sequence[Callable[[list[str]], Tensor]]) -> Tensor:
        joint = torch.ones((), dtype=self.alpha.dtype)
        order: list[str] = []
        for part, marginal in zip(self.parts, of, strict=True):
            own = [name for name in names if name in part.variables]
            if own:
                if order and self.model.horizon is None:  # a sum over times of products is not the product of sums
                    expected = "variables of one part, or a finite horizon"
                    raise IntractableError([Finding("marginal", f"{list(names)}, of several parts", expected)])
                alone = marginal(own)
                living = self.model.discount**t if order else 1.0  # each part contains p(alive at t)
                joint = joint.reshape(*joint.shape, *(1,) * alone.dim()) * alone / living
                order += own
        return joint.permute([order.index(name) for name in names])

    def under(self, rule: Rule) -> "ProductOperator":
        """Return the same world under another rule, cut from autograd.

        Raises:
            IntractableError: there is a discount, which ends all parts at once, and the rule does not average outcomes.
        """
        if self.model.discount < 1 and not rule.averages:
            seen = f"parts that share a discount, γ = {self.model.discount:g}"
            raise IntractableError([Finding(f"{rule}", seen, "no discount, or the parts one by one")])
        return ProductOperator(self.model, tuple(part.under(rule) for part in self.parts))

    def entry(self, index: int) -> "ProductOperator":
        """Return itself: there is no batch."""
        return self

    def joint(self, mu: Parts, log_pi: Parts) -> Parts:
        """Return p(s_t, a_t, alive) of each part."""
        return tuple(part.joint(*each) for part, *each in zip(self.parts, mu, log_pi, strict=True))

    def push(self, t: int, joint: Parts) -> Parts:
        """Return p(s_{t+1}, alive) of each part."""
        return tuple(part.push(t, own) for part, own in zip(self.parts, joint, strict=True))

    def visits(self, log_pi: Parts) -> Parts:
        """Return p(s_t, alive) of each part summed over all times."""
        return tuple(part.visits(own) for part, own in zip(self.parts, log_pi, strict=True))

    def expected_reward(self, t: int) -> Parts:
        """Return E[r|s, a] of each part, reward units."""
        return tuple(part.expected_reward(t) for part in self.parts)

    def luck(self, t: int, v_next: Parts) -> Parts:
        """Return the luck that POSTERIOR counts on in each part, nats."""
        return tuple(part.luck(t, v) for part, v in zip(self.parts, v_next, strict=True))

    def start_luck(self, v_0: Parts) -> Tensor:
        """Return KL(p(s_0) ‖ p(s_0|O)), nats: the sum over the parts."""
        return torch.stack([part.start_luck(v) for part, v in zip(self.parts, v_0, strict=True)]).sum()

    def shortfall(self, t: int, v_next: Parts) -> Parts:
        """Return v* - q* of each part, reward units."""
        return tuple(part.shortfall(t, v) for part, v in zip(self.parts, v_next, strict=True))

    def measured(self, policy: Any, samples: int, seed: int) -> Any:
        """Refuse: parts are measured one by one.

        Raises:
            IntractableError: always.
        """
        expected = "the parts one by one: operator.parts"
        raise IntractableError([Finding("evaluate", f"{len(self.parts)} independent parts", expected)])

    def chain(self, v: Parts) -> None:
        """Return None: a fixed point is sought part by part."""

    def require_room(self) -> None:
        """Raise where the messages of a part need too much memory.

        Raises:
            IntractableError: it is so.
        """
        for part in self.parts:
            part.require_room()

    def cost(self) -> Cost:
        """Predict what a backup of all parts takes."""
        costs = [part.cost() for part in self.parts]
        return Cost(sum(cost.work for cost in costs), max(cost.peak for cost in costs))

    def rounding(self) -> Rounding:
        """Return a bound on the rounding of one backup in the part where it is largest."""
        return max((part.rounding() for part in self.parts), key=lambda rounding: rounding.reward)
