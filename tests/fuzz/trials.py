"""One trial: a random case, solved and evaluated by the library, held against the oracle.

A trial returns the faults that it found, as sentences. What the library refuses in its own words is counted apart.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import torch
from mpmath import inf, mp, mpf

import cai
import cai.exact.tables.backup_forms
from cai.exact.rule_means import Best, Expect, Soft, Viterbi
from cai.exact.rules import Rule
from tests.fuzz import oracle
from tests.fuzz.cases import Case, draw
from tests.fuzz.means import Hurwicz, Worst

EPS = torch.finfo(torch.float64).eps
FORMS = ("plain", "tables", "merged", "kernels", "factors", "reachable", "stacked")


@dataclass(frozen=True)
class Asked:
    """A rule, and the oracle's two means for it."""

    rule: Rule
    over: oracle.Mean
    across: oracle.Mean
    eta: float


def asked(rng: random.Random, alpha: float) -> Asked:
    """Draw one of the library's rules, or a pair of means of one's own."""
    named = {
        "POSTERIOR": (cai.POSTERIOR, oracle.soft(mpf(alpha)), oracle.soft(mpf(alpha))),
        "VARIATIONAL": (cai.VARIATIONAL, oracle.expect, oracle.soft(mpf(alpha))),
        "HARD": (cai.HARD, oracle.expect, oracle.best),
        "MAP": (cai.MAP, oracle.viterbi(mpf(alpha)), oracle.viterbi(mpf(alpha))),
        "PLANNING": (cai.PLANNING, oracle.soft(mpf(alpha)), oracle.viterbi(mpf(alpha))),
    }
    choice = rng.choice([*named, "POSTERIOR", "RISK", "own", "own"])
    if choice in named:
        return Asked(*named[choice], alpha)
    eta = alpha * rng.choice([-1, 1]) * 10 ** rng.uniform(-1, 1)
    if choice == "RISK":
        return Asked(cai.RISK(eta), oracle.soft(mpf(eta)), oracle.soft(mpf(alpha)), eta)
    h = rng.choice([0.25, 0.5])
    means = [
        (Soft(), oracle.soft(mpf(alpha))),
        (Soft(eta), oracle.soft(mpf(eta))),
        (Expect(), oracle.expect),
        (Best(), oracle.best),
        (Viterbi(), oracle.viterbi(mpf(alpha))),
        (Worst(), oracle.worst),
        (Hurwicz(h), oracle.hurwicz(mpf(h))),
    ]
    (over, own_over), (across, own_across) = rng.choice(means), rng.choice(means)
    name = f"{type(over).__name__} over outcomes, {type(across).__name__} over actions, η = {eta:g}"
    return Asked(Rule(name, over, across), own_over, own_across, eta)


@contextmanager
def engine(form: str) -> Iterator[None]:
    """Bring the library to prepare a backup in the form that is to be tried, however small the world is."""
    module = cai.exact.tables.backup_forms
    if form == "kernels":
        with mock.patch.object(module, "KERNEL_WORK", 1):
            yield
    elif form in ("plain", "tables"):
        with mock.patch.object(module, "WORTH_MERGING", 10**9 if form == "plain" else module.WORTH_MERGING):
            yield
    else:
        with mock.patch.object(module, "WORTH_MERGING", 1):
            yield


class Trial:
    """A case, what is asked of it, and the faults found so far."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(f"trial {seed}")
        self.case: Case = draw(seed)
        self.alpha = mpf(self.case.alpha)
        self.asked = asked(self.rng, self.case.alpha)
        self.form = self.rng.choice(FORMS)
        self.observe, self.do = self._conditions()
        self.exact = oracle.read(self.case, self.observe, self.do)
        self.faults: list[str] = []
        self.outcome = "agreed"

    def run(self) -> None:
        """Solve, and compare all that a solve gives; then evaluate a random policy."""
        found = self._sweep(self.asked.over, self.asked.across)
        try:
            messages = self._solve()
        except (cai.ImpossibleError, cai.NotConvergedError, cai.IntractableError, cai.WorldError) as error:
            self._refused(error, found)
            return
        if found is None:
            self._bounded(messages)
            return
        self._values(messages, found)
        if self.faults:
            return
        self._policies(messages, found)
        if self.case.horizon is not None and self.asked.rule is cai.POSTERIOR:
            self._marginals(messages, found)
        if self.form != "factors":
            self._gradient(found)
        if not (self.observe or self.do):
            try:
                self._evaluate()
            except cai.NotConvergedError:  # the accounts ask for three rules' fixed points, not for the trial's alone
                self.outcome = "no fixed point to measure against"

    # What is asked

    def _conditions(self) -> tuple[dict[tuple[str, int], int], dict[tuple[str, int], int]]:
        case, rng = self.case, self.rng
        asks = rng.random() < 0.3 and case.horizon is not None and case.discount == 1 and hasattr(case.world, "S")
        if not asks or self.form in ("stacked", "reachable"):
            return {}, {}
        sites = [("a", rng.randrange(case.horizon), case.A), ("s", rng.randrange(case.horizon + 1), case.S)]
        name, t, size = rng.choice(sites)
        condition = {(name, t): rng.randrange(size)}
        if self.asked.rule is cai.POSTERIOR and rng.random() < 0.6:
            return condition, {}
        return {}, condition

    def _sweep(self, over: oracle.Mean, across: oracle.Mean) -> oracle.Sweep | None:
        try:
            return oracle.sweep(self.case, self.exact, over, across)
        except oracle.NoAnswer:
            return None

    def _compiled(self) -> Any:
        if self.form == "factors":
            return cai.factorise(self.case.world)
        return cai.tabulate(self.case.world, reachable=self.form == "reachable")

    def _solve(self) -> Any:
        rule, alpha = self.asked.rule, self.case.alpha
        if self.form == "stacked":
            compiled = self._compiled()
            return cai.solve(cai.stack([compiled, compiled]), rule, temperature=[alpha, 2 * alpha])[0]
        given = [{f"{name}_{t}": v for (name, t), v in part.items()} for part in (self.observe, self.do)]
        form = "factors" if self.form == "factors" else "tables"
        asks_site_of_state = any(name == "s" for name, _ in self.do)  # tables have forgotten what leads to a state
        world = self.case.world if asks_site_of_state else self._compiled()
        with engine(self.form):
            return cai.solve(world, rule, temperature=alpha, form=form, observe=given[0], do=given[1])

    def _refused(self, error: Exception, found: oracle.Sweep | None) -> None:
        if isinstance(error, cai.ImpossibleError):
            if found is None or found.value > -inf:
                self._fault(f"refused as impossible, but the value is {show(found and found.value)}")
            self.outcome = "impossible"
        elif isinstance(error, cai.NotConvergedError):
            self.outcome = "no fixed point"
            if found is not None and not self._steep():
                self._fault(f"{type(error).__name__}: {error}; the value is {show(found.value)}")
        else:
            self.outcome = f"refused: {type(error).__name__}: {error}"[:110]
            if isinstance(error, cai.WorldError):
                self._fault(self.outcome)

    def _steep(self) -> bool:
        """Tell whether a backup may keep distances or stretch them: for such a rule no fixed point is promised."""
        known = all(isinstance(m, (Soft, Expect, Best, Viterbi)) for m in self._means())
        return not known or isinstance(
            self.asked.rule.over_outcomes, Best
        )  # the best of going on and ending: no discount

    def _means(self) -> tuple[Any, Any]:
        return self.asked.rule.over_outcomes, self.asked.rule.over_actions

    # What is compared

    def _scale(self, found: oracle.Sweep) -> Any:
        rows = [x for row in (*found.v, [found.value]) for x in row if x > -inf]
        rewards = [
            abs(mpf(r)) for one in self.case.slices for row in one.outcomes for o in row for _, _, r in o if r > -inf
        ]
        return max([abs(x) for x in rows] + rewards + [mpf(0)])

    def _tolerance(self, found: oracle.Sweep) -> Any:
        scale, heat = self._scale(found), max(self.alpha, abs(mpf(self.asked.eta)))
        kept = heat if self.form == "factors" else min(heat, 30 * scale)  # elimination takes plain logarithms
        return 64 * EPS * ((self.case.horizon or 1) + 2) * (scale + kept)

    def _rows(self) -> list[int]:
        """Return the states that are kept."""
        kept = self._compiled().states.kept if self.form == "reachable" else None
        return list(range(self.case.S)) if kept is None else kept.tolist()

    def _values(self, messages: Any, found: oracle.Sweep) -> None:
        tolerance = self._tolerance(found)
        if self.case.horizon is None:
            tolerance = tolerance + mpf(float(messages.error_bound))
            if messages.error_bound > max(0.01 * float(self._scale(found)), 1e-12):
                self._fault(f"error bound {messages.error_bound:.3g} for values up to {show(self._scale(found))}")
        self._near("value", float(messages.value), found.value, tolerance)
        for t in range(len(found.q)):
            q = messages.q(t)
            for row, s in enumerate(self._rows()):
                v = messages.v[row] if self.case.horizon is None else messages.v[t][row]
                self._near(f"v_{t}({s})", float(v), found.v[t][s], tolerance)
                for a in range(self.case.A):
                    if self.exact.prior(t, s)[a] > 0 and not self.exact.barred(t, s):
                        self._near(f"q_{t}({s}, {a})", float(q[row, a]), found.q[t][s][a], tolerance)

    def _bounded(self, messages: Any) -> None:
        """The oracle found no fixed point: what the library found must be one, and say how good it is."""
        self.outcome = "oracle undecided"
        scale = float(torch.where(messages.v > -torch.inf, messages.v, 0.0).abs().max())
        if messages.error_bound > max(0.01 * scale, 1e-12):
            self._fault(f"error bound {messages.error_bound:.3g} for values up to {scale:.3g}")

    def _policies(self, messages: Any, found: oracle.Sweep) -> None:
        slack = float(self._tolerance(found) / self.alpha)
        soft = isinstance(self.asked.rule.over_actions, Soft) and self.asked.rule.over_actions.eta is None
        exact = oracle.soft_policy(self.case, self.exact, found, self.alpha) if soft and slack < 1e-3 else None
        for t in range(len(found.q)):
            probs = messages.policy.probs(t)
            for row, s in enumerate(self._rows()):
                total = float(probs[row].sum())
                if not abs(total - 1) < 1e-9:
                    self._fault(f"π_{t}(·|{s}) sums to {total:.12g}")
                for a in range(self.case.A if exact else 0):
                    self._near(f"π_{t}({a}|{s})", float(probs[row, a]), exact[t][s][a], 1e-11 + 8 * slack)

    def _marginals(self, messages: Any, found: oracle.Sweep) -> None:
        T = self.case.horizon
        slack = float(self._tolerance(found) / self.alpha) * 8 * (T + 1)
        exact = oracle.tilted(self.case, self.exact, found, self.alpha) if slack < 1e-3 else None
        for t in range(T):
            joint = messages.marginals(t)
            if self.case.discount == 1 and not abs(float(joint.sum()) - 1) < 1e-9:
                self._fault(f"the marginals of time {t} sum to {float(joint.sum()):.12g}")
            for row, s in enumerate(self._rows()):
                for a in range(self.case.A if exact else 0):
                    self._near(f"p(s_{t}={s}, a={a}|O)", float(joint[row, a]), exact[t][s][a], 1e-10 + slack)

    def _gradient(self, found: oracle.Sweep) -> None:
        """With discount 1 and means that average, one more unit of reward at every step is worth T units."""
        if self.case.horizon is None or self.case.discount < 1 or self.form == "stacked":
            return
        if self.observe or self.do:
            return
        tables = self._compiled()
        reward = tables.reward.clone().requires_grad_(True)
        with engine(self.form):
            cai.solve(replace(tables, reward=reward), self.asked.rule, temperature=self.case.alpha).value.backward()
        total, expected = float(reward.grad.sum()), float(self.case.horizon)
        if not abs(total - expected) < 1e-8 * expected:
            self._fault(f"the gradients with respect to all rewards sum to {total:.12g}, not to T = {expected:g}")

    def _evaluate(self) -> None:
        answers = {
            "POSTERIOR": self._sweep(oracle.soft(self.alpha), oracle.soft(self.alpha)),
            "VARIATIONAL": self._sweep(oracle.expect, oracle.soft(self.alpha)),
            "HARD": self._sweep(oracle.expect, oracle.best),
        }
        if self.form in ("stacked", "reachable") or any(one is None or one.value == -inf for one in answers.values()):
            return
        policy = [[self._acting(t, s) for s in range(self.case.S)] for t in range(self.case.horizon or 1)]
        table = torch.tensor(policy if self.case.horizon else policy[0], dtype=torch.float64)
        exact = oracle.account(self.case, self.exact, policy, answers, self.alpha)
        with engine(self.form):
            evaluation = cai.evaluate(self._compiled(), table, temperature=self.case.alpha)
            self._accounts(evaluation, exact, answers)

    def _acting(self, t: int, s: int) -> list[float]:
        prior = self.exact.prior(t, s)
        raw = [self.rng.random() * self.rng.choice([0, 1, 1]) * (float(p) > 0) for p in prior]
        raw[max(range(len(prior)), key=lambda a: prior[a])] += 0.1
        return [x / sum(raw) for x in raw]

    def _accounts(self, evaluation: Any, exact: oracle.Account, answers: dict[str, oracle.Sweep]) -> None:
        rewards = sum((self._tolerance(one) for one in answers.values()), mpf(0))
        lifetime = self.case.horizon or 1 / (1 - self.case.discount)
        nats = rewards * (2 + lifetime) / self.alpha + 1e-12 * lifetime
        if self.case.horizon is None:
            for messages in (evaluation.posterior, evaluation.variational):
                nats += 4 * lifetime * mpf(messages.error_bound) / self.alpha
        elbo = exact.expected_return / self.alpha - exact.kl
        self._near("expected return", evaluation.expected_return, exact.expected_return, rewards)
        self._near("entropy", evaluation.entropy, exact.entropy, 1e-12 * lifetime)
        self._near("KL to the prior", evaluation.kl_to_prior, exact.kl, 1e-12 * lifetime)
        self._near("elbo", evaluation.elbo, elbo, nats)
        for name in ("policy_nats", "action_nats", "luck_nats", "start_nats"):
            if name == "luck_nats" and exact.action_nats == inf:
                continue  # what is luck after an action that the posterior never takes is a matter of convention
            if hasattr(evaluation, name):
                self._near(
                    name,
                    float(torch.as_tensor(getattr(evaluation, name), dtype=torch.float64).sum()),
                    getattr(exact, name),
                    nats,
                )
        self._near("ELBO* - ELBO", evaluation.optimality_gap, exact.policy_nats, nats)
        self._near(
            "log Z - ELBO", evaluation.evidence_gap, exact.start_nats + exact.action_nats + exact.luck_nats, nats
        )
        if hasattr(evaluation, "regret"):
            self._near("regret", evaluation.regret, exact.regret, nats * self.alpha)

    def _near(self, what: str, seen: float, expected: Any, tolerance: Any) -> None:
        if mpf(seen) == expected or (expected != -inf and expected != inf and abs(mpf(seen) - expected) <= tolerance):
            return
        self._fault(f"{what} is {seen:.15g}, expected {show(expected)} within {show(tolerance)}")

    def _fault(self, words: str) -> None:
        self.faults.append(words)

    def __str__(self) -> str:
        case = self.case
        size = f"S = {case.S}, A = {case.A}, T = {case.horizon}, γ = {case.discount:g}, α = {case.alpha:.3g}"
        given = f", observe {self.observe}, do {self.do}" if self.observe or self.do else ""
        return f"{type(case.world).__name__}, {size}, {self.asked.rule}, form {self.form}{given}"


def show(x: Any) -> str:
    """Write a number of the oracle in 15 digits."""
    return "unknown" if x is None else mp.nstr(mpf(x), 15)
