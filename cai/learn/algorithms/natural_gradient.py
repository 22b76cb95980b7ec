"""The natural policy gradient on a table, with a critic that every transition teaches.

On a softmax table the Fisher matrix takes the visits out of the policy gradient (Kakade 2001, A natural policy
gradient; Cen et al. 2022, Fast global convergence of natural policy gradient methods with entropy regularization,
equation 18), and what is left of a step is

    Q̂(s,a) ← mean of r + γ V̂(s') over all transitions seen,    V̂(s) = Σ_a π(a|s) (Q̂(s,a) - α log π(a|s)/p(a|s))
    log π ← (1 - η) log π + η (log p + Q̂/α)

At η = 1 it is soft policy iteration. The targets are expectations under π itself, so that transitions of any earlier
policy teach the critic as well as new ones: on a table it is the least-squares critic (Lagoudakis & Parr 2003). Where
the slices do not depend on the time, a transition teaches every Q̂_t. Without a temperature a step is
``log π ← log π + 2^k Q̂/max|Q̂|``, k the number of the step: geometrically growing steps come to the optimum as
policy iteration does (Xiao 2022, On the convergence rates of policy gradient methods).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from cai.errors import WorldError, fault
from cai.learn.actor import Actor, actor_for
from cai.learn.functions import named, part
from cai.learn.learned_policies import draw
from cai.learn.policy_search import PolicyOptions
from cai.learn.problem import Metrics, Problem, State, require_finite
from cai.learn.result import Learned
from cai.learn.settings import FLOATING, SWITCH, check, number, whole
from cai.learn.soft_values import policy_value
from cai.learn.tallies import Tally, nothing_seen, tally_of
from cai.learn.training import chosen, parted, train
from cai.simulate.rollout import Rollout, roll, variables_simulated
from cai.simulate.simulator import EnvState, taken

DOUBLINGS = 30
"""How often the step of a hard learner is doubled; from there on steps are the same."""


@dataclass(frozen=True)
class NaturalGradient:
    """The natural policy gradient on a table; see ``reinforce``.

    Attributes:
        batch: episodes before each step.
        lr: η.
        epochs: steps after each batch, each with a critic of its own policy.
        explore: the share of actions drawn from the prior, so that every action is seen.
        stationary: one table for all times.
    """

    batch: int = 100
    epochs: int = 4
    lr: float = 1.0
    explore: float = 0.1
    stationary: bool = False
    budget: int = 1_000_000
    dtype: torch.dtype = torch.float64
    name: str = "reinforce"

    def __post_init__(self) -> None:
        kinds = {"lr": number(0, 1), "explore": number(0, 1), "dtype": FLOATING}
        check(self, (), batch=whole(), epochs=whole(), stationary=SWITCH, **kinds)

    def init(self, problem: Problem) -> tuple[EnvState | None, dict[str, Tensor]]:
        """Return θ = 0, so that π = p, and that nothing was seen."""
        if self.stationary and problem.simulator.timed:
            expected = "False: a table each time"
            raise fault(f"{self.name}, stationary", "True, and slices that differ over time", expected)
        return None, {"theta": self._actor(problem).function.init(), **named("tally", vars(nothing_seen()))}

    def step(self, problem: Problem, state: State) -> tuple[State, Metrics]:
        """Draw a batch of episodes; value the policy and move it, several times."""
        theta, seen = state.values["theta"], Tally(**part(state.values, "tally"))
        rollout = self._episodes(problem, theta)
        seen = seen.and_also(self._tally(problem, rollout))
        prior, updates, v = _all_priors(problem), state.updates, torch.zeros(())
        for _ in range(self.epochs):
            log_pi = (prior + theta.view(-1, *prior.shape[-2:])).log_softmax(-1)
            q, v = self._critic(problem, log_pi, prior, seen, len(rollout.rewards))
            theta, updates = self._moved(problem, theta, q.flatten(), updates), updates + 1
        values = {"theta": theta, **named("tally", vars(seen))}
        states = problem.simulator.variables.state_space
        assert states is not None
        begun = states.join(states.unpack(taken(rollout.states, 0)))
        metrics = {"return": float(rollout.returns.mean()), "value": float(v[begun].mean())}
        return replace(state, steps=state.steps + rollout.steps, updates=updates, values=values), metrics

    def policy(self, problem: Problem, state: State) -> Any:
        """Return π."""
        return self._actor(problem).policy(state.values["theta"])

    def _moved(self, problem: Problem, theta: Tensor, q: Tensor, updates: int) -> Tensor:
        """Return the next θ."""
        if problem.temperature is not None:
            return torch.lerp(theta, q / problem.temperature, self.lr)
        step: float = 2.0 ** min(updates, DOUBLINGS)
        return theta + step * q / q.abs().max().clamp(min=torch.finfo(q.dtype).tiny)

    def _episodes(self, problem: Problem, theta: Tensor) -> Rollout:
        actor, simulator, space = self._actor(problem), problem.simulator, problem.actions

        def choose(env_state: EnvState, t: int) -> Any:
            x, prior = actor.reads(env_state)
            pi = (prior + actor.function(theta, x)).softmax(-1)
            return space.pack(space.split(draw(((1 - self.explore) * pi + self.explore * prior.exp()).log())))

        rollout = roll(simulator, choose)
        require_finite(rollout.rewards)
        return rollout

    def _tally(self, problem: Problem, rollout: Rollout) -> Tally:
        """Count the transitions of each slice; one table for all times has no r_T."""
        simulator, space, T = problem.simulator, problem.actions, len(rollout.rewards)
        kept = torch.ones(T, dtype=torch.bool)
        if self.stationary and simulator.terminal is not None:
            kept = torch.arange(T) != (simulator.horizon or 0) - 1
        return tally_of(simulator, rollout, space.join(space.unpack(rollout.actions)), kept, self._slices(problem))

    def _critic(
        self, problem: Problem, log_pi: Tensor, prior: Tensor, seen: Tally, longest: int
    ) -> tuple[Tensor, Tensor]:
        """Return Q̂ of π, ``[T, S, A]``, backward in time; and V̂ at the start, ``[S]``, reward units.

        One table for all times has the values of as many steps as the longest episode.
        """
        T, shape = len(log_pi), log_pi.shape[-2:]
        which = self._slices(problem)
        slices = seen.by_slice(int(which.max()) + 1, shape.numel())
        q, v = torch.zeros_like(log_pi), torch.zeros_like(log_pi[0, :, 0])
        for t in reversed(range(T if T > 1 else longest)):
            row = min(t, T - 1)
            q[row] = slices[int(which[row])].mean(v, problem.gamma, shape)
            v = policy_value(q[row], log_pi[row], prior[min(row, len(prior) - 1)], problem.temperature)
        return q, v

    def _slices(self, problem: Problem) -> Tensor:
        """Return the number of the slice at each time, ``[T]``: they differ, or r_T makes the last one differ."""
        simulator = problem.simulator
        T = simulator.horizon or 1
        if self.stationary or not (simulator.timed or simulator.terminal is not None):
            return torch.zeros(T, dtype=torch.long)
        return torch.arange(T) if simulator.timed else (torch.arange(T) == T - 1).long()

    def _actor(self, problem: Problem) -> Actor:
        return actor_for(problem, None, self.stationary)


def _all_priors(problem: Problem) -> Tensor:
    """Return log p(a|s) of every state, ``[T, S, A]`` where it depends on the time, else ``[1, S, A]``."""
    simulator = problem.simulator
    states = simulator.variables.state_space
    assert states is not None
    every = states.pack(states.split(torch.arange(states.size)))
    times = range(simulator.horizon or 1) if simulator.timed else range(1)
    return torch.stack([simulator.log_prior(every, t) for t in times])


PLAIN = ("network", "settle", "average")
"""The options of the plain gradient alone, besides its own settings."""


def is_natural(natural: Any, world: Any, given: Sequence[str], options: PolicyOptions) -> bool:
    """Return whether the gradient is to be the natural one: as it is said, else on a table without other settings.

    Raises:
        WorldError: it is said to be, and there is no table, or settings of the plain gradient are given.
    """
    if natural is not None and not SWITCH.allows(natural):
        raise fault("reinforce, natural", f"{natural!r}", f"{SWITCH.words}, or None")
    others = [*given, *(name for name in PLAIN if options.get(name) is not None)]
    if not natural:
        return natural is None and not others and options.get("lr") is None and _finite(world, options)
    if others:
        raise fault("reinforce, natural", f"True beside {', '.join(others)}", "natural=False for those settings")
    if not _finite(world, options):
        raise fault("reinforce, natural", "True, and no table", "finitely many states and actions, or natural=False")
    return True


def _finite(world: Any, options: PolicyOptions) -> bool:
    subject, _ = chosen(world, options)
    try:
        return variables_simulated(subject).spaces is not None
    except WorldError:  # who trains says what is wrong with it
        return False


def natural_gradient(
    world: Any,
    batch: int,
    epochs: int | None,
    options: PolicyOptions,
    *,
    temperature: float | None,
    gamma: float | None,
) -> Learned:
    """Learn by the natural policy gradient; see ``reinforce``."""
    own, training = parted(options, {"lr", "stationary", "dtype", *PLAIN})  # what PLAIN names is None here
    own = {name: x for name, x in {**own, "epochs": epochs}.items() if x is not None}
    budget = options.get("steps", NaturalGradient.budget)
    algorithm = NaturalGradient(batch=batch, budget=budget, **own)
    return train(algorithm, world, temperature=temperature, gamma=gamma, **training)
