"""Evidence and interventions on linear-Gaussian worlds, against one dense Gaussian, conditioned on the values."""

import math
from dataclasses import dataclass, replace
from typing import Any

import pyro
import pytest
import torch
from hypothesis import given, settings
from pyro.distributions import Delta, MultivariateNormal, Normal
from torch import Tensor

import cai
from cai.compile.quadratic import Gaussian
from cai.exact.gaussian.normal_means import over_normal
from tests.linear_worlds import LinearWorld, System, random_system, temperatures
from tests.linear_worlds import systems as draw_systems

pytestmark = pytest.mark.usefixtures("float64")


def close(ours: Any, truth: Any, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(torch.as_tensor(ours), torch.as_tensor(truth), rtol=tolerance, atol=tolerance)


@dataclass
class Dense:
    """Every s_t, a_t and z_t as an affine function of all noise at once, and the return as its quadratic.

    ``rows[name, t]`` and ``at[name, t]``: the variable is ``rows ξ + at``, ξ ~ N(0, I); ``½ ξ'Mξ + b'ξ + c`` is the
    return over α. So p(ξ|O) = N((I - M)⁻¹ b, (I - M)⁻¹).
    """

    rows: dict[tuple[str, int], Tensor]
    at: dict[tuple[str, int], Tensor]
    M: Tensor
    b: Tensor
    c: Tensor

    def given(self, rows: Tensor, sides: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return the log density of O and ``rows ξ + error = sides``, and mean and covariance of ξ given both."""
        S = torch.linalg.inv(torch.eye(len(self.M)) - self.M)
        mean = S @ self.b
        log_z = self.c + 0.5 * self.b @ mean + 0.5 * torch.logdet(S)
        if not len(rows):
            return log_z, mean, S
        V = rows @ S @ rows.mT + (torch.zeros(()) if noise is None else noise)
        gain = S @ rows.mT @ torch.linalg.inv(V)
        log_z = log_z + torch.distributions.MultivariateNormal(rows @ mean, V).log_prob(sides)
        return log_z, mean + gain @ (sides - rows @ mean), S - gain @ rows @ S


def dense(system: System, alpha: float) -> Dense:
    k, j, T = system.k, system.L.shape[-1], system.T
    first = system.S.shape[-1]
    D = first + T * (j + k)
    eye = torch.eye(D)
    S, s = system.S @ eye[:first], system.mean
    M, b, c = torch.zeros(D, D), torch.zeros(D), torch.zeros(())
    rows, at = {("s", 0): S}, {("s", 0): s}
    for t in range(T):
        i, w = system.index(t), eye[first + t * (j + k) :][: j + k]
        A, a = system.K[i] @ S + system.L[i] @ w[:j], system.K[i] @ s + system.e[i]
        Y, y = torch.cat((S, A, w[j:])), torch.cat((s, a, torch.zeros(k)))
        M, b = M + Y.mT @ system.M[i] @ Y, b + Y.mT @ (system.M[i] @ y + system.b[i])
        c = c + 0.5 * y @ system.M[i] @ y + system.b[i] @ y + system.c[i]
        F = torch.cat((system.A[i], system.B[i], system.G[i]), -1)
        S, s = F @ Y, F @ y + system.d[i]
        rows |= {("a", t): A, ("z", t): w[j:], ("s", t + 1): S}
        at |= {("a", t): a, ("z", t): torch.zeros(k), ("s", t + 1): s}
    M, b = M + S.mT @ system.Ms @ S, b + S.mT @ (system.Ms @ s + system.bs)
    c = c + 0.5 * s @ system.Ms @ s + system.bs @ s + system.cs
    return Dense(rows, at, M / alpha, b / alpha, c / alpha)


def stacked(whole: Dense, seen: dict[tuple[str, int], Tensor]) -> tuple[Tensor, Tensor]:
    rows = torch.cat([whole.rows[site] for site in seen])
    return rows, torch.cat([value - whole.at[site] for site, value in seen.items()])


def measure(whole: Dense, mean: Tensor, S: Tensor, *sites: tuple[str, int]) -> tuple[Tensor, Tensor]:
    rows = torch.cat([whole.rows[site] for site in sites])
    return rows @ mean + torch.cat([whole.at[site] for site in sites]), rows @ S @ rows.mT


def same(ours: Gaussian, truth: tuple[Tensor, Tensor]) -> None:
    close(ours.mean, truth[0])
    close(ours.covariance, truth[1])


PROPER = {"flat": False, "k": 2, "n": 2, "m": 2, "start": 2, "free": 2, "T": 3}


@settings(max_examples=4, deadline=None)
@given(draw_systems(**PROPER), temperatures)
def test_exact_evidence_is_a_condition_on_the_dense_gaussian(system: System, alpha: float) -> None:
    """A goal, an action and a coordinate in the middle, all at once."""
    whole = dense(system, alpha)
    seen = {("s", 3): torch.tensor([0.4, -0.3]), ("a", 1): torch.tensor([0.2, 0.5])}
    rows, sides = stacked(whole, seen)
    rows, sides = torch.cat((rows, whole.rows["s", 1][1:])), torch.cat((sides, 0.7 - whole.at["s", 1][1:]))
    log_z, mean, S = whole.given(rows, sides)
    observe = {"s_3": [0.4, -0.3], "a_1": torch.tensor([0.2, 0.5]), "s[1]_1": 0.7}
    post = cai.solve(system.model(), temperature=alpha, observe=observe)
    close(post.log_evidence, log_z)
    for t in range(3):
        same(post.marginals(t), measure(whole, mean, S, ("s", t), ("a", t)))
    same(post.initial(), measure(whole, mean, S, ("s", 0)))
    drawn = post.sample(4, generator=torch.Generator().manual_seed(0))
    close(drawn.states[:, 3], torch.tensor([0.4, -0.3]).expand(4, 2))


@pytest.mark.parametrize(("k", "start"), [(0, 0), (3, 4)])
def test_goals_far_apart_are_reached_by_one_number(k: int, start: int) -> None:
    """Four coordinates and one action, so that four forces are determined before each goal where nothing is noisy."""
    system, goal = random_system(3, n=4, m=1, k=k, T=30, start=start), torch.linspace(-0.5, 0.5, 4)
    system = replace(system, A=system.A * 0.9 / torch.linalg.eigvals(system.A).abs().max(), K=0 * system.K)
    whole = dense(system, 1.3)
    log_z, mean, S = whole.given(*stacked(whole, {("s", 30): goal, ("s", 15): goal}))
    post = cai.solve(system.model(), temperature=1.3, observe={"s_30": goal, "s_15": goal})
    close(post.log_evidence, log_z)
    same(post.marginals(13), measure(whole, mean, S, ("s", 13), ("a", 13)))


@settings(max_examples=4, deadline=None)
@given(draw_systems(**PROPER), temperatures)
def test_uncertain_evidence_is_a_noisy_reading_of_the_dense_gaussian(system: System, alpha: float) -> None:
    whole = dense(system, alpha)
    noise = torch.tensor([[0.5, 0.1], [0.1, 0.3]])
    rows, sides = stacked(whole, {("s", 3): torch.tensor([0.4, -0.3]), ("s", 1): torch.tensor([1.0, 2.0])})
    spread = torch.block_diag(noise, torch.diag(torch.tensor([0.04, 0.09])))
    log_z, mean, S = whole.given(rows, sides, spread)
    observe = {
        "s_3": MultivariateNormal(torch.tensor([0.4, -0.3]), noise),
        "s_1": Normal(torch.tensor([1.0, 2.0]), torch.tensor([0.2, 0.3])),
    }
    post = cai.solve(system.model(), temperature=alpha, observe=observe)
    close(post.log_evidence, log_z)
    same(post.marginals(2), measure(whole, mean, S, ("s", 2), ("a", 2)))


@pytest.mark.parametrize("noisy", [True, False])
@pytest.mark.parametrize("alpha", [0.6, 2.0])
def test_latents_of_a_program_are_seen_and_forced(noisy: bool, alpha: float) -> None:
    world = LinearWorld(3, noisy=noisy, latent=2, horizon=3)
    system = world.system()
    whole = dense(system, alpha)
    z = (torch.tensor([0.3, -0.2]) - world.mu[0]) / world.tau[0]
    log_z, mean, S = whole.given(whole.rows["z", 1][:2], z)
    post = cai.solve(world, temperature=alpha, observe={"e_1": [0.3, -0.2]})
    close(post.log_evidence, log_z - world.tau[0].log().sum())
    same(post.marginals(2), measure(whole, mean, S, ("s", 2), ("a", 2)))
    forced = cai.solve(world, temperature=alpha, do={"e_1": [0.3, -0.2]})
    still = MultivariateNormal(torch.zeros(2), torch.eye(2)).log_prob(z)  # nothing else is upstream of a latent
    close(forced.log_evidence, post.log_evidence - (still - world.tau[0].log().sum()))
    same(forced.marginals(2), measure(whole, mean, S, ("s", 2), ("a", 2)))


class Cart:
    """Nothing is left to chance but what an action is, and the start where asked for."""

    def __init__(self, start: float = 0.0, horizon: int = 4) -> None:
        self.start, self.horizon = start, horizon

    def initial(self) -> Tensor:
        return pyro.sample("s", Normal(torch.tensor([1.0, 0.0]), self.start).to_event(1))

    def act(self, state: Tensor, t: int) -> Tensor:
        return pyro.sample("force", Normal(0.3 * state[..., 1], 0.8))

    def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
        position, speed = state.unbind(-1)
        speed = speed + action
        following = torch.stack((position + 0.5 * speed, speed), -1)
        return pyro.sample("s", Delta(following, event_dim=1)), -0.3 * position**2 - 0.1 * action**2


def reached(alpha: float, *, prior: bool) -> tuple[Tensor, Tensor]:
    """The best forces that take the cart to rest at 0 at T = 4, and their value, by least squares with multipliers."""
    rows, c = [torch.zeros(2, 4)], [torch.tensor([1.0, 0.0])]
    M, b = torch.zeros(4, 4), torch.zeros(4)
    value = torch.zeros(())
    for t in range(4):
        S, s, one = rows[-1], c[-1], torch.eye(4)[t]
        M, b = M - 0.6 * torch.outer(S[0], S[0]) - 0.2 * torch.outer(one, one), b - 0.6 * s[0] * S[0]
        value = value - 0.3 * s[0] ** 2
        if prior:  # log N(force; 0.3 speed, 0.8)
            off, there = one - 0.3 * S[1], -0.3 * s[1]
            M, b = M - alpha * torch.outer(off, off) / 0.64, b - alpha * there * off / 0.64
            value = value - alpha * (0.5 * there**2 / 0.64 + math.log(0.8) + 0.5 * math.log(2 * math.pi))
        speed = S[1] + one
        rows.append(torch.stack((S[0] + 0.5 * speed, speed)))
        c.append(torch.stack((s[0] + 0.5 * s[1], s[1])))
    R, h = rows[-1], -c[-1]
    solved = torch.linalg.solve(
        torch.cat((torch.cat((M, R.mT), 1), torch.cat((R, torch.zeros(2, 2)), 1))), torch.cat((-b, h))
    )
    best = solved[:4]
    return best, value + 0.5 * best @ M @ best + b @ best


@pytest.mark.parametrize("rule", ["HARD", "MAP", "PLANNING"])
def test_a_goal_by_conditioning_is_the_best_way_there(rule: str) -> None:
    alpha = 0.7
    messages = cai.solve(Cart(), getattr(cai, rule), temperature=alpha, observe={"s_4": [0.0, 0.0]})
    best, value = reached(alpha, prior=rule != "HARD")
    close(messages.value, value)
    drawn = messages.sample(1, generator=torch.Generator().manual_seed(0))
    close(drawn.actions[0].flatten(), best)
    close(drawn.states[0, 4], torch.zeros(2))


def test_where_nothing_is_left_to_chance_the_averages_agree_and_else_they_cannot_steer() -> None:
    post, var = (cai.solve(Cart(), rule, observe={"s_4": [0.0, 0.0]}) for rule in (cai.POSTERIOR, cai.VARIATIONAL))
    close(post.log_evidence, var.elbo)
    noisy = LinearWorld(1, horizon=3)
    for rule in (cai.VARIATIONAL, cai.HARD):
        for goal in ([0.0, 0.0], Normal(torch.zeros(2), 1.0)):
            with pytest.raises(cai.ImpossibleError, match=r"that makes the observation .* certain, and there is none"):
                cai.solve(noisy, rule, observe={"s_2": goal})
    with pytest.raises(cai.ImpossibleError):
        cai.solve(noisy, cai.RISK(-500.0), observe={"s_2": [0.0, 0.0]})


@pytest.mark.parametrize("goal", [[0.0, 0.0], Normal(torch.zeros(2), 1.0)])
def test_luck_is_infinite_where_a_goal_is_left_to_chance(goal: Any) -> None:
    post = cai.solve(LinearWorld(1, horizon=3), observe={"s_2": goal})
    luck = [post.operator.luck(t, post.operator.at(post.v, t + 1)).c for t in range(3)]
    assert [t for t in range(3) if luck[t] == math.inf] == [1]  # the slice that enters s_2
    assert not any(bool(c.isnan()) for c in luck)
    seen = cai.condition(cai.linearise(LinearWorld(1, horizon=3)), observe={"s_2": goal})
    account = cai.evaluate(seen, post.policy)
    assert account.expected_return == -math.inf
    with pytest.raises(cai.IntractableError, match="evidence on a real variable, exact or noisy"):
        _ = account.elbo


def test_what_is_certain_counts_one_and_what_contradicts_is_impossible() -> None:
    plain = cai.solve(Cart()).log_evidence
    close(cai.solve(Cart(), observe={"s_0": [1.0, 0.0]}).log_evidence, plain)
    twice = {"s_4": [0.0, 0.0], "s[1]_4": 0.0}
    close(cai.solve(Cart(), observe=twice).log_evidence, cai.solve(Cart(), observe={"s_4": [0.0, 0.0]}).log_evidence)
    for wrong in ({"s_0": [1.0, 0.1]}, {"s_4": [0.0, 0.0], "s[1]_4": 0.1}):
        with pytest.raises(cai.ImpossibleError, match="the evidence is zero: the observation"):
            cai.solve(Cart(), observe=wrong)


def test_an_intervention_is_seen_by_what_reads_it() -> None:
    """The forced program, written by hand, has the same numbers; on the compiled system a sole action can be forced."""

    class ByHand(Cart):
        def act(self, state: Tensor, t: int) -> Tensor:
            own = Normal(0.3 * state[..., 1], 0.8)
            return pyro.sample("force", own if t != 1 else Normal(torch.full(state.shape[:-1], 0.5), 0.0))

        def step(self, state: Tensor, action: Tensor, t: int) -> tuple[Tensor, Tensor]:
            position, speed = state.unbind(-1)
            faster = speed + action
            place = position + 0.5 * faster if t != 2 else torch.full_like(position, 2.0)
            following = torch.stack((place, faster), -1)
            return pyro.sample("s", Delta(following, event_dim=1)), -0.3 * position**2 - 0.1 * action**2

    do = {"force_1": 0.5, "s[0]_3": 2.0}
    truth = cai.solve(ByHand(start=0.4)).log_evidence
    world = Cart(start=0.4)
    close(cai.solve(world, do=do).log_evidence, truth)
    conditioned = cai.condition(world, do=do)
    close(cai.solve(conditioned).log_evidence, truth)
    close(
        cai.solve(conditioned, observe={"s_4": [0.1, 0.2]}).log_evidence,
        cai.solve(cai.condition(world, do=do, observe={"s_4": [0.1, 0.2]})).log_evidence,
    )
    forced = {"force_1": 0.5}
    model = cai.linearise(world)
    close(cai.solve(model, do=forced).log_evidence, cai.solve(world, do=forced).log_evidence)
    close(cai.solve(cai.condition(model, do=forced)).log_evidence, cai.solve(world, do=forced).log_evidence)
    trace = pyro.poutine.trace(cai.trajectory(cai.condition(world, do={"force_1": 0.5, "s_3": [2.0, 1.0]}))).get_trace()
    assert float(trace.nodes["force_1"]["value"]) == 0.5
    assert trace.nodes["s_3"]["value"].tolist() == [2.0, 1.0]


def test_a_flat_prior_counts_volumes_alone() -> None:
    """log Z is the log of ∫ da δ(2 s_0 + a - 1) N(s_0; 0, 1): 0, wherever the action has to be."""
    system = random_system(0, n=1, m=1, k=0, T=1, flat=True)
    zero = {name: 0 * getattr(system, name) for name in ("M", "b", "c", "d", "Ms", "bs", "cs", "mean")}
    system = replace(system, **zero, A=2 + 0 * system.A, B=1 + 0 * system.B, S=torch.ones(1, 1))
    post = cai.solve(system.model(), observe={"s_1": 1.0})
    close(post.log_evidence, 0.0)
    same(post.marginals(0), (torch.tensor([0.0, 1.0]), torch.tensor([[1.0, -2.0], [-2.0, 4.0]])))


def test_absorbing_is_the_limit_of_a_narrow_likelihood_and_differentiable() -> None:
    g = torch.Generator().manual_seed(0)
    root, b, R, h = (torch.randn(*shape, generator=g) for shape in ((7, 7), (7,), (2, 7), (2,)))
    Q = cai.compile.quadratic.Quadratic
    f, alpha, none = Q(-0.1 * root @ root.mT, b, torch.tensor(0.3)), torch.tensor(0.7), torch.zeros(())
    flat, x, e = torch.tensor([False, True, False, False]), torch.randn(3, generator=g), 1e-5
    narrow = Q(-R.mT @ R / e**2, R.mT @ h / e**2, -0.5 * h @ h / e**2 - 2 * math.log(e) - math.log(2 * math.pi)) * alpha
    mean = cai.POSTERIOR.over_actions
    ours = over_normal(mean, replace(f, rows=R, sides=h), 4, alpha, flat, none)
    truth = over_normal(mean, f + narrow, 4, alpha, flat, none)
    assert ours.value.rows is None
    close(ours.value(x), truth.value(x), 1e-4)
    close(ours.tilted.covariance, truth.tilted.covariance, 1e-4)

    def value(rows: Tensor, sides: Tensor) -> Tensor:
        return over_normal(mean, replace(f, rows=rows, sides=sides), 4, alpha, flat, none).value(x)

    assert torch.autograd.gradcheck(value, (R.clone().requires_grad_(), h.clone().requires_grad_()))


def test_narrow_noise_is_exact_beside_noise_of_the_slice_and_else_refused() -> None:
    world, goal = LinearWorld(1, horizon=3), torch.tensor([0.3, -0.2])
    truth = cai.solve(world, observe={"s_2": goal}).log_evidence
    for size in (1e-7, 1e-10):
        close(cai.solve(world, observe={"s_2": Normal(goal, size)}).log_evidence, truth)
    for site in ("s_0", "a_1"):
        with pytest.raises(cai.IntractableError, match=f"site '{site}': noise of 1e-08 on what has the size"):
            cai.solve(world, observe={site: Normal(cai.solve(world).marginal(0, site[0]).mean, 1e-8)})


def test_a_text_gives_numbers_with_or_without_brackets() -> None:
    world = Cart(start=0.4, horizon=2)
    truth = cai.solve(world, observe={"s_1": [0.5, -0.25]}).log_evidence
    for text in ("0.5,-0.25", "[0.5, -0.25]", "(0.5,-0.25)"):
        assert cai.solve(world, observe={"s_1": text}).log_evidence == truth


def test_bad_conditions_are_refused_in_a_line() -> None:
    world = Cart(start=0.4, horizon=3)
    for observe, words in [
        ({"force_3": 1.0}, "site 'force_3': time 3; expected a time from 0 to 2"),
        ({"forse_1": 1.0}, "no variable 'forse'; expected one of .*did you mean force"),
        ({"s_1": 1.0}, r"a value of shape \(\); expected numbers of shape \(2,\)"),
        ({"s_1": [1.0, math.nan]}, "finite"),
        ({"s_1": "left"}, "value 'left'"),
        ({"s_1": Normal(0.0, 1.0)}, r"a distribution of shape \(\)"),
        ({"s[0]_1": pyro.distributions.Uniform(0.0, 1.0)}, "Uniform, which is not Gaussian"),
        ({"s": 1.0}, "no time"),
    ]:
        with pytest.raises((cai.WorldError, cai.IntractableError), match=words) as caught:
            cai.solve(world, observe=observe)
        assert "\n" not in str(caught.value)
    with pytest.raises(cai.WorldError, match="an intervention is certain"):
        cai.solve(world, do={"force_1": Normal(0.0, 1.0)})
    with pytest.raises(cai.WorldError, match="does not keep the parents"):
        cai.solve(cai.linearise(world), do={"s_1": [0.0, 0.0]})
    with pytest.raises(cai.WorldError, match=r"value 1.5; expected the number of a value"):
        cai.solve(cai.load_world("frozen_lake", {"horizon": 3}), observe={"state_1": 1.5})
    with pytest.raises(cai.WorldError, match="evidence on a real variable, in a program that is run"):
        cai.trajectory(cai.condition(world, observe={"s_1": [0.0, 0.0]}))()


class Labelled:
    """A walk beside a certain constant."""

    horizon = 2

    def initial(self) -> dict[str, Tensor]:
        label = pyro.sample("label", Delta(torch.tensor(1.0)))
        return {"x": pyro.sample("x", Normal(torch.tensor(0.0), 1.0)), "label": label}

    def act(self, state: dict[str, Tensor], t: int) -> Tensor:
        return pyro.sample("a", Normal(torch.zeros_like(state["x"]), 1.0))

    def step(self, state: dict[str, Tensor], a: Tensor, t: int) -> tuple[dict[str, Tensor], Tensor]:
        label = pyro.sample("label", Delta(state["label"]))
        return {"x": pyro.sample("x", Normal(state["x"] + a, 0.1)), "label": label}, -(state["x"] ** 2)


def test_narrow_noise_on_what_is_certain_is_exact_or_refused() -> None:
    plain = float(cai.solve(Labelled()).log_evidence)
    seen = Normal(torch.tensor(1.0), 1e-3)
    found = float(cai.solve(Labelled(), observe={"label_1": seen}).log_evidence)
    assert found - plain == pytest.approx(float(seen.log_prob(torch.tensor(1.0))), abs=1e-9)
    with pytest.raises(cai.IntractableError, match="site 'label_1': noise of 1e-10 on what has the size 1"):
        cai.solve(Labelled(), observe={"label_1": Normal(torch.tensor(1.0), 1e-10)})
