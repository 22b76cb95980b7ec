"""Any policy on a world of real states: the same accounts, over sampled trajectories in place of Gaussians.

    E f(s_t, a_t) ≈ 1/N Σ_i f(s_t^i, a_t^i),     a^i ~ π_t(·|s^i),     s'^i ~ p(·|s^i, a^i)

With a discount no sampled trajectory ends: all N have the weight γ^t at time t.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from pyro.distributions import Delta, TransformedDistribution
from pyro.poutine import block, trace
from torch import Tensor, nn

from cai.compile.pointwise_function import Pointwise
from cai.compile.quadratic import Gaussian, Quadratic, Stacked, stacked
from cai.errors import fault, user_code
from cai.exact.operator import Drawn
from cai.exact.sampling import Drawing
from cai.policies.protocol import Policy
from cai.support.memory import require_room
from cai.support.process import precision
from cai.world.distributions import exact
from cai.world.enumerate import base

LEFT = 1e-6
"""The share of the visits of an infinite horizon that is left out at the end."""
NEAR = 1e-7
"""How far from a plane a sample may be and count as on it."""
ALL, SEEDS = -1, 1_000_003
PROGRAM = "code that takes a batch of states and samples the world's action sites"


@dataclass(frozen=True)
class Particles(Stacked):
    """A measure by samples: N trajectories of equal weight.

    Attributes:
        values: ``[*, N, n]``; of the infinite horizon all times at once, ``[H, N, n]``.
        weights: of each sample, the probability of being alive over N, ``[*, N]``.
    """

    values: Tensor
    weights: Tensor

    def expect(self, f: Callable[[Tensor], Tensor]) -> Tensor:
        """Return each trajectory's share of ``E f``, ``[*, N]``; -inf off the plane on which f is finite."""
        each = torch.where(self.weights > 0, f(self.values) * self.weights, 0.0)
        if not isinstance(f, Quadratic) or f.rows is None or f.sides is None:
            return each
        apart = (self.values @ f.rows.mT - f.sides).abs()
        return torch.where((apart > NEAR * (1 + f.sides.abs())).any(-1), -torch.inf, each)

    def of(self, coordinates: list[int]) -> Gaussian:
        """Return mass, mean and covariance of some coordinates."""
        x, mass = self.values[..., coordinates], self.weights.sum(-1)
        w = (self.weights / mass.unsqueeze(-1)).unsqueeze(-1)
        mean = (w * x).sum(-2)
        apart = x - mean.unsqueeze(-2)
        return Gaussian(mean, (w * apart).mT @ apart, mass)


@dataclass(frozen=True)
class SampledAct:
    """A policy at one time, at vectors.

    Attributes:
        t: the time.
        draw: from states ``[N, n]``, and a time that seeds the draws, to actions ``[N, m]`` and their log π, nats.
    """

    t: int
    draw: Callable[[Tensor, int], tuple[Tensor, Tensor]]


@dataclass(frozen=True, eq=False)
class SampledOperator:
    """A world of real states, on which a policy is evaluated by sampling; see ``cai.exact.operator.Measured``.

    Attributes:
        exact: the world under the true dynamics.
        samples: N.
        seed: of all draws; the draws of a time are the same whenever they are asked for.
    """

    exact: Drawn
    samples: int
    seed: int
    _joints: dict[int, Particles] = field(default_factory=dict, repr=False)
    _scores: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)

    @property
    def model(self) -> Any:
        """The compiled world."""
        return self.exact.model

    @property
    def alpha(self) -> Tensor:
        """The temperature α, reward units."""
        return self.exact.alpha

    @property
    def entries(self) -> int:
        """Return 1: the policy is a program, so one time of it takes no memory."""
        return 1

    def _seed(self, draw: int) -> int:
        return (self.seed * SEEDS + draw) % 2**63

    def _pick(self, draw: int) -> Drawing:
        return Drawing(torch.Generator(self.alpha.device).manual_seed(self._seed(draw)))

    def act(self, policy: Policy, t: int) -> SampledAct:
        """Return the policy at one time."""
        return SampledAct(t, partial(self._drawn, policy, t))

    def _drawn(self, policy: Policy, t: int, s: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Return actions in states ``[N, n]``, ``[N, m]``, and their log π, nats, ``[N]``.

        Raises:
            WorldError: the program fails, or samples other variables than the world's actions.
        """
        model, where = self.model, f"policy, t = {t}"
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self._seed(2 * step + 2))
            sites = self._sites(policy, t, s)
        if set(sites) != set(model.actions.names):
            raise fault(where, f"sites {sorted(sites)}", f"the world's own action sites {list(model.actions.names)}")
        for name, shape in zip(model.actions.names, model.actions.shapes, strict=True):
            if tuple(sites[name]["value"].shape) != (len(s), *shape):
                seen_shape = f"actions of shape {list(sites[name]['value'].shape)} in {len(s)} states"
                raise fault(f"{where}, variable '{name}'", seen_shape, f"{[len(s), *shape]}: one action a state")
        actions: Tensor = model.actions.join({name: site["value"] for name, site in sites.items()}).detach().to(s)
        if not bool(actions.isfinite().all()):
            raise fault(where, "actions that are not finite", "finite numbers")
        return actions, self._density(t, sites, s.shape[:-1]).detach()

    def _log_density(self, t: int, x: Tensor) -> Tensor:
        """Return log π at the samples of a joint measure, nats, as it was when these were drawn."""
        known = (self._scores[key] for key in (t, ALL) if key in self._scores)
        return next(log_pi for values, log_pi in known if values is x)

    def _density(self, t: int, sites: dict[str, Any], batch: torch.Size) -> Tensor:
        """Return log π of what was drawn, nats, ``[N]``; inf where an action, or the prior, has no density."""
        model, like = self.model, self.alpha
        points = any(_has_points(site["fn"]) for site in sites.values())
        if points or int(model.prior_at(t).rank.min()) < model.actions.dimension:
            return like.new_full(batch, torch.inf)
        total = like.new_zeros(batch)
        for site in sites.values():
            total = total + exact(site["fn"]).log_prob(site["value"]).to(like)
        return total

    def _sites(self, policy: Policy, t: int, s: Tensor) -> dict[str, Any]:
        """Run the program in states ``[N, n]``, in its own dtype; return its sample sites."""
        own = s.to(_dtype(policy, s.dtype))
        state = self.model.states.pack(self.model.states.split(own))
        with precision(own.dtype), user_code(f"policy, t = {t}", PROGRAM), torch.no_grad(), block():
            seen = trace(policy.act).get_trace(state, t)
        return {name: site for name, site in seen.nodes.items() if site["type"] == "sample"}

    def score(self, t: int, act: Any) -> Any:
        """Return log π_t(a|s), nats; inf where the policy has no density."""
        return Pointwise(partial(self._log_density, t)) if isinstance(act, SampledAct) else self.exact.score(t, act)

    def log_prior(self, t: int) -> Any:
        """Return log p(a|s), nats."""
        return self.exact.log_prior(t)

    def expected_reward(self, t: int) -> Any:
        """Return E[r|s, a], reward units."""
        return self.exact.expected_reward(t)

    def terminal(self) -> Any:
        """Return v_T, reward units."""
        return self.exact.terminal()

    def _start(self) -> Particles:
        values = self.exact.draw_start(self.samples, self._pick(1))
        return Particles(values, values.new_full((self.samples,), 1 / self.samples))

    def states_under(self, acts: Callable[[int], SampledAct]) -> Particles:
        """Return p(s_t, alive) of every time; of the infinite horizon all times at once, until few are alive.

        Raises:
            IntractableError: they need more memory than there is.
        """
        T, n = self.model.horizon, self.model.states.dimension
        steps = T if T is not None else math.ceil(math.log(LEFT) / math.log(self.model.discount))
        size = f"N = {self.samples:,} trajectories of {steps:,} times"
        require_room("evaluate", size, 8 * self.samples * steps * (2 * n + self.model.actions.dimension + 6))
        mu = [self._start()]
        for t in range(steps):
            act = acts(t if T is not None else 0)
            mu.append(self._push(t, self._joint(t, mu[-1], act)))
        return stacked(mu if T is not None else [stacked(mu[:-1])])

    def joint(self, mu: Particles, act: SampledAct) -> Particles:
        """Return p(s_t, a_t, alive)."""
        if mu.values.dim() == 2:
            return self._joint(act.t, mu, act)
        if ALL not in self._joints:
            times = range(len(mu.values))
            self._joints[ALL] = stacked([self._joint(t, mu[t], act) for t in times])
            self._scores[ALL] = self._joints[ALL].values, torch.stack([self._scores[t][1] for t in times])
        return self._joints[ALL]

    def _joint(self, t: int, mu: Particles, act: SampledAct) -> Particles:
        """Return states with actions; the draws of a time are kept."""
        if t not in self._joints:
            actions, log_pi = act.draw(mu.values, t)
            self._joints[t] = Particles(torch.cat((mu.values, actions), -1), mu.weights)
            self._scores[t] = self._joints[t].values, log_pi
        return self._joints[t]

    def _push(self, t: int, joint: Particles) -> Particles:
        """Return p(s_{t+1}, alive), by draws from the true dynamics."""
        n = self.model.states.dimension
        s, a = joint.values[:, :n], joint.values[:, n:]
        following = self.exact.draw(t, s, a, self._pick(2 * t + 3))
        return Particles(following, joint.weights * self.model.discount)

    def expect(self, joint: Particles, f: Callable[[Tensor], Tensor]) -> Tensor:
        """Return each trajectory's share of E[f, alive], ``[N]``."""
        each = joint.expect(f)
        return each.sum(0) if each.dim() > 1 else each

    expect_state = expect

    def in_play(self, joint: Particles) -> Particles:
        """Return the measure itself: no episode ends before its time."""
        return joint

    def state_marginal(self, t: int, mu: Particles, names: list[str]) -> Gaussian:
        """Return the moments of some state variables."""
        return mu.of(self.model.states.where(names))

    def by_place(self, account: Tensor) -> Tensor:
        """Return an account of every time, ``[T]``: the sum over the trajectories."""
        return account.sum(-1)

    def total(self, expected: Tensor) -> Tensor:
        """Return an expectation by trajectory, ``[N]``."""
        return expected

    def standard_error(self, total: Tensor) -> float:
        """Return the standard error of the sum over N independent shares; 0 where it is infinite."""
        spread = float(total.std()) * len(total) ** 0.5
        return spread if math.isfinite(spread) else 0.0


def _has_points(fn: Any) -> bool:
    """Return whether a distribution has values of a probability above 0: points, counts, noise of scale 0."""
    inner = base(fn)
    while isinstance(inner, TransformedDistribution):
        inner = base(inner.base_dist)
    scale = getattr(inner, "scale", None)
    certain = isinstance(scale, Tensor) and bool((scale == 0).any())
    return certain or isinstance(inner, Delta) or bool(fn.support.is_discrete)


def _dtype(policy: Any, dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of a module's parameters; that of the world where there are none."""
    own = next(iter(policy.parameters()), None) if isinstance(policy, nn.Module) else None
    return dtype if own is None else own.dtype
