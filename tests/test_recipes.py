"""The recipes of docs/architecture.md: a rule, a form, a learner, a method, a column, a section, a world."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

import cai
from cai.approximation import METHODS, Approximation, Estimate, Trajectories
from cai.approximation.open_loop_plan import Plan, open_loop_law
from cai.approximation.rollouts import rollouts
from cai.cli import app
from cai.compile.noise_program import noise_program
from cai.exact.forms import FORMS, Form
from cai.exact.rule_means import Expect
from cai.exact.rules import NAMED
from cai.exact.tables.table_operator import TableOperator
from cai.learn.problem import Problem, State
from cai.policies.fixed import FixedPolicy, always
from cai.policies.noise_policy import NoisePolicy
from cai.simulate.rollout import roll
from cai.view.reports import report
from cai.view.reports.sections import Request, Section, Words
from tests import command
from tests.helpers import load_model
from tests.page import page_of

ALPHA = 0.03


@dataclass(frozen=True)
class Sparse:
    """The mean over actions of Tsallis entropy, q = 2: ``max_π Σ π x + α (1 - Σ π²)/2`` over the support of w.

    Martins & Astudillo (2016), From softmax to sparsemax; Lee, Choi & Oh (2018), Sparse Markov decision processes.
    """

    def _policy(self, x: Tensor, log_w: Tensor, alpha: Tensor) -> Tensor:
        z = torch.where(log_w > -torch.inf, x, -torch.inf) / alpha.unsqueeze(-1)
        top = z.amax(-1, keepdim=True)
        z = torch.where(top > -torch.inf, z - top, torch.where(log_w > -torch.inf, 0.0, -torch.inf))
        ordered = z.sort(-1, descending=True).values
        count = torch.arange(1, z.shape[-1] + 1).to(z)
        total = torch.where(ordered > -torch.inf, ordered, 0.0).cumsum(-1)
        chosen = (ordered > -torch.inf) & (1 + count * ordered > total)
        k = chosen.sum(-1, keepdim=True)
        tau = (total.gather(-1, k - 1) - 1) / k
        return (z - tau).clamp(min=0.0)

    def value(self, x: Tensor, log_w: Tensor, alpha: Tensor) -> Tensor:
        pi = self._policy(x, log_w, alpha)
        return torch.where(pi > 0, pi * x, 0.0).sum(-1) + alpha * (1 - pi.square().sum(-1)) / 2

    def log_weights(self, x: Tensor, log_w: Tensor, alpha: Tensor, value: Tensor) -> Tensor:
        return self._policy(x, log_w, alpha).log()

    def by_log_w(self, x: Tensor, log_w: Tensor, alpha: Tensor, weights: Tensor) -> Tensor:
        return torch.zeros_like(weights)

    def by_alpha(self, x: Tensor, log_w: Tensor, alpha: Tensor, value: Tensor, weights: Tensor) -> Tensor:
        return (1 - weights.square().sum(-1)) / 2


TSALLIS = cai.Rule("TSALLIS", Expect(), Sparse())


def sparsemax(x: list[float]) -> list[float]:
    """The projection onto the simplex, by bisection on its threshold."""
    low, high = max(x) - 1, max(x)
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(max(0.0, v - middle) for v in x) > 1 else (low, middle)
    return [max(0.0, v - low) for v in x]


def test_a_rule_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undrawn: None) -> None:
    world = load_model("grid")(rows=3, columns=3, horizon=12)
    tables = cai.tabulate(world)
    messages = cai.solve(world, TSALLIS, temperature=ALPHA)
    v = tables.terminal.tolist()
    for t in reversed(range(12)):  # the plain equation in plain Python
        slice_ = tables.at(t)
        p, successor, r = slice_.log_prob.exp().tolist(), slice_.successor.tolist(), slice_.reward.tolist()
        q = [
            [
                sum(w * (pay + v[to]) for w, to, pay in zip(*each, strict=True))
                for each in zip(p[s], successor[s], r[s], strict=True)
            ]
            for s in range(9)
        ]
        pi = [sparsemax([x / ALPHA for x in row]) for row in q]
        v = [
            sum(w * x for w, x in zip(*both, strict=True)) + ALPHA * (1 - sum(w * w for w in both[0])) / 2
            for both in zip(pi, q, strict=True)
        ]
        torch.testing.assert_close(messages.v[t], torch.tensor(v, dtype=torch.float64), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(
            messages.policy.probs(t), torch.tensor(pi, dtype=torch.float64), rtol=1e-9, atol=1e-12
        )
    assert bool((messages.policy.probs(0) == 0).any())  # sparse: some actions are never taken
    _through_every_verb(world, TSALLIS, tmp_path)
    monkeypatch.setitem(NAMED, "TSALLIS", TSALLIS)
    settings = ["--set", "rows=3", "--set", "columns=3", "--set", "horizon=12", "-t", f"{ALPHA}"]
    done = CliRunner().invoke(app, ["compare", "grid", *settings, "-r", "TSALLIS", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "TSALLIS" in (tmp_path / "out" / "comparison.csv").read_text()
    assert "TSALLIS" in (tmp_path / "out" / "report.html").read_text()


@dataclass(frozen=True, eq=False)
class Certain:
    """A toy form: a world in which nothing is random but the actions, as one successor and one reward an action."""

    tables: cai.Tables

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tables, name)


class CertainOperator:
    """A backup without a mean over outcomes; all else is that of the tables, which it holds."""

    form = "certain"

    def __init__(self, model: Certain, rule: cai.Rule, alpha: Tensor) -> None:
        self.model, self.rule, self.alpha = model, rule, alpha
        self.backups = 0
        self._tables = TableOperator(model.tables, rule, alpha)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tables, name)

    @property
    def parts(self) -> tuple["CertainOperator", ...]:
        return (self,)

    def q(self, t: int, v_next: Tensor) -> Tensor:
        slice_ = self.model.tables.at(t)
        return slice_.reward[..., 0] + v_next[slice_.successor[..., 0]]

    def backup(self, t: int, v_next: Tensor, out: Tensor | None = None) -> Tensor:
        self.backups += 1
        v = self.rule.over_actions.value(self.q(t, v_next), self.log_prior(t), self.alpha.unsqueeze(-1))
        return v if out is None else out.copy_(v)


def certain(world: Any) -> Certain:
    """Compile a world to the toy form."""
    tables = cai.tabulate(world)
    if tables.log_prob.shape[-1] > 1 or tables.discount < 1:
        raise cai.IntractableError([cai.errors.Finding("certain", "outcomes by chance", "one outcome an action")])
    return Certain(tables)


@pytest.fixture
def toy() -> Iterator[None]:
    FORMS.append(Form("certain", Certain, certain, CertainOperator))  # the one line
    yield
    FORMS.pop()


SLOW = [pytest.param(rule, marks=pytest.mark.slow) for rule in (cai.POSTERIOR, cai.VARIATIONAL)]


@pytest.mark.parametrize("rule", [*SLOW, cai.HARD, pytest.param(TSALLIS, marks=pytest.mark.slow)], ids=str)
def test_a_form_is_a_folder_and_a_line(rule: cai.Rule, toy: None, tmp_path: Path) -> None:
    world = load_model("cliff_walking")(horizon=30)
    messages = cai.solve(world, rule, temperature=ALPHA, form="certain")
    assert messages.form == "certain"
    assert messages.operator.backups == 30
    flat = cai.solve(world, rule, temperature=ALPHA, form="tables")
    torch.testing.assert_close(messages.v, flat.v, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(messages.marginals(3), flat.marginals(3), rtol=1e-9, atol=1e-12)
    own, same = (cai.evaluate(each, rule, temperature=ALPHA) for each in (certain(world), cai.tabulate(world)))
    assert own.elbo == pytest.approx(same.elbo, rel=1e-12)
    assert own.regret == pytest.approx(same.regret, rel=1e-9, abs=1e-9)
    torch.testing.assert_close(own.policy_nats, same.policy_nats, rtol=1e-9, atol=1e-12)
    _through_every_verb(certain(world), rule, tmp_path)
    if rule is cai.HARD:
        done = CliRunner().invoke(app, ["solve", "cliff_walking", "--form", "certain", "-r", "HARD", "--json"])
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)[0]["form"] == "certain"


def spread(evaluation: cai.Evaluation) -> float:
    """How evenly the policy's nats lie over time, from 1 (all at one time) up."""
    nats = evaluation.policy_nats.flatten()
    return float(nats.sum() ** 2 / nats.square().sum()) if bool((nats > 0).any()) else math.nan


def test_a_column_is_a_line(tmp_path: Path) -> None:
    world = load_model("grid")(rows=3, columns=3, horizon=6)
    mine = cai.Column("spread", "spread", "spread of nats", "", "How evenly the nats lie over time and state.", spread)
    comparison = cai.compare(world, {"hard": cai.HARD}, temperature=ALPHA, columns=[*cai.COLUMNS, mine])
    expected = spread(cai.evaluate(world, cai.HARD, temperature=ALPHA))
    assert json.loads(comparison.json())["rows"][0]["spread"] == pytest.approx(expected)
    assert "spread" in comparison.csv().splitlines()[0]
    assert "spread" in comparison.table().splitlines()[0]
    page = cai.report(comparison, tmp_path / "page")
    assert "spread of nats" in Path(page).read_text()


@dataclass(frozen=True)
class CrossEntropy:
    """A toy learner: draw episodes, and move the policy to what the best of them did (Rubinstein 1999)."""

    batch: int = 64
    elite: int = 8
    rate: float = 0.5
    budget: int = 20_000
    dtype: torch.dtype = torch.float64
    name: str = "cross_entropy"

    def init(self, problem: Problem) -> tuple[None, dict[str, Tensor]]:
        states, A = problem.simulator.variables.state_space, problem.actions.size
        return None, {"pi": torch.full((states.size, A), 1 / A, dtype=self.dtype)}

    def step(self, problem: Problem, state: State) -> tuple[State, dict[str, float]]:
        states, pi, seen = problem.simulator.variables.state_space, state.values["pi"], []

        def choose(env_state: Any, t: int) -> Any:
            s = states.join(states.unpack(env_state.state))
            a = torch.multinomial(pi[s], 1).squeeze(-1)
            seen.append((s, a))
            return problem.actions.pack(problem.actions.split(a))

        rollout = roll(problem.simulator, choose)
        best = rollout.returns.argsort(descending=True)[: self.elite]
        counts = torch.full_like(pi, 1e-3)
        for s, a in seen:
            counts.index_put_((s[best], a[best]), torch.ones(self.elite, dtype=self.dtype), accumulate=True)
        pi = torch.lerp(pi, counts / counts.sum(-1, keepdim=True), self.rate)
        after = replace(state, steps=state.steps + rollout.steps, updates=state.updates + 1, values={"pi": pi})
        return after, {"return": float(rollout.returns.mean())}

    def policy(self, problem: Problem, state: State) -> FixedPolicy:
        states, log_pi = problem.simulator.variables.state_space, state.values["pi"].log()
        return FixedPolicy(partial(always, log_pi), states, problem.actions)


@pytest.mark.slow
def test_a_learner_is_one_file(tmp_path: Path) -> None:
    world = load_model("grid")(rows=3, columns=3, horizon=10)
    runs = [cai.learn.train(CrossEntropy(), world, steps=20_000, seed=seed) for seed in (0, 1)]
    again = cai.learn.train(CrossEntropy(), world, steps=20_000, seed=0)
    assert [replace(p, seconds=0) for p in again.history] == [replace(p, seconds=0) for p in runs[0].history]
    assert [run.seed for run in runs] == [0, 1]
    exact = [cai.evaluate(world, run).expected_return for run in runs]
    assert min(exact) > cai.evaluate(world, None).expected_return
    comparison = cai.compare(world, {"cross-entropy": runs, "prior": None}, temperature=ALPHA)
    assert "cross-entropy" in comparison.table()
    assert "cross-entropy" in Path(cai.report(comparison, tmp_path / "page")).read_text()


@dataclass(frozen=True)
class Rejection:
    """A toy method: draw from the prior, and keep a trajectory with probability ``p(O = 1|τ) = exp(Σ r/α)``.

    What is kept are exact draws of POSTERIOR, and the share that is kept is Z without bias.
    """

    name: ClassVar[str] = "rejection"
    samples: int = 20_000

    def run(
        self, world: Any, temperature: float, generator: torch.Generator, guess: Any = None, *, progress: bool = False
    ) -> Approximation:
        program, N = noise_program(world), self.samples
        w = torch.randn(N, program.horizon, program.act_noise, generator=generator, dtype=torch.float64)
        z = torch.randn(N, program.horizon, program.step_noise, generator=generator, dtype=torch.float64)
        start = torch.randn(N, program.start_noise, generator=generator, dtype=torch.float64)
        runs = rollouts(program, start, w, z)
        log_optimal = runs.paid.sum(-1) / temperature
        if program.discount < 1 or bool((log_optimal > 0).any()):
            raise cai.fault("rejection", "a reward above 0, or a discount below 1", "rewards of at most 0, and γ = 1")
        kept = torch.rand(N, generator=generator, dtype=torch.float64).log() < log_optimal
        n = int(kept.sum())
        if n < 2:
            raise cai.ImpossibleError(f"rejection: {n} of {N} trajectories kept; expected more samples")
        plan = Plan(w[kept].mean(0), w[kept].std(0))
        even = torch.full((n,), 1 / n, dtype=torch.float64).log()
        return Approximation(
            self.name,
            temperature,
            NoisePolicy(program, partial(open_loop_law, plan, program.states.dimension)),
            log_evidence=Estimate(math.log(n / N), (1 / n - 1 / N) ** 0.5),
            trajectories=Trajectories(runs.states[kept], runs.actions[kept], runs.paid[kept], even),
            notes=(f"{n} of {N} trajectories kept",),
        )


def test_a_method_is_one_class_and_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undrawn: None) -> None:
    """Its log Z and its posterior are the exact ones, within four standard errors; by name it is everywhere."""
    monkeypatch.setitem(METHODS, "rejection", Rejection)
    world, alpha = load_model("double_integrator")(horizon=3), 10.0
    exact = cai.solve(world, temperature=alpha)
    found = cai.approximate(world, "rejection", temperature=alpha, samples=10_000, progress=False)
    log_z, kept = found.log_evidence, found.trajectories
    assert log_z.value is not None
    assert abs(log_z.value - float(exact.log_evidence)) < 4 * log_z.standard_error < 0.3
    assert kept is not None
    n, (mean, covariance) = len(kept.log_weights), kept.moments(2)
    assert ((mean - exact.marginals(2).mean[:2]).abs() < 4 * (covariance.diagonal() / n).sqrt()).all()
    with pytest.raises(cai.WorldError, match="sample: no option of rejection"):
        cai.approximate(world, "rejection", sample=10)
    control = cai.mpc(world, Rejection(samples=500), 2, temperature=10 * alpha)
    assert cai.rollout(world, control, batch=1).returns.isfinite().all()
    page = cai.report({"mine": found, "exact": exact}, tmp_path / "page")
    assert f"{n} of 10000 trajectories kept" in Path(page).read_text()
    settings = ["--set", "horizon=3", "-t", f"{alpha}", "--approximate", "--method", "rejection"]
    done = CliRunner().invoke(app, ["solve", "double_integrator", *settings])
    assert done.exit_code == 0, done.output
    assert "rejection, α = 10" in done.output


WORLD = """
import torch
import pyro
from pyro.distributions import Categorical
import cai

class Corridor:
    horizon = 6

    def initial(self):
        return pyro.sample("cell", cai.Point(torch.tensor(0), 5))

    def act(self, cell, t):
        return pyro.sample("move", Categorical(torch.ones(*cell.shape, 2) / 2))

    def step(self, cell, move, t):
        following = pyro.sample("cell", cai.Point((cell + 2 * move - 1).clamp(0, 4), 5))
        return following, (following == 4).double()
"""


@pytest.mark.slow
def test_a_world_is_one_file(tmp_path: Path) -> None:
    (tmp_path / "corridor.py").write_text(WORLD)
    world = cai.load_world(str(tmp_path / "corridor.py"))
    assert cai.check(world) == []
    assert float(cai.solve(world, cai.HARD).value) == 3.0
    done = command.cai("compare", "corridor.py", "-t", "0.5", "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "report.html").is_file()


def _through_every_verb(world: Any, rule: cai.Rule, folder: Path) -> None:
    evaluation = cai.evaluate(world, rule, temperature=ALPHA)
    assert evaluation.optimality_gap >= -1e-9
    comparison = cai.compare(world, {str(rule): rule, "prior": None}, temperature=ALPHA)
    row = json.loads(comparison.json())["rows"][0]
    assert row["elbo"] == pytest.approx(evaluation.elbo, rel=1e-12)
    page = cai.report(comparison, folder / "page")
    assert str(rule) in Path(page).read_text()


# A section of the report


def counted(request: Request) -> Iterator[Section]:
    yield Section("mine", "A section of my own", (Words(f"It has {len(request.each)} temperature, {request.title}."),))


def test_a_section_is_a_function_and_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undrawn: None) -> None:
    first, *others = report.KINDS
    monkeypatch.setattr(report, "KINDS", (replace(first, sections=(*first.sections, counted)), *others))
    one = cai.compare(load_model("restaurant")(), {"prior": None})
    page = page_of(cai.report(one, tmp_path, title="lunch"))
    assert "A section of my own" in page.text
    assert "It has 1 temperature, lunch." in page.text
    assert "mine" in page.links & page.anchors
