"""solve: the exact finite-horizon recursion over the beliefs that can be reached.

    q_t(b,a) = Σ_s b(s) r(s,a) + γ Σ_o p(o|b,a) v_{t+1}(b_ao)
    v_t(b)   = mean over actions of q_t(b,a)          with weights p(a|b)

A rule that holds the dynamics fixed takes it (VARIATIONAL, HARD): its policy may use what was seen, never the state.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.table_model import Tables
from cai.errors import ImpossibleError, fault
from cai.exact.messages import Messages
from cai.exact.rules import VARIATIONAL, Rule
from cai.exact.solve import solve as solve_seen
from cai.exact.tables.averaged import Averaged, average
from cai.exact.temperature import as_temperature
from cai.partial.belief_bounds import drift, tail_of
from cai.partial.belief_tree import Edges, Layer, grow
from cai.partial.filtering import Record, TableBeliefs, numbers, table_beliefs, unseen
from cai.support.numerics import nats
from cai.world.definition import World


@dataclass(frozen=True, repr=False)
class BeliefMessages:
    """The messages of one rule over beliefs.

    Attributes:
        engine: the compiled world, and what is seen of it.
        rule: VARIATIONAL or HARD.
        temperature: α, reward units.
        horizon: T, or the time at which an infinite horizon was cut.
        root: what may be seen at first.
        layers: the beliefs of each time 0 … T-1.
        tail: what is paid at T, reward units, ``[S]``: the terminal reward, or for an infinite horizon the middle of
            what may follow.
        full: the messages of the same rule where the state is seen.
        action_values: q of each time, reward units, ``[N_t, A]``.
        values: v of each time, reward units, ``[N_t]``.
        error_bound: a proved bound on the error of ``value``, reward units; 0 for a finite horizon (rounding apart).
    """

    engine: TableBeliefs
    rule: Rule
    temperature: Float[Tensor, ""]
    horizon: int
    root: Edges
    layers: tuple[Layer, ...]
    tail: Float[Tensor, " S"]
    full: Messages
    action_values: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    error_bound: float

    def __repr__(self) -> str:
        seen = f"{self.engine.seen.space.size:,} observations, {self.n_beliefs:,} beliefs"
        bound = f" ± {self.error_bound:.2g}" if self.error_bound else ""
        about = f"{self.rule} at temperature {float(self.temperature):g} on {self.engine.model}"
        return f"BeliefMessages({about}, {seen}, value {float(self.value):.6g}{bound})"

    @property
    def n_beliefs(self) -> int:
        """How many beliefs are stored, all times together."""
        return sum(len(layer.beliefs) for layer in self.layers)

    @property
    def value(self) -> Float[Tensor, ""]:
        """The start value, reward units: ``Σ p(o_0) v_0(b_{o_0})``; for an infinite horizon to ``error_bound``."""
        return self._start_value(self.values[0])

    @property
    def elbo(self) -> Float[Tensor, ""]:
        """The best ELBO over policies that use only what was seen, nats: ``value / α``; VARIATIONAL only."""
        if self.rule != VARIATIONAL:
            raise AttributeError(
                f"elbo belongs to VARIATIONAL; these messages are {self.rule}: ask .value (reward units)"
            )
        return nats(self.value, self.temperature)

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
        over, alpha = self.rule.over_actions, self.temperature.reshape(1)

        def evaluated(t: int, layer: Layer, q: Tensor) -> Tensor:
            guess = _expected(layer.beliefs, self.full.q(t))
            log_pi = over.log_weights(guess, layer.log_prior, alpha, over.value(guess, layer.log_prior, alpha))
            plays = log_pi > -torch.inf
            price = torch.where(plays, alpha * (log_pi - layer.log_prior), 0.0) if self.rule == VARIATIONAL else 0.0
            return torch.where(plays, log_pi.exp() * (q - price), 0.0).sum(-1)

        with torch.no_grad():
            return self._start_value(_backward(self.engine.model, self.layers, self.tail, evaluated)[1][0])

    def beliefs(self, t: int) -> Float[Tensor, "N S"]:
        """Return the beliefs that can be held at time t, after o_t, ``[N_t, S]``."""
        return self.layers[self._time(t)].beliefs

    def v(self, t: int) -> Float[Tensor, " N"]:
        """Return the value of each belief of time t, reward units, ``[N_t]``."""
        return self.values[self._time(t)]

    def q(self, t: int) -> Float[Tensor, "N A"]:
        """Return the action values of each belief of time t, reward units, ``[N_t, A]``; -inf where forbidden."""
        return self.action_values[self._time(t)]

    def policy(self, t: int) -> Float[Tensor, "N A"]:
        """Return π_t(a|b) of each belief of time t, ``[N_t, A]``: ``p(a|b) exp((q - v)/α)``, or the maximisers."""
        layer, alpha = self.layers[self._time(t)], self.temperature.reshape(1)
        return self.rule.over_actions.log_weights(self.q(t), layer.log_prior, alpha, self.v(t)).exp()

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
            edges, source = (self.layers[t - 1].edges, n * A + done[t - 1]) if t else (self.root, 0)
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

    def _start_value(self, v_0: Tensor) -> Tensor:
        return (self.root.prob * v_0[self.root.child]).sum()

    def _time(self, t: int) -> int:
        if not 0 <= t < self.horizon:
            raise fault("t", f"{t}", f"a time from 0 to {self.horizon - 1}")
        return t


def solve(
    world: World,
    rule: Rule = VARIATIONAL,
    *,
    temperature: float | Tensor = 1.0,
    horizon: int | None = None,
    max_beliefs: int = 1_000_000,
) -> BeliefMessages:
    """Solve a partially observed world exactly: the best policy over histories of observations and actions.

    ``v_t(b) = α log Σ_a p(a|b) exp(q_t(b,a)/α)`` under VARIATIONAL, whose start value over α is the best ELBO of a
    policy that sees only ``observe``; ``max_a q_t(b,a)`` under HARD (Åström 1965; Kaelbling, Littman & Cassandra
    1998). The beliefs of each time are grown from the start, equal ones merged (``cai.partial.belief_tree`` says when).

    An infinite horizon is cut at ``horizon`` = T. What follows a belief at T is worth at most ``hi``, the best that the
    fully observed world offers in the states possible then, and at least ``lo``, the least that the action prior earns
    there, which is a policy over beliefs and pays no KL. The middle is paid at T, so that ``value`` is within
    ``γ^T (hi - lo)/2`` of the truth, and what rounding and merging move it by; a constant changes no policy.

    Args:
        world: a world with ``observe``.
        rule: VARIATIONAL or HARD.
        temperature: α > 0, reward units.
        horizon: where to cut an infinite horizon; not given for a finite one.
        max_beliefs: refuse to store more.

    Raises:
        WorldError: the world or an argument does not conform, the rule bends the dynamics, or the action prior is no
            function of what is seen.
        IntractableError: the world cannot be tabulated, or has too many beliefs.
        ImpossibleError: every policy risks a forbidden reward.
    """
    _require_held(rule)
    with torch.no_grad():
        engine = table_beliefs(world)
        tables, T = engine.model, _cut(engine.model, horizon)
        alpha = as_temperature(temperature, tables)
        if alpha.dim() != 0:
            raise fault("temperature", f"{alpha.tolist()}", "a single number")
        full = solve_seen(tables, rule, temperature=alpha)
        root, layers = grow(engine, T, max_beliefs)
        tail, bound = (tables.terminal, 0.0) if tables.horizon else tail_of(engine, layers[-1], full, T)

        def best(t: int, layer: Layer, q: Tensor) -> Tensor:
            return rule.over_actions.value(q, layer.log_prior, alpha.reshape(1))

        q, v = _backward(tables, tuple(layers), tail, best)
        bound += 0.0 if tables.horizon else drift(full, v)
        messages = BeliefMessages(engine, rule, alpha, T, root, tuple(layers), tail, full, tuple(q), tuple(v), bound)
        if bool(messages.value == -torch.inf):
            raise _forbidden(messages)
        return messages


def _require_held(rule: Rule) -> None:
    if not isinstance(rule, Rule) or not rule.averages:
        expected = "VARIATIONAL or HARD: only the rules that hold the dynamics fixed have a policy over beliefs"
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


def _backward(
    tables: Tables, layers: tuple[Layer, ...], tail: Tensor, mean: Callable[[int, Layer, Tensor], Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """Return q ``[N_t, A]`` and v ``[N_t]`` of every time, where ``mean(t, layer, q)`` is v."""
    q_s: list[Tensor] = []
    v_s: list[Tensor] = []
    dynamics = average(tables.at(0), tables.discount)
    for t in range(len(layers) - 1, -1, -1):
        dynamics = average(tables.at(t), tables.discount) if tables.timed else dynamics
        q = _action_values(layers[t], dynamics, tail, v_s[-1] if v_s else None, tables.discount)
        q_s.append(q)
        v_s.append(mean(t, layers[t], q))
    return q_s[::-1], v_s[::-1]


def _action_values(layer: Layer, dynamics: Averaged, tail: Tensor, v_next: Tensor | None, discount: float) -> Tensor:
    if v_next is None or layer.edges is None:
        q = _expected(layer.beliefs, dynamics.q(tail))
    else:
        edges = layer.edges
        following = torch.zeros(layer.log_prior.numel(), dtype=v_next.dtype)
        following = following.index_add(0, edges.source, edges.prob * v_next[edges.child])
        q = _expected(layer.beliefs, dynamics.reward) + discount * following.view(layer.log_prior.shape)
    return torch.where(layer.log_prior > -torch.inf, q, -torch.inf)


def _expected(beliefs: Float[Tensor, "N S"], x: Float[Tensor, "S A"]) -> Float[Tensor, "N A"]:
    """Return ``Σ_s b(s) x(s,a)``; -inf where a possible state has it, and nothing of a state that is not possible."""
    barred = x == -torch.inf
    total = beliefs @ torch.where(barred, 0.0, x)
    if not bool(barred.any()):
        return total
    risked = (beliefs > 0).to(x.dtype) @ barred.to(x.dtype) > 0
    return torch.where(risked, -torch.inf, total)


def _forbidden(messages: BeliefMessages) -> ImpossibleError:
    """Walk down the tree, from -inf to -inf, to a belief in which every action risks a forbidden reward at once."""
    doomed, tables = messages.values[0][messages.root.child] == -torch.inf, messages.engine.model
    n, t, A = int(messages.root.child[doomed][0]), 0, tables.actions.size
    while (edges := messages.layers[t].edges) is not None:
        layer = messages.layers[t]
        now = _expected(layer.beliefs[n : n + 1], average(tables.at(t), tables.discount).reward)[0]
        ahead = (edges.source // A == n) & (messages.values[t + 1][edges.child] == -torch.inf)
        if bool(((now == -torch.inf) | (layer.log_prior[n] == -torch.inf)).all()) or not bool(ahead.any()):
            break
        n, t = int(edges.child[ahead][0]), t + 1
    states = messages.layers[t].beliefs[n].nonzero().flatten()
    named = "; ".join(tables.states.label(int(s)) for s in states[:3]) + ("; …" if len(states) > 3 else "")
    lead = f"under {messages.rule} the start value is -inf: every policy over what is seen risks a forbidden reward"
    return ImpossibleError(f"{lead}, at t = {t} where the states {named} are possible")
