"""The result of a solve on factors: the messages over the joint state, and what follows from them on demand."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.factor_model import Factors
from cai.compile.table_model import Trajectories
from cai.errors import fault
from cai.exact.factors.factored_sweep import Prepared, factored_backup, factored_sweep
from cai.exact.factors.outcome_sampling import following
from cai.exact.rounding import at_hand, largest, tied_from
from cai.exact.rules import MAP, POSTERIOR, VARIATIONAL, Rule, is_maximum
from cai.exact.tables.backup import survive
from cai.policies.fixed import FixedPolicy
from cai.support.numerics import nats


@dataclass(frozen=True, repr=False)
class FactoredMessages:
    """The messages of one rule on a world whose variables are kept apart; states and actions are numbered jointly.

    Attributes:
        prepared: the factors and their plans of elimination.
        rule: how outcomes and actions were marginalised.
        temperature: α, reward units.
        v: ``[T+1, S]``, reward units; ``[S]`` for the infinite horizon.
        iterations: backups until the fixed point; T for a finite horizon.
        error_bound: a proved bound on the error of v, reward units; 0 for a finite horizon (rounding apart).
        form: the compiled form that was used.
    """

    prepared: Prepared
    rule: Rule
    temperature: Float[Tensor, ""]
    v: Float[Tensor, "..."]
    iterations: int = 0
    error_bound: float = 0.0
    form: str = "factors"

    def __repr__(self) -> str:
        return f"FactoredMessages({self.rule} at temperature {float(self.temperature):g} on {self.factors})"

    @property
    def factors(self) -> Factors:
        """The compiled world."""
        return self.prepared.factors

    def q(self, t: int = 0) -> Float[Tensor, "S A"]:
        """Return the soft action value of time t, reward units: ``q = mean over outcomes of r + c(v_{t+1})``.

        ``q.reshape(*states.sizes, *actions.sizes)`` has an axis for each variable.
        """
        return factored_backup(self.rule, self.prepared, self._time(t), self._v(t + 1), self.temperature)[0]

    @property
    def policy(self) -> FixedPolicy:
        """The rule's policy, ``π_t(a|s) = p(a|s) exp((q - v)/α)`` for a soft rule, the maximisers for a hard one."""
        return FixedPolicy(self._log_policy, self.factors.states, self.factors.actions, self.factors.horizon)

    @property
    def value(self) -> Float[Tensor, ""]:
        """The start value, reward units: the rule's mean over outcomes, taken over s_0."""
        return self.rule.over_outcomes.value(self._v(0), self.prepared.log_initial, self.temperature)

    @property
    def log_evidence(self) -> Float[Tensor, ""]:
        """log Z = log p(O=1), nats: ``log Σ p(s_0) exp(v_0/α)``; POSTERIOR only."""
        self._belongs_to(POSTERIOR, "log_evidence")
        return nats(self.value, self.temperature)

    @property
    def elbo(self) -> Float[Tensor, ""]:
        """ELBO* = max over policies of ELBO(π), nats: ``Σ p(s_0) v_0/α``; VARIATIONAL only."""
        self._belongs_to(VARIATIONAL, "elbo")
        return nats(self.value, self.temperature)

    def initial(self) -> Float[Tensor, " S"]:
        """Return the start distribution under the rule: p(s_0|O) for POSTERIOR, p(s_0) where the dynamics are held."""
        return self.log_initial().exp()

    def log_initial(self) -> Float[Tensor, " S"]:
        """Return the logarithm of ``initial``, nats."""
        return self.rule.over_outcomes.log_weights(self._v(0), self.prepared.log_initial, self.temperature, self.value)

    def marginals(self, t: int = 0) -> Float[Tensor, "S A"]:
        """Return p(s_t, a_t|O=1) for POSTERIOR, else the occupancy of the rule's own policy and dynamics.

        With a discount this counts living trajectories only.

        Raises:
            WorldError: the horizon is infinite.
        """
        return self.states(t).unsqueeze(-1) * self._log_policy(self._time(t)).exp()

    def states(self, t: int) -> Float[Tensor, " S"]:
        """Return p(s_t, alive) under the rule, for t = 0 … T.

        Raises:
            WorldError: the horizon is infinite, or there is no such time.
        """
        T = self._finite("states")
        if not 0 <= t <= T:
            raise fault("t", f"{t}", f"a time from 0 to {T}")
        while len(self._flow) <= t:
            self._flow.append(self._advance(len(self._flow) - 1, self._flow[-1]))
        return self._flow[t]

    def marginal(self, t: int, names: str | Sequence[str]) -> Tensor:
        """Return the marginal of some states, actions and latents of time t, one axis each, in the order given.

        Raises:
            WorldError: a name is none of these variables.
        """
        wanted = (names,) if isinstance(names, str) else tuple(names)
        states, actions = self.factors.states, self.factors.actions
        known = (*states.names, *actions.names, *self.factors.latents)
        if not wanted or not set(wanted) <= set(known) or len(set(wanted)) < len(wanted):
            raise fault("marginal, names", f"{list(wanted)}", f"some of {list(known)}, each once")
        if set(wanted) <= set(states.names):
            joint, known = self.states(t).reshape(states.sizes), states.names
        elif set(wanted) & set(self.factors.latents):
            c, weights = self._continue(self._v(self._time(t) + 1)), self.marginals(t).detach()
            return self.prepared.at(t).spread(self.rule.over_outcomes, c, self.temperature, weights, wanted)
        else:
            known = (*states.names, *actions.names)
            joint = self.marginals(t).reshape(*states.sizes, *actions.sizes)
        gone = [i for i, name in enumerate(known) if name not in wanted]
        joint = joint.sum(gone) if gone else joint
        left = [name for name in known if name in wanted]
        return joint.permute([left.index(name) for name in wanted])

    @cached_property
    def forward(self) -> Float[Tensor, "T1 S"]:
        """The forward messages log p(s_t, alive, O_{<t}), nats; POSTERIOR only, finite horizon.

        ``forward[t] + v[t]/α - log Z = log p(s_t, alive|O)``, from which they are read: -inf also where v is.
        """
        self._belongs_to(POSTERIOR, "forward")
        T = self._finite("forward")
        log_z = self.log_evidence
        rows = [
            self.states(t).log() - torch.where(self.v[t] > -torch.inf, nats(self.v[t], self.temperature), 0.0)
            for t in range(T + 1)
        ]
        return torch.stack(rows) + log_z

    def sample(
        self, n: int, *, steps: int | None = None, generator: torch.Generator | None = None, mortal: bool = True
    ) -> Trajectories:
        """Draw n trajectories from the rule's own chain: exact samples of p(τ|O=1) for POSTERIOR.

        Args:
            n: how many.
            steps: how many slices; T unless given.
            generator: of the draws.
            mortal: whether the discount ends trajectories; else they go on as if each step were survived.

        Raises:
            WorldError: ``n`` or ``steps`` is no such number, or ``steps`` is missing for the infinite horizon.
        """
        T = self.factors.horizon if steps is None else steps
        if not isinstance(n, int) or n < 1:
            raise fault("sample", f"n = {n!r}", "a whole number, at least 1")
        if not isinstance(T, int) or not 1 <= T <= (self.factors.horizon or T):
            raise fault("sample, steps", f"{T!r}", f"a number of steps from 1 to {self.factors.horizon or 'any'}")

        def draw(log_weights: Tensor, many: int = 1) -> Tensor:
            top = log_weights.amax(-1, keepdim=True)  # -inf only after death, where anything will do
            weights = torch.where(top == -torch.inf, 1.0, (log_weights - top).exp())
            if weights.shape[-1] < 1 << 24:
                return torch.multinomial(weights, many, replacement=True, generator=generator).reshape(-1)
            below = weights.cumsum(-1)  # torch draws from 2^24 categories at most
            u = torch.rand(len(below), many, generator=generator, dtype=below.dtype) * below[:, -1:]
            return torch.searchsorted(below, u, right=True).clamp(max=below.shape[-1] - 1).reshape(-1)

        return self._follow(draw(self.log_initial().unsqueeze(0), n), T, draw, mortal)

    def most_probable(self) -> Trajectories:
        """Return the most probable trajectory given O=1, as a batch of one (Viterbi; ties go to the lowest number)."""
        T = self._finite("most_probable")
        best = self
        if self.rule != MAP:
            v = factored_sweep(MAP, self.prepared, self.temperature)
            best = FactoredMessages(self.prepared, MAP, self.temperature, v, T)

        def first(log_weights: Tensor) -> Tensor:
            return (log_weights > -torch.inf).byte().argmax(-1)

        return best._follow(first(best.log_initial().unsqueeze(0)), T, first)

    def _follow(self, s: Tensor, T: int, pick: object, mortal: bool = True) -> Trajectories:
        """Follow the rule's chain from ``s [N]`` for T steps."""
        assert callable(pick)
        alive = torch.ones_like(s, dtype=torch.bool)
        states, actions, rewards, living = [s], [], [], [alive]
        over = self.rule.over_outcomes
        for t in range(T):
            one, v_next = self.prepared.at(t), self._v(t + 1)
            a = pick(self._log_policy(t)[s])
            c = self._continue(v_next)
            after, reward = following(one, over, c, self.temperature, s, a, pick)
            rewards.append(torch.where(alive, reward, 0.0))
            s = torch.where(alive, after, s)
            if mortal and self.factors.discount < 1:
                alive = alive & (pick(self._log_survival(v_next, c)[s]) == 0)
            states.append(s)
            actions.append(a)
            living.append(alive)
        return Trajectories(*(torch.stack(part, -1) for part in (states, actions, rewards, living)))

    def _log_policy(self, t: int) -> Tensor:
        q = self.q(t)
        over, log_prior, alpha = self.rule.over_actions, self.prepared.at(t).log_prior, self.temperature.unsqueeze(-1)
        value = over.value(q, log_prior, alpha)
        return over.log_weights(q, log_prior, alpha, self._tied_from(t, value))

    def _tied_from(self, t: int, value: Tensor) -> Tensor:
        if not is_maximum(self.rule.over_actions):
            return value
        T, v_next = self.factors.horizon, self._v(t + 1)
        reward = sum((largest(piece.table) for piece in self.factors.at(t).reward), 0.0)
        sizes = at_hand(v_next.new_full((1, 1, 1), reward), v_next)
        return tied_from(value, sizes, 0 if T is None else T - t, self.error_bound)

    @cached_property
    def _flow(self) -> list[Tensor]:
        return [self.initial()]

    @torch.no_grad()
    def _advance(self, t: int, states: Tensor) -> Tensor:
        weights = states.unsqueeze(-1) * self._log_policy(t).exp()
        v_next = self._v(t + 1)
        c = self._continue(v_next)
        flow = self.prepared.at(t).pull(self.rule.over_outcomes, c, self.temperature, weights)
        return flow if self.factors.discount == 1 else flow * self._log_survival(v_next, c)[:, 0].exp()

    def _continue(self, v_next: Tensor) -> Tensor:
        return survive(self.rule, v_next, self.temperature, self.factors.log_survival)

    def _log_survival(self, v_next: Tensor, c: Tensor) -> Tensor:
        branches = torch.stack([v_next, torch.zeros_like(v_next)], -1)
        alpha = self.temperature.unsqueeze(-1)
        return self.rule.over_outcomes.log_weights(branches, self.factors.log_survival, alpha, c)

    def _v(self, t: int) -> Tensor:
        return self.v if self.factors.horizon is None else self.v[t]

    def _time(self, t: int) -> int:
        T = self.factors.horizon
        if T is not None and not 0 <= t < T:
            raise fault("t", f"{t}", f"a time from 0 to {T - 1}")
        return t

    def _belongs_to(self, rule: Rule, what: str) -> None:
        if self.rule != rule:
            raise AttributeError(f"{what} belongs to {rule}; these messages are {self.rule}: ask .value (reward units)")

    def _finite(self, what: str) -> int:
        if self.factors.horizon is None:
            raise fault(what, "an infinite horizon", "a finite horizon")
        return self.factors.horizon
