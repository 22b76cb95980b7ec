"""Regressors that fit Q to targets: a table of means, a network, or an object with fit and predict.

A fit is kept as one tensor, so that a learner's state can be packed in a file: of a table its means, of a network its
θ, of another regressor the targets, from which the same fit can be made again.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot
from torch.utils.weak import WeakTensorKeyDictionary

from cai.errors import fault, user_code
from cai.learn.batch import Transitions
from cai.learn.functions import Adam, Function, function_of, width_of
from cai.simulate.simulator import Simulator


@runtime_checkable
class Regressor(Protocol):
    """Fits Q(s_i, a_i) ≈ y_i."""

    @property
    def dtype(self) -> torch.dtype:
        """In which it works."""

    def fit(self, simulator: Simulator, data: Transitions, y: Tensor, before: Tensor | None) -> Tensor:
        """Return what is to be kept of a fit to the targets ``y [N]``, which may begin at the fit before."""

    def q(self, simulator: Simulator, fitted: Tensor, data: Transitions, state: Any) -> Tensor:
        """Return Q(s, ·), ``[*, A]``, of a fit to these data."""


@dataclass(frozen=True)
class Means:
    """Q(s,a) = the mean of the targets there: the Bellman backup under the empirical dynamics.

    What is not in the data is not trusted: an action never tried in a state is forbidden there (-inf), and a state in
    which nothing was tried is worth as little as the least of the means, its policy the prior.
    """

    dtype: torch.dtype = torch.float64

    def fit(self, simulator: Simulator, data: Transitions, y: Tensor, before: Tensor | None) -> Tensor:
        """Return the means, ``[S, A]``."""
        n = n_actions(simulator)
        cell = _rows(simulator, data.states) * n + numbers(simulator, data)
        states = simulator.variables.state_space
        assert states is not None
        count = torch.bincount(cell, minlength=states.size * n)
        total = torch.zeros(len(count), dtype=y.dtype).index_add_(0, cell, y)
        q = torch.where(count > 0, total / count, -torch.inf).reshape(-1, n)
        nothing = (count.reshape(-1, n) == 0).all(-1, keepdim=True)
        finite = q[q > -torch.inf]
        return torch.where(nothing, finite.min() if len(finite) else 0.0, q)

    def q(self, simulator: Simulator, fitted: Tensor, data: Transitions, state: Any) -> Tensor:
        """Return rows of the table."""
        return fitted[_rows(simulator, state)]


@dataclass(frozen=True)
class Descent:
    """A network on the features, Q(s, ·) ``[*, A]``, by Adam on the whole batch, from the fit before (Riedmiller 2005).

    It sees features and targets shifted and scaled to mean 0 and deviation 1; the step size falls to 0 over the epochs.

    Attributes:
        network: hidden widths, or a torch module.
        epochs: steps of Adam.
        lr: the first step size.
    """

    network: Any
    epochs: int
    lr: float
    dtype: torch.dtype = torch.float32

    def fit(self, simulator: Simulator, data: Transitions, y: Tensor, before: Tensor | None) -> Tensor:
        """Return θ, and after it means and deviations of the targets and of each feature."""
        require_finite(y)
        function, n = self._function(simulator), width_of(simulator)
        x, a = function.inputs(data.states, 0), numbers(simulator, data)
        shape = torch.cat([torch.stack(_moments(y)), *_moments(x)])
        theta = function.init() if before is None else before[: -len(shape)]
        x, y = (x - shape[2 : 2 + n]) / shape[2 + n :], (y - shape[0]) / shape[1]
        adam = Adam(self.lr)
        moments = adam.init(theta)
        for epoch in range(self.epochs):
            theta = theta.detach().requires_grad_()
            loss = squared_loss(_outputs(function, theta, x, n_actions(simulator)), a, y)
            (gradient,) = torch.autograd.grad(loss, theta)
            theta, moments = adam(theta, gradient, moments, 1 - epoch / self.epochs)
        return torch.cat([theta, shape])

    def q(self, simulator: Simulator, fitted: Tensor, data: Transitions, state: Any) -> Tensor:
        """Return the network's outputs, in reward units."""
        function, n = self._function(simulator), width_of(simulator)
        theta, shape = fitted[: -2 - 2 * n], fitted[-2 - 2 * n :]
        x = (function.inputs(state, 0) - shape[2 : 2 + n]) / shape[2 + n :]
        return shape[0] + shape[1] * function(theta, x)

    def _function(self, simulator: Simulator) -> Function:
        return function_of(simulator, n_actions(simulator), self.network)


@dataclass(frozen=True)
class ExternalRegressor:
    """Anything with ``fit(x, y)`` and ``predict(x)``, on features and one-hot actions (Ernst et al. 2005).

    Attributes:
        model: the unfitted regressor; every fit is made by a copy. The same targets must make the same fit.
    """

    model: Any
    dtype: torch.dtype = torch.float64
    models: Any = field(default_factory=WeakTensorKeyDictionary, repr=False)  # cache the fits while they are needed

    def fit(self, simulator: Simulator, data: Transitions, y: Tensor, before: Tensor | None) -> Tensor:
        """Return the targets."""
        require_finite(y)
        return y

    def q(self, simulator: Simulator, fitted: Tensor, data: Transitions, state: Any) -> Tensor:
        """Return the predictions for every action."""
        if fitted not in self.models:
            x = self._inputs(simulator, data.states, numbers(simulator, data))
            model = deepcopy(self.model)
            with user_code("regressor, fit", "one that takes x [N, F + A] and y [N]"):
                model.fit(x, fitted.numpy())
            self.models[fitted] = model
        n = n_actions(simulator)
        features = simulator.features(state)
        flat = features.reshape(-1, features.shape[-1])
        x = _joined(flat.repeat_interleave(n, 0), torch.arange(n).repeat(len(flat)), n)
        with user_code("regressor, predict", "one that takes x [N, F + A]"):
            predicted = torch.as_tensor(np.asarray(self.models[fitted].predict(x))).to(self.dtype)
        if predicted.numel() != len(x):
            raise fault("regressor, predict", f"shape {[*predicted.shape]}", f"one number for each row, [{len(x)}]")
        return predicted.reshape(*features.shape[:-1], n)

    def _inputs(self, simulator: Simulator, states: Any, actions: Tensor) -> Any:
        return _joined(simulator.features(states), actions, n_actions(simulator))


def squared_loss(q: Tensor, a: Tensor, y: Tensor) -> Tensor:
    """Return 1/N Σ_i (Q(s_i, a_i) - y_i)², of ``q [N, A]``."""
    return (q.gather(-1, a.unsqueeze(-1)).squeeze(-1) - y).square().mean()


def regressor_of(name: str, regressor: Any, finite: bool, epochs: int, lr: float, seed: int) -> Regressor:
    """Return what fits: a table where states are finite and a network where not, unless something is given.

    Raises:
        WorldError: it cannot be fitted.
    """
    if regressor is None:
        return Means() if finite else Descent((64, 64), epochs, lr)
    if isinstance(regressor, nn.Module) or (isinstance(regressor, Sequence) and not isinstance(regressor, str)):
        return Descent(regressor, epochs, lr)
    if not callable(getattr(regressor, "fit", None)) or not callable(getattr(regressor, "predict", None)):
        expected = "None, hidden widths, a torch module, or an object with fit(x, y) and predict(x)"
        raise fault(f"{name}, regressor", f"{regressor!r}", expected)
    if getattr(regressor, "random_state", 0) is None:
        regressor = deepcopy(regressor)
        regressor.random_state = seed
    return ExternalRegressor(regressor)


def require_finite(y: Tensor) -> None:
    """Raise unless the targets can be fitted by a function that is finite everywhere."""
    if not bool(y.isfinite().all()):
        raise fault("regressor, targets", "rewards of -inf, or values that grow without bound", "finite ones")


def numbers(simulator: Simulator, data: Transitions) -> Tensor:
    """Return the numbers of the actions, ``[N]``."""
    space = simulator.variables.action_space
    assert space is not None
    return space.join(space.unpack(data.actions))


def n_actions(simulator: Simulator) -> int:
    """Return A."""
    space = simulator.variables.action_space
    assert space is not None
    return space.size


def _rows(simulator: Simulator, state: Any) -> Tensor:
    space = simulator.variables.state_space
    assert space is not None
    return space.join(space.unpack(state))


def _joined(features: Tensor, actions: Tensor, n: int) -> Any:
    return torch.cat([features.double(), one_hot(actions, n).double()], -1).numpy()


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    deviation = x.std(0, correction=0)
    return x.mean(0), torch.where(deviation > 0, deviation, 1.0)


def _outputs(function: Function, theta: Tensor, x: Tensor, n: int) -> Tensor:
    with user_code("regressor", f"a module on {x.shape[-1]} features"):
        out = function(theta, x)
    if out.shape != (len(x), n):
        raise fault("regressor, output", f"shape {[*out.shape]}", f"[N, A] = {[len(x), n]}")
    return out
