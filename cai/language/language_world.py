"""LanguageWorld: a reference model writes, an automaton reads and pays; an action is the next token.

The action prior is the reference, and to append a token is certain. So POSTERIOR and VARIATIONAL coincide, ELBO* is
log Z, and the best policy is the exact conditional, p(text | O = 1) ∝ p(text) exp(reward/α) (Korbak, Perez & Buckley
2022; Levine 2018, section 2.3).
"""

from typing import overload

import pyro
import torch
from jaxtyping import Float, Int
from pyro.distributions import Categorical
from torch import Tensor
from torch.nn.functional import one_hot

from cai.errors import fault
from cai.language.automaton import Automaton
from cai.language.hidden_markov import HiddenMarkov
from cai.language.impossible import require_possible
from cai.language.prefix_world import PrefixWorld
from cai.language.reachable import reachable
from cai.language.reference import Reference, require_suited
from cai.language.remembering import NONE, Remembering, one_hot_tokens, require_remembering
from cai.language.text_columns import TEXT_COLUMNS
from cai.language.text_world import require_texts
from cai.world.definition import Point

LABELLED = 100_000
"""The most states that get a name each."""


class LanguageWorld:
    """``state`` is what the reference remembers and where the automaton is; ``token`` is the next token.

    Only the pairs that some text reaches are states. The last state, where there is an end token, is the ended text.

    Args:
        reference: the model of language, the action prior.
        automaton: what pays.
        horizon: T, the length of a text in tokens.
        end: the token that ends a text early; None for none. The end pays r(q) of the state before it, and the token
            pays its transition.

    Attributes:
        memory, place: of the reference and of the automaton, by state, but for the ended text.
        log_next: log p(token | state) of the reference, nats, ``[S, V]``.
        successor: the next state, ``[S, V]``.
        reward: of each token, reward units, ``[S, V]``.
        final: at the end, reward units, ``[S]``.
        longest: the longest horizon for which there are all states; None where more tokens reach no more of them.

    Raises:
        WorldError: the vocabularies differ, the end is no token, or the horizon is not valid.
        IntractableError: the states need more memory than there is.
        ImpossibleError: no text of this length has both a probability above 0 and a reward above -inf.
    """

    stationary = True
    compared_by = TEXT_COLUMNS

    def __init__(self, reference: Reference, automaton: Automaton, horizon: int, end: str | None = None) -> None:
        require_suited(reference, automaton, horizon, end)
        self.reference, self.automaton, self._horizon, self._made_for = reference, automaton, horizon, horizon
        self.vocabulary, self.end = reference.vocabulary, end
        token = None if end is None else self.vocabulary.number[end]
        self.memory, self.place, self.successor, whole = _reached(reference, automaton, horizon, token)
        self.longest = None if whole else horizon
        self.log_next = reference.log_next(self.memory)
        self.reward, self.final = automaton.reward[self.place], automaton.final[self.place]
        if token is not None:
            self._end(token)
        require_possible(self)
        self.size = len(self.final)
        self.features = self._features if isinstance(reference, Remembering) else None
        self.labels = {"token": [self.vocabulary.shown([x]) for x in range(len(self.vocabulary))]} | self._named()

    @property
    def horizon(self) -> int:
        """T, the length of a text in tokens; it may be set, to ``longest`` at most."""
        return self._horizon

    @horizon.setter
    def horizon(self, horizon: int) -> None:
        whole = isinstance(horizon, int) and not isinstance(horizon, bool)
        if not whole or horizon < 1 or (self.longest is not None and horizon > self.longest):
            most = "on" if self.longest is None else f"to {self.longest}, whose states are there; else a new world"
            raise fault("language_world, horizon", f"{horizon!r}", f"from 1 {most}")
        self._horizon = horizon

    def under(self, automaton: Automaton) -> "LanguageWorld":
        """Return the world of the same reference with another automaton."""
        other = LanguageWorld(self.reference, automaton, self._made_for, self.end)
        other.horizon = self.horizon
        return other

    def initial(self) -> Tensor:
        """Start with no token."""
        return pyro.sample("state", Point(torch.tensor(0), self.size))

    def act(self, state: Tensor, t: int) -> Tensor:
        """The reference writes the next token."""
        return pyro.sample("token", Categorical(logits=self.log_next[state]))

    def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """Append it: the reference remembers it, the automaton reads it."""
        return pyro.sample("state", Point(self.successor[state, action], self.size)), self.reward[state, action]

    def terminal(self, state: Tensor) -> Tensor:
        """The automaton pays for the whole text, where it was not paid at its end."""
        return self.final[state]

    def terminated(self, state: Tensor) -> Tensor:
        """Say whether the text has ended."""
        return (state == self.size - 1) & (self.end is not None)

    def begin(self, *shape: int) -> Int[Tensor, "*N"]:
        """Return the state of no token."""
        return torch.zeros(shape, dtype=torch.long)

    def log_tokens(self, state: Int[Tensor, "*N"]) -> Float[Tensor, "*N V"]:
        """Return log p(token | state) of the reference, nats."""
        return self.log_next[state]

    def pays(self, state: Int[Tensor, "*N"], token: Int[Tensor, "*N"]) -> Float[Tensor, "*N"]:
        """Return the reward of a token, reward units."""
        return self.reward[state, token]

    def append(self, state: Int[Tensor, "*N"], token: Int[Tensor, "*N"]) -> Int[Tensor, "*N"]:
        """Return the state after a token."""
        return self.successor[state, token]

    def along(self, tokens: Int[Tensor, "*N T"]) -> Int[Tensor, "*N T+1"]:
        """Return the states of texts, before each token and after the last."""
        require_texts("along", self, tokens)
        states = [self.begin(*tokens.shape[:-1])]
        for x in tokens.unbind(-1):
            states.append(self.append(states[-1], x))
        return torch.stack(states, -1)

    def recent(self, state: Int[Tensor, "*N"]) -> Int[Tensor, "*N k"]:
        """Return the tokens that a ``Remembering`` reference remembers, the oldest first; -1 where there are fewer.

        Raises:
            WorldError: the reference is another.
        """
        found = require_remembering(self.reference).recent(self.memory)
        ended = torch.full((self.size - len(found), found.shape[-1]), NONE)
        return torch.cat((found, ended))[state]

    def _features(self, state: Int[Tensor, "*N"]) -> Float[Tensor, "*N F"]:
        """Return the remembered tokens, k one-hot vectors of V + 1, the last of them for none; and the place."""
        places = len(self.automaton)
        place = torch.cat((self.place, torch.full((self.size - len(self.place),), places)))[state]
        tokens = one_hot_tokens(self.recent(state), len(self.vocabulary))
        return torch.cat((tokens, one_hot(place, places + 1).double()), -1)

    def _end(self, token: int) -> None:
        """Add the state of the ended text, to which the end token goes."""
        S, V = self.successor.shape
        self.successor[:, token] = S
        self.reward = self.reward.clone()
        self.reward[:, token] += self.final
        self.successor = torch.cat((self.successor, torch.full((1, V), S)))
        zero = torch.zeros(1, V, dtype=torch.float64)
        self.reward, self.final = torch.cat((self.reward, zero)), torch.cat((self.final, zero[0, :1]))
        self.log_next = torch.cat((self.log_next, torch.full_like(zero, 1 / V).log()))

    def _named(self) -> dict[str, list[str]]:
        if self.size > LABELLED:
            return {}
        pairs = zip(self.memory.tolist(), self.place.tolist(), strict=True)
        names = [f"{self.reference.label(m)}|{self.automaton.labels[q]}" for m, q in pairs]
        return {"state": [*names, *(["ended"] if self.end is not None else [])]}


def _reached(
    reference: Reference, automaton: Automaton, horizon: int, end: int | None
) -> tuple[Int[Tensor, " S"], Int[Tensor, " S"], Int[Tensor, "S V"], bool]:
    """Return the pairs that texts reach, breadth first, the next pair of each at each token, and whether these are all.

    Where a token is never said or ends the text, the pair stays as it is.
    """
    Q = len(automaton)

    def following(pair: Tensor) -> Tensor:
        m, q = pair // Q, pair % Q
        stays = reference.log_next(m) == -torch.inf
        if end is not None:
            stays[:, end] = True
        return torch.where(stays, pair.unsqueeze(-1), reference.following(m) * Q + automaton.successor[q])

    start, size = reference.start * Q + automaton.start, reference.size * Q
    pairs, successor, whole = reachable("language_world", start, following, size, horizon)
    return pairs // Q, pairs % Q, successor, whole


@overload
def language_world(
    reference: Reference, automaton: Automaton, *, horizon: int, end: str | None = None
) -> LanguageWorld: ...
@overload
def language_world(
    reference: HiddenMarkov, automaton: Automaton, *, horizon: int, end: str | None = None
) -> PrefixWorld: ...
def language_world(
    reference: Reference | HiddenMarkov, automaton: Automaton, *, horizon: int, end: str | None = None
) -> LanguageWorld | PrefixWorld:
    """Return the world in which a reference model writes and an automaton pays.

    It is a ``LanguageWorld``; of a hidden Markov model, which remembers a belief, a ``PrefixWorld``.
    """
    if isinstance(reference, HiddenMarkov):
        return PrefixWorld(reference, automaton, horizon, end)
    return LanguageWorld(reference, automaton, horizon, end)
