"""Sites that are not actions need no score-function term, because only actions have parameters.

``TraceGraph_ELBO`` gives every site without a reparameterised draw a score-function term, at a cost that grows with
the square of their number. The true dynamics have no parameters, so their terms are zero. Their sites are therefore
marked as reparameterised. Dependencies through their values are still tracked.
"""

from collections.abc import Callable
from typing import Any

from pyro.distributions import TorchDistribution
from pyro.poutine.messenger import Messenger
from torch import Tensor


class _Unscored(TorchDistribution):
    """A distribution without parameters of ours, whose draw passes for a reparameterised one."""

    has_rsample = True
    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 — torch's own convention

    def __init__(self, fn: Any) -> None:
        self.fn = fn
        super().__init__(fn.batch_shape, fn.event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        return self.fn.support

    def expand(self, batch_shape: Any, _instance: Any = None) -> "_Unscored":
        return _Unscored(self.fn.expand(batch_shape))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        value: Tensor = self.fn.sample(sample_shape)
        return value

    def log_prob(self, value: Tensor) -> Tensor:
        log_prob: Tensor = self.fn.log_prob(value)
        return log_prob


class _LeaveUnscored(Messenger):
    def __init__(self, choices: frozenset[str]) -> None:
        super().__init__()
        self.choices = choices

    def _pyro_sample(self, msg: Any) -> None:
        chosen = msg["name"].rpartition("_")[0] in self.choices
        if not chosen and not msg["fn"].has_rsample:
            msg["fn"] = _Unscored(msg["fn"])


def unscored(program: Callable[[], None], choices: frozenset[str]) -> Callable[[], None]:
    """Return the guide in which only the sites of the action variables named ``choices`` are scored."""

    def guide() -> None:
        with _LeaveUnscored(choices):
            program()

    return guide
