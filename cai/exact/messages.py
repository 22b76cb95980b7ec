"""The result of a solve: messages, and everything that follows from them on demand."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.table_model import Slice, Tables, Trajectories
from cai.errors import fault
from cai.exact.forward import flow, forward_message, posterior_flow, push
from cai.exact.rounding import at_hand, tied_from
from cai.exact.rules import MAP, POSTERIOR, VARIATIONAL, Rule, is_maximum
from cai.exact.sampling import decode, sample
from cai.exact.sweep import sweep
from cai.exact.tables.backup import Backup, Tilt, action_values, back_up, differentiable_backup, tilt
from cai.exact.tables.chain import chain_of, visits
from cai.policies.fixed import FixedPolicy
from cai.support.numerics import nats


@dataclass(frozen=True, repr=False)
class Messages:
    """The messages of one rule on one world; a leading batch axis stands for stacked worlds or temperatures.

    Attributes:
        tables: the compiled world.
        rule: how outcomes and actions were marginalised.
        temperature: α, reward units, shape ``[*M]``.
        v: ``[*B, T+1, S]``, reward units; ``[*B, S]`` for the infinite horizon. ``β_t(s) = exp(v_t(s)/α)``.
        form: the compiled form that was used.
        iterations: backups until the fixed point; T for a finite horizon.
        error_bound: a proved bound on the error of v, reward units; 0 for a finite horizon (rounding apart).
    """

    tables: Tables
    rule: Rule
    temperature: Float[Tensor, "*M"]
    v: Float[Tensor, "..."]
    form: str = "tables"
    iterations: int = 0
    error_bound: float = 0.0

    def __repr__(self) -> str:
        return f"Messages({self.rule} at temperature {self.temperature.tolist()} on {self.tables})"

    @property
    def batch_shape(self) -> torch.Size:
        """The shape of the batch; empty for one world at one temperature."""
        return torch.Size(torch.broadcast_shapes(self.tables.batch_shape, self.temperature.shape))

    def __getitem__(self, index: int) -> "Messages":
        """Return the messages of one entry of the first batch axis."""
        if not self.batch_shape:
            raise fault("Messages", "an index on messages without a batch axis", "a batch of worlds or temperatures")
        if not -self.batch_shape[0] <= index < self.batch_shape[0]:
            raise fault("Messages", f"index {index}", f"an entry below {self.batch_shape[0]}")
        tables, inner = self.tables, len(self.tables.batch_shape)
        if inner == len(self.batch_shape):  # else the first axis is one of temperatures, and all share the worlds
            names = ("log_initial", "log_prior", "log_prob", "successor", "reward", "terminal", "ended")
            fields = {name: field for name in names if (field := getattr(tables, name)) is not None}
            whole = {name: f.expand(*self.batch_shape, *f.shape[inner:])[index] for name, f in fields.items()}
            tables = replace(tables, **whole)
        return replace(
            self, tables=tables, temperature=self.temperature.expand(self.batch_shape)[index], v=self.v[index]
        )

    def q(self, t: int = 0) -> Float[Tensor, "*B S A"]:
        """Return the soft action value of time t, reward units: ``q = mean over outcomes of r + c(v_{t+1})``."""
        one, v_next = self.tables.at(self._time(t)), self._v_next(t)
        if v_next.requires_grad:
            return differentiable_backup(self.rule, one, v_next, self.temperature, self.tables.log_survival)[0]
        return action_values(self.rule, one, v_next, self.temperature, self.tables.log_survival)

    @property
    def policy(self) -> FixedPolicy:
        """The rule's policy, ``π_t(a|s) = p(a|s) exp((q - v)/α)`` for a soft rule, the maximisers for a hard one.

        Tied maximisers share as the prior does. In a state where nothing is possible it is the prior.
        """
        tables = self.tables
        return FixedPolicy(self._log_policy, tables.states, tables.actions, tables.horizon)

    def _log_policy(self, t: int) -> Tensor:
        q, log_prior = self.q(t), self.tables.at(t).log_prior
        if q.requires_grad:
            return self.tilt(t).log_policy
        over, alpha = self.rule.over_actions, self.temperature[..., None]
        return over.log_weights(q, log_prior, alpha, self._tied_from(t, over.value(q, log_prior, alpha)))

    def _tied_from(self, t: int, value: Tensor) -> Tensor:
        if not is_maximum(self.rule.over_actions):
            return value
        steps = 0 if self.tables.horizon is None else self.tables.horizon - t
        sizes = at_hand(self.tables.at(t).reward, self._v_next(t))
        return tied_from(value, sizes, steps, self.error_bound)

    @property
    def value(self) -> Float[Tensor, "*B"]:
        """The start value, reward units: the rule's mean over outcomes, taken over s_0."""
        one, no_death = self._start, self._no_death
        v_0 = self._v(0)
        q, _ = differentiable_backup(self.rule, one, v_0, self.temperature, no_death)
        return q[..., 0, 0]

    @property
    def log_evidence(self) -> Float[Tensor, "*B"]:
        """log Z = log p(O=1), nats: ``log Σ p(s_0) exp(v_0/α)``; POSTERIOR only."""
        self._belongs_to(POSTERIOR, "log_evidence")
        return nats(self.value, self.temperature)

    @property
    def elbo(self) -> Float[Tensor, "*B"]:
        """ELBO* = max over policies of ELBO(π), nats: ``Σ p(s_0) v_0/α``; VARIATIONAL only."""
        self._belongs_to(VARIATIONAL, "elbo")
        return nats(self.value, self.temperature)

    def initial(self) -> Float[Tensor, "*B S"]:
        """Return the start distribution under the rule: p(s_0|O) for POSTERIOR, p(s_0) where the dynamics are held."""
        return self.log_initial().exp()

    def log_initial(self) -> Float[Tensor, "*B S"]:
        """Return the logarithm of ``initial``, nats: where probabilities underflow it does not."""
        values = back_up(self.rule, self._start, self._v(0), self.temperature, self._no_death)
        tilted = tilt(self.rule, self._start, self._v(0), values, self.temperature, self._no_death)
        return tilted.log_outcome[..., 0, 0, :]

    def dynamics(self, t: int = 0) -> Float[Tensor, "*B S A K"]:
        """Return the tilted dynamics, log p(outcome|s_t, a_t, O) in nats for POSTERIOR; the true ones if held."""
        return self.tilt(t).log_outcome

    def survival(self, t: int = 0) -> Float[Tensor, "*B S"]:
        """Return the probability of surviving step t on entering s_{t+1}: γ, tilted by the rule."""
        return self.tilt(t).log_survive.exp()

    def marginals(self, t: int = 0) -> Float[Tensor, "*B S A"]:
        """Return p(s_t, a_t|O=1) for POSTERIOR, else the occupancy of the rule's own policy and dynamics.

        With a discount this counts living trajectories only, so it sums to the chance to be alive at t. For the
        infinite horizon it is the sum over all times.
        """
        return self._states_at(t).unsqueeze(-1) * self.tilt(t).log_policy.exp()

    def outcome_marginals(self, t: int = 0) -> Float[Tensor, "*B S A K"]:
        """Return p(s_t, a_t, outcome_t|O=1): the marginals with the outcome beside them."""
        return push(self._states_at(t), self.tables.at(self._time(t)), self.tilt(t))[0]

    def marginal(self, t: int, names: str | Sequence[str]) -> Float[Tensor, "..."]:
        """Return the marginal of some states, actions and latents of time t, ``[*B]`` and one axis each as given.

        Latents are those that took room in the tables: a ``Point`` is none, and is had with ``form="factors"``.

        Raises:
            WorldError: a name is none of these variables.
        """
        wanted = (names,) if isinstance(names, str) else tuple(names)
        tables = self.tables
        spaces = [tables.states, tables.actions]
        if tables.latents is not None and tables.latents.size == tables.log_prob.shape[-1]:
            spaces.append(tables.latents)
        known = [name for space in spaces for name in space.names]
        if not wanted or not set(wanted) <= set(known) or len(set(wanted)) < len(wanted):
            raise fault("marginal, names", f"{list(wanted)}", f"some of {known}, each once")
        used = spaces[: 1 + max(i for i, space in enumerate(spaces) if set(space.names) & set(wanted))]
        joint = (self._entered, self.marginals, self.outcome_marginals)[len(used) - 1](t)
        sizes, number = [], torch.zeros((), dtype=torch.long, device=joint.device)
        for name in wanted:
            axis, space = next((i, space) for i, space in enumerate(used) if name in space.names)
            values = space.split(torch.arange(space.size, device=joint.device))[name].long()
            sizes.append(space.sizes[space.names.index(name)])
            number = number * sizes[-1] + values.reshape(-1, *(1,) * (len(used) - 1 - axis))
        where = number.expand([space.size for space in used]).reshape(-1)
        batch = joint.shape[: joint.dim() - len(used)]
        total = joint.new_zeros(*batch, math.prod(sizes)).index_add(-1, where, joint.reshape(*batch, -1))
        return total.reshape(*batch, *sizes)

    def pairs(self, t: int = 0) -> Tensor:
        """Return p(s_t, s_{t+1}|O=1), the trajectory alive in both, as a sparse COO tensor ``[S, S]``.

        Raises:
            WorldError: the messages are a batch; index one entry first.
        """
        self._single("pairs")
        one, tilted = self.tables.at(self._time(t)), self.tilt(t)
        joint = push(self._states_at(t), one, tilted)[0] * tilted.log_survive.exp()[one.successor]
        S = self.tables.states.size
        rows = torch.arange(S)[:, None, None].expand(joint.shape).reshape(-1)
        numbers = torch.stack([rows.to(one.successor.device), one.successor.reshape(-1)])
        return torch.sparse_coo_tensor(numbers, joint.reshape(-1), (S, S), check_invariants=False).coalesce()

    @cached_property
    def forward(self) -> Float[Tensor, "*B T1 S"]:
        """The forward messages log p(s_t, alive, O_{<t}), nats; POSTERIOR only, finite horizon.

        ``forward[t] + v[t]/α - log Z = log p(s_t, alive|O)`` at every t.
        """
        self._belongs_to(POSTERIOR, "forward")
        self._finite("forward")
        log_f = self.tables.log_initial.expand(*self.batch_shape, -1)
        messages = [log_f]
        for t in range(self.v.shape[-2] - 1):
            log_f = forward_message(log_f, self.tables.at(t), self.temperature, self.tables.log_survival[0])
            messages.append(log_f)
        return torch.stack(messages, -2)

    def sample(self, n: int, *, steps: int | None = None, generator: torch.Generator | None = None) -> Trajectories:
        """Draw n trajectories from the rule's own chain: exact samples of p(τ|O=1) for POSTERIOR.

        Args:
            n: how many.
            steps: how many steps to follow; T unless given, and needed for the infinite horizon.
            generator: the source of randomness; torch's global one unless given.

        Raises:
            WorldError: the messages are a batch, or ``steps`` is missing.
        """
        self._single("sample")
        if not isinstance(n, int) or n < 1 or not isinstance(steps, int | None):
            raise fault("sample", f"n = {n!r}, steps = {steps!r}", "whole numbers, n at least 1")
        horizon = self.tables.horizon
        T = horizon if steps is None else steps
        if T is None or T < 1 or (horizon is not None and horizon < T):
            seen = "none, with an infinite horizon" if T is None else f"{T}"
            raise fault("sample, steps", seen, f"a number of steps from 1 to {horizon or 'any'}")
        return sample(self.tables, self.initial(), self.tilt, n, T, generator)

    def most_probable(self) -> Trajectories:
        """Return the most probable trajectory given O=1, as a batch of one (Viterbi; ties go to the lowest number).

        Raises:
            WorldError: the messages are a batch, or the horizon is infinite.
        """
        self._single("most_probable")
        self._finite("most_probable")
        v = self.v if self.rule == MAP else sweep(MAP, self.tables.detach(), self.temperature.detach())
        return decode(self.tables, self.temperature, v)

    def tilt(self, t: int = 0) -> Tilt:
        """Return log policy, log tilted outcomes and log survival of time t, nats."""
        one, v_next = self.tables.at(self._time(t)), self._v_next(t)
        values: Backup = back_up(self.rule, one, v_next, self.temperature, self.tables.log_survival)
        if v_next.requires_grad:
            q, v = differentiable_backup(self.rule, one, v_next, self.temperature, self.tables.log_survival)
            values = replace(values, q=q, v=v)
        values = replace(values, v=self._tied_from(t, values.v))
        return tilt(self.rule, one, v_next, values, self.temperature, self.tables.log_survival)

    @cached_property
    def _states(self) -> Tensor:
        """p(s_t, alive) under the rule: ``[*B, T+1, S]``, or summed over all times ``[*B, S]``."""
        start = self.initial().expand(*self.batch_shape, -1)
        if self.tables.horizon is not None:
            if self.rule == POSTERIOR and not self.v.requires_grad:
                states = posterior_flow(self.tables.detach(), self.temperature.detach(), self.v, start.detach())
            else:
                states = flow(start, self._tilted_slices())
            return torch.stack(list(states), -2)
        return visits(chain_of(self.tables.at(0), self.tilt(0), torch.ones_like(start)), start)

    def _tilted_slices(self) -> Iterator[tuple[Slice, Tilt]]:
        for t in range(self.v.shape[-2] - 1):
            yield self.tables.at(t), self.tilt(t)

    def _states_at(self, t: int) -> Tensor:
        return self._states if self.tables.horizon is None else self._states[..., self._time(t), :]

    def _entered(self, t: int) -> Tensor:
        """Return p(s_t, alive), for t = 0 … T."""
        T = self.tables.horizon
        if T is not None and not 0 <= t <= T:
            raise fault("t", f"{t}", f"a time from 0 to {T}")
        return self._states if T is None else self._states[..., t, :]

    def _v(self, t: int) -> Tensor:
        return self.v if self.tables.horizon is None else self.v[..., t, :]

    def _v_next(self, t: int) -> Tensor:
        return self._v(self._time(t) + 1)

    def _time(self, t: int) -> int:
        T = self.tables.horizon
        if T is not None and not 0 <= t < T:
            raise fault("t", f"{t}", f"a time from 0 to {T - 1}")
        return t

    @property
    def _start(self) -> Slice:
        """The start as one more slice: a single state and action, whose outcomes are the s_0."""
        log_prob = self.tables.log_initial[..., None, None, :]
        zero = torch.zeros_like(log_prob)
        numbers = torch.arange(log_prob.shape[-1], device=log_prob.device).expand(log_prob.shape)
        return Slice(zero[..., 0], log_prob, numbers, zero)

    @property
    def _no_death(self) -> Tensor:
        return self.v.new_tensor([0.0, -torch.inf])

    def _belongs_to(self, rule: Rule, what: str) -> None:
        if self.rule != rule:
            raise AttributeError(f"{what} belongs to {rule}; these messages are {self.rule}: ask .value (reward units)")

    def _single(self, what: str) -> None:
        if self.batch_shape:
            raise fault(what, f"messages with a batch of shape {tuple(self.batch_shape)}", "one entry: messages[i]")

    def _finite(self, what: str) -> None:
        if self.tables.horizon is None:
            raise fault(what, "an infinite horizon", "a finite horizon")
