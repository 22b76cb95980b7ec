"""Tables under a rule: values are tensors ``[*B, S]``, and a backup uses the fastest form that applies."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from cai.compile.table_model import Slice, Tables
from cai.exact import finite
from cai.exact.cost import Cost
from cai.exact.lifetime import visits
from cai.exact.operator import Pick
from cai.exact.rounding import Rounding, at_hand, largest
from cai.exact.rules import POSTERIOR, Rule
from cai.exact.tables.adjoints import gathering
from cai.exact.tables.averaged import Averaged, average
from cai.exact.tables.backup import Equation, Step, Tilt, look_ahead, put_back
from cai.exact.tables.backup_forms import ready, room
from cai.exact.tables.chain import DENSE, Chain, chain_of
from cai.exact.tables.doubling import doubled, pays
from cai.exact.tables.gathered import Gathering
from cai.policies.fixed import FixedPolicy
from cai.support.memo import Memo
from cai.support.memory import require_room
from cai.world.spaces import Space

ENDLESS = 1000
"""Backups that a search for a fixed point may take, as far as it pays to prepare for them."""
_READY: Memo[Step] = Memo(most=4)  # for VARIATIONAL, POSTERIOR and HARD at a temperature, and one more


@dataclass(frozen=True, eq=False)
class TableOperator:
    """Tables under a rule; see ``Operator``.

    Attributes:
        model: the tables.
        rule: how outcomes and actions are marginalised.
        alpha: temperatures, reward units, ``[*M]``.
    """

    model: Tables
    rule: Rule
    alpha: Tensor
    form: str = "tables"

    act = finite.act
    score = finite.score
    states_under = finite.states_under
    expect = expect_state = finite.expect
    in_play = finite.in_play
    total = finite.total
    by_place = finite.by_place
    standard_error = finite.standard_error
    start_luck = finite.start_luck
    shortfall = finite.shortfall
    measured = finite.measured
    entries = property(finite.entries)

    def __reduce__(self) -> Any:
        return TableOperator, (self.model, self.rule, self.alpha)  # prepared data is computed again in another process

    @property
    def batch_shape(self) -> torch.Size:
        """The shape of the batch: of the worlds and of the temperatures, broadcast."""
        return torch.Size(torch.broadcast_shapes(self.model.batch_shape, self.alpha.shape))

    @property
    def parts(self) -> "tuple[TableOperator, ...]":
        """Itself alone: a world in one piece."""
        return (self,)

    def equation(self, t: int) -> Equation:
        """Return the equation of time t."""
        return Equation(self.rule, self.model.at(t), self.alpha, self.model.log_survival)

    def step(self, t: int) -> Step:
        """Return the backup of time t, made ready; what all times share is kept with the tables."""
        return ready(self.equation(t), scale=self._scale) if self.model.timed else self._step

    @cached_property
    def _step(self) -> Step:
        tables, scale = self.model, self._scale
        uses = tables.horizon or ENDLESS
        if tables.requires_grad or self.alpha.requires_grad:
            return ready(self.equation(0), uses=uses, scale=scale)
        # A step may hold threads: as many as torch may use; a forked process does not have them.
        where = (os.getpid(), torch.get_num_threads())
        key = (self.rule, self.alpha.shape, *self.alpha.flatten().tolist(), uses, scale, tables.version, *where)
        return _READY.of(tables, key, lambda: ready(self.equation(0), uses=uses, scale=scale))

    @cached_property
    def _scale(self) -> float:
        return largest(self.model.terminal)

    def terminal(self) -> Tensor:
        """Return v_T, reward units, ``[*B, S]``."""
        return self.model.terminal.expand(*self.batch_shape, -1)

    def backup(self, t: int, v_next: Tensor, out: Tensor | None = None) -> Tensor:
        """Return v_t, reward units, ``[*B, S]``."""
        return self.step(t)(v_next, out=out)

    def places(self) -> Tensor:
        """Return room for v of all times, ``[T+1, *B, S]``."""
        T = self.model.horizon
        assert T is not None
        return room(self.model.reward, T + 1, *self.batch_shape, self.model.states.size)

    def all_times(self, values: Sequence[Tensor], places: Tensor | None = None) -> Tensor:
        """Return what has a value at each time, ``[*B, T+1, S]``; in its places, where it was written there."""
        if places is None:
            return torch.stack([value.expand(*self.batch_shape, -1) for value in values], -2)
        places[-1] = values[-1]
        return places.movedim(0, -2)

    def at_once(self) -> Tensor | None:
        """Return v of a long horizon and few states by doubling, under POSTERIOR."""
        T = self.model.horizon
        if T is None or self.model.timed or not pays(self.equation(0), T, self._scale):
            return None
        return doubled(self.equation(0), self.model.terminal, T)

    def limit(self) -> None:
        """Return None: backups lead to the fixed point."""

    def at(self, v: Tensor, t: int) -> Tensor:
        """Return v of time t."""
        return v if self.model.horizon is None else v[..., t, :]

    def q(self, t: int, v_next: Tensor) -> Tensor:
        """Return q, reward units, ``[*B, S, A]``."""
        equation = self.equation(t)
        return equation.differentiable(v_next)[0] if v_next.requires_grad else equation.q(v_next)

    def start(self, v_0: Tensor) -> Tensor:
        """Return the start value, reward units, ``[*B]``."""
        return self._start.differentiable(v_0)[0][..., 0, 0]

    def log_start(self, v_0: Tensor) -> Tensor:
        """Return log p(s_0) under the rule, nats, ``[*B, S]``."""
        return self._start.tilt(v_0).log_outcome[..., 0, 0, :]

    @property
    def _start(self) -> Equation:
        """The start as one more slice: a single state and action, whose outcomes are the s_0, with survival probability
        1."""
        log_prob = self.model.log_initial[..., None, None, :]
        zero = torch.zeros_like(log_prob)
        numbers = torch.arange(log_prob.shape[-1], device=log_prob.device).expand(log_prob.shape)
        return Equation(
            self.rule, Slice(zero[..., 0], log_prob, numbers, zero), self.alpha, zero.new_tensor([1.0, 0.0]).log()
        )

    def begin(self, v_0: Tensor) -> Tensor:
        """Return p(s_0) under the rule, ``[*B, S]``."""
        return self.log_start(v_0).exp()

    def initial(self) -> Tensor:
        """Return p(s_0), ``[*B, S]``."""
        return self.model.log_initial.exp()

    def log_prior(self, t: int) -> Tensor:
        """Return log p(a|s), nats, ``[*B, S, A]``."""
        return self.model.at(t).log_prior

    def log_policy(self, t: int, v_next: Tensor, error_bound: float = 0.0) -> Tensor:
        """Return the rule's own log π_t(a|s), nats, ``[*B, S, A]``."""
        tied = lambda v: self._tied(t, v_next, error_bound, v)  # noqa: E731
        return finite.rule_policy(self.rule, self.q(t, v_next), self.log_prior(t), self.alpha, tied)

    def conditionals(self, t: int, v_next: Tensor, error_bound: float = 0.0) -> Tilt:
        """Return the rule's own chain at time t."""
        equation = self.equation(t)
        values = equation.back_up(v_next)
        if v_next.requires_grad:
            q, v = equation.differentiable(v_next)
            values = replace(values, q=q, v=v)
        return equation.tilt(v_next, replace(values, v=self._tied(t, v_next, error_bound, values.v)))

    def _tied(self, t: int, v_next: Tensor, error_bound: float, value: Tensor) -> Tensor:
        return finite.tied(self, t, at_hand(self.model.at(t).reward, v_next), error_bound, value)

    def tilt(self, t: int, v_next: Tensor, error_bound: float = 0.0) -> Tilt:
        """Return the rule's own chain at time t, all its outcomes listed."""
        return self.conditionals(t, v_next, error_bound)

    def policy(self, v: Tensor, error_bound: float) -> FixedPolicy:
        """Return the rule's own policy."""
        return finite.policy(self, v, error_bound)

    def pushing(self, v: Tensor, error_bound: float) -> Callable[[int, Tensor], Tensor]:
        """Return a step of the rule's own chain; POSTERIOR's is its adjoint, for the gradient of log Z is marginals."""
        if self.rule != POSTERIOR or v.requires_grad:
            return lambda t, mu: self.conditionals(t, v[..., t + 1, :], error_bound).push(mu)
        stationary = None if self.model.timed else self.gathering(0)
        return lambda t, mu: (stationary or self.gathering(t)).push(v[..., t + 1, :], mu)

    def own_visits(self, v: Tensor, start: Tensor, error_bound: float) -> Tensor:
        """Return p(s_t, alive) under the rule, summed over all times, ``[*B, S]``."""
        return visits(chain_of(self.conditionals(0, v, error_bound), torch.ones_like(start)), start)

    def gathering(self, t: int) -> Gathering:
        """Return the adjoint of time t, which gathers the derivatives of what a slice reads."""
        tables = self.model
        uses = 1 if tables.timed else tables.horizon or ENDLESS
        return gathering(self.equation(t), uses=uses, scale=self._scale, step=self.step(t))

    def forward(self, v: Tensor, states: Tensor) -> Tensor:
        """Return the forward messages of every time, nats, ``[*B, T+1, S]``."""
        messages = [self.model.log_initial.expand(*self.batch_shape, -1)]
        for t in range(v.shape[-2] - 1):
            messages.append(self.equation(t).forward_message(messages[-1]))
        return torch.stack(messages, -2)

    @property
    def variables(self) -> tuple[str, ...]:
        """The names of states, actions, and the latents that took room."""
        return tuple(name for space in self._spaces for name in space.names)

    @property
    def _spaces(self) -> list[Space]:
        tables = self.model
        spaces = [tables.states, tables.actions]
        if tables.latents is not None and tables.latents.size == tables.log_prob.shape[-1]:
            spaces.append(tables.latents)
        return spaces

    def state_marginal(self, t: int, mu: Tensor, names: Sequence[str]) -> Tensor:
        """Return the marginal of some state variables, an axis each."""
        return finite.summed_out(self._spaces[:1], mu, names)

    def marginal(self, t: int, mu: Tensor, v_next: Tensor, names: Sequence[str], error_bound: float) -> Tensor:
        """Return the marginal of some variables of a slice, ``[*B]`` and an axis each."""
        spaces, chain = self._spaces, self.conditionals(t, v_next, error_bound)
        if len(spaces) > 2 and set(spaces[2].names) & set(names):
            return finite.summed_out(spaces, chain.joint(mu), names)
        return finite.summed_out(spaces[:2], finite.joint(mu, chain.log_policy), names)

    def pick_start(self, v_0: Tensor, n: int, pick: Pick) -> Tensor:
        """Pick start states under the rule."""
        return pick.several(self.log_start(v_0), n)

    def under(self, rule: Rule) -> "TableOperator":
        """Return the same world under another rule, cut from autograd."""
        return TableOperator(self.model.detach(), rule, self.alpha.detach())

    def entry(self, index: int) -> "TableOperator":
        """Return one entry of the first batch axis."""
        tables, inner, batch = self.model, len(self.model.batch_shape), self.batch_shape
        if inner == len(batch):  # else the first axis is one of temperatures, and all share the worlds
            names = ("log_initial", "log_prior", "log_prob", "successor", "reward", "terminal", "ended")
            fields = {name: field for name in names if (field := getattr(tables, name)) is not None}
            whole = {name: field.expand(*batch, *field.shape[inner:])[index] for name, field in fields.items()}
            tables = replace(tables, **whole)
        return TableOperator(tables, self.rule, self.alpha.expand(batch)[index])

    def joint(self, mu: Tensor, log_pi: Tensor) -> Tensor:
        """Return p(s_t, a_t, alive), ``[S, A]``."""
        return finite.joint(mu, log_pi)

    def averaged(self, t: int) -> Averaged:
        """Return the true dynamics of time t."""
        return average(self.model.at(t), self.model.discount) if self.model.timed else self._averaged

    @cached_property
    def _averaged(self) -> Averaged:
        return average(self.model.at(0), self.model.discount)

    def push(self, t: int, joint: Tensor) -> Tensor:
        """Return p(s_{t+1}, alive), ``[S]``."""
        dynamics = self.averaged(t)
        return put_back(joint.unsqueeze(-1) * dynamics.onward, dynamics.successor, joint.shape[-2])

    def visits(self, log_pi: Tensor) -> Tensor:
        """Return p(s_t, alive) summed over all times, ``[S]``."""
        return visits(self.averaged(0).living(log_pi.exp()), self.initial())

    def expected_reward(self, t: int) -> Tensor:
        """Return E[r|s, a], reward units, ``[S, A]``."""
        return self.averaged(t).reward

    def luck(self, t: int, v_next: Tensor) -> Tensor:
        """Return KL(p(outcome|s, a) ‖ p(outcome|s, a, O)), nats, ``[S, A]``."""
        slice_, tilted = self.model.at(t), self.conditionals(t, v_next)
        p = slice_.log_prob.exp()
        nats = torch.where(p > 0, p * (slice_.log_prob - tilted.log_outcome), 0.0).sum(-1)
        if self.model.discount < 1:
            log_survival = self.model.log_survival
            survival = (log_survival.exp() * (log_survival - tilted.log_survival)).sum(-1)
            tilts = (p > 0) & (self.q(t, v_next) > -torch.inf).unsqueeze(-1)  # where v is -inf there is no probability
            nats = nats + torch.where(tilts, p * look_ahead(survival, slice_.successor), 0.0).sum(-1)
        return nats

    def chain(self, v: Tensor) -> Chain | None:
        """Return the derivative of the stationary backup at v; None in large worlds."""
        return None if v.shape[-1] > DENSE else self.derivative(v)

    def derivative(self, v: Tensor) -> Chain:
        """Return the derivative of the stationary backup at v: the tilted chain of the living."""
        equation = self.equation(0)
        values = equation.back_up(v)
        return chain_of(equation.tilt(v, values), values.v > -torch.inf)

    def require_room(self) -> None:
        """Raise where v of all times needs more memory than there is.

        Raises:
            IntractableError: it is so.
        """
        T, S, batch = self.model.horizon or 0, self.model.states.size, self.batch_shape
        size = f"values of S = {S:,} states at T = {T:,} times" + (f" in a batch of {batch.numel():,}" if batch else "")
        require_room("solve", size, (T + 1) * batch.numel() * S * self.model.dtype.itemsize)

    def cost(self) -> Cost:
        """Predict what a backup takes: a number for each outcome."""
        work = float(self.model.log_prob.numel() * self.alpha.numel())
        return Cost(work / (self.model.horizon or 1) if self.model.timed else work, work)

    def rounding(self) -> Rounding:
        """Return a bound on the rounding of one backup."""
        return Rounding.of(self.model.at(0), self.alpha)
