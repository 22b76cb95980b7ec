"""RDDL problems with real fluents as worlds: a step agrees with pyRDDLGym's own simulator, the oracle of this file."""

from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pytest
import torch
from torch import Tensor

import cai
from cai.bridges.rddl.grounding import quiet
from cai.bridges.rddl.rddl_world import from_rddl
from cai.compile.noise_program import noise_program

with quiet():
    pytest.importorskip("pyRDDLGym")
    managers = pytest.importorskip("rddlrepository.core.manager")
    from pyRDDLGym.core.compiler.model import RDDLLiftedModel  # type: ignore[import-untyped]
    from pyRDDLGym.core.parser.parser import RDDLParser  # type: ignore[import-untyped]
    from pyRDDLGym.core.parser.reader import RDDLReader  # type: ignore[import-untyped]
    from pyRDDLGym.core.simulator import RDDLSimulator  # type: ignore[import-untyped]

pytestmark = pytest.mark.usefixtures("float64")

CERTAIN = [  # nothing is drawn: each step must be the simulator's
    "Acrobot_gym",
    "CartPole_Continuous_gym",
    "CartPole_Discrete_gym",
    "Epidemic",
    "HVAC_ippc2023",
    "MarsRover_ippc2023",
    "MountainCar_Continuous_gym",
    "MountainCar_Discrete_gym",
    "MountainCar_ippc2023",
    "Quadcopter_physics",
    "RaceCar_ippc2023",
    "Reacher_physics",
]
DRAWN = [  # means of many draws are compared
    "Bicycle_physics",
    "Blackjack_arcade",
    "HVAC",
    "Intruders_Continuous",
    "Navigation_Continuous",
    "Pong_arcade",
    "PowerGen_Continuous",
    "PowerGen_Discrete",
    "PowerGen_ippc2023",
    "RecSim_ippc2023",
    "Reservoir_Continuous",
    "Reservoir_Discrete",
    "Reservoir_ippc2023",
    "TowerOfHanoi_arcade",
    "UAV_Continuous",
    "UAV_Discrete",
    "UAV_Mixed",
    "UAV_ippc2023",
    "Zombies_arcade",
]
TANK_DOMAIN = """
domain tank {
  types { vat : object; };
  pvariables {
    CAP(vat)   : { non-fluent, real, default = 10.0 };
    depth(vat) : { state-fluent, real, default = 4.0 };
    count      : { state-fluent, int, default = 0 };
    alarm      : { state-fluent, bool, default = false };
    leak(vat)  : { interm-fluent, real };
    drain(vat) : { action-fluent, real, default = 0.0 };
    push       : { action-fluent, real, default = 0.5 };
    half       : { action-fluent, real, default = 0.0 };
    ring       : { action-fluent, bool, default = false };
  };
  cpfs {
    leak(?v) = exp[-depth(?v) / CAP(?v)] * abs[sin[depth(?v)]] + (if (alarm) then 0.1 else pow[abs[depth(?v)], 0.5]);
    depth'(?v) = max[0.0, depth(?v) - drain(?v) - 0.1 * leak(?v)] + (avg_{?w : vat} depth(?w)) * 0.01
                 + 0.2 * push;
    count' = count + (sum_{?v : vat} [depth(?v) > 3.0]) + ring;
    alarm' = (exists_{?v : vat} [depth(?v) < 2.0]) | (ring ^ (min_{?v : vat} depth(?v)) < 3.5);
  };
  reward = -(sum_{?v : vat} pow[depth(?v) - 3.0, 2]) - 0.1 * push * push - half + (max_{?v : vat} depth'(?v)) * ring;
  action-preconditions {
    forall_{?v : vat} [drain(?v) >= 0.0 ^ drain(?v) <= depth(?v)];
    half >= 1.0;
    (sum_{?v : vat} drain(?v)) <= 6.0;
  };
  termination { count >= 9; };
}
"""
TANK_INSTANCE = """
non-fluents two { domain = tank; objects { vat : { a, b }; }; non-fluents { CAP(b) = 5.0; }; }
instance first { domain = tank; non-fluents = two; init-state { depth(b) = 2.5; };
  max-nondef-actions = pos-inf; horizon = 8; discount = 1.0; }
"""
WALK_DOMAIN = """
domain walk {
  pvariables {
    x     : { state-fluent, real, default = 1.0 };
    v     : { state-fluent, real, default = 0.0 };
    force : { action-fluent, real, default = 0.0 };
  };
  cpfs {
    x' = x + v;
    v' = 0.9 * v + force + Normal(0.0, 0.04);
  };
  reward = -(x * x) - 0.5 * v * v;
}
"""
WALK_INSTANCE = """
non-fluents none { domain = walk; }
instance first { domain = walk; non-fluents = none; max-nondef-actions = pos-inf; horizon = 6; discount = 1.0; }
"""


class Oracle:
    """pyRDDLGym's simulator of the lifted domain, with states and actions by their grounded labels."""

    def __init__(self, domain: str, instance: str) -> None:
        with quiet():
            parser = RDDLParser(None, False)
            parser.build(write_tables=False, debug=False)
            self.model = RDDLLiftedModel(parser.parse(RDDLReader(domain, instance).rddltxt))
            self.simulator = RDDLSimulator(self.model, rng=np.random.default_rng(0), keep_tensors=True)
        self.simulator.reset()

    def names(self, fluent: str) -> list[str]:
        found = []
        for name in self.model.variable_groundings[fluent]:
            base, _, objects = name.partition("___")
            found.append(f"{base}({objects.replace('__', ',')})" if objects else base)
        return found

    def array(self, fluent: str, values: dict[str, float]) -> Any:
        like = np.asarray(self.simulator.init_values[fluent])
        flat = [values[name] for name in self.names(fluent)]
        return np.array(flat).astype(like.dtype).reshape(like.shape)[()]

    def step(self, state: dict[str, float], action: dict[str, float]) -> tuple[dict[str, float], float, bool]:
        """Return one draw of the next state, the reward, and whether the episode ends."""
        simulator, model = self.simulator, self.model
        simulator.subs.update({fluent: self.array(fluent, state) for fluent in model.state_fluents})
        chosen = {fluent: self.array(fluent, action) for fluent in model.action_fluents}
        with quiet():
            _, reward, done = simulator.step(chosen)
        following: dict[str, float] = {}
        for fluent in model.state_fluents:
            flat = np.asarray(simulator.subs[fluent], dtype=float).reshape(-1)
            following |= dict(zip(self.names(fluent), flat.tolist(), strict=True))
        return following, float(reward), bool(done)


def files(problem: str) -> tuple[str, str]:
    info = managers.RDDLRepoManager().get_problem(problem)
    listed = info.list_instances()
    return info.get_domain(), info.get_instance("1" if "1" in listed else sorted(listed)[0])


def numbers(world: Any, values: Any, i: int) -> dict[str, float]:
    """Return one of many values, as RDDL's numbers."""
    fluents = {fluent.label: fluent for fluent in world.domain.fluents.values()}
    return {name: float(value[i]) + fluents[name].low for name, value in values.items()}


def chosen(world: Any, action: Any, i: int) -> dict[str, float]:
    """Return what the i-th action sets every fluent to."""
    fluents = world.domain.fluents
    columns = world.domain.actions.columns if world.action_names else world.domain.actions.fluents(action)
    rows = {name: column[action] if world.action_names else column for name, column in columns.items()}
    return {fluents[name].label: float(value[i]) + fluents[name].low for name, value in rows.items()}


def visited(world: Any, n: int, steps: int, seed: int) -> tuple[Any, Any, Any, Tensor]:
    """Return states that the prior visits, actions, what followed, and rewards, all of n copies."""
    p, g = noise_program(world), torch.Generator().manual_seed(seed)

    def noise(k: int) -> Tensor:
        return torch.randn(n, k, generator=g, dtype=torch.float64)

    s = p.start(noise(p.start_noise))
    for t in range(steps):
        a = p.act(t, s, noise(p.act_noise))
        following, reward = p.step(t, s, a, noise(p.step_noise))
        before, s = s, following
    return p.state(before), p.action(a), p.state(s), reward


def compare_steps(world: Any, oracle: Oracle, n: int = 8, steps: int = 4) -> None:
    """Hold every next state and reward of some steps against the simulator's."""
    state, action, following, reward = visited(world, n, steps, seed=3)
    ended = world.terminated(state).expand(n) if world.terminated else torch.zeros(n, dtype=torch.bool)
    assert not bool(ended.all())
    for i in (~ended).nonzero().flatten().tolist():
        then, paid, done = oracle.step(numbers(world, state, i), chosen(world, action, i))
        assert numbers(world, following, i) == pytest.approx(then, abs=1e-9, rel=1e-9)
        if reward[i] > -torch.inf:  # else an action that a precondition forbids
            assert float(reward[i]) == pytest.approx(paid, abs=1e-9, rel=1e-9)
        after = {name: value[i] for name, value in following.items()}
        assert done == bool(world.terminated is not None and world.terminated(after))


def compare_means(world: Any, oracle: Oracle, ours: int = 4000, theirs: int = 400) -> None:
    """Hold the means of the next state and of the reward after one state and action against the simulator's."""
    p = noise_program(world)
    state, action, _, _ = visited(world, 1, 3, seed=5)
    g = torch.Generator().manual_seed(7)
    z = torch.randn(ours, p.step_noise, generator=g, dtype=torch.float64)
    s, a = (space.join(space.unpack(v)) for space, v in ((p.states, state), (p.actions, action)))
    following, reward = p.step(0, s.double().expand(ours, -1), a.double().expand(ours, -1), z)
    drawn = [oracle.step(numbers(world, state, 0), chosen(world, action, 0)) for _ in range(theirs)]
    columns = {name: value.double() for name, value in p.state(following).items()} | {"": reward}
    fluents = {fluent.label: fluent for fluent in world.domain.fluents.values()}
    if bool((reward == -torch.inf).all()):  # an action that a precondition forbids
        del columns[""]
    for name, mine in columns.items():
        other = np.array([then[name] if name else paid for then, paid, _ in drawn])
        low = fluents[name].low if name else 0
        error = np.sqrt(float(mine.var()) / ours + other.var() / theirs)
        assert abs(float(mine.mean()) + low - other.mean()) <= 4 * error + 1e-9 * (1 + abs(other.mean())), name


def written(folder: Path, domain: str, instance: str) -> tuple[str, str]:
    paths = folder / "domain.rddl", folder / "instance.rddl"
    for path, text in zip(paths, (domain, instance), strict=True):
        path.write_text(text)
    return str(paths[0]), str(paths[1])


@pytest.fixture
def tank(tmp_path: Path) -> tuple[str, str]:
    return written(tmp_path, TANK_DOMAIN, TANK_INSTANCE)


class TestTank:
    """A domain with bounds that read the state, functions, aggregations, real, int and bool fluents, and an end."""

    def test_steps(self, tank: tuple[str, str]) -> None:
        compare_steps(from_rddl(*tank), Oracle(*tank), n=24)

    def test_prior(self, tank: tuple[str, str]) -> None:
        world: Any = from_rddl(*tank, deviation=2.0)
        trace = pyro.poutine.trace(world.act).get_trace(world.initial(), 0)
        prior = {name: node["fn"] for name, node in trace.nodes.items() if node["type"] == "sample"}
        assert set(prior) == {"drain(a)", "drain(b)", "push", "half", "ring"}
        assert (float(prior["drain(a)"].low), float(prior["drain(a)"].high)) == (0.0, 4.0)
        assert float(prior["drain(b)"].high) == 2.5
        assert (float(prior["push"].loc), float(prior["push"].scale)) == (0.5, 2.0)
        assert float(prior["half"].icdf(torch.tensor(0.0))) == 1.0
        given: Any = from_rddl(*tank, bounds={"push": (-1.0, 1.0)})
        trace = pyro.poutine.trace(given.act).get_trace(given.initial(), 0)
        assert (float(trace.nodes["push"]["fn"].low), float(trace.nodes["push"]["fn"].high)) == (-1.0, 1.0)

    def test_other_conditions_are_charged(self, tank: tuple[str, str]) -> None:
        world: Any = from_rddl(*tank)
        state = world.initial() | {"depth(b)": torch.tensor(4.0)}
        action = {"drain(a)": torch.tensor([4.0, 2.0]), "drain(b)": torch.tensor(3.0), "ring": torch.tensor(0)}
        _, reward = world.step(state, action | {"push": torch.tensor(0.0), "half": torch.tensor(1.0)}, 0)
        assert reward[0] == -torch.inf
        assert reward[1].isfinite()

    @pytest.mark.slow
    def test_faults(self, tmp_path: Path) -> None:
        for old, new, words in (
            ("half       : { action-fluent, real", "half       : { action-fluent, int", "'half': .*int without bounds"),
            ("0.1 * leak(?v)]", "Gompertz(1.0, leak(?v))]", "Gompertz"),
        ):
            assert old in TANK_DOMAIN
            with pytest.raises(cai.IntractableError, match=words):
                from_rddl(*written(tmp_path, TANK_DOMAIN.replace(old, new), TANK_INSTANCE))
        with pytest.raises(cai.IntractableError, match="1 may be set"):
            from_rddl(*written(tmp_path, TANK_DOMAIN, TANK_INSTANCE.replace("pos-inf", "1")))
        with pytest.raises(cai.WorldError, match=r"bounds: 'depth\(a\)'"):
            from_rddl(*written(tmp_path, TANK_DOMAIN, TANK_INSTANCE), bounds={"depth": (0.5, 2.0)})


def test_an_affine_problem_is_solved_exactly(tmp_path: Path) -> None:
    """The value of a linear-quadratic problem under HARD, by Riccati's recursion written out here."""
    world = from_rddl(*written(tmp_path, WALK_DOMAIN, WALK_INSTANCE))
    A, B = np.array([[1.0, 1.0], [0.0, 0.9]]), np.array([[0.0], [1.0]])
    p, c = np.zeros((2, 2)), 0.0
    for _ in range(6):
        c = c - 0.04 * p[1, 1]
        gain = np.linalg.pinv(B.T @ p @ B) @ B.T @ p @ A
        p = np.diag([1.0, 0.5]) + A.T @ p @ (A - B @ gain)
    exact = float(cai.solve(world, cai.HARD).value)
    assert exact == pytest.approx(-p[0, 0] + c, abs=1e-9)


def test_pendulum() -> None:
    compare_steps(from_rddl(*files("Pendulum_gym")), Oracle(*files("Pendulum_gym")))


@pytest.mark.slow
@pytest.mark.parametrize("problem", CERTAIN)
def test_every_problem_without_chance(problem: str) -> None:
    compare_steps(from_rddl(*files(problem)), Oracle(*files(problem)))


@pytest.mark.slow
@pytest.mark.parametrize("problem", DRAWN)
def test_every_problem_with_chance(problem: str) -> None:
    compare_means(from_rddl(*files(problem)), Oracle(*files(problem)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("problem", "bounds"),
    [
        ("SupplyChain_or", {"ship": (0, 4)}),
        ("TrafficBLX_ComplexPhases", {"set-phase": (0, 3)}),
        ("Workforce_rddlsim", {"train": (0, 2)}),
    ],
)
def test_whole_actions_are_given_bounds(problem: str, bounds: dict[str, tuple[float, float]]) -> None:
    with pytest.raises(cai.IntractableError, match="an action fluent of int without bounds"):
        from_rddl(*files(problem))
    compare_means(from_rddl(*files(problem), bounds=bounds), Oracle(*files(problem)))
