"""The sweep of a long horizon and few states, parallel in time: POSTERIOR by doubling.

    U = [u_T, u_{T-1}, …, u_{T-m+1}] known, P = M^m:      the next m columns are P U,      and M^2m is P P

Nine products reach a horizon of 500, and a product costs little more than a step.
"""

import torch
from torch import Tensor

from cai.exact.rules import POSTERIOR
from cai.exact.tables.backup import Equation
from cai.exact.tables.backup_forms import out_of_range
from cai.exact.tables.merged import merge

SHORTEST = 1000
"""Shorter sweeps are quick step by step."""
LARGEST = 1_000_000
"""Horizon times states up to which doubling is trusted: its rounding grows with both, to 2e-10 nats at the worst."""
_LEAST = 2.0**-900


def pays(equation: Equation, T: int, scale: float) -> bool:
    """Return whether a stationary world has few enough states, and a horizon long enough, to be doubled."""
    S = equation.slice.log_prior.shape[-2]
    return equation.rule == POSTERIOR and SHORTEST <= T <= LARGEST // S and not out_of_range(equation, scale)


def doubled(equation: Equation, terminal: Tensor, T: int) -> Tensor | None:
    """Return POSTERIOR's v of all times, ``[*B, T+1, S]``, reward units; None where a float cannot hold a product."""
    alpha = equation.alpha
    S, columns = terminal.shape[-1], T + 1
    power = dense(equation)
    terminal = (terminal / alpha[..., None]).expand(*power.shape[:-2], S)
    u = torch.nn.functional.pad(terminal, (0, power.shape[-1] - S)).unsqueeze(-1)  # after death v = 0
    while u.shape[-1] < columns:
        m = u.shape[-1]
        further = product(power, u[..., : columns - m])
        if further is None:
            return None
        u = torch.cat([u, further], -1)
        squared = product(power, power) if u.shape[-1] < columns else power
        if squared is None:
            return None
        power = squared
    return alpha[..., None, None] * u[..., :S, :].flip(-1).mT


def dense(equation: Equation) -> Tensor:
    """Return log M, nats, ``[*B, S, S]``; with a discount ``[*B, S+1, S+1]``, death as the last state."""
    merged, log_survival = merge(equation), equation.log_survival
    log_m = (merged.log_m + merged.gain / equation.alpha[..., None, None, None]).squeeze(-2)
    to = merged.successor.squeeze(-2)
    S = log_m.shape[-2]
    # Entries that a row does not need point to state 0 with no weight: the largest of those that meet is the row's own.
    M = log_m.new_full((*log_m.shape[:-1], S), -torch.inf).scatter_reduce(-1, to.expand(log_m.shape), log_m, "amax")
    if not log_survival[1] > -torch.inf:
        return M
    dying = log_survival[1] + M.logsumexp(-1, keepdim=True)
    last = torch.nn.functional.pad(torch.zeros_like(M[..., :1, :1]), (S, 0), value=-torch.inf)
    return torch.cat([torch.cat([log_survival[0] + M, dying], -1), last], -2)


def product(a: Tensor, b: Tensor) -> Tensor | None:
    """Return ``log(exp(a) exp(b))``, nats; None where an entry may have lost what counts.

    With the largest of each row of a and of each column of b taken out, no term is above 1. What underflows is below
    2^-1022, so an entry of 2^-900 at least has lost nothing; and an entry that no term reaches is truly 0.
    """
    rows, columns = _finite(a.amax(-1, keepdim=True)), _finite(b.amax(-2, keepdim=True))
    total = (a - rows).exp() @ (b - columns).exp()
    reached = (a > -torch.inf).to(a.dtype) @ (b > -torch.inf).to(a.dtype) > 0
    if bool((reached & (total < _LEAST)).any()):
        return None
    return rows + columns + total.log()


def _finite(x: Tensor) -> Tensor:
    return torch.where(x == -torch.inf, 0.0, x)
