"""NGram: the next token given the last n-1, with counts from a text and a smoothing of them.

add-δ:        p(x|c) = (N(c,x) + δ) / (N(c) + δ V)
Witten-Bell:  p(x|c) = (N(c,x) + U(c) p(x|c')) / (N(c) + U(c)),  c' = c without its oldest token, p(x) = 1/V below all

U(c) is how many different tokens follow c (Witten & Bell 1991; Chen & Goodman 1999). A context is up to
n-1 tokens: a text begins with none, as if in the middle of another.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cai.errors import fault
from cai.language.given import require_table, require_vocabulary
from cai.language.vocabulary import Vocabulary, characters
from cai.learn.loop import require_whole
from cai.support.memory import require_room


@dataclass(frozen=True)
class NGram:
    """p(x_t | the last n-1 tokens), a ``Reference``.

    The contexts are numbered by length, then as numbers in base V, the oldest token first.

    Attributes:
        vocabulary: the tokens, V.
        order: n, at least 1.
        log_probs: log p(x|c), nats, one row for each context of 0 … n-1 tokens.

    Raises:
        WorldError: the table has not this shape, or a row does not sum to 1.
    """

    vocabulary: Vocabulary
    order: int
    log_probs: Float[Tensor, "M V"]

    def __post_init__(self) -> None:
        require_vocabulary("ngram", self.vocabulary)
        require_whole("ngram, order", self.order, 1)
        require_table("ngram, log_probs", self.log_probs, 2)
        M, V = contexts(self.order, len(self.vocabulary)), len(self.vocabulary)
        if tuple(self.log_probs.shape) != (M, V):
            raise fault(
                "ngram, log_probs", f"shape {tuple(self.log_probs.shape)}", f"[{M}, {V}]: a row for each context"
            )
        total = self.log_probs.logsumexp(-1)
        if not bool((total.abs() < 1e-9).all()):
            worst = int(total.abs().nan_to_num(torch.inf).argmax())
            where = f"ngram, log_probs after '{self.label(worst)}'"
            raise fault(where, f"probabilities that sum to {float(total[worst].exp()):.6g}", "a sum of 1")

    @property
    def start(self) -> int:
        """The context of no token."""
        return 0

    @property
    def size(self) -> int:
        """M, the number of contexts."""
        return len(self.log_probs)

    def log_next(self, memory: Int[Tensor, " N"]) -> Float[Tensor, "N V"]:
        """Return log p(x|c), nats."""
        return self.log_probs[memory]

    def following(self, memory: Int[Tensor, " N"]) -> Int[Tensor, "N V"]:
        """Return the context after each token."""
        V = len(self.vocabulary)
        first = firsts(self.order, V)
        length = torch.bucketize(memory.contiguous(), first, right=True) - 1
        longer = (memory - first[length]).unsqueeze(-1) * V + torch.arange(V)  # one token more, in base V
        full = (length == self.order - 1).unsqueeze(-1)
        return torch.where(full, longer % V ** (self.order - 1), longer) + first[
            length + (~full).squeeze(-1).long()
        ].unsqueeze(-1)

    def label(self, memory: int) -> str:
        """Return the text of a context."""
        return self.vocabulary.shown(self.tokens_of(memory))

    def tokens_of(self, memory: int) -> list[int]:
        """Return the tokens of a context, the oldest first."""
        V = len(self.vocabulary)
        first = firsts(self.order, V)
        length = int(torch.bucketize(torch.tensor(memory), first, right=True)) - 1
        number = memory - int(first[length])
        return [number // V ** (length - 1 - i) % V for i in range(length)]


def contexts(order: int, V: int) -> int:
    """Return the number of contexts, Σ_{k<n} V^k."""
    return sum(V**k for k in range(order))


def firsts(order: int, V: int) -> Int[Tensor, " n"]:
    """Return the number of the first context of each length."""
    return torch.tensor([contexts(k, V) for k in range(order)])


def fit_ngram(
    text: str,
    order: int = 2,
    *,
    vocabulary: Vocabulary | None = None,
    smoothing: str = "witten_bell",
    delta: float | None = None,
) -> NGram:
    """Return the n-gram model of a text.

    Args:
        text: what is counted.
        order: n: 1 for single tokens, 2 for a bigram.
        vocabulary: the tokens; the characters of the text unless given.
        smoothing: "witten_bell" or "add": δ is added to each count.
        delta: δ ≥ 0 of "add", 1 unless given; with 0 what the text never says has probability 0.

    Raises:
        WorldError: the text is empty, has a token that is not in the vocabulary, or an argument is not valid.
        IntractableError: the contexts need more memory than there is.
    """
    _require_settings(order, smoothing, delta)
    added = 1.0 if delta is None else float(delta)
    vocabulary = characters(text) if vocabulary is None and text else vocabulary
    if vocabulary is not None:
        require_vocabulary("ngram", vocabulary)
    tokens = vocabulary.encode(text, "ngram, text") if vocabulary is not None else torch.zeros(0)
    if vocabulary is None or len(tokens) < order:
        raise fault("ngram, text", f"{len(tokens)} tokens", f"at least {order}, the order")
    V = len(vocabulary)
    size = f"{contexts(order, V):,} contexts of up to {order - 1} of {V} tokens"
    require_room("ngram", size, 32 * V * contexts(order, V), "a smaller order or vocabulary")
    levels: list[Tensor] = []
    for k in range(order):
        counts = _counts(tokens, k, V)
        shorter = levels[-1].repeat(V, 1)[: V**k] if levels else torch.full((1, V), 1 / V, dtype=torch.float64)
        levels.append(_witten_bell(counts, shorter) if smoothing == "witten_bell" else _add(counts, shorter, added))
    return NGram(vocabulary, order, torch.cat(levels).log())


def _require_settings(order: int, smoothing: str, delta: float | None) -> None:
    require_whole("ngram, order", order, 1)
    if smoothing not in ("witten_bell", "add"):
        raise fault("ngram, smoothing", f"{smoothing!r}", "'witten_bell' or 'add'")
    if delta is None:
        return
    if smoothing != "add":
        raise fault("ngram, delta", f"{delta!r} with smoothing {smoothing!r}", "smoothing 'add', whose δ it is")
    if isinstance(delta, bool) or not isinstance(delta, int | float) or not 0 <= delta < torch.inf:
        raise fault("ngram, delta", f"{delta!r}", "a number, at least 0")


def _counts(tokens: Int[Tensor, " N"], k: int, V: int) -> Float[Tensor, "C V"]:
    """Return N(c, x) of the contexts of k tokens."""
    number = torch.zeros(len(tokens) - k, dtype=torch.long)
    for i in range(k + 1):
        number = number * V + tokens[i : len(tokens) - k + i]
    return torch.bincount(number, minlength=V ** (k + 1)).reshape(V**k, V).double()


def _witten_bell(counts: Float[Tensor, "C V"], shorter: Float[Tensor, "C V"]) -> Float[Tensor, "C V"]:
    unique = (counts > 0).sum(-1, keepdim=True)
    return torch.where(unique > 0, (counts + unique * shorter) / (counts.sum(-1, keepdim=True) + unique), shorter)


def _add(counts: Float[Tensor, "C V"], shorter: Float[Tensor, "C V"], delta: float) -> Float[Tensor, "C V"]:
    """Add δ to each count; a context that never occurs, where δ = 0, has the probabilities of the shorter one."""
    added = counts + delta
    total = added.sum(-1, keepdim=True)
    return torch.where(total > 0, added / total, shorter)
