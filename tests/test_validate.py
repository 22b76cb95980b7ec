"""Tables and factors that were changed by hand: every verb names what is wrong with them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

import cai
from tests.worlds import RandomWorld

TABLES = cai.tabulate(RandomWorld(seed=0, S=3, A=2, K=2, horizon=3, holes=False))
FACTORS = cai.factorise(RandomWorld(seed=0, S=3, A=2, K=2, horizon=3, holes=False))
NAN, INF = float("nan"), float("inf")


def changed(name: str, number: float, at: tuple[int, ...]) -> cai.Tables:
    field = getattr(TABLES, name).clone()
    field[at] = number
    return replace(TABLES, **{name: field})


def misfit() -> cai.Tables:
    tables = replace(TABLES)
    object.__setattr__(tables, "ended", torch.zeros(1, dtype=torch.bool))  # past the types that only tests check
    return tables


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "discount 1.5": (lambda: replace(TABLES, discount=1.5), "discount: 1.5"),
    "discount 95": (lambda: replace(TABLES, discount=95.0), "discount: 95.0"),
    "discount NaN": (lambda: replace(TABLES, discount=NAN), "discount: nan"),
    "discount -0.5": (lambda: replace(TABLES, discount=-0.5), "discount: -0.5"),
    "horizon 0": (lambda: replace(TABLES, horizon=0), "horizon: 0"),
    "horizon -1": (lambda: replace(TABLES, horizon=-1), "horizon: -1"),
    "no end": (lambda: replace(TABLES, horizon=None), "None with a discount of 1"),
    "reward NaN": (lambda: changed("reward", NAN, (1, 0, 1)), r"reward at \[1, 0, 1\]: 1 rewards are NaN"),
    "reward inf": (lambda: changed("reward", INF, (2, 1, 0)), r"reward at \[2, 1, 0\]: 1 rewards are \+inf"),
    "terminal NaN": (lambda: changed("terminal", NAN, (1,)), r"terminal at \[1\]"),
    "row": (lambda: changed("log_prob", -0.01, (1, 0, 1)), r"log_prob at \[1, 0\]: probabilities that sum to"),
    "prior": (lambda: changed("log_prior", NAN, (1, 0)), r"log_prior at \[1\]: NaN"),
    "start": (lambda: changed("log_initial", 0.0, (0,)), "log_initial: probabilities that sum to"),
    "ended": (misfit, r"tables, ended: shape \(1,\)"),
    "successor": (lambda: changed("successor", 3, (0, 0, 0)), r"successor at \[0, 0, 0\]: states from"),
    "times": (lambda: replace(TABLES, timed=True), "log_prior: shape"),
    "float32": (lambda: replace(TABLES.to(dtype=torch.float32), discount=2.0), "discount: 2.0"),
    "factors' discount": (lambda: replace(FACTORS, discount=1.5), "discount: 1.5"),
    "factors' horizon": (lambda: replace(FACTORS, horizon=0), "horizon: 0"),
}
VERBS: dict[str, Callable[[Any], Any]] = {
    "solve": cai.solve,
    "evaluate": lambda found: cai.evaluate(found, None),
    "compare": lambda found: cai.compare(found, {"prior": None}),
}
ON_TABLES: dict[str, Callable[[Any], Any]] = {
    "solve_horizons": lambda found: cai.solve_horizons(found, 5),
    "fit": lambda found: cai.fit(found, steps=1),
    "elbo": lambda found: cai.elbo(found, None),
    "value_iteration": lambda found: cai.learn.value_iteration(found, gamma=0.9),
    "inference_types": cai.inference_types,
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_where_it_enters(name: str, verb: str) -> None:
    make, words = WRONG[name]
    with pytest.raises(cai.WorldError, match=words):
        VERBS[verb](make())


@pytest.mark.parametrize("verb", ON_TABLES)
def test_every_door_looks(verb: str) -> None:
    with pytest.raises(cai.WorldError, match="1 rewards are NaN"):
        ON_TABLES[verb](changed("reward", NAN, (1, 0, 1)))


def test_what_is_forbidden_and_what_is_repeated_are_right() -> None:
    prior = torch.tensor([0.0, -INF], dtype=torch.float64).expand(3, 2)
    assert float(cai.solve(replace(TABLES, log_prior=prior)).value) < INF
    assert float(cai.solve(changed("reward", -INF, (0, 1, 0))).value) < INF
    assert float(cai.solve(TABLES.to(dtype=torch.float32)).value) < INF


def test_a_discount_of_0_is_one_step() -> None:
    found = cai.learn.value_iteration(TABLES, gamma=0.0)
    assert cai.evaluate(found.tables, found).expected_return == pytest.approx(
        float(TABLES.log_initial.exp() @ found.v), abs=1e-12
    )
