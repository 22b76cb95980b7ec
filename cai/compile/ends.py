"""Where an episode has ended: the optional member ``terminated``, as a mask of states or a factor.

After the end there are no more actions and no more rewards: such a state is absorbing.
"""

from collections.abc import Iterator

import pyro
import torch
from jaxtyping import Bool
from pyro.ops.provenance import get_provenance
from torch import Tensor

from cai.compile.additive import LARGEST
from cai.compile.factor_model import Factor
from cai.compile.table_model import Slice, Tables
from cai.compile.windows import spread, traced
from cai.errors import Finding, IntractableError, fault, user_code
from cai.support.process import alone
from cai.world.spaces import Space
from cai.world.spec import Spec


def ended_states(spec: Spec) -> Bool[Tensor, " S"] | None:
    """Return in which states an episode has ended, None where the world does not say.

    Raises:
        WorldError: ``terminated`` raises an error, or does not return one bool for each state.
    """
    if spec.terminated is None:
        return None
    states = spec.states
    over = _where_terminated(spec, states.split(torch.arange(states.size)), states.size)
    return over if bool(over.any()) else None


def ended_factor(spec: Spec) -> Factor | None:
    """Return the same as a factor of True and False over the variables that ``terminated`` reads.

    Raises:
        WorldError: ``terminated`` raises an error, or does not return one bool for each state.
        IntractableError: it reads too many variables at once.
    """
    if spec.terminated is None:
        return None
    states, names = spec.states, _variables_read(spec)
    scope = [name for name in states.names if name in names]
    sizes = [size for name, size in zip(states.names, states.sizes, strict=True) if name in scope]
    numbers = torch.Size(sizes).numel()
    if numbers > LARGEST:
        seen = f"{len(scope)} variables read at once, {numbers:,} joint values"
        raise IntractableError([Finding("terminated", seen, f"at most {LARGEST:,}")])
    within = Space(tuple(scope), tuple(sizes), (torch.long,) * len(scope), named=True)
    values = {**spread(states, frozenset()), **within.split(torch.arange(numbers))}
    typed = {
        name: values[name].to(dtype).expand(numbers) for name, dtype in zip(states.names, states.dtypes, strict=True)
    }
    over = _where_terminated(spec, typed, numbers)
    return Factor(tuple(scope), over.reshape(sizes)) if bool(over.any()) else None


def _variables_read(spec: Spec) -> frozenset[str]:
    """Name the variables that ``terminated`` reads."""
    assert spec.terminated is not None
    single = {name: traced(value.reshape(1), name) for name, value in spread(spec.states, frozenset()).items()}
    with user_code("terminated", "code that broadcasts over a batch of states"):
        names: frozenset[str] = get_provenance(spec.terminated(spec.states.pack(single)))
    return names


def _where_terminated(spec: Spec, values: dict[str, Tensor], n: int) -> Tensor:
    assert spec.terminated is not None
    with user_code("terminated", "code that broadcasts over a batch of states"):
        over = spec.terminated(spec.states.pack(values))
    expected = f"a bool tensor of shape ({n},), one for each state of a batch"
    if not isinstance(over, Tensor):
        raise fault("terminated", f"a {type(over).__name__}", expected)
    if over.dtype != torch.bool or over.shape != (n,):
        raise fault("terminated", f"a tensor of {over.dtype} and shape {tuple(over.shape)}", expected)
    return over


def inspect_ends(tables: Tables) -> Iterator[Finding]:
    """Check that no action leads out of a state in which an episode has ended, and that none is paid there."""
    if tables.ended is None or tables.batch_shape:
        return
    ended = tables.ended.nonzero().flatten()
    for t, slice_ in enumerate(tables.slices()):
        findings = list(_goes_on(tables, slice_, ended, t))
        if findings:  # later times would repeat them
            yield from findings
            return


def inspect_drawn_ends(spec: Spec, ends: Factor | None, t: int, samples: int = 16) -> Iterator[Finding]:
    """Draw a slice from some ended states of a world of factors: each must stay unchanged and pay nothing."""
    if ends is None:
        return
    states, world = spec.states, spec.world
    values = _some(states, ends, samples)
    with (
        alone(),
        pyro.poutine.block(),
        torch.random.fork_rng(devices=[]),
        user_code(f"step, t = {t}", "code that runs"),
    ):
        torch.manual_seed(0)
        state = states.pack(values)
        after, reward = world.step(state, world.act(state, t), t)
    where = f"terminated, t = {t}"
    for name, value in states.unpack(after).items():
        if bool((value != values[name]).any()):
            yield Finding(where, f"'{name}' changes", "an absorbing state: every action and outcome stays in it")
    reward = torch.as_tensor(reward)
    wrong = (reward != 0) & (reward != -torch.inf)  # evidence may forbid this state
    for paid in reward[wrong].flatten()[:1].tolist():
        yield Finding(where, f"a reward of {paid:g} there", "a reward of 0: the episode has ended")


def _some(states: Space, ends: Factor, samples: int) -> dict[str, Tensor]:
    """Choose ended states at random, ``[samples]`` by variable."""
    g = torch.Generator().manual_seed(0)
    ended = ends.table.reshape(-1).nonzero().flatten()
    chosen = ended[torch.randint(len(ended), (samples,), generator=g)]
    values = dict(zip(ends.scope, torch.unravel_index(chosen, ends.table.shape), strict=True)) if ends.scope else {}
    sizes = states.named_sizes
    drawn = {name: torch.randint(size, (samples,), generator=g) for name, size in sizes.items()}
    return {name: {**drawn, **values}[name].to(dtype) for name, dtype in zip(states.names, states.dtypes, strict=True)}


def _goes_on(tables: Tables, slice_: Slice, ended: Tensor, t: int) -> Iterator[Finding]:
    """Return in words the first outcome that leaves an ended state, and the first that pays there."""
    log_prior, log_prob, reward = slice_.log_prior[ended], slice_.log_prob[ended], slice_.reward[ended]
    allowed = log_prior > -torch.inf
    barred = reward == -torch.inf
    probability = torch.where(barred, log_prob.exp(), 0.0).sum(-1)
    spread = torch.where(allowed, probability, 0.0).amax(-1) - torch.where(allowed, probability, 1.0).amin(-1)
    alike = (spread < 1e-6)[:, None, None]  # evidence may forbid this state under every action
    possible = allowed.unsqueeze(-1) & (log_prob > -torch.inf) & ~(barred & alike)
    for i, a, k in (possible & (slice_.successor[ended] != ended[:, None, None])).nonzero()[:1].tolist():
        led = (
            f"{_point(tables, int(ended[i]), a)} leads to {tables.states.label(int(slice_.successor[ended[i], a, k]))}"
        )
        yield Finding(f"terminated, t = {t}", led, "an absorbing state: every action and outcome stays in it")
    for i, a, k in (possible & (reward != 0)).nonzero()[:1].tolist():
        paid = f"{_point(tables, int(ended[i]), a)} pays {float(reward[i, a, k]):g}"
        yield Finding(f"terminated, t = {t}", paid, "a reward of 0: the episode has ended")


def _point(tables: Tables, s: int, a: int) -> str:
    return f"{tables.states.label(s)}; {tables.actions.label(a)}"
