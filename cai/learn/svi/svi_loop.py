"""The steps of a fit: measure, step, record, keep; until the gap is closed, the steps are done, or Ctrl-C."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pyro.infer import SVI
from pyro.infer.util import zero_grads

from cai.errors import WorldError, blamed, fault
from cai.exact.diagnose import risks
from cai.exact.tables.policy_evaluation import policy_elbo
from cai.learn.svi import svi_checkpoint as checkpoint
from cai.learn.svi.estimators import Estimator, Problem, register
from cai.learn.svi.fit_result import Fit, Record
from cai.learn.svi.objective import Estimate, sampled
from cai.learn.svi.optimizers import restore, schedule
from cai.policies.as_policy import as_policy, checked_table
from cai.support.progress import Interrupt, bar
from cai.world.program import Guide


@dataclass(frozen=True)
class Task:
    """What was asked of a fit; see ``fit``."""

    steps: int
    particles: int
    every: int
    samples: int
    tolerance: float
    seed: int
    checkpoint: Path | None
    progress: bool


@dataclass
class Run:
    """A fit at work: the one thing here that changes.

    Attributes:
        problem, estimator, optimizer: what is fitted, by what gradient, by what steps.
        best: ELBO*, nats (log Z for the full guide), or None where it is not known.
        step: how many updates have been made.
        seconds: how long the work took so far, that before a resume included.
        history: the recorded steps.
    """

    problem: Problem
    estimator: Estimator
    optimizer: Any
    best: float | None
    step: int = 0
    seconds: float = 0.0
    history: list[Record] = field(default_factory=list)


def climb(run: Run, task: Task) -> Fit:
    """Take the steps, and return the result."""
    at = run.estimator
    svi = SVI(at.model, at.guide, run.optimizer, loss=at.loss)
    svi.loss_and_grads = _guarded(svi.loss_and_grads, run)
    of = _of(run, task)
    if task.checkpoint is not None and task.checkpoint.exists():
        _take_up(run, checkpoint.load(task.checkpoint, of))
    with Interrupt() as interrupt, bar("fit", task.steps, start=run.step, shown=task.progress) as tell:
        began = time.monotonic() - run.seconds
        stopped = None
        while stopped is None:
            gap = _gap(run, svi) if _due(run, task) else None
            stopped = _reason(run, task, gap, bool(interrupt))
            if stopped is None:
                _step(run, svi, gap)
                run.seconds = time.monotonic() - began
                tell(run.step, _words(run.history[-1]))
            if task.checkpoint is not None and (stopped is not None or run.step % task.every == 0):
                checkpoint.save(task.checkpoint, _state(run, of))
    final = _final(run, task, svi)
    gap = run.best - final.value if run.best is not None and not final.samples else None
    history = (*run.history, Record(run.step, final.value, gap, run.seconds))
    policy, alpha = run.problem.policy, float(run.problem.alpha)
    error = final.standard_error
    return Fit(policy, alpha, at.name, final.value, error, run.best, history, run.step, stopped, final.samples)


def _step(run: Run, svi: SVI, gap: float | None) -> None:
    value = -svi.step()
    schedule(run.optimizer, -value)
    if run.estimator.exact and run.best is not None:
        gap = run.best - value
    run.history.append(Record(run.step, value, gap, run.seconds))
    run.step += 1


def _due(run: Run, task: Task) -> bool:
    """Tell whether the gap is to be measured: at first, where it was just met, now and then of a sampled fit."""
    if run.best is None:
        return False
    if not run.history:
        return True
    if run.estimator.exact:
        gap = run.history[-1].gap
        return gap is not None and gap <= task.tolerance
    return run.problem.tables is not None and run.step % task.every == 0


def _reason(run: Run, task: Task, gap: float | None, interrupted: bool) -> str | None:
    if gap is not None and gap <= task.tolerance:
        _require_bound(run, gap)
        return "gap"
    if run.step >= task.steps:
        return "steps"
    return "interrupted" if interrupted else None


def _require_bound(run: Run, gap: float) -> None:
    """Raise where an ELBO lies above its bound, beyond what rounding allows: then one of the two numbers is wrong."""
    assert run.best is not None
    tables = run.problem.tables
    eps = torch.finfo(torch.float64 if tables is None else tables.log_initial.dtype).eps
    if gap < -max(1e-7, 1e3 * eps) * max(1.0, abs(run.best)):
        expected = f"at most the best there is, {run.best:.6g} nats: one of the two is wrong"
        raise fault(f"fit, step {run.step}", f"an ELBO of {run.best - gap:.6g} nats", expected)


def _gap(run: Run, svi: SVI) -> float | None:
    found = _exactly(run, svi)
    return None if found is None or run.best is None else run.best - found


def _exactly(run: Run, svi: SVI) -> float | None:
    """Return the exact ELBO of the parameters as they are, nats, or None where it cannot be had."""
    problem = run.problem
    if problem.tables is not None and not isinstance(problem.policy, Guide):
        with torch.no_grad():
            log_pi = checked_table(problem.tables, as_policy(problem.tables, problem.policy))
            return float(policy_elbo(problem.tables, log_pi, problem.alpha))
    return -svi.evaluate_loss() if run.estimator.exact else None


def _final(run: Run, task: Task, svi: SVI) -> Estimate:
    found = _exactly(run, svi)
    if found is not None:
        return Estimate(found, 0.0, "tables" if run.problem.tables is not None else "enumeration")
    assert run.problem.world is not None
    return sampled(run.problem.world, run.problem.policy, run.problem.alpha, task.samples, task.seed + 1)


def _guarded(loss_and_grads: Callable[..., Any], run: Run) -> Callable[..., float]:
    """Raise before the optimiser is reached where ELBO or gradient are not finite: NaN parameters help nobody."""

    def guarded(*args: Any, **kwargs: Any) -> float:
        with blamed(f"fit, step {run.step}", "a world and a policy whose programs run for many trajectories at once"):
            loss = torch.as_tensor(loss_and_grads(*args, **kwargs)).item()
        broken = _broken(run)
        if math.isfinite(loss) and not broken:
            return loss
        for module in run.estimator.modules.values():
            zero_grads(set(module.parameters()))
        if math.isfinite(loss):
            raise fault(f"fit, step {run.step}, parameter '{broken}'", "a gradient that is not finite", "a finite one")
        raise _not_finite(run, -loss)

    return guarded


def _broken(run: Run) -> str | None:
    """Name the first parameter whose gradient is not finite."""
    for module in run.estimator.modules.values():
        for name, p in module.named_parameters():
            if p.grad is not None and not bool(p.grad.isfinite().all()):
                return name
    return None


def _not_finite(run: Run, value: float) -> WorldError:
    problem, where = run.problem, f"fit, step {run.step}"
    if value == -math.inf and problem.tables is not None and not isinstance(problem.policy, Guide):
        with torch.no_grad():
            findings = risks(problem.tables, checked_table(problem.tables, as_policy(problem.tables, problem.policy)))
        if findings:
            return WorldError(findings)
    expected = "a policy that never risks a reward of -inf, nor does what the prior forbids: forbid it in act"
    return fault(where, f"an ELBO of {value:g} nats", expected if value == -math.inf else "a finite number")


def _words(one: Record) -> str:
    return f"ELBO {one.elbo:.6g}" + ("" if one.gap is None else f", gap {one.gap:.3g}") + " nats"


def _of(run: Run, task: Task) -> dict[str, str]:
    settings: dict[str, Any] = {
        "temperature": float(run.problem.alpha),
        "estimator": run.estimator.name,
        "seed": task.seed,
    }
    if not run.estimator.exact:
        settings["particles"] = task.particles
    settings["optimizer"] = _kind(run.optimizer)
    return checkpoint.fingerprint(run.problem, run.estimator.modules, **settings)


def _kind(optimizer: Any) -> str:
    constructor, settings = optimizer.pt_optim_constructor, optimizer.pt_optim_args
    return f"{getattr(constructor, '__name__', constructor)} {settings if isinstance(settings, dict) else ''}".strip()


def _state(run: Run, of: dict[str, str]) -> dict[str, Any]:
    return {
        "of": of,
        "step": run.step,
        "modules": {name: module.state_dict() for name, module in run.estimator.modules.items()},
        "optimizer": run.optimizer.get_state(),
        "random": torch.get_rng_state(),
        "history": [(one.step, one.elbo, one.gap, one.seconds) for one in run.history],
        "seconds": run.seconds,
    }


def _take_up(run: Run, state: dict[str, Any]) -> None:
    for name, module in run.estimator.modules.items():
        module.load_state_dict(state["modules"][name])
    register(run.estimator.modules)
    restore(run.optimizer, state["optimizer"], run.estimator.modules)
    torch.set_rng_state(state["random"])
    run.step, run.seconds = state["step"], state["seconds"]
    run.history = [Record(*row) for row in state["history"]]
