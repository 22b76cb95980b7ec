"""The temperature α as it is given: a number, several, or a tensor of any precision."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cai.compile.model import Model
from cai.errors import fault


def as_temperature(temperature: float | Sequence[float] | Tensor, model: Model | None = None) -> Tensor:
    """Return α as a tensor of the compiled world's dtype and device; float64 where there is none.

    A tensor of lower precision is read as it was written: ``torch.tensor(0.1)``, a float32, is 0.1 and not
    0.100000001, the shortest decimal that this dtype rounds to it; and so is NumPy's ``float32(0.1)``.

    Raises:
        WorldError: a temperature is not a positive, finite number.
    """
    dtype, device = (torch.float64, None) if model is None else (model.dtype, model.device)
    try:
        if isinstance(temperature, np.generic | np.ndarray):
            temperature = torch.as_tensor(temperature)
        alpha = torch.as_tensor(temperature, dtype=dtype, device=device)
        if isinstance(temperature, Tensor):
            alpha = alpha + (_as_written(temperature).to(alpha) - alpha).detach()
    except (TypeError, ValueError, RuntimeError):
        raise fault("temperature", f"{temperature!r}", "a positive number, or several") from None
    if not bool(((alpha > 0) & alpha.isfinite()).all()) or alpha.numel() == 0:
        raise fault("temperature", f"{alpha.tolist()}", "positive, finite numbers (the limit 0 is the rule HARD)")
    return alpha


def _as_written(temperature: Tensor) -> Tensor:
    """Return float64 numbers, of each the shortest decimal that rounds to it in its own dtype."""
    exact = temperature.detach().to("cpu", torch.float64)
    if temperature.dtype == torch.float64 or not temperature.is_floating_point():
        return exact

    def shortest(x: float) -> float:
        decimals = (float(f"{x:.{digits}g}") for digits in range(1, 10))
        kind = temperature.dtype
        return next((d for d in decimals if float(torch.tensor(d, dtype=torch.float64).to(kind)) == x), x)

    return exact.apply_(shortest)


def single_temperature(temperature: float | Sequence[float] | Tensor) -> Tensor:
    """Return α for a form that takes no batch.

    Raises:
        WorldError: it is not one positive, finite number.
    """
    alpha = as_temperature(temperature)
    if alpha.dim():
        raise fault("temperature", f"{alpha.numel()} temperatures", "one temperature for a world in this form")
    return alpha.detach()
