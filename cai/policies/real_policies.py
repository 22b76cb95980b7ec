"""Convert anything that acts on real states to a policy: to an affine-Gaussian one wherever it is that.

A program is tested for being affine-Gaussian: it is differentiated, and compared with its derivatives at random points,
as ``linearise`` does with a world. Other programs stay unchanged, and are evaluated by sampling.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cai.compile.linear_model import LinearGaussian
from cai.compile.linearise import read_act
from cai.compile.model import Model
from cai.compile.quadratic import ConditionalGaussian, stacked
from cai.compile.real_program import run_act
from cai.errors import CaiError, fault, user_code
from cai.policies.affine_gaussian import AffineGaussianPolicy
from cai.policies.function import FunctionPolicy
from cai.policies.protocol import Act, Policy
from cai.support.process import precision
from cai.world.spec import depends_on_time

FORMS = (
    "None, messages, (gain, offset, covariance), a gain [m, n], a function (state, t) -> distribution, or an object "
    "with act"
)
PARTS = ("gain", "offset", "covariance")


def real_policy(model: LinearGaussian, policy: Any) -> Policy:
    """Read anything that acts as a policy on a linear-Gaussian world.

    Args:
        model: the compiled world.
        policy: None (the action prior), a policy with ``conditional(t)``, a ``ConditionalGaussian``, a triple or dict
            of gain ``[m, n]``, offset ``[m]`` and covariance ``[m, m]``, a gain alone (``a = gain s``, certain), each
            with a T axis first where it differs over time; an object whose ``act`` samples the world's action sites, or
            a function ``(state, t) -> distribution``.

    Raises:
        WorldError: a shape or a site is not as it should be; or it is the prior and the prior is flat.
    """
    if policy is None:
        return _prior(model)
    if hasattr(policy, "conditional"):
        return fitting(model, policy)
    if isinstance(policy, ConditionalGaussian):
        return _from_gaussian(model, policy)
    if isinstance(policy, tuple | Mapping) and not hasattr(policy, "act"):
        return _from_gaussian(model, _from_parts(policy))
    if isinstance(policy, list | Tensor | np.ndarray):
        gain = _numbers("gain", policy)
        if gain.dim() < 2:
            m, n = model.actions.dimension, model.states.dimension
            raise fault("policy", f"a gain of shape {list(gain.shape)}", f"shape [{m}, {n}]")
        return _from_gaussian(model, ConditionalGaussian(gain, gain.new_zeros(gain.shape[:-1]), gain[..., :0]))
    if hasattr(policy, "act"):
        return _recognised(model, policy)
    if callable(policy):
        return _recognised(model, FunctionPolicy(model, policy))
    raise fault("policy", f"a {type(policy).__name__}", FORMS)


@dataclass(frozen=True)
class OverTime:
    """A Gaussian given the state at every time: one for all, or one a time."""

    stacked: ConditionalGaussian
    timed: bool

    def __call__(self, t: int) -> ConditionalGaussian:
        """Return that of time t."""
        return self.stacked.at(t) if self.timed else self.stacked


def _affine(model: LinearGaussian, conditional: Callable[[int], ConditionalGaussian]) -> AffineGaussianPolicy:
    return AffineGaussianPolicy(conditional, model.states, model.actions, model.horizon)


def _prior(model: LinearGaussian) -> AffineGaussianPolicy:
    if not model.proper_prior:
        seen = "None, the action prior, which is flat: Lebesgue measure is no distribution"
        raise fault("policy", seen, "a policy, or a world with a Gaussian action prior")
    return _affine(model, OverTime(model.slices.prior, model.timed))


def fitting(model: Model, policy: Any) -> Policy:
    """Return a policy that is for this world.

    Raises:
        WorldError: it is for other variables or another horizon.
    """
    own, here = ((x.states.labels, x.actions.labels) for x in (policy, model))
    if own != here:
        raise fault("policy", f"a policy for {_named(*own)}", f"one for {_named(*here)}")
    if policy.horizon not in (None, model.horizon):
        seen = f"a policy for the horizon {policy.horizon}"
        raise fault("policy", seen, f"one for this world's, {model.horizon}")
    own_policy: Policy = policy
    return own_policy


def _named(states: tuple[str, ...], actions: tuple[str, ...]) -> str:
    return f"states {', '.join(states)} and actions {', '.join(actions)}"


def _numbers(name: str, value: Any) -> Tensor:
    with user_code(f"policy, {name}", "numbers"):
        number = torch.as_tensor(np.asarray(value) if isinstance(value, list) else value)
    if number.is_complex() or not bool(number.isfinite().all()):
        raise fault(f"policy, {name}", "complex or infinite numbers", "finite real ones")
    return number


def _from_parts(policy: Any) -> ConditionalGaussian:
    """Read (gain, offset, covariance).

    Raises:
        WorldError: a part is missing, or the covariance is not positive semi-definite.
    """
    values = [policy.get(name) for name in PARTS] if isinstance(policy, Mapping) else list(policy)
    if len(values) != len(PARTS) or any(value is None for value in values):
        seen = f"{sorted(policy)}" if isinstance(policy, Mapping) else f"{len(values)} parts"
        raise fault("policy", seen, f"{', '.join(PARTS)}")
    gain, offset, covariance = (_numbers(*each).double() for each in zip(PARTS, values, strict=True))
    if covariance.dim() < 2 or covariance.shape[-1] != covariance.shape[-2]:
        raise fault("policy, covariance", f"shape {list(covariance.shape)}", "[m, m] or [T, m, m]")
    sizes, vectors = torch.linalg.eigh(0.5 * (covariance + covariance.mT))
    apart = (covariance - covariance.mT).abs().amax()
    if bool(sizes.amin() < -1e-12 * sizes.abs().amax()) or bool(apart > 1e-9 * covariance.abs().amax()):
        seen = f"a matrix with the eigenvalue {float(sizes.amin()):.4g}" if not apart else "a matrix not symmetric"
        raise fault("policy, covariance", seen, "a symmetric matrix with eigenvalues of at least 0")
    return ConditionalGaussian(gain, offset, vectors * sizes.clamp(min=0).sqrt().unsqueeze(-2))


def _from_gaussian(model: LinearGaussian, act: ConditionalGaussian) -> AffineGaussianPolicy:
    n, m, T = model.states.dimension, model.actions.dimension, model.horizon
    act = act.each(lambda x: x.detach().to(model.start_mean))
    shapes = {"gain": (m, n), "offset": (m,), "covariance": (m, m)}
    parts = {"gain": act.gain, "offset": act.offset, "covariance": act.covariance}
    timed = any(part.dim() > len(shapes[name]) for name, part in parts.items())
    for name, own in shapes.items():
        allowed = {own} | ({(T, *own)} if T is not None else set())
        if tuple(parts[name].shape) not in allowed:
            seen = f"a {name} of shape {list(parts[name].shape)}"
            raise fault("policy", seen, f"shape {' or '.join(str(list(shape)) for shape in sorted(allowed, key=len))}")
    if timed:
        assert T is not None
        act = replace(
            act, gain=act.gain.expand(T, m, n), offset=act.offset.expand(T, m), scale=act.scale.expand(T, m, -1)
        )
    return _affine(model, OverTime(act, timed))


def _wide(policy: Any, dtype: torch.dtype) -> Any:
    """Return a module with its parameters in the world's dtype; anything else unchanged."""
    return deepcopy(policy).to(dtype) if isinstance(policy, nn.Module) else policy


def _read(model: LinearGaussian, act: Act, t: int) -> tuple[ConditionalGaussian, Tensor]:
    run = partial(run_act, act, f"policy, t = {t}", t, model.states, model.actions)
    return read_act(run, model.states, model.actions)


def _recognised(model: LinearGaussian, policy: Any) -> Policy:
    """Return a program of actions as a Gaussian given the state where it is one, else unchanged.

    Errors of the program are raised later, when it is run.

    Raises:
        WorldError: it is a flat measure.
    """
    timed = depends_on_time(policy.act, 1)
    times = range(model.horizon or 1) if timed else range(1)
    try:
        with precision(model.dtype), torch.no_grad():
            program = _wide(policy, model.dtype)
            each = [_read(model, program.act, t) for t in times]
    except CaiError:
        own: Policy = policy
        return own
    if any(bool(flat.any()) for _, flat in each):
        raise fault("policy", "a flat measure", "a distribution of actions")
    acts = [act for act, _ in each]
    return _affine(model, OverTime(stacked(acts) if timed else acts[0], timed))
