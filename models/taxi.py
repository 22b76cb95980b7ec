"""Gymnasium's Taxi-v4: fetch a passenger and drop them where they want to go.

The reward is 20 for success, -1 for a step, -10 for a pickup or dropoff in the wrong place. Without rain the world is
deterministic, so POSTERIOR and VARIATIONAL agree in every state; with rain the taxi drifts and they differ. The start
is random even without rain: POSTERIOR assumes a passenger close by.

Size: 501 states, 6 actions, 1 outcome.
Source: Dietterich (2000), Hierarchical reinforcement learning with the MAXQ value function decomposition;
https://gymnasium.farama.org/environments/toy_text/taxi/
"""

import cai


def taxi(
    is_rainy: bool = False, horizon: int | None = 200, discount: float = 1.0, rainy_probability: float = 0.8
) -> cai.World:
    """Return the taxi as a world: Gymnasium's 500 states, and the absorbing state "ended".

    Args:
        is_rainy: whether a drive may drift to either side.
        horizon: T; Gymnasium's own time limit is 200.
        discount: the probability γ of surviving a step.
        rainy_probability: the chance that a drive in the rain goes where it was meant to.
    """
    return cai.from_gymnasium(
        "Taxi-v4",
        horizon=horizon,
        discount=discount,
        is_rainy=is_rainy,
        rainy_probability=rainy_probability,
    )
