"""read: the members of a world, read once and checked, before it is compiled."""

import dis
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from cai.errors import Finding, WorldError, fault, must_pass
from cai.support.process import precision
from cai.world.enumerate import Enumerate, described, first_value, require_no_latents, run, take_step
from cai.world.labels import labels_of, require_known
from cai.world.spaces import Layout, Space, Values, Variable, Variables, variable_names

METHODS = {"initial": "()", "act": "(state, t)", "step": "(state, action, t)"}
"""The methods of every world, with what they take."""


@dataclass(frozen=True, eq=False)
class Spec:
    """A world, read once: its clock, its optional members, and its variables.

    The members were checked when it was read; the variables are read off one run of the program on single values, when
    they are first asked for.

    Attributes:
        world: the program: ``initial``, ``act`` and ``step``.
        name: its name.
        horizon, discount: T and γ.
        stationary: whether it claims that its slices do not depend on t.
        terminal, terminated, observe, features: its optional methods, None where it has none.
        layout, labels: as the world gives them, not yet held against its variables.
        longest: the longest horizon for which there are all states; None where these are all for every horizon.
        dtype: torch's default when it was read, in which its program runs.
    """

    world: Any
    name: str
    horizon: int | None
    discount: float
    stationary: bool
    terminal: Callable[[Any], Any] | None
    terminated: Callable[[Any], Any] | None
    observe: Callable[[Any], Any] | None
    features: Callable[[Any], Tensor] | None
    layout: Layout | None
    labels: Any
    longest: int | None
    dtype: torch.dtype

    @cached_property
    def prior_is_timed(self) -> bool:
        """Whether the action prior may differ over time."""
        return not self.stationary and depends_on_time(self.world.act, 1)

    @cached_property
    def timed(self) -> bool:
        """Whether the slices may differ over time: the code reads t, and the world does not claim to be stationary."""
        return self.prior_is_timed or (not self.stationary and depends_on_time(self.world.step, 2))

    @property
    def times(self) -> int:
        """How many slices are to be looked at: T where they may differ over time, else 1."""
        return (self.horizon or 1) if self.timed else 1

    @property
    def early_end(self) -> Callable[[Any], Any] | None:
        """Tells the states in which an episode may stop before T, at no loss of reward; None where none may.

        A terminal reward is paid at T alone: an absorbing state goes on until then.
        """
        return None if self.terminal is not None and self.horizon is not None else self.terminated

    @cached_property
    def _head(self) -> tuple[Enumerate, Values, Enumerate, Values]:
        """Run ``initial`` and ``act`` on single values; a variable that is not finite is drawn."""
        with precision(self.dtype):
            begin = Enumerate("initial", choose=first_value, lenient=True)
            state = run(begin, self.world.initial)
            act = Enumerate("act, t = 0", choose=first_value, lenient=True)
            return begin, state, act, run(act, self.world.act, state, 0)

    @cached_property
    def variables(self) -> Variables:
        """The variables of states and actions, finite or not.

        Raises:
            WorldError: the program fails, or a returned variable is not a site of its name.
        """
        begin, state, act, action = self._head
        states, actions = described(state, begin), described(action, act)
        sizes = {variable.name: variable.size for variable in (*states, *actions) if variable.size is not None}
        labels = labels_of(self.labels, self.layout, sizes, [variable.name for variable in actions])
        spaces = _space(states, state), _space(actions, action)
        return Variables(states, actions, *(space and space.called(labels) for space in spaces))

    @property
    def heads(self) -> tuple[Enumerate, Enumerate]:
        """The sites of ``initial`` and ``act`` on single values."""
        begin, _, act, _ = self._head
        return begin, act

    @property
    def named(self) -> tuple[bool, bool]:
        """Whether the program speaks of a state, and of an action, as a dict of variables."""
        _, state, _, action = self._head
        return isinstance(state, dict), isinstance(action, dict)

    @property
    def example(self) -> Values:
        """One state, as a program of actions would see it."""
        return self._head[1]

    @cached_property
    def states(self) -> Space:
        """The numbered states.

        Raises:
            WorldError, IntractableError: ``initial`` is not valid, or a variable is not finite.
        """
        begin, state, _, _ = self._head
        return _finite(begin, state, self.variables.state_space)

    @cached_property
    def actions(self) -> Space:
        """The numbered actions.

        Raises:
            WorldError, IntractableError: ``act`` is not valid, or a variable is not finite.
        """
        _, _, act, action = self._head
        return _finite(act, action, self.variables.action_space)

    @cached_property
    def _slice(self) -> Enumerate:
        states, (_, state, _, action) = self.states, self._head
        _ = self.actions
        with precision(self.dtype):
            step = Enumerate("step, t = 0", points=True, choose=first_value)
            take_step(self.world, states, step, state, action, 0)
        sizes = states.named_sizes | step.cardinalities | self.actions.named_sizes
        labels_of(self.labels, self.layout, sizes)
        if self.observe is None:  # the values of observations may have labels, too
            require_known(self.labels, sizes)
        return step

    @property
    def sites(self) -> dict[str, int]:
        """The sizes of all variables of ``step``: its latents and the next state's, points too."""
        return self._slice.cardinalities

    @property
    def latents(self) -> dict[str, int]:
        """The sizes of those variables of ``step`` that take room in tables: a ``Point`` takes none."""
        return self._slice.sizes

    @property
    def outcomes(self) -> int:
        """K, the joint values of the slice's latents."""
        return math.prod(self.latents.values())


def read(world: Any) -> Spec:
    """Read a world; a ``Spec`` of torch's default dtype is returned as it is.

    Raises:
        WorldError: a method is missing, or the horizon or the discount makes no sense.
    """
    if isinstance(world, Spec):
        return world if world.dtype == torch.get_default_dtype() else read(world.world)
    if inspect.isclass(world) or isinstance(world, str):
        what = f"the class {world.__name__}" if inspect.isclass(world) else "a str"
        raise fault("world", what, "an instance of a world; cai.load_world(name) makes one of a name")
    findings = [
        Finding(name, "no such method", f"a method {name}{takes}")
        for name, takes in METHODS.items()
        if not callable(getattr(world, name, None))
    ]
    if findings and hasattr(world, "action_space"):
        expected = "a world; cai.from_gymnasium makes one of an environment with a table P"
        raise fault("world", f"an environment, {world}", expected)
    discount, faults = _attribute("discount", lambda: _discount(world))
    horizon, faults = (None, faults) if faults else _attribute("horizon", lambda: _horizon(world, discount))
    if findings or faults:
        raise WorldError([*findings, *faults])

    def member(name: str) -> Any:
        return getattr(world, name, None)

    return Spec(
        world=world,
        name=getattr(world, "name", type(world).__name__),
        horizon=horizon,
        discount=float(discount),
        stationary=bool(member("stationary")),
        terminal=member("terminal"),
        terminated=member("terminated"),
        observe=member("observe"),
        features=member("features"),
        layout=member("layout"),
        labels=member("labels"),
        longest=member("longest"),
        dtype=torch.get_default_dtype(),
    )


def _attribute(name: str, get: Callable[[], Any]) -> tuple[Any, list[Finding]]:
    """Return an attribute of a world, or what is wrong with it."""
    try:
        return get(), []
    except WorldError as error:
        return None, list(error.findings)
    except Exception as error:
        if must_pass(error):
            raise
        return None, [Finding(name, f"{type(error).__name__}: {error}", "an attribute that can be read")]


def _discount(world: Any) -> float:
    discount = getattr(world, "discount", 1.0)
    if not isinstance(discount, int | float) or not 0 < discount <= 1:
        raise fault("discount", f"{discount!r}", "a number above 0 and at most 1")
    return discount


def _horizon(world: Any, discount: float) -> int | None:
    if not hasattr(world, "horizon"):
        raise fault("horizon", "no such attribute", "a positive integer, or None with a discount below 1")
    horizon = world.horizon
    if horizon is None and discount == 1:
        raise fault("horizon", "None with a discount of 1", "a positive integer, or a discount below 1")
    if horizon is not None and (not isinstance(horizon, int) or isinstance(horizon, bool) or horizon < 1):
        raise fault("horizon", f"{horizon!r}", "a positive integer, or None with a discount below 1")
    return horizon


def remark(world: Any) -> str | None:
    """Return a note for a world seen in part, which ``solve`` treats as fully seen; None for other worlds."""
    if read(world).observe is None:
        return None
    return (
        "the world is seen in part: this answer assumes that the whole state is seen, an upper bound; "
        "cai.partial.solve finds the best policy that sees only observations"
    )


def depends_on_time(method: Callable[..., Any], position: int) -> bool:
    """Return whether a method reads its argument ``t``, by its bytecode; a method without bytecode counts as yes.

    Tabulating every time only to find all slices equal costs T times the work; an argument whose name is never loaded
    provably changes nothing.
    """
    function = inspect.unwrap(getattr(method, "__func__", method))
    code = getattr(function, "__code__", None)
    if code is None or function is not getattr(method, "__func__", method):
        return True
    parameters = list(inspect.signature(method).parameters.values())
    if len(parameters) <= position or parameters[position].kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD:
        return True
    name = parameters[position].name

    def loads(instruction: dis.Instruction) -> bool:
        named = instruction.argval == name or (isinstance(instruction.argval, tuple) and name in instruction.argval)
        return named and not instruction.opname.startswith(("STORE", "MAKE_CELL"))

    reads_frame = {"locals", "vars", "eval", "exec"} & set(code.co_names)
    return bool(reads_frame) or any(loads(instruction) for instruction in dis.get_instructions(code))


def _finite(messenger: Enumerate, values: Values, space: Space | None) -> Space:
    """Return the space of what a piece returned, or raise what stands against numbering it."""
    if messenger.obstacle is not None:
        raise messenger.obstacle
    require_no_latents(messenger, variable_names(values, messenger.values, messenger.where))
    assert space is not None  # every site was admitted
    return space


def _space(variables: tuple[Variable, ...], values: Values) -> Space | None:
    sizes = tuple(variable.size for variable in variables if variable.size is not None)
    if len(sizes) < len(variables):
        return None
    names, dtypes = tuple(variable.name for variable in variables), tuple(variable.dtype for variable in variables)
    return Space(names, sizes, dtypes, isinstance(values, dict))
