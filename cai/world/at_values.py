"""A Pyro messenger that runs a step with known values of the next state, and adds up their log-densities."""

from collections.abc import Mapping
from typing import Any

import pyro.distributions as dist
import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from cai.errors import Finding, IntractableError
from cai.world.definition import Point
from cai.world.enumerate import base

EXPECTED = "a step whose random numbers are the next state itself, each with a density"


class AtValues(Messenger):
    """Gives every site its known value.

    Args:
        where: which method runs, and when, for the errors.
        values: of the state variables by name, whose sites have the same names.

    Attributes:
        log_density: of all values given those before, nats, ``[*batch]``.
    """

    def __init__(self, where: str, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.where, self.values, self.log_density = where, values, torch.zeros(())

    def _pyro_sample(self, msg: Any) -> None:
        if site_is_subsample(msg) or msg["infer"].get("_deterministic"):
            return
        name, fn = msg["name"], msg["fn"]
        where = f"{self.where}, variable '{name}'"
        if name not in self.values:
            raise IntractableError([Finding(where, "a random number that is no state variable", EXPECTED)])
        if isinstance(base(fn), dist.Delta | Point):
            raise IntractableError([Finding(where, "a certain value, which has no density", EXPECTED)])
        msg["value"], msg["done"] = self.values[name], True
        self.log_density = self.log_density + fn.log_prob(self.values[name])

    def require_returned(self, following: Mapping[str, Tensor]) -> None:
        """Raise unless the step returned the values as they are.

        Raises:
            IntractableError: a next state is not what was sampled under its name.
        """
        for name, value in self.values.items():
            if not torch.equal(following[name].expand_as(value), value):
                where = f"{self.where}, variable '{name}'"
                raise IntractableError([Finding(where, "a next state that is a function of what is drawn", EXPECTED)])
