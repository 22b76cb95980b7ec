"""Random linear-Gaussian systems for tests: of any size, batched, timed, with cross terms and flat priors."""

from dataclasses import replace

import torch
from torch import Tensor

from cai.compile.linear_model import LinearGaussian, LinearSlice
from cai.compile.quadratic import ConditionalGaussian, Quadratic
from cai.world.coordinates import Coordinates


def vector(name: str, n: int) -> Coordinates:
    """Return the coordinates of one vector."""
    return Coordinates((name,), (torch.Size([n]),), False)


def random_system(
    seed: int = 0,
    n: int = 3,
    m: int = 2,
    k: int = 2,
    *,
    T: int | None = 7,
    batch: tuple[int, ...] = (),
    timed: bool = False,
    flat: bool = False,
    discount: float = 1.0,
    radius: float = 0.9,
    cost: float = 1.0,
) -> LinearGaussian:
    """Return a system whose reward is ``-½ cost |C (s, a, z) + c|²``, with cross terms; A has this spectral radius."""
    draw = torch.Generator().manual_seed(seed)
    axes = (*batch, T) if timed else batch

    def random(*shape: int, axes: tuple[int | None, ...] = axes) -> Tensor:
        return torch.randn((*axes, *shape), generator=draw, dtype=torch.float64)  # type: ignore[arg-type]

    def loss(N: int, rows: int, axes: tuple[int | None, ...] = axes) -> Quadratic:
        C, c = (cost / rows) ** 0.5 * random(rows, N, axes=axes), random(rows, axes=axes)
        return Quadratic(-C.mT @ C, -(C.mT @ c.unsqueeze(-1)).squeeze(-1), -0.5 * c.square().sum(-1))

    A, N = random(n, n), n + m + k
    A = A * radius / torch.linalg.eigvals(A).abs().amax(-1)[..., None, None]
    prior = ConditionalGaussian(0.3 * random(m, n), 0.3 * random(m), random(m, m) + 2 * torch.eye(m))
    reward = loss(N, N + 1)
    if flat:
        eye = torch.eye(m).to(A).expand(*axes, m, m)
        prior = ConditionalGaussian(0 * prior.gain, 0 * prior.offset, eye)
    slices = LinearSlice(
        torch.cat((A, random(n, m), 0.3 * random(n, k)), -1),
        0.3 * random(n),
        reward,
        prior,
        torch.full((*axes, m), flat),
        torch.eye(n, N).to(A).expand(*axes, n, N),
        random(n),
        random().exp().log1p(),
    )
    start = random(n, axes=batch), 0.5 * random(n, n, axes=batch)
    terminal = loss(n, n, batch) if T is not None else Quadratic.zero(n, A, batch)
    spaces = vector("state", n), vector("action", m), vector("state", n)
    return LinearGaussian(slices, *start, terminal, T, discount, timed, *spaces)


def alone(system: LinearGaussian, horizon: int) -> LinearGaussian:
    """Return the same system over another horizon."""
    return replace(system, horizon=horizon)
