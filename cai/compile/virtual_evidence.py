"""Uncertain observations of a site: the likelihood of the observation under each value of the site.

The observation is one more variable, a child of the site: ``p(seen = 1|x) = w(x)``, with the certain evidence ``seen =
1`` (virtual evidence, Pearl 1988, section 2.3.3).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyro
import torch
from pyro.distributions import Categorical
from torch import Tensor

from cai.compile.factor_model import Factor, Factors, primed
from cai.compile.table_model import Tables
from cai.errors import fault
from cai.support.numerics import log
from cai.world.conditions import Conditions

Likelihoods = Mapping[tuple[str, int], tuple[float, ...]]
"""Likelihoods, one for each value, by variable and time."""


def require_alive(conditions: Conditions, horizon: int | None, discount: float) -> None:
    """Raise where the last state is seen uncertainly under a discount: it may never be entered.

    Raises:
        WorldError: there is such an observation.
    """
    for name, t in conditions.likelihoods:
        if t == horizon and discount < 1:
            seen = f"likelihoods of the last state, which is entered with probability γ = {discount:g}"
            raise fault(f"observe, site '{name}_{t}'", seen, "a value, or no discount")


@dataclass(frozen=True)
class VirtualEvidence:
    """Uncertain observations in a program: a latent for each variable that is seen uncertainly at some time.

    Attributes:
        likelihoods: how likely each observation is.
        states: the state variables, which may be seen on entering s_T too.
        horizon: T.
    """

    likelihoods: Likelihoods
    states: Mapping[str, int]
    horizon: int

    def __bool__(self) -> bool:
        return bool(self.likelihoods)

    def sample(self, t: int, values: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> Any:
        """Sample the observations of time t, those of s_T with the last slice; return 0 where all are true, else -inf.

        A variable has its latent in every slice: where it is not looked at, that is certain.
        """
        reward: Any = 0.0
        for name in dict.fromkeys(name for name, time in self.likelihoods if time < self.horizon):
            reward = reward + _sampled(f"{name}.seen", self.likelihoods.get((name, t)), values.get(name))
        for name in dict.fromkeys(name for name, time in self.likelihoods if time == self.horizon):
            last = self.likelihoods[name, self.horizon] if t == self.horizon - 1 else None
            reward = reward + _sampled(f"{name}.last", last, after[name])
        return reward


def _sampled(site: str, weights: tuple[float, ...] | None, value: Tensor | None) -> Tensor:
    if weights is None or value is None:
        logits = torch.tensor([-torch.inf, 0.0])
    else:
        logits = _log_likelihoods(weights, torch.get_default_dtype())[value.long()]
    seen = pyro.sample(site, Categorical(logits=logits))
    return torch.where(seen == 1, 0.0, -torch.inf)


def seen_factors(factors: Factors, likelihoods: Likelihoods) -> Factors:
    """Return factors of a finite horizon, a slice for each time, with their observations."""
    slices, latents = list(factors.slices), dict(factors.latents)
    for (name, t), weights in likelihoods.items():
        last = t == factors.horizon
        site, slot = (f"{name}.last", t - 1) if last else (f"{name}.seen", t)
        own = Factor((primed(name) if last else name, site), _log_likelihoods(weights, factors.dtype))
        had = Factor((site,), torch.tensor([-torch.inf, 0.0], dtype=factors.dtype))
        slice_, latents[site] = slices[slot], 2
        slices[slot] = replace(slice_, chance={**slice_.chance, site: own}, reward=(*slice_.reward, had))
    return replace(factors, slices=tuple(slices), latents=latents)


def seen_tables(tables: Tables, likelihoods: Likelihoods) -> Tables:
    """Return tables with a time axis and every outcome twice: all is seen, or an observation fails, which is barred."""
    if not likelihoods:
        return tables
    axis, S = len(tables.batch_shape), tables.states.size
    values = {**tables.states.split(torch.arange(S)), **tables.actions.split(torch.arange(tables.actions.size))}
    log_had, log_lost = tables.log_prob.clone(), torch.full_like(tables.log_prob, -torch.inf)
    for t in {min(time, (tables.horizon or 0) - 1) for _, time in likelihoods}:
        had = torch.ones(())
        for (name, time), weights in likelihoods.items():
            w = torch.tensor(weights, dtype=tables.dtype)
            if time == t:
                row = w[values[name].long()]
                had = had * (row[:, None, None] if name in tables.states.names else row[:, None])
            elif time == t + 1 == tables.horizon:
                had = had * w[values[name].long()][tables.successor.select(axis, t)]
        log_prob = tables.log_prob.select(axis, t)
        log_had.select(axis, t)[:] = log_prob + log(had)
        log_lost.select(axis, t)[:] = log_prob + log(1 - had)

    barred = torch.where(log_lost > -torch.inf, -torch.inf, 0.0).to(tables.dtype)
    return replace(
        tables,
        log_prob=torch.cat([log_had, log_lost], -1),
        successor=torch.cat([tables.successor, tables.successor], -1),
        reward=torch.cat([tables.reward, barred], -1),
        latents=None,
    )


def _log_likelihoods(weights: tuple[float, ...], dtype: torch.dtype) -> Tensor:
    """Return log p(seen|x), nats, ``[n, 2]``: not seen, seen."""
    w = torch.tensor(weights, dtype=dtype)
    return torch.stack([log(1 - w), log(w)], -1)
