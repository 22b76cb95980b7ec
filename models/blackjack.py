"""Gymnasium's Blackjack-v1: draw cards up to 21 against a dealer who draws to 17, from a deck without end.

The state is the own hand and the dealer's open card. A natural, an ace and a ten at once, is a hand of its own: it wins
unless the dealer has one too (Gymnasium's ``sab=True``, its default). Gymnasium's observation does not tell it from
other hands of 21 with an ace.

Size: 300 states of 2 variables, 2 actions, 30 outcomes.
Source: Sutton & Barto 2018, Reinforcement learning, example 5.1; Towers et al. 2024, Gymnasium.
"""

import pyro
import torch
from pyro.distributions import Categorical
from torch import Tensor

import cai

HANDS = [*((total, False) for total in range(4, 22)), *((total, True) for total in range(12, 22))]
"""The hands by total and by whether an ace counts 11; then the natural, and the end of the game."""
NATURAL, OVER = len(HANDS), len(HANDS) + 1
DECK = torch.tensor([1.0] * 9 + [4.0], dtype=torch.float64) / 13
"""The chances of an ace, 2, …, 9 and a card that counts 10."""


class Blackjack:
    """Stick or hit: ``hand`` and ``dealer`` are the state, ``move`` the action.

    Args:
        sab: whether a natural wins against all but a natural, as in the book; else it is a 21 like any other.
        horizon: how many moves: no hand takes more than 20.
        discount: the probability γ of surviving a move.
    """

    def __init__(self, sab: bool = True, horizon: int | None = 20, discount: float = 1.0) -> None:
        self.sab, self.horizon, self.discount = sab, horizon, discount
        names = [f"soft {total}" if soft else f"{total}" for total, soft in HANDS]
        cards = ["ace", *(str(value) for value in range(2, 11))]
        self.labels = {"hand": [*names, "natural", "over"], "dealer": cards, "card": cards}
        self.labels |= {"move": ["stick", "hit"], "result": ["lost", "drawn", "won"]}
        self.dealt, self.drawn = _dealt(), _drawn()
        self.results = torch.stack([_results(card, sab) for card in range(10)], 1)

    def initial(self) -> dict[str, Tensor]:
        """Deal two cards, and one to the dealer."""
        return {
            "hand": pyro.sample("hand", _chances(self.dealt)),
            "dealer": pyro.sample("dealer", _chances(DECK)),
        }

    def act(self, state: dict[str, Tensor], t: int) -> Tensor:
        """Toss a coin."""
        return pyro.sample("move", Categorical(torch.ones(2).expand(*state["hand"].shape, 2)))

    def step(self, state: dict[str, Tensor], action: Tensor, t: int) -> tuple[dict[str, Tensor], Tensor]:
        """Draw a card; or let the dealer draw, and compare."""
        hand, dealer, hits = state["hand"], state["dealer"], action == 1
        card = pyro.sample("card", _chances(DECK.expand(*hand.shape, 10)))
        result = pyro.sample("result", _chances(self.results[hand, dealer]))
        after = torch.where(hits, self.drawn[hand, card], OVER)
        bust = hits & (after == OVER)
        reward = torch.where(hits, -1.0 * bust, result - 1.0)
        hand_after = pyro.sample("hand", cai.Point(after, OVER + 1))
        dealer_after = pyro.sample("dealer", cai.Point(dealer, 10))
        return {"hand": hand_after, "dealer": dealer_after}, torch.where(hand == OVER, 0.0, reward)

    def terminated(self, state: dict[str, Tensor]) -> Tensor:
        """Tell whether the game is over."""
        return state["hand"] == OVER


def _chances(probs: Tensor) -> Categorical:
    return Categorical(probs.to(torch.get_default_dtype()))


def _with(hand: tuple[int, bool], card: int) -> tuple[int, bool]:
    """Return a hand and one card more, 0 for an ace; an ace counts 11 where that does not exceed 21."""
    total, soft = hand
    hard = total - 10 * soft + card + 1
    soft = (soft or card == 0) and hard + 10 <= 21
    return hard + 10 * soft, soft


def _dealt() -> Tensor:
    """Return the chances of the hands of two cards, ``[hands]``."""
    chances = torch.zeros(OVER + 1, dtype=torch.float64)
    for first in range(10):
        for second in range(10):
            natural = {first, second} == {0, 9}
            hand = _with(_with((0, False), first), second)
            chances[NATURAL if natural else HANDS.index(hand)] += DECK[first] * DECK[second]
    return chances


def _drawn() -> Tensor:
    """Return the hand after each card, ``[hands, 10]``."""
    drawn = torch.full((OVER + 1, 10), OVER)
    for number, hand in enumerate([*HANDS, (21, True)]):
        for card in range(10):
            after = _with(hand, card)
            drawn[number, card] = HANDS.index(after) if after in HANDS else OVER
    return drawn


def _dealer(card: int) -> dict[str, float]:
    """Return the chances of the dealer's last total, by "natural", "17" … "21" and "bust"."""
    chances = dict.fromkeys(("natural", "bust", *map(str, range(17, 22))), 0.0)
    open_hands = [(_with((0, False), card), 1.0, 1)]
    while open_hands:
        hand, chance, cards = open_hands.pop()
        for drawn, share in enumerate(DECK.tolist()):
            after = _with(hand, drawn)
            if after[0] > 21:
                chances["bust"] += chance * share
            elif after == (21, True) and cards == 1:
                chances["natural"] += chance * share
            elif after[0] >= 17:
                chances[str(after[0])] += chance * share
            else:
                open_hands.append((after, chance * share, cards + 1))
    return chances


def _results(card: int, sab: bool) -> Tensor:
    """Return the chances of lost, drawn and won when one sticks, ``[hands, 3]``."""
    dealer = _dealer(card)
    rows = []
    for total, natural in [*((total, False) for total, _ in HANDS), (21, True)]:
        chances = [0.0, 0.0, dealer["bust"]]
        for end, chance in dealer.items():
            if end == "bust":
                continue
            theirs = 21 if end == "natural" else int(end)
            wins = natural and sab and end != "natural"
            chances[2 if wins else 1 + (total > theirs) - (total < theirs)] += chance
        rows.append(chances)
    return torch.tensor([*rows, [0.0, 1.0, 0.0]], dtype=torch.float64)
