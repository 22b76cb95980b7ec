"""Any Pyro or torch optimiser, as the ``PyroOptim`` that ``pyro.infer.SVI`` asks for."""

from collections.abc import Iterable
from typing import Any

import pyro.optim
import torch
from torch import Tensor

from cai.errors import fault

EXACT: dict[str, Any] = {"lr": 0.1, "betas": (0.9, 0.95)}
"""Adam's settings where the gradient is exact: early steps are huge, so that they must soon be forgotten."""
NOISY: dict[str, Any] = {"lr": 0.01, "betas": (0.9, 0.99)}
"""Adam's settings where the gradient is an estimate, or goes through a network."""


class _Torch(pyro.optim.PyroOptim):
    """A torch optimiser that has its parameters already; what else there is to fit (a baseline) goes to Adam."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        super().__init__(type(optimizer), {})
        self.optimizer = optimizer
        self.rest = adam(**NOISY)
        self.known = {id(p) for group in optimizer.param_groups for p in group["params"]}

    def __call__(self, params: Iterable[Tensor], *args: Any, **kwargs: Any) -> None:
        self.optimizer.step()
        self.rest([p for p in params if id(p) not in self.known])

    def get_state(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer.state_dict(), "rest": self.rest.get_state()}

    def set_state(self, state_dict: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state_dict["optimizer"])
        self.rest.set_state(state_dict["rest"])


def adam(**settings: Any) -> pyro.optim.PyroOptim:
    """Return Adam as Pyro knows it."""
    return pyro.optim.PyroOptim(torch.optim.Adam, settings)


def as_optimizer(optimizer: Any, *, exact: bool, network: bool) -> pyro.optim.PyroOptim:
    """Read an optimiser: None is Adam with settings that suit; a Pyro or a torch one is taken as it is.

    Raises:
        WorldError: it is none, or one that needs a closure (LBFGS), which SVI does not give.
    """
    if optimizer is None:
        return adam(**(EXACT if exact and not network else NOISY))
    if isinstance(optimizer, pyro.optim.PyroOptim):
        return optimizer
    expected = "a pyro.optim optimiser, or a torch.optim one of the policy's parameters"
    if isinstance(optimizer, torch.optim.LBFGS):
        raise fault("fit, optimizer", "LBFGS, which needs a closure", expected + " that steps without one")
    if isinstance(optimizer, torch.optim.Optimizer):
        return _Torch(optimizer)
    raise fault("fit, optimizer", f"a {type(optimizer).__name__}", expected)
