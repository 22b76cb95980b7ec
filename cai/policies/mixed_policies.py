"""Convert anything that acts on a mixed world to a policy: affine-Gaussian in each mode wherever it is."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.nn.functional import pad

from cai.compile.by_mode import ConditionalsByMode, QuadraticsByMode
from cai.compile.linearise import read_act
from cai.compile.quadratic import ConditionalGaussian, Quadratic, stacked
from cai.compile.real_program import run_act
from cai.compile.switching_model import SwitchingLinear
from cai.errors import CaiError, fault
from cai.policies.function import FunctionPolicy
from cai.policies.protocol import Act, Policy
from cai.policies.real_policies import fitting
from cai.policies.switching_policy import SwitchingPolicy
from cai.support.process import precision
from cai.world.spaces import Values
from cai.world.spec import depends_on_time


def mixed_policy(model: SwitchingLinear, policy: Any) -> Policy:
    """Read anything that acts as a policy on a mixed world.

    Args:
        model: the compiled world.
        policy: None (the action prior), a policy with ``conditional(t)``, an object whose ``act`` samples the world's
            action sites, or a function ``(state, t) -> distribution``. A program is tested for being affine-Gaussian
            in each mode; if it is not, it is evaluated by sampling.

    Raises:
        WorldError: it is none of these, is for another world, or it is the prior and the prior is flat.
    """
    if policy is None:
        return _prior(model)
    if hasattr(policy, "conditional"):
        return fitting(model, policy)
    if hasattr(policy, "act"):
        return _recognised(model, policy)
    if callable(policy):
        return _recognised(model, FunctionPolicy(model, policy))
    expected = "None, messages, a function (state, t) -> distribution, or an object with act"
    raise fault("policy", f"a {type(policy).__name__}", expected)


@dataclass(frozen=True)
class OverTime:
    """The policy in each mode at every time: one for all times, or one a time."""

    each: tuple[ConditionalsByMode, ...]

    def __call__(self, t: int) -> ConditionalsByMode:
        """Return that of time t."""
        return self.each[t] if len(self.each) > 1 else self.each[0]


def _by_mode(model: SwitchingLinear, each: ConditionalGaussian) -> ConditionalsByMode:
    count, n = model.states.modes.size, model.states.reals.dimension
    nothing = Quadratic.zero(n, model.start_mean, (count,))
    return ConditionalsByMode(QuadraticsByMode(torch.arange(count, device=model.device), nothing), each)


def _prior(model: SwitchingLinear) -> SwitchingPolicy:
    if not model.proper_prior:
        seen = "None, the action prior, which is flat: Lebesgue measure is no distribution"
        raise fault("policy", seen, "a policy, or a world with a Gaussian action prior")
    times = range(model.horizon or 1) if model.timed else range(1)
    priors = [model.prior_at(t).each(lambda x: x[model.first]) for t in times]
    return _timed(model, [_by_mode(model, prior) for prior in priors])


def _timed(model: SwitchingLinear, acts: list[ConditionalsByMode]) -> SwitchingPolicy:
    return SwitchingPolicy(OverTime(tuple(acts)), model.states, model.actions, model.horizon)


def _recognised(model: SwitchingLinear, policy: Any) -> Policy:
    """Return a program of actions as a Gaussian in each mode where it is one, else unchanged.

    Raises:
        WorldError: it is a flat measure.
    """
    times = range(model.horizon or 1) if depends_on_time(policy.act, 1) else range(1)
    try:
        with precision(model.dtype), torch.no_grad():
            acts = [_by_mode(model, _read(model, policy.act, t)) for t in times]
    except CaiError:
        own: Policy = policy
        return own
    return _timed(model, acts)


def _read(model: SwitchingLinear, act: Act, t: int) -> ConditionalGaussian:
    """Return a program of actions at one time as a Gaussian in each mode, ``[I]``."""
    reals, actions = model.states.reals, model.actions
    each = []
    for i in range(model.states.modes.size):
        run = partial(run_act, partial(_in_mode, model, act, i), f"policy, t = {t}", t, reals, actions)
        own, flat = read_act(run, reals, actions)
        if bool(flat.any()):
            raise fault("policy", "a flat measure", "a distribution of actions")
        each.append(own)
    widest = max(own.scale.shape[-1] for own in each)
    wide = [ConditionalGaussian(x.gain, x.offset, pad(x.scale, (0, widest - x.scale.shape[-1]))) for x in each]
    return stacked(wide)


def _in_mode(model: SwitchingLinear, act: Callable[[Any, int], Any], i: int, state: dict[str, Any], t: int) -> Values:
    action: Values = act({**state, **model.states.modes.split(torch.tensor(i))}, t)
    return action
