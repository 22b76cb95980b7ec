"""The result of a solve: messages, and everything that follows from them on demand, whatever the form of the world."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.table_model import Trajectories
from cai.errors import fault, require_time
from cai.exact.gaussian.gaussian_reasons import GaussianReasons
from cai.exact.operator import MF, Act, Conditionals, F, M, Operator, V
from cai.exact.reasons import Reasons, reasons_for
from cai.exact.rules import HARD, MAP, POSTERIOR, VARIATIONAL, Rule
from cai.exact.sampling import Drawing, Likeliest, follow
from cai.exact.sweep import sweep
from cai.exact.tables.backup import Tilt
from cai.support.display import in_notebook
from cai.support.numerics import nats


@dataclass(frozen=True, repr=False)
class Messages:
    """The messages of one rule on one world. A leading batch axis stands for stacked worlds or several temperatures.

    For a world of independent parts, ``v`` and other tensors over states are tuples with one tensor for each part.

    Attributes:
        operator: the compiled world under the rule, at the temperature.
        v: ``[*B, T+1, S]``, reward units; ``[*B, S]`` for the infinite horizon. ``β_t(s) = exp(v_t(s)/α)``.
        iterations: backups until the fixed point; T for a finite horizon.
        error_bound: a proved bound on the error of v, of the start value where v is a quadratic, reward units; 0 for a
            finite horizon (rounding apart).
    """

    operator: Operator
    v: V
    iterations: int = 0
    error_bound: float = 0.0

    _repr_html_ = in_notebook

    def __repr__(self) -> str:
        apart, parts = "", self.operator.parts
        if len(parts) > 1:
            apart = f", in parts of {' + '.join(f'{part.model.states.size:,}' for part in parts)} states"
        return f"Messages({self.rule} at temperature {self.temperature.tolist()} on {self.model}{apart})"

    @property
    def parts(self) -> "tuple[Messages, ...]":
        """The messages of each independent part; just these messages where the world is one part."""
        if len(self.operator.parts) == 1:
            return (self,)
        each = zip(self.operator.parts, self.v, strict=True)
        return tuple(Messages(part, v, self.iterations, self.error_bound) for part, v in each)

    @property
    def model(self) -> Any:
        """The compiled world, a ``Model``."""
        return self.operator.model

    @property
    def rule(self) -> Rule:
        """The rule that the messages were computed with."""
        return self.operator.rule

    @property
    def temperature(self) -> Float[Tensor, "*M"]:
        """α, reward units."""
        return self.operator.alpha

    @property
    def form(self) -> str:
        """The compiled form that was used."""
        return self.operator.form

    @property
    def batch_shape(self) -> torch.Size:
        """The shape of the batch; empty for one world at one temperature."""
        return self.operator.batch_shape

    def __getitem__(self, index: int) -> "Messages":
        """Return the messages of one entry of the first batch axis."""
        if not self.batch_shape:
            raise fault("Messages", "an index on messages without a batch axis", "a batch of worlds or temperatures")
        if not -self.batch_shape[0] <= index < self.batch_shape[0]:
            raise fault("Messages", f"index {index}", f"an entry below {self.batch_shape[0]}")
        return Messages(self.operator.entry(index), self.v[index], self.iterations, self.error_bound)

    def q(self, t: int = 0) -> F:
        """Return the soft action value of time t, reward units, ``[*B, S, A]``.

        ``q = mean over outcomes of r + c(v_{t+1})``. On factors ``q.reshape(*states.sizes, *actions.sizes)`` has an
        axis for each variable.
        """
        return self.operator.q(self._time(t), self._at(t + 1))

    @cached_property
    def policy(self) -> Any:
        """The rule's policy, ``π_t(a|s) = p(a|s) exp((q - v)/α)`` for a soft rule, the best actions for a hard one.

        Equally good best actions are taken in proportion to the prior. In a state with v = -inf the policy is the
        prior.
        """
        return self.operator.policy(self.v, self.error_bound)

    def explain(self, t: int = 0, /, **state: Any) -> Reasons | GaussianReasons:
        """Say why the rule acts as it does in one state, ``explain(0, pump="worn", motor="ok")``.

        For each action: its prior, its q and its probability. Then why the best action is ahead, what v means under the
        rule, and the luck that POSTERIOR assumes. ``str`` gives sentences; a notebook shows a table. Of real actions:
        the mean, its gains, and what it costs to deviate.

        Args:
            t: the time; any for an infinite horizon.
            state: the value of every state variable, by number or by name; of a real one the number, or a list. In a
                world of independent parts: the variables of one part.

        Raises:
            WorldError: there is no such time, a variable is missing or unknown, or it has no such value; or the
                messages are a batch.
        """
        reasons: Reasons | GaussianReasons = reasons_for(self, self._time(t), state)
        return reasons

    def log_policy(self, t: int = 0) -> Act:
        """Return the rule's policy at time t: log π_t(a|s), nats, ``[*B, S, A]``, where actions are numbered."""
        return self.operator.log_policy(self._time(t), self._at(t + 1), self.error_bound)

    @property
    def value(self) -> Float[Tensor, "*B"]:
        """The start value, reward units: the rule's mean over outcomes, applied to v_0(s_0)."""
        return self.operator.start(self._at(0))

    @property
    def log_evidence(self) -> Float[Tensor, "*B"]:
        """log Z = log p(O=1), nats: ``log Σ p(s_0) exp(v_0/α)``; POSTERIOR only."""
        return in_nats(self.rule, POSTERIOR, "log_evidence", self.value, self.temperature)

    @property
    def elbo(self) -> Float[Tensor, "*B"]:
        """ELBO* = max over policies of ELBO(π), nats: ``Σ p(s_0) v_0/α``; VARIATIONAL only."""
        return in_nats(self.rule, VARIATIONAL, "elbo", self.value, self.temperature)

    def initial(self) -> M:
        """Return the start distribution under the rule: p(s_0|O) for POSTERIOR, p(s_0) for VARIATIONAL and HARD."""
        return self.operator.begin(self._at(0))

    def log_initial(self) -> M:
        """Return the logarithm of ``initial``, nats; it is exact where probabilities underflow to 0."""
        return self.operator.log_start(self._at(0))

    def tilt(self, t: int = 0) -> Tilt:
        """Return log policy, log tilted outcomes and log survival of time t, nats.

        Raises:
            IntractableError: there are too many outcomes over all states and actions to list.
        """
        tilted: Tilt = self.operator.tilt(self._time(t), self._at(t + 1), self.error_bound)
        return tilted

    def dynamics(self, t: int = 0) -> Float[Tensor, "*B S A K"]:
        """Return the dynamics under the rule, nats: POSTERIOR has log p(outcome|s_t, a_t, O), VARIATIONAL the true
        ones."""
        return self.tilt(t).log_outcome

    def survival(self, t: int = 0) -> Float[Tensor, "*B S"]:
        """Return the probability of surviving step t on entering s_{t+1}: γ, tilted by the rule."""
        return self.tilt(t).log_survive.exp()

    def states(self, t: int = 0) -> M:
        """Return p(s_t, alive) under the rule, for t = 0 … T; for the infinite horizon its sum over all times."""
        return self.operator.at(self._states, require_time("t", t, self.model.horizon, end=True))

    def marginals(self, t: int = 0) -> MF:
        """Return p(s_t, a_t|O=1), ``[*B, S, A]``, for POSTERIOR; else the occupancy of the rule's own policy.

        With a discount only trajectories that are alive at t count, so it sums to the probability of being alive. For
        the infinite horizon it is the sum over all times.
        """
        return self.operator.joint(self.states(t), self.log_policy(t))

    def luck(self, t: int = 0) -> F:
        """Return KL(p(outcome|s, a) ‖ p(outcome|s, a, O)), nats, ``[S, A]``; POSTERIOR only."""
        require_rule(self.rule, POSTERIOR, "luck")
        return self.operator.luck(self._time(t), self._at(t + 1))

    def shortfall(self, t: int = 0) -> F:
        """Return v_t - q_t, reward units, ``[S, A]``: what each action loses against the best; HARD only."""
        require_rule(self.rule, HARD, "shortfall")
        return self.operator.shortfall(self._time(t), self._at(t + 1))

    def outcome_marginals(self, t: int = 0) -> Float[Tensor, "*B S A K"]:
        """Return p(s_t, a_t, outcome_t|O=1): ``marginals`` with one more axis, for the outcome."""
        return self.tilt(t).joint(self.states(t))

    def pairs(self, t: int = 0) -> Tensor:
        """Return p(s_t, s_{t+1}|O=1), alive at both times, as a sparse COO tensor ``[S, S]``.

        Raises:
            WorldError: the messages are a batch; index one entry first.
        """
        self._single("pairs")
        return self.tilt(t).pairs(self.states(t))

    def marginal(self, t: int, names: str | Sequence[str]) -> Float[Tensor, "..."]:
        """Return the marginal of the named state, action and latent variables of time t, ``[*B]`` and one axis a name.

        A latent sampled from ``Point`` has no axis in tables: solve with ``form="factors"`` for its marginal.

        Raises:
            WorldError: there is no variable of that name.
        """
        wanted = (names,) if isinstance(names, str) else tuple(names)
        known = self.operator.variables
        if not wanted or not set(wanted) <= set(known) or len(set(wanted)) < len(wanted):
            raise fault("marginal, names", f"{list(wanted)}", f"some of {list(known)}, each once")
        if set(wanted) <= set(self.model.states.names):
            return self.operator.state_marginal(t, self.states(t), wanted)
        return self.operator.marginal(self._time(t), self.states(t), self._at(t + 1), wanted, self.error_bound)

    @cached_property
    def forward(self) -> V:
        """The forward messages log p(s_t, alive, O_{<t}), nats, ``[*B, T+1, S]``; POSTERIOR only, finite horizon.

        ``forward[t] + v[t]/α - log Z = log p(s_t, alive|O)`` at every t.
        """
        require_rule(self.rule, POSTERIOR, "forward")
        self._finite("forward")
        return self.operator.forward(self.v, self._states)

    def sample(self, n: int, *, steps: int | None = None, generator: torch.Generator | None = None) -> Trajectories:
        """Draw n trajectories under the rule's policy and dynamics: exact samples of p(τ|O=1) for POSTERIOR.

        Args:
            n: how many.
            steps: how many steps to draw; T unless given, and required for the infinite horizon.
            generator: the source of randomness; torch's global one unless given.

        Raises:
            WorldError: the messages are a batch, or ``steps`` is missing.
            IntractableError: there are more than 2^62 joint states.
        """
        self._single("sample")
        if not isinstance(n, int) or n < 1 or not isinstance(steps, int | None):
            raise fault("sample", f"n = {n!r}, steps = {steps!r}", "whole numbers, n at least 1")
        horizon = self.model.horizon
        T = horizon if steps is None else steps
        if T is None or T < 1 or (horizon is not None and horizon < T):
            seen = "none, with an infinite horizon" if T is None else f"{T}"
            raise fault("sample, steps", seen, f"a number of steps from 1 to {horizon or 'any'}")
        pick = Drawing(generator)
        return follow(self._conditionals, self.operator.pick_start(self._at(0), n, pick), T, pick)

    def most_probable(self) -> Trajectories:
        """Return the most probable trajectory given O=1, as a batch of one (Viterbi; ties go to the lowest number).

        Raises:
            WorldError: the messages are a batch, or the horizon is infinite.
            IntractableError: independent parts share a discount below 1, or there are more than 2^62 joint states.
        """
        self._single("most_probable")
        T = self._finite("most_probable")
        best = self
        if self.rule != MAP:
            op = self.operator.under(MAP)
            best = Messages(op, sweep(op), T)
        pick = Likeliest()
        return follow(best._conditionals, best.operator.pick_start(best._at(0), 1, pick), T, pick)

    def _conditionals(self, t: int) -> Conditionals:
        return self.operator.conditionals(t, self._at(t + 1), self.error_bound)

    @cached_property
    def _states(self) -> V:
        """p(s_t, alive) under the rule of every time; or summed over all times."""
        start, T = self.initial(), self.model.horizon
        if T is None:
            return self.operator.own_visits(self.v, start, self.error_bound)
        push, mu = self.operator.pushing(self.v, self.error_bound), [start]
        for t in range(T):
            mu.append(push(t, mu[-1]))
        return self.operator.all_times(mu)

    def _at(self, t: int) -> V:
        return self.operator.at(self.v, t)

    def _time(self, t: int) -> int:
        return require_time("t", t, self.model.horizon)

    def _single(self, what: str) -> None:
        if self.batch_shape:
            raise fault(what, f"messages with a batch of shape {tuple(self.batch_shape)}", "one entry: messages[i]")

    def _finite(self, what: str) -> int:
        horizon: int | None = self.model.horizon
        if horizon is None:
            raise fault(what, "an infinite horizon", "a finite horizon")
        return horizon


def require_rule(rule: Rule | str, owner: Rule, what: str) -> None:
    """Raise an ``AttributeError`` where a number belongs to another rule."""
    if rule != (owner.name if isinstance(rule, str) else owner):
        raise AttributeError(f"{what} belongs to {owner}; these messages are {rule}: ask .value (reward units)")


def in_nats(rule: Rule | str, owner: Rule, what: str, value: Tensor, alpha: Tensor) -> Tensor:
    """Return a start value in nats, where it is that of the rule to which the number belongs."""
    require_rule(rule, owner, what)
    return nats(value, alpha)
