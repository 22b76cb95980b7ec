"""The faults that a world and the factors of its slice can show: findings, which the compilers raise."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from cai.compile.slices import single
from cai.compile.table_model import Tables
from cai.errors import Finding, demand, fault
from cai.world.dependencies import graph
from cai.world.spaces import Layout, Space
from cai.world.spec import Spec

RESERVED = {"O", "alive"}


def inspect_factors(
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


def inspect_rewards(where: str, reward: Tensor, full: tuple[int, ...]) -> Iterator[Finding]:
    """Check that the reward is shaped like the slice, and is a number or -inf."""
    if not fits(reward, full):
        seen = f"a reward of shape {tuple(reward.shape)}"
        yield Finding(where, seen, f"a shape that broadcasts to {full}: one reward for each combination of values")
        return
    if reward.is_complex():
        yield Finding(where, f"rewards of dtype {reward.dtype}", "real numbers")
        return
    if reward.isnan().any():
        yield Finding(where, f"{int(reward.isnan().sum())} rewards are NaN", "numbers, or -inf for what is forbidden")
    if (reward == torch.inf).any():
        yield Finding(
            where,
            f"{int((reward == torch.inf).sum())} rewards are +inf",
            "finite rewards, or -inf for what is forbidden",
        )


def inspect_next(where: str, values: dict[str, Tensor], states: Space, full: tuple[int, ...]) -> Iterator[Finding]:
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


def inspect_prior(where: str, log_prior: Tensor, states: Space, rows: Tensor | None = None) -> Iterator[Finding]:
    """Check that every state, or each of some, allows an action. ``log_prior [S, A]``; a row of NaN allows none."""
    blocked = ((log_prior == -torch.inf) | log_prior.isnan()).all(-1).nonzero().flatten()
    if len(blocked):
        some = "; ".join(states.label(int(s if rows is None else rows[s])) for s in blocked[:3])
        yield Finding(
            where,
            f"all actions forbidden in {len(blocked)} state{'s' if len(blocked) > 1 else ''} ({some})",
            "an allowed action in every state",
        )


def admit(spec: Spec) -> None:
    """Raise unless a world can be enumerated, its names do not clash, its layout fits, and its clock makes sense.

    Raises:
        WorldError, IntractableError: a member, a name or a variable is not valid.
    """
    demand([*inspect_names(spec), *inspect_layout(spec)])
    if spec.timed and spec.horizon is None:
        raise fault("act and step", "they read t", "slices that do not depend on t where horizon = None")


def inspect_pointwise(spec: Spec, tables: Tables, t: int, samples: int = 6) -> Iterator[Finding]:
    """Run the slice of time t on single values, twice, and hold it to the tables that the whole batch gave.

    Code that does not broadcast may give numbers of the right shape and another world's; code that draws or remembers
    outside its sample sites gives other numbers the second time. Both show here.
    """
    slice_ = tables.at(t)
    for i in range(samples):
        first, second = (single(spec, t, i, noise) for noise in (2 * i + 1, 2 * i + 2))
        a, k, s = first.a, first.k, int(tables.states.join(spec.states.split(torch.tensor(first.s))))
        batch = {
            "initial: log p": tables.log_initial[s],
            "act: log p": slice_.log_prior[s, a],
            "step: log p": slice_.log_prob[s, a, k],
            "step: the next state's number": slice_.successor[s, a, k],
            "step: the reward": slice_.reward[s, a, k],
            "terminal: the reward": tables.terminal[s],
        }
        point = f"{tables.states.label(s)}; {tables.actions.label(a)}"
        for what, alone in first.numbers.items():
            method, name = what.split(": ")
            where = method if method in {"initial", "terminal"} else f"{method}, t = {t}"
            if alone.numel() != 1:
                seen = f"{name} of shape {tuple(alone.shape)} for one state and action ({point})"
                yield Finding(where, seen, "a single number there")
            elif not close(alone, second.numbers[what]):
                seen = f"{name} differs between two runs on the same values ({point})"
                yield Finding(where, seen, "a function of the slice alone: draw what is random with pyro.sample")
            elif not close(alone, batch[what]):
                seen = f"{name} is {float(alone):g} for {point} alone, but {float(batch[what]):g} among all at once"
                yield Finding(where, seen, "code that broadcasts: index with state and action, reduce over no batch")
            else:
                continue
            return


def close(alone: Tensor, other: Tensor) -> bool:
    """Return whether a number that was computed alone is the one among all, rounding apart."""
    a, b = float(alone), float(other)
    return a == b or abs(a - b) <= 1e-5 * max(1.0, min(abs(a), abs(b)))  # -inf is close to no number


def inspect_names(spec: Spec) -> Iterator[Finding]:
    """Check that no two sites of the trajectory program would share a name."""
    return inspect_clashes(spec.states.names, spec.actions.names, tuple(spec.latents))


def inspect_clashes(states: Sequence[str], actions: Sequence[str], latents: Sequence[str]) -> Iterator[Finding]:
    """Check the names of states, actions and latents against each other, and against the program's own."""
    for name in dict.fromkeys((*states, *actions, *latents)):
        if name in RESERVED:
            yield Finding(f"variable '{name}'", "a name that the trajectory program uses itself", "another name")
    for name in states:
        if name in actions:
            yield Finding(f"variable '{name}'", "both a state and an action", "a name of its own for each")
    for name in actions:
        if name in latents:
            yield Finding(f"variable '{name}'", "both an action and a latent", "a name of its own for each")


def inspect_layout(spec: Spec) -> Iterator[Finding]:
    """Check that the layout, if the world has one, has a cell for every state and a move for every action."""
    layout, S, A = spec.layout, spec.states.size, spec.actions.size
    if layout is None:
        return
    if not isinstance(layout, Layout):
        yield Finding("layout", f"a {type(layout).__name__}", "a cai.Layout")
        return
    cells = layout.shape[0] * layout.shape[1]
    if tuple(layout.cell.shape) != (S,) or int(layout.cell.max()) >= cells:
        seen = f"cells of shape {tuple(layout.cell.shape)} up to {int(layout.cell.max())}"
        yield Finding("layout", seen, f"one cell for each of {S} states, below {cells}, or -1")
    if layout.entered is not None and tuple(layout.entered.shape[:2]) != (S, A):
        expected = f"a cell for each outcome of {S} states and {A} actions"
        yield Finding("layout", f"cells entered of shape {tuple(layout.entered.shape)}", expected)
    if len(layout.moves) != A:
        yield Finding("layout", f"{len(layout.moves)} moves", f"one for each of {A} actions")


def inspect_scope(spec: Spec) -> Iterator[Finding]:
    """Check on the program's graph that each slice depends on its own variables only, not on earlier ones.

    A stationary world is looked at for 3 slices, one that reads t for its first 32.
    """
    reach = 32 if spec.timed else 3
    dag = graph(spec, min(reach, spec.horizon or reach))
    for child, data in dag.nodes(data=True):
        time = data["time"] - (data["kind"] == "state")
        for parent in dag.predecessors(child):
            above = dag.nodes[parent]
            near = (time, time + 1) if above["kind"] == "state" else (time,)
            if above["kind"] != "survival" and data["kind"] != "survival" and above["time"] not in near:
                what = "the reward" if data["kind"] == "optimality" else f"variable '{data['variable']}'"
                seen = f"{what} reads '{parent}', which is outside its slice"
                expected = "only its arguments: store in the state what must be remembered"
                yield Finding(f"step, t = {max(time, 0)}", seen, expected)


def fits(value: Tensor, full: tuple[int, ...]) -> bool:
    """Return whether a tensor broadcasts to the slice's full shape without growing it."""
    sizes = zip(reversed(value.shape), reversed(full), strict=False)
    return value.dim() <= len(full) and all(size in (1, whole) for size, whole in sizes)
