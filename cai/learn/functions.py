"""Functions with parameters: θ is one vector, so that an update reads θ ← θ + lr ∇J.

A function maps what ``inputs(state, t)`` makes of a state to ``[*, out]``: a table its row, a network its last layer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim.adam import adam as adam_in_place

from cai.errors import fault
from cai.simulate.simulator import Simulator
from cai.support.memory import require_room
from cai.world.coordinates import Coordinates


@runtime_checkable
class Function(Protocol):
    """A function of the state (and the time), with its parameters θ given from outside."""

    def inputs(self, state: Any, t: Any) -> Tensor:
        """Return what the function reads of a state at time t (both may be batches)."""

    def init(self, *copies: int) -> Tensor:
        """Return first parameters, ``[*copies, P]``, drawn from the ambient generator."""

    def __call__(self, theta: Tensor, x: Tensor) -> Tensor:
        """Return the function's value, ``[*copies, *B, out]``."""


SHORTER = "a network, or a shorter horizon"


@dataclass(frozen=True)
class Table:
    """One row of ``out`` numbers for every state, or for every time and state; 0 at first."""

    simulator: Simulator
    out: int
    horizon: int | None

    def inputs(self, state: Any, t: Any) -> Tensor:
        """Return the number of the row."""
        states = self.simulator.variables.state_space
        assert states is not None
        number = states.join(states.unpack(state))
        return number if self.horizon is None else torch.as_tensor(t) * states.size + number

    def init(self, *copies: int) -> Tensor:
        """Return zeros."""
        states = self.simulator.variables.state_space
        assert states is not None
        S, T = states.size, self.horizon or 1
        size = math.prod(copies) * T * S * self.out
        require_room(
            "table", f"{self.out:,} numbers for each of S = {S:,} states at T = {T:,} times", 8 * size, SHORTER
        )
        return torch.zeros(*copies, T * S * self.out)

    def __call__(self, theta: Tensor, x: Tensor) -> Tensor:
        """Return the rows."""
        return theta.reshape(*theta.shape[:-1], -1, self.out)[..., x, :]


@dataclass(frozen=True)
class Affine:
    """Half of the numbers are affine in the state, half are constant: ``(W_t (s - c) + b_t, d_t)``; 0 at first.

    Attributes:
        states: the coordinates of the state, n.
        centre: c, so that gains and offsets are learned apart, ``[n]``.
        out: how many numbers.
        horizon: how many W, b and d there are, one for each time; None: one for all times.
    """

    states: Coordinates
    centre: Tensor
    out: int
    horizon: int | None

    def inputs(self, state: Any, t: Any) -> Tensor:
        """Return the time and s - c, ``[*B, 1 + n]``."""
        x = self.states.join(self.states.unpack(state)) - self.centre
        time = torch.as_tensor(t, device=x.device).to(x.dtype).expand(x.shape[:-1]).unsqueeze(-1)
        return torch.cat((torch.zeros_like(time) if self.horizon is None else time, x.to(time.dtype)), -1)

    def init(self, *copies: int) -> Tensor:
        """Return zeros."""
        size = (self.horizon or 1) * (self.out // 2) * (self.states.dimension + 2)
        return torch.zeros(*copies, size)

    def __call__(self, theta: Tensor, x: Tensor) -> Tensor:
        """Return the numbers of the times and states in x."""
        half, n = self.out // 2, self.states.dimension
        rows = theta.reshape(*theta.shape[:-1], -1, half, n + 2)[..., x[..., 0].long(), :, :]
        affine = (rows[..., :n] @ x[..., 1:].unsqueeze(-1)).squeeze(-1) + rows[..., n]
        return torch.cat((affine, rows[..., n + 1]), -1)


@dataclass(frozen=True)
class Network:
    """A multilayer perceptron on the simulator's features.

    Attributes:
        simulator: gives the features.
        sizes: widths of all layers, input and output included; the input may hold an action beside the features.
        last: the scale of the last layer at first.
    """

    simulator: Simulator
    sizes: tuple[int, ...]
    last: float = 1.0
    activation: Any = torch.relu

    def inputs(self, state: Any, t: Any) -> Tensor:
        """Return the features, ``[*B, F]``."""
        return self.simulator.features(state)

    def init(self, *copies: int) -> Tensor:
        """Return weights and biases, uniform within 1/sqrt(fan-in) (torch's own for linear layers)."""
        parts = []
        for n, (before, after) in enumerate(pairwise(self.sizes)):
            scale = (self.last if n == len(self.sizes) - 2 else 1.0) / math.sqrt(before)
            parts.append((2 * torch.rand(*copies, before * after + after) - 1) * scale)
        return torch.cat(parts, -1)

    def __call__(self, theta: Tensor, x: Tensor) -> Tensor:
        """Return the last layer; with copies of θ, of every copy."""
        layers, copies = list(pairwise(self.sizes)), theta.shape[:-1]
        # One split: a slice for each layer would have the backward pass fill a zero gradient of all of θ each time.
        parts = iter(theta.split([n for before, after in layers for n in (before * after, after)], -1))
        for n, (before, after) in enumerate(layers):
            weight, bias = next(parts).reshape(*copies, after, before), next(parts)
            x = nn.functional.linear(x, weight, bias) if not copies else x @ weight.mT + bias.unsqueeze(-2)
            x = x if n == len(layers) - 1 else self.activation(x)
        return x


class ModuleFunction:
    """A torch module of your own on the simulator's features: ``[*, F] -> [*, out]``."""

    def __init__(self, simulator: Simulator, module: nn.Module) -> None:
        self.simulator, self.module = simulator, module
        self.shapes = {name: p.shape for name, p in module.named_parameters()}

    def inputs(self, state: Any, t: Any) -> Tensor:
        """Return the features, ``[*B, F]``."""
        return self.simulator.features(state)

    def init(self, *copies: int) -> Tensor:
        """Return the module's own parameters."""
        theta = torch.cat([p.detach().flatten() for p in self.module.parameters()]).to(torch.get_default_dtype())
        return theta.expand(*copies, -1).clone()

    def __call__(self, theta: Tensor, x: Tensor) -> Tensor:
        """Return the module's output under θ."""
        if theta.dim() > 1:
            return torch.stack([self(row, x) for row in theta])
        parts = theta.split([shape.numel() for shape in self.shapes.values()])
        named = {name: part.reshape(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}
        out: Tensor = functional_call(self.module, named, (x,))
        return out


def function_of(
    simulator: Simulator, out: int, network: Any, *, last: float = 1.0, activation: Any = torch.relu
) -> Function:
    """Return a function of the state: hidden widths make a ``Network``, a torch module is taken as it is.

    Raises:
        WorldError: ``network`` is neither.
    """
    if isinstance(network, nn.Module):
        return ModuleFunction(simulator, network)
    if isinstance(network, Sequence) and all(isinstance(n, int) and n > 0 for n in network):
        return Network(simulator, (width_of(simulator), *network, out), last, activation)
    raise fault("learner, network", f"{network!r}", "the widths of hidden layers, or a torch module")


def width_of(simulator: Simulator) -> int:
    """Return F, the number of features."""
    return int(simulator.features(simulator.example).shape[-1])


@dataclass(frozen=True)
class Adam:
    """Adam on one vector (Kingma & Ba 2015), its moments kept outside: ``[2, *shape]`` and a count."""

    lr: float
    clip: float | None = None
    eps: float = 1e-8

    def init(self, theta: Tensor) -> dict[str, Tensor]:
        """Return moments of 0."""
        return {"mean": torch.zeros_like(theta), "square": torch.zeros_like(theta), "count": torch.zeros(())}

    def __call__(
        self, theta: Tensor, gradient: Tensor, moments: dict[str, Tensor], share: float = 1.0
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the next θ and moments after a step *down* the gradient, at ``share`` of the step size."""
        (theta,), (moments,) = self.together([theta], [gradient], [moments], share)
        return theta, moments

    def together(
        self, thetas: list[Tensor], gradients: list[Tensor], moments: list[dict[str, Tensor]], share: float = 1.0
    ) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
        """Return the same of several vectors, each with its own moments, by one call."""
        if self.clip is not None:
            gradients = [x * (self.clip / x.norm().clamp(min=self.clip)) for x in gradients]
        thetas = [theta.detach().clone() for theta in thetas]
        moments = [{name: moment.clone() for name, moment in each.items()} for each in moments]
        adam_in_place(
            thetas,
            gradients,
            [each["mean"] for each in moments],
            [each["square"] for each in moments],
            [],
            [each["count"] for each in moments],
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=self.lr * share,
            weight_decay=0.0,
            eps=self.eps,
            maximize=False,
        )
        return thetas, moments


def part(values: Any, prefix: str) -> dict[str, Tensor]:
    """Return the values under a prefix, without it."""
    return {name[len(prefix) + 1 :]: value for name, value in values.items() if name.startswith(f"{prefix}.")}


def named(prefix: str, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the values with a prefix before each name."""
    return {f"{prefix}.{name}": value for name, value in values.items()}


def usual_lr(function: Function, lr: float | None) -> float:
    """Return the step size, or the one that suits the function."""
    return lr if lr is not None else 0.05 if isinstance(function, Table | Affine) else 0.001


def descend(values: Any, name: str, gradient: Tensor, adam: Adam, share: float = 1.0) -> dict[str, Tensor]:
    """Return the parameters called ``name`` and their moments, ``name_adam``, after a step down the gradient."""
    return descend_all(values, adam, share, **{name: gradient})


def descend_all(values: Any, adam: Adam, share: float = 1.0, **gradients: Tensor) -> dict[str, Tensor]:
    """Return the same of all parameters of which there is a gradient."""
    before = [part(values, f"{name}_adam") for name in gradients]
    thetas, moments = adam.together([values[name] for name in gradients], list(gradients.values()), before, share)
    after: dict[str, Tensor] = dict(zip(gradients, thetas, strict=True))
    for name, each in zip(gradients, moments, strict=True):
        after |= named(f"{name}_adam", each)
    return after


def begun(adam: Adam, **parameters: Tensor) -> dict[str, Tensor]:
    """Return first parameters by name, and the moments of their steps."""
    moments = {f"{name}_adam": adam.init(theta) for name, theta in parameters.items()}
    return {**parameters, **{key: x for name, parts in moments.items() for key, x in named(name, parts).items()}}
