"""The guide that may change everything: start, actions, dynamics and survival. Its optimum is the posterior.

A policy's guide has the true dynamics, so its ELBO stays below log Z where outcomes are random. This guide may change
the dynamics: its ELBO reaches log Z, and its dynamics become p(outcome|s, a, O). No agent can choose outcomes, which is
why a policy's guide must keep the true dynamics.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from cai.compile.table_model import Tables
from cai.compile.tabulate import tabulate
from cai.errors import Finding, IntractableError, fault
from cai.exact.rules import POSTERIOR
from cai.exact.solve import solve
from cai.policies.heads import categorical
from cai.world.definition import Point, World
from cai.world.distributions import exact
from cai.world.enumerate import base
from cai.world.spaces import Space
from cai.world.spec import read


class FullGuide(nn.Module):
    """A guide with learnable start, policy and dynamics: each is the world's p(x|…) times exp(logit), normalised.

    ``trajectory(world, guide)`` is the guide's program, and ``tabulate(guide)`` its tables. ``KL(guide ‖ p(τ|O)) = log
    Z - ELBO(guide)`` can reach 0, because the guide may change the dynamics.

    Args:
        world: with finite variables and a finite horizon.
        max_entries: the most parameters.

    Raises:
        WorldError: the horizon is infinite.
        IntractableError: a variable is not finite, or the tables would be too large.
        ImpossibleError: the evidence is zero.
    """

    def __init__(self, world: Any, *, max_entries: int = 20_000_000) -> None:
        super().__init__()
        if isinstance(world, Tables):
            raise fault("full guide, world", f"{world}", "a world, whose program can be changed, not its tables")
        spec = read(world)
        if spec.horizon is None:
            raise fault("horizon", "None", "a finite horizon: the full guide has a table for every time")
        self._world = (world,)  # in a tuple, so that the parameters of a world that is a module are not registered here
        self.horizon, self.discount, self.terminal = spec.horizon, spec.discount, spec.terminal or _nothing
        self.states, self.actions = spec.states, spec.actions
        S, A, T = spec.states.size, spec.actions.size, spec.horizon
        sizes = {"initial": _chain(spec.states), "act": _chain(spec.actions), "step": _prefix_shapes(spec.latents)}
        lead = {"initial": (), "act": (T, S), "step": (T, S, A)}
        entries = sum(math.prod((*lead[piece], *size)) for piece in sizes for size in sizes[piece].values())
        if entries > max_entries:
            raise IntractableError([Finding("full guide", f"{entries:,} parameters", f"at most {max_entries:,}")])
        self.tables = nn.ModuleDict(
            {piece: _tables({name: (*lead[piece], *size) for name, size in sizes[piece].items()}) for piece in sizes}
        )
        self.survival = nn.Parameter(torch.zeros(T, S, dtype=torch.float64)) if self.discount < 1 else None
        self._mask_impossible(spec.latents)

    @torch.no_grad()
    def _mask_impossible(self, latents: Mapping[str, int]) -> None:
        """Start without what can only end in a reward of -inf: the posterior never goes there, and the ELBO is -inf."""
        tables = tabulate(self.world)
        if bool((tables.reward > -torch.inf).all() and (tables.terminal > -torch.inf).all()):
            return
        post = solve(tables, POSTERIOR)  # an impossible value is impossible at every temperature
        _forbid(self.tables["initial"], post.log_initial() > -torch.inf, (), self.states.sizes)
        for t in range(self.horizon):
            tilted = post.tilt(t)
            _forbid(self.tables["act"], tilted.log_policy > -torch.inf, (t,), self.actions.sizes)
            _forbid(self.tables["step"], tilted.log_outcome > -torch.inf, (t,), tuple(latents.values()))
            if self.survival is not None:
                self.survival.data[t, post.v[t + 1] == -torch.inf] = -torch.inf

    @property
    def world(self) -> World:
        """The world whose distributions the guide changes."""
        world: World = self._world[0]
        return world

    def initial(self) -> Any:
        """Sample s_0 from the guide's start distribution."""
        with _TiltedSites(self.tables["initial"], ()):
            return self.world.initial()

    def act(self, state: Any, t: int) -> Any:
        """Sample a_t from the guide's policy."""
        with _TiltedSites(self.tables["act"], (torch.tensor(t), self._number(self.states, state))):
            return self.world.act(state, t)

    def step(self, state: Any, action: Any, t: int) -> tuple[Any, Tensor]:
        """Sample the slice's latents and s_{t+1} from the guide's dynamics."""
        here = (torch.tensor(t), self._number(self.states, state), self._number(self.actions, action))
        with _TiltedSites(self.tables["step"], here):
            return self.world.step(state, action, t)

    def survive(self, state: Any, t: int) -> Tensor:
        """Return the guide's probability of surviving step t on entering ``state``."""
        if self.survival is None:
            return torch.ones(())
        gamma = torch.tensor(self.discount, dtype=torch.float64)
        return torch.sigmoid(gamma.logit() + self.survival[t, self._number(self.states, state)])

    @staticmethod
    def _number(space: Space, values: Any) -> Tensor:
        return space.join(space.unpack(values))


class _TiltedSites(Messenger):
    """Tilts every site of a piece by its table, at the index of what came before; a ``Point`` stays what it is."""

    def __init__(self, tables: Any, index: tuple[Tensor, ...]) -> None:
        super().__init__()
        self.tables, self.index, self.tilted = tables, index, False

    def _pyro_sample(self, msg: Any) -> None:
        self.tilted = not isinstance(base(msg["fn"]), Point)
        if self.tilted:
            table = self.tables[f"of {msg['name']}"]
            msg["fn"] = categorical(exact(msg["fn"]), table[self.index] if self.index else table)

    def _pyro_post_sample(self, msg: Any) -> None:
        if self.tilted:
            self.index = (*self.index, msg["value"].long())


def _forbid(tables: Any, possible: Tensor, at: tuple[int, ...], sizes: tuple[int, ...]) -> None:
    """Set the logits of impossible values to -inf, each variable given those before it; ``possible [*, joint]``."""
    lead = possible.shape[:-1]
    possible = possible.reshape(*lead, *sizes)
    for n, table in enumerate(tables.values()):
        some = possible
        for _ in range(len(sizes) - n - 1):
            some = some.any(-1)
        some = some | ~some.any(-1, keepdim=True)  # if nothing is possible, the value is not used
        table.data[at] = torch.where(some, table.data[at], -torch.inf)


def _tables(shapes: Mapping[str, tuple[int, ...]]) -> nn.ParameterDict:
    zeros = {f"of {name}": nn.Parameter(torch.zeros(shape, dtype=torch.float64)) for name, shape in shapes.items()}
    return nn.ParameterDict(zeros)


def _chain(space: Space) -> dict[str, tuple[int, ...]]:
    return _prefix_shapes(space.named_sizes)


def _prefix_shapes(sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """Give each variable the sizes of those before it and its own: its table under the chain rule."""
    before: tuple[int, ...] = ()
    shapes = {}
    for name, size in sizes.items():
        before = (*before, size)
        shapes[name] = before
    return shapes


def _nothing(state: Any) -> Tensor:
    return torch.zeros(())
