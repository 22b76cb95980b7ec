"""solve: the one verb of exact inference."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cai.compile.conditioned import conditioned
from cai.compile.factor_model import Factors
from cai.compile.table_model import Tables
from cai.errors import fault
from cai.exact.diagnose import evidence_explained, require_possible
from cai.exact.factors.factor_operator import FactorOperator
from cai.exact.fixed_point import fixed_point
from cai.exact.forms import compiled
from cai.exact.gradient import differentiable_fixed_point, differentiable_sweep
from cai.exact.messages import Messages
from cai.exact.operator import Operator
from cai.exact.parts import parts_of
from cai.exact.product import ProductOperator
from cai.exact.rules import POSTERIOR, Rule, assumption
from cai.exact.tables.table_operator import TableOperator
from cai.world.conditions import Given, read_conditions
from cai.world.definition import World

JOINT = 1 << 16
"""Joint states from which on independent parts are solved apart."""


def solve(
    world: World | Tables | Factors,
    rule: Rule = POSTERIOR,
    *,
    temperature: float | Sequence[float] | Tensor = 1.0,
    form: str = "auto",
    observe: Given | None = None,
    do: Given | None = None,
) -> Messages:
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
        Messages, with ``v`` of shape ``[*B, T+1, S]`` (``[*B, S]`` for the infinite horizon). Factors take one
        temperature, and are not differentiable in it; where a large joint state falls into parts that nothing ties,
        ``v`` is a tuple, an entry a part.

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
    conditions = read_conditions(observe, do)
    model = conditioned(world, compiled(world, form), conditions)
    with evidence_explained(rule, conditions):
        return solved(operator(model, rule, temperature))


def operator(
    model: Tables | Factors, rule: Rule = POSTERIOR, temperature: float | Sequence[float] | Tensor = 1.0
) -> Operator:
    """Return a compiled world under a rule at a temperature, in the first form that can take it.

    Factors whose joint state is large, and that fall apart, are solved part by part. With a discount the parts die
    together, which only a rule that averages outcomes does not see; and of a mean that says nothing of itself it is not
    known that it adds up over parts.

    Raises:
        WorldError: a temperature is not a positive, finite number.
    """
    if isinstance(model, Tables):
        return TableOperator(model, rule, as_temperature(temperature, model))
    alpha = single_temperature(temperature).to(model.dtype)
    if model.states.size >= JOINT and rule.is_known and (model.discount == 1 or rule.averages):
        parts = parts_of(model)
        if len(parts) > 1:
            return ProductOperator(model, tuple(FactorOperator(part, rule, alpha) for part in parts))
    return FactorOperator(model, rule, alpha)


def solved(op: Operator) -> Messages:
    """Return the messages of an operator: one backward sweep, or the fixed point for the infinite horizon.

    Raises:
        IntractableError, ImpossibleError, NotConvergedError: see ``solve``.
    """
    op.require_room()
    if op.model.horizon is None:
        require_stationary(op)
        point = fixed_point(op)
        v = differentiable_fixed_point(op, point.v)
        messages = Messages(op, v, point.iterations, point.error_bound)
    else:
        messages = Messages(op, differentiable_sweep(op), op.model.horizon)
    require_possible(op, messages.value.detach())
    return messages


def require_stationary(op: Operator) -> None:
    """Raise a ``WorldError`` where an infinite horizon meets slices that differ over time."""
    if op.model.timed:
        raise fault("horizon", "None with slices that differ over time", "stationary slices, or a finite horizon")


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
