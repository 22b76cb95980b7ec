"""solve: the exact best policy over observations and actions, and its messages over beliefs."""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.table_model import Tables
from cai.errors import fault, require_time
from cai.exact.messages import Messages, in_nats
from cai.exact.reasons import Reasons, ranked
from cai.exact.rules import VARIATIONAL, Rule
from cai.exact.solve import solve as solve_seen
from cai.exact.sweep import backups
from cai.exact.temperature import as_temperature
from cai.partial.belief_bounds import drift, tail_of
from cai.partial.belief_operator import BeliefOperator, expected
from cai.partial.belief_tree import Layer, grow
from cai.partial.filtering import Record, TableBeliefs, numbers, table_beliefs, unseen
from cai.partial.gaussian_beliefs import is_continuous
from cai.partial.gaussian_messages import GaussianBeliefMessages, solve_gaussian
from cai.policies.action_probabilities import ActionProbabilities
from cai.support.numbers import chance
from cai.world.definition import World

LIKELY = 4
"""States of a belief that are named."""


@dataclass(frozen=True, repr=False)
class BeliefMessages:
    """The messages of one rule over beliefs.

    Attributes:
        operator: the beliefs under the rule; an infinite horizon is cut.
        values: v of each time 0 … T, reward units, ``[N_t]``; the last of each state, ``[S]``.
        full: the messages of the same rule where the state is seen.
        error_bound: a proved bound on the error of ``value``, reward units; 0 for a finite horizon (rounding apart).
    """

    operator: BeliefOperator
    values: tuple[Tensor, ...]
    full: Messages
    error_bound: float

    def __repr__(self) -> str:
        seen = f"{self.engine.seen.space.size:,} observations, {self.n_beliefs:,} beliefs"
        bound = f" ± {self.error_bound:.2g}" if self.error_bound else ""
        about = f"{self.rule} at temperature {float(self.temperature):g} on {self.engine.model}"
        return f"BeliefMessages({about}, {seen}, value {float(self.value):.6g}{bound})"

    @property
    def engine(self) -> TableBeliefs:
        """The compiled world, and what is seen of it."""
        return self.operator.engine

    @property
    def rule(self) -> Rule:
        """VARIATIONAL or HARD."""
        return self.operator.rule

    @property
    def temperature(self) -> Float[Tensor, ""]:
        """α, reward units."""
        return self.operator.alpha

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The beliefs of each time 0 … T-1."""
        return self.operator.layers

    @property
    def horizon(self) -> int:
        """T, or the time at which an infinite horizon was cut."""
        return len(self.layers)

    @property
    def n_beliefs(self) -> int:
        """How many beliefs are stored, all times together."""
        return sum(len(layer.beliefs) for layer in self.layers)

    @property
    def value(self) -> Float[Tensor, ""]:
        """The start value, reward units: ``Σ p(o_0) v_0(b_{o_0})``; for an infinite horizon to ``error_bound``."""
        return self.operator.start(self.values[0])

    @property
    def elbo(self) -> Float[Tensor, ""]:
        """The best ELBO over policies that use only what was seen, nats: ``value / α``; VARIATIONAL only."""
        return in_nats(self.rule, VARIATIONAL, "elbo", self.value, self.temperature)

    @property
    def fully_observed(self) -> Float[Tensor, ""]:
        """The start value where the state itself is seen, reward units: no policy over beliefs has a better one."""
        return self.full.value

    @cached_property
    def qmdp(self) -> Float[Tensor, ""]:
        """The value of the QMDP policy, reward units: the rule's policy of ``Σ_s b(s) Q(s,a)``, with Q of ``full``.

        It acts as if all were seen from the next step on, and so pays nothing to find out (Littman, Cassandra &
        Kaelbling 1995). Its KL to the prior is paid under VARIATIONAL. An infinite horizon is cut as in ``value``.
        """
        op, v = self.operator, self.operator.terminal()
        with torch.no_grad():
            for t in reversed(range(self.horizon)):
                layer = self.layers[t]
                log_pi = op.log_policy(t, expected(layer.beliefs, self.full.q(t)))
                acts = log_pi > -torch.inf
                price = torch.where(acts, op.alpha * (log_pi - layer.log_prior), 0.0)
                paid = price if self.rule == VARIATIONAL else torch.zeros_like(price)
                v = torch.where(acts, log_pi.exp() * (op.q(t, v) - paid), 0.0).sum(-1)
            return op.start(v)

    def beliefs(self, t: int) -> Float[Tensor, "N S"]:
        """Return the beliefs that can be held at time t, after o_t, ``[N_t, S]``."""
        return self.layers[require_time("t", t, self.horizon)].beliefs

    def v(self, t: int) -> Float[Tensor, " N"]:
        """Return the value of each belief of time t, reward units, ``[N_t]``."""
        return self.values[require_time("t", t, self.horizon)]

    def q(self, t: int) -> Float[Tensor, "N A"]:
        """Return the action values of each belief of time t, reward units, ``[N_t, A]``; -inf where forbidden."""
        return self.operator.q(require_time("t", t, self.horizon), self.values[t + 1])

    def policy(self, t: int) -> Float[Tensor, "N A"]:
        """Return π_t(a|b) of each belief of time t, ``[N_t, A]``: ``p(a|b) exp((q - v)/α)``, or the maximisers."""
        return self.operator.log_policy(t, self.q(t)).exp()

    def find(self, observations: Record, actions: Record) -> tuple[int, int]:
        """Return the time t and the row n of the belief after o_0 … o_t and a_0 … a_{t-1}.

        Raises:
            WorldError: the record does not fit, or has a forbidden action.
            ImpossibleError: an observation has probability zero; the message names the time.
        """
        seen = numbers(self.engine.seen.space, observations, "observations")
        done = numbers(self.engine.model.actions, actions, "actions")
        if not 1 <= len(seen) <= self.horizon or len(done) != len(seen) - 1:
            expected = f"1 to T = {self.horizon} observations, and one action fewer"
            raise fault("history", f"{len(seen)} observations and {len(done)} actions", expected)
        n, A = 0, self.engine.model.actions.size
        for t, o in enumerate(seen):
            edges, source = (self.layers[t - 1].edges, n * A + done[t - 1]) if t else (self.operator.root, 0)
            assert edges is not None
            if t and bool(self.layers[t - 1].log_prior[n, done[t - 1]] == -torch.inf):
                label = self.engine.model.actions.label(done[t - 1])
                raise fault(f"actions, t = {t - 1}", f"{label}, which the prior forbids there", "an allowed action")
            child = edges.follow(source, o)
            if child is None:
                raise unseen(self.engine.seen.space.label(o), t)
            n = child
        return len(seen) - 1, n

    def act(self, observations: Record, actions: Record = ()) -> Float[Tensor, " A"]:
        """Return the probabilities of the next action a_t after o_0 … o_t and a_0 … a_{t-1}, ``[A]``; see ``find``."""
        t, n = self.find(observations, actions)
        return self.policy(t)[n]

    def at(self, observations: Record, actions: Record = ()) -> ActionProbabilities:
        """Return what is done next after o_0 … o_t and a_0 … a_{t-1}, by the names of the actions; see ``find``."""
        t, n = self.find(observations, actions)
        return ActionProbabilities(t, self._held(t, n), self.engine.model.actions, self.policy(t)[n])

    def explain(self, observations: Record, actions: Record = ()) -> Reasons:
        """Say why the rule acts as it does after o_0 … o_t and a_0 … a_{t-1}; see ``find`` and ``Messages.explain``."""
        t, n = self.find(observations, actions)
        q, prior = self.q(t)[n], self.layers[t].log_prior[n].exp()
        about = str(self.rule), float(self.temperature), t, self._held(t, n), float(self.v(t)[n])
        return Reasons(*about, ranked(self.engine.model.actions, prior, q, self.policy(t)[n], torch.zeros_like(q), {}))

    def first(self) -> tuple[tuple[float, ActionProbabilities], ...]:
        """Return what is done at t = 0 after each possible first observation, and p(o_0), the likeliest first."""
        root, pi, space = self.operator.root, self.policy(0), self.engine.seen.space
        order = root.prob.argsort(descending=True, stable=True).tolist()
        seen = ((float(root.prob[i]), space.label(int(root.observation[i])), pi[int(root.child[i])]) for i in order)
        return tuple((p, ActionProbabilities(0, label, self.engine.model.actions, row)) for p, label, row in seen)

    def _held(self, t: int, n: int) -> str:
        """Write a belief in words: its likeliest states."""
        belief, states = self.beliefs(t)[n], self.engine.model.states
        likely = [int(s) for s in belief.argsort(descending=True, stable=True)[:LIKELY] if float(belief[s]) > 0]
        more = int((belief > 0).sum()) - len(likely)
        held = "; ".join(f"{states.label(s)} {chance(float(belief[s]))}" for s in likely)
        return f"belief {held}" + (f"; {more:,} more" if more else "")


def solve(
    world: World,
    rule: Rule = VARIATIONAL,
    *,
    temperature: float | Tensor = 1.0,
    horizon: int | None = None,
    max_beliefs: int = 1_000_000,
) -> BeliefMessages | GaussianBeliefMessages:
    """Solve a partially observed world exactly: the best policy over histories of observations and actions.

    ``v_t(b) = α log Σ_a p(a|b) exp(q_t(b,a)/α)`` under VARIATIONAL, whose start value over α is the best ELBO of a
    policy that sees only ``observe``; ``max_a q_t(b,a)`` under HARD (Åström 1965; Kaelbling, Littman & Cassandra
    1998). All reachable beliefs are listed forward from the start, and equal ones are merged
    (``cai.partial.belief_tree`` says when).

    On a linear-Gaussian world (LQG) all reachable beliefs are N(m, Σ_t), with a Σ_t that is known beforehand, and the
    messages are quadratics of m.

    An infinite horizon of a finite world is cut at ``horizon`` = T. The value of a belief at T is at most ``hi``, the
    best value of the fully observed world in the belief's possible states. It is at least ``lo``, the lowest value of
    the action prior there, which is a policy too and has no KL. The mean of both is the reward at T. So ``value`` is
    within ``γ^T (hi - lo)/2`` of the truth, apart from rounding and merging.

    Args:
        world: a world with ``observe``.
        rule: VARIATIONAL or HARD.
        temperature: α > 0, reward units.
        horizon: where to cut an infinite horizon; not given for a finite one.
        max_beliefs: the most beliefs to store.

    Raises:
        WorldError: the world or an argument is not valid, the rule is not VARIATIONAL or HARD, or the action prior
            depends on unseen variables.
        IntractableError: the world cannot be tabulated, or has too many beliefs.
        ImpossibleError: every policy risks a forbidden reward.
    """
    _require_average(rule)
    if is_continuous(world):
        return solve_gaussian(world, rule, temperature, horizon)
    with torch.no_grad():
        engine = table_beliefs(world)
        tables, T = engine.model, _cut(engine.model, horizon)
        alpha = as_temperature(temperature, tables)
        if alpha.dim() != 0:
            raise fault("temperature", f"{alpha.tolist()}", "a single number")
        full = solve_seen(tables, rule, temperature=alpha)
        root, layers = grow(engine, T, max_beliefs)
        tail, bound = (tables.terminal, 0.0) if tables.horizon else tail_of(engine, layers[-1], full, T)
        op = BeliefOperator(engine, rule, alpha, root, tuple(layers), tail)
        values = tuple(backups(op, tail, T))[::-1]
        bound += 0.0 if tables.horizon else drift(full, values)
        messages = BeliefMessages(op, (*values, tail), full, bound)
        if bool(messages.value == -torch.inf):
            raise op.impossible(values)
        return messages


def _require_average(rule: Rule) -> None:
    if not isinstance(rule, Rule) or not rule.averages:
        expected = "VARIATIONAL or HARD: a policy over beliefs needs a rule that averages over outcomes"
        raise fault("rule", f"{rule}", expected)


def _cut(tables: Tables, horizon: int | None) -> int:
    if tables.horizon is not None:
        if horizon is not None:
            raise fault("horizon", f"{horizon} beside the world's own T = {tables.horizon}", "none where it has one")
        return tables.horizon
    if not isinstance(horizon, int) or isinstance(horizon, bool) or horizon < 1:
        expected = "cai.partial.solve(world, horizon=T): where to cut the infinite horizon"
        raise fault("horizon", f"{horizon!r} for an infinite horizon", expected)
    return horizon
