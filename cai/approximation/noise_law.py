"""NoiseLaw: a Gaussian law of the noise of a world, which is a law of its trajectories, and proposals for samplers."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cai.compile.noise_program import NoiseProgram
from cai.compile.quadratic import ConditionalGaussian, Gaussian, stacked
from cai.world.noise import has_one_noise, noise_of


@dataclass(frozen=True, eq=False)
class NoiseLaw:
    """q of the noise: ``z ~ q(z)``, ``w_t ~ q(w_t|s_t)``, ``z_t ~ q(z_t|s_t, w_t)``, each affine-Gaussian.

    Attributes:
        start: of the start's noise, given nothing, ``gain [k0, 0]``.
        act: of the action's noise given the state, stacked over time, ``gain [T, j, n]``: the policy.
        step: of the slice's noise given the state and the action's noise, ``gain [T, k, n+j]``.
    """

    start: ConditionalGaussian
    act: ConditionalGaussian
    step: ConditionalGaussian

    @property
    def policy(self) -> "NoiseLaw":
        """The law of the trajectories of its policy in the world itself: start and dynamics have their own noise."""
        return replace(self, start=standard(self.start), step=standard(self.step))

    def shifted(self) -> "NoiseLaw":
        """Return the law one step later: the first step is gone, and the last one is repeated."""

        def later(part: ConditionalGaussian) -> ConditionalGaussian:
            return part.each(lambda x: torch.cat((x[1:], x[-1:])))

        return replace(self, act=later(self.act), step=later(self.step))

    def fitted(self, program: NoiseProgram) -> "NoiseLaw":
        """Return the law over the program's own horizon, the last step repeated, from the program's own start."""
        T = program.horizon

        def long(part: ConditionalGaussian) -> ConditionalGaussian:
            return part.each(lambda x: torch.cat((x[:T], *[x[-1:]] * (T - len(x)))))

        start = self.start if len(self.start.offset) == program.start_noise else prior_law(program).start
        return NoiseLaw(start, long(self.act), long(self.step))

    def joint(self, t: int, mu: Gaussian) -> Gaussian:
        """Return the law of (s_t, w_t, z_t) from that of s_t."""
        return self.step[t].joint(self.act[t].joint(mu))


def standard(like: ConditionalGaussian) -> ConditionalGaussian:
    """Return N(0, I) in the shape of another law."""
    one = torch.eye(like.offset.shape[-1]).to(like.scale).expand_as(like.scale)
    return ConditionalGaussian(0 * like.gain, 0 * like.offset, one)


def prior_law(program: NoiseProgram) -> NoiseLaw:
    """Return the law of the prior: all noise is standard normal."""
    n, j, k, k0 = program.states.dimension, program.act_noise, program.step_noise, program.start_noise

    def part(own: int, given: int) -> ConditionalGaussian:
        zero = torch.zeros(own, dtype=torch.float64)
        gain, one = (torch.zeros(own, given, dtype=torch.float64), torch.eye(own, dtype=torch.float64))
        return ConditionalGaussian(gain, zero, one)

    act, step = (stacked([one] * program.horizon) for one in (part(j, n), part(k, n + j)))
    return NoiseLaw(part(k0, 0), act, step)


@dataclass(frozen=True)
class Divergence:
    """A law q(u|x) = N(μ(x), LL') beside N(0, I), at one time or stacked over time.

    Attributes:
        law: q.
        log_volume: log |L|, ``[*T]``.
        spread: ``½ (tr LL' - k) - log |L|``, nats, the part of the KL that is the same at all x, ``[*T]``.
    """

    law: ConditionalGaussian
    log_volume: Tensor
    spread: Tensor

    @classmethod
    def of(cls, law: ConditionalGaussian) -> "Divergence":
        """Return it with its constants worked out, for all times at once."""
        log_volume = torch.linalg.slogdet(law.scale).logabsdet
        spread = 0.5 * (law.scale.square().sum((-2, -1)) - law.offset.shape[-1]) - log_volume
        return cls(law, log_volume, spread)

    def __getitem__(self, t: int) -> "Divergence":
        return Divergence(self.law[t], self.log_volume[t], self.spread[t])

    def draw(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return ``u = μ(x) + L noise``, KL(q(·|x) ‖ N(0, I)) and ``log q(u|x) - log N(u; 0, I)``, nats."""
        mean = x @ self.law.gain.mT + self.law.offset
        u = mean + noise @ self.law.scale.mT
        kl = 0.5 * mean.square().sum(-1) + self.spread
        return u, kl, 0.5 * (u.square() - noise.square()).sum(-1) - self.log_volume


def may_covary(program: NoiseProgram) -> Tensor:
    """Return which noises of the actions a policy can draw together, ``[j, j]``: all but those of finite variables.

    A policy draws the noise of a variable given that of those before it, which the value of a finite one does not tell.
    """
    _, act = program.spec.heads
    told = [torch.full((noise_of(fn),), has_one_noise(fn)) for fn in act.distributions.values()]
    known = torch.cat(told) if told else torch.zeros(0, dtype=torch.bool)
    return known.unsqueeze(-1) & known | torch.eye(len(known), dtype=torch.bool)


def separate(law: ConditionalGaussian, together: Tensor) -> ConditionalGaussian:
    """Return the law with the nearest KL(· ‖ law) whose noises do not covary but where they may.

    Its precision is the law's own, without the entries between blocks (Bishop 2006, section 10.1.2).
    """
    if bool(together.all()):
        return law
    back = torch.linalg.inv(law.scale)
    return replace(law, scale=torch.linalg.cholesky(torch.linalg.inv(together * (back.mT @ back))))
