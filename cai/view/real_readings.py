"""The numbers that figures read from a result on a world of real states: marginals, policy, closed loop, value."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.linear_model import LinearGaussian
from cai.compile.quadratic import ConditionalGaussian, Gaussian, Quadratic
from cai.errors import fault, require_time
from cai.exact.messages import Messages
from cai.exact.rules import VARIATIONAL
from cai.view.readings import require_one
from cai.world.coordinates import Coordinates
from cai.world.mixed import MixedSpace

SURE = 1e-7
"""A deviation below this share of the widest counts as certainty."""


@dataclass(frozen=True)
class Normal:
    """The Gaussian marginal of one coordinate, as a tube needs it."""

    mean: float
    deviation: float

    def quantile(self, share: float) -> float:
        """Return the value below which this share of the probability lies."""
        return self.mean + self.deviation * float(torch.special.ndtri(torch.tensor(share, dtype=torch.float64)))


@dataclass(frozen=True)
class Sampled:
    """The marginal of one coordinate, by samples of equal weight."""

    values: Float[Tensor, " N"]

    @property
    def mean(self) -> float:
        """The mean."""
        return float(self.values.mean())

    @property
    def deviation(self) -> float:
        """The standard deviation."""
        return float(self.values.std(correction=0))

    def quantile(self, share: float) -> float:
        """Return the value below which this share of the samples lies."""
        return float(self.values.quantile(share))


@dataclass(frozen=True)
class Mixture:
    """The marginal of one coordinate where each mode has a Gaussian of its own; the weights sum to 1."""

    weights: Float[Tensor, " K"]
    means: Float[Tensor, " K"]
    deviations: Float[Tensor, " K"]

    @property
    def mean(self) -> float:
        """The mean."""
        return float(self.weights @ self.means)

    @property
    def deviation(self) -> float:
        """The standard deviation."""
        second = self.weights @ (self.deviations.square() + (self.means - self.mean).square())
        return float(second.sqrt())

    def quantile(self, share: float) -> float:
        """Return the value below which this share of the probability lies, by bisection."""
        wide = 10 * self.deviations.clamp(min=1e-300)
        low, high = float((self.means - wide).min()), float((self.means + wide).max())
        for _ in range(60):
            middle = (low + high) / 2
            below = self.weights @ torch.special.ndtr((middle - self.means) / wide * 10)
            low, high = (middle, high) if float(below) < share else (low, middle)
        return (low + high) / 2


def is_mixed(result: Any) -> bool:
    """Return whether a result is on a world of modes and real states."""
    return isinstance(getattr(getattr(result, "model", None), "states", None), MixedSpace)


def mixed_marginals(result: Any, name: str) -> list[Mixture]:
    """Return the marginal of one real coordinate of the state at 0 … T, modes summed out.

    Raises:
        WorldError: there is no such coordinate, the horizon is infinite, or the result is a batch.
    """
    require_one(result, "tubes")
    model = result.model
    if model.horizon is None:
        raise fault("tubes", "an infinite horizon", "a finite one: the figure is over time")
    i = place_of(model.states.reals, name, "tubes, variable")
    found = []
    for t in range(model.horizon + 1):
        each = (result.states(t) if isinstance(result, Messages) else result.parts[0].states[t]).each.detach()
        mass = each.mass / each.mass.sum()
        found.append(Mixture(mass, each.mean[..., i], each.covariance[..., i, i].clamp(min=0).sqrt()))
    return found


def is_real(result: Any) -> bool:
    """Return whether a result is on a world of real states."""
    return isinstance(getattr(getattr(result, "model", None), "states", None), Coordinates)


def system_of(result: Any, where: str) -> LinearGaussian:
    """Return the linear-Gaussian world of a result of finite horizon.

    Raises:
        WorldError: the states are not real, or the horizon is infinite, or it is a batch.
    """
    require_one(result, where)
    if is_mixed(result):
        raise fault(where, "a world of modes and real states", "real states alone; cai.view.tubes shows a coordinate")
    if not is_real(result):
        seen = f"a {type(result).__name__} on numbered states"
        raise fault(where, seen, "one on real states; cai.view.value_map and messages_over_time show numbered ones")
    model: LinearGaussian = result.model
    if model.horizon is None:
        raise fault(where, "an infinite horizon", "a finite one: the figure is over time")
    return model


def place_of(space: Coordinates, name: str, where: str) -> int:
    """Return the number of one coordinate.

    Raises:
        WorldError: there is none of that name, or the name is that of several.
    """
    found = space.where([name]) if name in (*space.names, *space.labels) else []
    if len(found) != 1:
        seen = f"'{name}'" + (f", which has {len(found)} coordinates" if found else "")
        raise fault(where, seen, f"one of {', '.join(space.labels)}")
    return found[0]


def states_at(result: Any, t: int) -> Any:
    """Return p(s_t), t = 0 … T: under the rule of messages, or of a policy under the true dynamics.

    It is a ``Gaussian``, or ``Particles`` where the policy was sampled.
    """
    require_time("t", t, result.model.horizon, end=True)
    found = result.states(t) if isinstance(result, Messages) else result.parts[0].states[t]
    return found.detach()


def moments_at(result: Any, t: int) -> Gaussian:
    """Return mean and covariance of s_t."""
    moments: Gaussian = states_at(result, t).of(list(range(result.model.states.dimension)))
    return moments


def joint_at(result: Any, t: int) -> Any:
    """Return p(s_t, a_t), as ``states_at`` does."""
    if isinstance(result, Messages):
        return result.marginals(t).detach()
    part = result.parts[0]
    return part.operator.joint(part.states[t], part.act(t)).detach()


def is_affine(result: Any) -> bool:
    """Return whether the policy of a result on real states is affine-Gaussian, and not known by samples alone."""
    return isinstance(result, Messages) or isinstance(result.parts[0].act(0), ConditionalGaussian)


def require_affine(result: Any, where: str) -> None:
    """Raise where a policy is known by samples alone.

    Raises:
        WorldError: it is.
    """
    if not is_affine(result):
        seen = "a policy that is not affine-Gaussian, known by samples alone"
        raise fault(where, seen, "an affine-Gaussian one; cai.view.tubes and cost_over_time show any")


def acting_at(result: Any, t: int) -> ConditionalGaussian:
    """Return the policy of time t."""
    found: Any = result.tilt(t).log_policy if isinstance(result, Messages) else result.parts[0].act(t)
    act: ConditionalGaussian = found.detach()
    return act


def closed_loop(result: Any, t: int) -> ConditionalGaussian:
    """Return p(s_{t+1}|s_t) where the policy acts: under the rule of messages, else under the true dynamics."""
    act, n = acting_at(result, t), result.model.states.dimension
    following: Any = result.dynamics(t).detach() if isinstance(result, Messages) else _true_dynamics(result, t)
    A, B = following.gain[..., :n], following.gain[..., n:]
    offset = following.offset + (B @ act.offset.unsqueeze(-1)).squeeze(-1)
    return ConditionalGaussian(A + B @ act.gain, offset, torch.cat((B @ act.scale, following.scale), -1))


def _true_dynamics(result: Any, t: int) -> ConditionalGaussian:
    sl, seen = result.model.at(t).detach(), result.model.states.dimension + result.model.actions.dimension
    return ConditionalGaussian(sl.transition[..., :seen], sl.drift, sl.transition[..., seen:])


def value_at(result: Any, t: int) -> Quadratic:
    """Return v_t of messages; of an evaluation the return to come, both reward units."""
    if isinstance(result, Messages):
        v: Quadratic = result.operator.at(result.v, t).detach()
        return v
    op = result.answers.operator.under(VARIATIONAL)  # its q averages outcomes
    to_come: Quadratic = op.terminal()
    for at in reversed(range(t, result.model.horizon)):
        to_come = _averaged(op.q(at, to_come), acting_at(result, at))
    return to_come


def _averaged(q: Quadratic, act: ConditionalGaussian) -> Quadratic:
    """Return ``E[q(s, a)]`` of a ~ π(·|s), a quadratic of s."""
    n = act.gain.shape[-1]
    one = torch.eye(n, dtype=act.gain.dtype)
    above = act.offset.new_zeros(n)
    inside = q.after(torch.cat((one, act.gain), -2), torch.cat((above, act.offset)))
    spread = 0.5 * (q.M[n:, n:] * act.covariance).sum()
    return Quadratic(inside.M, inside.b, inside.c + spread)


def real_marginals(result: Any, name: str) -> list[Normal] | list[Sampled]:
    """Return the marginal of one coordinate of the state at 0 … T, or of the action at 0 … T-1.

    Raises:
        WorldError: there is no such coordinate, the horizon is infinite, or the result is a batch.
    """
    model = system_of(result, "tubes")
    if name in (*model.states.names, *model.states.labels):
        i = place_of(model.states, name, "tubes, variable")
        each = [states_at(result, t) for t in range((model.horizon or 0) + 1)]
    elif name in (*model.actions.names, *model.actions.labels):
        i = model.states.dimension + place_of(model.actions, name, "tubes, variable")
        each = [joint_at(result, t) for t in range(model.horizon or 0)]
    else:
        known = ", ".join((*model.states.labels, *model.actions.labels))
        raise fault("tubes, variable", f"'{name}'", f"one of {known}")
    if not isinstance(each[0], Gaussian):
        return [Sampled(one.values[:, i]) for one in each]
    return [Normal(float(one.mean[i]), float(one.deviation[i])) for one in each]


def sure_times(each: Sequence[Any]) -> list[int]:
    """Return the times at which a tube has no width but has one at others: observed, forced, or a sure start."""
    widths = [getattr(one, "deviation", None) for one in each]
    known = [width for width in widths if width is not None]
    widest = max(known, default=0.0)
    if len(known) < len(widths) or widest == 0:
        return []
    return [t for t, width in enumerate(known) if width <= SURE * widest]


def lattice(low: float, high: float, n: int) -> Float[Tensor, " n"]:
    """Return n evenly spaced numbers."""
    return torch.linspace(low, high, n, dtype=torch.float64)
