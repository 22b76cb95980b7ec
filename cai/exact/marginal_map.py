"""Exact marginal MAP: the best sequence of actions, in the mean over the outcomes that may follow."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cai.compile.table_model import Slice, Tables
from cai.compile.tabulate import tabulate
from cai.errors import Finding, IntractableError, fault
from cai.exact.rules import POSTERIOR
from cai.exact.solve import solve
from cai.exact.tables.backup import Equation
from cai.exact.temperature import as_temperature
from cai.policies.fixed import FixedPolicy
from cai.support.numerics import nats
from cai.world.definition import World

_ENTRIES = 1_000_000  # the numbers that all bounds together may hold; see ``block_bounds``
_TIE = 256  # ulp; what differs by less is a tie, as for the rules


@dataclass(frozen=True, repr=False)
class MarginalMap:
    """The most probable sequence of actions given O=1, everything else summed out.

    Attributes:
        tables: the compiled world.
        temperature: α, reward units.
        actions: the action numbers a_0 … a_{T-1}.
        log_score: log p(a_{0:T-1}, O=1), nats: the maximum of the sum.
        log_evidence: log Z = log p(O=1), nats, which it is at most.
        nodes: how many prefixes the search expanded; T at the least.
    """

    tables: Tables
    temperature: Float[Tensor, ""]
    actions: Int[Tensor, " T"]
    log_score: float
    log_evidence: float
    nodes: int

    def __repr__(self) -> str:
        shown = "; ".join(self.labels[:6]) + ("; …" if len(self.labels) > 6 else "")
        return f"MarginalMap({shown}; log_score={self.log_score:.6g} nats, {self.nodes:,} nodes, on {self.tables})"

    @property
    def labels(self) -> tuple[str, ...]:
        """The actions in words, e.g. ``("move=1", "move=0")``."""
        return tuple(self.tables.actions.label(a) for a in self.actions.tolist())

    @property
    def policy(self) -> FixedPolicy:
        """The policy that carries the sequence out, whatever the state."""
        return open_loop(self.tables, self.actions.tolist())


def marginal_map(world: World | Tables, *, temperature: Any = 1.0, max_nodes: Any = 200_000) -> MarginalMap:
    """Find the action sequence that is most probable given O=1, exactly, by best-first branch and bound.

    ``max over a_{0:T-1} of log Σ p(s_0) Π p(a_t|s_t) p(outcome|s_t, a_t) exp(r_t/α)``, the sum over all states and
    outcomes: an open-loop plan. Trajectories on which the prior forbids one of its actions contribute 0. The bound of a
    prefix of actions lets later actions depend on the state, a maximum inside the sum (Park & Darwiche 2003, Solving
    MAP exactly using systematic search). The worst case is A^T nodes. The answer is exact up to ties: of sequences
    whose scores differ by 256 ulp at most, one is returned.

    Args:
        world: a world with a finite horizon and no discount, or its tables.
        temperature: α > 0, reward units; one number.
        max_nodes: the most prefixes that the search may expand.

    Raises:
        WorldError: the world or an argument is not valid; the horizon is infinite; the discount is below 1, so that
            a trajectory may end early and the actions after its end would have no probability.
        IntractableError: the world cannot be tabulated, or more than ``max_nodes`` nodes would be expanded.
        ImpossibleError: the evidence is zero, so that no sequence is possible.
    """
    if isinstance(max_nodes, bool) or not isinstance(max_nodes, int) or max_nodes < 1:
        raise fault("marginal_map, max_nodes", f"{max_nodes!r}", "a whole number, 1 at least")
    tables = tabulate(world).detach()
    alpha = as_temperature(temperature, tables).detach()
    if alpha.dim() or tables.batch_shape:
        seen = f"a batch of shape {[*tables.batch_shape, *alpha.shape]}"
        raise fault("marginal_map", seen, "one world, one temperature")
    if tables.horizon is None:
        raise fault("marginal_map, horizon", "an infinite horizon", "a finite horizon, for a finite sequence")
    if tables.discount < 1:
        expected = "1: where a trajectory may end early, the actions after its end have no probability"
        raise fault("marginal_map, discount", f"{tables.discount:g}", expected)
    with torch.no_grad():
        log_evidence = float(solve(tables, POSTERIOR, temperature=alpha).log_evidence)
        best, nodes = _search(tables, alpha, max_nodes)
        score = float((best.log_f + nats(tables.terminal, alpha)).logsumexp(-1))
    actions = torch.tensor(best.prefix(), device=alpha.device)
    return MarginalMap(tables, alpha, actions, score, log_evidence, nodes)


def open_loop(tables: Tables, actions: Sequence[int]) -> FixedPolicy:
    """Return the policy that takes a_t at time t whatever the state; after the end of the sequence the prior acts."""
    rows = torch.full((len(actions), tables.actions.size), -torch.inf).to(tables.log_initial)
    rows[range(len(actions)), list(actions)] = 0.0

    return FixedPolicy(partial(_listed, tables, rows), tables.states, tables.actions, tables.horizon)


def _listed(tables: Tables, rows: Tensor, t: int) -> Tensor:
    """Return the row of time t for all states; the prior where the list has ended."""
    S, A = tables.states.size, tables.actions.size
    return rows[t].expand(S, A) if t < len(rows) else tables.at(t).log_prior


def block_bounds(tables: Tables, alpha: Tensor) -> list[Float[Tensor, "S _"]]:
    """Return for every t the bound log û_t(s, a_t … a_{t+m-1}) on the remaining steps, nats, ``[S, A^m]``.

    ``û_t(s, a_t …) = max over a_{t+m} of p(a_t|s) Σ p(outcome|s, a_t) exp(r/α) û_{t+1}(s', a_{t+1} … a_{t+m})``: the
    next m actions are the same in all states, the later ones may depend on the state. With m = 0 this is the sweep of
    PLANNING; m = 1 is the fast informed bound (Hauskrecht 2000) of an unobserved process; m = T is exact.
    """
    assert tables.horizon is not None
    S, A, T = tables.states.size, tables.actions.size, tables.horizon
    # A longer block costs memory and saves nodes: 30 steps of FrozenLake need over 20,000 nodes with m = 0, 94 with 2.
    m = 1
    while m < T and T * S * A ** (m + 1) <= _ENTRIES:
        m += 1
    best = nats(tables.terminal, alpha).unsqueeze(-1)
    bounds = []
    for t in reversed(range(T)):
        slice_ = tables.at(t)
        entries = slice_.log_prior.unsqueeze(-1) + slice_.log_prob + nats(slice_.reward, alpha)
        best = (entries.unsqueeze(-1) + best[slice_.successor]).logsumexp(2).reshape(S, -1)
        if best.shape[-1] > A**m:
            best = best.reshape(S, -1, A).amax(-1)
        bounds.append(best)
    return bounds[::-1]


@dataclass(frozen=True, eq=False)
class _Node:
    """An expanded prefix: its forward message log f_t ``[S]``, nats, and the prefix that its last action prolongs."""

    log_f: Tensor
    before: "_Node | None" = None
    last: int = -1

    def prefix(self) -> list[int]:
        node, actions = self, []
        while node.before is not None:
            actions.append(node.last)
            node = node.before
        return actions[::-1]


def _search(tables: Tables, alpha: Tensor, max_nodes: int) -> tuple[_Node, int]:
    """Expand the prefix of the highest bound, until that is a whole sequence, whose bound is its score."""
    assert tables.horizon is not None
    T, A = tables.horizon, tables.actions.size
    bounds, nobody_dies = block_bounds(tables, alpha), alpha.new_tensor([1.0, 0.0]).log()
    choices = [[_only(slice_, a) for a in range(A)] for slice_ in tables.slices()]
    slack = _TIE * torch.finfo(alpha.dtype).eps
    frontier: list[tuple[float, int, int, int, _Node]] = []
    serial = count()
    node, bound, t, nodes = _Node(tables.log_initial), float("inf"), 0, 0
    while t < T:
        if nodes == max_nodes:
            raise _too_many(tables, nodes, bound, t)
        nodes += 1
        below = (node.log_f.unsqueeze(-1) + bounds[t]).logsumexp(0).reshape(A, -1).amax(-1)
        for a, b in enumerate(below.tolist()):
            if b > -float("inf"):
                # A tie keeps the bound of its prefix: if rounding ordered ties, each of them would be expanded.
                b = bound if bound - b <= slack * max(1.0, abs(b)) else b
                heapq.heappush(frontier, (-b, -t - 1, next(serial), a, node))  # among ties the longest prefix first
        minus_bound, minus_length, _, a, before = heapq.heappop(frontier)
        bound, t = -minus_bound, -minus_length
        only = Equation(POSTERIOR, choices[t - 1 if tables.timed else 0][a], alpha, nobody_dies)
        node = _Node(only.forward_message(before.log_f), before, a)
    return node, nodes


def _only(slice_: Slice, a: int) -> Slice:
    """Return the slice with action ``a`` alone, its prior included."""
    fields = (slice_.log_prior, slice_.log_prob, slice_.successor, slice_.reward)
    return Slice(*(field[:, a : a + 1] for field in fields))


def _too_many(tables: Tables, nodes: int, bound: float, t: int) -> IntractableError:
    sequences = f"{tables.actions.size}^{tables.horizon}"
    seen = f"no answer after {nodes:,} prefixes of {sequences} sequences; the best bound so far is {bound:.10g} nats,"
    expected = "more nodes, a shorter horizon, or PLANNING, which bounds it and reacts to the state"
    finding = Finding(f"marginal_map, max_nodes = {nodes}", f"{seen} of a prefix of {t} actions", expected)
    return IntractableError([finding])
