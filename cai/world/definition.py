"""A world: the one slice that a user writes, and the two distributions it is written with."""

import inspect
from typing import Any, Protocol, runtime_checkable

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from cai.errors import fault


@runtime_checkable
class World(Protocol):
    """One slice of a trajectory, as Pyro code that broadcasts; any object with these members is a world.

    Optional members: ``discount`` (1.0 unless given), ``terminal(state)`` (a reward on s_T), ``layout`` (a ``Layout``),
    ``stationary = True`` (the slices do not depend on t; needed only where the code of ``act`` and ``step`` does not
    show it), ``terminated(state)`` (bool: the episode has ended. Such a state is absorbing and pays no reward; there
    are no more actions, and entropy, KL and nats stop. A roll-out stops there too, unless a ``terminal`` reward is
    still due at T), ``features(state)`` (``[*, F]``: the input of networks), ``state_of(observation)`` (the state that
    an environment shows, see ``cai.mpc``), ``observe(state)`` (samples what the agent sees of the state, see
    ``cai.partial.solve``; ``cai.solve`` assumes that the whole state is seen), ``labels`` (the names of values in every
    output, ``{"move": ["left", None, …]}``: a name or None for each value of a variable), ``longest`` (the longest
    horizon for which it has all states), ``compared_by`` (the columns of its comparisons). A member that
    is None counts as absent. A state or an action is one tensor, or a dict of named variables whose keys are the names
    of their sample sites.
    """

    @property
    def horizon(self) -> int | None:
        """T, or None for the infinite horizon, which needs a discount below 1."""

    def initial(self) -> Any:
        """Sample s_0."""

    def act(self, state: Any, t: int) -> Any:
        """Sample a_t from the action prior p(a|s)."""

    def step(self, state: Any, action: Any, t: int) -> tuple[Any, Tensor]:
        """Sample s_{t+1}, and any latents of the slice; return it with the reward."""


def require_policy(where: str, policy: Any) -> None:
    """Raise if a policy is a class, has an ``act`` that cannot be called, or acts on what ``cai.partial`` reads.

    Raises:
        WorldError: it is so.
    """
    if inspect.isclass(policy):
        raise fault(where, f"the class {policy.__name__}", "an instance of it")
    if not callable(getattr(policy, "act", len)):
        raise fault(where, f"an act that is a {type(policy.act).__name__}", "a method act(state, t)")
    if _reads_records(policy):
        expected = (
            "a policy of states; on a linear-Gaussian world its output_feedback has a loop and a policy of states"
        )
        raise fault(where, f"a {type(policy).__name__}, which acts on a record of observations and actions", expected)


def _reads_records(policy: Any) -> bool:
    act = getattr(policy, "act", None)
    return inspect.ismethod(act) and list(inspect.signature(act).parameters)[:2] == ["observations", "actions"]


class Point(TorchDistribution):
    """The point mass on one value of a finite set: a deterministic next state that stays a node of the graph.

    ``log_prob(x) = 0 where x = value, else -inf`` (nats). Shapes: ``value`` is the batch shape, events are scalars.
    Its support ``0 … size-1`` can be enumerated; a compiler sees that it is a function of the slice's latents.
    """

    has_enumerate_support = True
    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 — torch's own convention

    def __init__(self, value: Tensor, size: int, validate_args: bool | None = None) -> None:
        self.value = torch.as_tensor(value)
        self.cardinality = int(size)
        if self.cardinality < 1:
            raise fault("Point, size", f"{size}", "a whole number, at least 1")
        super().__init__(self.value.shape, torch.Size(), validate_args=validate_args)

    def __repr__(self) -> str:
        return f"Point({tuple(self.batch_shape)} of {self.cardinality})"

    @property
    def support(self) -> Any:
        """The integers 0 … size-1."""
        return constraints.integer_interval(0, self.cardinality - 1)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Point":
        """Expand to a larger batch shape."""
        return Point(self.value.expand(torch.Size(batch_shape)), self.cardinality, validate_args=False)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Return the point, repeated to the sample shape."""
        return self.value.expand(torch.Size(sample_shape) + self.batch_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return 0 at the point and -inf elsewhere."""
        if self._validate_args:
            self._validate_sample(value)
        dtype = torch.get_default_dtype()
        hit = torch.zeros((), dtype=dtype, device=self.value.device)
        return torch.where(value == self.value, hit, hit.new_tensor(-torch.inf))

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """Return 0 … size-1 on a new leading dimension."""
        values = torch.arange(self.cardinality, device=self.value.device)
        values = values.reshape((-1,) + (1,) * len(self.batch_shape))
        return values.expand((-1, *self.batch_shape)) if expand else values


class Optimality(TorchDistribution):
    """The optimality node O_t of control as inference, to be observed as 1.

    ``log_prob(1) = log_potential = r_t / α``, nats (Levine 2018, eq. 3); ``log_prob(0) = log(1 - exp(log_potential))``.
    A positive potential is an unnormalised factor: it can be observed but not sampled, and O_t = 0 has no probability.

    An observed site is right where ``pyro.factor`` is not: inside ``pyro.markov`` with an enumerated guide, Pyro 1.9.2
    gives a wrong ``TraceEnum_ELBO`` for a factor.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 — torch's own convention
    support = constraints.boolean

    def __init__(self, log_potential: Tensor, validate_args: bool | None = None) -> None:
        self.log_potential = torch.as_tensor(log_potential)
        super().__init__(self.log_potential.shape, torch.Size(), validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Optimality":
        """Expand to a larger batch shape."""
        return Optimality(self.log_potential.expand(torch.Size(batch_shape)), validate_args=False)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw O_t.

        Raises:
            WorldError: a potential is positive, so that the factor is no probability.
        """
        if bool((self.log_potential > 0).any()):
            seen = f"a log-potential of {float(self.log_potential.max()):g}"
            raise fault("Optimality.sample", seen, "r / α at most 0: a positive one can only be observed")
        shape = torch.Size(sample_shape) + self.batch_shape
        return torch.bernoulli(self.log_potential.exp().expand(shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-potential where the value is 1, and log(1 - exp(log_potential)) where it is 0."""
        value = torch.as_tensor(value)
        if bool((value == 1).all()):
            return self.log_potential.expand(torch.broadcast_shapes(value.shape, self.batch_shape))
        complement = torch.log(-torch.expm1(self.log_potential.clamp(max=0)))
        return torch.where(value == 1, self.log_potential, complement)
