"""A Pyro messenger that runs a slice with every variable enumerated on its own tensor dimension."""

from collections.abc import Callable, Collection
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from cai.errors import CaiError, Finding, IntractableError, fault, user_code
from cai.support.process import alone
from cai.world.definition import Point
from cai.world.distributions import exact
from cai.world.intervened import Intervened
from cai.world.spaces import Space, Values, Variable, variable_names

Choice = Callable[[int], int]
"""Which of n values to take."""
MOST = 62
"""Dimensions of a tensor that may stand for variables: torch has 64, and distributions need some for themselves."""


def first_value(n: int) -> int:
    """Choose the first of n values."""
    return 0


def base(fn: Any) -> Any:
    """Return the distribution under its wrappers (expanded, masked, independent, forced)."""
    while isinstance(fn, dist.ExpandedDistribution | dist.MaskedDistribution | dist.Independent | Intervened):
        fn = fn.base_dist
    return fn


def _masked(fn: Any) -> bool:
    while hasattr(fn, "base_dist"):
        if isinstance(fn, dist.MaskedDistribution):
            return True
        fn = fn.base_dist
    return False


def require_plain(where: str, msg: Any, before: Collection[str]) -> None:
    """Raise a ``WorldError`` where a site of a slice is not one plain sample of a name that was not sampled before."""
    if msg["name"] in before:
        raise fault(where, "sampled twice in one slice", "one sample of each name")
    if msg["is_observed"]:
        raise fault(where, "an observed site", "no evidence inside a slice: return it in the reward instead")
    if msg["mask"] is not None or msg["scale"] != 1 or _masked(msg["fn"]):
        raise fault(where, "a masked or scaled site", "a plain distribution: fold the factor into the reward")
    if msg["cond_indep_stack"]:
        plates = [frame.name for frame in msg["cond_indep_stack"]]
        raise fault(where, f"a site in the plates {plates}", "one named site for each variable")


class Enumerate(Messenger):
    """Runs a piece of a world and keeps each site's log-probability as a factor as small as its scope.

    Every site gets its whole support on a new dimension, ``dims`` counting leftwards from -1; its factor is in
    ``log_probs``. Where ``points`` is set, a ``Point`` takes no dimension: it is a function of what came before.

    Args:
        where: which method runs, and when, for the errors.
        first: the first free dimension, negative.
        points: whether a ``Point`` passes its value on instead of being enumerated.
        choose: take a single value of each support, the number that this returns for its size; None takes them all.
        window: the sites that are enumerated, the others taken at their first value; None enumerates all.
        lenient: draw a site that cannot be enumerated, and keep the error in ``obstacle``, in place of raising it.
    """

    def __init__(
        self,
        where: str,
        first: int = -1,
        *,
        points: bool = False,
        choose: Choice | None = None,
        window: Collection[str] | None = None,
        lenient: bool = False,
    ) -> None:
        super().__init__()
        self.where, self.next, self.points, self.choose, self.window = where, first, points, choose, window
        self.lenient = lenient
        self.obstacle: CaiError | None = None
        self.distributions: dict[str, Any] = {}
        self.values: dict[str, Tensor] = {}
        self.log_probs: dict[str, Tensor] = {}
        self.dims: dict[str, int] = {}
        self.sizes: dict[str, int] = {}
        self.cardinalities: dict[str, int] = {}
        self.chosen: dict[str, int] = {}

    def _pyro_sample(self, msg: Any) -> None:
        if site_is_subsample(msg) or msg["infer"].get("_deterministic"):
            return
        name, fn = msg["name"], msg["fn"]
        try:
            self._admit(f"{self.where}, variable '{name}'", msg)
        except CaiError as error:
            if not self.lenient:
                raise
            self.obstacle = self.obstacle or error
            self.distributions |= {} if msg["is_observed"] else {name: fn}
            if isinstance(base(fn), dist.ImproperUniform):  # a flat prior cannot be drawn from
                msg["value"], msg["done"] = torch.zeros(fn.shape()), True
            return
        self.distributions[name] = fn
        point = base(fn)
        if isinstance(point, Point):
            self.cardinalities[name] = point.cardinality
        if self.points and isinstance(point, Point):
            msg["value"] = point.value.view_as(point.value)  # an object of its own: sites are told apart by identity
            log_prob = torch.zeros(())
        else:
            msg["value"] = self._support(name, fn)
            log_prob = exact(fn).log_prob(msg["value"])
        msg["done"] = True
        self.values[name], self.log_probs[name] = msg["value"], log_prob

    def _pyro_post_sample(self, msg: Any) -> None:
        if self.lenient and msg["name"] in self.distributions:
            self.values.setdefault(msg["name"], msg["value"])

    def _admit(self, where: str, msg: Any) -> None:
        require_plain(where, msg, self.values)
        if not msg["fn"].has_enumerate_support:
            kind = type(base(msg["fn"])).__name__
            seen = f"{kind}, which has no finite support to enumerate"
            raise IntractableError(
                [Finding(where, seen, "a finite variable: discretise it, or use Categorical or cai.Point")]
            )
        if len(msg["fn"].event_shape) > 0:
            seen = f"events of shape {tuple(msg['fn'].event_shape)}"
            raise fault(where, seen, "scalar events: write a vector as several named variables")

    def _support(self, name: str, fn: Any) -> Tensor:
        point, choose = base(fn), self._choice(name)
        if choose is not None and isinstance(point, Point):  # only one of its many values is needed
            self.sizes[name] = point.cardinality
            self.chosen[name] = choose(point.cardinality)
            return torch.tensor(self.chosen[name])
        support: Tensor = fn.enumerate_support(expand=False).reshape(-1)
        self.sizes[name] = self.cardinalities[name] = len(support)
        if choose is not None:
            self.chosen[name] = choose(len(support))
            return support[self.chosen[name]]
        if -self.next > MOST:
            seen = f"{-self.next} variables, each along a dimension of its own"
            raise IntractableError([Finding(f"{self.where}, variable '{name}'", seen, f"at most {MOST}, torch's own")])
        self.dims[name] = self.next
        self.next -= 1
        return support.reshape((-1,) + (1,) * (-self.dims[name] - 1))

    def _choice(self, name: str) -> Choice | None:
        return self.choose if self.window is None or name in self.window else first_value


def run(messenger: Enumerate, piece: Callable[..., Any], *args: Any) -> Any:
    """Run a piece of a world under the messenger, without drawing a random number from the caller's stream.

    Raises:
        WorldError: the piece itself failed; the finding quotes its error.
    """
    single = messenger.choose is not None
    expected = "code that runs" if single else "code that broadcasts over a batch of states and actions"
    return run_under(messenger, messenger.where, expected, piece, *args)


def run_under(messenger: Messenger, where: str, expected: str, piece: Callable[..., Any], *args: Any) -> Any:
    """Run a piece of a world under any messenger, see ``run``; ``where`` and ``expected`` are said in the error."""
    # Our own checks are stricter than torch's validation, and name the variable and the state.
    with (
        user_code(where, expected),
        alone(),
        torch.random.fork_rng(devices=[]),
        pyro.validation_enabled(False),
        pyro.poutine.block(),
        messenger,
    ):
        return piece(*args)


def take_step(
    world: Any, states: Space, step: Enumerate, state: Values, action: Values, t: int
) -> tuple[dict[str, Tensor], Tensor]:
    """Run ``step`` under a messenger; return the next state by variable, and the reward.

    Raises:
        WorldError: what is returned is no next state with a reward.
    """
    next_state, reward = pair_of(run(step, world.step, state, action, t), step.where)
    require_own(states.names, next_state, step.values, step.where)
    for name, size in zip(states.names, states.sizes, strict=True):
        if step.cardinalities[name] != size:
            where = f"{step.where}, variable '{name}'"
            raise fault(where, f"{step.cardinalities[name]} values", f"{size}, as in initial")
    return {name: step.values[name] for name in states.names}, reward


def pair_of(returned: Any, where: str) -> tuple[Any, Tensor]:
    """Return the next state and the reward, as a tensor, out of what ``step`` returned.

    Raises:
        WorldError: it is no such pair.
    """
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise fault(where, f"{type(returned).__name__} returned", "a pair: (next state, reward)")
    next_state, reward = returned
    try:
        return next_state, reward if isinstance(reward, Tensor) else torch.as_tensor(reward)
    except (TypeError, ValueError, RuntimeError):
        raise fault(where, f"a reward of type {type(reward).__name__}", "a tensor of rewards") from None


def require_own(own: Collection[str], next_state: Values, sites: dict[str, Tensor], where: str) -> None:
    """Raise a ``WorldError`` unless a next state has the state's own variables, each sampled under its name."""
    names = variable_names(next_state, sites, where)
    if set(names) != set(own):
        seen = f"a next state of variables {list(names)}"
        raise fault(where, seen, f"the state's own variables {list(own)}, as initial samples them")


def described(values: Values, messenger: Enumerate) -> tuple[Variable, ...]:
    """Describe the variables that a piece of a program returned, in the order in which it sampled them.

    Raises:
        WorldError: a returned variable is not a site of its name.
    """
    variables = []
    for name in variable_names(values, messenger.values, messenger.where):
        fn = messenger.distributions[name]
        variables.append(Variable(name, cardinality(fn), torch.Size(fn.event_shape), messenger.values[name].dtype))
    return tuple(variables)


def cardinality(fn: Any) -> int | None:
    """Return how many values a distribution's support has, None where it is not finite."""
    if isinstance(base(fn), Point):
        return int(base(fn).cardinality)
    if not fn.has_enumerate_support or len(fn.event_shape):
        return None
    return len(fn.enumerate_support(expand=False))


def require_no_latents(messenger: Any, names: tuple[str, ...]) -> None:
    """Raise a ``WorldError`` where ``initial`` or ``act`` sampled more than it returned."""
    latents = [name for name in messenger.values if name not in names]
    if latents:
        expected = "only the returned variables sampled here: a latent belongs into step"
        raise fault(messenger.where, f"latents {latents} sampled beside {list(names)}", expected)
