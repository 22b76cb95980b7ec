"""Dynamic programming: the textbook's iterations on tables, hard and soft, each with its bound.

    q(s,a) = E[r + γ v(s')]                                       the look-ahead; the dynamics are held fixed
    v(s)   = max_a q(s,a)                                         hard: over the support of the prior
    v(s)   = α log Σ_a p(a|s) exp(q(s,a)/α)                       soft: the rule VARIATIONAL
    v(s)   = Σ_a π(a|s) (q(s,a) - α log π(a|s)/p(a|s))            a given policy; α = 0 where no temperature is given

The problem is stationary and discounted: one slice for ever, γ < 1. A world's horizon and its terminal reward play no
part in it (``cai.solve`` has them). Each backup v ↦ F(v) is a γ-contraction in the largest difference over states, so

    |v_k - v*| <= γ/(1-γ) |v_k - v_{k-1}|    for v_k = F(v_{k-1})        |v - v*| <= |F(v) - v|/(1-γ)    for every v

and room for the rounding of one backup is added before the division by 1-γ.

Ties: a hard policy is the prior restricted to all maximisers, up to rounding. Forbidden actions are never taken. What
risks a reward of -inf is worth -inf, now or later; where nothing else is left v is -inf and the policy is the prior.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cai.compile.table_model import Tables
from cai.exact.anderson import gap
from cai.exact.lifetime import life_to_come
from cai.learn.stationary import Limits, Stationary, limits_of, stationary_problem, times
from cai.policies.as_policy import as_policy, policy_table
from cai.policies.fixed import FixedPolicy, always
from cai.world.definition import World


@dataclass(frozen=True, repr=False)
class Solution:
    """The result of value iteration, policy iteration or policy evaluation; ``evaluate`` and ``compare`` take it.

    Attributes:
        tables: the stationary problem that was solved: ``horizon = None``, ``discount = γ``.
        v: ``[S]``, reward units; -inf where every policy risks a reward of -inf.
        q: ``E[r + γ v(s')]``, ``[S, A]``, reward units.
        policy: greedy in ``q``, or soft at a temperature; after ``policy_evaluation`` the evaluated policy.
        iterations: backups of v, or policies evaluated.
        error_bound: a proved bound on ``|v - v*|`` (``|v - v^π|`` for an evaluation) in every state, reward units.
        history: the residual ``max |F(v) - v|`` of every iteration, reward units; inf as long as more states become
            -inf.
        temperature: α, reward units; None for the hard iteration.
        stopped: "tolerance" (the bound is small enough), "rounding" (more sweeps gain no digit) or "iterations" (the
            maximum).
    """

    tables: Tables
    v: Float[Tensor, " S"]
    q: Float[Tensor, "S A"]
    policy: FixedPolicy
    iterations: int
    error_bound: float
    history: tuple[float, ...]
    temperature: float | None
    stopped: str

    def __repr__(self) -> str:
        ending = f"{self.iterations} iterations, stopped by {self.stopped}"
        return f"Solution(value={self.value:.6g}, error_bound={self.error_bound:.3g}, {ending})"

    @property
    def value(self) -> float:
        """The start value Σ p(s_0) v(s_0), reward units."""
        return float(times(self.tables.log_initial.exp(), self.v).sum())


@torch.no_grad()
def policy_evaluation(
    world: World | Tables,
    policy: Any = None,
    *,
    gamma: float | None = None,
    temperature: float | None = None,
    tolerance: float | None = None,
    max_iterations: int = 100_000,
) -> Solution:
    """Evaluate a policy by sweeps of its own backup (Sutton & Barto 2018, section 4.1).

    ``v_k = Σ_a π(a|s) (E[r + γ v_{k-1}(s')] - α log π(a|s)/p(a|s))`` from v_0 = 0, the KL to the prior paid only where
    a temperature is given (Haarnoja et al. 2018, lemma 1); ``|v_k - v^π| <= γ/(1-γ) |v_k - v_{k-1}|``.

    Args:
        world: a world, or its tables; its horizon and terminal reward are ignored.
        policy: None (the action prior), or anything stationary that ``cai.evaluate`` takes as a policy.
        gamma: γ in [0, 1); the world's own discount unless given.
        temperature: α > 0, reward units; None for the plain expected return.
        tolerance: stop when the bound is no larger, reward units; None is 1e-10 of the largest reward or value.
        max_iterations: stop after so many sweeps; ``Solution.stopped`` says so.

    Raises:
        WorldError: the world, the policy or an argument is not valid, or the slices differ over time.
        IntractableError: the world cannot be tabulated.
    """
    problem, limits = stationary_problem(world, gamma, temperature), limits_of(tolerance, max_iterations)
    log_pi = policy_table(problem.tables, as_policy(problem.tables, policy), 0)
    nats = [times(log_pi.exp(), log_p) for log_p in (log_pi, problem.tables.log_prior)]
    price = times(problem.alpha, torch.stack(nats))  # its terms may cancel, but their rounding does not
    return _by_sweeps(problem, limits, lambda v: problem.under(log_pi, problem.q(v)), lambda q: log_pi, price)


@torch.no_grad()
def value_iteration(
    world: World | Tables,
    *,
    temperature: float | None = None,
    gamma: float | None = None,
    tolerance: float | None = None,
    max_iterations: int = 100_000,
) -> Solution:
    """Find v* by value iteration: ``v_k = max_a E[r + γ v_{k-1}(s')]`` from v_0 = 0 (Bellman 1957).

    At a temperature it is soft, ``v_k = α log Σ_a p(a|s) exp(E[r + γ v_{k-1}(s')]/α)``, and its v* that of the rule
    VARIATIONAL. Either way ``|v_k - v*| <= γ/(1-γ) |v_k - v_{k-1}|`` (Puterman 2005, section 6.3; Haarnoja et al. 2017,
    appendix A.2), and a greedy policy loses at most ``2γ/(1-γ)`` times the bound (Singh & Yee 1994).

    Args:
        world: a world, or its tables; its horizon and terminal reward are ignored.
        temperature: α > 0, reward units; None for the hard iteration.
        gamma: γ in [0, 1); the world's own discount unless given.
        tolerance: stop when the bound is no larger, reward units; None is 1e-10 of the largest reward or value.
        max_iterations: stop after so many sweeps; ``Solution.stopped`` says so.

    Raises:
        WorldError: the world or an argument is not valid, or the slices differ over time.
        IntractableError: the world cannot be tabulated.
    """
    problem, limits = stationary_problem(world, gamma, temperature), limits_of(tolerance, max_iterations)
    return _by_sweeps(problem, limits, lambda v: problem.best(problem.q(v)), problem.greedy)


@torch.no_grad()
def policy_iteration(
    world: World | Tables,
    *,
    temperature: float | None = None,
    gamma: float | None = None,
    tolerance: float | None = None,
    max_iterations: int = 1000,
) -> Solution:
    """Find v* by policy iteration: evaluate a policy exactly, then act greedily on its value (Howard 1960).

    ``v = (I - γ P_π)⁻¹ r_π``, ``π' = argmax_a E[r + γ v(s')]``; then ``v^π' >= v^π`` in every state, with equality
    everywhere only at v*, and ``0 <= v* - v^π <= |F(v) - v|/(1-γ)``. The first policy is the action prior. The
    iteration stops when no backup improves on v. ``v`` is the value of the last policy that was evaluated.

    At a temperature it is soft: α times the KL to the prior is subtracted from the reward, and ``π' ∝ p(a|s)
    exp(q^π(s,a)/α)`` (Haarnoja et al. 2018, lemmas 1 and 2, theorem 1, with an action prior here). Then it is Newton's
    method on ``F(v) = v``: near v* the number of right digits doubles each time.

    Args:
        world: a world, or its tables; its horizon and terminal reward are ignored.
        temperature: α > 0, reward units; None for the hard iteration.
        gamma: γ in [0, 1); the world's own discount unless given.
        tolerance: stop when the bound is no larger, reward units; None is 1e-10 of the largest reward or value.
        max_iterations: stop after so many policies; ``Solution.stopped`` says so.

    Raises:
        WorldError: the world or an argument is not valid, or the slices differ over time.
        IntractableError: the world cannot be tabulated.
        NotConvergedError: γ is so close to 1 that the values of more than 1500 states do not converge.
    """
    return _by_policies(stationary_problem(world, gamma, temperature), limits_of(tolerance, max_iterations))


def _by_sweeps(
    problem: Stationary,
    limits: Limits,
    backup: Callable[[Tensor], Tensor],
    greedy: Callable[[Tensor], Tensor],
    *numbers: Tensor,
) -> Solution:
    """Apply a backup until its bound is reached; ``greedy`` reads log π off q."""
    gamma, v, history, stopped = problem.tables.discount, problem.nothing, list[float](), ""
    while not stopped:
        before, v = v, backup(v)
        residual, rounding = float(gap(v, before).abs().max()), problem.rounding(v, *numbers)
        history.append(residual)
        bound = (gamma * residual + rounding) / (1 - gamma)
        stopped = limits.reached(bound, problem.rounding.size(v, *numbers), residual, rounding, len(history))
    q = problem.q(v)
    return _solution(problem, v, greedy(q), bound, history, stopped)


def _by_policies(problem: Stationary, limits: Limits) -> Solution:
    """Evaluate and improve in turn until no backup improves."""
    gamma, history, stopped = problem.tables.discount, list[float](), ""
    lost, log_pi, price = _safe_start(problem)
    v_next = _evaluated(problem, log_pi, price, lost)
    while not stopped:
        v, q = v_next, problem.q(v_next)
        residual, rounding = float(gap(problem.best(q), v).abs().max()), problem.rounding(v)
        history.append(residual)
        bound = (residual + rounding) / (1 - gamma)
        stopped = limits.reached(bound, problem.rounding.size(v), residual, rounding, len(history))
        if not stopped:
            log_pi = problem.greedy(q)
            v_next = _evaluated(problem, log_pi, problem.kl_cost(log_pi, q), lost)
            # Values rise until only rounding changes them.
            stopped = "" if float(gap(v_next, v).nan_to_num(posinf=0.0, neginf=0.0).sum()) > 0 else "rounding"
    return _solution(problem, v, problem.greedy(q), bound, history, stopped)


def _safe_start(problem: Stationary) -> tuple[Tensor, Tensor, Tensor]:
    """Return the states with v* = -inf, the log of the prior without actions that risk it ``[S, A]``, its α KL ``[S]``.

    From a policy that risks -inf everywhere no improvement leads out: q is -inf whatever is done first.
    """
    log_prior, floor = problem.tables.log_prior, problem.nothing
    while True:
        before, floor = floor, torch.where(problem.best(problem.q(floor)) == -torch.inf, -torch.inf, 0.0)
        if torch.equal(floor, before):
            break
    lost, risky = floor == -torch.inf, problem.q(floor) == -torch.inf
    allowed = torch.where(risky & ~lost.unsqueeze(-1), -torch.inf, log_prior)
    left_out = torch.where(lost.unsqueeze(-1) | ~risky, 0.0, log_prior.exp()).sum(-1)
    return lost, allowed.log_softmax(-1), times(problem.alpha, -torch.log1p(-left_out))


def _evaluated(problem: Stationary, log_pi: Tensor, price: Tensor, lost: Tensor) -> Tensor:
    """Return v = (I - γ P_π)⁻¹ r_π, ``[S]``, of a policy that pays ``price`` and never enters ``lost`` from outside."""
    pi = log_pi.exp()
    r_pi = times(pi, problem.dynamics.reward).sum(-1) - price
    return torch.where(lost, -torch.inf, life_to_come(problem.dynamics.living(pi), torch.where(lost, 0.0, r_pi)))


def _solution(
    problem: Stationary, v: Tensor, log_pi: Tensor, bound: float, history: list[float], stopped: str
) -> Solution:
    policy = FixedPolicy(partial(always, log_pi), problem.tables.states, problem.tables.actions)
    temperature = float(problem.alpha) or None
    return Solution(problem.tables, v, problem.q(v), policy, len(history), bound, tuple(history), temperature, stopped)
