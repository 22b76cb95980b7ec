"""Sequential Monte Carlo with optimality as the likelihood: an estimate of Z without bias, and smoothed trajectories.

    ω_t ~ q_t(ω|s_t),   s_{t+1}, r_t = step(s_t, ω_t),
    weight_t = p(O_t = 1|…) N(ω_t; 0, I) / q_t(ω_t|s_t) · ψ_{t+1}(s_{t+1}) / ψ_t(s_t)

The bootstrap has q = N(0, I) and ψ = 1 (Gordon, Salmond & Smith 1993); see ``twist`` for others.
"""

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from cai.approximation.approximation import Approximation
from cai.approximation.backward_simulation import require_densities, simulated
from cai.approximation.estimate import Estimate
from cai.approximation.open_loop_plan import Plan, open_loop_law
from cai.approximation.particle_cloud import Cloud
from cai.approximation.rollouts import advance, effective_sample_size, require_states, require_within, terminal
from cai.approximation.trajectories import Trajectories, together
from cai.approximation.twist import Twist, gaussian_twist, log_density, untwisted
from cai.compile.noise_program import NoiseProgram, noise_program
from cai.errors import Finding, ImpossibleError, IntractableError, fault
from cai.learn.loop import require_number, require_whole
from cai.policies.noise_policy import NoisePolicy
from cai.support.progress import bar
from cai.world.noise import log_normal

TWISTS = {"none": untwisted, "iterated_gaussian": gaussian_twist}
"""Where each twist comes from: a world, its temperature and a generator."""
MANY = 10
"""Runs from which on their spread alone is the standard error: that of ten is itself known to a quarter."""


@dataclass(frozen=True)
class Smoothed:
    """One run: log Ẑ in nats, the last particles, and the effective sample size at each time, ``[T]``."""

    log_evidence: float
    last: Cloud
    sample_sizes: Tensor

    @property
    def forebears(self) -> Tensor:
        """The particle of time 0 that each descends from, ``[N]``."""
        return self.last.lines[0]

    @property
    def relative_variance(self) -> float:
        """Var Ẑ / Z², from the weights of the particles by their forebears at time 0 (Lee & Whiteley 2018)."""
        families = torch.zeros_like(self.last.log_weights).index_add(0, self.forebears, self.last.log_weights.exp())
        return max(float(families.square().sum()) - 1 / len(families), 0.0)


@dataclass(frozen=True)
class Particles:
    """Particle smoothing: sequential Monte Carlo for POSTERIOR, the noise of the dynamics inferred too.

    Trajectories are traced back through the ancestors, so that early states come from few particles, or drawn by
    backward simulation. The policy is an open-loop Gaussian with the moments of the smoothed action noise.

    Attributes:
        samples: N particles a run.
        runs: independent runs; their spread gives the standard error. Of fewer than ten it is at least what the
            particles' forebears at time 0 say of each run, which is reliable only while there are many.
        twist: none (the bootstrap), or iterated_gaussian: the messages of the world expanded about that method's law.
        backward: draw the trajectories by backward simulation, in N² time; it needs a density of the next state.
        resample_below: resample where the effective sample size falls below this share of N.
        least_deviation: of the policy's noise, in units of the prior's.
        horizon: how many steps to look ahead; the world's own horizon unless given.
    """

    name: ClassVar[str] = "particles"
    samples: int = 1000
    runs: int = 10
    twist: str = "none"
    backward: bool = False
    resample_below: float = 0.5
    least_deviation: float = 0.05
    horizon: int | None = None

    def run(
        self, world: Any, temperature: float, generator: torch.Generator, guess: Any = None, *, progress: bool = False
    ) -> Approximation:
        """Run the particles forward, so many times; see ``Method.run``. A guess is not used.

        Raises:
            WorldError: an option is not valid.
            IntractableError: a twist with a discount below 1, or one that the world has no form for; or backward
                simulation, and the next state has no density.
            ImpossibleError: all particles of a run are impossible; it names the time.
        """
        self._check()
        program = noise_program(world, self.horizon)
        self._require_suited(program)
        twist = TWISTS[self.twist](program, temperature, generator)
        found, drawn = list[Smoothed](), []
        with bar(self.name, self.runs, shown=progress) as tell:
            for i in range(self.runs):
                found.append(forward(program, twist, temperature, self.samples, self.resample_below, generator))
                drawn.append(self._smoothed(program, twist, temperature, found[-1].last, generator))
                tell(i + 1, "")
        return self._answer(program, temperature, found, drawn)

    def _smoothed(
        self, program: NoiseProgram, twist: Twist, alpha: float, last: Cloud, generator: torch.Generator
    ) -> tuple[Trajectories, Tensor]:
        """Return trajectories and their action noise."""
        if self.backward:
            return simulated(program, twist, alpha, last, generator)
        return last.paths(), last.along(last.noise)[..., : program.act_noise]

    def _answer(
        self,
        program: NoiseProgram,
        temperature: float,
        found: list[Smoothed],
        drawn: list[tuple[Trajectories, Tensor]],
    ) -> Approximation:
        log_z = torch.tensor([one.log_evidence for one in found], dtype=torch.float64)
        share = torch.softmax(log_z, 0).log()
        paths = together([each for each, _ in drawn], share)
        sizes = torch.stack([one.sample_sizes for one in found]).mean(0)
        plan = _plan(paths.log_weights.exp(), torch.cat([w for _, w in drawn]), self.least_deviation)
        return Approximation(
            self.name,
            temperature,
            NoisePolicy(program, partial(open_loop_law, plan, program.states.dimension)),
            log_evidence=_estimate(log_z, found),
            trajectories=paths,
            effective_sample_size=sizes,
            history=tuple(log_z.tolist()),
            notes=_notes(sizes, found, program.first, self.backward),
        )

    def _require_suited(self, program: NoiseProgram) -> None:
        if self.backward:
            require_densities(program)
        if (
            self.twist != "none" and program.discount < 1
        ):  # the trajectories that die have weights with heavy tails under such a proposal
            seen = f"{self.twist} with γ = {program.discount:g}: to survive or to end is a mixture, not a Gaussian"
            raise IntractableError([Finding("particles, twist", seen, "none, or a discount of 1")])

    def _check(self) -> None:
        require_whole("particles, samples", self.samples, 2)
        require_whole("particles, runs", self.runs, 1)
        if self.twist not in tuple(TWISTS):
            raise fault("particles, twist", f"{self.twist!r}", f"one of {', '.join(TWISTS)}")
        below, least = self.resample_below, self.least_deviation
        require_number("particles, resample_below", below, lambda x: 0 <= x <= 1, "a share of the particles, 0 to 1")
        require_number("particles, least_deviation", least, lambda x: 0 < x <= 1, "above 0, at most 1")


def forward(
    program: NoiseProgram, twist: Twist, alpha: float, samples: int, resample_below: float, generator: torch.Generator
) -> Smoothed:
    """Run N particles from the start to T.

    Raises:
        ImpossibleError: all particles are impossible at some time.
    """
    z, log_ratio = _proposed(twist.start, torch.zeros(samples, 0, dtype=torch.float64), generator)
    s = program.start(z)
    require_states(program, s.unsqueeze(1))
    log_value = twist.log_values[0](s)
    log_weights = log_ratio + log_value - math.log(samples)
    log_z, sizes, nothing = float(log_weights.logsumexp(0)), [], torch.zeros(samples, dtype=torch.float64)
    cloud = Cloud(s, log_weights - log_z, nothing, nothing - math.inf, (s,))
    for t in range(program.horizon):
        if float(effective_sample_size(cloud.log_weights)) < resample_below * samples:
            cloud = cloud.chosen(systematic(cloud.log_weights, generator))
        else:
            cloud = cloud.unchanged()
        cloud, added = _moved(program, twist, alpha, t, cloud, generator)
        sizes.append(effective_sample_size(cloud.log_weights))
        log_z += added
    require_within("particles", torch.tensor(log_z))
    return Smoothed(log_z, cloud, torch.stack(sizes))


def _moved(
    program: NoiseProgram, twist: Twist, alpha: float, t: int, cloud: Cloud, generator: torch.Generator
) -> tuple[Cloud, float]:
    """Return the particles one step later, and what this adds to log Ẑ, nats."""
    s, k, last = cloud.state, program.act_noise, t == program.horizon - 1
    omega, log_ratio = _proposed(twist.noise[t], s, generator)
    a = program.act(t, s, omega[:, :k])
    following, reward = advance(program, t, s, a, omega[:, k:])
    log_seen, alive, dead = _optimal(cloud.log_alive, cloud.log_dead, reward / alpha, program.discount)
    if last:
        end = terminal(program, following)
        reward, log_seen = reward + end, log_seen + torch.logaddexp(dead, alive + end / alpha)
        log_ahead = torch.zeros_like(end)
    else:
        log_ahead = twist.log_values[t + 1](following)
    weights = cloud.log_weights + log_seen + log_ratio + log_ahead - twist.log_values[t](s)
    require_within(f"particles, t = {program.first + t}", weights)
    added = float(weights.logsumexp(0))
    if added == -math.inf:
        best = float(replace(cloud, parents=cloud.parents[:t]).along(cloud.rewards).sum(1).max()) if t else 0.0
        raise ImpossibleError(
            f"particles, t = {program.first + t}: none of {len(s)} particles is possible from here on (reward -inf on "
            f"all); the best return before is {best:g}; expected more samples, a twist, or a prior that gets there"
        )
    states, actions = (*cloud.states, following), (*cloud.actions, a)
    rewards, noise = (*cloud.rewards, reward), (*cloud.noise, omega)
    before = (*cloud.before, cloud.log_weights)
    return Cloud(following, weights - added, alive, dead, states, actions, rewards, noise, before, cloud.parents), added


def _optimal(alive: Tensor, dead: Tensor, r: Tensor, discount: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return log p(O_t = 1) of a particle that may be dead, and log-probabilities of life and death after the step."""
    log_seen = torch.logaddexp(dead, alive + r)
    by = torch.where(log_seen == -math.inf, 0.0, log_seen)
    lives = alive + r - by
    if discount == 1:
        return log_seen, lives, dead
    return log_seen, lives + math.log(discount), torch.logaddexp(dead - by, lives + math.log1p(-discount))


def _proposed(law: Any, s: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return noise of a proposal in states ``[N, n]``, and log N(noise; 0, I) / q, nats."""
    xi = torch.randn(len(s), len(law.offset), generator=generator, dtype=torch.float64)
    noise = law.draw(s, xi)
    return noise, log_normal(noise) - log_density(law, xi)


def systematic(log_weights: Float[Tensor, " N"], generator: torch.Generator) -> Tensor:
    """Return N numbers of particles, each as often as N times its weight, rounded up or down (Kitagawa 1996)."""
    N = len(log_weights)
    places = (torch.arange(N) + torch.rand((), generator=generator, dtype=torch.float64)) / N
    edges = log_weights.exp().cumsum(0)
    return torch.searchsorted(edges / edges[-1], places).clamp(max=N - 1)


def _estimate(log_z: Tensor, found: list[Smoothed]) -> Estimate:
    """Return log of the mean Ẑ, with a standard error by the delta method.

    The spread of a few runs may be small by chance. It is then no less than what the forebears in each run say.
    """
    R = len(log_z)
    value = float(log_z.logsumexp(0)) - math.log(R)
    ratios = (log_z - value).exp()
    between = float(ratios.var()) if R > 1 else 0.0
    within = torch.tensor([one.relative_variance for one in found], dtype=torch.float64)
    variance = max(between, float((ratios.square() * within).mean())) if R < MANY else between
    return Estimate(value, (variance / R) ** 0.5)


def _plan(weights: Tensor, noise: Tensor, least: float) -> Plan:
    mean = torch.einsum("n,ntk->tk", weights, noise)
    variance = torch.einsum("n,ntk->tk", weights, (noise - mean).square())
    return Plan(mean, variance.sqrt().clamp(min=least))


def _notes(sizes: Tensor, found: list[Smoothed], first: int, backward: bool) -> tuple[str, ...]:
    forebears = min(len(one.forebears.unique()) for one in found)
    words = f"traced back, the trajectories of a run descend from {forebears} or more particles at t = {first}"
    if backward:
        words = "the trajectories are drawn by backward simulation"
    t = int(sizes.argmin())
    if float(sizes[t]) >= 2:
        return (words,)
    return (
        words,
        f"effective sample size {float(sizes[t]):.2g} at t = {first + t}: raise the temperature or the samples",
    )
