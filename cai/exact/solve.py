"""solve: exact inference on a world under a rule."""

from collections.abc import Sequence

from torch import Tensor

from cai.compile.conditioned import conditioned
from cai.errors import fault
from cai.exact.diagnose import evidence_explained, require_possible
from cai.exact.fixed_point import fixed_point
from cai.exact.forms import Compiled, compiled, operator, otherwise_approximate
from cai.exact.gradient import differentiable_fixed_point, differentiable_sweep
from cai.exact.messages import Messages
from cai.exact.operator import Operator
from cai.exact.rules import POSTERIOR, Rule, require_a_rule
from cai.world.conditions import Given, read_conditions
from cai.world.definition import World


def solve(
    world: World | Compiled,
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

    A partially observed world, with ``observe``, is solved as if the whole state were seen. Under VARIATIONAL and HARD
    this is an upper bound; ``cai.partial.solve`` finds the best policy that sees only the observations.

    Args:
        world: a world, or what it was compiled to: tables, factors, a linear-Gaussian or a switching system.
        rule: POSTERIOR, VARIATIONAL, HARD, MAP, PLANNING or RISK(eta).
        temperature: α > 0, reward units; several at once make a batch, broadcast against stacked worlds.
        form: "tables", "factors", "gaussian" (see ``linearise``), "switching" or "auto": "gaussian" for real variables,
            "switching" for finite and real ones; else factors where they need fewer operations or tables do not fit,
            else tables. ``.form`` of the result says which was used.
        observe: evidence beside the optimality nodes, values by site, ``{"floor_5": 3}``, ``{"position_5": 1.5}``; see
            ``cai.condition``.
        do: interventions, values by site, ``{"door_2": 1}``.

    Returns:
        Messages, with ``v`` of shape ``[*B, T+1, S]`` (``[*B, S]`` for the infinite horizon). Factors take one
        temperature, and are not differentiable in it. Where a large joint state falls into independent parts, ``v`` is
        a tuple with one tensor for each part. On real states ``v`` is a ``Quadratic`` of all times; on a mixed world a
        tuple of functions, one for each time.

    Raises:
        WorldError: the world or an argument is not valid.
        IntractableError: the world can be compiled to none of the forms, or needs too much memory.
        ImpossibleError: the start value is -inf; for POSTERIOR the evidence is zero. On tables the message names the
            states.
        NotConvergedError: the backups of the infinite horizon do not converge.
    """
    require_a_rule(rule)
    conditions = read_conditions(observe, do)
    model = conditioned(world, compiled(world, form, under=[rule]), conditions)
    with evidence_explained(rule, conditions):
        return solved(operator(model, rule, temperature))


def solved(op: Operator) -> Messages:
    """Return the messages of an operator: one backward sweep, or the fixed point for the infinite horizon.

    Raises:
        IntractableError, ImpossibleError, NotConvergedError: see ``solve``.
    """
    with otherwise_approximate():
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
