"""ELBO(π) three ways: on the tables, on the program by enumeration, on the program by sampling."""

from dataclasses import dataclass
from typing import Any

import torch
from pyro.infer import TraceEnum_ELBO, config_enumerate
from pyro.infer.importance import vectorized_importance_weights
from torch import Tensor

from cai.compile.table_model import Tables
from cai.compile.tabulate import tabulate
from cai.errors import IntractableError, fault, user_code
from cai.exact.rules import Rule
from cai.exact.solve import solve
from cai.exact.tables.policy_evaluation import policy_elbo
from cai.exact.temperature import as_temperature
from cai.policies.action_programs import require_actor
from cai.policies.as_policy import as_policy, checked_table
from cai.policies.function import FunctionPolicy
from cai.support.process import precision
from cai.world.definition import World
from cai.world.program import Actor, Guide, trajectory

METHODS = ("auto", "tables", "enumeration", "sampling")
CHUNK = 10_000  # trajectories at once


@dataclass(frozen=True)
class ElboEstimate:
    """An ELBO.

    Attributes:
        value: ELBO(π), nats.
        standard_error: of the value, nats; 0 where it is exact.
        method: how it was had: "tables", "enumeration" or "sampling".
        samples: how many trajectories were drawn; 0 where none was.
    """

    value: float
    standard_error: float
    method: str
    samples: int = 0

    def __str__(self) -> str:
        error = f" ± {self.standard_error:.2g}" if self.samples else ""
        return f"{self.value:.6g}{error} nats by {self.method}"


@torch.no_grad()
def elbo(
    world: World | Tables,
    policy: Any,
    *,
    temperature: float | Tensor = 1.0,
    method: str = "auto",
    samples: int = 10_000,
    seed: int = 0,
) -> ElboEstimate:
    """Compute ELBO(π) = E_π[Σ r]/α - E_π[Σ KL(π ‖ prior)], nats, in one of three ways that agree.

    "tables": forward occupancy and backward values on the compiled tables. "enumeration": Pyro's ``TraceEnum_ELBO`` on
    the trajectory program with the enumerated policy program as guide. "sampling": the mean of
    ``log p(τ, O=1) - log p̂(τ)`` over trajectories drawn from the policy program, with its standard error; it also
    works on worlds that are not finite.

    Args:
        world: a world; tables too, for the method "tables".
        policy: anything that ``evaluate`` takes; on a world without tables, anything that samples the world's action
            sites.
        temperature: α > 0, reward units.
        method: "auto" is "tables" where the world can be tabulated, else "sampling".
        samples: how many trajectories to draw.
        seed: of the samples; torch's global random state does not change.

    Raises:
        WorldError: the world, the policy or an argument is not valid.
        IntractableError: the method needs a finite world, and this world is not.
    """
    if method not in METHODS:
        raise fault("elbo, method", f"{method!r}", f"one of {', '.join(METHODS)}")
    temperature = as_temperature(temperature)
    if temperature.dim():
        raise fault("elbo", f"temperatures {temperature.tolist()}", "one temperature")
    if isinstance(getattr(policy, "policy", policy), Guide):  # its tables would be those of its policy alone
        if method == "tables":
            raise fault("elbo, method", "'tables' for a full guide", "'enumeration' or 'sampling'")
        finite = isinstance(world, Tables) or tables_of(world) is not None
        method = ("enumeration" if finite else "sampling") if method == "auto" else method
    tables = tables_of(world) if method == "auto" else tabulate(world) if method == "tables" else None
    if tables is not None:
        alpha = as_temperature(temperature, tables)
        if isinstance(policy, Rule):
            policy = solve(tables, policy, temperature=alpha)
        log_pi = checked_table(tables, as_policy(tables, policy))
        return ElboEstimate(float(policy_elbo(tables, log_pi, alpha)), 0.0, "tables")
    if isinstance(world, Tables):
        raise fault("elbo, world", f"{world}", "a world, whose program can be run, not its tables")
    actor = as_actor(world, policy, temperature)
    if not isinstance(actor, Guide) and actor is not world:
        require_actor(world, actor.act)
    if method == "enumeration":
        return ElboEstimate(_enumerated(world, actor, temperature), 0.0, "enumeration")
    return sampled(world, actor, temperature, samples, seed)


def tables_of(world: World | Tables) -> Tables | None:
    """Return the world's tables, or None where it has none."""
    try:
        return tabulate(world)
    except IntractableError:
        return None


def as_actor(world: World, policy: Any, temperature: float | Tensor) -> Actor:
    """Read anything that acts as a program that samples the world's action sites; None is the prior."""
    if policy is None:
        return world
    if hasattr(policy, "policy") and not isinstance(policy, Actor):
        return as_actor(world, policy.policy, temperature)
    if isinstance(policy, Actor):
        return policy
    if isinstance(policy, Rule):
        solution: Actor = solve(world, policy, temperature=temperature).policy
        return solution
    if callable(policy):
        return FunctionPolicy(world, policy)
    return as_policy(tabulate(world), policy)


def _enumerated(world: World, actor: Actor, temperature: float | Tensor) -> float:
    with precision(torch.float64):
        model = trajectory(world, temperature=temperature)
        guide = config_enumerate(trajectory(world, actor))
        with user_code("elbo, enumeration", "a world and a policy whose programs run with every variable enumerated"):
            return -float(TraceEnum_ELBO(max_plate_nesting=0).loss(model, guide))


def sampled(world: World, actor: Actor, temperature: float | Tensor, samples: int, seed: int) -> ElboEstimate:
    """ElboEstimate ELBO(π) by drawing trajectories from the policy's program.

    Raises:
        WorldError: fewer than 2 samples.
    """
    if not isinstance(samples, int) or samples < 2:
        raise fault("elbo, samples", f"{samples!r}", "a whole number, at least 2: one draw has no standard error")
    model, guide = trajectory(world, temperature=temperature), trajectory(world, actor)
    weights = []
    with precision(torch.float64), torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        batches = -(-samples // CHUNK)
        for n in (samples * (i + 1) // batches - samples * i // batches for i in range(batches)):
            with user_code("elbo, sampling", "a world and a policy whose programs run for many trajectories at once"):
                weights.append(vectorized_importance_weights(model, guide, num_samples=n, max_plate_nesting=0)[0])
    log_w = torch.cat(weights)
    if bool(log_w.isnan().any()):
        raise fault(
            "elbo, sampling", "a trajectory whose log-probability is NaN", "rewards and probabilities that are not"
        )
    if bool((log_w == -torch.inf).any()):  # a possible trajectory has a reward of -inf, so this is the exact answer
        return ElboEstimate(-torch.inf, 0.0, "sampling", len(log_w))
    return ElboEstimate(float(log_w.mean()), float(log_w.std() / len(log_w) ** 0.5), "sampling", len(log_w))
