"""Automaton: a finite automaton that reads tokens and pays: for each transition, and at the end."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cai.errors import fault
from cai.language.given import require_table, require_vocabulary
from cai.language.reachable import reachable
from cai.language.vocabulary import Vocabulary


@dataclass(frozen=True)
class Automaton:
    """A deterministic weighted automaton: ``q_{t+1} = δ(q_t, x_t)`` pays r(q_t, x_t), and the end of the text r(q_T).

    ``a & b`` runs two side by side and adds what they pay. ``containing``, ``ending_with``, ``counting``,
    ``forbidding`` and ``matching`` make automata; any other is given by its tables.

    Attributes:
        vocabulary: the tokens, V.
        successor: δ(q, x), from 0 to Q-1.
        reward: of each transition, reward units; -inf for what must not be said.
        final: r(q) at the end of the text, reward units; -inf for a text that must not end so.
        labels: a name of each state.
        start: the first state.
        name: what it looks for, said in errors.

    Raises:
        WorldError: a shape is another, a successor is no state, or a reward is NaN or +inf.
    """

    vocabulary: Vocabulary
    successor: Int[Tensor, "Q V"]
    reward: Float[Tensor, "Q V"]
    final: Float[Tensor, " Q"]
    labels: tuple[str, ...]
    start: int = 0
    name: str = "automaton"

    def __post_init__(self) -> None:
        require_vocabulary(self.name, self.vocabulary)
        for part, dims in (("successor", 2), ("reward", 2), ("final", 1)):
            require_table(f"{self.name}, {part}", getattr(self, part), dims, whole=part == "successor")
        Q, V = len(self.final), len(self.vocabulary)
        if not isinstance(self.labels, tuple | list):
            raise fault(f"{self.name}, labels", f"a {type(self.labels).__name__}", f"{Q} texts, one for each state")
        for part, seen, shape in (
            ("successor", tuple(self.successor.shape), (Q, V)),
            ("reward", tuple(self.reward.shape), (Q, V)),
            ("labels", (len(self.labels),), (Q,)),
        ):
            if seen != shape:
                raise fault(f"{self.name}, {part}", f"shape {seen}", f"{shape}: Q = {Q} states, V = {V} tokens")
        wrong = ((self.successor < 0) | (self.successor >= Q)).nonzero()
        if len(wrong):
            q, x = wrong[0].tolist()
            where = f"{self.name}, successor of '{self.labels[q]}' at {self.vocabulary.tokens[x]!r}"
            raise fault(where, f"{int(self.successor[q, x])}", f"a state from 0 to {Q - 1}")
        if not isinstance(self.start, int) or not 0 <= self.start < Q:
            raise fault(f"{self.name}, start", f"{self.start!r:.40}", f"a state from 0 to {Q - 1}")
        for part, reward in (("reward", self.reward), ("final", self.final)):
            if not bool((reward < torch.inf).all()):
                raise fault(f"{self.name}, {part}", f"{float(reward[~(reward < torch.inf)][0])}", "numbers, or -inf")

    def __len__(self) -> int:
        return len(self.final)

    def visiting(self, reward: Float[Tensor, " Q"]) -> "Automaton":
        """Return the automaton that also pays for each entry into a state: r(q_t, x_t) + reward(q_{t+1}).

        Raises:
            WorldError: ``reward`` is not ``[Q]``.
        """
        require_table(f"{self.name}, visiting", reward, 1)
        if tuple(reward.shape) != (len(self),):
            raise fault(f"{self.name}, visiting", f"shape {tuple(reward.shape)}", f"[{len(self)}], one for each state")
        return replace(self, reward=self.reward + reward.double()[self.successor])

    def minimal(self) -> "Automaton":
        """Return the automaton without what no text reaches, and with one state for those that pay alike ever after.

        Two states pay alike where r(q), r(q, ·) and, after each token, the next states do (Moore 1956). A state keeps
        the label of the first that it stands for.
        """
        kept, successor, _ = reachable(self.name, self.start, self._following, len(self))
        pays = torch.cat((self.final[kept].unsqueeze(-1), self.reward[kept]), -1)
        block, blocks = pays.unique(dim=0, return_inverse=True)[1], 0
        while blocks < int(block.max()) + 1:
            blocks = int(block.max()) + 1
            block = torch.cat((block.unsqueeze(-1), block[successor]), -1).unique(dim=0, return_inverse=True)[1]
        first = torch.full((blocks,), len(kept)).scatter_reduce(0, block, torch.arange(len(kept)), "amin")
        first, number = first.sort()[0], first.argsort().argsort()
        q = kept[first]
        labels = tuple(self.labels[i] for i in q.tolist())
        return Automaton(
            self.vocabulary, number[block[successor[first]]], self.reward[q], self.final[q], labels, name=self.name
        )

    def __and__(self, other: "Automaton") -> "Automaton":
        """Return the product of the two: the pairs of states that can be reached, and the sums of rewards.

        Raises:
            WorldError: their vocabularies differ.
        """
        if not isinstance(other, Automaton):
            raise fault("automaton, &", f"a {type(other).__name__}", "an automaton")
        if self.vocabulary != other.vocabulary:
            raise fault("automaton, &", "two vocabularies", "automata over the same tokens")
        name, P = f"{self.name} & {other.name}", len(other)

        def following(pair: Tensor) -> Tensor:
            q, p = pair // P, pair % P
            never = self.reward[q] + other.reward[p] == -torch.inf  # nobody goes there: the pair stays as it is
            return torch.where(never, pair.unsqueeze(-1), self.successor[q] * P + other.successor[p])

        pairs, successor, _ = reachable(name, self.start * P + other.start, following, len(self) * P)
        q, p = pairs // P, pairs % P
        labels = tuple(f"{self.labels[i]} & {other.labels[j]}" for i, j in zip(q.tolist(), p.tolist(), strict=True))
        reward, final = self.reward[q] + other.reward[p], self.final[q] + other.final[p]
        return Automaton(self.vocabulary, successor, reward, final, labels, name=name)

    def _following(self, state: Int[Tensor, " N"]) -> Int[Tensor, "N V"]:
        return torch.where(self.reward[state] == -torch.inf, state.unsqueeze(-1), self.successor[state])


def require_reward(where: str, reward: Any) -> float:
    """Return a reward as a number, which a command line writes as a text such as -inf.

    Raises:
        WorldError: it is none.
    """
    try:
        return float(reward)
    except (TypeError, ValueError):
        raise fault(where, f"{reward!r}", "a number, or -inf") from None


def paying_at_end(
    name: str,
    vocabulary: Vocabulary,
    successor: Int[Tensor, "Q V"],
    accepting: Tensor,
    labels: tuple[str, ...],
    accepted: float = 0.0,
    rejected: float = 0.0,
) -> Automaton:
    """Return the automaton that pays at the end alone: ``accepted`` in the accepting states, else ``rejected``."""
    high, low = require_reward(f"{name}, accepted", accepted), require_reward(f"{name}, rejected", rejected)
    final = torch.full((len(labels),), low, dtype=torch.float64).masked_fill(accepting, high)
    return Automaton(vocabulary, successor, torch.zeros(successor.shape, dtype=torch.float64), final, labels, name=name)
