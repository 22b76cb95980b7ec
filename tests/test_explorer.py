"""The explorer's numbers: its scripts compute what the library computes, in every world and after every edit."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from py_mini_racer import MiniRacer

import cai
from cai.view.explorer.explore import ENGINE, explore
from cai.view.explorer.options import maker_of, variants_of
from cai.view.explorer.world_data import world_data
from tests.command import cai as command
from tests.helpers import examples, load_model, slow_after
from tests.worlds import RandomWorld, TimedWorld

RULES = {
    "POSTERIOR": cai.POSTERIOR,
    "VARIATIONAL": cai.VARIATIONAL,
    "HARD": cai.HARD,
    "MAP": cai.MAP,
    "PLANNING": cai.PLANNING,
    "RISK": cai.RISK(-0.5),
}
LOSSES = {
    "policyNats": "policy_nats",
    "actionNats": "action_nats",
    "luckNats": "luck_nats",
    "regret": "regret_per_state",
}
TOTALS = {
    "expectedReturn": "expected_return",
    "entropy": "entropy",
    "klToPrior": "kl_to_prior",
    "elbo": "elbo",
    "startNats": "start_nats",
    "optimalityGap": "optimality_gap",
    "evidenceGap": "evidence_gap",
    "totalRegret": "regret",
}
Array = np.ndarray[Any, Any]


class Script:
    """The explorer's engine in V8, with a world in it."""

    def __init__(self) -> None:
        self.racer = MiniRacer()
        folder = Path(explore.__code__.co_filename).parent
        for name in ENGINE:
            self.racer.eval((folder / name).read_text())

    def load(self, world: Any, variant: int | None = None, vary: Any = None) -> cai.Tables:
        """Take a world to the scripts as a page does; return its tables."""
        variants = variants_of(world, vary)
        data = world_data(variants)
        self.racer.eval(f"var data = {json.dumps(data, allow_nan=False)}")
        chosen = variants.tables.index(variants.chosen) if variant is None else variant
        self.racer.eval(f"var model = Engine.readModel(data, {chosen})")
        return variants.tables[chosen]

    def solve(self, name: str, alpha: float, *, model: str = "model", observed: Any = (), T: int | None = None) -> None:
        asked = {"temperature": alpha, "eta": -0.5, "observed": list(observed)} | ({} if T is None else {"horizon": T})
        self.racer.eval(
            f"globalThis.answers ??= {{}}; answers.{name} = Engine.solve({model}, '{name}', {json.dumps(asked)})"
        )

    def array(self, what: str, *shape: int) -> Array:
        """Return a typed array of the scripts."""
        buffer: Any = self.racer.eval(f"Float64Array.from({what}).buffer")
        return np.frombuffer(buffer, dtype=float).reshape(shape).copy()

    def number(self, what: str) -> float:
        return float(str(self.racer.eval(f"String({what})")))

    def say(self, what: str) -> Any:
        return self.racer.eval(what)


@pytest.fixture(scope="module")
def script() -> Iterator[Script]:
    one = Script()
    yield one
    one.racer.close()  # else its thread may outlive the interpreter


def same(ours: Array, theirs: Any, scale: float = 1.0) -> None:
    """Equal to 1e-10 of the numbers' size, infinite ones in the same places."""
    theirs = np.asarray(theirs, dtype=float)
    assert not np.isnan(ours).any()
    finite = np.isfinite(theirs)
    assert (np.isfinite(ours) == finite).all()
    assert (ours[~finite] == theirs[~finite]).all()
    size = max(scale, np.abs(theirs[finite]).max(initial=0.0))
    assert np.abs(ours[finite] - theirs[finite]).max(initial=0.0) <= 1e-10 * size


def messages_agree(script: Script, name: str, messages: cai.Messages) -> None:
    """Compare v, q, policy, own chain and start value of the scripts' last answer with the library's."""
    T, S, A = messages.v.shape[-2] - 1, messages.model.states.size, messages.model.actions.size
    mine = f"answers.{name}"
    same(script.array(f"{mine}.v", T + 1, S), messages.v)
    same(script.array(f"{mine}.q", T, S, A), torch.stack([messages.q(t) for t in range(T)]))
    policy = torch.stack([messages.policy.probs(t) for t in range(T)])
    same(script.array(f"{mine}.policy", T, S, A), policy)
    same(np.exp(script.array(f"{mine}.logPolicy", T, S, A)), policy)
    same(script.array(f"Engine.ownVisits({mine})", T + 1, S), torch.stack([messages.states(t) for t in range(T + 1)]))
    visits = torch.cat([occupied(messages), cai.evaluate(messages.model, messages).final_states[None]])
    same(script.array(f"Engine.visits(model, {mine}.logPolicy, {T})", T + 1, S), visits)
    same(np.array(script.number(f"{mine}.value")), float(messages.value))


def occupied(messages: cai.Messages) -> torch.Tensor:
    return cai.evaluate(messages.model, messages, temperature=messages.temperature).occupancy.sum(-1)


def accounts_agree(script: Script, name: str, evaluation: cai.Evaluation) -> None:
    """Compare the account of a rule's policy with ``cai.evaluate``'s."""
    T, S = evaluation.policy_nats.shape
    script.say(f"var account = Engine.account(answers.{name}, answers)")
    for mine, theirs in LOSSES.items():
        same(script.array(f"account.{mine}", T, S), getattr(evaluation, theirs))
    for mine, theirs in TOTALS.items():
        size = max(1.0, abs(evaluation.log_evidence))
        same(np.array(script.number(f"account.{mine}")), getattr(evaluation, theirs), scale=size)


WORLDS: Mapping[str, tuple[Callable[[], Any], float]] = {
    "lake": (lambda: load_model("frozen_lake")("8x8", horizon=50), 0.01),
    "grid": (lambda: load_model("grid")(20, 20, walls=[(3, 4), (10, 11)], horizon=30, step_reward=-0.01), 0.02),
    "forest": (load_model("forest"), 0.5),
    "river": (load_model("river_swim"), 500.0),
    "deep sea": (lambda: load_model("deep_sea")(6, windy=True), 0.1),
    "timed": (lambda: TimedWorld(5, S=4, A=3, K=3, horizon=6, discount=0.9, holes=False), 0.7),
}


@pytest.mark.parametrize("world", slow_after(2, ["forest", "grid", "lake", "river", "deep sea", "timed"]))
def test_messages_and_accounts_are_the_librarys(script: Script, world: str) -> None:
    make, alpha = WORLDS[world]
    tables = script.load(cai.tabulate(make()))
    for name, rule in RULES.items():
        script.solve(name, alpha)
        messages_agree(script, name, cai.solve(tables, rule, temperature=alpha))
    for name in ("POSTERIOR", "VARIATIONAL"):
        accounts_agree(script, name, cai.evaluate(tables, RULES[name], temperature=alpha))


@given(
    st.builds(
        lambda kind, **sizes: kind(**sizes),
        kind=st.sampled_from([RandomWorld, TimedWorld]),
        seed=st.integers(0, 2**31 - 1),
        S=st.integers(1, 5),
        A=st.integers(1, 3),
        K=st.integers(1, 3),
        horizon=st.integers(1, 5),
        holes=st.booleans(),
        discount=st.sampled_from([1.0, 0.8]),
    ),
    st.sampled_from([1e-4, 0.05, 1.0, 1e5]),
)
@examples(10)
def test_random_worlds(script: Script, world: RandomWorld, alpha: float) -> None:
    tables = script.load(cai.tabulate(world))
    for name, rule in RULES.items():
        script.solve(name, alpha)
        try:
            messages = cai.solve(tables, rule, temperature=alpha)
        except cai.ImpossibleError:
            assert script.number(f"answers.{name}.value") == -np.inf
            assert "−∞" in script.say(f"answers.{name}.words") or "evidence is zero" in script.say(
                f"answers.{name}.words"
            )
            continue
        assert script.say(f"answers.{name}.possible && answers.{name}.words === ''")
        messages_agree(script, name, messages)
    if all(script.say(f"answers.{name}.possible") for name in ("POSTERIOR", "VARIATIONAL", "HARD")):
        accounts_agree(script, "VARIATIONAL", cai.evaluate(tables, cai.VARIATIONAL, temperature=alpha))


@pytest.mark.parametrize(("t", "cell"), [(0, 0), (7, 10), (12, 15)])
def test_asking_the_posterior_is_conditioning(script: Script, t: int, cell: int) -> None:
    world = load_model("grid")(4, 4, walls=[(1, 1)], horizon=12)
    script.load(world)
    script.solve("POSTERIOR", 0.2, observed=[{"t": t, "states": [cell]}])
    messages_agree(script, "POSTERIOR", cai.solve(world, temperature=0.2, observe={f"cell_{t}": cell}))


def test_a_cell_that_cannot_be_reached_is_refused_in_words(script: Script) -> None:
    script.load(load_model("grid")(4, 4, horizon=12))
    seen = [{"t": 2, "states": [15]}]
    script.solve("POSTERIOR", 0.2, observed=seen)
    assert script.number("answers.POSTERIOR.nats") == -np.inf
    assert "evidence is zero: what was observed" in script.say("answers.POSTERIOR.words")
    script.solve("VARIATIONAL", 0.2, observed=seen)
    assert "Ask POSTERIOR" in script.say("answers.VARIATIONAL.words")
    assert not np.isnan(script.array("Engine.ownVisits(answers.POSTERIOR)", 13, 16)).any()


def edited(tables: cai.Tables, walls: list[int], rewards: dict[int, float], goals: dict[int, float]) -> cai.Tables:
    """The same edits as the page's, on dense tables: of a grid in which cell and state are the same."""
    here = torch.arange(tables.states.size)[:, None, None].expand(tables.successor.shape)
    successor, reward = tables.successor.clone(), tables.reward.clone()
    arrives = successor != here
    for wall in walls:
        hits = arrives & (successor == wall)
        successor[hits], reward[hits] = here[hits], -0.01
    for cell, extra in [*rewards.items(), *goals.items()]:
        reward[(successor != here) & (successor == cell)] += extra
    for goal in goals:
        successor[goal], reward[goal] = goal, 0.0
    ended = torch.zeros(tables.states.size, dtype=torch.bool)
    ended[list(goals)] = True
    return replace(tables, successor=successor, reward=reward, ended=ended)


def test_edits_are_those_of_the_tables(script: Script) -> None:
    tables = script.load(load_model("grid")(5, 5, goals=[], slip=0.3, step_reward=-0.01, horizon=30))
    walls, rewards, goals = [6, 7, 17], {11: -0.5, 20: 0.25}, {24: 1.0, 4: -1.0}
    asked = {
        "walls": walls,
        "rewards": [{"cell": cell, "reward": reward} for cell, reward in rewards.items()],
        "goals": [{"cell": cell, "reward": reward} for cell, reward in goals.items()],
    }
    script.say(f"var before = model, model = Engine.edited(before, {json.dumps(asked)})")
    expected = edited(tables, walls, rewards, goals)
    for name in ("POSTERIOR", "VARIATIONAL", "HARD"):
        script.solve(name, 0.05)
        messages_agree(script, name, cai.solve(expected, RULES[name], temperature=0.05))
    accounts_agree(script, "VARIATIONAL", cai.evaluate(expected, cai.VARIATIONAL, temperature=0.05))
    script.say("model = before")
    script.solve("HARD", 0.05)
    messages_agree(script, "HARD", cai.solve(tables, cai.HARD, temperature=0.05))


def test_a_hole_and_a_goal_of_gymnasium_can_be_walled_in(script: Script) -> None:
    """Where ``done`` leads to the state "ended", it is still known which cell was entered."""
    lake = load_model("frozen_lake")(horizon=30)
    tables = script.load(lake)
    script.say("model = Engine.edited(model, {walls: [5, 11], goals: [{cell: 12, reward: 0.5}]})")
    table = gymnasium.make("FrozenLake-v1", map_name="4x4").unwrapped.P
    successor, reward = tables.successor.clone(), tables.reward.clone()
    for s in range(16):
        for a in range(4):
            for k, (_, entered, _, _) in enumerate(table[s][a]):
                if entered in (5, 11) and entered != s:
                    successor[s, a, k] = s
                if entered == 12 and entered != s:
                    reward[s, a, k] += 0.5
    successor[[12]], reward[[12]] = 12, 0.0
    ended = tables.ended.clone()
    ended[12] = True
    expected = replace(tables, successor=successor, reward=reward, ended=ended)
    for name in ("POSTERIOR", "HARD"):
        script.solve(name, 0.01)
        messages_agree(script, name, cai.solve(expected, RULES[name], temperature=0.01))


def test_the_start_can_be_moved(script: Script) -> None:
    tables = script.load(load_model("grid")(4, 4, horizon=10))
    script.say("model = Engine.edited(model, {start: 9})")
    script.solve("POSTERIOR", 0.1)
    log_initial = torch.full((16,), -torch.inf, dtype=torch.float64)
    log_initial[9] = 0.0
    messages_agree(script, "POSTERIOR", cai.solve(replace(tables, log_initial=log_initial), temperature=0.1))


@pytest.mark.slow
def test_every_variant_is_the_world_at_those_options(script: Script) -> None:
    make = maker_of("grid", {"rows": "3", "columns": "4"})
    vary = {"slip": [0, 0.5], "step_reward": [-0.1, 0.0]}
    for number, (slip, reward) in enumerate([(0, -0.1), (0, 0), (0.2, -0.1), (0.2, 0), (0.5, -0.1), (0.5, 0)]):
        script.load(make, number, vary)
        script.solve("POSTERIOR", 0.1)
        world = load_model("grid")(3, 4, slip=slip, step_reward=reward)
        same(script.array("answers.POSTERIOR.v", 101, 12), cai.solve(world, temperature=0.1).v)


def test_the_horizon_can_be_changed(script: Script) -> None:
    script.load(load_model("forest")())
    script.solve("VARIATIONAL", 0.5, T=33)
    messages_agree(script, "VARIATIONAL", cai.solve(load_model("forest")(horizon=33), cai.VARIATIONAL, temperature=0.5))


def test_outcomes_are_tilted_as_the_rule_tilts_them(script: Script) -> None:
    tables = script.load(load_model("forest")())
    script.solve("POSTERIOR", 0.5)
    messages = cai.solve(tables, temperature=0.5)
    told = json.loads(script.say("JSON.stringify(Engine.outcomes(answers.POSTERIOR, 3, 2, 0))"))
    same(np.array([each["tilted"] for each in told]), messages.dynamics(3)[2, 0].exp())
    same(np.array([each["p"] for each in told]), tables.log_prob[2, 0].exp())
    assert [each["successor"] for each in told] == tables.successor[2, 0].tolist()
    same(np.array([each["x"] for each in told]), [4 + each["next"] for each in told])


@pytest.mark.slow
def test_which_options_get_sliders() -> None:
    found = {name: [option.name for option in variants_of(maker_of(name)).options] for name in ("grid", "forest")}
    assert found == {"grid": ["slip"], "forest": ["p"]}
    lake = variants_of(maker_of("FrozenLake-v1", {"map_name": "8x8"}))
    assert {option.name for option in lake.options} == {"success_rate", "is_slippery"}
    assert all(tables.states.size == 65 for tables in lake.tables)
    assert lake.options[0].labels[lake.options[0].chosen] == "0.3333"
    assert variants_of(load_model("forest")()).options == ()  # a world that is made can no longer vary


def test_a_world_without_a_layout_lies_on_a_chain_or_is_a_graph() -> None:
    chain = world_data(variants_of(load_model("forest")()))["map"]
    assert (chain["kind"], chain["rows"], chain["columns"]) == ("grid", 1, 3)
    ring = world_data(variants_of(load_model("sysadmin")(3)))["map"]
    assert ring["kind"] == "graph"
    assert len(ring["x"]) == len(ring["y"]) == 8
    assert 0 <= min(ring["x"] + ring["y"]) <= max(ring["x"] + ring["y"]) <= 1
    assert ring == world_data(variants_of(load_model("sysadmin")(3)))["map"]  # the layout is seeded


def test_an_endless_world_is_cut_and_says_so() -> None:
    data = world_data(variants_of(load_model("forest")(horizon=None)))
    assert data["clock"]["horizon"] is None
    assert 0.9 ** data["clock"]["start"] <= 1e-3
    assert "infinite horizon" in data["notes"][0]


def test_a_long_horizon_is_cut_and_says_so() -> None:
    data = world_data(variants_of(cai.tabulate(load_model("grid")(30, 30, horizon=5000))))
    assert data["clock"] == {"horizon": 5000, "discount": 1.0, "timed": False, "start": 1333, "longest": 1333}
    assert data["notes"] == ["The world has T = 5,000 steps; the page cuts it at 1,333 to fit in memory."]


@pytest.mark.parametrize(
    ("world", "error", "words"),
    [
        (lambda: load_model("tiger")(), cai.WorldError, "seen in part"),
        (lambda: load_model("acrobot")(), cai.IntractableError, "no finite support"),
        (lambda: load_model("grid")(80, 80), cai.IntractableError, "6,400 states; expected at most 5,000"),
    ],
)
def test_what_no_page_can_hold_is_refused_in_words(world: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        explore(world())


@pytest.mark.parametrize(
    ("vary", "words"),
    [
        ({"slp": [0.1]}, "'slp'; expected an option"),
        ({"rows": [4]}, "20 states, 5 actions, T = 100; expected 25 states"),
        ({"slip": [2.0]}, "a probability"),
    ],
)
def test_options_that_do_not_fit_are_refused(vary: Any, words: str) -> None:
    with pytest.raises(cai.WorldError, match=words):
        explore(load_model("grid"), vary=vary)


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_is_positive_and_finite(alpha: float) -> None:
    with pytest.raises(cai.WorldError, match=r"temperature: .*positive, finite"):
        explore(load_model("mountain_pass")(), temperature=alpha)


def test_a_world_may_refuse_a_value_by_any_error() -> None:
    class Strict(RandomWorld):
        def __init__(self, slip: float = 0.1) -> None:
            if not 0 <= slip <= 1:
                raise ValueError("slip is a chance")
            super().__init__(1, 3, 2, 2, 3, holes=False)
            self.outcome = torch.tensor([1 - slip, slip], dtype=torch.float64).expand(1, 3, 2, 2)

    (option,) = explore(Strict).data["options"]
    assert (option["name"], option["values"][0], option["values"][-1]) == ("slip", 0.0, 1.0)
    with pytest.raises(cai.WorldError, match="world Strict: ValueError: slip is a chance"):
        explore(Strict, vary={"slip": [0.5, 2.0]})

    class Needy(RandomWorld):
        def __init__(self, slip: float) -> None:
            super().__init__(1, 3, 2, 2, 3, holes=False)

    with pytest.raises(cai.WorldError, match=r"world Needy: TypeError: .*missing 1 required positional argument"):
        explore(Needy)


def test_a_world_that_is_made_has_no_options() -> None:
    with pytest.raises(cai.WorldError, match="a class or a function that makes the world"):
        explore(load_model("forest")(), vary=["p"])


def test_the_page_is_one_file_that_asks_for_nothing(tmp_path: Path) -> None:
    explorer = cai.view.explore(load_model("forest"), title="The forest </script>")
    page = explorer.save(tmp_path / "forest.html").read_text(encoding="utf-8")
    assert len(page.encode()) < 5e6
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    assert "The forest </script>" not in page
    inner = explorer._repr_html_()
    assert inner.startswith('<iframe srcdoc="&lt;!DOCTYPE html')
    assert "<script" not in inner


def test_the_command_writes_a_page(tmp_path: Path) -> None:
    done = command(
        "explore", "forest", "--set", "p=0.2", "--vary", "r1=2,4,8", "--out", "forest.html", "--json", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert Path(json.loads(done.stdout)["page"]) == (tmp_path / "forest.html").resolve()
    text = (tmp_path / "forest.html").read_text(encoding="utf-8")
    assert '"name":"r1","values":[2,4,8]' in text
    assert "forest p=0.2" in text


def test_the_command_refuses_what_is_no_page(tmp_path: Path) -> None:
    done = command("explore", "forest", "--out", "forest.pdf", cwd=tmp_path)
    assert (done.returncode, "ends in .html" in done.stderr) == (2, True)


@pytest.mark.slow
def test_three_rules_on_400_states_take_less_than_50_ms(script: Script) -> None:
    """4 actions, 3 outcomes, T = 100: CPU time of the best of several, since other work may run beside the tests."""
    script.load(cai.tabulate(load_model("frozen_lake")(size=20, horizon=100)))
    times = []
    for _ in range(30):
        begin = time.process_time()
        for name in ("POSTERIOR", "VARIATIONAL", "HARD"):
            script.solve(name, 0.01)
        times.append(time.process_time() - begin)
    assert min(times) < 0.05
