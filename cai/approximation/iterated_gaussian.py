"""Iterated linear-Gaussian inference: expand the world about a law of its trajectories, solve, and repeat.

    q ← argmax_q  E_q[Σ r/α] - KL(q ‖ p) - β KL(q ‖ q_old)        in the world expanded about q_old

Each step is one exact sweep of messages in a linear-Gaussian world (``cai.solve``). Under VARIATIONAL it is maximum
entropy iLQG (Todorov & Li 2005, with a soft minimum over actions), under POSTERIOR approximate inference control
(Toussaint 2009) and input inference for control (Watson, Abdulsamad & Peters 2019). All are in the noise w of the
action prior, so that bounds on actions hold by themselves.
"""

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import torch

from cai.approximation.approximation import Approximation
from cai.approximation.estimate import Estimate
from cai.approximation.expansion import MOMENTS, Expanded, expanded
from cai.approximation.noise_elbo import Drawn, below, drawn, log_mean, policy_elbo, scarce
from cai.approximation.noise_law import NoiseLaw, may_covary, prior_law, separate
from cai.approximation.rollouts import effective_sample_size, require_possible
from cai.approximation.trajectories import Trajectories
from cai.compile.linear_model import LinearGaussian
from cai.compile.noise_program import NoiseProgram, noise_program
from cai.compile.quadratic import ConditionalGaussian, Quadratic, symmetric
from cai.compile.traced_program import traced
from cai.errors import Finding, ImpossibleError, IntractableError, NotConvergedError, fault
from cai.exact.gaussian.gaussian_operator import GaussianOperator
from cai.exact.gaussian.normal_means import over_normal
from cai.exact.rules import POSTERIOR, VARIATIONAL, Rule
from cai.exact.solve import solve
from cai.learn.loop import require_number, require_whole
from cai.policies.noise_policy import NoisePolicy
from cai.support.progress import bar

RULES: dict[str, Rule] = {"VARIATIONAL": VARIATIONAL, "POSTERIOR": POSTERIOR}
"""What a step may solve under."""
DAMPING = (0.0, *(10.0**k for k in range(-2, 9)))
"""β of a step, from a full step on: the next is tried where the objective falls."""
BEYOND = (ImpossibleError, IntractableError, NotConvergedError, torch.linalg.LinAlgError)  # type: ignore[attr-defined]
"""What a step that is too long may raise."""


@dataclass(frozen=True)
class IteratedGaussian:
    """Iterated linear-Gaussian inference: a time-varying affine-Gaussian policy over action noise.

    ``rule`` VARIATIONAL holds the dynamics, and its objective is the policy's own ELBO; POSTERIOR infers the noise of
    start and dynamics too, and its objective is the ELBO of the whole law of trajectories, a lower bound on log Z. They
    coincide where only actions are random. ``history`` is the objective at the start and after each iteration, on the
    same normal numbers throughout, and never falls.

    Attributes:
        iterations: the most steps.
        moments: "sigma" or "taylor", see ``cai.approximation.expansion``.
        rule: "VARIATIONAL" or "POSTERIOR".
        samples: roll-outs that the objective is measured on.
        checks: new roll-outs that the answer is measured on.
        nudge: the standard deviation of the random mean that the noise of the actions starts with; at 0 it starts as
            the prior, which may be a saddle point: a pendulum that hangs gains nothing by a push to either side.
        tolerance: it stops where an iteration gains less, nats.
        horizon: how many steps to look ahead; the world's own horizon unless given.
    """

    name: ClassVar[str] = "iterated_gaussian"
    iterations: int = 50
    moments: str = "sigma"
    rule: str = "VARIATIONAL"
    samples: int = 64
    checks: int = 1000
    nudge: float = 0.3
    tolerance: float = 1e-3
    horizon: int | None = None

    def run(
        self, world: Any, temperature: float, generator: torch.Generator, guess: Any = None, *, progress: bool = False
    ) -> Approximation:
        """Expand and solve, so many times; see ``Method.run``.

        Raises:
            WorldError: an option is not valid.
            ImpossibleError: the reward is not finite near the start.
            IntractableError: a state variable is finite, or the rule is POSTERIOR and the discount is below 1.
        """
        self._check()
        program = traced(noise_program(world, self.horizon))
        self._require_suited(program)
        search = Search(program, temperature, self, int(torch.randint(2**62, (), generator=generator)))
        at = search.start(generator, guess)
        history, damped, why = [at.objective], 0, f"it stopped after {self.iterations} iterations, before it converged"
        with bar(self.name, self.iterations, shown=progress) as tell:
            for i in range(self.iterations):
                tried, damped = search.step(at, damped)
                gained = tried.objective - at.objective
                at = max(tried, at, key=lambda point: point.objective)
                history.append(at.objective)
                tell(i + 1, f"objective {at.objective:.6g} nats")
                if gained <= self.tolerance and (damped == 0 or gained <= 0):
                    change = f"changes it by {abs(gained):.1g} nats" if damped == 0 else "gains anything, however small"
                    why = f"it stopped after {i + 1} iterations: {'a full' if damped == 0 else 'no'} step {change}"
                    break
                damped = max(damped - 1, 0)
        return self._answer(program, temperature, at.law, tuple(history), why, generator)

    def messages(self, program: NoiseProgram, law: NoiseLaw, alpha: float) -> Quadratic:
        """Return v of the world expanded about a law, under the rule, in nats: quadratics stacked over time.

        Raises:
            ImpossibleError, IntractableError: an integral of the expanded world does not exist.
        """
        model, _ = expanded(program, law, MOMENTS[self.moments])
        v = solve(model, RULES[self.rule], temperature=alpha).v
        assert isinstance(v, Quadratic)
        return v / alpha

    def _answer(
        self,
        program: NoiseProgram,
        alpha: float,
        law: NoiseLaw,
        history: tuple[float, ...],
        why: str,
        generator: torch.Generator,
    ) -> Approximation:
        found = drawn(program, law, alpha, self.checks, generator)
        elbo = below(found.elbo) if self.rule == "VARIATIONAL" else self._elbo(program, law, alpha, generator)
        runs, log_weights = found.runs, found.log_weights(alpha, program.discount)
        require_possible(self.name, program, log_weights, runs.rewards.cumsum(-1))
        last, sizes = log_weights[:, -1], effective_sample_size(log_weights)
        return Approximation(
            self.name,
            alpha,
            NoisePolicy(program, partial(_at, law.act)),
            log_evidence=replace(log_mean(last), lower=below(found.elbo).lower, sampled=True),
            elbo=elbo,
            trajectories=Trajectories(runs.states, runs.actions, runs.paid, last - last.logsumexp(0)),
            effective_sample_size=sizes,
            history=history,
            guess=law,
            notes=(why, *scarce(float(sizes[-1]), len(last), "checks")),
        )

    def _elbo(self, program: NoiseProgram, law: NoiseLaw, alpha: float, generator: torch.Generator) -> Estimate:
        return policy_elbo(program, law.policy, alpha, self.checks, generator)

    def _require_suited(self, program: NoiseProgram) -> None:
        for variable in program.spec.variables.states:
            if variable.size is not None:
                seen, expected = f"{variable.size} values", "real state variables; or path_integral or particles"
                raise IntractableError([Finding(f"iterated_gaussian, variable '{variable.name}'", seen, expected)])
        if self.rule == "POSTERIOR" and program.discount < 1:
            seen = f"γ = {program.discount:g} under POSTERIOR: to survive or to end is a mixture, not a Gaussian"
            raise IntractableError([Finding("iterated_gaussian, discount", seen, "VARIATIONAL, or a discount of 1")])

    def _check(self) -> None:
        for name, least in (("iterations", 0), ("samples", 2), ("checks", 2)):
            require_whole(f"iterated_gaussian, {name}", getattr(self, name), least)
        for name, known in (("moments", MOMENTS), ("rule", RULES)):
            if getattr(self, name) not in tuple(known):
                raise fault(f"iterated_gaussian, {name}", f"{getattr(self, name)!r}", f"one of {', '.join(known)}")
        for name in ("nudge", "tolerance"):
            given = getattr(self, name)
            require_number(f"iterated_gaussian, {name}", given, lambda x: 0 <= x < math.inf, "a number, at least 0")


def _at(act: ConditionalGaussian, t: int) -> ConditionalGaussian:
    return act[t]


@dataclass(frozen=True, eq=False)
class Point:
    """A law of the noise, with its objective, nats."""

    law: NoiseLaw
    objective: float


@dataclass(frozen=True, eq=False)
class Search:
    """The search for the law of the noise with the highest objective.

    Attributes:
        program: the world.
        alpha: the temperature, reward units.
        options: the method's.
        seed: of the normal numbers that every law is measured on.
    """

    program: NoiseProgram
    alpha: float
    options: IteratedGaussian
    seed: int

    def measured(self, law: NoiseLaw) -> Point:
        """Return a law with its objective; -inf where it is no number."""
        mean = float(self._drawn(law).elbo.mean())
        return Point(law, mean if math.isfinite(mean) else -math.inf)

    def _drawn(self, law: NoiseLaw) -> Drawn:
        generator = torch.Generator().manual_seed(self.seed)
        return drawn(self.program, law, self.alpha, self.options.samples, generator)

    def start(self, generator: torch.Generator, guess: NoiseLaw | None) -> Point:
        """Return the guess, or the nudged prior where there is none or none that is possible."""
        if guess is not None and (found := self.measured(guess.fitted(self.program))).objective > -math.inf:
            return found
        prior = prior_law(self.program)
        push = torch.randn(prior.act.offset.shape, generator=generator, dtype=torch.float64)
        return self.measured(replace(prior, act=replace(prior.act, offset=self.options.nudge * push)))

    def step(self, at: Point, first: int) -> tuple[Point, int]:
        """Return the first law of a higher objective, or of the same within the tolerance, and which β gave it."""
        model, begin = expanded(self.program, at.law, MOMENTS[self.options.moments])
        for i in range(first, len(DAMPING)):
            try:
                tried = self.measured(self.solved(model, begin, at.law, DAMPING[i]))
            except BEYOND:  # an integral that does not exist, or numbers beyond float64: a smaller step
                continue
            same = i == 0 and abs(tried.objective - at.objective) <= self.options.tolerance
            if same or tried.objective > at.objective:
                return tried, i
        return at, len(DAMPING) - 1

    def solved(self, model: LinearGaussian, begin: Expanded, old: NoiseLaw, beta: float) -> NoiseLaw:
        """Return the law that is best in an expanded world, held by β near the old law.

        The hold is a reward of αβ (log q_old - log p) at the temperature α (1 + β).
        """
        rule, alpha = RULES[self.options.rule], torch.tensor(self.alpha * (1 + beta), dtype=torch.float64)
        hold = _log_ratio(old.act).lifted(model.noise) + _log_ratio(old.step)
        slices = replace(model.slices, reward=model.slices.reward + hold * (self.alpha * beta))
        model = replace(model, slices=slices)
        v = solve(model, rule, temperature=alpha).v
        assert isinstance(v, Quadratic)
        T, n, k0 = self.program.horizon, self.program.states.dimension, self.program.start_noise
        every = replace(model, timed=False, start_mean=model.start_mean.expand(T, n))  # all times as a batch
        op = GaussianOperator(every, rule, alpha)
        noise = op.over_noise(0, v.each(lambda x: x[1:]))
        act = op.over_actions(0, noise.value).tilted
        at_start = v[0].after(begin.transition, begin.drift) + _log_ratio(old.start) * (self.alpha * beta)
        flat = torch.zeros(k0, dtype=torch.bool)
        start = over_normal(rule.over_outcomes, at_start, k0, alpha, flat, alpha.new_zeros(())).tilted
        return NoiseLaw(start, separate(act, may_covary(self.program)), noise.tilted)


def _log_ratio(law: ConditionalGaussian) -> Quadratic:
    """Return log q(u|x) - log N(u; 0, I) as a quadratic of (x, u), nats."""
    one, n = torch.eye(law.offset.shape[-1]).to(law.scale), law.gain.shape[-1]
    back = torch.linalg.inv(law.scale)
    slope = back @ torch.cat((-law.gain, one.expand_as(back)), -1)
    here = (back @ law.offset.unsqueeze(-1)).squeeze(-1)
    M = torch.nn.functional.pad(one, (n, 0, n, 0)) - symmetric(slope.mT @ slope)
    c = -0.5 * here.square().sum(-1) - torch.linalg.slogdet(law.scale).logabsdet
    return Quadratic(M, (slope.mT @ here.unsqueeze(-1)).squeeze(-1), c)
