"""The catalogue: every model conforms, is as large as it says, samples as its tables say, and refuses nonsense."""

import itertools
import math
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium
import pyro
import pytest
import torch

import cai
from cai.support.catalogue import outlines
from cai.view.overview import size_words
from tests.helpers import MODELS, load_model, slow_after

# name, arguments, (S, A, K)
CATALOGUE: list[tuple[str, dict[str, Any], tuple[int, int, int]]] = [
    ("frozen_lake", {}, (17, 4, 3)),
    ("frozen_lake", {"map_name": "8x8", "success_rate": 0.6}, (65, 4, 3)),
    ("frozen_lake", {"is_slippery": False}, (17, 4, 1)),
    ("frozen_lake", {"size": 6, "seed": 3}, (37, 4, 3)),
    ("cliff_walking", {}, (49, 4, 1)),
    ("cliff_walking", {"is_slippery": True}, (49, 4, 3)),
    ("taxi", {}, (501, 6, 1)),
    ("taxi", {"is_rainy": True}, (501, 6, 3)),
    ("grid", {}, (25, 5, 3)),
    ("grid", {"rows": 3, "columns": 4, "walls": [(1, 1)], "slip": 0.0, "step_reward": -1}, (12, 5, 3)),
    ("restaurant", {}, (4, 2, 3)),
    ("restaurant", {"horizon": 3, "french": (0, 1, 0)}, (4, 2, 3)),
    ("blackjack", {}, (300, 2, 30)),
    ("blackjack", {"sab": False}, (300, 2, 30)),
    ("mountain_pass", {}, (4, 2, 2)),
    ("mountain_pass", {"gust": 0.1, "horizon": 6}, (4, 2, 2)),
    ("mountain_pass", {"wind_obeys": True}, (4, 3, 1)),
    ("forest", {}, (3, 2, 2)),
    ("forest", {"n_ages": 5, "r1": 2, "p": 0, "start": 4}, (5, 2, 2)),
    ("river_swim", {"large": 20}, (6, 2, 3)),
    ("river_swim", {"n_places": 9}, (9, 2, 3)),
    ("deep_sea", {}, (100, 2, 1)),
    ("deep_sea", {"size": 4, "seed": None, "windy": True}, (16, 2, 2)),
    ("tiger", {}, (6, 3, 6)),
    ("hidden_maze", {}, (12, 4, 3)),
    ("sysadmin", {}, (16, 5, 16)),
    ("sysadmin", {"n": 3, "topology": "star", "recovery": 0.0}, (8, 4, 8)),
    ("sysadmin", {"n": 5, "topology": "random", "seed": 1}, (32, 6, 32)),
    ("elevator", {}, (384, 4, 16)),
    ("factory", {}, (32, 6, 8)),
    ("factory", {"n": 3, "paint": 1.0}, (256, 9, 32)),
    ("traffic", {}, (48, 2, 4)),
    ("traffic", {"n": 5, "crossings": (1, 3), "places": 1, "ring": True}, (128, 4, 4)),
    ("letters", {}, (58, 27, 1)),
    ("letters", {"order": 3, "pattern": r"\bcat\b", "end": ".", "smoothing": "add", "delta": 0.1}, (1489, 28, 1)),
    ("letters", {"words": 40, "pattern": None, "count": "the queen", "up_to": 1}, (81, 40, 1)),
]
CONTINUOUS = {
    "acrobot",
    "cartpole",
    "mountain_car",
    "mountain_car_continuous",
    "pendulum",
}  # tests/test_classic_control.py
NONLINEAR = {"obstacle_field", "quadrotor_2d", "reacher"}  # tests/test_nonlinear_models.py
LINEAR = {
    "double_integrator",
    "icy_road",
    "lqg",
    "tracking",
    "thermostat",
}  # exact without tables: tests/test_continuous_models.py
FIRST = {name: arguments for name, arguments, _ in reversed(CATALOGUE)}
ENTRIES = pytest.mark.parametrize(
    ("name", "arguments", "sizes"),
    [pytest.param(*entry, marks=[] if FIRST[entry[0]] is entry[1] else pytest.mark.slow) for entry in CATALOGUE],
    ids=lambda x: str(x).replace("'", ""),
)


def test_the_catalogue_is_complete_and_each_file_says_how_large_its_world_is() -> None:
    for name, said in outlines().items():
        assert said.size == size_words(cai.load_world(name)), name
        assert said.summary
        assert said.arguments
        assert all(argument.words for argument in said.arguments), name
    assert {*outlines()} == {path.stem for path in MODELS.glob("*.py")}
    known = {name for name, _, _ in CATALOGUE} | CONTINUOUS | NONLINEAR | LINEAR
    assert {path.stem for path in MODELS.glob("*.py")} == known


@ENTRIES
def test_a_model_conforms_and_has_its_sizes(name: str, arguments: dict[str, Any], sizes: tuple[int, int, int]) -> None:
    world = load_model(name)(**arguments)
    assert isinstance(world, cai.World)
    assert cai.check(world) == []
    tables = cai.tabulate(world)
    assert tuple(tables.log_prob.shape) == sizes
    assert tables.log_prob.dtype == torch.float64
    torch.testing.assert_close(tables.log_prob.exp().sum(-1), torch.ones(sizes[:2], dtype=torch.float64))
    if tables.layout is not None:
        assert tables.layout.cell.shape == (sizes[0],)
        assert len(tables.layout.moves) == sizes[1]
        assert int(tables.layout.cell.max()) < tables.layout.shape[0] * tables.layout.shape[1]


@ENTRIES
def test_sampling_the_program_agrees_with_the_tables(name: str, arguments: dict[str, Any], sizes: Any) -> None:
    """4,000 trajectories of the plain Pyro program, in one plate, against the exact expected return of the prior."""
    world, n = load_model(name)(**arguments), 4000
    if name != "deep_sea":  # whose horizon is its size
        world.horizon = min(world.horizon, 12)
    pyro.set_rng_seed(0)
    with pyro.plate("n", n):
        trace = pyro.poutine.trace(cai.trajectory(world)).get_trace()
    optimality = [site["fn"].log_potential for key, site in trace.nodes.items() if key.startswith("O_")]
    assert len(optimality) == world.horizon + hasattr(world, "terminal")
    returns = torch.stack([potential.double().expand(n) for potential in optimality]).sum(0)
    exact, variance = moments(cai.tabulate(world))
    assert abs(cai.evaluate(world, None).expected_return - exact) <= 1e-12 * max(1, abs(exact))
    # Five standard errors, for two dozen comparisons; programs run in float32, hence the floor.
    assert abs(float(returns.mean()) - exact) <= 5 * (variance / n) ** 0.5 + 1e-5 * max(1, abs(exact))


def moments(tables: cai.Tables) -> tuple[float, float]:
    """Return mean and variance of the prior's return; the exact variance, since a sample may miss a rare reward."""
    one = tables.at(0)
    w = one.log_prior.exp().unsqueeze(-1) * one.log_prob.exp()
    mean, square = tables.terminal, tables.terminal**2
    for _ in range(tables.horizon or 0):
        ahead, ahead_square = tables.discount * mean[one.successor], tables.discount * square[one.successor]
        mean = (w * (one.reward + ahead)).sum((-1, -2))
        square = (w * (one.reward**2 + 2 * one.reward * ahead + ahead_square)).sum((-1, -2))
    start = tables.log_initial.exp()
    first, second = float((start * mean).sum()), float((start * square).sum())
    return first, max(second - first**2, 0.0)


APART = [entry for entry in CATALOGUE if entry[0] in {"sysadmin", "elevator", "factory", "traffic"}]
APART.sort(key=lambda entry: FIRST[entry[0]] is not entry[1])


@pytest.mark.parametrize(("name", "arguments", "sizes"), slow_after(4, APART), ids=lambda x: str(x).replace("'", ""))
def test_variables_kept_apart_give_the_answers_of_tables(name: str, arguments: dict[str, Any], sizes: Any) -> None:
    world = load_model(name)(**arguments)
    tables, factors = cai.tabulate(world), cai.factorise(world)
    assert (factors.states.size, factors.actions.size) == sizes[:2]
    for rule in (cai.POSTERIOR, cai.VARIATIONAL, cai.HARD):
        a, b = (cai.solve(one, rule, temperature=0.7) for one in (tables, factors))
        assert (a.form, b.form) == ("tables", "factors")
        torch.testing.assert_close(a.v, b.v, rtol=1e-12, atol=1e-10)
        torch.testing.assert_close(a.value, b.value, rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "arguments", "widest"),
    [
        ("sysadmin", {"n": 10}, 5),
        ("elevator", {"floors": 5}, 8),
        ("factory", {"n": 5}, 5),
        ("traffic", {"n": 10, "crossings": (2, 5)}, 5),
    ],
)
def test_scopes_stay_small_where_tables_grow_large(name: str, arguments: dict[str, Any], widest: int) -> None:
    """A factor reads its variable's neighbourhood and the action; a piece of the reward, three at most."""
    one = cai.factorise(load_model(name)(**arguments)).at(0)
    assert max(len(factor.scope) for factor in one.chance.values()) == widest
    assert max(len(piece.scope) for piece in one.reward) <= 3
    assert len(one.reward) >= len(one.chance) / 2


def test_a_machine_hears_its_neighbours() -> None:
    """Every transition of a ring of four, by the formula of the competition."""
    tables = cai.tabulate(load_model("sysadmin")(n=4))
    chance = torch.zeros(16, 5, 16, dtype=torch.float64)
    chance.scatter_add_(-1, tables.successor, tables.log_prob.exp())
    for s, a, s2 in itertools.product(range(16), range(5), range(16)):
        now, then = ([(number >> (3 - i)) & 1 for i in range(4)] for number in (s, s2))
        expected = 1.0
        for i in range(4):
            up = 0.45 + 0.5 * (1 + now[i - 1] + now[(i + 1) % 4]) / 3 if now[i] else 0.05
            up = 1.0 if a == i else up
            expected *= up if then[i] else 1 - up
        assert abs(float(chance[s, a, s2]) - expected) < 1e-14
        assert float(tables.reward[s, a, 0]) == sum(now) - 0.75 * (a < 4)


def test_a_random_network_is_drawn_by_its_seed() -> None:
    first, again, other = (load_model("sysadmin")(8, "random", seed).neighbours for seed in (1, 1, 2))
    assert first == again != other
    assert all(len(heard) == 2 and i not in heard for i, heard in enumerate(first))


@pytest.mark.parametrize("ring", [False, True])
def test_cars_move_as_a_simulation_moves_them(ring: bool) -> None:
    """Every outcome of a road of four cells, cell by cell from the front as one would push cars by hand."""
    tables = cai.tabulate(load_model("traffic")(n=4, crossings=(1,), places=1, ring=ring))
    for s, a, k in itertools.product(range(32), range(2), range(tables.log_prob.shape[-1])):
        *cars, queue = ((s >> (4 - i)) & 1 for i in range(5))
        enters, comes = (0, k) if ring else divmod(k, 2)
        after, flow = list(cars), 0
        for i in range(4):
            free = not cars[(i + 1) % 4] if ring or i < 3 else True
            if cars[i] and free and not (i == 1 and a == 1):
                flow += 1
                after[i] -= 1
                if ring or i < 3:
                    after[(i + 1) % 4] += 1
        after[0] += enters and not cars[0]
        number = int("".join(str(int(x)) for x in (*after, min(max(queue - a, 0) + comes, 1))), 2)
        assert int(tables.successor[s, a, k]) == number
        assert float(tables.reward[s, a, k]) == flow - queue


def test_an_elevator_without_new_passengers_brings_one_to_the_top() -> None:
    """Somebody waits on floor 1 of 3: go, open, go; then the ride's cost ends. Counted by hand."""
    tables = cai.tabulate(load_model("elevator")(arrival=0.0, horizon=6))
    start = tables.index(floor=0, direction=0, up_0=0, up_1=1, down_1=0, down_2=0, riding_up=0, riding_down=0)
    hard = cai.solve(tables, cai.HARD)
    # go: -1.1; open for up: -1; go: -0.75 - 0.1; at the top, aboard still: -0.75; then nothing.
    assert abs(float(hard.v[0, start]) + 1.1 + 1 + 0.85 + 0.75) < 1e-12
    assert hard.policy.probs(0)[start].argmax() == 1


def test_a_factory_does_things_in_the_right_order() -> None:
    """Without luck, two parts: shape, shape, join or paint, by all 6^5 plans; shaping last would undo the paint."""
    world = load_model("factory")(paint=1.0, late_paint=0.0, join=1.0, horizon=5)
    best = -math.inf
    for plan in itertools.product(range(6), repeat=5):
        shaped, painted, joint, earned = [0, 0], [0, 0], 0, 0.0
        for job in plan:
            if job in (1, 2):
                shaped[job - 1], painted[job - 1], joint = 1, 0, 0
            elif job in (3, 4):
                painted[job - 3] |= not joint
            elif job == 5:
                joint |= shaped[0] and shaped[1]
            earned += shaped[0] * painted[0] + shaped[1] * painted[1] + 2 * joint - 0.5 * (job > 0)
        best = max(best, earned)
    assert abs(float(cai.solve(world, cai.HARD).value) - best) < 1e-12


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("grid", {"rows": 0}, "Grid, rows and columns: 0 x 5; expected 2 cells or more"),
        ("grid", {"start": (5, 0)}, r"Grid, start: \(5, 0\); expected a cell of the 5 x 5 grid"),
        ("grid", {"goals": [(9, 9, 1)]}, "Grid, goals"),
        ("grid", {"walls": [(0, 0)]}, "a wall on the start or a goal"),
        ("grid", {"slip": 1.5}, "Grid, slip: 1.5; expected a probability"),
        ("restaurant", {"french": (0.5, 0.6, 0.1)}, "Restaurant, french: .*expected three probabilities"),
        ("restaurant", {"utility": (1, 2)}, "Restaurant, utility: .*three rewards"),
        ("mountain_pass", {"gust": 1.5}, "MountainPass, gust: 1.5; expected a probability"),
        ("forest", {"n_ages": 1}, "Forest, n_ages: 1; expected 2 age classes or more"),
        ("forest", {"p": -0.1}, "Forest, p: -0.1; expected a probability"),
        ("forest", {"start": 3}, "Forest, start: 3; expected an age 0 … 2"),
        ("river_swim", {"n_places": 2}, "RiverSwim, n_places: 2; expected 3 places or more"),
        ("deep_sea", {"size": 1}, "DeepSea, size: 1; expected 2 rows or more"),
        ("frozen_lake", {"size": 1}, "frozen_lake, size: 1; expected 2 rows or more"),
        ("frozen_lake", {"size": 4, "frozen": 0.0}, "frozen_lake, frozen: 0.0; expected a share"),
        ("frozen_lake", {"map_name": "5x5"}, "map_name = '5x5'; expected one of 4x4, 8x8"),
        ("sysadmin", {"n": 1}, "Sysadmin, n: 1; expected 2 machines or more"),
        ("sysadmin", {"topology": "tree"}, 'Sysadmin, topology: \'tree\'; expected "ring", "star" or "random"'),
        ("sysadmin", {"recovery": 2.0}, "Sysadmin, recovery: 2.0; expected a probability"),
        ("elevator", {"floors": 1}, "Elevator, floors: 1; expected 2 floors or more"),
        ("elevator", {"arrival": -1}, "Elevator, arrival: -1; expected a probability"),
        ("factory", {"n": 1}, "Factory, n: 1; expected 2 parts or more"),
        ("factory", {"late_paint": 1.5}, "Factory, late_paint: 1.5; expected a probability"),
        ("traffic", {"n": 2}, "Traffic, n: 2; expected 3 cells or more"),
        ("traffic", {"crossings": (4,)}, r"Traffic, crossings: \(4,\); expected cells 0 … 3"),
        ("traffic", {"places": 0}, "Traffic, places: 0; expected 1 place or more"),
        ("traffic", {"arrival": 1.1}, "Traffic, arrival: 1.1; expected a probability"),
        ("letters", {"horizon": 0}, "language_world, horizon: 0; expected a number of tokens, at least 1"),
        (
            "letters",
            {"text": "no_such.txt"},
            "letters, text: 'no_such.txt': no such file; expected a text file, or None",
        ),
        (
            "letters",
            {"pattern": "(a"},
            r"matching '\(a': missing \), unterminated subpattern at position 0; expected a reg",
        ),
        ("letters", {"pattern": "naïve"}, "matching 'naïve': 'ï'; expected characters of the vocabulary: ␣abc"),
        ("letters", {"contains": "A"}, "automaton, text, token 0: 'A'; expected a token of the vocabulary: ␣abc"),
        ("letters", {"pattern": None}, "letters: nothing that pays; expected at least one of pattern, contains"),
        ("letters", {"up_to": 2}, "letters, up_to: 2 without count; expected count=…"),
        ("letters", {"delta": 0.5}, "ngram, delta: 0.5 with smoothing 'witten_bell'; expected smoothing 'add'"),
        ("letters", {"words": 1}, "words, size: 1; expected a whole number, at least 2"),
    ],
)
def test_a_wrong_argument_is_refused_in_words(name: str, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(cai.WorldError, match=words):
        load_model(name)(**arguments)


def test_a_text_that_is_none_is_refused_with_its_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    for content, words in (
        (b" 12 ", "no letter in '.*mine.txt'"),
        (b"\xff\xfe", "mine.txt': 'utf-8' codec can't decode"),
    ):
        file.write_bytes(content)
        with pytest.raises(cai.WorldError, match=f"letters, text: .*{words}"):
            load_model("letters")(text=str(file))


@pytest.mark.parametrize("name", sorted({name for name, _, _ in CATALOGUE}))
def test_an_unknown_argument_is_a_type_error(name: str) -> None:
    with pytest.raises(TypeError, match="colour"):
        load_model(name)(colour="red")


def test_a_random_lake_is_drawn_by_its_seed() -> None:
    first, again, other = (load_model("frozen_lake")(size=7, seed=seed).layout.marks for seed in (1, 1, 2))
    assert first == again != other
    assert (first[0], first[48]) == ("S", "G")


@pytest.mark.parametrize(("seed", "windy"), [(None, False), (5, False), (5, True)])
def test_deep_sea_is_the_mean_over_all_dives(seed: int | None, windy: bool) -> None:
    """The evidence by playing all 2^N action sequences with all 2^N gusts, written after bsuite's ``_step``."""
    N, alpha = 5, 0.3
    world = load_model("deep_sea")(size=N, seed=seed, windy=windy)
    total = 0.0
    for actions in itertools.product((0, 1), repeat=N):
        for gusts in itertools.product((0, 1) if windy else (0,), repeat=N):
            column, gained, chance = 0, 0.0, 0.5**N
            for row, (action, gust) in enumerate(zip(actions, gusts, strict=True)):
                chance *= (1 / N if gust else 1 - 1 / N) if windy else 1.0
                right = action == int(world.right[row, column])
                gained += (column == N - 1) * right - right * 0.01 / N
                column = min(max(column + (0 if right and gust else 2 * right - 1), 0), N - 1)
            total += chance * float(torch.tensor(gained / alpha, dtype=torch.float64).exp())
    evidence = cai.solve(world, temperature=alpha).log_evidence
    assert abs(float(evidence.exp()) - total) < 1e-12 * total


def test_a_grid_slips_to_its_left_and_right() -> None:
    """From the middle of a 3 x 3 grid: each move's three outcomes, read off a map by hand."""
    tables = cai.tabulate(load_model("grid")(rows=3, columns=3, slip=0.3, goals=[(0, 0, 1)], start=(2, 2)))
    assert tables.successor[4].tolist() == [[3, 7, 1], [7, 5, 3], [5, 1, 7], [1, 3, 5], [4, 4, 4]]
    torch.testing.assert_close(tables.log_prob[4, 0].exp(), torch.tensor([0.7, 0.15, 0.15], dtype=torch.float64))
    assert tables.successor[0].eq(0).all()  # a goal is absorbing
    assert tables.reward[0].eq(0).all()
    assert tables.reward[1, 0].tolist() == [1.0, 0.0, 0.0]  # left into the goal; slipping goes down, or nowhere


def test_the_river_is_worth_swimming() -> None:
    """With the published numbers and γ = .95 the best policy swims right everywhere; without the large reward, left."""
    for large, stroke in ((10000.0, 1), (0.0, 0)):
        messages = cai.solve(load_model("river_swim")(large=large, horizon=None, discount=0.95), cai.HARD)
        assert messages.policy.probs()[:, stroke].tolist() == [1] * 6


MILLION = """
import importlib.util, pathlib, resource, sys
spec = importlib.util.spec_from_file_location("grid", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
import cai
assert cai.tabulate(module.Grid(1000, 1000)).log_prob.shape == (1_000_000, 5, 3)
status = pathlib.Path("/proc/self/status")
if status.exists():  # ru_maxrss would count the memory of the parent at the time of the fork
    print(next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if "VmHWM" in line))
else:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""


@pytest.mark.slow
def test_a_million_cells_tabulate_within_two_gigabytes() -> None:
    """In a fresh process, torch included; tests/benchmarks/RESULTS.md has the time it takes."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", MILLION, str(MODELS / "grid.py")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert int(done.stdout) < 2e9


GYMNASIUM: list[tuple[str, str, dict[str, Any]]] = [
    ("frozen_lake", "FrozenLake-v1", {"map_name": "4x4", "is_slippery": True}),
    ("frozen_lake", "FrozenLake-v1", {"map_name": "8x8", "is_slippery": True}),
    ("frozen_lake", "FrozenLake-v1", {"map_name": "8x8", "is_slippery": False}),
    ("cliff_walking", "CliffWalking-v1", {"is_slippery": False}),
    ("cliff_walking", "CliffWalking-v1", {"is_slippery": True}),
    ("taxi", "Taxi-v4", {"is_rainy": False}),
    ("taxi", "Taxi-v4", {"is_rainy": True}),
]
IMPORTS = pytest.mark.parametrize(("name", "id_", "arguments"), GYMNASIUM, ids=lambda x: str(x).replace("'", ""))


@IMPORTS
def test_a_gymnasium_world_is_its_table(name: str, id_: str, arguments: dict[str, Any]) -> None:
    """Every outcome of ``P``, read again here: same probability, successor and reward; none merged, none added."""
    inner = gymnasium.make(id_, **arguments).unwrapped
    tables = cai.tabulate(load_model(name)(**arguments))
    done = len(inner.P)
    assert tables.states.size == done + 1
    for s, a in itertools.product(range(done), range(len(inner.P[0]))):
        listed = sorted((done if over else int(s2), float(r), float(p)) for p, s2, r, over in inner.P[s][a] if p > 0)
        fields = (tables.successor[s, a], tables.reward[s, a], tables.log_prob[s, a].exp())
        outcomes = sorted(row for row in zip(*(field.tolist() for field in fields), strict=True) if row[2] > 0)
        assert [row[:2] for row in outcomes] == [row[:2] for row in listed], (s, a)
        assert [row[2] for row in outcomes] == pytest.approx([row[2] for row in listed], rel=1e-15), (s, a)
    start = tables.log_initial.exp()
    torch.testing.assert_close(start[:done], torch.as_tensor(inner.initial_state_distrib, dtype=torch.float64))


@IMPORTS
def test_done_is_absorbing_and_without_reward(name: str, id_: str, arguments: dict[str, Any]) -> None:
    tables = cai.tabulate(load_model(name)(**arguments))
    certain = tables.log_prob[-1] > -torch.inf
    assert float(tables.log_initial[-1].exp()) == 0
    assert tables.successor[-1][certain].eq(tables.states.size - 1).all()
    assert tables.reward[-1][certain].eq(0).all()


def test_two_rewards_on_one_transition_stay_two() -> None:
    """Slippery CliffWalking at the start: a bump into the border and a fall both lead to 36, for -1 and for -100."""
    inner = gymnasium.make("CliffWalking-v1", is_slippery=True).unwrapped
    twofold = [
        (s, a)
        for s, a in itertools.product(range(48), range(4))
        if len({s2 for _, s2, _, _ in inner.P[s][a]}) < len({(s2, r) for _, s2, r, _ in inner.P[s][a]})
    ]
    tables = cai.tabulate(load_model("cliff_walking")(is_slippery=True))
    assert twofold
    for s, a in twofold:
        assert {-1.0, -100.0} <= set(tables.reward[s, a][tables.log_prob[s, a] > -torch.inf].tolist())


@pytest.mark.parametrize(
    ("id_", "options", "words"),
    [
        (
            "Taxi-v4",
            {"fickle_passenger": True},
            "fickle_passenger=True, which changes the destination outside the table P",
        ),
        ("Blackjack-v1", {}, "no unwrapped.P; expected a table of outcomes .* write the slice as a world"),
        ("CartPole-v1", {}, "no unwrapped.P; expected a table of outcomes .* or learn from samples"),
        ("NoSuchLake-v1", {}, "expected an installed id"),
    ],
)
def test_an_environment_without_a_whole_table_is_refused(id_: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(cai.WorldError, match=words):
        cai.from_gymnasium(id_, horizon=10, **options)


def test_an_environment_in_place_of_a_world_is_told_the_way() -> None:
    env = gymnasium.make("FrozenLake-v1")
    with pytest.raises(cai.WorldError, match=r"world: an environment, .*FrozenLake.*; .* cai.from_gymnasium makes one"):
        cai.solve(env)
    assert "cai.from_gymnasium" in str(cai.check(env)[0])


def test_truncation_is_no_part_of_the_world() -> None:
    """Gymnasium's own time limit is 100 on this map; the world's horizon is what was asked for."""
    short, long = (cai.solve(load_model("frozen_lake")(horizon=T), cai.HARD).value for T in (100, 300))
    assert float(short) < float(long)


@pytest.mark.parametrize("sab", [True, False])
def test_blackjack_is_gymnasiums(sab: bool) -> None:
    # The oracle reads hands of cards by Gymnasium's own functions: draw below 18, over all cards that may come.
    from gymnasium.envs.toy_text.blackjack import is_bust, is_natural, score, sum_hand

    deck = {card: (1 + 3 * (card == 10)) / 13 for card in range(1, 11)}

    @cache
    def dealt(hand: tuple[int, ...]) -> dict[tuple[int, bool], float]:  # the dealer's scores, naturals apart
        if sum_hand(list(hand)) >= 17:
            return {(score(list(hand)), is_natural(list(hand))): 1.0}
        ends: dict[tuple[int, bool], float] = {}
        for card, chance in deck.items():
            for end, weight in dealt(tuple(sorted((*hand, card)))).items():
                ends[end] = ends.get(end, 0.0) + chance * weight
        return ends

    @cache
    def played(hand: tuple[int, ...], dealer: int) -> float:
        if is_bust(list(hand)):
            return -1.0
        if sum_hand(list(hand)) < 18:
            return sum(chance * played(tuple(sorted((*hand, card))), dealer) for card, chance in deck.items())
        own, natural = score(list(hand)), is_natural(list(hand))
        return sum(
            chance * weight * (1.0 if sab and natural and not theirs else float((own > end) - (own < end)))
            for second, chance in deck.items()
            for (end, theirs), weight in dealt(tuple(sorted((dealer, second)))).items()
        )

    expected = sum(
        p * q * r * played(tuple(sorted((a, b))), dealer)
        for a, p in deck.items()
        for b, q in deck.items()
        for dealer, r in deck.items()
    )
    world = load_model("blackjack")(sab=sab)
    draws = torch.tensor([not name.endswith(("18", "19", "20", "21", "natural")) for name in world.labels["hand"]])
    policy = torch.stack((~draws, draws), -1).double().repeat_interleave(10, 0)
    assert cai.evaluate(world, policy).expected_return == pytest.approx(expected, abs=1e-12)


def test_blackjack_is_long_enough() -> None:
    short, long = (float(cai.solve(load_model("blackjack")(horizon=T), cai.HARD).value) for T in (20, 30))
    assert short == pytest.approx(long, abs=1e-14)
