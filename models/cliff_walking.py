"""Gymnasium's CliffWalking-v1: walk along a cliff; each step costs 1, a fall costs 100 and leads back to the start.

It has the main lesson of the library. With a uniform prior a slippery cliff and a safe one have the *same* evidence.
Either the prior or the ice draws the direction, so the trajectories have the same distribution, and the posterior may
change both. Only the ELBO shows that one of the two is dangerous: its policies choose actions but not luck. One (s, a,
s') can have two rewards: at the start, a slip over the edge leads back to it for -100, a bump into the border for -1.

Size: 49 states, 4 actions, 1 outcome.
Sources: Sutton & Barto (2018), Reinforcement Learning, example 6.6;
https://gymnasium.farama.org/environments/toy_text/cliff_walking/
"""

import cai


def cliff_walking(is_slippery: bool = False, horizon: int | None = 100, discount: float = 1.0) -> cai.World:
    """Return the cliff as a world: the 48 cells of Gymnasium's grid, and the absorbing state "ended".

    Args:
        is_slippery: whether a move goes ahead or to either side with probability 1/3 each.
        horizon: T; Gymnasium gives no time limit.
        discount: the probability γ of surviving a step.
    """
    return cai.from_gymnasium("CliffWalking-v1", horizon=horizon, discount=discount, is_slippery=is_slippery)
