"""Any Pyro or torch optimiser, as the ``PyroOptim`` that ``pyro.infer.SVI`` asks for."""

from collections.abc import Iterable, Mapping
from typing import Any

import pyro
import pyro.optim
import torch
from pyro.optim.lr_scheduler import PyroLRScheduler
from torch import Tensor, nn

from cai.errors import fault

EXACT: dict[str, Any] = {"lr": 0.1, "betas": (0.9, 0.95), "settling": 100.0}
"""Where the gradient is exact: early ones are huge and must soon be forgotten, late ones tiny, and steps with them."""
NOISY: dict[str, Any] = {"lr": 0.01, "betas": (0.9, 0.99), "settling": 1000.0}
"""Where the gradient is an estimate, or goes through a network."""


class SettlingAdam(torch.optim.Adam):
    """Adam with the step size ``lr / (1 + n/settling)`` at step n: with a constant one it never comes to rest."""

    def __init__(self, params: Any, *, lr: float, betas: tuple[float, float], settling: float) -> None:
        super().__init__(params, lr=lr, betas=betas)
        for group in self.param_groups:
            group.update(first_lr=lr, settling=settling, steps=0)

    def step(self, closure: Any = None) -> Any:
        """Take a step."""
        for group in self.param_groups:
            group["lr"] = group["first_lr"] / (1 + group["steps"] / group["settling"])
            group["steps"] += 1
        return super().step(closure)


class _Torch(pyro.optim.PyroOptim):
    """A torch optimiser that has its parameters already; what else there is to fit (a baseline) goes to Adam."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        super().__init__(type(optimizer), {})
        self.optimizer = optimizer
        self.rest = adam(NOISY)
        self.pt_optim_args = {key: value for key, value in optimizer.defaults.items() if key != "params"}
        self.known = {id(p) for group in optimizer.param_groups for p in group["params"]}

    def __call__(self, params: Iterable[Tensor], *args: Any, **kwargs: Any) -> None:
        self.optimizer.step()
        self.rest([p for p in params if id(p) not in self.known])

    def get_state(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer.state_dict(), "rest": self.rest.get_state()}

    def set_state(self, state_dict: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state_dict["optimizer"])
        self.rest.set_state(state_dict["rest"])


def adam(settings: Mapping[str, Any]) -> pyro.optim.PyroOptim:
    """Return the settling Adam as Pyro takes it."""
    return pyro.optim.PyroOptim(SettlingAdam, dict(settings))


def as_optimizer(optimizer: Any, policy: nn.Module, *, exact: bool, network: bool) -> pyro.optim.PyroOptim:
    """Read an optimiser: None is Adam with settings that suit, a number its step size, all else is taken as it is.

    Raises:
        WorldError: it is none, or one that needs a closure (LBFGS), which SVI does not give.
    """
    settings = EXACT if exact and not network else NOISY
    if optimizer is None:
        return adam(settings)
    if isinstance(optimizer, float | int) and not isinstance(optimizer, bool) and 0 < optimizer < float("inf"):
        return adam({**settings, "lr": float(optimizer)})
    if isinstance(optimizer, pyro.optim.PyroOptim):
        return optimizer
    expected = "a step size above 0, a pyro.optim optimiser, or a torch.optim one of the policy's parameters"
    if isinstance(optimizer, torch.optim.LBFGS):
        raise fault("fit, optimizer", "LBFGS, which needs a closure", expected + " that steps without one")
    if isinstance(optimizer, torch.optim.Optimizer):
        wrapped = _Torch(optimizer)
        missing = [name for name, p in policy.named_parameters() if p.requires_grad and id(p) not in wrapped.known]
        if missing:
            raise fault("fit, optimizer", f"one without the policy's parameters {missing}", expected)
        return wrapped
    raise fault("fit, optimizer", f"a {type(optimizer).__name__}", expected)


def schedule(optimizer: Any, loss: float) -> None:
    """Let a Pyro scheduler take its step; one that watches a plateau sees the loss."""
    if isinstance(optimizer, PyroLRScheduler):
        watches = optimizer.pt_scheduler_constructor is torch.optim.lr_scheduler.ReduceLROnPlateau
        optimizer.step(*([loss] if watches else []))


def restore(optimizer: Any, state: dict[str, Any], modules: Mapping[str, nn.Module]) -> None:
    """Put an optimiser's state back; for a scheduler by hand, since Pyro 1.9.2 forgets the optimiser inside it."""
    if not isinstance(optimizer, PyroLRScheduler):
        optimizer.set_state(state)
        return
    for module in modules.values():
        for parameter in (p for p in module.parameters() if p.requires_grad):
            both = optimizer._get_optim(parameter)
            saved = state[str(pyro.get_param_store().param_name(parameter))]
            both.load_state_dict(saved["scheduler"])
            both.optimizer.load_state_dict(saved["optimizer"])
            optimizer.optim_objs[parameter] = both
            optimizer.grad_clip[parameter] = optimizer._get_grad_clip(parameter)  # type: ignore[arg-type]
