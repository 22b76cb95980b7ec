"""Gymnasium's FrozenLake-v1: cross a frozen lake to the goal without falling into a hole.

The ice is slippery: a move goes ahead with probability ``success_rate``, else to either side. It teaches what POSTERIOR
gets wrong about luck: conditioned on success, it believes that slips will go the right way.

Size: 17 states, 4 actions, 3 outcomes.
Source: https://gymnasium.farama.org/environments/toy_text/frozen_lake/
"""

import cai


def frozen_lake(
    map_name: str = "4x4",
    is_slippery: bool = True,
    horizon: int | None = 100,
    discount: float = 1.0,
    success_rate: float = 1 / 3,
    size: int | None = None,
    seed: int = 0,
    frozen: float = 0.8,
) -> cai.World:
    """Return the lake as a world: one state for each tile, and the absorbing state "ended".

    Args:
        map_name: "4x4" or "8x8".
        is_slippery: whether moves can slip.
        horizon: T; Gymnasium's own time limits are 100 on the 4x4 map and 200 on the 8x8 map.
        discount: the probability γ of surviving a step.
        success_rate: the chance that a move on slippery ice goes ahead.
        size: draw a random map of this many rows and columns, instead of ``map_name``.
        seed: which random map.
        frozen: the share of tiles on a random map that are no holes.
    """
    from gymnasium.envs.toy_text.frozen_lake import generate_random_map

    if size is not None and size < 2:
        raise cai.fault("frozen_lake, size", f"{size}", "2 rows or more: start and goal differ")
    if not 0 < frozen <= 1:
        raise cai.fault("frozen_lake, frozen", f"{frozen}", "a share above 0 and at most 1")
    # A map of your own is a list of rows: desc = ["SFFF", "FHFH", "FFFH", "HFFG"].
    desc = None if size is None else generate_random_map(size=size, p=frozen, seed=seed)
    return cai.from_gymnasium(
        "FrozenLake-v1",
        horizon=horizon,
        discount=discount,
        desc=desc,
        map_name=map_name,
        is_slippery=is_slippery,
        success_rate=success_rate,
    )
