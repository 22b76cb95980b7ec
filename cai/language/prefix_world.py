"""PrefixWorld: a world of language whose states are not listed, because they are beliefs, or too many."""

import pyro
import torch
from jaxtyping import Bool, Float, Int
from pyro.distributions import Categorical, Delta
from torch import Tensor
from torch.nn.functional import one_hot

from cai.language.automaton import Automaton
from cai.language.hidden_markov import HiddenMarkov
from cai.language.reference import Reference, require_suited
from cai.language.remembering import NONE, Remembering, appended, one_hot_tokens, require_remembering
from cai.language.text_world import require_texts
from cai.support.numerics import log
from cai.world.definition import Point

State = dict[str, Tensor]
"""``belief`` ``[*N, H]`` or ``memory`` ``[*N]``, ``place`` ``[*N]``, and ``recent`` ``[*N, k]`` where it remembers."""


class PrefixWorld:
    """The world of ``LanguageWorld``, for a reference that remembers a belief, or for more states than can be listed.

    A state has the variables ``belief``, p(h_t | prefix) of a hidden Markov model, or ``memory`` of another reference;
    ``place``, the state of the automaton; and, of a ``Remembering`` reference, ``recent``: its last k tokens, -1 where
    there are fewer. All of them follow from the prefix, so the world is deterministic. The last place, where there is
    an end token, is the ended text. It can be simulated and learned in; ``cai.language.conditional`` solves it.

    Args:
        reference: the model of language, the action prior.
        automaton: what pays.
        horizon: T, the length of a text in tokens.
        end: the token that ends a text early; None for none.

    Raises:
        WorldError: the vocabularies differ, the end is no token, or the horizon is not valid.
    """

    stationary = True
    conditioned_by = "cai.language.conditional(world)"
    measured_by = "cai.language.distance(cai.language.conditional(world), policy)"

    def __init__(
        self, reference: Reference | HiddenMarkov, automaton: Automaton, horizon: int, end: str | None = None
    ) -> None:
        require_suited(reference, automaton, horizon, end)
        self.reference, self.automaton, self.horizon = reference, automaton, horizon
        self.vocabulary, self.end = reference.vocabulary, end
        self.model = reference.reference if isinstance(reference, Remembering) else reference
        self.remembers = reference.length if isinstance(reference, Remembering) else 0
        self.successor, self.reward, self.final = _with_end(automaton, end)
        ended = [] if end is None else ["ended"]
        self.labels = {"token": list(self.vocabulary.tokens), "place": [*automaton.labels, *ended]}

    def under(self, automaton: Automaton) -> "PrefixWorld":
        """Return the world of the same reference with another automaton."""
        return PrefixWorld(self.reference, automaton, self.horizon, self.end)

    def initial(self) -> State:
        """Start with no token."""
        return self._sites(self.begin())

    def act(self, state: State, t: int) -> Tensor:
        """The reference writes the next token."""
        return pyro.sample("token", Categorical(logits=self.log_tokens(state)))

    def step(self, state: State, action: Tensor, t: int) -> tuple[State, Tensor]:
        """Append it: the reference remembers it, the automaton reads it."""
        return self._sites(self.append(state, action)), self.pays(state, action)

    def terminal(self, state: State) -> Tensor:
        """The automaton pays for the whole text, where it was not paid at its end."""
        return self.final[state["place"]]

    def terminated(self, state: State) -> Bool[Tensor, "*N"]:
        """Say whether the text has ended."""
        return (state["place"] == len(self.final) - 1) & (self.end is not None)

    def features(self, state: State) -> Float[Tensor, "*N F"]:
        """Return the remembered tokens, k one-hot vectors of V + 1, the last of them for none; place; and belief."""
        parts = [one_hot(state["place"].long(), len(self.final))]
        if self.remembers:
            parts.insert(0, one_hot_tokens(self.recent(state), len(self.vocabulary)))
        parts += [state["belief"]] if "belief" in state else []
        return torch.cat([part.double() for part in parts], -1)

    def begin(self, *shape: int) -> State:
        """Return the state of no token."""
        place = torch.full(shape, self.automaton.start)
        if isinstance(self.model, HiddenMarkov):
            state = {"belief": self.model.start.expand(*shape, -1), "place": place}
        else:
            state = {"memory": torch.full(shape, self.model.start), "place": place}
        return state | ({"recent": torch.full((*shape, self.remembers), NONE)} if self.remembers else {})

    def log_tokens(self, state: State) -> Float[Tensor, "*N V"]:
        """Return log p(token | state) of the reference, nats; after the end all are equally likely."""
        if isinstance(self.model, HiddenMarkov):
            found = log(self.model.next_probs(state["belief"]))
        else:
            memory = state["memory"].long()
            found = self.model.log_next(memory.reshape(-1)).reshape((*memory.shape, -1))
        even = torch.full_like(found, 1 / len(self.vocabulary)).log()
        return torch.where(self.terminated(state).unsqueeze(-1), even, found)

    def pays(self, state: State, token: Int[Tensor, "*N"]) -> Float[Tensor, "*N"]:
        """Return the reward of a token, reward units."""
        return self.reward[state["place"].long(), token]

    def append(self, state: State, token: Int[Tensor, "*N"]) -> State:
        """Return the state after a token; as it was after one that is never said, and after the end."""
        place = state["place"].long()
        after = {"place": self.successor[place, token]}
        if isinstance(self.model, HiddenMarkov):
            after["belief"] = self.model.following(state["belief"], token)
            said = self.model.chance(state["belief"], token) > 0
        else:
            memory = state["memory"].long()
            each = self.model.following(memory.reshape(-1)).reshape((*memory.shape, -1))
            after["memory"] = each.gather(-1, token.unsqueeze(-1)).squeeze(-1)
            said = self.log_tokens(state).gather(-1, token.unsqueeze(-1)).squeeze(-1) > -torch.inf
        if self.remembers:
            after["recent"] = appended(state["recent"], token)
        stays = self.terminated(state) | ~said
        return {
            name: torch.where(stays.reshape(stays.shape + (1,) * (x.dim() - stays.dim())), state[name], x)
            for name, x in ((name, after[name]) for name in state)
        }

    def along(self, tokens: Int[Tensor, "*N T"]) -> list[State]:
        """Return the states of texts, before each token and after the last."""
        require_texts("along", self, tokens)
        states = [self.begin(*tokens.shape[:-1])]
        for x in tokens.unbind(-1):
            states.append(self.append(states[-1], x))
        return states

    def recent(self, state: State) -> Int[Tensor, "*N k"]:
        """Return the tokens that a ``Remembering`` reference remembers, the oldest first; -1 where there are fewer.

        Raises:
            WorldError: the reference is another.
        """
        require_remembering(self.reference)
        return state["recent"].long()

    def _sites(self, state: State) -> State:
        """Make each variable a site of the program."""
        sizes = {"place": len(self.final), "memory": getattr(self.model, "size", 1)}
        return {
            name: pyro.sample(name, Point(x, sizes[name]) if name in sizes else Delta(x, event_dim=1))
            for name, x in state.items()
        }


def _with_end(automaton: Automaton, end: str | None) -> tuple[Int[Tensor, "Q V"], Float[Tensor, "Q V"], Tensor]:
    """Return successors, rewards and final rewards, with one more state for the ended text where there is an end."""
    successor, reward, final = automaton.successor, automaton.reward, automaton.final
    if end is None:
        return successor, reward, final
    Q, V, x = *successor.shape, automaton.vocabulary.number[end]
    successor = torch.cat((successor, torch.full((1, V), Q)))
    successor[:, x] = Q
    reward = torch.cat((reward, torch.zeros(1, V, dtype=reward.dtype)))
    reward[:Q, x] += final
    return successor, reward, torch.cat((final, torch.zeros(1, dtype=final.dtype)))
