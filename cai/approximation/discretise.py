"""A continuous world as tables on a grid: the Markov chain approximation (Kushner & Dupuis 2001).

From every point of the grid, under every node of the action prior and of the noise, the next state falls into a cell.
The corners of the cell are outcomes, and their probabilities are the weights of multilinear interpolation.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cai.approximation.lattice import Lattice
from cai.approximation.quadrature import SiteNodes, at_nodes, joint_size, rules_of
from cai.compile.noise_program import NoiseProgram
from cai.compile.table_model import Slice, Tables
from cai.support.memory import require_room
from cai.support.progress import bar
from cai.world.coordinates import Coordinates
from cai.world.enumerate import pair_of
from cai.world.spaces import Space, Values

BLOCK = 1 << 20
"""Outcomes that are computed at once."""
STARTS = 1 << 12
"""The most nodes of the start distribution."""
OUTCOME = 44
"""Bytes for each outcome: its probability, successor and reward, and what the kernels lay out anew."""
FEWER = "fewer points, actions or nodes"


@dataclass(frozen=True, eq=False)
class Nodes:
    """The quadrature rules of the sites of each piece of a world."""

    start: tuple[SiteNodes, ...]
    act: tuple[SiteNodes, ...]
    step: tuple[SiteNodes, ...]


@dataclass(frozen=True, eq=False)
class Rows:
    """A slice at some states s ``[B, d]``, the grid or not, onto the points of the grid.

    Attributes:
        slice: prior and outcomes; their successors are points of the grid.
        outside: the probability that s' leaves the box, ``[B, A]``.
    """

    slice: Slice
    outside: Tensor


def nodes_of(program: NoiseProgram, actions: int, nodes: int) -> Nodes:
    """Return the quadrature of a program: so many nodes for each coordinate of an action, and of noise."""
    world, t = program.spec.world, program.first
    k = program.start_noise
    start: tuple[SiteNodes, ...] = ()
    if program.begins is None:
        start, state = rules_of("initial", max(2, math.floor(STARTS ** (1 / max(k, 2)))), world.initial)
    else:
        state = program.state(program.begins)
    act, action = rules_of(f"act, t = {t}", actions, world.act, state, t)
    step, _ = rules_of(f"step, t = {t}", nodes, world.step, state, action, t)
    return Nodes(start, act, step)


def rows(program: NoiseProgram, nodes: Nodes, lattice: Lattice, t: int, s: Tensor) -> Rows:
    """Return the slice of time t, counted from the program's first, at states ``[B, d]``."""
    B, A, N = len(s), joint_size(nodes.act), joint_size(nodes.step)
    world, time = program.spec.world, program.first + t
    at = program.state(s.unsqueeze(-2).expand(B, A, -1))
    action, log_prior = at_nodes(f"act, t = {time}", nodes.act, (B,), world.act, at, time)
    a = joined(program.actions, action, (B, A))
    here = program.state(s[:, None, None].expand(B, A, N, -1))
    does = program.action(a.unsqueeze(-2).expand(B, A, N, -1))
    given, log_w = at_nodes(f"step, t = {time}", nodes.step, (B, A), world.step, here, does, time)
    following, r = pair_of(given, f"step, t = {time}")
    number, weight, outside = lattice.corners(joined(program.states, following, (B, A, N)))
    reward = torch.as_tensor(r).double().expand(B, A, N).unsqueeze(-1).expand(number.shape)
    log_prob = log_w.unsqueeze(-1) + weight.log()
    slice_ = Slice(log_prior, log_prob.flatten(-2), number.flatten(-2), reward.flatten(-2))
    return Rows(slice_, torch.where(outside, log_w.exp(), 0.0).sum(-1))


def joined(space: Coordinates, values: Values, batch: tuple[int, ...]) -> Tensor:
    """Return what a program returned as vectors, ``[*batch, n]``."""
    x = space.join({name: value.double() for name, value in space.unpack(values).items()})
    return x.expand(*batch, x.shape[-1])


def discretise(
    program: NoiseProgram, lattice: Lattice, nodes: Nodes, horizon: int | None, progress: bool
) -> tuple[Tables, float]:
    """Return a world as tables on a grid, and how likely the prior leaves the box in a step, meant over its points.

    Raises:
        IntractableError: the tables need more memory than there is.
    """
    S, A, K = lattice.size, joint_size(nodes.act), joint_size(nodes.step) << len(lattice.points)
    timed = program.spec.timed and horizon is not None
    times = range(program.horizon) if timed else range(1)
    size = f"{len(times):,} slices of S·A·K = {S:,} · {A:,} · {K:,} outcomes"
    require_room("grid", size, len(times) * S * A * K * OUTCOME + ((horizon or 0) + 1) * S * 8, FEWER)
    states = lattice.states(0, S)
    ended = program.ended(states)
    slices, left = [], 0.0
    block = max(1, BLOCK // (A * K))
    with bar("grid", len(times) * S, shown=progress) as tell:
        for t in times:
            parts = []
            for low in range(0, S, block):
                part = rows(program, nodes, lattice, t, states[low : low + block])
                left += float((part.slice.log_prior.exp() * part.outside).sum()) / (S * len(times))
                parts.append(part.slice)
                tell(t * S + min(low + block, S), "points")
            slices.append(_absorbing(_together(torch.cat, parts), ended))
    one = _together(torch.stack, slices) if timed else slices[0]
    spaces = _space(lattice.labels, lattice.points), _actions(program, nodes.act)
    fields = (one.log_prior, one.log_prob, one.successor, one.reward, program.terminal(states))
    start = _start(program, nodes.start, lattice)
    return Tables(start, *fields, horizon, program.discount, timed, *spaces, ended=ended), left


def _together(join: Callable[[list[Tensor]], Tensor], parts: list[Slice]) -> Slice:
    names = ("log_prior", "log_prob", "successor", "reward")
    return Slice(*(join([getattr(part, name) for part in parts]) for name in names))


def _absorbing(slice_: Slice, ended: Tensor | None) -> Slice:
    """Return the slice with ended states that stay, and pay nothing."""
    if ended is None or not bool(ended.any()):
        return slice_
    here, K = ended[:, None, None], slice_.log_prob.shape[-1]
    stays = torch.full((K,), -torch.inf, dtype=torch.float64)
    stays[0] = 0.0
    own = torch.arange(len(ended))[:, None, None]
    return Slice(
        slice_.log_prior,
        torch.where(here, stays, slice_.log_prob),
        torch.where(here, own, slice_.successor),
        torch.where(here, 0.0, slice_.reward),
    )


def _start(program: NoiseProgram, rules: tuple[SiteNodes, ...], lattice: Lattice) -> Tensor:
    """Return log p(s_0) on the grid, nats, ``[S]``."""
    if program.begins is not None:
        s, log_w = program.begins.unsqueeze(0), torch.zeros(1, dtype=torch.float64)
    else:
        state, log_w = at_nodes("initial", rules, (), program.spec.world.initial)
        s = joined(program.states, state, (joint_size(rules),))
    number, weight, _ = lattice.corners(s)
    p = torch.zeros(lattice.size, dtype=torch.float64)
    return p.index_add(0, number.flatten(), (log_w.exp().unsqueeze(-1) * weight).flatten()).log()


def _space(names: tuple[str, ...], sizes: tuple[int, ...]) -> Space:
    return Space(names, sizes, (torch.long,) * len(names), named=True)


def _actions(program: NoiseProgram, rules: tuple[SiteNodes, ...]) -> Space:
    return _space(program.actions.names, tuple(rule.size for rule in rules))
