"""HiddenMarkov: a hidden state writes each token and moves on; fitted by expectation maximisation.

    p(x_0 … x_{T-1}) = Σ_h p(h_0) Π_t p(x_t|h_t) p(h_{t+1}|h_t)

The belief p(h_t | x_0 … x_{t-1}) is all that such a model remembers of a prefix (Rabiner 1989, section III).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import embedding

from cai.errors import fault
from cai.language.given import require_table, require_vocabulary
from cai.language.vocabulary import Vocabulary, characters
from cai.learn.loop import require_whole
from cai.support.memory import require_room
from cai.support.numerics import logsumexp
from cai.support.progress import Interrupt, bar

CHUNK, BATCH = 100, 200
"""Tokens of a chunk of the text, and chunks that are read side by side."""
SPREAD = 2.0
"""The standard deviation of first log-probabilities, nats: from rows that are nearly the same EM departs slowly."""


@dataclass(frozen=True)
class HiddenMarkov:
    """A hidden Markov model of language, H hidden states and V tokens; all in nats, -inf for what never happens.

    Attributes:
        vocabulary: the tokens.
        log_start: log p(h_0), ``[H]``.
        log_transition: log p(h_{t+1}|h_t), ``[H, H]``.
        log_emission: log p(x_t|h_t), ``[H, V]``.
        history: of a fitted one, the log-likelihood of the text before each iteration, nats.

    Raises:
        WorldError: a shape is another, or probabilities do not sum to 1.
    """

    vocabulary: Vocabulary
    log_start: Float[Tensor, " H"]
    log_transition: Float[Tensor, "H H"]
    log_emission: Float[Tensor, "H V"]
    history: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        require_vocabulary("hidden Markov", self.vocabulary)
        require_table("hidden Markov, log_start", self.log_start, 1)
        H, V = len(self.log_start), len(self.vocabulary)
        shapes = {"log_start": (H,), "log_transition": (H, H), "log_emission": (H, V)}
        for name, shape in shapes.items():
            table: Tensor = getattr(self, name)
            require_table(f"hidden Markov, {name}", table, len(shape))
            if tuple(table.shape) != shape:
                seen = f"shape {tuple(table.shape)}"
                raise fault(f"hidden Markov, {name}", seen, f"{shape}: H = {H} hidden states, V = {V} tokens")
            total = logsumexp(table.double(), -1).exp().reshape(-1)
            wrong = ~((total - 1).abs() < 1e-9)
            if bool(wrong.any()):
                h = int(wrong.nonzero()[0])
                where = f"hidden Markov, {name}" + (f" of hidden state {h}" if len(shape) > 1 else "")
                raise fault(where, f"probabilities that sum to {float(total[h]):.6g}", "a sum of 1")

    @property
    def hidden(self) -> int:
        """H, the number of hidden states."""
        return len(self.log_start)

    @property
    def start(self) -> Float[Tensor, " H"]:
        """The belief before the first token, p(h_0)."""
        return self.log_start.exp()

    @cached_property
    def transition(self) -> Float[Tensor, "H H"]:
        """p(h_{t+1}|h_t)."""
        return self.log_transition.exp()

    @cached_property
    def emission(self) -> Float[Tensor, "H V"]:
        """p(x_t|h_t)."""
        return self.log_emission.exp()

    def next_probs(self, belief: Float[Tensor, "*N H"]) -> Float[Tensor, "*N V"]:
        """Return p(x_t | x_0 … x_{t-1}) = Σ_h p(h) p(x|h)."""
        return belief @ self.emission

    def chance(self, belief: Float[Tensor, "*N H"], token: Int[Tensor, "*N"]) -> Float[Tensor, "*N"]:
        """Return the probability of one token, Σ_h p(h) p(x|h)."""
        return (belief * self.emission.T[token]).sum(-1)

    def following(self, belief: Float[Tensor, "*N H"], token: Int[Tensor, "*N"]) -> Float[Tensor, "*N H"]:
        """Return the belief after a token, ∝ Σ_h p(h) p(x|h) p(h'|h); after one that is never said, as it was."""
        seen = belief * self.emission.T[token]
        total = seen.sum(-1, keepdim=True)
        moved = (seen / torch.where(total > 0, total, 1.0)) @ self.transition
        return torch.where(total > 0, moved, belief)


def fit_hidden_markov(
    text: str,
    states: int = 64,
    *,
    iterations: int = 30,
    seed: int = 0,
    vocabulary: Vocabulary | None = None,
    progress: bool = True,
) -> HiddenMarkov:
    """Return a hidden Markov model of a text, by expectation maximisation (Baum et al. 1970).

    The text is read in chunks of 100 tokens, each of them from the start. Expected counts are the derivative of
    log p(text) by log-probabilities (Eisner 2016), so that no backward recursion is written. The log-likelihood never
    falls. Ctrl-C ends the fit after the current iteration and returns its result.

    Args:
        text: what is fitted.
        states: H.
        iterations: of expectation maximisation.
        seed: of the first probabilities.
        vocabulary: the tokens; the characters of the text unless given. What the text never says has probability 0.
        progress: show a bar on a terminal.

    Raises:
        WorldError: the text is empty, has a token that is not in the vocabulary, or a number is not valid.
        IntractableError: the probabilities need more memory than there is.
    """
    require_whole("hidden Markov, states", states, 1)
    require_whole("hidden Markov, iterations", iterations, 0)
    require_whole("hidden Markov, seed", seed, 0)
    if vocabulary is None and text:
        vocabulary = characters(text)
    if vocabulary is not None:
        require_vocabulary("hidden Markov", vocabulary)
    tokens = torch.zeros(0) if vocabulary is None else vocabulary.encode(text, "hidden Markov, text")
    if vocabulary is None or not len(tokens):
        raise fault("hidden Markov, text", "no token", "at least one")
    V = len(vocabulary)
    what = f"H = {states:,} hidden states, V = {V:,} tokens, and {CHUNK * BATCH:,} tokens at once"
    require_room("hidden Markov", what, 40 * states * (states + V + CHUNK * BATCH), "fewer hidden states")
    model = _first(vocabulary, tokens, states, torch.Generator().manual_seed(seed))
    history = list[float]()
    with Interrupt() as stop, bar("hidden Markov model", iterations, shown=progress) as tell:
        for i in range(iterations):
            counts, log_likelihood = expected_counts(model, tokens)
            start, move, emit = (_shares(x, n) for x, n in zip(_tables(model), counts, strict=True))
            model = HiddenMarkov(vocabulary, start, move, emit)
            history.append(log_likelihood)
            tell(i + 1, f"{-log_likelihood / len(tokens):.4f} nats a token")
            if stop:
                break
    return replace(model, history=tuple(history))


def expected_counts(model: HiddenMarkov, tokens: Int[Tensor, " N"]) -> tuple[list[Tensor], float]:
    """Return how often a text is expected to use each probability, ∂ log p(text) / ∂ log θ, and log p(text), nats.

    The counts are of the start, the transitions and the emissions.
    """
    counts, total = [torch.zeros_like(x) for x in _tables(model)], 0.0
    for chunks in _batches(tokens):
        start, move, emit = leaves = [x.clone().requires_grad_() for x in _tables(model)]
        log_p = _log_likelihood(start.exp(), move.exp(), emit.exp(), chunks)
        for count, grad in zip(counts, torch.autograd.grad(log_p, leaves, materialize_grads=True), strict=True):
            count += grad
        total += float(log_p.detach())
    return counts, total


def _tables(model: HiddenMarkov) -> tuple[Tensor, Tensor, Tensor]:
    return model.log_start, model.log_transition, model.log_emission


def _batches(tokens: Int[Tensor, " N"]) -> Iterator[Int[Tensor, "C L"]]:
    whole = len(tokens) // CHUNK * CHUNK
    yield from tokens[:whole].reshape(-1, CHUNK).split(BATCH) if whole else ()
    if whole < len(tokens):
        yield tokens[whole:].unsqueeze(0)


def _log_likelihood(start: Tensor, transition: Tensor, emission: Tensor, chunks: Int[Tensor, "C L"]) -> Tensor:
    """Return Σ log p(chunk): the forward recursion, scaled to sum to 1 at each token."""
    said = embedding(chunks.T, emission.T)  # [L, C, H]
    belief, log_p = start, torch.zeros((), dtype=start.dtype)
    for t, p in enumerate(said.unbind(0)):
        joint = (belief @ transition if t else belief) * p
        total = joint.sum(-1, keepdim=True)
        belief, log_p = joint / total, log_p + total.log().sum()
    return log_p


def _shares(log_theta: Tensor, counts: Tensor) -> Tensor:
    """Return log of the shares of each row; a row that is never used stays as it is."""
    total = counts.sum(-1, keepdim=True)
    return torch.where(total > 0, (counts / torch.where(total > 0, total, 1.0)).log(), log_theta)


def _first(vocabulary: Vocabulary, tokens: Tensor, H: int, generator: torch.Generator) -> HiddenMarkov:
    """Return random probabilities: of tokens, around how often they occur."""

    def noise(*shape: int) -> Tensor:
        return SPREAD * torch.randn(*shape, generator=generator, dtype=torch.float64)

    shares = torch.bincount(tokens, minlength=len(vocabulary)).double().log()
    start, move, emit = noise(H), noise(H, H), shares + noise(H, len(vocabulary))
    return HiddenMarkov(vocabulary, start.log_softmax(-1), move.log_softmax(-1), emit.log_softmax(-1))
