"""The finite variables of a mixed world: their Markov chain, read off by a run of the program for each joint value.

A *mode* is a joint value of the finite state variables. A *switch* is a joint value of all finite variables of a slice:
the mode that is left, each finite latent, the mode that is entered. With its finite variables forced, the program is a
world of real variables alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro.ops.provenance import detach_provenance, get_provenance
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from cai.compile.windows import traced
from cai.errors import Finding, IntractableError, fault, user_code
from cai.support.process import alone
from cai.world.definition import Point
from cai.world.distributions import exact
from cai.world.enumerate import base, cardinality
from cai.world.spaces import Values
from cai.world.spec import Spec

MOST_RUNS = 4096
"""Switches for which a program is run, each by itself."""


class Forced(Messenger):
    """Forces the finite sites of a piece of a program, hidden from the handlers around it.

    A site without a given value takes the first possible one. Where ``tracing``, it keeps the probabilities of the
    finite sites, and the names of the real variables that these depend on.
    """

    def __init__(self, where: str, given: Mapping[str, Tensor], *, tracing: bool = False) -> None:
        super().__init__()
        self.where, self.given, self.tracing = where, given, tracing
        self.values: dict[str, Tensor] = {}
        self.log_probs: dict[str, Tensor] = {}
        self.reads: dict[str, frozenset[str]] = {}

    def _pyro_sample(self, msg: Any) -> None:
        if site_is_subsample(msg) or msg["infer"].get("_deterministic"):
            return
        name, fn = msg["name"], msg["fn"]
        if cardinality(fn) is None:
            return
        if msg["is_observed"] or msg["mask"] is not None or msg["scale"] != 1 or msg["cond_indep_stack"]:
            expected = "a finite variable sampled plainly: no evidence, mask, scale or plate"
            raise fault(f"{self.where}, variable '{name}'", "a site that is not", expected)
        value = self.given.get(name)
        if value is None or self.tracing:
            support, self.log_probs[name] = self._distribution(name, fn)
            value = support[int((self.log_probs[name] > -torch.inf).byte().argmax())] if value is None else value
        self.values[name] = value
        msg["value"], msg["done"], msg["stop"] = value, True, True

    def _pyro_post_sample(self, msg: Any) -> None:
        if self.tracing and msg["name"] not in self.values and isinstance(msg["value"], Tensor):
            msg["value"] = traced(msg["value"], msg["name"])

    def _distribution(self, name: str, fn: Any) -> tuple[Tensor, Tensor]:
        """Return the values 0 … n-1 of a site, in the program's dtype, and log p of each."""
        point = base(fn)
        if isinstance(point, Point):
            support = torch.arange(point.cardinality, dtype=point.value.dtype)
            self.reads[name] = get_provenance(point.value)
        else:
            support = fn.enumerate_support(expand=False).reshape(-1)
        if not torch.equal(support, torch.arange(len(support)).to(support.dtype)):
            where, seen = f"{self.where}, variable '{name}'", f"values {support[:3].tolist()} …"
            raise fault(where, seen, "values 0 … n-1")
        log_probs = torch.stack([exact(fn).log_prob(value) for value in support])
        if log_probs.numel() != len(support):
            where, seen = f"{self.where}, variable '{name}'", f"a batch of shape {list(log_probs.shape[1:])}"
            raise fault(where, seen, "one finite variable a site, on one state")
        self.reads[name] = self.reads.get(name, frozenset()) | get_provenance(log_probs)
        return support, detach_provenance(log_probs.reshape(-1))


@dataclass(frozen=True)
class Leaf:
    """One joint value of the finite sites of a piece: by name, and log p of all."""

    values: dict[str, Tensor]
    log_prob: Tensor


def leaves(where: str, piece: Callable[[], Any]) -> list[Leaf]:
    """Return every joint value of the finite sites of a piece that is possible.

    Raises:
        IntractableError: their probabilities read a real variable, or they are too many.
    """
    found: list[Leaf] = []
    open_: list[dict[str, Tensor]] = [{}]
    while open_:
        prefix = open_.pop()
        forced = Forced(where, prefix, tracing=True)
        _ran(forced, piece)
        for name, reads in forced.reads.items():
            if reads:
                names = ", ".join(sorted(reads))
                expected = "a finite variable that depends on finite state variables and latents alone"
                raise IntractableError([Finding(f"{where}, variable '{name}'", f"it depends on {names}", expected)])
        so_far: dict[str, Tensor] = {}
        for name, value in forced.values.items():
            if name not in prefix:
                likely = (forced.log_probs[name] > -torch.inf).nonzero().flatten()
                others = (other.to(value.dtype) for other in likely if int(other) != int(value))
                open_ += [{**so_far, name: other} for other in others]
            so_far[name] = value
        terms = [forced.log_probs[name][int(value)] for name, value in forced.values.items()]
        found.append(Leaf(forced.values, sum(terms, torch.zeros(()))))
        if len(found) > MOST_RUNS:
            seen = f"more than {MOST_RUNS:,} joint values of the finite variables {list(forced.values)}"
            raise IntractableError([Finding(where, seen, f"at most {MOST_RUNS:,}")])
    return found


class InMode:
    """A mixed world in which every finite variable has one value: a world of its real variables.

    Attributes:
        spec: the mixed world.
        mode: the values of the finite state variables at the beginning of a slice.
        switch: the values of the finite sites of ``step``.
        reals: the real state variables.
    """

    def __init__(self, spec: Spec, mode: dict[str, Tensor], switch: dict[str, Tensor], reals: tuple[str, ...]) -> None:
        self.spec, self.mode, self.switch, self.reals = spec, mode, switch, reals
        self.horizon, self.discount, self.stationary = spec.horizon, spec.discount, not spec.timed
        self.terminal = None if spec.terminal is None else self._terminal

    def initial(self) -> Values:
        """Sample the real part of s_0, given the mode."""
        with Forced("initial", self.mode) as forced:
            return self._real(self.spec.world.initial(), forced)

    def act(self, state: dict[str, Tensor], t: int) -> Values:
        """Sample a_t from the prior in this mode."""
        action: Values = self.spec.world.act({**self.mode, **state}, t)
        return action

    def step(self, state: dict[str, Tensor], action: Values, t: int) -> tuple[Values, Tensor]:
        """Sample the real part of s_{t+1}, at this switch; return it with the reward."""
        with Forced(f"step, t = {t}", self.switch) as forced:
            following, reward = self.spec.world.step({**self.mode, **state}, action, t)
            return self._real(following, forced), reward

    def _terminal(self, state: dict[str, Tensor]) -> Any:
        assert self.spec.terminal is not None
        return self.spec.terminal({**self.mode, **state})

    def _real(self, state: Any, forced: Forced) -> dict[str, Tensor]:
        names = {*self.mode, *self.reals}
        if not isinstance(state, Mapping) or set(state) != names:
            seen = f"variables {sorted(state)}" if isinstance(state, Mapping) else f"a {type(state).__name__} returned"
            raise fault(forced.where, seen, f"the state's own variables, {sorted(names)}")
        wrong = [name for name in self.mode if state[name] is not forced.values.get(name)]
        if wrong:
            expected = "each sampled at a site of its own name (cai.Point makes a deterministic value a site)"
            raise fault(forced.where, f"variables {wrong} returned, not as sampled", expected)
        return {name: value for name, value in state.items() if name in self.reals}


def _ran(forced: Forced, piece: Callable[[], Any]) -> Any:
    with (
        user_code(forced.where, "code that runs"),
        alone(),
        torch.random.fork_rng(devices=[]),
        pyro.validation_enabled(False),
        pyro.poutine.block(),
        forced,
    ):
        return piece()
