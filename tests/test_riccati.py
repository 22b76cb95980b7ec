"""The quick forms of the Gaussian sweep against the plain equation; long horizons; the infinite horizon."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import cai
from cai.compile.linear_model import LinearGaussian
from cai.compile.quadratic import Quadratic
from cai.errors import NotConvergedError
from cai.exact.forms import operator
from cai.exact.gaussian.at_once import at_once
from cai.exact.gaussian.homogeneous import discounted_sums, homogeneous, matrix_of, normalisers, quadratic_of
from cai.exact.gaussian.riccati import recursion
from cai.exact.gaussian.scan import combined, elements, scan
from cai.exact.operator import Operator
from cai.exact.rules import HARD, MAP, PLANNING, POSTERIOR, RISK, VARIATIONAL, Rule
from cai.exact.sweep import backups
from cai.world.coordinates import Coordinates
from tests.linear_systems import alone, random_system

RULES = (POSTERIOR, VARIATIONAL, HARD, MAP, PLANNING, RISK(4.0), RISK(-20.0))


def plain(op: Operator) -> Quadratic:
    """Return v of all times, backup by backup."""
    v = [op.terminal()]
    v += backups(op, v[0], op.model.horizon or 0)
    found: Quadratic = op.all_times(v[::-1])
    return found


def by_scan(system: LinearGaussian, rule: Rule, alpha: Tensor) -> Quadratic | None:
    """Return v of all times by the scan, however short."""
    slices, T = homogeneous(system, rule, alpha), system.horizon
    assert slices is not None
    assert T is not None
    last = matrix_of(system.terminal).expand(*slices.batch_shape, -1, -1)
    found = scan(slices, last, T)
    if found is None:
        return None
    P, S = found
    more = normalisers(slices, S, P[1:])
    assert more is not None
    sums = torch.nn.functional.pad(discounted_sums(more, system.discount).movedim(0, -1), (0, 1))
    return quadratic_of(P.movedim(0, -3), sums)


def assert_same(found: Quadratic | None, expected: Quadratic, tolerance: float = 1e-10) -> None:
    """Check two values of all times."""
    assert found is not None
    for one, other in zip(found.tensors, expected.tensors, strict=True):
        assert one.shape == other.shape
        assert float((one - other).abs().max()) < tolerance * (1 + float(other.abs().max()))


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    rule=st.sampled_from(RULES),
    sizes=st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(0, 3)),
    T=st.integers(1, 9),
    batch=st.sampled_from([(), (3,), (2, 3)]),
    timed=st.booleans(),
    flat=st.booleans(),
    discount=st.sampled_from([1.0, 0.9]),
    alpha=st.sampled_from([0.7, [[0.7, 1.0, 3.0]]]),
)
def test_at_once_and_scan_are_the_plain_equation(
    seed: int,
    rule: Rule,
    sizes: tuple[int, int, int],
    T: int,
    batch: tuple[int, ...],
    timed: bool,
    flat: bool,
    discount: float,
    alpha: float | list[list[float]],
) -> None:
    """Both agree with the backups under every rule; where a mean does not exist, they give nothing."""
    discount = discount if rule.averages else 1.0
    system = random_system(seed, *sizes, T=T, batch=batch, timed=timed, flat=flat, discount=discount, cost=0.3)
    op = operator(system, rule, alpha)
    quick = at_once(system, rule, op.alpha, op.terminal())
    try:
        expected = plain(op)
    except NotConvergedError:
        assert quick is None
        return
    assert_same(quick, expected)
    if rule != RISK(-20.0):
        assert_same(by_scan(system, rule, op.alpha), expected)


def test_directions_without_noise_are_no_trouble() -> None:
    """A singular prior and noise of one direction twice, under every rule that has a price on it."""
    system = random_system(3, 3, 2, 2, T=5, cost=0.3)
    prior = replace(system.slices.prior, scale=torch.tensor([[1.0, 0.0], [0.5, 0.0]], dtype=torch.float64))
    transition = system.slices.transition.clone()
    transition[:, -1] = transition[:, -2]
    system = replace(system, slices=replace(system.slices, prior=prior, transition=transition))
    for rule in (POSTERIOR, VARIATIONAL, MAP, PLANNING):
        op = operator(system, rule, 1.3)
        assert_same(at_once(system, rule, op.alpha, op.terminal()), plain(op))
        assert_same(by_scan(system, rule, op.alpha), plain(op))


def test_solve_takes_the_quick_way_and_a_breakdown_is_said_by_the_plain_one() -> None:
    """The messages of a solve are the plain equation's; reward that outgrows the noise is found at its time."""
    system = random_system(5, T=20, cost=0.3)
    assert_same(cai.solve(system).v, plain(operator(system)))
    gain = replace(system.slices.reward, M=system.slices.reward.M + 0.8 * torch.eye(7))
    wild = replace(system, slices=replace(system.slices, reward=gain))
    assert at_once(wild, POSTERIOR, torch.tensor(1.0), wild.terminal) is None
    with pytest.raises(NotConvergedError, match=r"POSTERIOR, t = \d+"):
        cai.solve(wild)


def test_a_gradient_takes_the_plain_equation() -> None:
    """Where a gradient is asked for, autograd follows the plain backups."""
    system = random_system(6, T=3)
    reward = system.slices.reward
    wanted = reward.b.clone().requires_grad_()
    system = replace(system, slices=replace(system.slices, reward=replace(reward, b=wanted)))
    cai.solve(system, VARIATIONAL).elbo.backward()
    assert wanted.grad is not None
    assert float(wanted.grad.abs().max()) > 0


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), x=st.integers(1, 4))
def test_elements_combine_in_any_grouping(seed: int, x: int) -> None:
    """Combination is associative."""
    slices = homogeneous(random_system(seed, x, 2, 1, T=3, timed=True), POSTERIOR, torch.tensor(1.0))
    assert slices is not None
    each = elements(slices)
    assert each is not None
    first, second, third = (each.each(lambda part, t=t: part[t : t + 1]) for t in range(3))
    left, right = combined(combined(first, second), third), combined(first, combined(second, third))
    for one, other in zip(left.tensors, right.tensors, strict=True):
        assert float((one - other).abs().max()) < 1e-9 * (1 + float(other.abs().max()))


@pytest.mark.parametrize("rule", [POSTERIOR, VARIATIONAL])
def test_a_long_horizon_by_scan_is_the_recursion(rule: Rule) -> None:
    """T = 3,001, odd and long enough for the scan to be chosen, beside the lean recursion."""
    system = random_system(7, 3, 2, 2, T=3001, radius=1.05, cost=0.3)
    op = operator(system, rule, 1.5)
    slices = homogeneous(system, rule, op.alpha)
    assert slices is not None
    step_by_step, scanned = (
        recursion(slices, matrix_of(op.terminal()), 3001),
        scan(slices, matrix_of(op.terminal()), 3001),
    )
    assert step_by_step is not None
    assert scanned is not None
    for one, other in zip(scanned, step_by_step, strict=True):
        assert float((one - other).abs().max()) < 1e-9 * float(other.abs().max())
    assert_same(
        at_once(alone(system, 300), rule, op.alpha, op.terminal()), plain(operator(alone(system, 300), rule, 1.5))
    )


def plant(A: list[list[float]], B: list[list[float]], Q: list[list[float]], discount: float) -> LinearGaussian:
    """Return ``s' = A s + B a + 0.1 z`` with the cost ``½ s'Qs + ½ a'a``, for ever; one action, two states by name."""
    draft = random_system(0, 2, 1, 2, T=None, discount=discount)
    dynamics, push, cost = (torch.tensor(M, dtype=torch.float64) for M in (A, B, Q))
    eye = torch.eye(2, dtype=torch.float64)
    reward = replace(Quadratic.zero(5, eye), M=-torch.block_diag(cost, eye[:1, :1], 0 * eye))
    prior = replace(draft.slices.prior, gain=0 * draft.slices.prior.gain, offset=0 * draft.slices.prior.offset)
    slices = replace(
        draft.slices,
        transition=torch.cat((dynamics, push, 0.1 * eye), -1),
        drift=0 * draft.slices.drift,
        reward=reward,
        prior=replace(prior, scale=eye[:1, :1]),
    )
    states = Coordinates(("position", "velocity"), (torch.Size(), torch.Size()))
    return replace(draft, slices=slices, states=states)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), rule=st.sampled_from([VARIATIONAL, HARD]), radius=st.sampled_from([0.5, 1.1]))
def test_the_infinite_horizon_is_where_long_ones_go(seed: int, rule: Rule, radius: float) -> None:
    """v is the limit of finite horizons, one backup leaves it, and the start value is off by no more than the bound."""
    endless = random_system(seed, 3, 2, 2, T=None, batch=(2,), discount=0.9, radius=radius, cost=0.5)
    found = cai.solve(endless, rule, temperature=0.7)
    assert_same(found.operator.backup(0, found.v), found.v, 1e-12)
    assert found.v.M.shape == (2, 3, 3)
    far = at_once(alone(endless, 500), rule, found.temperature, endless.terminal)
    assert far is not None
    assert_same(far.at(0, 1), found.v, 1e-11)
    off = (found.operator.start(far.at(0, 1)) - found.value).abs().max()
    assert float(off) <= found.error_bound < 1e-8 * float(found.value.abs().max())


def test_hard_is_the_discrete_algebraic_riccati_equation() -> None:
    """SciPy's solver, at (√γ A, √γ B)."""
    linalg = pytest.importorskip("scipy.linalg")
    for discount in (0.9, 0.999999):
        system = plant([[1.02, 0.1], [0.0, 1.0]], [[0.0], [0.1]], [[1.0, 0.0], [0.0, 0.5]], discount)
        F, reward = system.slices.transition.numpy(), system.slices.reward.M.numpy()
        A, B = discount**0.5 * F[:, :2], discount**0.5 * F[:, 2:3]
        expected = torch.from_numpy(linalg.solve_discrete_are(A, B, -reward[:2, :2], -reward[2:3, 2:3]))
        found = cai.solve(system, HARD).v.M
        assert float((found + expected).abs().max()) < 1e-10 * float(expected.abs().max())


def test_an_action_may_cost_nothing_itself() -> None:
    """HARD where the reward depends on the action through the next state alone."""
    linalg = pytest.importorskip("scipy.linalg")
    system = plant([[1.1, 0.1], [0.2, 0.8]], [[0.3], [0.5]], [[1.0, 0.0], [0.0, 0.5]], 0.9)
    M = system.slices.reward.M.clone()
    M[2, 2] = 0
    system = replace(system, slices=replace(system.slices, reward=replace(system.slices.reward, M=M)))
    F = 0.9**0.5 * system.slices.transition.numpy()
    expected = torch.from_numpy(
        linalg.solve_discrete_are(F[:, :2], F[:, 2:3], -M[:2, :2].numpy(), -M[2:3, 2:3].numpy())
    )
    found = cai.solve(system, HARD)
    assert float((found.v.M + expected).abs().max()) < 1e-10 * float(expected.abs().max())
    assert_same(found.operator.backup(0, found.v), found.v, 1e-12)


@pytest.mark.parametrize("rule", [VARIATIONAL, HARD])
def test_the_fixed_point_is_differentiable(rule: Rule) -> None:
    """Its gradient, by the implicit function theorem, is that of a long horizon by autograd."""
    endless = random_system(3, 2, 1, 1, T=None, batch=(2,), discount=0.7, cost=0.5)

    def gradients(system: LinearGaussian) -> list[Tensor]:
        asked = system.each(lambda x: x.clone().requires_grad_() if x.is_floating_point() else x)
        alpha = torch.tensor([0.7], dtype=torch.float64, requires_grad=True)
        cai.solve(asked, rule, temperature=alpha).value.sum().backward()
        slices = asked.slices
        wanted = (slices.transition, slices.drift, slices.reward.M, slices.reward.b, slices.prior.scale, alpha)
        return [torch.zeros_like(x) if x.grad is None else x.grad for x in wanted]

    for one, other in zip(gradients(endless), gradients(alone(endless, 60)), strict=True):
        assert float((one - other).abs().max()) < 1e-6 * (1 + float(other.abs().max()))


def test_a_mode_that_no_reward_depends_on_may_grow() -> None:
    """A mode may grow faster than the discount shrinks it where no reward depends on it."""
    system = plant([[1.2, 0.0], [0.0, 1.0]], [[1.0], [1.0]], [[0.0, 0.0], [0.0, 1.0]], 0.95)
    found = cai.solve(system, HARD)
    assert float(found.v.M[0].abs().max()) < 1e-14
    assert_same(found.operator.backup(0, found.v), found.v, 1e-12)
    idle = cai.solve(plant([[1.2, 0.0], [0.0, 1.0]], [[1.0], [1.0]], [[0.0, 0.0], [0.0, 0.0]], 0.95), HARD)
    assert abs(float(idle.value)) <= idle.error_bound < 1e-12


@pytest.mark.parametrize(
    ("A", "B", "words"),
    [
        ([[1.1, 0.1], [0.1, 1.1]], [[1.0], [-1.0]], r"0\.71 \w+ \+ 0\.71 \w+ affects the reward and grows by 1\.2"),
        ([[0.0, 1.2], [-1.2, 0.0]], [[0.0], [0.0]], r"eigenvalue (-?0) ± 1\.2i"),
        ([[1.2, 0.0], [0.0, 1.0]], [[0.0], [1.0]], r"VARIATIONAL with γ = 0\.95: not stabilisable: position affects"),
    ],
)
def test_a_mode_that_no_action_reaches_is_named(A: list[list[float]], B: list[list[float]], words: str) -> None:
    """A mode that affects the reward, outgrows the discount and is out of reach has no finite value."""
    with pytest.raises(NotConvergedError, match=words):
        cai.solve(plant(A, B, [[1.0, 0.0], [0.0, 1.0]], 0.95), VARIATIONAL)


def test_rewards_that_outgrow_the_discount_have_no_value() -> None:
    """The reward grows with the distance, and nothing bounds the state."""
    with pytest.raises(NotConvergedError, match="infinite"):
        cai.solve(plant([[0.99, 0.0], [0.0, 0.8]], [[1.0], [1.0]], [[-1.0, 0.0], [0.0, 0.2]], 0.95), VARIATIONAL)
