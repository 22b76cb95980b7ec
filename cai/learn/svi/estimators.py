"""The estimators of the ELBO's gradient: each names a Pyro objective, the model and the guide that go with it.

| name            | Pyro objective | gradient                                                              |
|-----------------|----------------|-----------------------------------------------------------------------|
| tables          | (below)        | exact, analytic, on the compiled tables                               |
| exact           | (below)        | exact, of an affine-Gaussian policy on a linear-Gaussian world        |
| enumeration     | TraceEnum_ELBO | exact, by summing out every site of the program, linear in T          |
| score           | TraceGraph_ELBO| score function with dependency tracking and a learned baseline        |
| reparameterised | Trace_ELBO     | through the samples, where every site has a reparameterised draw      |
"""

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro.infer import ELBO, Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO, config_enumerate
from torch import Tensor, nn

from cai.compile.linear_model import LinearGaussian
from cai.compile.linearise import linearise
from cai.compile.table_model import Tables
from cai.compile.tabulate import tabulate
from cai.errors import Finding, IntractableError, fault, user_code
from cai.exact.gaussian.affine_elbo import affine_elbo, reward_and_prior
from cai.exact.gaussian.gaussian_operator import GaussianOperator
from cai.exact.rules import VARIATIONAL
from cai.exact.tables.policy_evaluation import policy_elbo
from cai.learn.names import ESTIMATORS
from cai.learn.svi.baseline import Baseline, with_baseline
from cai.learn.svi.objective import sampled
from cai.learn.svi.unscored import unscored
from cai.policies.affine_gaussian import Conditional
from cai.policies.as_policy import as_policy, log_table
from cai.support.process import alone
from cai.support.wording import meant
from cai.world.definition import World
from cai.world.program import Guide, trajectory
from cai.world.spec import read


@dataclass(frozen=True)
class Objective:
    """What is fitted to what.

    Attributes:
        world: the world, or None where only what it was compiled to is there.
        model: what it was compiled to: tables, a linear-Gaussian system, or None where it can be neither.
        policy: the module whose parameters are fitted.
        alpha: the temperature, reward units.
    """

    world: World | None
    model: Tables | LinearGaussian | None
    policy: Any
    alpha: Tensor

    @property
    def tables(self) -> Tables | None:
        """The world's tables, or None where it has none."""
        return self.model if isinstance(self.model, Tables) else None


@dataclass(frozen=True)
class Estimator:
    """An estimator at work on a problem: what ``pyro.infer.SVI`` is built of.

    Attributes:
        name: as in the table above, or the class of a Pyro ELBO that was handed in.
        model, guide: the programs.
        loss: a Pyro ``ELBO``, or a function of model and guide that returns the negative ELBO.
        exact: whether the ELBO and its gradient carry no noise.
        modules: what has parameters.
    """

    name: str
    model: Callable[[], None]
    guide: Callable[[], None]
    loss: Any
    exact: bool
    modules: dict[str, nn.Module]


def estimator_of(name: Any, objective: Objective, particles: int) -> Estimator:
    """Build an estimator by its name, by "auto", or around a Pyro ``ELBO``.

    Raises:
        WorldError: there is no such estimator, or it does not go with the world.
    """
    if name == "auto":
        name = choose(objective)
    modules = {"policy": objective.policy}
    if name == "tables":
        return Estimator(name, _nothing, _registered(_nothing, modules), _tables_loss(objective), True, modules)
    if name == "exact":
        return Estimator(name, _nothing, _registered(_nothing, modules), _affine_loss(objective), True, modules)
    if objective.world is None:
        expected = f"a world, whose program can be run; or '{'exact' if objective.tables is None else 'tables'}'"
        raise fault("fit, estimator", f"{name!r} with a compiled world alone", expected)
    model = trajectory(objective.world, temperature=objective.alpha)
    guide = _registered(trajectory(objective.world, objective.policy), modules)
    if isinstance(name, TraceEnum_ELBO):
        finite = objective.tables is not None  # else infinite variables are sampled once: noisy
        return Estimator(type(name).__name__, model, config_enumerate(guide), name, finite, modules)
    if isinstance(name, ELBO):
        return Estimator(type(name).__name__, model, guide, name, False, modules)
    if name == "enumeration":
        tables_for(name, objective)
        loss = TraceEnum_ELBO(max_plate_nesting=0)
        return Estimator(name, model, config_enumerate(guide), loss, True, modules)
    sampling = {"num_particles": particles, "vectorize_particles": particles > 1, "max_plate_nesting": 0}
    if name == "reparameterised":
        return Estimator(name, model, guide, Trace_ELBO(**sampling), False, modules)
    if name != "score":
        raise fault(
            "fit, estimator",
            f"{name!r}",
            f"'auto', {', '.join(map(repr, ESTIMATORS))}, or a pyro.infer.ELBO{meant(str(name), ESTIMATORS)}",
        )
    if isinstance(objective.policy, Guide):
        return Estimator(name, model, guide, TraceGraph_ELBO(**sampling), False, modules)
    baseline = _first_baseline(objective.world, objective, particles)
    modules = {"policy": objective.policy, "baseline": baseline}
    guide = _registered(_scored(objective.world, objective.policy, baseline), modules)
    return Estimator(name, model, guide, TraceGraph_ELBO(**sampling), False, modules)


def _scored(world: World, policy: Any, baseline: Baseline) -> Callable[[], None]:
    """Return the guide whose action sites carry the baseline, and whose other sites have no score-function term."""
    program = trajectory(world, with_baseline(policy, baseline))
    actions = read(world).variables.actions
    if any(action.size is None for action in actions):  # the dynamics may depend on a parameter, by a smooth draw
        return program
    return unscored(program, frozenset(action.name for action in actions))


def _first_baseline(world: World, objective: Objective, particles: int) -> Baseline:
    estimate = sampled(world, objective.policy, objective.alpha, max(100, particles), int(torch.randint(2**31, ())))
    deviation = estimate.standard_error * estimate.samples**0.5
    usual = math.isfinite(estimate.value) and deviation > 0
    return Baseline(world, estimate.value, deviation) if usual else Baseline(world, 0.0, 1.0)


def choose(objective: Objective) -> str:
    """Choose: exact on what the world was compiled to, where that is possible for the policy; else through the samples
    where all can be; else the score function.

    The full guide, which no policy's table holds, is enumerated.
    """
    if isinstance(objective.policy, Guide):
        return "enumeration"
    if objective.tables is not None:
        return "tables"
    if isinstance(objective.model, LinearGaussian) and isinstance(objective.policy, Conditional):
        return "exact"
    if objective.world is None:
        return "score"  # which is refused: it needs the program
    with user_code("fit", "a world and a policy whose programs run"), alone(), torch.random.fork_rng(devices=[]):
        sites = pyro.poutine.trace(trajectory(objective.world, objective.policy)).get_trace()
    smooth = [bool(getattr(sites.nodes[name]["fn"], "has_rsample", False)) for name in sites.stochastic_nodes]
    return "reparameterised" if all(smooth) else "score"


def _registered(program: Callable[[], None], modules: dict[str, nn.Module]) -> Callable[[], None]:
    """Return the program that first tells Pyro of the modules' parameters."""

    def guide() -> None:
        register(modules)
        program()

    return guide


def register(modules: Mapping[str, nn.Module]) -> None:
    """Tell Pyro of the modules' parameters, those that are frozen left out."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* was not registered in the param store")
        for name, module in modules.items():
            pyro.module(name, module)


def _tables_loss(objective: Objective) -> Callable[[Any, Any], Tensor]:
    if isinstance(objective.policy, Guide):
        raise fault("fit, estimator", "'tables' for the full guide, which is no policy", "auto, enumeration or score")
    tables = tables_for("tables", objective)
    policy = as_policy(tables, objective.policy)

    def loss(model: Any, guide: Any) -> Tensor:
        guide()
        return -policy_elbo(tables, log_table(tables, policy), objective.alpha)

    return loss


def _affine_loss(objective: Objective) -> Callable[[Any, Any], Tensor]:
    """Return the negative ELBO of an affine-Gaussian policy, in closed form.

    Raises:
        WorldError: the policy is not affine-Gaussian.
        IntractableError: the world is not linear-Gaussian.
    """
    if objective.tables is not None:
        raise fault("fit, estimator", "'exact' on a world with tables", "'tables', which is exact too")
    model, policy = objective.model, objective.policy
    if model is None:
        assert objective.world is not None
        model = linearise(objective.world)  # which says why it cannot
    if not isinstance(policy, Conditional):
        seen = f"'exact' for a {type(policy).__name__}"
        raise fault("fit, estimator", seen, "an affine-Gaussian policy: 'affine'; or reparameterised")
    assert isinstance(model, LinearGaussian)
    op = GaussianOperator(model, VARIATIONAL, objective.alpha)
    known = reward_and_prior(op)

    def loss(model: Any, guide: Any) -> Tensor:
        guide()
        return -affine_elbo(op, policy.conditional, known)

    return loss


def tables_for(name: str, objective: Objective) -> Tables:
    """Return the problem's tables, or raise the error that says why an estimator has none."""
    if objective.tables is not None:
        return objective.tables
    assert objective.world is not None
    try:
        return tabulate(objective.world)
    except IntractableError as error:
        seen = f"'{name}' for a world that cannot be tabulated"
        raise IntractableError(
            [Finding("fit, estimator", seen, "auto, score or reparameterised"), *error.findings]
        ) from None


def _nothing() -> None:
    """No program: the tables say all."""
