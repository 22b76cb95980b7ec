"""The glossary of exact inference: a world under a rule at a temperature is an operator.

    v_T = terminal,     v_t = backup(v_{t+1})

Everything is written once against it: the sweep, the fixed point, forward messages, samples, gradients, accounts. A
compiled form of a world implements it: tables, factors, linear-Gaussian and switching systems, parts, shards, beliefs.

The letters say what a form may choose its own type for. ``V`` is a value over states, in reward units; ``F`` a function
of state and action, in reward units or nats; ``M`` a measure over states and ``MF`` one over states and actions;
``Act`` a policy at one time. On tables and factors they are tensors ``[S]``, ``[S, A]``, ``[S]``, ``[S, A]`` and log
π(a|s), ``[S, A]``; on linear-Gaussian worlds a quadratic of s, one of (s, a), Gaussians over s and over (s, a), and a
Gaussian given s.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

from torch import Size, Tensor

from cai.exact.cost import Cost
from cai.exact.lifetime import Transition
from cai.exact.rounding import Rounding
from cai.exact.rules import Rule

V: TypeAlias = Any
F: TypeAlias = Any
M: TypeAlias = Any
MF: TypeAlias = Any
Act: TypeAlias = Any


@runtime_checkable
class Pick(Protocol):
    """How a chain is followed: by draws, or by what is likeliest."""

    def __call__(self, log_weights: Tensor) -> Tensor:
        """Return one number for each row of log-weights ``[N, K]``, ``[N]``."""

    def several(self, log_weights: Tensor, n: int) -> Tensor:
        """Return n numbers from log-weights ``[K]``, ``[n]``."""

    def normal(self, like: Tensor, k: int) -> Tensor:
        """Return standard normal noise for each row of ``like [N, …]``, ``[N, k]``."""


@runtime_checkable
class Conditionals(Protocol):
    """The rule's own chain at one time: how it acts, goes on and survives, given what is where."""

    @property
    def log_policy(self) -> F:
        """log π_t(a|s), nats."""

    def push(self, mu: M) -> M:
        """Return p(s_{t+1}, alive) from p(s_t, alive)."""

    def action(self, s: Any, pick: Pick) -> Any:
        """Pick an action in each state."""

    def outcome(self, s: Any, a: Any, pick: Pick) -> tuple[Any, Tensor]:
        """Pick what follows: the next states, and the rewards, reward units, ``[N]``."""

    def survives(self, s: Any, pick: Pick) -> Tensor:
        """Pick whether the trajectory goes on on entering these states, ``[N]``."""


@runtime_checkable
class Measured(Protocol):
    """A given policy on a compiled world under the true dynamics: all that its accounts are made of.

    An expectation is ``[S]``, by state, where states are numbered, ``[N]``, by trajectory, where N are sampled, else a
    number.
    """

    @property
    def model(self) -> Any:
        """The compiled world, a ``Model``."""

    @property
    def alpha(self) -> Tensor:
        """The temperature α, reward units."""

    @property
    def entries(self) -> int:
        """How many numbers a policy at one time takes."""

    def act(self, policy: Any, t: int) -> Act:
        """Return the policy at one time, checked.

        Raises:
            WorldError: it is no policy of this world.
        """

    def score(self, t: int, act: Act) -> F:
        """Return log π_t(a|s), nats: a density where actions are real, inf where there is none on the prior's plane."""

    def log_prior(self, t: int) -> F:
        """Return log p(a|s), nats."""

    def expected_reward(self, t: int) -> F:
        """Return E[r|s, a], reward units."""

    def terminal(self) -> V:
        """Return v_T, reward units."""

    def states_under(self, acts: Callable[[int], Act]) -> M:
        """Return p(s_t, alive) of every time 0 … T; of the infinite horizon in one row the sum over all times.

        Raises:
            IntractableError: the accounts need more memory than there is.
        """

    def joint(self, mu: M, act: Act) -> MF:
        """Return p(s_t, a_t, alive)."""

    def expect(self, joint: MF, f: F) -> Tensor:
        """Return E[f(s_t, a_t), alive]; what has probability 0 counts 0, even if f is infinite there."""

    def expect_state(self, mu: M, v: V) -> Tensor:
        """Return E[v(s_t), alive], a number, or by trajectory."""

    def in_play(self, joint: MF) -> MF:
        """Return p(s_t, a_t, alive) where somebody acts: 0 where an episode has ended."""

    def state_marginal(self, t: int, mu: M, names: Sequence[str]) -> Any:
        """Return the marginal of some state variables, of one time or of several at once."""

    def total(self, expected: Tensor) -> Tensor:
        """Return an expectation as one number, or by trajectory."""

    def by_place(self, account: Tensor) -> Tensor:
        """Return an account as it is shown, ``[T, S]``, or ``[T]`` where states are not numbered."""

    def standard_error(self, total: Tensor) -> float:
        """Return the standard error of a sum of such totals; 0 where they are exact."""


@runtime_checkable
class Operator(Protocol):
    """A compiled world under a rule at a temperature; see the module's words."""

    @property
    def model(self) -> Any:
        """The compiled world, a ``Model``: horizon, discount, spaces."""

    @property
    def rule(self) -> Rule:
        """How outcomes and actions are marginalised."""

    @property
    def alpha(self) -> Tensor:
        """The temperature α, reward units."""

    @property
    def batch_shape(self) -> Size:
        """The shape of a batch of worlds or temperatures; empty for one world at one temperature."""

    @property
    def parts(self) -> "tuple[Operator, ...]":
        """The operators of independent parts; itself alone where the world is in one piece."""

    @property
    def form(self) -> str:
        """What the compiled form is called."""

    def terminal(self) -> V:
        """Return v_T, reward units."""

    def backup(self, t: int, v_next: V, out: V | None = None) -> V:
        """Return v_t from v_{t+1}, reward units, in ``out`` where it is given."""

    def places(self) -> Any:
        """Return room for v of all times, ``out`` of their backups; None for what is made anew."""

    def all_times(self, values: Sequence[V], places: Any = None) -> V:
        """Return what has a value at each time, 0 first, in one, ``[*B, T+1, S]``; in its places, if it is there."""

    def at_once(self) -> V | None:
        """Return v of all times where there is a quicker way than the sweep; else None."""

    def limit(self) -> Any:
        """Return the ``FixedPoint`` of the infinite horizon where the form has its own way to it; else None."""

    def at(self, v: V, t: int) -> V:
        """Return v of time t out of that of all times."""

    def q(self, t: int, v_next: V) -> F:
        """Return q_t, reward units: ``q = mean over outcomes of r + c(v_{t+1})``."""

    def start(self, v_0: V) -> Tensor:
        """Return the start value, reward units: the rule's mean over outcomes, taken over s_0."""

    def log_start(self, v_0: V) -> M:
        """Return log p(s_0) under the rule, nats: given O for POSTERIOR."""

    def begin(self, v_0: V) -> M:
        """Return p(s_0) under the rule."""

    def initial(self) -> M:
        """Return p(s_0)."""

    def log_prior(self, t: int) -> F:
        """Return log p(a|s), nats."""

    def log_policy(self, t: int, v_next: V, error_bound: float = 0.0) -> Act:
        """Return the rule's own log π_t(a|s), nats; maximisers are tied within what v may be off."""

    def score(self, t: int, act: Act) -> F:
        """Return log π_t(a|s), nats; see ``Measured``."""

    def conditionals(self, t: int, v_next: V, error_bound: float = 0.0) -> Conditionals:
        """Return the rule's own chain at time t."""

    def policy(self, v: V, error_bound: float) -> Any:
        """Return the rule's own policy, from v of all times; see ``cai.policies.protocol``."""

    def pushing(self, v: V, error_bound: float) -> Callable[[int, M], M]:
        """Return a step of the rule's own chain, from v of all times: p(s_{t+1}, alive) from t and p(s_t, alive)."""

    def own_visits(self, v: V, start: M, error_bound: float) -> M:
        """Return p(s_t, alive) under the rule, summed over all times of the infinite horizon."""

    def tilt(self, t: int, v_next: V, error_bound: float = 0.0) -> Any:
        """Return the rule's own chain at time t with all its outcomes listed; see ``cai.exact.tables.backup.Tilt``."""

    def forward(self, v: V, states: V) -> V:
        """Return the forward messages log p(s_t, alive, O_{<t}) of every time, nats; POSTERIOR only."""

    @property
    def variables(self) -> tuple[str, ...]:
        """The names of all variables of a slice whose marginals are available: states, actions, latents."""

    def state_marginal(self, t: int, mu: M, names: Sequence[str]) -> Tensor:
        """Return the marginal of some state variables of time t, an axis each in the order given."""

    def marginal(self, t: int, mu: M, v_next: V, names: Sequence[str], error_bound: float) -> Tensor:
        """Return the marginal of some variables of a slice, an axis each in the order given."""

    def pick_start(self, v_0: V, n: int, pick: Pick) -> Tensor:
        """Pick n start states under the rule: their numbers ``[n]``, or real ones side by side."""

    def under(self, rule: Rule) -> "Operator":
        """Return the same world under another rule, cut from autograd."""

    def entry(self, index: int) -> "Operator":
        """Return one entry of the first batch axis."""

    def joint(self, mu: M, act: Act) -> MF:
        """Return p(s_t, a_t, alive)."""

    def push(self, t: int, joint: MF) -> M:
        """Return p(s_{t+1}, alive) under the true dynamics."""

    def visits(self, act: Act) -> M:
        """Return p(s_t, alive) under a stationary policy and the true dynamics, summed over all times."""

    def expected_reward(self, t: int) -> F:
        """Return E[r|s, a], reward units."""

    def luck(self, t: int, v_next: V) -> F:
        """Return KL(p(outcome|s, a) ‖ p(outcome|s, a, O)), nats; survival is part of the outcome."""

    def start_luck(self, v_0: V) -> Tensor:
        """Return KL(p(s_0) ‖ p(s_0|O)), nats."""

    def shortfall(self, t: int, v_next: V) -> F:
        """Return v - q, reward units: what each action loses against the rule's best; HARD only."""

    def measured(self, policy: Any, samples: int, seed: int) -> Measured:
        """Return what evaluates a policy: this operator where that is exact, else samples of its trajectories."""

    def chain(self, v: V) -> Transition | None:
        """Return the derivative of the stationary backup at v; None where it is not cheap."""

    def require_room(self) -> None:
        """Raise an ``IntractableError`` where messages of all times need more memory than there is."""

    def cost(self) -> Cost:
        """Predict what the costliest backup takes."""

    def rounding(self) -> Rounding:
        """Return a bound on the rounding of one backup."""


@runtime_checkable
class Drawn(Operator, Protocol):
    """An operator on real states, whose true dynamics are drawn from; a state is a row."""

    def draw_start(self, n: int, pick: Pick) -> Tensor:
        """Draw n start states from p(s_0), ``[N, n]``."""

    def draw(self, t: int, s: Tensor, a: Tensor, pick: Pick) -> Tensor:
        """Draw next states from p(s'|s, a), ``[N, n]``."""
