"""solve: the one verb of exact inference."""

from collections.abc import Sequence
from typing import overload

import numpy as np
import torch
from torch import Tensor

from cai.compile.conditioned import conditioned
from cai.compile.factor_model import Factors
from cai.compile.table_model import Tables
from cai.errors import ImpossibleError, fault
from cai.exact.diagnose import blockers, evidence_explained
from cai.exact.factors.factored_messages import FactoredMessages
from cai.exact.fixed_point import differentiable_fixed_point, fixed_point, require_stationary
from cai.exact.forms import compiled
from cai.exact.gradient import differentiable_sweep
from cai.exact.messages import Messages
from cai.exact.product import SeparateMessages
from cai.exact.rules import POSTERIOR, Rule, assumption
from cai.exact.solve_factors import solve_factors
from cai.world.conditions import Given, read_conditions
from cai.world.definition import World


@overload
def solve(
    world: Tables,
    rule: Rule = ...,
    *,
    temperature: float | Sequence[float] | Tensor = ...,
    form: str = ...,
    observe: Given | None = ...,
    do: Given | None = ...,
) -> Messages: ...
@overload
def solve(
    world: Factors,
    rule: Rule = ...,
    *,
    temperature: float | Sequence[float] | Tensor = ...,
    form: str = ...,
    observe: Given | None = ...,
    do: Given | None = ...,
) -> FactoredMessages | SeparateMessages: ...
@overload
def solve(
    world: World,
    rule: Rule = ...,
    *,
    temperature: float | Sequence[float] | Tensor = ...,
    form: str = ...,
    observe: Given | None = ...,
    do: Given | None = ...,
) -> Messages | FactoredMessages | SeparateMessages: ...
def solve(
    world: World | Tables | Factors,
    rule: Rule = POSTERIOR,
    *,
    temperature: float | Sequence[float] | Tensor = 1.0,
    form: str = "auto",
    observe: Given | None = None,
    do: Given | None = None,
) -> Messages | FactoredMessages | SeparateMessages:
    """Solve a world exactly under a rule: one backward sweep, or the fixed point for the infinite horizon.

    ``log Z = log Σ p(s_0) exp(v_0/α)`` under POSTERIOR, ``ELBO* = Σ p(s_0) v_0/α`` under VARIATIONAL, in nats (Levine
    2018, sections 2.3 and 3). ``v``, ``q``, ``value``, ``log_evidence`` and ``elbo`` are differentiable in rewards,
    log-probabilities, prior and temperature, by the analytic adjoint; a second derivative is refused.

    A world that is seen in part, with ``observe``, is solved as if the state were seen: under a rule that holds the
    dynamics an upper bound on what can be had by acting on what is seen, which is ``cai.partial.solve``'s.

    Args:
        world: a world, or the tables or factors it was compiled to.
        rule: POSTERIOR, VARIATIONAL, HARD, MAP, PLANNING or RISK(eta).
        temperature: α > 0, reward units; several at once make a batch, broadcast against stacked worlds.
        form: "tables", "factors", or "auto": tables unless factors need fewer operations, or tables cannot be had.
            ``.form`` of the result says which was used.
        observe: evidence beside the optimality nodes, values by site, ``{"floor_5": 3}``; see ``cai.condition``.
        do: interventions, values by site, ``{"door_2": 1}``.

    Returns:
        Messages, with ``v`` of shape ``[*B, T+1, S]`` (``[*B, S]`` for the infinite horizon); on factors
        FactoredMessages, for one temperature, and not differentiable in it; SeparateMessages where a large joint state
        falls into parts that nothing ties.

    Raises:
        WorldError: the world or an argument does not conform.
        IntractableError: the world can be neither tabulated nor factorised, or would need too much memory.
        ImpossibleError: the start value is -inf; for POSTERIOR the evidence is zero. On tables the message names the
            states.
        NotConvergedError: the infinite horizon has no fixed point in reach.
    """
    if not isinstance(rule, Rule):
        raise fault("rule", f"{rule!r}", "cai.POSTERIOR, VARIATIONAL, HARD, MAP, PLANNING or RISK(eta)")
    if form == "auto" and not isinstance(world, Tables | Factors) and assumption(rule.over_outcomes) is None:
        form = "tables"  # the mean of a user's own cannot be taken variable by variable
    given = read_conditions(observe, do)
    found = conditioned(world, compiled(world, form), given)
    with evidence_explained(rule, given):
        if isinstance(found, Factors):
            return solve_factors(rule, found, single_temperature(temperature).to(found.dtype))
        return _solve_tables(found, rule, temperature)


def _solve_tables(tables: Tables, rule: Rule, temperature: float | Sequence[float] | Tensor) -> Messages:
    alpha = as_temperature(temperature, tables)
    if tables.horizon is None:
        require_stationary(tables)
        with torch.no_grad():
            point = fixed_point(rule, tables, alpha)
        v, iterations, bound = point.v, point.iterations, point.error_bound
        if torch.is_grad_enabled():
            v = differentiable_fixed_point(rule, tables, alpha, v)
    else:
        v, iterations, bound = differentiable_sweep(rule, tables, alpha), tables.horizon, 0.0
    messages = Messages(tables, rule, alpha, v, "tables", iterations, bound)
    _require_possible(messages)
    return messages


def as_temperature(temperature: float | Sequence[float] | Tensor, tables: Tables | None = None) -> Tensor:
    """Return α as a tensor of the tables' dtype and device; float64 where there are no tables.

    A tensor of lower precision is read as it was written: ``torch.tensor(0.1)``, a float32, is 0.1 and not
    0.100000001, the shortest decimal that this dtype rounds to it; and so is NumPy's ``float32(0.1)``.

    Raises:
        WorldError: a temperature is not a positive, finite number.
    """
    like = torch.zeros((), dtype=torch.float64) if tables is None else tables.log_initial
    try:
        if isinstance(temperature, np.generic | np.ndarray):
            temperature = torch.as_tensor(temperature)
        alpha = torch.as_tensor(temperature, dtype=like.dtype, device=like.device)
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
    """Return α for a world that is kept in factors.

    Raises:
        WorldError: it is not one positive, finite number.
    """
    alpha = as_temperature(temperature)
    if alpha.dim():
        raise fault("temperature", f"{alpha.numel()} temperatures", "one at a time for a world that is kept in factors")
    return alpha.detach()


def _require_possible(messages: Messages) -> None:
    with torch.no_grad():
        impossible = messages.value == -torch.inf
    if not bool(impossible.any()):
        return
    tables = messages.tables
    if tables.batch_shape:
        worlds = impossible.nonzero().tolist()
        raise ImpossibleError(
            f"{messages.rule}: the start value is -inf in batch entries {worlds}; solve one to see why"
        )
    risky = messages.rule.lost_by_one
    found = blockers(tables, risk=risky)
    if messages.rule == POSTERIOR:
        lead = "the evidence is zero: no trajectory can be optimal"
    else:
        why = "every policy risks a forbidden reward" if risky else "no trajectory can be optimal"
        lead = f"under {messages.rule} the start value is -inf: {why}"
    raise ImpossibleError("; ".join([lead, *(str(finding) for finding in found[:5])]))
