"""What follows from the graph: what matters, what a policy reads, and what a backward message ties on its way."""

import itertools
import json
from collections.abc import Iterable
from pathlib import Path

import networkx as nx
import pyro
import pytest
import torch
from pyro.distributions import Categorical
from torch import Tensor

import cai
from cai.compile.factor_model import primed
from cai.exact import policy_support as reads
from cai.exact.policy_support import policy_support
from cai.graphs import relevant, why_markov
from cai.graphs.elimination_steps import elimination_trace
from cai.support.wording import listed
from cai.view.entanglement import draw_entanglement, entanglement_figure
from cai.view.style import png
from tests import command
from tests.test_graph import Two
from tests.worlds import FactoredWorld, RandomWorld, Ring


class Structured:
    """Two-valued variables with random parents and random numbers; what each piece reads is drawn, and is listed."""

    def __init__(self, seed: int, n: int = 3, horizon: int | None = 3, *, barred: bool = False, prior: bool = True):
        g = torch.Generator().manual_seed(seed)
        self.horizon, self.names = horizon, [f"x{i}" for i in range(n)]
        if horizon is None:
            self.discount = 0.9

        def some(rate: float) -> list[str]:
            return [name for name in self.names if torch.rand((), generator=g) < rate]

        def numbers(reads: list[str], *own: int) -> Tensor:
            return torch.randn((*(2 for _ in reads), *own), generator=g, dtype=torch.float64)

        self.parents = {name: some(0.4) for name in self.names}
        self.steered = {name: bool(torch.rand((), generator=g) < 0.5) for name in self.names}
        self.logits = {name: numbers(self.parents[name], 3, 2) for name in self.names}
        self.paid, self.preferred = some(0.4), some(0.3) if prior else []
        self.pay, self.preference = -numbers(self.paid, 3).abs(), numbers(self.preferred, 3)
        if barred:
            self.bars = torch.rand((2,) * n, generator=g) < 0.4
            self.bars.view(-1)[0] = False

    def initial(self) -> dict[str, Tensor]:
        return {name: pyro.sample(name, Categorical(logits=torch.zeros(2))) for name in self.names}

    def act(self, state: dict[str, Tensor], t: int) -> Tensor:
        return pyro.sample("a", Categorical(logits=self.preference[tuple(state[name] for name in self.preferred)]))

    def step(self, state: dict[str, Tensor], action: Tensor, t: int) -> tuple[dict[str, Tensor], Tensor]:
        following = {}
        for name in self.names:
            choice = action if self.steered[name] else torch.zeros_like(action)
            read = (*(state[one] for one in self.parents[name]), choice)
            following[name] = pyro.sample(name, Categorical(logits=self.logits[name][read]))
        reward = self.pay[(*(state[name] for name in self.paid), action)]
        if hasattr(self, "bars"):
            reward = torch.where(self.bars[tuple(state[name] for name in self.names)], -torch.inf, reward)
        return following, reward


class Distracted(Structured):
    """Of three variables x0 alone is rewarded and steered; x1 follows x0; x2 goes its own way."""

    def __init__(self, horizon: int | None = 3) -> None:
        super().__init__(seed=1, horizon=horizon, prior=False)
        g = torch.Generator().manual_seed(7)
        self.parents = {"x0": ["x0"], "x1": ["x0", "x1"], "x2": ["x2"]}
        self.steered = {"x0": True, "x1": False, "x2": False}
        self.paid = ["x0"]
        shapes = {name: (2,) * len(above) + (3, 2) for name, above in self.parents.items()}
        self.logits = {name: torch.randn(shape, generator=g, dtype=torch.float64) for name, shape in shapes.items()}
        self.pay = -torch.rand((2, 3), generator=g, dtype=torch.float64)


def separated(dag: nx.DiGraph, a: Iterable[str], b: Iterable[str], given: Iterable[str]) -> bool:
    """Tell d-separation by the other definition: no path in the moral graph of the ancestors, the given taken out."""
    a, b, given = set(a), set(b), set(given)
    kept = a | b | given
    for node in list(kept):
        kept |= nx.ancestors(dag, node)
    part = dag.subgraph(kept)
    moral = part.to_undirected()
    for node in part:
        moral.add_edges_from(itertools.combinations(part.predecessors(node), 2))
    moral.remove_nodes_from(given)
    return not any(nx.has_path(moral, x, y) for x in a - given for y in b - given)


def nodes(dag: nx.DiGraph, time: int, *kinds: str) -> set[str]:
    return {n for n, data in dag.nodes(data=True) if data["time"] == time and data["kind"] in kinds}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("given_action", [True, False])
def test_what_matters_is_what_is_not_separated(seed: int, given_action: bool) -> None:
    dag = cai.graph(Structured(seed), slices=3)
    for time in (0, 1):
        states = nodes(dag, time, "state")
        known = nodes(dag, time, "survival", *(["action"] if given_action else []))
        goals = {n for n, data in dag.nodes(data=True) if data["kind"] == "optimality" and data["time"] >= time}
        brute = {one for one in states if not separated(dag, {one}, goals, (states - {one}) | known)}
        assert relevant(dag, time, given_action=given_action) == brute


@pytest.mark.parametrize("seed", range(5))
def test_action_values_read_what_matters_and_policies_no_more_than_the_prior_besides(seed: int) -> None:
    world = Structured(seed)
    matters = {node.removesuffix("_0") for node in relevant(cai.graph(world, slices=3))}
    for rule in (cai.POSTERIOR, cai.VARIATIONAL):
        post = cai.solve(world, rule=rule, form="factors")
        q = post.q(0).reshape(2, 2, 2, 3)
        changes = {name for i, name in enumerate(world.names) if float((q.diff(dim=i)).abs().max()) > 1e-9}
        assert changes == matters  # numbers are random, so what may change does
        assert set(policy_support(post).by_time[0]) <= matters | set(world.preferred)


def test_what_matters_late_needs_a_long_graph() -> None:
    world = Structured(0, prior=False)
    world.parents, world.paid = {"x0": ["x0"], "x1": ["x0"], "x2": ["x1"]}, ["x2"]
    world.logits = {name: torch.zeros(2, 3, 2) for name in world.names}
    world.pay, world.steered = torch.zeros(2, 3), dict.fromkeys(world.names, False)
    found = [relevant(cai.graph(world, slices=n)) for n in (1, 2, 3)]
    assert found == [{"x2_0"}, {"x1_0", "x2_0"}, {"x0_0", "x1_0", "x2_0"}]


def test_one_slice_more_than_variables_shows_what_matters_by_way_of_the_next_action() -> None:
    world = Structured(0, n=1)
    world.parents, world.steered, world.paid, world.preferred = {"x0": ["x0"]}, {"x0": False}, [], ["x0"]
    world.logits, world.pay, world.preference = {"x0": torch.zeros(2, 3, 2)}, torch.zeros(3), torch.zeros(2, 3)
    assert [relevant(cai.graph(world, slices=n)) for n in (1, 2)] == [set(), {"x0_0"}]


def test_a_variable_that_the_prior_alone_reads_matters_without_the_action() -> None:
    world = Structured(0)
    world.parents, world.paid = {name: [] for name in world.names}, []
    world.logits = {name: torch.zeros(3, 2) for name in world.names}
    world.preferred, world.preference, world.pay = ["x1"], torch.randn(2, 3), torch.arange(3.0)
    dag = cai.graph(world, slices=2)
    assert relevant(dag) == set()
    assert relevant(dag, given_action=False) == {"x1_0"}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("horizon", [3, None])
def test_the_policy_needs_the_state_only_and_the_text_says_why(seed: int, horizon: int | None) -> None:
    dag = cai.graph(Structured(seed, horizon=horizon), slices=3)
    text = why_markov(dag, 1)
    earlier = nodes(dag, 0, "state", "action", "latent", "optimality")
    states, alive = nodes(dag, 1, "state"), nodes(dag, 1, "survival")
    assert bool(alive) == (horizon is None)
    given = {"O_1", "O_2"} | alive
    assert separated(dag, {"a_1"}, earlier, states | given)
    assert text.startswith(f"Given {listed([*sorted(states), *alive])}, a_1 (drawn from the posterior")
    smaller = itertools.chain.from_iterable(itertools.combinations(sorted(states), k) for k in (2, 1, 0))
    fails = [kept for kept in smaller if not separated(dag, {"a_1"}, earlier, {*kept, *given})]
    if not fails:
        assert text.endswith("No counterexample with fewer state variables was found.")
    else:
        size = max(len(kept) for kept in fails)
        counter = text.split(" this is not so: ")
        assert sum(one in counter[0].rsplit("Given ", 1)[1] for one in states) == (size or len(states) * (not alive))
        witness = counter[1].removesuffix(".").rsplit(" ", 1)[1]
        named = [kept for kept in fails if len(kept) == size]
        assert any(not separated(dag, {"a_1"}, {witness}, {*kept, *given}) for kept in named)


def test_the_text_is_true_of_the_posterior_itself() -> None:
    """p(a_1|s_1, s_0, a_0, O) by enumeration does not read s_0 and a_0; with s_1 summed out it does."""
    world = RandomWorld(seed=3, S=3, A=2, K=2, horizon=2, holes=False)
    gain = world.outcome[0] * world.reward[0].exp()  # [S, A, K]
    step = torch.zeros(3, 2, 3, dtype=torch.float64)
    for s, a, k in itertools.product(range(3), range(2), range(2)):
        step[s, a, world.successor[0, s, a, k]] += gain[s, a, k]
    start = world.start[:, None, None, None] * world.prior[0][:, :, None, None] * step[..., None]
    then = (step * world.last.exp()).sum(-1)
    joint = start * world.prior[0] * then  # [s_0, a_0, s_1, a_1]
    given_s1 = joint / joint.sum(-1, keepdim=True)
    alike = torch.nan_to_num(given_s1 - given_s1.nanmean((0, 1)))
    assert float(alike.abs().max()) < 1e-12
    without = joint.sum(2) / joint.sum((2, 3)).unsqueeze(-1)
    assert float((without - without.mean((0, 1))).abs().max()) > 1e-3
    text = why_markov(cai.graph(world, slices=2))
    assert text == (
        "Given s_1, a_1 (drawn from the posterior, that is, given O_1 and O_2) is d-separated from all "
        "earlier nodes: s_0, a_0, k_0 and O_0. Given nothing of s_1 this is not so: a_1 may then depend on s_0."
    )


def test_a_graph_with_memory_is_told_from_one_without() -> None:
    dag = cai.graph(Two(False, True, False), slices=2)
    assert "a_1 and b_1 (drawn" in why_markov(dag)
    assert "Given y_1 alone this is not so: a_1 and b_1 may then depend on x_0" in why_markov(dag)
    dag.add_edge("O_0", "a_1")
    assert "are not d-separated from the earlier nodes: O_0 may still matter." in why_markov(dag)


def test_wrong_questions_of_graphs_are_refused() -> None:
    dag = cai.graph(Structured(0), slices=2)
    with pytest.raises(cai.WorldError, match="relevant, time: 5; expected a time from 0 to 2"):
        relevant(dag, 5)
    with pytest.raises(cai.WorldError, match="a time from 1 to 1"):
        why_markov(dag, 0)
    with pytest.raises(cai.WorldError, match="two slices"):
        why_markov(cai.graph(Structured(0), slices=1))


def smallest(post: object, t: int) -> int:
    """The size of the smallest set that the policy of time t reads, by looking at every set and every pair."""
    space, probs = post.policy.states, post.policy.probs(t)
    v = post.v if post.policy.horizon is None else post.v[t]
    rows = [(state, probs[i]) for i, state in enumerate(itertools.product(*map(range, space.sizes))) if v[i] > -9e99]
    for k in range(len(space.names) + 1):
        for kept in itertools.combinations(range(len(space.names)), k):
            pairs = itertools.combinations(rows, 2)
            if all((p - q).abs().max() < 1e-9 for (s, p), (z, q) in pairs if all(s[i] == z[i] for i in kept)):
                return k
    raise AssertionError


@pytest.mark.parametrize("form", ["tables", "factors"])
@pytest.mark.parametrize("horizon", [3, None])
@pytest.mark.parametrize("rule", [cai.POSTERIOR, cai.VARIATIONAL, cai.HARD])
def test_a_distractor_is_not_read(form: str, horizon: int | None, rule: cai.Rule) -> None:
    found = policy_support(cai.solve(Distracted(horizon), rule=rule, temperature=0.5, form=form))
    assert found.unread == ("x1", "x2") or (rule == cai.HARD and found.variables == ())
    assert found.verified <= 1e-12
    assert found.smallest
    assert len(found.by_time) == (horizon or 1)
    assert str(found).count("The policy reads") == 1


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("barred", [False, True])
def test_reads_are_the_smallest_and_rebuild_the_policy(seed: int, barred: bool) -> None:
    world = Structured(seed, barred=barred)
    for form in ("tables", "factors"):
        post = cai.solve(world, temperature=0.7, form=form)
        found = policy_support(post)
        assert found.verified <= 1e-9
        assert found.smallest
        assert found.free == int((post.v[:3] == -torch.inf).sum())
        assert (found.free > 0) == bool(barred and world.bars.any())
        if not barred:  # else a time may be served by less, but not within the set that serves all
            assert [len(names) for names in found.by_time] == [smallest(post, t) for t in range(3)]
            assert set(found.variables) == set().union(*found.by_time)
        at = [world.names.index(name) for name in found.variables]
        for t in range(3):
            table = {}
            for i, state in enumerate(itertools.product(range(2), repeat=3)):
                if post.v[t, i] > -torch.inf:
                    kept = table.setdefault(tuple(state[j] for j in at), post.policy.probs(t)[i])
                    assert float((kept - post.policy.probs(t)[i]).abs().max()) < 1e-9


class Twins(Structured):
    """x0 and x1 must be equal, or nothing is possible: either of them says it all."""

    def __init__(self) -> None:
        super().__init__(seed=1, n=2, horizon=1, prior=False)
        self.paid, self.pay = ["x0"], torch.tensor([[0.0, 1.0, 2.0], [2.0, 0.0, 1.0]])
        self.bars = torch.tensor([[False, True], [True, False]])


def test_where_nothing_is_possible_anything_may_be_done(monkeypatch: pytest.MonkeyPatch) -> None:
    post = cai.solve(Twins())
    found = policy_support(post)
    assert (found.variables, found.unread, found.free) == (("x0",), ("x1",), 2)
    assert policy_support(post.policy).variables == ("x0", "x1")  # as a mere policy all of its states count
    assert str(found) == (
        f"The policy reads x0, not x1. A policy of these variables alone has the same probabilities, "
        f"to {found.verified:.2g}."
    )
    monkeypatch.setattr(reads, "MOST", 1)
    hurried = policy_support(post)
    assert hurried.variables == ("x1",)  # left out one by one from the first
    assert not hurried.smallest
    assert "not settled" in str(hurried)


def test_dropped_states_do_not_count_and_policies_have_reads_too() -> None:
    tables = cai.tabulate(Distracted(), reachable=True)
    assert policy_support(cai.solve(tables)).variables == ("x0",)
    prior = cai.policies.TabularPolicy(Distracted(), stationary=True)
    found = policy_support(prior)
    assert (found.variables, found.by_time) == ((), [()])
    assert "reads no state variable" in str(found)
    with torch.no_grad():
        prior.logits[5, 1] += 1
    assert policy_support(prior).variables == ("x0", "x1", "x2")
    assert "every state variable" in str(policy_support(prior))


def test_the_last_action_may_read_less() -> None:
    world = Structured(3, prior=False)
    world.paid, world.pay = [], torch.tensor([0.0, 1.0, 2.0])
    world.terminal = lambda state: 1.0 * state["x0"]
    world.parents, world.steered = {"x0": ["x0"], "x1": ["x1"], "x2": ["x2"]}, dict.fromkeys(world.names, True)
    world.logits = {name: torch.randn((2, 3, 2), dtype=torch.float64) for name in world.names}
    world.terminal = lambda state: 1.0 * state["x0"] * state["x1"]
    found = policy_support(cai.solve(world))
    assert found.variables == ("x0", "x1")
    world.pay, world.terminal = torch.zeros(3), lambda state: 0.0 * state["x0"]
    assert policy_support(cai.solve(world)).by_time == [()] * 3


def test_wrong_policies_are_refused() -> None:
    world = Structured(0)
    with pytest.raises(cai.WorldError, match="batch of shape"):
        policy_support(cai.solve(world, temperature=[0.1, 1.0], form="tables"))
    with pytest.raises(cai.WorldError, match="tolerance"):
        policy_support(cai.solve(world), tolerance=-1.0)


@pytest.mark.parametrize("world", [FactoredWorld(), Ring(4), Structured(2)], ids=["lift", "ring", "structured"])
def test_the_trace_is_the_backup_itself(world: object) -> None:
    """Carried out as it is told, for the first action, it gives E[x(s')|s, a]."""
    factors, tables = cai.factorise(world), cai.tabulate(world)
    steps = elimination_trace(factors)
    assert [str(step) for step in elimination_trace(world)] == [str(step) for step in steps]
    sizes, actions = factors.sizes, factors.actions.split(torch.zeros((), dtype=torch.long))
    x = torch.rand(factors.states.sizes, dtype=torch.float64)
    letters = {name: chr(97 + i) for i, name in enumerate(sizes)}
    message, scope = x, tuple(primed(name) for name in factors.states.names)
    for step in steps:
        table = step.factor.table.exp()
        own = tuple(name for name in step.factor.scope if name not in actions)
        for name in step.factor.scope[::-1]:
            if name in actions:
                table = table.select(step.factor.scope.index(name), int(actions[name]))
        words = ["".join(letters[name] for name in names) for names in (scope, own, step.scope)]
        message, before = torch.einsum(f"{words[0]},{words[1]}->{words[2]}", message, table), set(scope)
        scope = step.scope
        assert set(step.summed) == (before | set(own)) - set(scope)
        assert step.size == message.numel()
        assert step.applied.startswith(f"p({step.factor.scope[-1]}")
        assert str(step.size) in str(step)
    order = [name for name in factors.states.names if name in scope]
    found = message.permute([scope.index(name) for name in order])
    for i, name in enumerate(factors.states.names):
        found = found if name in scope else found.unsqueeze(i)
    one = tables.at(0)
    expected = (one.log_prob[:, 0].exp() * x.reshape(-1)[one.successor[:, 0]]).sum(-1)
    torch.testing.assert_close(found.expand(factors.states.sizes).reshape(-1), expected)


def test_every_factor_is_applied_once_and_actions_share_work() -> None:
    factors = cai.factorise(Distracted())
    steps = elimination_trace(factors)
    assert sorted(step.factor.scope[-1] for step in steps) == ["x0'", "x1'", "x2'"]
    for t in (-1, 3):
        with pytest.raises(cai.WorldError, match="a time from 0 to 2"):
            elimination_trace(factors, t)
    with pytest.raises(cai.WorldError, match="a time from 0 on"):
        elimination_trace(cai.factorise(Distracted(None)), -1)


@pytest.mark.slow
def test_the_picture_of_entanglement(tmp_path: Path) -> None:
    factors = cai.factorise(Ring(8))
    figure = entanglement_figure(factors)
    (cells,) = figure.axes
    (sizes,) = cells.child_axes
    assert "1  p(m4'|m3, m4, crew)" in {text.get_text() for text in cells.texts}
    assert "Factors by step: 1: p(m4'|m3, m4, crew)" in cai.view.alt(figure)
    held = 8 + sum(len(step.scope) for step in elimination_trace(factors))
    assert len(cells.patches) == held
    assert [text.get_text() for text in cells.get_xticklabels()][:2] == ["start", "1"]
    assert "512" in {text.get_text() for text in sizes.texts}
    assert png(figure).startswith(b"\x89PNG")
    assert draw_entanglement(FactoredWorld(), tmp_path / "lift.svg").read_text().startswith("<svg")
    assert entanglement_figure(Ring(20)).axes
    with pytest.raises(cai.WorldError, match=r"ends in .svg, .png or .pdf"):
        draw_entanglement(factors, tmp_path / "lift.doc")
    assert [path.name for path in tmp_path.iterdir()] == ["lift.svg"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lines = ["from tests.test_explain import Distracted as Base", "from tests.worlds import PointMass as Point", ""]
    lines += ["class World(Base):", "    pass", "", "class Smooth(Point):", "    pass", ""]
    lines += ["class Crowned(Base):", "    terminal = lambda self, state: 1.0 * state['x2']", ""]
    lines += ["    def __init__(self):", "        super().__init__(horizon=30)", ""]
    lines += ["class Brief(Base):", "    def __init__(self):", "        super().__init__(horizon=1)", ""]
    (tmp_path / "my_world.py").write_text("\n".join(lines))
    return tmp_path


def test_graph_explains(folder: Path) -> None:
    done = command.cai(
        "graph", "my_world.py:World", "--explain", "--entanglement", "e.png", "--out", "g.svg", cwd=folder
    )
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert "within 3 slices): x0_0 state variables that do not matter: x1_0 and x2_0" in said
    assert "d-separated from all earlier nodes" in said
    assert "entangled state variables: x0_1; x1_1; x2_1" in said
    assert "3 steps, largest message 16 numbers" in said
    assert "p(x0'|x0, a)" in said
    assert {"e.png", "g.svg"} <= {path.name for path in folder.iterdir()}
    told = json.loads(command.cai("graph", "my_world.py:World", "--explain", "--json", cwd=folder).stdout)
    assert told["explanation"]["relevant"] == ["x0_0"]
    assert [step["size"] for step in told["explanation"]["elimination"]][-1] == 8


def test_graph_explains_what_cannot_be_factorised_and_one_slice(folder: Path) -> None:
    done = command.cai("graph", "my_world.py:Smooth", "--explain", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "elimination: none" in done.stdout
    done = command.cai("graph", "my_world.py:Brief", "--explain", "--slices", "1", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "one slice has no past" in done.stdout
    assert "left aside" not in done.stdout
    done = command.cai("graph", "my_world.py:Crowned", "--explain", cwd=folder)
    assert "within 4 slices, without the terminal reward" in " ".join(done.stdout.split())


@pytest.mark.parametrize("words", [("World", "--entanglement", "e.txt"), ("Smooth", "--entanglement", "e.png")])
def test_graph_refuses_in_one_line(folder: Path, words: tuple[str, ...]) -> None:
    done = command.cai("graph", f"my_world.py:{words[0]}", *words[1:], cwd=folder)
    assert done.returncode == 2
    assert done.stderr.startswith("cai: ")
    assert len(done.stderr.splitlines()) == 1
    assert not done.stdout
    assert not list(folder.glob("e.*"))
