"""The trajectory as a plain Pyro program: slices stamped with their time, and an optimality node on each."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import pyro
import pyro.distributions as dist
import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from cai.errors import fault
from cai.support.memory import TENSOR, require_room
from cai.support.numerics import log, nats
from cai.world.definition import Optimality, World, require_policy
from cai.world.distributions import exact
from cai.world.spaces import Values, variable_names
from cai.world.spec import Spec, read


@runtime_checkable
class Actor(Protocol):
    """Whatever samples the world's action sites: the world itself (its prior) or a policy."""

    def act(self, state: Any, t: int) -> Any:
        """Sample a_t given s_t."""


@runtime_checkable
class Guide(Actor, Protocol):
    """A policy that takes the place of the start, the dynamics and survival too, at the world's own sites."""

    def initial(self) -> Any:
        """Sample s_0."""

    def step(self, state: Any, action: Any, t: int) -> tuple[Any, Tensor]:
        """Sample s_{t+1}, and the latents of the slice."""

    def survive(self, state: Any, t: int) -> Tensor:
        """Return the probability to survive step t on entering ``state`` = s_{t+1}."""


class Stamp(Messenger):
    """Stamps the time on every site of a slice: ``name`` becomes ``name_t``, and a carried variable ``name_{t+1}``.

    A probability of exactly zero stays zero; torch would make it 2e-16.
    """

    def __init__(self, piece: str, t: int, carried: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.piece, self.t, self.carried = piece, t, carried
        self.values: dict[str, Tensor] = {}
        self._plain: dict[str, str] = {}

    def _pyro_sample(self, msg: Any) -> None:
        if site_is_subsample(msg):  # a plate of one name may open in each piece of a slice
            msg["name"] = f"{msg['name']}_{self.piece}_{self.t}"
            return
        msg["fn"] = exact(msg["fn"])
        stamped = f"{msg['name']}_{self.t + (msg['name'] in self.carried)}"
        self._plain[stamped] = msg["name"]
        msg["name"] = stamped

    def _pyro_post_sample(self, msg: Any) -> None:
        if msg["name"] in self._plain:
            self.values[self._plain[msg["name"]]] = msg["value"]


def trajectory(
    world: World,
    policy: Actor | None = None,
    *,
    temperature: float | Tensor = 1.0,
    horizon: int | None = None,
) -> Callable[[], None]:
    """Return the trajectory program: p(τ, O = 1) with the action prior, or p̂(τ) with a policy in its place.

    ``p(τ, O=1) = p(s_0) Π_t p(a_t|s_t) p(s_{t+1}|s_t, a_t) exp(r_t / α)`` (Levine 2018, eq. 4). Sites are
    ``cell_0, move_0, slip_0, O_0, cell_1 …``. With ``policy`` the optimality nodes are left out: the same program is
    then the guide that keeps the true dynamics. A discount adds the sites ``alive_1 …``: survival with probability γ.
    After death no optimality node counts, and the world's own program goes on. Where the world's optional
    ``terminated(state)`` is True the episode has ended: actions are then drawn from the prior, whatever the policy.

    For ``TraceEnum_ELBO`` decorate *either* the model *or* the guide with ``config_enumerate``: with an enumerated
    guide the model replays the guide's sites, and Pyro 1.9.2 gives a wrong number if the model is marked as well.

    Args:
        world: the world.
        policy: samples the world's action sites given ``(state, t)``; None is the action prior, with optimality nodes.
            A policy with ``initial``, ``step`` and ``survive`` (``FullGuide``) also replaces the start and the
            dynamics.
        temperature: α, reward units.
        horizon: how many slices to write out; the world's own horizon unless given.

    Raises:
        WorldError: the horizon is infinite, or a variable is not a site.
        IntractableError: a trajectory of this length needs more memory than there is.
    """
    spec = read(world)
    if policy is not None:
        require_policy("trajectory, policy", policy)
        if not hasattr(policy, "act"):
            raise fault("trajectory, policy", f"a {type(policy).__name__}", "an object with act(state, t), or None")
    return unrolled(replace(spec, horizon=horizon or spec.horizon), policy, temperature)


def unrolled(spec: Spec, policy: Actor | None = None, temperature: float | Tensor = 1.0) -> Callable[[], None]:
    """Return the program of a world that was read; see ``trajectory``."""
    T, world = spec.horizon, spec.world
    if T is None or T < 1:
        raise fault("horizon", f"{T}", "a finite horizon to write the trajectory out: trajectory(world, horizon=…)")
    require_room("trajectory", f"three sites at each of T = {T:,} times", 3 * TENSOR * T)
    alpha = torch.as_tensor(temperature, dtype=torch.float64)
    if not bool((alpha > 0).all()):
        raise fault("temperature", f"{temperature}", "a positive number")
    actor = world if policy is None else policy
    dynamics = policy if isinstance(policy, Guide) else world

    def survival(state: Values, t: int) -> Tensor:
        return dynamics.survive(state, t) if isinstance(dynamics, Guide) else torch.tensor(spec.discount)

    def program() -> None:
        with Stamp("initial", 0) as start:
            state = dynamics.initial()
        carried = variable_names(state, start.values, "initial")
        alive: Tensor | None = None  # before the first possible death there is no such site
        for t in pyro.markov(range(T)):
            with Stamp("act", t):
                goes_on = alive if policy is None else _goes_on(spec, state, alive)
                action = _while_alive(actor.act, world.act, goes_on, state, t)
            with Stamp("step", t, carried) as step:
                state, reward = _while_alive(dynamics.step, world.step, alive, state, action, t)
            variable_names(state, step.values, f"step, t = {t}")
            if policy is None:
                _observe_optimality(f"O_{t}", reward, alpha, alive)
            if spec.discount < 1:
                live = survival(state, t) * (1 if alive is None else alive)
                alive = pyro.sample(f"alive_{t + 1}", dist.Categorical(logits=log(torch.stack([1 - live, live], -1))))
            # Inside the loop: after it s_T is out of markov's scope.
            if spec.terminal is not None and policy is None and t == T - 1:
                _observe_optimality(f"O_{T}", spec.terminal(state), alpha, alive)

    return program


def _observe_optimality(name: str, reward: Tensor, alpha: Tensor, alive: Tensor | None) -> None:
    """Observe O_t = 1, which counts while the trajectory is alive."""
    reward = torch.as_tensor(reward)
    kind = torch.promote_types(reward.dtype, torch.get_default_dtype())
    log_potential = nats(reward.to(kind), alpha.to(kind))
    log_potential = log_potential if alive is None else torch.where(alive > 0, log_potential, 0.0)
    pyro.sample(name, Optimality(log_potential), obs=torch.tensor(1.0))


def _goes_on(spec: Spec, state: Any, alive: Tensor | None) -> Tensor | None:
    """Return 1 where the policy acts: alive, and in a state in which the episode has not ended; None for everywhere."""
    if spec.terminated is None:
        return alive
    going = 1 - torch.as_tensor(spec.terminated(state)).long()
    return going if alive is None else alive * going


def _while_alive(piece: Callable[..., Any], own: Callable[..., Any], alive: Tensor | None, *args: Any) -> Any:
    """Run a guide's piece of a slice, which gives way to the world's own once the trajectory has ended."""
    if alive is None or piece == own:
        return piece(*args)
    with _OwnOnceEnded(own, args, alive):
        return piece(*args)


class _OwnOnceEnded(Messenger):
    """Lets the world's own distributions rule where the trajectory has ended, so that no KL is paid there."""

    def __init__(self, own: Callable[..., Any], args: tuple[Any, ...], alive: Tensor) -> None:
        super().__init__()
        self.own, self.args, self.alive = own, args, alive
        self.values: dict[str, Tensor] = {}
        self.now = ""

    def _pyro_sample(self, msg: Any) -> None:
        self.now = msg["name"]  # by the time it is sampled the outer Stamp has set its time on it
        own = NextSite(self.values, self.own, *self.args)
        if own.name != self.now:
            where, expected = f"policy, t = {self.args[-1]}", f"the world's own order of sites, '{own.name}' here"
            raise fault(where, f"a site '{self.now}'", expected)
        msg["fn"] = _Switch(self.alive > 0, own.fn, msg["fn"])  # type: ignore[no-untyped-call]

    def _pyro_post_sample(self, msg: Any) -> None:
        self.values[self.now] = msg["value"]


class NextSite(Messenger):
    """Runs a piece of a program in which the first sites are given, and reads the first one that is not.

    Attributes:
        name, fn: of that site, None where all are given.
        returned: what the piece returned.
    """

    def __init__(self, values: Mapping[str, Tensor], piece: Callable[..., Any], *args: Any) -> None:
        super().__init__()
        self.values = values
        self.name: str | None = None
        self.fn: Any = None
        with pyro.poutine.block(), self:
            self.returned = piece(*args)

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.values:
            msg["value"], msg["done"] = self.values[msg["name"]], True
        elif self.name is None:
            self.name, self.fn = msg["name"], exact(msg["fn"])


class _Switch(dist.MaskedMixture):
    """Pyro's MaskedMixture of two distributions on one support, which may be enumerated."""

    has_enumerate_support = True  # the components have, where enumeration is asked for at all

    def enumerate_support(self, expand: bool = True) -> Tensor:
        values: Tensor = self.component1.enumerate_support(expand)
        return values
