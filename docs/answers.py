"""What the problem sets check: their worlds, and each answer as the library computes it. Look here last."""

from collections.abc import Callable
from typing import Any, NamedTuple

import exercises
import pyro
import torch
from pyro.distributions import Categorical

import cai


class Corridor:
    """Five cells in a row; a move fails with probability 0.2. Each step costs 1 until the last cell is reached."""

    horizon = 6

    def initial(self):
        return pyro.sample("cell", cai.Point(torch.tensor(1), 5))

    def act(self, cell, t):
        return pyro.sample("move", Categorical(torch.ones(*cell.shape, 2) / 2))  # 0 left, 1 right

    def step(self, cell, move, t):
        works = pyro.sample("works", Categorical(torch.tensor([0.2, 0.8])))
        there = (cell + works * (2 * move - 1)).clamp(0, 4)
        following = pyro.sample("cell", cai.Point(torch.where(cell == 4, cell, there), 5))
        return following, torch.where(cell == 4, 0.0, -1.0)


class Fork:
    """One choice: 0 earns 1 for certain, 1 earns 3 with probability 0.6 and loses 4 otherwise."""

    horizon = 1

    def initial(self):
        return pyro.sample("place", cai.Point(torch.tensor(0), 1))

    def act(self, place, t):
        return pyro.sample("choice", Categorical(torch.ones(*place.shape, 2) / 2))

    def step(self, place, choice, t):
        lucky = pyro.sample("lucky", Categorical(torch.tensor([0.4, 0.6])))
        place = pyro.sample("place", cai.Point(torch.zeros_like(lucky), 1))
        return place, torch.where(choice == 1, 7.0 * lucky - 4.0, 1.0)


class Question(NamedTuple):
    """How an answer is computed, how near one must come, and in which unit."""

    answer: Callable[[], Any]
    tolerance: float = 1e-6
    unit: str = "nats"


def check(question: str, answer: Any) -> None:
    """Print whether the answer to a question is right."""
    asked = QUESTIONS[question]
    exercises.check(answer, asked.answer(), asked.tolerance, asked.unit)


def check_world(world: Any) -> None:
    """Print whether a world conforms, has two variables or more, and costs its best policy 0.1 nats of luck."""
    if world is ...:
        print("No answer yet.")
        return
    findings = cai.check(world)
    if findings:
        print(f"Not yet: {findings[0]}")
        return
    luck = cai.solve(world).log_evidence - cai.solve(world, cai.VARIATIONAL).elbo
    variables = len(cai.tabulate(world).states.names)
    right = variables >= 2 and luck >= 0.1
    print(f"{'Right' if right else 'Not yet'}: {variables} variables, log Z − ELBO* = {luck:.3f} nats.")


def messages(rule=cai.POSTERIOR, world=Corridor, temperature=1.0):
    return cai.solve(world(), rule, temperature=temperature)


def account(rule, world=Fork, temperature=1.0):
    return cai.evaluate(world(), rule, temperature=temperature)


def bandit_gradient(temperature=0.0):
    """Return the derivative of E[r] - α KL(π ‖ prior) by the second logit, at logits 0, 1, 0, for rewards 1, 2, 0."""
    logits = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64, requires_grad=True)
    pi = logits.softmax(-1)
    bits = (pi * (pi * 3).log()).sum()
    value = (pi * torch.tensor([1.0, 2.0, 0.0], dtype=torch.float64)).sum() - temperature * bits
    return torch.autograd.grad(value, logits)[0][1]


def tied_risk():
    """Return the η > 0 at which RISK(η) values both choices of the fork alike, by bisection."""
    low, high = 0.1, 50.0
    for _ in range(60):
        eta = (low + high) / 2
        safe, risky = cai.solve(Fork(), cai.RISK(eta)).q(0)[0]
        low, high = (eta, high) if risky > safe else (low, eta)
    return low


def temperature_of(chance):
    """Return the α at which VARIATIONAL takes the better choice of the fork with a probability, by bisection."""
    low, high = 1e-3, 1e3
    for _ in range(80):
        alpha = (low * high) ** 0.5
        kept = cai.solve(Fork(), cai.VARIATIONAL, temperature=alpha).policy.probs(0)[0, 0] >= chance
        low, high = (alpha, high) if kept else (low, alpha)
    return low


QUESTIONS = {
    "1.1": Question(lambda: (messages().q(5)[3, 1]).exp(), unit="units of β"),
    "1.2": Question(lambda: messages().log_evidence),
    "1.3": Question(lambda: messages().q(0)[1], unit="reward units"),
    "1.4": Question(lambda: messages().policy.probs(0)[1, 1], unit="of probability"),
    "1.5": Question(lambda: messages().states(3)[2], unit="of probability"),
    "1.6": Question(lambda: messages().log_evidence - messages(cai.VARIATIONAL).elbo),
    "2.1": Question(lambda: bandit_gradient(), unit="reward units"),
    "2.2": Question(lambda: bandit_gradient(0.5), unit="reward units"),
    "2.3": Question(
        lambda: (torch.tensor([1.0, 2.0, 0.0], dtype=torch.float64) / 0.5).softmax(-1), unit="of probability"
    ),
    "2.4": Question(lambda: messages(cai.HARD).q(0)[1], unit="reward units"),
    "2.5": Question(lambda: messages(cai.HARD).q(0)[1], tolerance=0.1, unit="reward units"),
    "2.6": Question(lambda: messages(cai.VARIATIONAL).q(0)[1], tolerance=0.1, unit="reward units"),
    "3.1": Question(lambda: messages(cai.POSTERIOR, Fork).policy.probs(0)[0, 1], unit="of probability"),
    "3.2": Question(lambda: messages(cai.VARIATIONAL, Fork).policy.probs(0)[0, 1], unit="of probability"),
    "3.3": Question(lambda: account(cai.VARIATIONAL).luck_nats.sum()),
    "3.4": Question(lambda: temperature_of(0.95), tolerance=1e-4, unit="reward units"),
    "3.5": Question(tied_risk, tolerance=1e-4, unit="reward units"),
}
