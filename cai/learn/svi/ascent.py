"""SVI in the common training loop: ``pyro.infer.SVI`` maximises the ELBO, and each step records its result."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from pyro.infer import SVI
from pyro.infer.util import zero_grads

from cai.compile.linear_model import LinearGaussian
from cai.compile.table_model import Tables
from cai.errors import WorldError, fault, user_code
from cai.exact.diagnose import risks
from cai.learn.checkpoint import described, model_described, samples_described
from cai.learn.problem import State
from cai.learn.result import Progress, Score
from cai.learn.scores import ExactScore, GaussianScore
from cai.learn.svi.estimators import Estimator, Objective, register
from cai.learn.svi.objective import sampled
from cai.learn.svi.optimizers import restore, schedule
from cai.policies.affine_gaussian import Conditional
from cai.policies.as_policy import as_policy, checked_table
from cai.simulate.rollout import simulator_of
from cai.world.program import Guide


@dataclass(frozen=True)
class Ascent:
    """The training of a policy by SVI. Its parameters belong to their modules: a step changes them in place.

    Attributes:
        objective, at_work, optimizer: what is fitted, by what gradient, by what steps.
        elbo_star: ELBO*, nats (log Z for the full guide), or None where it is not known.
        particles, every, samples, tolerance, seed: see ``fit``.
    """

    objective: Objective
    at_work: Estimator
    optimizer: Any
    elbo_star: float | None
    particles: int
    every: int
    samples: int
    tolerance: float
    seed: int
    name: str = "svi"

    @property
    def temperature(self) -> float:
        """α."""
        return float(self.objective.alpha)

    @property
    def estimator(self) -> str:
        """The estimator's name."""
        return self.at_work.name

    @cached_property
    def svi(self) -> SVI:
        """Pyro's own, which refuses a step where ELBO or gradient are not finite."""
        svi = SVI(self.at_work.model, self.at_work.guide, self.optimizer, loss=self.at_work.loss)
        svi.loss_and_grads = self._guarded(svi.loss_and_grads)
        return svi

    @cached_property
    def exact_score(self) -> ExactScore | GaussianScore | None:
        """The exact scores of a policy; None where there are none, of the world or of such a policy."""
        model, policy = self.objective.model, self.objective.policy
        if isinstance(model, LinearGaussian) and isinstance(policy, Conditional):
            return GaussianScore(model.detach(), None)
        if not isinstance(model, Tables) or isinstance(policy, Guide):
            return None
        return ExactScore(model.detach(), None)

    def identity(self) -> dict[str, str]:
        """Describe the modules by their shapes, the world, and what the steps depend on."""
        shapes = {
            name: {key: list(x.shape) for key, x in module.state_dict().items()}
            for name, module in self.at_work.modules.items()
        }
        modules = {name: f"{type(self.at_work.modules[name]).__name__} of {described(x)}" for name, x in shapes.items()}
        model, world = self.objective.model, self.objective.world
        seen = samples_described(simulator_of(world, 1), torch.float64) if model is None else model_described(model)
        numbers = {"temperature": self.temperature, "estimator": self.estimator, "seed": self.seed}
        if not self.at_work.exact:
            numbers["particles"] = self.particles
        settings = {**numbers, "optimizer": _kind(self.optimizer)}
        return {"learner": self.name, "world": seen, **modules, **{name: str(x) for name, x in settings.items()}}

    def first(self) -> State:
        """Return the state before the first step; the baseline has drawn from the ambient generator."""
        return State(0, 0, torch.get_rng_state())

    def step(self, state: State) -> tuple[State, Score]:
        """Take a step, and return the ELBO as it was before it."""
        n = state.updates
        torch.set_rng_state(state.random)
        with user_code(f"fit, step {n}", "a world and a policy whose programs run for many trajectories at once"):
            elbo = -self.svi.step()
        schedule(self.optimizer, -elbo)
        exact = self.at_work.exact
        gap = self.elbo_star - elbo if exact and self.elbo_star is not None else None
        seen = Score(elbo=elbo, policy_nats=gap, standard_error=0.0 if exact else None)
        return State(n + 1, n + 1, torch.get_rng_state()), seen

    def policy(self, state: State) -> Any:
        """Return the module."""
        return self.objective.policy

    def due(self, state: State, history: Sequence[Progress]) -> bool:
        """Return whether a checkpoint is due, or the gap was just met."""
        fresh = not history or history[-1].updates < state.updates
        return fresh and (state.updates % self.every == 0 or self._met(history))

    def score(self, state: State, history: Sequence[Progress]) -> Score | None:
        """Measure the gap at first, where it was just met, and now and then of a sampled fit."""
        if self.elbo_star is None:
            return None
        sampled_but_known = not self.at_work.exact and self.exact_score is not None
        return self._exact() if not history or self._met(history) or sampled_but_known else None

    def final(self, state: State, history: Sequence[Progress]) -> Score | None:
        """Measure the result, exactly or by sampling."""
        if history and history[-1].updates == state.updates:
            return None
        score = self._exact()
        if score is not None:
            return score
        objective = self.objective
        assert objective.world is not None
        estimate = sampled(objective.world, objective.policy, objective.alpha, self.samples, self.seed + 1)
        return Score(elbo=estimate.value, standard_error=estimate.standard_error, samples=estimate.samples)

    def reached(self, state: State, history: Sequence[Progress]) -> str | None:
        """Say whether the gap was measured to be within the tolerance.

        Raises:
            WorldError: an ELBO lies above its bound, beyond what rounding allows: one of the two numbers is wrong.
        """
        if not history or history[-1].updates < state.updates or not self._met(history):
            return None
        gap, best, model = history[-1].policy_nats, self.elbo_star, self.objective.model
        assert gap is not None
        assert best is not None
        eps = torch.finfo(torch.float64 if model is None else model.dtype).eps
        if gap < -max(1e-7, 1e3 * eps) * max(1.0, abs(best)):
            expected = f"at most ELBO*, {best:.6g} nats: the world or the policy is wrong"
            raise fault(f"fit, step {state.updates}", f"an ELBO of {best - gap:.6g} nats", expected)
        return "gap"

    def pack(self, state: State) -> State:
        """Return the state with all parameters, and what the optimiser knows."""
        modules = {name: module.state_dict() for name, module in self.at_work.modules.items()}
        values: Any = {"modules": modules, "optimizer": self.optimizer.get_state()}
        return State(state.steps, state.updates, state.random, None, values)

    def unpack(self, packed: State) -> State:
        """Put the parameters back into their modules, and the optimiser where it was."""
        values: Any = packed.values
        for name, module in self.at_work.modules.items():
            module.load_state_dict(values["modules"][name])
        register(self.at_work.modules)
        restore(self.optimizer, values["optimizer"], self.at_work.modules)
        return State(packed.steps, packed.updates, packed.random)

    def _met(self, history: Sequence[Progress]) -> bool:
        """Return whether the last gap is within the tolerance."""
        gap = history[-1].policy_nats if history else None
        return gap is not None and gap <= self.tolerance

    def _exact(self) -> Score | None:
        """Return the exact scores of the current parameters, or None where there are none."""
        objective = self.objective
        if self.exact_score is not None:
            with torch.no_grad():
                score = self.exact_score(objective.policy)
                return self._with_elbo(score, self.exact_score.elbo(objective.policy, objective.alpha))
        return self._with_elbo(Score(), -self.svi.evaluate_loss()) if self.at_work.exact else None

    def _with_elbo(self, score: Score, elbo: float) -> Score:
        gap = None if self.elbo_star is None else self.elbo_star - elbo
        return Score(score.stochastic_return, score.deterministic_return, elbo, gap, score.entropy, 0.0)

    def _guarded(self, loss_and_grads: Callable[..., Any]) -> Callable[..., float]:
        """Raise an error before the optimiser step if the ELBO or the gradient is not finite, so parameters never
        become NaN."""

        def guarded(*args: Any, **kwargs: Any) -> float:
            loss = torch.as_tensor(loss_and_grads(*args, **kwargs)).item()
            broken = self._broken()
            if math.isfinite(loss) and not broken:
                return loss
            for module in self.at_work.modules.values():
                zero_grads(set(module.parameters()))
            if math.isfinite(loss):
                raise fault(f"fit, parameter '{broken}'", "a gradient that is not finite", "a finite one")
            raise self._not_finite(-loss)

        return guarded

    def _broken(self) -> str | None:
        """Name the first parameter whose gradient is not finite."""
        for module in self.at_work.modules.values():
            for name, p in module.named_parameters():
                if p.grad is not None and not bool(p.grad.isfinite().all()):
                    return name
        return None

    def _not_finite(self, elbo: float) -> WorldError:
        tables = self.objective.tables
        if elbo == -math.inf and tables is not None and self.exact_score is not None:
            with torch.no_grad():
                findings = risks(tables, checked_table(tables, as_policy(tables, self.objective.policy)))
            if findings:
                return WorldError(findings)
        expected = "a policy that never risks a reward of -inf or a forbidden action: forbid the action in act"
        return fault("fit", f"an ELBO of {elbo:g} nats", expected if elbo == -math.inf else "a finite number")


def _kind(optimizer: Any) -> str:
    constructor, settings = optimizer.pt_optim_constructor, optimizer.pt_optim_args
    return f"{getattr(constructor, '__name__', constructor)} {settings if isinstance(settings, dict) else ''}".strip()
