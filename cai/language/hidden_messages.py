"""The backward messages of a hidden Markov model and an automaton: β_t(b, q) is linear in the belief b.

    β_t(b, q) = Σ_h b(h) β_t(h, q),   β_T(h, q) = exp(r(q)/α)
    β_t(h, q) = Σ_x p(x|h) exp(r(q, x)/α) Σ_h' p(h'|h) β_{t+1}(h', δ(q, x))

β_t(h, q) is POSTERIOR's message of the world in which the hidden state is seen. All of it is in log space.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import one_hot

from cai.language.hidden_markov import HiddenMarkov
from cai.language.prefix_world import PrefixWorld, State
from cai.support.memory import require_room
from cai.support.numerics import log, logsumexp

SMALL = 1e-200
"""A sum of scaled numbers that is summed again in log space: below 1e-308 numbers lose their digits."""


@dataclass(frozen=True)
class HiddenMessages:
    """The messages of one world at one temperature.

    Attributes:
        world: of a hidden Markov model.
        alpha: α, reward units.
        log_beta: log β_t(h, q), nats, ``[T+1, H, Q]``.
        log_moved: log Σ_h' p(h'|h) β_{t+1}(h', q), nats, ``[T, H, Q]``.
    """

    world: PrefixWorld
    alpha: float
    log_beta: Float[Tensor, "T1 H Q"]
    log_moved: Float[Tensor, "T H Q"]

    def log_ahead(self, t: int, state: State) -> Float[Tensor, "*N"]:
        """Return log β_t(b, q) = log E[exp(rewards from t on / α) | prefix], nats."""
        log_b, place = log(state["belief"].reshape(-1, state["belief"].shape[-1])), state["place"].long().reshape(-1)
        found = torch.zeros(len(place), dtype=log_b.dtype)
        for q in place.unique().tolist():
            found[place == q] = log_matmul(log_b[place == q], self.log_beta[t, :, q : q + 1]).squeeze(-1)
        return found.reshape(state["place"].shape)

    def log_joint(self, t: int, state: State) -> Float[Tensor, "*N V"]:
        """Return log Σ_h b(h) p(x|h) exp(r(q, x)/α) Σ_h' p(h'|h) β_{t+1}(h', δ(q, x)), nats, of each token x."""
        b, place = state["belief"].reshape(-1, state["belief"].shape[-1]), state["place"].long().reshape(-1)
        found = torch.zeros(len(place), len(self.world.vocabulary), dtype=b.dtype)
        for q in place.unique().tolist():
            found[place == q] = self._log_joint_at(t, q, b[place == q])
        return found.reshape((*state["place"].shape, -1))

    def _log_joint_at(self, t: int, q: int, b: Float[Tensor, "N H"]) -> Float[Tensor, "N V"]:
        """Return it for beliefs at one place: a product of scaled numbers, in log space where that is too small."""
        leads = self.world.successor[q]
        top = _top(self.log_moved[t], 0)
        scaled = b @ ((self.log_moved[t] - top).exp()[:, leads] * emission(self.world, q))
        found = log(scaled) + top[0, leads]
        small = (scaled < SMALL).any(0)
        if bool(small.any()):
            found[:, small] = log_matmul(
                log(b), self.log_moved[t][:, leads[small]] + log(emission(self.world, q)[:, small])
            )
        return found + self.world.reward[q] / self.alpha


def hidden_messages(world: PrefixWorld, alpha: float) -> HiddenMessages:
    """Return the backward messages of a world of a hidden Markov model.

    Raises:
        IntractableError: they need more memory than there is.
    """
    model = world.model
    assert isinstance(model, HiddenMarkov)
    T, H, Q = world.horizon, model.hidden, len(world.final)
    what = f"messages of H = {H:,} hidden states and Q = {Q:,} of the automaton at T = {T:,} times"
    require_room("conditional", what, 32 * H * Q * (T + Q), "fewer states, or a shorter horizon")
    moves = _moves(world, alpha)
    log_beta, log_moved = [(world.final / alpha).expand(model.hidden, -1)], list[Tensor]()
    for _ in range(world.horizon):
        log_moved.append(log_matmul(model.log_transition, log_beta[-1]))
        log_beta.append(logsumexp(moves + log_moved[-1].unsqueeze(1), -1))
    return HiddenMessages(world, alpha, torch.stack(log_beta[::-1]), torch.stack(log_moved[::-1]))


def emission(world: PrefixWorld, q: int) -> Float[Tensor, "H V"]:
    """Return p(x|h); after the end all tokens are equally likely."""
    assert isinstance(world.model, HiddenMarkov)
    written = world.model.emission
    ended = world.end is not None and q == len(world.final) - 1
    return torch.full_like(written, 1 / len(world.vocabulary)) if ended else written


def _moves(world: PrefixWorld, alpha: float) -> Float[Tensor, "H Q Q"]:
    """Return log Σ p(x|h) exp(r(q, x)/α) over the tokens x that lead from q to q', nats."""
    rows = list[Tensor]()
    for q in range(len(world.final)):
        leads = log(one_hot(world.successor[q], len(world.final)).double())  # [V, Q]
        rows.append(log_matmul(log(emission(world, q)) + world.reward[q] / alpha, leads))
    return torch.stack(rows, 1)


def log_matmul(a: Float[Tensor, "N K"], b: Float[Tensor, "K M"]) -> Float[Tensor, "N M"]:
    """Return log Σ_k exp(a + b), nats: one product of scaled numbers, summed in log space where that is too small."""
    top_a, top_b = _top(a, -1), _top(b, 0)
    scaled = (a - top_a).exp() @ (b - top_b).exp()
    found = log(scaled) + top_a + top_b
    small = scaled < SMALL
    if bool(small.any()):
        small &= (a > -torch.inf).double() @ (b > -torch.inf).double() > 0  # all others are log 0
        i, j = small.nonzero(as_tuple=True)
        found[i, j] = logsumexp(a[i] + b.T[j], -1)
    return found


def _top(x: Tensor, dim: int) -> Tensor:
    top = x.amax(dim, keepdim=True)
    return torch.where(top > -torch.inf, top, 0.0)
