"""The faults that the factors of a slice can show: each function returns findings, and raises none."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from cai.compile.slices import twice
from cai.errors import Finding, WorldError
from cai.graphs import graph
from cai.types import Space
from cai.world import World, discount_of, horizon_of


def audit_factors(
    where: str, factors: dict[str, Tensor], dims: dict[str, int], full: tuple[int, ...]
) -> Iterator[Finding]:
    """Check that each factor is shaped like its scope, is a number, and sums to one over its own variable.

    Args:
        where: which method, and when.
        factors: log-probabilities, nats, by variable.
        dims: the dimension of each enumerated variable.
        full: the sizes of all dimensions.
    """
    for name, factor in factors.items():
        here = f"{where}, variable '{name}'"
        if not fits(factor, full):
            seen = f"log-probabilities of shape {tuple(factor.shape)}"
            yield Finding(
                here,
                seen,
                f"a batch shape that broadcasts to {full}: one scalar for each combination of values",
            )
        elif factor.isnan().any() or (factor == torch.inf).any():
            yield Finding(
                here,
                "a log-probability that is NaN or +inf",
                "probabilities (all-zero rows cannot be normalised)",
            )
        elif name in dims and factor.shape and factor.dim() >= -dims[name]:
            total = factor.logsumexp(dims[name]).exp()
            worst = float((total - 1).abs().max())
            if worst > 1e3 * torch.finfo(factor.dtype).eps:
                seen = f"probabilities that sum to {float(total.flatten()[(total - 1).abs().argmax()]):.6g}"
                yield Finding(here, seen, "a sum of 1 over its values")


def audit_rewards(where: str, reward: Tensor, full: tuple[int, ...]) -> Iterator[Finding]:
    """Check that the reward is shaped like the slice, and is a number or -inf."""
    if not fits(reward, full):
        seen = f"a reward of shape {tuple(reward.shape)}"
        yield Finding(where, seen, f"a shape that broadcasts to {full}: one reward for each combination of values")
        return
    if reward.isnan().any():
        yield Finding(where, f"{int(reward.isnan().sum())} rewards are NaN", "numbers, or -inf for what is forbidden")
    if (reward == torch.inf).any():
        yield Finding(
            where,
            f"{int((reward == torch.inf).sum())} rewards are +inf",
            "finite rewards, or -inf for what is forbidden",
        )


def audit_next(where: str, values: dict[str, Tensor], states: Space, full: tuple[int, ...]) -> Iterator[Finding]:
    """Check that each next-state variable is shaped like the slice and stays within its values."""
    for name, size in zip(states.names, states.sizes, strict=True):
        value, here = values[name], f"{where}, variable '{name}'"
        if not fits(value, full):
            yield Finding(here, f"next values of shape {tuple(value.shape)}", f"a shape that broadcasts to {full}")
            continue
        low, high = float(value.min()), float(value.max())
        if not (low >= 0 and high <= size - 1):
            yield Finding(here, f"next values from {low:g} to {high:g}", f"values 0 … {size - 1}")
        elif value.is_floating_point() and (value != value.round()).any():
            yield Finding(here, "next values that are not whole numbers", f"values 0 … {size - 1}")


def audit_prior(where: str, log_prior: Tensor, states: Space) -> Iterator[Finding]:
    """Check that every state allows an action (a row of NaN is one that cannot be normalised). ``log_prior [S, A]``."""
    blocked = ((log_prior == -torch.inf) | log_prior.isnan()).all(-1).nonzero().flatten()
    if len(blocked):
        some = "; ".join(states.label(int(s)) for s in blocked[:3])
        yield Finding(
            where,
            f"all actions forbidden in {len(blocked)} state{'s' if len(blocked) > 1 else ''} ({some})",
            "an allowed action in every state",
        )


def audit_members(world: Any) -> Iterator[Finding]:
    """Check that the object has the methods of a world, and a horizon and a discount that make sense."""
    for name, signature in (("initial", "()"), ("act", "(state, t)"), ("step", "(state, action, t)")):
        if not callable(getattr(world, name, None)):
            yield Finding(name, "no such method", f"a method {name}{signature}")
    for read in (discount_of, horizon_of):
        try:
            read(world)
        except WorldError as error:
            yield from error.findings
            return


def audit_purity(world: World) -> Iterator[Finding]:
    """Check that two runs on the same values agree: nothing random or remembered hides outside the sample sites."""
    first, second = twice(world)
    for name, value in first.items():
        same = name in second and torch.equal(value.double().nan_to_num(), second[name].double().nan_to_num())
        if not same:
            seen = f"{name} differs between two runs on the same state, action and latents"
            expected = "a function of the slice alone: draw what is random with pyro.sample"
            yield Finding("step, t = 0", seen, expected)
            return


def audit_scope(world: World) -> Iterator[Finding]:
    """Check on the program's own graph that each slice reads nothing but itself: no state remembered from before."""
    horizon = horizon_of(world)
    slices = 3 if horizon is None else min(3, horizon)
    dag = graph(world, slices)
    for child, data in dag.nodes(data=True):
        time = data["time"] - (data["kind"] == "state")
        for parent in dag.predecessors(child):
            above = dag.nodes[parent]
            reach = (time, time + 1) if above["kind"] == "state" else (time,)
            if above["kind"] != "survival" and data["kind"] != "survival" and above["time"] not in reach:
                what = "the reward" if data["kind"] == "optimality" else f"variable '{data['variable']}'"
                seen = f"{what} reads '{parent}', which lies outside its slice"
                expected = "what it is given only: carry what must be remembered in the state"
                yield Finding(f"step, t = {max(time, 0)}", seen, expected)


def fits(value: Tensor, full: tuple[int, ...]) -> bool:
    """Tell whether a tensor broadcasts to the slice's full shape without growing it."""
    try:
        return bool(torch.broadcast_shapes(value.shape, full) == torch.Size(full))
    except RuntimeError:
        return False
