"""The rule's own chain on a linear-Gaussian world: its policy and its dynamics, both affine and Gaussian."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cai.compile.linear_model import LinearSlice
from cai.compile.quadratic import ConditionalGaussian, Gaussian
from cai.exact.operator import Pick


@dataclass(frozen=True)
class GaussianChain:
    """One time of the chain; see ``cai.exact.operator.Conditionals``.

    Attributes:
        slice: the slice.
        log_policy: the policy, a given s.
        noise: the noise z given (s, a): tilted under POSTERIOR, N(0, I) where outcomes are averaged.
        survival: the probability γ of going on.
    """

    slice: LinearSlice
    log_policy: ConditionalGaussian
    noise: ConditionalGaussian
    survival: Tensor

    @property
    def log_outcome(self) -> ConditionalGaussian:
        """The dynamics: s' given (s, a)."""
        sl, noise = self.slice, self.noise
        seen = noise.gain.shape[-1]
        direct, shaken = sl.transition[..., :seen], sl.transition[..., seen:]
        offset = sl.drift + (shaken @ noise.offset.unsqueeze(-1)).squeeze(-1)
        return ConditionalGaussian(direct + shaken @ noise.gain, offset, shaken @ noise.scale)

    @property
    def log_survive(self) -> Tensor:
        """log γ, the same on entering every s'."""
        return self.survival.log()

    def joint(self, mu: Gaussian) -> Gaussian:
        """Return p(s, a, z)."""
        return self.noise.joint(self.log_policy.joint(mu))

    def push(self, mu: Gaussian) -> Gaussian:
        """Return p(s', alive)."""
        following = self.joint(mu).through(self.slice.transition, self.slice.drift)
        return Gaussian(following.mean, following.covariance, following.mass * self.survival)

    def pairs(self, mu: Gaussian) -> Gaussian:
        """Return p(s, s'), alive at both."""
        y, n = self.joint(mu), mu.mean.shape[-1]
        one = torch.eye(n, y.mean.shape[-1], dtype=y.mean.dtype, device=y.mean.device)
        rows = torch.cat((one, self.slice.transition), -2)
        both = y.through(rows, torch.cat((torch.zeros_like(self.slice.drift), self.slice.drift), -1))
        return Gaussian(both.mean, both.covariance, both.mass * self.survival)

    def action(self, s: Tensor, pick: Pick) -> Tensor:
        """Pick actions in states ``s [N, n]``."""
        return self.log_policy.draw(s, pick.normal(s, self.log_policy.scale.shape[-1]))

    def outcome(self, s: Tensor, a: Tensor, pick: Pick) -> tuple[Tensor, Tensor]:
        """Pick what follows: the next states, and the rewards, reward units, ``[N]``."""
        seen = torch.cat((s, a), -1)
        y = torch.cat((seen, self.noise.draw(seen, pick.normal(s, self.noise.scale.shape[-1]))), -1)
        return y @ self.slice.transition.mT + self.slice.drift, self.slice.reward(y)

    def survives(self, s: Tensor, pick: Pick) -> Tensor:
        """Pick whether the trajectory goes on from next states ``s [N, n]``."""
        if float(self.survival) == 1:
            return torch.ones(len(s), dtype=torch.bool, device=s.device)
        odds = torch.stack((self.survival, 1 - self.survival)).log().expand(len(s), 2)
        return pick(odds) == 0
