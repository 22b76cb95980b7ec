"""Marginals of a linear-Gaussian world under a rule, by the names of variables, and its forward messages."""

from collections.abc import Sequence

import torch

from cai.compile.quadratic import ConditionalGaussian, Gaussian, Quadratic
from cai.errors import Finding, IntractableError
from cai.exact.gaussian.gaussian_chain import GaussianChain
from cai.exact.operator import Operator


def forward(op: Operator, v: Quadratic, states: Gaussian) -> Quadratic:
    """Return the forward messages log p(s_t, O_{<t}) of every time, nats: log p(s_t|O) + log Z - v/α.

    Raises:
        IntractableError: a state has no density, since it does not vary in some direction.
    """
    root, info = torch.linalg.cholesky_ex(states.covariance)
    if bool(info.any()):
        t = int(info.nonzero()[0][-1])
        seen = f"a covariance of s_{t} that is singular"
        raise IntractableError([Finding("forward", seen, "states with a density: noise on every coordinate")])
    still = root.new_zeros(*states.mean.shape, 0)
    log_p = ConditionalGaussian(still, states.mean, root).log_density()
    alpha, log_z = op.alpha.unsqueeze(-1), (op.start(op.at(v, 0)) / op.alpha).unsqueeze(-1)
    scaled = v / alpha
    return Quadratic(log_p.M - scaled.M, log_p.b - scaled.b, log_p.c + log_z - scaled.c)


def variables(op: Operator) -> tuple[str, ...]:
    """Return the names of states, actions and latents."""
    own = (*op.model.states.names, *op.model.actions.names)
    return (*own, *(name for name in op.model.sites.names if name not in own))


def state_marginal(op: Operator, t: int, mu: Gaussian, names: Sequence[str]) -> Gaussian:
    """Return the marginal of some state variables, in the order given."""
    return mu.of(op.model.states.where(names))


def marginal(
    op: Operator, t: int, mu: Gaussian, v_next: Quadratic, names: Sequence[str], error_bound: float
) -> Gaussian:
    """Return the marginal of some variables of a slice, in the order given."""
    chain: GaussianChain = op.tilt(t, v_next, error_bound)
    model = op.model
    y = chain.joint(mu)
    one = torch.eye(y.mean.shape[-1], dtype=y.mean.dtype, device=y.mean.device)
    states, actions, n = model.states.slices, model.actions.slices, model.states.dimension
    rows, offsets = [], []
    for name in names:
        if name in states or name in actions:
            found = states.get(name) or slice(n + actions[name].start, n + actions[name].stop)
            rows.append(one[found])
            offsets.append(y.mean.new_zeros(len(one[found])))
        else:
            rows.append(chain.slice.readout[..., model.sites.slices[name], :])
            offsets.append(chain.slice.readout_offset[..., model.sites.slices[name]])
    batch = y.mean.shape[:-1]
    F = torch.cat([row.expand(*batch, *row.shape[-2:]) for row in rows], -2)
    return y.through(F, torch.cat([offset.expand(*batch, -1) for offset in offsets], -1))
