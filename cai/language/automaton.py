"""Automaton: a finite automaton that reads tokens and pays: for each transition, and at the end."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cai.errors import fault
from cai.language.vocabulary import Vocabulary


@dataclass(frozen=True)
class Automaton:
    """A deterministic weighted automaton: ``q_{t+1} = δ(q_t, x_t)`` pays r(q_t, x_t), and the end of the text r(q_T).

    ``a & b`` runs two side by side and adds what they pay.

    Attributes:
        vocabulary: the tokens, V.
        successor: δ(q, x), from 0 to Q-1.
        reward: of each transition, reward units; -inf for what must not be said.
        final: r(q) at the end of the text, reward units.
        labels: a name of each state.
        start: the first state.

    Raises:
        WorldError: a shape is another, a successor is no state, or a reward is NaN or +inf.
    """

    vocabulary: Vocabulary
    successor: Int[Tensor, "Q V"]
    reward: Float[Tensor, "Q V"]
    final: Float[Tensor, " Q"]
    labels: tuple[str, ...]
    start: int = 0

    def __post_init__(self) -> None:
        Q, V = len(self.final), len(self.vocabulary)
        for name, seen, shape in (
            ("successor", tuple(self.successor.shape), (Q, V)),
            ("reward", tuple(self.reward.shape), (Q, V)),
            ("labels", (len(self.labels),), (Q,)),
        ):
            if seen != shape:
                raise fault(f"automaton, {name}", f"shape {seen}", f"{shape}: Q = {Q} states, V = {V} tokens")
        wrong = ((self.successor < 0) | (self.successor >= Q)).nonzero()
        if len(wrong):
            q, x = wrong[0].tolist()
            where = f"automaton, successor of '{self.labels[q]}' at {self.vocabulary.tokens[x]!r}"
            raise fault(where, f"{int(self.successor[q, x])}", f"a state from 0 to {Q - 1}")
        if not 0 <= self.start < Q:
            raise fault("automaton, start", f"{self.start}", f"a state from 0 to {Q - 1}")
        for name, reward in (("reward", self.reward), ("final", self.final)):
            if not bool((reward < torch.inf).all()):
                raise fault(f"automaton, {name}", f"{float(reward[~(reward < torch.inf)][0])}", "numbers, or -inf")

    def paying(
        self, accepted: float | None = None, rejected: float | None = None, visit: Tensor | None = None
    ) -> "Automaton":
        """Return the automaton with other rewards.

        Args:
            accepted, rejected: at the end, in place of the present highest and lowest final reward.
            visit: of each entry into a state, ``[Q]``, beside what transitions pay.
        """
        best = self.final == self.final.max()
        final = self.final if accepted is None else torch.where(best, accepted, self.final)
        final = final if rejected is None else torch.where(best, final, rejected)
        reward = self.reward if visit is None else self.reward + visit.double()[self.successor]
        return replace(self, reward=reward, final=final)

    def __and__(self, other: "Automaton") -> "Automaton":
        """Return the product of the two: the pairs of states that can be reached, and the sums of rewards.

        Raises:
            WorldError: their vocabularies differ.
        """
        if self.vocabulary != other.vocabulary:
            raise fault("automaton, &", "two vocabularies", "automata over the same tokens")
        return _product(self, other)


def _product(a: Automaton, b: Automaton) -> Automaton:
    """Search the pairs of states breadth first from the start."""
    pairs, successor = {(a.start, b.start): 0}, list[list[int]]()
    queue = [(a.start, b.start)]
    for q, p in queue:
        row = list(zip(a.successor[q].tolist(), b.successor[p].tolist(), strict=True))
        for pair in row:
            if pair not in pairs:
                pairs[pair] = len(pairs)
                queue.append(pair)
        successor.append([pairs[pair] for pair in row])
    at, by = torch.tensor(queue).unbind(-1)
    labels = tuple(f"{a.labels[i]} & {b.labels[j]}" for i, j in queue)
    return Automaton(
        a.vocabulary, torch.tensor(successor), a.reward[at] + b.reward[by], a.final[at] + b.final[by], labels
    )


def _search(text: str, vocabulary: Vocabulary) -> tuple[list[str], Int[Tensor, "k+1 V"]]:
    """Return how far a text is found, and the next such state (Knuth, Morris & Pratt 1977), ``k`` its tokens."""
    word = vocabulary.encode(text, "automaton, text").tolist()
    if not word:
        raise fault("automaton, text", "no token", "at least one")
    V, k = len(vocabulary), len(word)
    rows, back = list[list[int]](), 0  # back: the state after the text without its first token
    for i in range(k + 1):
        row = [0] * V if i == 0 else list(rows[back])
        if i < k:
            row[word[i]] = i + 1
            back = rows[back][word[i]] if i else 0
        rows.append(row)
    return [vocabulary.decode(word[:i]) for i in range(k + 1)], torch.tensor(rows)


def _paying_nothing(vocabulary: Vocabulary, successor: Tensor, labels: list[str]) -> Automaton:
    Q, V = successor.shape
    zero = torch.zeros(Q, V, dtype=torch.float64)
    return Automaton(vocabulary, successor, zero, zero[:, 0].clone(), tuple(labels))


def containing(text: str, vocabulary: Vocabulary, accepted: float = 1.0) -> Automaton:
    """Return the automaton that pays ``accepted``, reward units, at the end of a text that contains another."""
    labels, successor = _search(text, vocabulary)
    successor[-1] = len(labels) - 1
    found = _paying_nothing(vocabulary, successor, labels)
    found.final[-1] = accepted
    return found


def ending_with(text: str, vocabulary: Vocabulary, accepted: float = 1.0) -> Automaton:
    """Return the automaton that pays ``accepted``, reward units, at the end of a text that ends with another."""
    labels, successor = _search(text, vocabulary)
    found = _paying_nothing(vocabulary, successor, labels)
    found.final[-1] = accepted
    return found


def counting(text: str, vocabulary: Vocabulary, up_to: int, each: float = 1.0) -> Automaton:
    """Return the automaton that pays ``each``, reward units, where a text is found, the first ``up_to`` times.

    What is found may overlap.

    Raises:
        WorldError: ``up_to`` is no whole number from 1 on.
    """
    if isinstance(up_to, bool) or not isinstance(up_to, int) or up_to < 1:
        raise fault("automaton, up_to", f"{up_to!r}", "a whole number, at least 1")
    labels, one = _search(text, vocabulary)
    Q = len(labels)
    successor = torch.cat([one + n * Q for n in range(up_to)])
    done = one == Q - 1
    for n in range(up_to):
        later = one + (n + 1) * Q if n + 1 < up_to else torch.full_like(one, up_to * Q)
        successor[n * Q : (n + 1) * Q] = torch.where(done, later, successor[n * Q : (n + 1) * Q])
    successor = torch.cat((successor, torch.full_like(one[:1], up_to * Q)))
    names = [f"{n} × {label}" for n in range(up_to) for label in labels] + [f"{up_to} ×"]
    found = _paying_nothing(vocabulary, successor, names)
    found.reward[:-1][done.repeat(up_to, 1)] = each
    return found


def forbidding(text: str, vocabulary: Vocabulary) -> Automaton:
    """Return the automaton that pays -inf where a text would be completed: it must not be said."""
    labels, successor = _search(text, vocabulary)
    found = _paying_nothing(vocabulary, successor[:-1] % (len(labels) - 1), labels[:-1])
    found.reward[successor[:-1] == len(labels) - 1] = -torch.inf
    return found
