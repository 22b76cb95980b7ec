"""RDDL problems as worlds: one slice agrees with pyRDDLGym's own simulator, the oracle of this file."""

import functools
import re
import sys
from collections.abc import Callable
from itertools import product
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
from cai.simulate.worlds import WorldSimulator

with quiet():
    pytest.importorskip("pyRDDLGym")
    managers = pytest.importorskip("rddlrepository.core.manager")
    from pyRDDLGym.core.compiler.model import RDDLLiftedModel  # type: ignore[import-untyped]
    from pyRDDLGym.core.grounder import RDDLGrounder
    from pyRDDLGym.core.parser.parser import RDDLParser  # type: ignore[import-untyped]
    from pyRDDLGym.core.parser.reader import RDDLReader  # type: ignore[import-untyped]
    from pyRDDLGym.core.simulator import RDDLSimulator  # type: ignore[import-untyped]

pytestmark = pytest.mark.slow  # the simulators of pyRDDLGym take their time

PROBLEMS = [  # with the number of state variables and of joint actions
    ("SysAdmin_MDP_ippc2011", 1, 10, 11),
    ("SysAdmin_MDP_ippc2011", 3, 20, 21),
    ("GameOfLife_MDP_ippc2011", 1, 9, 10),
    ("Navigation_MDP_ippc2011", 1, 12, 5),
    ("Elevators_MDP_ippc2011", 1, 13, 5),
    ("CrossingTraffic_MDP_ippc2011", 1, 18, 5),
    ("SkillTeaching_MDP_ippc2011", 1, 12, 5),
    ("CooperativeRecon_MDP_ippc2011", 1, 31, 20),
    ("AcademicAdvising_MDP_ippc2014", 1, 20, 11),
    ("Tamarisk_MDP_ippc2014", 1, 16, 9),
    ("TriangleTireworld_MDP_ippc2014", 1, 15, 44),
    ("Wildfire_MDP_ippc2014", 1, 18, 19),
    ("Traffic_MDP_ippc2014", 1, 32, 16),
]
OBSERVED = ["SysAdmin_POMDP_ippc2011", "Navigation_POMDP_ippc2011", "SkillTeaching_POMDP_ippc2011"]
RING = """
non-fluents ring { domain = sysadmin_mdp; objects { computer : {c1, c2, c3}; };
  non-fluents { REBOOT-PROB = 0.05; CONNECTED(c1,c2); CONNECTED(c2,c3); CONNECTED(c3,c1); }; }
instance small { domain = sysadmin_mdp; non-fluents = ring;
  init-state { running(c1); running(c3); };
  max-nondef-actions = 1; horizon = 6; discount = 0.9; }
"""
TOUR_DOMAIN = """
domain tour {
  types { place : object; weather : { @sun, @rain, @fog }; };
  pvariables {
    RISK(weather) : { non-fluent, real, default = 0.1 };
    HOME          : { non-fluent, place };
    AWAY          : { non-fluent, place };
    at            : { state-fluent, place };
    sky           : { state-fluent, weather, default = @sun };
    fuel          : { state-fluent, int, default = 2 };
    wet(place)    : { state-fluent, bool, default = false };
    gust          : { interm-fluent, bool };
    soaked(place) : { interm-fluent, bool };
    dash          : { action-fluent, bool, default = false };
    shout         : { action-fluent, bool, default = false };
  };
  cpfs {
    gust = Bernoulli(RISK(@rain) + 0.2);
    soaked(?p) = wet(?p) | (gust ^ (sky ~= @sun));
    sky' = if (dash) then Discrete(weather, @sun : 0.5, @rain : 0.3, @fog : 0.2)
           else switch (sky) { case @sun : @rain, case @rain : @fog, default : @sun };
    at' = if (dash) then (if (Bernoulli(0.7)) then AWAY else HOME) else at;
    fuel' = max[0, min[3, fuel + 2 * Bernoulli(0.4) - dash]];
    wet'(?p) = if (shout) then false else (soaked(?p) ^ Bernoulli(0.9));
  };
  reward = 0.5 * fuel' - (sum_{?p : place} wet(?p)) + (if (at == AWAY) then 1 else shout);
  action-preconditions { dash => (fuel >= 1); ~(dash ^ shout); };
  state-invariants { fuel >= 0; fuel <= 3; };
  termination { (at == AWAY) ^ (sky == @fog); };
}
"""
TOUR_INSTANCE = """
non-fluents few { domain = tour; objects { place : { near, far }; };
  non-fluents { RISK(@rain) = 0.3; HOME = @near; AWAY = @far; }; }
instance first { domain = tour; non-fluents = few; init-state { at = @near; wet(far); };
  max-nondef-actions = 2; horizon = 4; discount = 1.0; }
"""


class Certain:
    """Stands in for a random generator: a Bernoulli draw then returns its probability."""

    def uniform(self, size: Any = None) -> "Certain":
        return self

    def __le__(self, chance: Any) -> Any:
        return chance


class Oracle:
    """pyRDDLGym's simulator of the lifted domain, with states and actions by their grounded labels."""

    def __init__(self, domain: str, instance: str) -> None:
        with quiet():
            parser = RDDLParser(None, False)
            parser.build(write_tables=False, debug=False)
            self.model = RDDLLiftedModel(parser.parse(RDDLReader(domain, instance).rddltxt))
            self.simulator = RDDLSimulator(self.model, rng=np.random.default_rng(0), keep_tensors=True)
        self.simulator.reset()

    def array(self, fluent: str, values: dict[str, Any]) -> Any:
        """Lay values by label into the array of a lifted fluent; zero where there is none."""
        like = np.asarray(self.simulator.init_values[fluent])
        flat = [values.get(label(name), 0) for name in self.model.variable_groundings[fluent]]
        return np.array(flat).astype(like.dtype).reshape(like.shape)[()]

    def spread(self, fluent: str, values: Any) -> dict[str, float]:
        """Read an array back as values by label."""
        names = [label(name) for name in self.model.variable_groundings[fluent]]
        shape = np.shape(self.simulator.init_values[fluent])
        flat = np.broadcast_to(np.asarray(values, dtype=float), shape).reshape(-1)
        return dict(zip(names, flat.tolist(), strict=True))

    def actions(self, name: str) -> dict[str, Any]:
        """Return the lifted action of a label such as "a(x) + b"."""
        values = dict.fromkeys(name.split(" + "), 1)
        return {fluent: self.array(fluent, values) for fluent in self.model.action_fluents}

    def enter(self, state: dict[str, int], action: str) -> None:
        """Set the state and the action."""
        subs = self.simulator.subs
        subs.update({fluent: self.array(fluent, state) for fluent in self.model.state_fluents})
        subs.update(self.actions(action))

    def chances(self, fluents: dict[str, str]) -> dict[str, float]:
        """Return the probability of each grounded fluent to be true; exact where draws stand at the tail."""
        drawn, self.simulator.rng = self.simulator.rng, Certain()
        found: dict[str, float] = {}
        for fluent, rule in fluents.items():
            found |= self.spread(fluent, self.simulator._sample(self.model.cpfs[rule][1], self.simulator.subs))
        self.simulator.rng = drawn
        return found

    def transition(self) -> dict[str, float]:
        return self.chances(self.model.next_state)

    def reward(self) -> float:
        return float(self.simulator.sample_reward())


def label(name: str) -> str:
    base, _, objects = name.partition("___")
    return f"{base}({objects.replace('__', ',')})" if objects else base


def files(problem: str, instance: int) -> tuple[str, str]:
    info = managers.RDDLRepoManager().get_problem(problem)
    return info.get_domain(), info.get_instance(str(instance))


def some(world: Any, n: int, seed: int = 0) -> tuple[dict[str, Tensor], Tensor]:
    """Draw states of truth values, any at all, and actions."""
    g = torch.Generator().manual_seed(seed)
    state = {name: torch.randint(2, (n,), generator=g) for name in world.initial()}
    return state, torch.randint(len(world.action_names), (n,), generator=g)


def sites(piece: Callable[..., Any], *args: Any) -> tuple[dict[str, Any], Any]:
    """Return the distribution of every site of a piece, and what it returned."""
    trace = pyro.poutine.trace(piece).get_trace(*args)
    found = {name: node["fn"] for name, node in trace.nodes.items() if node["type"] == "sample"}
    return found, trace.nodes["_RETURN"]["value"]


def chance(fn: Any, n: int) -> Tensor:
    """Return the probability of 1, of n copies."""
    p = fn.probs[..., 1] if hasattr(fn, "probs") else fn.value.double()
    return p.expand(n)


def single(state: dict[str, Tensor], i: int) -> dict[str, int]:
    return {name: int(value[i]) for name, value in state.items()}


@pytest.fixture
def tour(tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "domain.rddl", tmp_path / "instance.rddl"
    for path, text in zip(paths, (TOUR_DOMAIN, TOUR_INSTANCE), strict=True):
        path.write_text(text)
    return paths


@pytest.mark.usefixtures("float64")
class TestSliceAgreesWithTheSimulator:
    @pytest.mark.parametrize(("problem", "instance", "variables", "actions"), PROBLEMS)
    def test_chances_and_rewards(self, problem: str, instance: int, variables: int, actions: int) -> None:
        world: Any = from_rddl(problem, instance)
        oracle = Oracle(*files(problem, instance))
        n = 24
        state, action = some(world, n)
        assert (len(state), len(world.action_names), world.horizon) == (variables, actions, 40)
        found, (following, reward) = sites(world.step, state, action, 0)
        assert list(found) == list(following), "a latent, where every draw stands at the tail"
        for i in range(n):
            oracle.enter(single(state, i), world.action_names[int(action[i])])
            expected = oracle.transition()
            got = {name: float(chance(fn, n)[i]) for name, fn in found.items()}
            assert got == pytest.approx(expected, abs=1e-12)
            assert float(reward.expand(n)[i]) == pytest.approx(oracle.reward(), abs=1e-9)

    @pytest.mark.parametrize("problem", OBSERVED)
    def test_observations(self, problem: str) -> None:
        world: Any = from_rddl(problem, 1)
        oracle = Oracle(*files(problem, 1))
        state, _ = some(world, 16)
        found, observed = sites(world.observe, state)
        assert list(found) == list(observed)
        for i in range(16):
            subs, model = oracle.simulator.subs, oracle.model
            for name, then in model.next_state.items():
                subs[then] = oracle.array(name, single(state, i))
            expected = oracle.chances({name: name for name in model.observ_fluents})
            assert {name: float(chance(fn, 16)[i]) for name, fn in found.items()} == pytest.approx(expected)

    def test_start_is_the_instance(self) -> None:
        world: Any = from_rddl("Elevators_MDP_ippc2011", 1)
        oracle = Oracle(*files("Elevators_MDP_ippc2011", 1))
        expected: dict[str, float] = {}
        for fluent in oracle.model.state_fluents:
            expected |= oracle.spread(fluent, oracle.simulator.init_values[fluent])
        assert {name: float(value) for name, value in world.initial().items()} == expected


@pytest.mark.parametrize(
    ("problem", "steps"), [("SysAdmin_MDP_ippc2011", 10), ("Elevators_MDP_ippc2011", 12), ("PushYourLuck_ippc2018", 12)]
)
@pytest.mark.slow
def test_mean_return_agrees_with_the_simulator(problem: str, steps: int) -> None:
    world: Any = from_rddl(problem, 1)
    simulator = Oracle(*files(problem, 1))
    g = torch.Generator().manual_seed(1)
    plan = torch.randint(len(world.action_names), (steps,), generator=g).tolist()
    lifted = [simulator.actions(world.action_names[a]) for a in plan]
    returns = []
    for _ in range(300):
        simulator.simulator.reset()
        returns.append(sum(simulator.simulator.step(action)[1] for action in lifted))
    torch.manual_seed(0)
    many = WorldSimulator(world, 4000)
    env_state, total = many.begin(), torch.zeros(4000)
    for a in plan:
        env_state, reward = many.step(env_state, torch.full((4000,), a))
        total = total + reward
    error = np.sqrt(np.var(returns) / len(returns) + float(total.var()) / 4000)
    assert abs(np.mean(returns) - float(total.mean())) < 4 * error


@pytest.mark.usefixtures("float64")
class TestScopes:
    def test_every_factor_is_over_what_it_reads(self) -> None:
        world: Any = from_rddl("SysAdmin_MDP_ippc2011", 1)
        names = list(world.initial())
        state = {name: torch.arange(2).reshape((2,) + (1,) * i) for i, name in enumerate(names)}
        action = torch.arange(11).reshape((11,) + (1,) * 10)
        found, _ = sites(world.step, state, action, 0)
        text = Path(files("SysAdmin_MDP_ippc2011", 1)[1]).read_text()
        edges = re.findall(r"CONNECTED\((\w+),(\w+)\)", text)
        for name in names:
            wide = [axis for axis in range(len(names)) if _extent(found[name].batch_shape, axis) > 1]
            machine = name[len("running(") : -1]
            expected = {machine, *(a for a, b in edges if b == machine)}
            assert {names[axis] for axis in wide} == {f"running({one})" for one in expected}

    def test_reward_is_a_sum_of_small_parts(self) -> None:
        world: Any = from_rddl("SysAdmin_MDP_ippc2011", 1)
        assert [len(term.scope) for _, term in world.domain.reward] == [1] * 20


def _extent(shape: torch.Size, axis: int) -> int:
    return shape[-1 - axis] if axis < len(shape) else 1


@pytest.mark.usefixtures("float64")
class TestSolve:
    @pytest.fixture
    def ring(self, tmp_path: Path) -> tuple[str, str]:
        instance = tmp_path / "ring.rddl"
        instance.write_text(RING)
        return files("SysAdmin_MDP_ippc2011", 1)[0], str(instance)

    @pytest.mark.parametrize("rule", [cai.HARD, cai.VARIATIONAL])
    def test_values_by_hand(self, ring: tuple[str, str], rule: Any) -> None:
        world: Any = from_rddl(*ring)
        assert cai.check(world) == []
        solved = cai.solve(world, rule, temperature=0.5)
        oracle = Oracle(*ring)
        states = list(product(range(2), repeat=3))
        names = [f"running(c{i})" for i in (1, 2, 3)]
        p, r = np.zeros((8, 4, 8)), np.zeros((8, 4))
        for (s, values), (a, action) in product(enumerate(states), enumerate(world.action_names)):
            oracle.enter(dict(zip(names, values, strict=True)), action)
            up = np.array([oracle.transition()[name] for name in names])
            p[s, a] = [np.prod(np.where(np.array(then) == 1, up, 1 - up)) for then in states]
            r[s, a] = oracle.reward()
        v = np.zeros(8)
        for _ in range(6):
            q = r + 0.9 * p @ v
            v = q.max(1) if rule == cai.HARD else 0.5 * np.log(np.exp(q / 0.5).mean(1))
        assert solved.v[0].numpy() == pytest.approx(v, abs=1e-10)
        assert world.action_names == ("noop", "reboot(c1)", "reboot(c2)", "reboot(c3)")

    def test_navigation(self) -> None:
        world: Any = from_rddl("Navigation_MDP_ippc2011", 1, horizon=3, discount=0.5)
        assert (world.horizon, world.discount) == (3, 0.5)
        with pyro.poutine.trace() as trace:
            cai.trajectory(world)()
        assert trace.trace.nodes["O_2"]["is_observed"]


@pytest.mark.usefixtures("float64")
class TestEveryKindOfFluent:
    """A domain with objects, an enumerated type, bounds, latents, preconditions and an end."""

    def test_variables(self, tour: tuple[Path, Path]) -> None:
        tables = cai.tabulate(from_rddl(*tour))
        assert dict(zip(tables.states.names, tables.states.sizes, strict=True)) == {
            "at": 2,
            "sky": 3,
            "fuel": 4,
            "wet(near)": 2,
            "wet(far)": 2,
        }
        world: Any = from_rddl(*tour)
        assert world.action_names == ("noop", "dash", "shout")  # both at once is forbidden whatever the state
        found, _ = sites(world.step, world.initial(), torch.tensor(1), 0)
        assert set(found) == {"gust", "fuel#1", *tables.states.names}

    @pytest.mark.parametrize("action", ["noop", "dash", "shout"])
    def test_slice(self, tour: tuple[Path, Path], action: str) -> None:
        world: Any = from_rddl(*tour)
        tables, oracle = cai.tabulate(world), Oracle(str(tour[0]), str(tour[1]))
        a, n = world.action_names.index(action), 1500
        for state in ({"sky": 1, "fuel": 1, "wet(far)": 1}, {"at": 1, "fuel": 3}):
            full = dict.fromkeys(tables.states.names, 0) | state
            s = int(tables.index(**full))
            p = tables.log_prob[s, a].exp()
            following = tables.states.split(tables.successor[s, a])
            draws: dict[str, list[float]] = {name: [] for name in full} | {"reward": []}
            for _ in range(n):
                oracle.enter(full, action)
                _, reward, _ = oracle.simulator.step(oracle.actions(action))
                draws["reward"].append(reward)
                for fluent in oracle.model.state_fluents:
                    for name, value in oracle.spread(fluent, oracle.simulator.subs[fluent]).items():
                        draws[name].append(value)
            for name, values in {**following, "reward": tables.reward[s, a]}.items():
                mean = float((p * values).sum())
                spread = float((p * (values - mean) ** 2).sum()) ** 0.5
                assert abs(np.mean(draws[name]) - mean) <= 4 * spread / n**0.5 + 1e-12, name

    def test_preconditions(self, tour: tuple[Path, Path]) -> None:
        tables = cai.tabulate(from_rddl(*tour))
        fuel = tables.states.split(torch.arange(tables.states.size))["fuel"]
        prior = tables.log_prior.exp()
        assert torch.equal(prior[fuel == 0], torch.tensor([0.5, 0.0, 0.5]).expand(24, 3))
        assert torch.allclose(prior[fuel > 0], torch.tensor(1 / 3, dtype=torch.float64))

    def test_termination_is_absorbing(self, tour: tuple[Path, Path]) -> None:
        world: Any = from_rddl(*tour)
        tables = cai.tabulate(world)
        values = tables.states.split(torch.arange(tables.states.size))
        ended = (values["at"] == 1) & (values["sky"] == 2)
        assert torch.equal(world.terminated(values), ended)
        stays = torch.where(tables.log_prob > -torch.inf, tables.successor, torch.arange(len(ended))[:, None, None])
        assert (stays[ended] == torch.arange(len(ended))[ended][:, None, None]).all()
        assert (tables.reward[ended] == 0).all()

    def test_check(self, tour: tuple[Path, Path]) -> None:
        assert cai.check(from_rddl(*tour)) == []


class TestFaults:
    def test_partially_observed(self) -> None:
        assert getattr(from_rddl("SysAdmin_POMDP_ippc2011", 1), "partially_observed", False)
        assert not hasattr(from_rddl("SysAdmin_MDP_ippc2011", 1), "observe")

    def test_unknown_problem(self) -> None:
        with pytest.raises(cai.WorldError, match=r"no problem 'SysAdmin'; expected .*SysAdmin_MDP_ippc2011"):
            from_rddl("SysAdmin", 1)

    def test_unknown_instance(self) -> None:
        with pytest.raises(cai.WorldError, match=r"no instance '99'; expected a path, or one of 1, 2"):
            from_rddl("SysAdmin_MDP_ippc2011", 99)

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(cai.WorldError, match=r"no file .*none\.rddl"):
            from_rddl(tmp_path / "none.rddl", tmp_path / "none.rddl")

    @pytest.mark.parametrize(
        "text", [TOUR_DOMAIN.replace("then false", "then"), TOUR_DOMAIN.replace("domain tour", "")]
    )
    def test_no_rddl(self, tour: tuple[Path, Path], text: str) -> None:
        tour[0].write_text(text)
        with pytest.raises(cai.WorldError) as caught:
            from_rddl(*tour)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("new", "words"),
        [("then log[shout] else shout", "'reward': log of 1 arguments"), ("then exp[1, 2] else shout", "exp of 2")],
    )
    def test_arguments_of_a_function(self, tour: tuple[Path, Path], new: str, words: str) -> None:
        tour[0].write_text(TOUR_DOMAIN.replace("then 1 else shout", new))
        with pytest.raises(cai.WorldError, match=words):
            from_rddl(*tour)

    def test_undeclared_name_at_the_start(self, tour: tuple[Path, Path]) -> None:
        tour[1].write_text(TOUR_INSTANCE.replace("wet(far);", "dry(far);"))
        with pytest.raises(cai.WorldError, match="init_state: 'dry', which is not declared"):
            from_rddl(*tour)

    def test_undeclared_name(self, tour: tuple[Path, Path]) -> None:
        tour[0].write_text(TOUR_DOMAIN.replace("then 1 else shout", "then 1 else nothing"))
        with pytest.raises(cai.WorldError, match="'reward': 'nothing', which is not declared"):
            from_rddl(*tour)

    @pytest.mark.parametrize(
        ("old", "new", "words"),
        [
            ("fuel <= 3;", "", "'fuel': Delta, which has no finite support"),
            ("2 * Bernoulli(0.4)", "2 * Poisson(0.4)", "'fuel#1': Poisson, which has no finite support"),
            ("default = 2", "default = 9", "'fuel': a first value of 9"),
            ("at == AWAY) ^ (sky", "gust) ^ (sky", "termination.*reads 'gust'"),
            ("@fog : 0.2)", "@fog : 0.1)", "'sky'.*: Discrete probabilities that sum to 0.9"),
            ("Bernoulli(0.9)", "Bernoulli(1.9)", r"'wet\(near\)'.*: Bernoulli of 1.9; expected numbers from 0 to 1"),
            ("@fog : 0.2)", "@fog : 0.1 * fuel)", "'sky'.*: Discrete probabilities that sum to .* in every state"),
            ("gust = Bernoulli", "gust = (exists_{?p : place} soaked(?p)) ^ Bernoulli", "depends on itself"),
        ],
    )
    def test_no_finite_slice(self, tour: tuple[Path, Path], old: str, new: str, words: str) -> None:
        assert old in TOUR_DOMAIN
        tour[0].write_text(TOUR_DOMAIN.replace(old, new))
        with pytest.raises((cai.IntractableError, cai.WorldError), match=words):
            cai.tabulate(from_rddl(*tour))

    def test_many_actions_are_refused_before_they_are_grounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(RDDLGrounder, "_ground_pvariables_and_cpf", None)
        with pytest.raises(cai.IntractableError, match=r"536,870,912 joint actions of 29 fluents"):
            from_rddl("ChromaticDice_ippc2018", 1)

    def test_many_actions(self) -> None:
        with pytest.raises(cai.IntractableError, match=r"16,777,216 joint actions of 24 fluents"):
            from_rddl("Manufacturer_ippc2018", 1)

    def test_observation_of_the_action(self, tmp_path: Path) -> None:
        domain = tmp_path / "domain.rddl"
        text = Path(files("SysAdmin_POMDP_ippc2011", 1)[0]).read_text()
        domain.write_text(text.replace("if (running'(?x))", "if (running'(?x) ^ reboot(?x))"))
        with pytest.raises(cai.IntractableError, match=r"'running-obs\(c1\)': it reads 'reboot\(c1\)'"):
            from_rddl(domain, files("SysAdmin_POMDP_ippc2011", 1)[1])

    @pytest.mark.parametrize("module", ["rddlrepository.core.manager", "pyRDDLGym.core.parser.reader"])
    def test_missing_package(self, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(cai.WorldError, match=r"pip install 'cai\[rddl\]'"):
            from_rddl("SysAdmin_MDP_ippc2011", 1)

    def test_nothing_is_printed(self, capfd: pytest.CaptureFixture[str]) -> None:
        from_rddl("GameOfLife_MDP_ippc2011", 1)
        assert capfd.readouterr() == ("", "")


QUEUE_DOMAIN = """
domain queue {
  pvariables {
    waiting : { state-fluent, int, default = 0 };
    busy    : { state-fluent, bool, default = false };
    serve   : { action-fluent, bool, default = false };
  };
  cpfs {
    waiting' = max[0, waiting + Bernoulli(0.4) - (serve ^ ~busy)];
    busy' = if (serve) then Bernoulli(0.5) else false;
  };
  reward = -waiting - 0.3 * serve;
}
"""
QUEUE_INSTANCE = """
non-fluents none { domain = queue; }
instance first { domain = queue; non-fluents = none; init-state { waiting = 1; };
  max-nondef-actions = 1; horizon = 5; discount = 1.0; }
"""


@pytest.fixture
def queue(tmp_path: Path) -> tuple[str, str]:
    paths = tmp_path / "queue.rddl", tmp_path / "first.rddl"
    for path, text in zip(paths, (QUEUE_DOMAIN, QUEUE_INSTANCE), strict=True):
        path.write_text(text)
    return str(paths[0]), str(paths[1])


@functools.cache
def best(waiting: int, busy: int, left: int) -> float:
    """The queue's value by plain recursion, without any bound on how many wait."""
    if not left:
        return 0.0
    values = []
    for serve in (0, 1):
        mean = -waiting - 0.3 * serve
        for comes, p in ((0, 0.6), (1, 0.4)):
            for after, q in ((0, 1 - 0.5 * serve), (1, 0.5 * serve)):
                mean += p * q * best(max(0, waiting + comes - (serve and not busy)), after, left - 1) if p * q else 0.0
        values.append(mean)
    return max(values)


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
def test_a_number_without_bounds_is_given_some(queue: tuple[str, str]) -> None:
    world = from_rddl(*queue, bounds={"waiting": (0, 6)})
    for form in ("tables", "factors"):
        assert float(cai.solve(world, cai.HARD, form=form).value) == pytest.approx(best(1, 0, 5), abs=1e-12)
    with pytest.raises(cai.ImpossibleError):  # two may come: what lies beyond is forbidden, not cut off
        cai.solve(from_rddl(*queue, bounds={"waiting": (0, 2)}), cai.HARD)
    with pytest.raises(cai.WorldError, match=r"bounds: 'wait'.*expected a fluent's name"):
        from_rddl(*queue, bounds={"wait": (0, 2)})
    with pytest.raises(cai.IntractableError, match="'waiting'"):
        cai.tabulate(from_rddl(*queue))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("problem", ["ring", "queue"])
def test_the_hard_policy_earns_its_value_in_the_simulator(problem: str, request: Any, tmp_path: Path) -> None:
    """Returns of HARD's policy in pyRDDLGym, step by step, against the exact value, within four standard errors."""
    if problem == "ring":
        instance = tmp_path / "ring.rddl"
        instance.write_text(RING)
        paths, bounds = (files("SysAdmin_MDP_ippc2011", 1)[0], str(instance)), None
    else:
        paths, bounds = request.getfixturevalue("queue"), {"waiting": (0, 6)}
    world: Any = from_rddl(*paths, discount=1.0, bounds=bounds)
    found, oracle = cai.solve(world, cai.HARD), Oracle(*paths)
    states, returns = cai.tabulate(world).states, []
    chosen = [found.policy.probs(t).argmax(-1) for t in range(world.horizon)]
    for _ in range(300):
        oracle.simulator.reset()
        total = 0.0
        for t in range(world.horizon):
            now: dict[str, float] = {}
            for fluent in oracle.model.state_fluents:
                now |= oracle.spread(fluent, oracle.simulator.subs[fluent])
            s = int(states.join({name: torch.tensor(int(now[name])) for name in states.names}))
            total += float(oracle.simulator.step(oracle.actions(world.action_names[int(chosen[t][s])]))[1])
        returns.append(total)
    error = np.std(returns) / np.sqrt(len(returns))
    assert error > 0
    assert abs(np.mean(returns) - float(found.value)) < 4 * error
