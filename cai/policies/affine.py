"""A learnable affine-Gaussian policy: a gain, an offset and a factor for every time, on top of the action prior."""

from torch import nn

from cai.compile.linear_model import LinearGaussian
from cai.compile.linearise import linearise
from cai.compile.quadratic import ConditionalGaussian
from cai.errors import fault
from cai.policies.affine_gaussian import mean_action, sample_gaussian
from cai.policies.protocol import sampled, scored
from cai.world.definition import World


class AffinePolicy(nn.Module):
    """``a = m(s) + scale w``, ``w = G (s - c) + k + L ξ``, ξ ~ N(0, I): the prior where G = k = 0 and L = I.

    The prior is ``a = m(s) + scale w`` with w ~ N(0, I); a flat prior is replaced by N(0, I) at first. Where the prior
    is certain the policy is, too. c is the mean of s_0. VARIATIONAL's own policy is of this form: its gain is that of
    the linear-quadratic regulator.

    Args:
        world: a world, or the ``LinearGaussian`` it was compiled to.
        stationary: one G, k and L for all times.

    Raises:
        WorldError, IntractableError: the world is not linear-Gaussian, or a batch of systems.
    """

    sample = sampled
    log_prob = scored
    act = sample_gaussian
    mode = mean_action

    def __init__(self, world: World | LinearGaussian, *, stationary: bool = False) -> None:
        super().__init__()
        model = (world if isinstance(world, LinearGaussian) else linearise(world)).detach()
        if model.batch_shape:
            raise fault("affine policy", f"a batch of {tuple(model.batch_shape)} systems", "one system")
        self.states, self.actions = model.states, model.actions
        self.horizon = None if stationary else model.horizon
        self.prior, self.prior_is_timed, self.centre = model.slices.prior, model.timed, model.start_mean
        j, n = self.prior.scale.shape[-1], model.states.dimension
        times = () if self.horizon is None else (self.horizon,)
        zeros = self.centre.new_zeros
        self.gain, self.offset = nn.Parameter(zeros(*times, j, n)), nn.Parameter(zeros(*times, j))
        self.log_diagonal, self.below = nn.Parameter(zeros(*times, j)), nn.Parameter(zeros(*times, j, j))

    def conditional(self, t: int = 0) -> ConditionalGaussian:
        """Return p(a|s) of time t, differentiable in the parameters."""
        prior = self.prior.at(t) if self.prior_is_timed else self.prior
        every = (self.gain, self.offset, self.log_diagonal, self.below)
        G, k, d, below = every if self.horizon is None else (x[t] for x in every)
        L = below.tril(-1) + d.exp().diag()
        return prior.driven(ConditionalGaussian(G, k - G @ self.centre, L))
