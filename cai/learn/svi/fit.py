"""fit: a variational policy maximises its ELBO by ``pyro.infer.SVI``; prepared here, trained by the common loop."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from torch import Tensor, nn

from cai.compile.linear_model import LinearGaussian
from cai.compile.linearise import linearise
from cai.compile.table_model import Tables
from cai.compile.tabulate import tabulate
from cai.errors import Finding, IntractableError, NotConvergedError, fault
from cai.exact.rules import POSTERIOR, VARIATIONAL
from cai.exact.safety import without_risk
from cai.exact.solve import solve
from cai.exact.temperature import as_temperature
from cai.learn.loop import Plan, place_of, require_whole, run
from cai.learn.names import POLICIES
from cai.learn.result import Learned
from cai.learn.scores import exact_model
from cai.learn.svi.ascent import Ascent
from cai.learn.svi.estimators import Objective, estimator_of
from cai.learn.svi.full_guide import FullGuide
from cai.learn.svi.optimizers import as_optimizer
from cai.policies.action_programs import require_actor
from cai.policies.affine import AffinePolicy
from cai.policies.neural import NeuralPolicy
from cai.policies.tabular import TabularPolicy
from cai.support.numerics import nats
from cai.support.process import precision
from cai.support.wording import read_name
from cai.world.definition import World
from cai.world.program import Actor, Guide

Compiled = Tables | LinearGaussian
"""What a policy can be fitted on exactly."""


def fit(
    world: World | Compiled,
    policy: Any = None,
    *,
    model: Compiled | None = None,
    temperature: float | Tensor = 1.0,
    estimator: Any = "auto",
    optimizer: Any = None,
    steps: int = 2000,
    particles: int = 100,
    tolerance: float = 1e-4,
    seed: int = 0,
    checkpoint: Any = None,
    every: int = 50,
    samples: int = 10_000,
    log: Any = None,
    progress: bool = True,
) -> Learned:
    """Fit a policy to the posterior with the dynamics held fixed, by stochastic variational inference.

    ``maximise ELBO(π) = E_π[Σ r]/α - E_π[Σ KL(π ‖ prior)] = log Z - KL(p̂(τ) ‖ p(τ|O))`` (Levine 2018, section 3):
    Pyro's SVI with ``trajectory(world)`` as model and ``trajectory(world, policy)`` as guide. The policy is changed in
    place. Ctrl-C ends the fit after the current step and returns its result.

    Args:
        world: a world, or what it was compiled to (for the estimators "tables" and "exact").
        policy: a torch module with ``act``. Unless given: a ``TabularPolicy`` that starts at the prior, without actions
            that risk a reward of -inf; an ``AffinePolicy`` on a linear-Gaussian world; a ``NeuralPolicy`` where neither
            is possible. A ``FullGuide`` changes the dynamics too, and its optimum is the posterior. By name: "tabular",
            "stationary" (a table for all times), "affine", "affine-stationary", "neural", "neural-stationary" or
            "full"; the seed then sets its initial weights.
        model: what the world was compiled to, tables or a linear-Gaussian system, if it is already.
        temperature: α > 0, reward units; one number.
        estimator: of the gradient: "tables" (exact, on the compiled tables), "exact" (in closed form, of an affine
            policy on a linear-Gaussian world), "enumeration" (exact, ``TraceEnum_ELBO``), "score"
            (``TraceGraph_ELBO`` with a learned baseline), "reparameterised" (``Trace_ELBO``), a ``pyro.infer.ELBO`` of
            your own, or "auto", which chooses; ``Learned.estimator`` says which.
        optimizer: an optimizer of Pyro or torch. Adam with a decaying step size unless given; a number is its first
            step size.
        steps: the number of updates, counted from the start of the fit, also after a resume.
        particles: trajectories for each update, in a plate, where the gradient is sampled.
        tolerance: stop as soon as the exact gap ELBO* - ELBO(π) is at most this, nats, where it is known.
        seed: of all randomness in the fit; torch's global random state does not change.
        checkpoint: a file that stores the fit. If the file exists, the fit goes on from it, with the same numbers as a
            fit that was never interrupted.
        every: the number of steps between checkpoints, and between exact measurements of a sampled fit.
        samples: the number of trajectories for the final estimate, where the ELBO has no exact value.
        log: a folder for ``progress.jsonl``, one step a line, and TensorBoard's events where it is installed.
        progress: show a bar on a terminal.

    Raises:
        WorldError: the world, the policy or an argument is not valid, or the policy risks a reward of -inf.
        ImpossibleError: every policy does.
    """
    numbers = (("steps", steps, 0), ("particles", particles, 1), ("every", every, 1), ("samples", samples, 2))
    for name, value, least in (*numbers, ("seed", seed, 0)):
        require_whole(f"fit, {name}", value, least)
    if seed >= 2**32:
        raise fault("fit, seed", f"{seed}", "a whole number below 2**32")
    if isinstance(tolerance, bool) or not isinstance(tolerance, int | float) or not tolerance >= 0:
        raise fault("fit, tolerance", f"{tolerance!r}", "a number, at least 0")
    file, folder = place_of("fit, checkpoint", checkpoint), place_of("fit, log", log, folder=True)
    with _seeded(seed):
        objective, best = _objective(world, policy, model, temperature)
    module = objective.policy
    # Parameters belong to their modules; SVI speaks of them through Pyro's store, which is emptied for us and put back.
    with _seeded(seed), precision(torch.float64), _frozen(world, module), pyro.get_param_store().scope():
        at_work = estimator_of(estimator, objective, particles)
        tuned = as_optimizer(optimizer, module, exact=at_work.exact, network=isinstance(module, NeuralPolicy))
        training = Ascent(objective, at_work, tuned, best, particles, every, samples, float(tolerance), seed)
        return run(training, Plan(seed, steps, file, folder, progress))


def _objective(
    world: World | Compiled, policy: Any, model: Compiled | None, temperature: float | Tensor
) -> tuple[Objective, float | None]:
    """Return what is fitted to what, and the best that it could reach, nats."""
    model = exact_model(world) if model is None else model
    policy = policy_of(policy, world, model) if isinstance(policy, str) else policy
    alpha = as_temperature(temperature, model)
    if alpha.dim() or (model is not None and model.batch_shape):
        raise fault("fit", "a batch of worlds or temperatures", "one world, one temperature")
    _require_module(policy)
    module, best = _start(world, model, policy, alpha)
    if isinstance(module, FullGuide) and module.world is not world:
        raise fault("fit, policy", "a full guide of another world", "cai.learn.FullGuide(world) of this one")
    if isinstance(world, Tables | LinearGaussian):
        return Objective(None, model, module, alpha), best
    if not isinstance(module, Guide):
        require_actor(world, module.act)
    return Objective(world, model, module, alpha), best


def _require_module(policy: Any) -> None:
    if policy is not None and not (isinstance(policy, nn.Module) and isinstance(policy, Actor)):
        raise fault(
            "fit, policy", f"a {type(policy).__name__}", "a torch module with act: cai.policies.TabularPolicy(world), …"
        )
    if policy is not None and not any(p.requires_grad for p in policy.parameters()):
        raise fault("fit, policy", "no parameter that requires a gradient", "a module with something to fit")


def _start(world: Any, model: Compiled | None, policy: Any, alpha: Tensor) -> tuple[nn.Module, float | None]:
    """Return the module to be fitted, and its upper bound: ELBO*, or log Z for a full guide."""
    if model is None:
        return (NeuralPolicy(world) if policy is None else policy), None
    rule = POSTERIOR if isinstance(policy, Guide) else VARIATIONAL
    try:
        with torch.no_grad():
            messages = solve(model, rule, temperature=alpha)
    except NotConvergedError:
        return (_beginning(model) if policy is None else policy), None
    if policy is None:
        policy = _beginning(without_risk(model) if isinstance(model, Tables) else model)
    return policy, float(nats(messages.value, alpha))


def _beginning(model: Compiled) -> nn.Module:
    """Return the policy that is fitted unless one is given: the prior at first."""
    return TabularPolicy(model) if isinstance(model, Tables) else AffinePolicy(model)


def default_policy(model: Compiled | None) -> str:
    """Name the policy that is fitted unless one is given."""
    if model is None:
        return "neural"
    return "tabular" if isinstance(model, Tables) else "affine"


def policy_of(name: str, world: Any, model: Compiled | None) -> nn.Module | None:
    """Make a policy by its name, without what risks a reward of -inf; None is the one that ``fit`` makes by itself.

    Raises:
        WorldError: there is no such policy.
        IntractableError: it needs tables, or a linear-Gaussian world, and the world has none.
    """
    read_name("fit, policy", name, POLICIES)
    tables = model if isinstance(model, Tables) else None
    if name.startswith("neural"):
        safe = tables if tables is None else without_risk(tables)
        return NeuralPolicy(world if safe is tables else safe, stationary=name == "neural-stationary")
    if name.startswith("affine"):
        linear = model if isinstance(model, LinearGaussian) else _compiled(name, world, linearise, "linearised")
        return AffinePolicy(linear, stationary=name == "affine-stationary")
    if tables is None:
        tables = _compiled(name, world, tabulate, "tabulated")
    if name == "full":
        return FullGuide(world)
    return TabularPolicy(without_risk(tables), stationary=True) if name == "stationary" else None


def _compiled(name: str, world: Any, compile_: Callable[[Any], Any], done: str) -> Any:
    """Compile a world for a policy by its name, or say that it cannot be."""
    try:
        return compile_(world)
    except IntractableError as error:
        seen = f"'{name}' for a world that cannot be {done}"
        raise IntractableError([Finding("fit, policy", seen, "neural or neural-stationary"), *error.findings]) from None


@contextmanager
def _frozen(world: Any, module: nn.Module) -> Iterator[None]:
    """Leave the parameters of a world that is a module out of the fit: no gradient piles up in them."""
    fitted = {id(p) for p in module.parameters()}
    own = [p for p in world.parameters() if p.requires_grad] if isinstance(world, nn.Module) else []
    frozen = [p for p in own if id(p) not in fitted]
    try:
        for p in frozen:
            p.requires_grad_(False)
        yield
    finally:
        for p in frozen:
            p.requires_grad_(True)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
