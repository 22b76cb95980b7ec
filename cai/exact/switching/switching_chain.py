"""The rule's own chain on a switching linear-Gaussian world: a mixture of linear-Gaussian chains."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cai.compile.by_mode import ConditionalsByMode, GaussiansByMode, QuadraticsByMode, picked
from cai.compile.linear_model import LinearSlice
from cai.compile.quadratic import ConditionalGaussian
from cai.errors import Finding, NoClosedFormError
from cai.exact.gaussian.gaussian_chain import GaussianChain
from cai.exact.operator import Pick
from cai.world.mixed import MixedSpace


def no_single(what: str) -> NoClosedFormError:
    """Return the error for what has a part for each sequence of modes, and is not kept."""
    seen = "on a world of modes and real states, where it has a part for each switch or sequence of modes"
    return NoClosedFormError([Finding(what, seen, "states(t), marginals(t) and sample(n), which are exact")])


@dataclass(frozen=True)
class SwitchingChain:
    """One time of the chain; see ``cai.exact.operator.Conditionals``.

    Attributes:
        space: the states.
        log_policy: the policy.
        switches: the log-weight of each component of the outcome at (mode, x, a): a switch, and a sequence after it.
        slices: the slice of each component, ``[C]``.
        noise: its noise given (x, a), tilted under POSTERIOR.
        target: the mode that it enters, ``[C]``.
        survival: γ.
        v_next: the value that tilts survival; None where it is not tilted.
    """

    space: MixedSpace
    log_policy: ConditionalsByMode
    switches: QuadraticsByMode
    slices: LinearSlice
    noise: ConditionalGaussian
    target: Tensor
    survival: Tensor
    v_next: QuadraticsByMode | None

    @property
    def log_outcome(self) -> ConditionalsByMode:
        """The dynamics: x' given the mode and (x, a), a component for each switch and each sequence after it."""
        own = self.log_policy.each
        n, m = own.gain.shape[-1], own.gain.shape[-2]
        still = ConditionalGaussian(own.gain.new_zeros(m, n), own.offset.new_zeros(m), own.scale.new_zeros(m, 0))
        each = GaussianChain(self.slices, still, self.noise, self.survival).log_outcome
        return ConditionalsByMode(self.switches, each)

    def push(self, mu: GaussiansByMode) -> GaussiansByMode:
        """Return p(s_{t+1}, alive).

        A component of a sequence of modes continues along it; otherwise the components that enter a mode are merged.
        """
        if mu.follows is None:
            taken = self.switches.modes
            share = self.switches.each.c.exp() * self.survival
            each = GaussianChain(self.slices, picked(self.log_policy.each, taken), self.noise, share)
            return GaussiansByMode(self.target, each.push(picked(mu.each, taken)), mu.count).merged
        c, tail = mu.follows, self.switches.tail
        assert tail is not None
        assert self.v_next is not None
        alive = (tail[c] < len(self.v_next)).to(mu.each.mass)
        each = GaussianChain(picked(self.slices, c), picked(self.log_policy.each, c), picked(self.noise, c), alive)
        follows = tail[c].clamp(max=len(self.v_next) - 1)
        return GaussiansByMode(self.target[c], each.push(mu.each), mu.count, follows)

    @property
    def log_survive(self) -> Tensor:
        """log γ, the same on entering every s'.

        Raises:
            NoClosedFormError: survival is tilted, by a sum over sequences of modes.
        """
        if self.v_next is not None and float(self.survival) < 1:
            raise no_single("survival")
        return self.survival.log()

    def joint(self, mu: GaussiansByMode) -> GaussiansByMode:
        """Return nothing: p(s, a, outcome) has no form of its own here.

        Raises:
            NoClosedFormError: always.
        """
        raise no_single("outcome_marginals")

    def pairs(self, mu: GaussiansByMode) -> GaussiansByMode:
        """Return nothing: p(s, s') has no form of its own here.

        Raises:
            NoClosedFormError: always.
        """
        raise no_single("pairs")

    def action(self, s: Tensor, pick: Pick) -> Tensor:
        """Pick actions in states ``s [N, 1 + n]``."""
        act = picked(self.log_policy.each, pick(self.log_policy.weights.log_weights(s)))
        return act.draw(self.space.real(s), pick.normal(s, act.scale.shape[-1]))

    def outcome(self, s: Tensor, a: Tensor, pick: Pick) -> tuple[Tensor, Tensor]:
        """Pick what follows: the next states, and the rewards, reward units, ``[N]``."""
        seen = torch.cat((self.space.real(s), a), -1)
        c = pick(self.switches.log_weights(torch.cat((s, a), -1)))
        noise, slices = picked(self.noise, c), picked(self.slices, c)
        y = torch.cat((seen, noise.draw(seen, pick.normal(seen, noise.scale.shape[-1]))), -1)
        x = (slices.transition @ y.unsqueeze(-1)).squeeze(-1) + slices.drift
        return self.space.row(self.target[c], x), slices.reward(y)

    def survives(self, s: Tensor, pick: Pick) -> Tensor:
        """Pick whether the trajectory goes on from next states ``s [N, 1 + n]``."""
        if float(self.survival) == 1:
            return torch.ones(len(s), dtype=torch.bool, device=s.device)
        on, end = self.survival.log().expand(len(s)), torch.log1p(-self.survival).expand(len(s))
        if self.v_next is not None:
            v = self.v_next(s)
            on = on + (v if self.v_next.eta is None else v / self.v_next.eta)
        return pick(torch.stack((on, end), -1)) == 0
